//! Kafka is away, in every way, and the gateway goes on: what it answered as accepted is in the topic afterwards.
//!
//! Visitors send one event after the other, each over a connection of its own, and never the next before an answer. Half
//! of them are trackers that give their events ids and send again what was not accepted; the others are pixels, without
//! ids, that never try again. At the end the topic is read back and put through the worker's own deduplication: each
//! accepted event counts once, however many copies an outage made, and each visitor's events are in its order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::header::{AUTHORIZATION, RETRY_AFTER};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trackway_domain::dedup::KnownEvents;
use trackway_domain::id::Visitor;
use trackway_domain::time::ReceivedAt;
use trackway_eventlog::kafka::{self, Compression, KafkaLog};
use trackway_eventlog::{EventLog, TopicPartition, TopicSpec};
use trackway_tests::kafka::KafkaBroker;
use trackway_tests::roles::Installation;
use trackway_wire::log::{self, EventsRecord};

const PROJECT: &str = "shop";
const GATEWAY: &str = "gateway-1";
const PARTITIONS: u32 = 4;
/// Seconds until the gateway takes Kafka for away. Shorter than the default, so that tests are.
const PATIENCE: (&str, &str) = ("LOG__APPEND_SECONDS_MAX", "2");
const LONG: Duration = Duration::from_secs(60);

/// Between an answer and the next event of a visitor.
const PAUSE: Duration = Duration::from_millis(20);

/// The log as tests see it.
struct Topic(KafkaLog);

impl Topic {
    /// Makes the gateway's topics.
    async fn create(broker: &KafkaBroker) -> Result<Topic> {
        let log = KafkaLog::connect(kafka::Config {
            brokers: broker.brokers(),
            compression: Compression::Lz4,
            linger: Duration::from_millis(2),
            delivery_timeout: Duration::from_secs(30),
            queue_bytes_max: 1 << 20,
            session_timeout: Duration::from_secs(10),
            readers_max: PARTITIONS as usize,
            properties: BTreeMap::new(),
        })
        .await?;
        let topic =
            |name: &str, partitions| TopicSpec { name: name.to_owned(), partitions, retention: None, replicas: 1 };
        log.create_topics(&[topic("events", PARTITIONS), topic("rejected", 1)]).await?;
        Ok(Topic(log))
    }

    /// Everything in it, through the worker's deduplication.
    async fn counted(&self) -> Result<Counted> {
        let mut counted = Counted::default();
        for (partition, bounds) in self.0.bounds("events").await? {
            let at = TopicPartition { topic: "events".into(), partition };
            let (mut known, mut now) = (KnownEvents::default(), ReceivedAt(i64::MIN));
            let mut offset = bounds.start;
            while offset < bounds.end {
                for record in self.0.read(&at, offset, 10_000, LONG).await? {
                    offset = record.offset + 1;
                    let received = ReceivedAt(record.timestamp_ms);
                    now = now.max(received);
                    let EventsRecord::Events(events) = log::read_events(&record.value)? else { continue };
                    let visitor = events.visitor();
                    for event in &events.events {
                        counted.copies += 1;
                        let Ok(is_new) = known.claim(event.key, event.key_source(), received, now);
                        if is_new {
                            let Visitor::Device(id) = &visitor else { continue };
                            let properties: serde_json::Value = serde_json::from_str(event.properties)?;
                            let n = properties["n"].as_u64().context("an event of ours has a number")?;
                            counted.visitors.entry(id.clone()).or_default().push(n);
                            counted.events += 1;
                        }
                    }
                }
            }
        }
        Ok(counted)
    }
}

/// What the topic has.
#[derive(Default)]
struct Counted {
    /// Numbers of a visitor's events that count, in the order of the topic.
    visitors: BTreeMap<String, Vec<u64>>,
    events: u64,
    /// Duplicates included.
    copies: u64,
}

/// What a visitor did.
#[derive(Default)]
struct Sent {
    accepted: BTreeSet<u64>,
    /// Sent, and not answered with 200: it may have happened.
    unsure: BTreeSet<u64>,
    refused: u64,
    broken: u64,
    slowest: Duration,
}

/// Visitors at work.
struct Load {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    visitors: JoinSet<Result<(String, Sent)>>,
}

