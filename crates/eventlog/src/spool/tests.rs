//! The spool before a log of ours that can be away, be slow, come back and fill up, at every moment that matters.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::{Config, Mode, Spool, SpooledLog};
use crate::{
    AppendError, Consumer, ConsumerOptions, EventLog, LogError, NewRecord, OffsetBounds, RECORD_BYTES_MAX, Record,
    TopicPartition, TopicSpec,
};

const PATIENCE: Duration = Duration::from_millis(150);
/// Longer than anything takes on a busy machine; reached only when a test fails.
const LONG: Duration = Duration::from_secs(60);
const PARTITIONS: u32 = 3;

#[derive(Debug, thiserror::Error)]
#[error("the cluster is away")]
struct Gone;

/// How the fake cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Well,
    /// Refuses at once.
    Away,
    /// Takes the records and says that it did not, as a timeout does.
    Unsure,
    /// Answers nothing.
    Silent,
    /// Acknowledges one append each 20 ms.
    Slow,
}

/// A cluster in memory.
struct Cluster {
    weather: Mutex<Weather>,
    changed: Notify,
    partitions: Mutex<BTreeMap<(String, u32), Vec<NewRecord>>>,
    attempts: AtomicUsize,
    slow: Semaphore,
}

/// A client of it.
struct Client {
    cluster: Arc<Cluster>,
    /// Waits until the cluster takes a record, and never fails.
    patient: bool,
}

impl Cluster {
    fn new() -> Arc<Cluster> {
        Arc::new(Cluster {
            weather: Mutex::new(Weather::Well),
            changed: Notify::new(),
            partitions: Mutex::default(),
            attempts: AtomicUsize::new(0),
            slow: Semaphore::new(1),
        })
    }

    fn set(&self, weather: Weather) {
        *self.weather.lock().expect("lock") = weather;
        self.changed.notify_waiters();
    }

    fn weather(&self) -> Weather {
        *self.weather.lock().expect("lock")
    }

    fn take(&self, topic: &str, records: Vec<NewRecord>) -> Vec<u64> {
        let mut partitions = self.partitions.lock().expect("lock");
        let place = |record: NewRecord| {
            let partition = partitions.entry((topic.to_owned(), record.partition)).or_default();
            partition.push(record);
            partition.len() as u64 - 1
        };
        records.into_iter().map(place).collect()
    }

    /// What a partition has, with every copy.
    fn values(&self, topic: &str, partition: u32) -> Vec<String> {
        let partitions = self.partitions.lock().expect("lock");
        let records = partitions.get(&(topic.to_owned(), partition));
        let text = |record: &NewRecord| String::from_utf8(record.value.to_vec()).expect("text");
        records.map(|records| records.iter().map(text).collect()).unwrap_or_default()
    }

    /// The same with first copies only.
    fn firsts(&self, topic: &str, partition: u32) -> Vec<String> {
        let mut seen = std::collections::BTreeSet::new();
        self.values(topic, partition).into_iter().filter(|value| seen.insert(value.clone())).collect()
    }
}

#[async_trait]
impl EventLog for Client {
    async fn create_topics(&self, _topics: &[TopicSpec]) -> Result<(), LogError> {
        Ok(())
    }

    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        match self.cluster.weather() {
            Weather::Well | Weather::Slow if topic == "t" || topic == "u" => Ok(PARTITIONS),
            Weather::Well | Weather::Slow => Err(LogError::NoSuchTopic { topic: topic.to_owned() }),
            Weather::Away | Weather::Unsure | Weather::Silent => {
                Err(LogError::Operation { what: "look up the topic", subject: topic.to_owned(), source: Gone.into() })
            }
        }
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        let away = || AppendError::Unavailable { topic: topic.to_owned(), source: Gone.into() };
        loop {
            self.cluster.attempts.fetch_add(1, Ordering::SeqCst);
            let changed = self.cluster.changed.notified();
            match self.cluster.weather() {
                Weather::Well => {
                    // Somebody else may come in between, as on a network.
                    tokio::task::yield_now().await;
                    return Ok(self.cluster.take(topic, records));
                }
                Weather::Slow => {
                    let _turn = self.cluster.slow.acquire().await.expect("open");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return Ok(self.cluster.take(topic, records));
                }
                Weather::Unsure if !self.patient => {
                    self.cluster.take(topic, records);
                    return Err(away());
                }
                Weather::Away if !self.patient => return Err(away()),
                Weather::Away | Weather::Unsure | Weather::Silent => changed.await,
            }
        }
    }

    async fn consume(&self, _options: ConsumerOptions) -> Result<Box<dyn Consumer>, LogError> {
        Err(LogError::NoSuchTopic { topic: "consumed".to_owned() })
    }

    async fn read(
        &self,
        at: &TopicPartition,
        _offset: u64,
        _records_max: usize,
        _wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        Err(LogError::NoSuchTopic { topic: at.to_string() })
    }

    async fn bounds(&self, topic: &str) -> Result<BTreeMap<u32, OffsetBounds>, LogError> {
        let end = |partition| self.cluster.values(topic, partition).len() as u64;
        Ok((0..PARTITIONS).map(|partition| (partition, OffsetBounds { start: 0, end: end(partition) })).collect())
    }

    async fn offsets_at(&self, _topic: &str, _timestamp_ms: i64) -> Result<BTreeMap<u32, u64>, LogError> {
        Ok(BTreeMap::new())
    }

    async fn close(&self) {}
}