impl Load {
    /// - `padding`: bytes that make each event larger.
    fn start(installation: &Installation, visitors: usize, padding: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (refused, accepted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut load = Load { stop, refused, accepted, visitors: JoinSet::new() };
        for visitor in 0..visitors {
            let (url, padding) = (format!("{}/v1/track", installation.gateway(0)), "x".repeat(padding));
            let (stop, refused, accepted) =
                (Arc::clone(&load.stop), Arc::clone(&load.refused), Arc::clone(&load.accepted));
            load.visitors.spawn(async move {
                let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build_http();
                let (id, has_ids) = (format!("v{visitor}"), visitor % 2 == 0);
                let mut sent = Sent::default();
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    let mut event =
                        json!({"anonymousId": id, "event": "step", "properties": {"n": n, "padding": padding}});
                    if has_ids {
                        event["messageId"] = json!(format!("{id}-{n}"));
                    }
                    let body = Bytes::from(event.to_string());
                    let taken = loop {
                        let request = Request::post(&url)
                            .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{PROJECT}-key:"))))
                            .body(Full::new(body.clone()))?;
                        let began = Instant::now();
                        match timeout(LONG, client.request(request)).await.context("no answer at all")? {
                            Ok(reply) if reply.status() == 200 => {
                                sent.slowest = sent.slowest.max(began.elapsed());
                                break true;
                            }
                            Ok(reply) => {
                                ensure!(reply.status() == 503, "answer {}", reply.status());
                                ensure!(reply.headers().contains_key(RETRY_AFTER), "503 without Retry-After");
                                drop(reply.into_body().collect().await);
                                sent.refused += 1;
                                refused.fetch_add(1, Ordering::SeqCst);
                            }
                            // The gateway was killed.
                            Err(_) => sent.broken += 1,
                        }
                        if !has_ids {
                            break false;
                        }
                        sleep(Duration::from_millis(100)).await;
                    };
                    if taken {
                        sent.accepted.insert(n);
                        accepted.fetch_add(1, Ordering::SeqCst);
                    } else {
                        sent.unsure.insert(n);
                        sleep(Duration::from_millis(100)).await;
                    }
                    n += 1;
                    sleep(PAUSE).await;
                }
                Ok((id, sent))
            });
        }
        load
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

    fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Lets visitors end what they have begun, and holds the topic against what they know.
    async fn finish(mut self, topic: &Topic) -> Result<Outcome> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = BTreeMap::new();
        while let Some(visitor) = self.visitors.join_next().await {
            let (id, sent) = visitor??;
            all.insert(id, sent);
        }
        let counted = topic.counted().await?;
        let mut outcome = Outcome { copies: counted.copies, counted: counted.events, ..Outcome::default() };
        for (id, sent) in all {
            let found = counted.visitors.get(&id).map_or(&[][..], Vec::as_slice);
            ensure!(found.is_sorted_by(|a, b| a < b), "{id}: not in order, or counted twice: {found:?}");
            let found: BTreeSet<u64> = found.iter().copied().collect();
            let lost: Vec<_> = sent.accepted.difference(&found).collect();
            ensure!(lost.is_empty(), "{id}: accepted and lost: {lost:?}");
            let strange: Vec<_> =
                found.iter().filter(|n| !sent.accepted.contains(n) && !sent.unsure.contains(n)).collect();
            ensure!(strange.is_empty(), "{id}: never sent: {strange:?}");
            outcome.accepted += sent.accepted.len() as u64;
            outcome.unsure += found.intersection(&sent.unsure).count() as u64;
            outcome.refused += sent.refused;
            outcome.broken += sent.broken;
            outcome.slowest = outcome.slowest.max(sent.slowest);
        }
        ensure!(outcome.counted == outcome.accepted + outcome.unsure, "{outcome}");
        Ok(outcome)
    }
}

/// What came of a test.
#[derive(Default)]
struct Outcome {
    accepted: u64,
    counted: u64,
    copies: u64,
    unsure: u64,
    refused: u64,
    broken: u64,
    slowest: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { accepted, counted, copies, unsure, refused, broken, slowest } = self;
        write!(
            f,
            "{accepted} accepted; the topic counts {counted} ({unsure} of them not answered) in {copies} copies; \
             {refused} answers 503, {broken} connections broken, slowest acceptance {slowest:?}"
        )
    }
}

async fn spool(installation: &Installation, what: &str) -> Result<u64> {
    Ok(installation.metrics(GATEWAY).await?.sum(&format!("eventlog_spool_{what}"), &[]))
}

/// Waits until the gateway spools, and has some.
async fn until_spooling(installation: &Installation, records: u64) -> Result<()> {
    installation
        .eventually("records in the spool", LONG, async || {
            let have = spool(installation, "records").await?;
            ensure!(have >= records, "{have} records are in the spool");
            Ok(())
        })
        .await
}

/// Waits until everything goes to Kafka directly; answers how long that took.
async fn until_direct(installation: &Installation) -> Result<Duration> {
    let began = Instant::now();
    installation
        .eventually("an empty spool", LONG, async || {
            ensure!(spool(installation, "mode").await? == 0, "{} records left", spool(installation, "records").await?);
            Ok(())
        })
        .await?;
    ensure!(spool(installation, "bytes").await? == 0, "the disk is not given back");
    Ok(began.elapsed())
}

/// Kafka hangs for a while, under load.
async fn hangs_for(outage: Duration) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = KafkaBroker::start(folder.path())?;
    let topic = Topic::create(&broker).await?;
    let installation = Installation::gateway_over_kafka(&broker, &[PROJECT], &[PATIENCE]).await?;
    let load = Load::start(&installation, 16, 0);
    sleep(Duration::from_secs(1)).await;
    broker.pause()?;
    sleep(outage).await;
    let spooled = spool(&installation, "records").await?;
    broker.resume()?;
    let took = until_direct(&installation).await?;
    sleep(Duration::from_secs(1)).await;
    let outcome = load.finish(&topic).await?;
    println!("hanging for {outage:?}: {spooled} records spooled, drained in {took:?}; {outcome}");
    ensure!(spooled > 100, "the outage was not noticed");
    ensure!(outcome.refused == 0, "somebody was told to retry");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_that_hangs_costs_no_event_and_no_order() -> Result<()> {
    hangs_for(Duration::from_secs(12)).await
}