fn config(folder: &Path) -> Config {
    Config { folder: folder.to_owned(), bytes_max: 1 << 20, patience: PATIENCE, clock: || 1_000_000 }
}

async fn open_with(cluster: &Arc<Cluster>, config: Config, reached: bool) -> SpooledLog {
    let client = |patient| Arc::new(Client { cluster: Arc::clone(cluster), patient });
    let spool = Spool::open(config).expect("opens");
    let log = spool.serve(client(false), client(true), reached).expect("serves");
    if reached {
        for topic in ["t", "u"] {
            assert_eq!(log.partitions(topic).await.expect("known"), PARTITIONS);
        }
    }
    log
}

async fn open(cluster: &Arc<Cluster>, folder: &Path) -> SpooledLog {
    open_with(cluster, config(folder), true).await
}

fn record(partition: u32, value: impl Into<Bytes>) -> NewRecord {
    NewRecord { partition, timestamp_ms: 1000, value: value.into() }
}

async fn append(log: &SpooledLog, value: &str) -> Result<Vec<u64>, AppendError> {
    timeout(LONG, log.append("t", vec![record(0, value.to_owned())])).await.expect("in time")
}

impl SpooledLog {
    fn mode(&self) -> Mode {
        self.shared.lock().mode
    }

    async fn until_direct(&self) {
        let direct = async {
            while self.mode() != Mode::Direct {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, direct).await.expect("direct again");
    }
}

fn files(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".spool")).count()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn what_is_answered_while_the_log_is_away_is_in_it_later_in_order_and_the_disk_is_free_again() {
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    let log = open(&cluster, folder.path()).await;
    assert_eq!(append(&log, "0").await.expect("direct"), [0]);
    cluster.set(Weather::Away);
    for n in 1..50 {
        assert_eq!(append(&log, &n.to_string()).await.expect("spooled"), [0; 0]);
    }
    assert_eq!((log.mode(), cluster.values("t", 0).len(), files(folder.path())), (Mode::Spooling, 1, 1));
    let attempts = cluster.attempts.load(Ordering::SeqCst);
    append(&log, "50").await.expect("spooled");
    assert_eq!(cluster.attempts.load(Ordering::SeqCst), attempts, "the log was not asked again");
    cluster.set(Weather::Well);
    log.until_direct().await;
    assert_eq!(append(&log, "51").await.expect("direct"), [51]);
    assert_eq!(cluster.values("t", 0), numbers(0..52));
    log.close().await;
    assert_eq!(files(folder.path()), 0);
    assert!(append(&log, "late").await.is_err());
}

#[tokio::test]
async fn a_log_that_says_nothing_is_away_and_one_that_is_slow_is_waited_for() {
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    let log = Arc::new(open(&cluster, folder.path()).await);
    cluster.set(Weather::Slow);
    // Together they take twice the patience, one after the other.
    let appends = (0..15_u32).map(|n| {
        let log = Arc::clone(&log);
        async move { append(&log, &n.to_string()).await }
    });
    for appended in futures_util::future::join_all(appends).await {
        assert_eq!(appended.expect("direct").len(), 1, "it has an offset of the log");
    }
    assert_eq!((log.mode(), cluster.values("t", 0).len()), (Mode::Direct, 15));
    cluster.set(Weather::Silent);
    assert_eq!(append(&log, "silent").await.expect("spooled"), [0; 0]);
    assert_eq!(log.mode(), Mode::Spooling);
    cluster.set(Weather::Well);
    log.until_direct().await;
    assert!(cluster.values("t", 0).contains(&"silent".to_owned()));
}