/// By hand: `cargo test -p trackway-tests --test outage_kafka -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute of outage; the shorter one runs always"]
async fn kafka_that_hangs_for_a_minute_costs_no_event_and_no_order() -> Result<()> {
    hangs_for(Duration::from_secs(60)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_that_is_stopped_or_killed_costs_no_event_and_no_order() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = KafkaBroker::start(folder.path())?;
    let topic = Topic::create(&broker).await?;
    let installation = Installation::gateway_over_kafka(&broker, &[PROJECT], &[PATIENCE]).await?;
    let load = Load::start(&installation, 16, 0);
    let mut spooled = [0; 2];
    for (round, spooled) in spooled.iter_mut().enumerate() {
        sleep(Duration::from_secs(1)).await;
        match round {
            0 => broker.stop()?,
            _ => broker.kill9()?,
        }
        until_spooling(&installation, 500).await?;
        *spooled = spool(&installation, "records").await?;
        broker.restart()?;
        until_direct(&installation).await?;
    }
    sleep(Duration::from_secs(1)).await;
    let outcome = load.finish(&topic).await?;
    println!("stopped, then killed: {spooled:?} records spooled; {outcome}");
    ensure!(outcome.refused == 0, "somebody was told to retry");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_while_direct_spooling_or_draining_loses_nothing_that_it_accepted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = KafkaBroker::start(folder.path())?;
    let topic = Topic::create(&broker).await?;
    let installation = Installation::gateway_over_kafka(&broker, &[PROJECT], &[PATIENCE]).await?;
    // Large events, so that draining takes long enough to be met.
    let load = Load::start(&installation, 24, 30_000);
    sleep(Duration::from_secs(1)).await;
    installation.kill9(GATEWAY)?;
    installation.start(GATEWAY)?;
    installation.ready().await?;
    sleep(Duration::from_secs(1)).await;

    broker.kill9()?;
    until_spooling(&installation, 200).await?;
    installation.kill9(GATEWAY)?;
    let accepted = load.accepted();
    // Without Kafka: it knows the topics.
    installation.start(GATEWAY)?;
    installation.ready().await?;
    until_spooling(&installation, 1000).await?;
    ensure!(load.accepted() > accepted, "it takes events before Kafka is back");

    broker.restart()?;
    let met = installation
        .eventually("the drain", LONG, async || {
            let (drained, left) =
                (spool(&installation, "drained_records_total").await?, spool(&installation, "records").await?);
            ensure!(drained > 0, "nothing is drained, {left} records are left");
            Ok((drained, left))
        })
        .await?;
    installation.kill9(GATEWAY)?;
    installation.start(GATEWAY)?;
    installation.ready().await?;
    until_direct(&installation).await?;
    let outcome = load.finish(&topic).await?;
    println!("gateway killed three times, the last time with {} records drained and {} left; {outcome}", met.0, met.1);
    ensure!(met.1 > 0, "the drain was over before it was met");
    ensure!(outcome.broken > 0, "nobody noticed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_tells_senders_to_retry_until_kafka_is_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = KafkaBroker::start(folder.path())?;
    let topic = Topic::create(&broker).await?;
    let settings = [PATIENCE, ("LOG__SPOOL_MIB", "1")];
    let installation = Installation::gateway_over_kafka(&broker, &[PROJECT], &settings).await?;
    let load = Load::start(&installation, 16, 10_000);
    sleep(Duration::from_secs(1)).await;
    broker.kill9()?;
    installation
        .eventually("a full spool", LONG, async || {
            ensure!(load.refused() > 50, "{} answers were 503", load.refused());
            Ok(())
        })
        .await?;
    let (bytes, records) = (spool(&installation, "bytes").await?, spool(&installation, "records").await?);
    ensure!((900_000..=1 << 20).contains(&bytes), "{bytes} bytes");
    ensure!(installation.logs().contains("spool is full"), "{}", installation.logs());
    broker.restart()?;
    until_direct(&installation).await?;
    let accepted = load.accepted();
    installation
        .eventually("events accepted again", LONG, async || {
            ensure!(load.accepted() > accepted + 100, "{} accepted", load.accepted());
            Ok(())
        })
        .await?;
    let outcome = load.finish(&topic).await?;
    println!("spool of 1 MiB full with {records} records in {bytes} bytes; {outcome}");
    Ok(())
}

/// A small disk of its own, which nobody else can fill.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: PathBuf, kib: u32) -> Result<Disk> {
        fs::create_dir_all(&folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(&folder);
        let status = mount.status().context("cannot run mount")?;
        ensure!(status.success(), "cannot mount a tmpfs, which this test needs. Run it as root");
        Ok(Disk(folder))
    }

    /// Takes all the space that is left.
    fn fill(&self) -> Result<()> {
        let filled = fs::write(self.0.join("filling"), vec![1; 16 << 20]);
        ensure!(filled.is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull), "the disk is too large");
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filling"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_tells_senders_to_retry_until_it_has_space() -> Result<()> {
    let storage = tempfile::tempdir()?;
    let disk = Disk::mount(storage.path().join("spool"), 12 << 10)?;
    let folder = tempfile::tempdir()?;
    let mut broker = KafkaBroker::start(folder.path())?;
    let topic = Topic::create(&broker).await?;
    let storage = storage.path().display().to_string();
    let settings = [PATIENCE, ("STORAGE__FOLDER", storage.as_str())];
    let installation = Installation::gateway_over_kafka(&broker, &[PROJECT], &settings).await?;
    let load = Load::start(&installation, 16, 1_000);
    sleep(Duration::from_secs(1)).await;
    broker.kill9()?;
    until_spooling(&installation, 100).await?;
    let until_refused = async |what: &str| {
        let before = load.refused();
        let refused = async || {
            ensure!(load.refused() > before + 30, "{} more answers were 503", load.refused() - before);
            Ok(())
        };
        installation.eventually(what, LONG, refused).await
    };
    let until_accepted = async |what: &str| {
        let before = load.accepted();
        let accepted = async || {
            ensure!(load.accepted() > before + 100, "{} more were accepted", load.accepted() - before);
            Ok(())
        };
        installation.eventually(what, LONG, accepted).await
    };
    disk.fill()?;
    until_refused("a full disk").await?;
    ensure!(installation.logs().contains("spool cannot be written"), "{}", installation.logs());
    disk.free()?;
    until_accepted("events accepted while Kafka is still away").await?;
    // Full again, and the gateway is killed on it, starts on it, and Kafka comes back while it is full.
    disk.fill()?;
    until_refused("a full disk again").await?;
    installation.kill9(GATEWAY)?;
    installation.start(GATEWAY)?;
    installation.ready().await?;
    let spooled = spool(&installation, "records").await?;
    ensure!(spooled > 100, "{spooled} records survived");
    broker.restart()?;
    until_direct(&installation).await?;
    until_accepted("events accepted with a disk that is still full").await?;
    let outcome = load.finish(&topic).await?;
    println!("disk full twice, {spooled} records in the spool of a gateway killed on it; {outcome}");
    Ok(())
}