#[tokio::test]
async fn what_the_log_did_take_is_in_it_twice_with_the_same_time_and_bytes() {
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    let log = open(&cluster, folder.path()).await;
    cluster.set(Weather::Unsure);
    append(&log, "a").await.expect("spooled");
    append(&log, "b").await.expect("spooled");
    cluster.set(Weather::Well);
    log.until_direct().await;
    append(&log, "c").await.expect("direct");
    assert_eq!(cluster.values("t", 0), ["a", "a", "b", "c"]);
    let partitions = cluster.partitions.lock().expect("lock");
    let copies = &partitions[&("t".to_owned(), 0)];
    assert_eq!(copies[0], copies[1]);
}

#[tokio::test]
async fn what_the_log_would_refuse_is_refused_and_not_spooled() {
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    let log = open_with(&cluster, Config { bytes_max: 64 << 20, ..config(folder.path()) }, true).await;
    cluster.set(Weather::Away);
    append(&log, "0").await.expect("spooled");
    let refused = log.append("t", vec![record(0, "a"), record(PARTITIONS, "b")]).await;
    assert!(matches!(refused, Err(AppendError::NoSuchPartition { partition: PARTITIONS, .. })), "{refused:?}");
    let refused = log.append("never-created", vec![record(0, "a")]).await;
    assert!(matches!(refused, Err(AppendError::NoSuchPartition { .. })), "{refused:?}");
    let refused = log.append("t", vec![record(0, vec![0; RECORD_BYTES_MAX + 1])]).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    log.append("t", vec![record(1, vec![b'x'; RECORD_BYTES_MAX])]).await.expect("the largest record is spooled");
    cluster.set(Weather::Well);
    log.until_direct().await;
    assert_eq!((cluster.values("t", 0), cluster.values("t", 1)[0].len()), (numbers(0..1), RECORD_BYTES_MAX));
}

#[tokio::test]
async fn a_full_spool_names_its_bytes_and_limit_and_has_room_again_when_the_log_is_back() {
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    let log = open_with(&cluster, Config { bytes_max: 10_000, ..config(folder.path()) }, true).await;
    cluster.set(Weather::Away);
    let mut taken = 0;
    let error = loop {
        match append(&log, &format!("{taken:0400}")).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    let AppendError::Unavailable { source, .. } = &error else { panic!("{error:?}") };
    let words = source.to_string();
    assert!(words.contains("the limit is 10000") && words.contains("has 9"), "{words}");
    let on_disk: u64 = std::fs::read_dir(folder.path())
        .expect("folder")
        .map(|entry| entry.expect("entry").metadata().expect("metadata").len())
        .sum();
    assert!(taken > 15 && on_disk < 10_200, "{taken} appends, {on_disk} bytes");
    cluster.set(Weather::Well);
    log.until_direct().await;
    append(&log, "after").await.expect("direct");
    assert_eq!(cluster.values("t", 0).len(), taken + 1);
    cluster.set(Weather::Away);
    append(&log, "again").await.expect("spooled again");
}

#[tokio::test]
async fn the_next_start_drains_what_the_last_one_left_before_anything_else() {
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    for round in 0..3 {
        cluster.set(Weather::Well);
        let log = open(&cluster, folder.path()).await;
        // The rest of the round before may still be on its way; this one is behind it.
        append(&log, &format!("{round}-0")).await.expect("taken");
        cluster.set(Weather::Away);
        for n in 1..20 {
            append(&log, &format!("{round}-{n}")).await.expect("taken");
        }
        // Without `close`, as in a crash.
        log.stop().map(|threads| threads.writer.join()).expect("running").expect("ended");
        drop(log);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.set(Weather::Well);
    let log = open(&cluster, folder.path()).await;
    log.until_direct().await;
    let wanted: Vec<_> = (0..3).flat_map(|round| (0..20).map(move |n| format!("{round}-{n}"))).collect();
    assert_eq!(cluster.firsts("t", 0), wanted);
}

#[tokio::test]
async fn it_starts_without_the_log_if_it_knew_it_once() {
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    assert!(!Spool::open(config(folder.path())).expect("opens").knows_topics());
    open(&cluster, folder.path()).await.close().await;
    cluster.set(Weather::Away);
    let spool = Spool::open(config(folder.path())).expect("opens");
    assert!(spool.knows_topics());
    drop(spool);
    let log = open_with(&cluster, config(folder.path()), false).await;
    assert_eq!(log.partitions("t").await.expect("remembered"), PARTITIONS);
    assert!(matches!(log.partitions("other").await, Err(LogError::NoSuchTopic { .. })));
    let attempts = cluster.attempts.load(Ordering::SeqCst);
    append(&log, "0").await.expect("spooled at once");
    assert_eq!(cluster.attempts.load(Ordering::SeqCst), attempts);
    cluster.set(Weather::Well);
    log.until_direct().await;
    append(&log, "1").await.expect("direct");
    assert_eq!(cluster.values("t", 0), numbers(0..2));
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_used_again_once_it_works() {
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    let log = open(&cluster, folder.path()).await;
    cluster.set(Weather::Away);
    // The name that the first segment gets is a folder's.
    let next = log.shared.lock().contents.next_number;
    let obstacle = folder.path().join(format!("{next:020}.spool"));
    std::fs::create_dir(&obstacle).expect("folder");
    for _ in 0..2 {
        let error = append(&log, "lost").await.expect_err("refused");
        let AppendError::Unavailable { source, .. } = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains("disk"), "{source}");
        assert_eq!(log.shared.lock().arriving, 0);
    }
    std::fs::remove_dir(&obstacle).expect("removed");
    append(&log, "kept").await.expect("spooled");
    cluster.set(Weather::Well);
    log.until_direct().await;
    assert_eq!(cluster.values("t", 0), ["kept"]);
}

/// Visitors that send one after the other, never the next before an answer, through an outage every few milliseconds:
/// each finds its records in the log in its order, whatever was direct, spooled, held or both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_overtakes_another_of_its_visitor_however_often_the_log_goes_and_comes() {
    const VISITORS: u64 = 24;
    let (folder, cluster) = (tempfile::tempdir().expect("folder"), Cluster::new());
    let log = Arc::new(open(&cluster, folder.path()).await);
    let (stop, direct, spooled) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut visitors = tokio::task::JoinSet::new();
    for visitor in 0..VISITORS {
        let (log, stop, direct, spooled) =
            (Arc::clone(&log), Arc::clone(&stop), Arc::clone(&direct), Arc::clone(&spooled));
        visitors.spawn(async move {
            let (topic, partition) = (if visitor % 4 == 0 { "u" } else { "t" }, (visitor % 3) as u32);
            let mut sent = 0;
            while !stop.load(Ordering::SeqCst) {
                let records = vec![record(partition, format!("{visitor} {sent}"))];
                let offsets = timeout(LONG, log.append(topic, records)).await.expect("in time").expect("taken");
                if offsets.is_empty() { &spooled } else { &direct }.fetch_add(1, Ordering::SeqCst);
                sent += 1;
            }
            (visitor, topic, partition, sent)
        });
    }
    let mut outages = 0;
    for round in 0..60_u64 {
        tokio::time::sleep(Duration::from_millis(round * 7 % 11)).await;
        cluster.set([Weather::Away, Weather::Unsure, Weather::Away][round as usize % 3]);
        tokio::time::sleep(Duration::from_millis(round * 5 % 17)).await;
        outages += u64::from(log.mode() != Mode::Direct);
        cluster.set(Weather::Well);
        if round % 4 == 0 {
            log.until_direct().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let sent: Vec<_> = visitors.join_all().await;
    log.until_direct().await;
    let (direct, spooled) = (direct.load(Ordering::SeqCst), spooled.load(Ordering::SeqCst));
    println!("{outages} outages, {direct} records direct, {spooled} by the spool");
    assert!(outages > 10 && direct > 100 && spooled > 100, "{outages} {direct} {spooled}");
    for (visitor, topic, partition, sent) in sent {
        let its = format!("{visitor} ");
        let found: Vec<_> =
            cluster.firsts(topic, partition).into_iter().filter(|value| value.starts_with(&its)).collect();
        let wanted: Vec<_> = (0..sent).map(|n| format!("{visitor} {n}")).collect();
        assert!(found == wanted, "visitor {visitor}: {} of {sent} records, or in another order", found.len());
    }
    assert_eq!(log.shared.lock().contents.bytes(), 0);
}
