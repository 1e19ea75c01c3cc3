//! What event logs promise, held against all: the embedded one, a real Apache Kafka broker, and Kafka with a spool before
//! it, as long as Kafka is there (`outage_kafka.rs` has the times when it is not).
//!
//! Each function below is one promise; [`on_all`] makes a test of it for each log. At the end stand the few that only
//! one of them makes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use trackway_eventlog::embedded::{self, EmbeddedLog, Fsync};
use trackway_eventlog::kafka::{self, Compression, KafkaLog};
use trackway_eventlog::spool::{self, Spool};
use trackway_eventlog::{
    AppendError, Consumer, ConsumerEvent, ConsumerOptions, EventLog, LogError, NewRecord, OffsetBounds, Record,
    TopicPartition, TopicSpec,
};
use trackway_tests::kafka::KafkaBroker;

/// Longer than anything takes on a busy machine; reached only when a test fails.
const LONG: Duration = Duration::from_secs(60);
const MINUTE_MS: i64 = 60_000;

/// A place where a log can be opened, more than once.
enum Lab {
    Embedded(TempDir),
    Kafka,
    Spooled(TempDir),
}

impl Lab {
    fn embedded() -> Lab {
        Lab::Embedded(tempfile::tempdir().expect("temporary folder"))
    }

    fn spooled() -> Lab {
        Lab::Spooled(tempfile::tempdir().expect("temporary folder"))
    }

    async fn open(&self) -> Arc<dyn EventLog> {
        match self {
            Lab::Embedded(folder) => Arc::new(EmbeddedLog::open(embedded_config(folder)).expect("opens")),
            Lab::Kafka => Arc::new(KafkaLog::connect(kafka_config()).await.expect("connects")),
            Lab::Spooled(folder) => {
                let kafka = KafkaLog::connect(kafka_config()).await.expect("connects");
                let patient = Arc::new(kafka.patient().expect("connects"));
                let config = spool::Config {
                    // Each for itself, as those of several gateways.
                    folder: tempfile::tempdir_in(folder).expect("temporary folder").keep(),
                    bytes_max: 1 << 20,
                    patience: LONG,
                    clock: embedded::system_clock,
                };
                let spool = Spool::open(config).expect("opens");
                Arc::new(spool.serve(Arc::new(kafka), patient, true).expect("serves"))
            }
        }
    }
}

fn embedded_config(folder: &TempDir) -> embedded::Config {
    embedded::Config {
        folder: folder.path().to_owned(),
        fsync: Fsync::EveryGroup,
        group_delay: Duration::ZERO,
        group_bytes_max: 16 << 20,
        // Small, so that the tests' appends become several stored batches.
        batch_bytes_max: 16 << 10,
        queue_bytes_max: 8 << 20,
        cache_bytes: 8 << 20,
        memtable_bytes: 4 << 20,
        journal_bytes_max: 64 << 20,
        compress: true,
        retention_every: Duration::from_millis(200),
        clock: embedded::system_clock,
    }
}

fn kafka_config() -> kafka::Config {
    kafka::Config {
        brokers: KafkaBroker::shared().brokers(),
        compression: Compression::Lz4,
        linger: Duration::from_millis(2),
        delivery_timeout: Duration::from_secs(30),
        queue_bytes_max: 32 << 20,
        session_timeout: Duration::from_secs(6),
        readers_max: 4,
        // Least that is possible: whoever stops polling for 6 s is thrown out of its group.
        properties: BTreeMap::from([("max.poll.interval.ms".to_owned(), "6000".to_owned())]),
    }
}

macro_rules! on_all {
    ($($promise:ident,)*) => {
        mod embedded_log { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { super::$promise(super::Lab::embedded()).await; }
        )* }
        mod kafka_log { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { super::$promise(super::Lab::Kafka).await; }
        )* }
        mod spooled_log { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { super::$promise(super::Lab::spooled()).await; }
        )* }
    };
}

on_all! {
    records_keep_their_order_bytes_and_times,
    concurrent_appends_do_not_mix_up,
    a_topic_is_created_once_and_keeps_its_partitions,
    what_cannot_be_appended_is_refused_by_name,
    large_records_pass,
    reading_past_the_end_waits_then_answers_nothing,
    a_waiting_reader_gets_what_is_appended,
    a_time_is_found_even_if_times_go_back,
    nothing_is_delivered_before_start_and_all_from_there,
    start_jumps,
    a_consumer_resumes_at_its_commit,
    two_members_share_and_nothing_is_lost_or_done_twice,
    a_partition_that_is_not_released_is_taken_in_time,
    a_slow_reader_keeps_its_partitions_and_misses_nothing,
    next_can_be_cancelled,
    a_batch_ends_where_its_bytes_are_reached,
    what_retention_removed_is_gone_by_name,
    offsets_go_on_after_a_reopen,
}

#[expect(clippy::disallowed_methods, reason = "the one place; every test joins what it spawns")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}

async fn topic(log: &Arc<dyn EventLog>, partitions: u32) -> String {
    topic_with(log, partitions, None).await
}

/// A topic that no other test and no other run has.
async fn topic_with(log: &Arc<dyn EventLog>, partitions: u32, retention: Option<Duration>) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let name = format!("topic-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    let spec = TopicSpec { name: name.clone(), partitions, retention, replicas: 1 };
    log.create_topics(&[spec]).await.expect("topic");
    name
}

fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

fn record(partition: u32, timestamp_ms: i64, value: impl Into<Bytes>) -> NewRecord {
    NewRecord { partition, timestamp_ms, value: value.into() }
}

fn options(topic: &str) -> ConsumerOptions {
    ConsumerOptions {
        group: format!("group-of-{topic}"),
        topics: vec![topic.to_owned()],
        batch_records_max: 100,
        batch_bytes_max: 1 << 20,
        buffer_bytes_max: 1 << 20,
        handover_timeout: Duration::from_secs(5),
    }
}

/// Recent, because Kafka's retention and ours look at it.
fn now_ms() -> i64 {
    embedded::system_clock()
}

async fn append_texts(
    log: &Arc<dyn EventLog>,
    topic: &str,
    partition: u32,
    texts: impl Iterator<Item = u64>,
) -> Vec<u64> {
    let now = now_ms();
    let records = texts.map(|n| record(partition, now, n.to_string())).collect();
    log.append(topic, records).await.expect("append")
}

/// Everything from `offset` to the end.
async fn read_all(log: &Arc<dyn EventLog>, at: &TopicPartition, mut offset: u64) -> Vec<Record> {
    let end = log.bounds(&at.topic).await.expect("bounds")[&at.partition].end;
    let mut all = Vec::new();
    while offset < end {
        let records = log.read(at, offset, 1000, LONG).await.expect("read");
        offset = records.last().expect("a record before the end").offset + 1;
        all.extend(records);
    }
    all
}

fn numbers(records: &[Record]) -> Vec<u64> {
    records.iter().map(|r| std::str::from_utf8(&r.value).expect("text").parse().expect("number")).collect()
}

async fn next(consumer: &dyn Consumer) -> ConsumerEvent {
    timeout(LONG, consumer.next()).await.expect("an event").expect("no error")
}

async fn assigned(consumer: &dyn Consumer) -> Vec<(TopicPartition, Option<u64>)> {
    match next(consumer).await {
        ConsumerEvent::Assigned { partitions } => partitions,
        other => panic!("{other:?}"),
    }
}

async fn batch(consumer: &dyn Consumer) -> (TopicPartition, Vec<Record>) {
    match next(consumer).await {
        ConsumerEvent::Batch { partition, records } => (partition, records),
        other => panic!("{other:?}"),
    }
}

async fn take(consumer: &dyn Consumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(batch(consumer).await.1);
    }
    records
}

async fn records_keep_their_order_bytes_and_times(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 3).await;
    let now = now_ms();
    let mut wanted: BTreeMap<u32, Vec<(i64, Bytes)>> = BTreeMap::new();
    let mut last = BTreeMap::new();
    for round in 0..20_u64 {
        let records: Vec<NewRecord> = (0..50_u64)
            .map(|n| {
                let value = vec![round as u8; ((round * 37 + n * 11) % 900) as usize];
                record((n % 3) as u32, now - (n as i64 * 13) % 7, value)
            })
            .collect();
        for r in &records {
            wanted.entry(r.partition).or_default().push((r.timestamp_ms, r.value.clone()));
        }
        let partitions: Vec<u32> = records.iter().map(|r| r.partition).collect();
        let offsets = log.append(&topic, records).await.expect("append");
        for (partition, offset) in partitions.into_iter().zip(offsets) {
            let before = last.insert(partition, offset);
            assert_eq!(offset, before.map_or(0, |before| before + 1), "partition {partition}");
        }
    }
    let bounds = log.bounds(&topic).await.expect("bounds");
    for (partition, wanted) in wanted {
        assert_eq!(bounds[&partition], OffsetBounds { start: 0, end: wanted.len() as u64 });
        let read = read_all(&log, &at(&topic, partition), 0).await;
        assert_eq!(read.iter().map(|r| r.offset).collect::<Vec<_>>(), (0..wanted.len() as u64).collect::<Vec<_>>());
        let got: Vec<(i64, Bytes)> = read.into_iter().map(|r| (r.timestamp_ms, r.value)).collect();
        assert_eq!(got, wanted);
        // From the middle of a stored batch, and no more than asked for.
        let middle = log.read(&at(&topic, partition), 17, 5, LONG).await.expect("read");
        assert_eq!((middle[0].offset, &middle[0].value), (17, &wanted[17].1));
        assert!((1..=5).contains(&middle.len()));
    }
    log.close().await;
    assert!(log.append(&topic, vec![record(0, now, "late")]).await.is_err());
}

async fn concurrent_appends_do_not_mix_up(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 2).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..20_u64 {
        let (log, topic) = (Arc::clone(&log), topic.clone());
        tasks.spawn(async move {
            let mut placed = Vec::new();
            for round in 0..20 {
                let ids: Vec<u64> = (0..7).map(|n| task * 1000 + round * 10 + n).collect();
                let offsets = append_texts(&log, &topic, (task % 2) as u32, ids.iter().copied()).await;
                assert!(offsets.is_sorted() && placed.last().is_none_or(|(_, last)| *last < offsets[0]));
                placed.extend(ids.into_iter().zip(offsets));
            }
            (task % 2, placed)
        });
    }
    let mut placed: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (partition, ids) = done.expect("task");
        for (id, offset) in ids {
            assert_eq!(placed.insert((partition, offset), id), None, "an offset given out twice");
        }
    }
    for partition in 0..2 {
        let read = read_all(&log, &at(&topic, partition), 0).await;
        assert_eq!(read.len(), 1400);
        for (r, id) in read.iter().zip(numbers(&read)) {
            assert_eq!(placed[&(u64::from(partition), r.offset)], id);
        }
    }
}

async fn a_topic_is_created_once_and_keeps_its_partitions(lab: Lab) {
    let log = lab.open().await;
    let name = topic(&log, 3).await;
    append_texts(&log, &name, 2, 0..5).await;
    let spec = |partitions, retention| TopicSpec { name: name.clone(), partitions, retention, replicas: 1 };
    log.create_topics(&[spec(3, Some(Duration::from_secs(86_400)))]).await.expect("again is no error");
    log.create_topics(&[spec(3, None)]).await.expect("again is no error");
    assert_eq!(log.partitions(&name).await.expect("known"), 3);
    assert_eq!(log.bounds(&name).await.expect("known")[&2].end, 5);
    let other = log.create_topics(&[spec(4, None)]).await;
    assert!(matches!(other, Err(LogError::PartitionCount { have: 3, want: 4, .. })), "{other:?}");
    let unknown = log.partitions("never-created").await;
    assert!(matches!(unknown, Err(LogError::NoSuchTopic { .. })), "{unknown:?}");
    let consume = log.consume(options("never-created")).await.err();
    assert!(matches!(consume, Some(LogError::NoSuchTopic { .. })), "{consume:?}");
    for bad in ["", "a b", "ä"] {
        let spec = TopicSpec { name: bad.to_owned(), partitions: 1, retention: None, replicas: 1 };
        assert!(matches!(log.create_topics(&[spec]).await, Err(LogError::Operation { .. })), "{bad:?}");
    }
}

async fn what_cannot_be_appended_is_refused_by_name(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 2).await;
    let refused = log.append(&topic, vec![record(0, now_ms(), "a"), record(2, now_ms(), "b")]).await;
    assert!(matches!(refused, Err(AppendError::NoSuchPartition { partition: 2, .. })), "{refused:?}");
    let refused = log.append("never-created", vec![record(0, now_ms(), "a")]).await;
    assert!(matches!(refused, Err(AppendError::NoSuchPartition { .. })), "{refused:?}");
    let refused = log.append(&topic, vec![record(0, now_ms(), vec![0; (16 << 20) + 1])]).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { limit: 16_777_216, .. })), "{refused:?}");
    assert_eq!(log.append(&topic, vec![]).await.expect("nothing is no error"), Vec::<u64>::new());
    assert_eq!(append_texts(&log, &topic, 0, 0..1).await, [0], "what was refused left no trace");
}

async fn large_records_pass(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 1).await;
    // Not compressible, so that the limits meet the real size.
    let mut state = 1_u64;
    let mut noise = |bytes: usize| -> Bytes {
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| draw()).collect()
    };
    let values = [noise(5 << 20), noise(10), noise(16 << 20), noise(5 << 20)];
    let records = values.iter().map(|value| record(0, now_ms(), value.clone())).collect();
    log.append(&topic, records).await.expect("append");
    let read = read_all(&log, &at(&topic, 0), 0).await;
    assert!(read.iter().map(|r| &r.value).eq(&values));
    // Larger than the reader's whole budget, too.
    let consumer = log.consume(ConsumerOptions { buffer_bytes_max: 1 << 20, ..options(&topic) }).await.expect("join");
    assigned(&*consumer).await;
    consumer.start(&at(&topic, 0), 0).expect("ours");
    assert!(take(&*consumer, 4).await.iter().map(|r| &r.value).eq(&values));
}

async fn reading_past_the_end_waits_then_answers_nothing(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 1).await;
    append_texts(&log, &topic, 0, 0..3).await;
    for beyond in [3, 4, 1000] {
        let wait = Duration::from_millis(300);
        let began = Instant::now();
        let read = timeout(LONG, log.read(&at(&topic, 0), beyond, 10, wait)).await.expect("in time");
        assert_eq!(read.expect("no error"), [], "at {beyond}");
        assert!(began.elapsed() >= wait, "at {beyond}");
    }
    assert!(matches!(log.read(&at(&topic, 1), 0, 1, Duration::ZERO).await, Err(LogError::NoSuchTopic { .. })));
}

async fn a_waiting_reader_gets_what_is_appended(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 1).await;
    for n in 0..5 {
        let (reader, place) = (Arc::clone(&log), at(&topic, 0));
        let reading = spawn(async move { reader.read(&place, n, 10, LONG).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        append_texts(&log, &topic, 0, n..=n).await;
        let read = timeout(LONG / 2, reading).await.expect("woken by the append").expect("task").expect("read");
        assert_eq!(numbers(&read), [n]);
    }
}

async fn a_time_is_found_even_if_times_go_back(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 2).await;
    let base = now_ms() - MINUTE_MS;
    // Several stored batches, and many records in one.
    let times: Vec<i64> = [5, 3, 8, 8, 2, 9, 20, 11, 15, 20, 4, 30].iter().map(|t| base + t).collect();
    for part in times.chunks(4) {
        log.append(&topic, part.iter().map(|t| record(0, *t, "x")).collect()).await.expect("append");
    }
    for asked in (base - 1..=base + 31).chain([0, base + 100_000]) {
        let want = times.iter().position(|t| *t >= asked).unwrap_or(times.len()) as u64;
        let found = log.offsets_at(&topic, asked).await.expect("found");
        assert_eq!(found, BTreeMap::from([(0, want), (1, 0)]), "at base {:+}", asked - base);
    }
}

async fn nothing_is_delivered_before_start_and_all_from_there(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 2).await;
    append_texts(&log, &topic, 0, 0..500).await;
    append_texts(&log, &topic, 1, 0..500).await;
    let consumer = log.consume(options(&topic)).await.expect("join");
    let mut got = assigned(&*consumer).await;
    got.sort();
    assert_eq!(got, [(at(&topic, 0), None), (at(&topic, 1), None)]);
    let early = timeout(Duration::from_millis(700), consumer.next()).await;
    assert!(early.is_err(), "{early:?}");
    consumer.start(&at(&topic, 1), 123).expect("ours");
    let mut seen = Vec::new();
    while seen.len() < 377 {
        let (partition, records) = batch(&*consumer).await;
        assert_eq!(partition.partition, 1, "the other was not started");
        assert!(records.len() <= 100);
        seen.extend(numbers(&records));
    }
    assert_eq!(seen, (123..500).collect::<Vec<_>>());
    consumer.start(&at(&topic, 0), 499).expect("ours");
    assert_eq!(numbers(&take(&*consumer, 1).await), [499]);
    append_texts(&log, &topic, 0, 500..501).await;
    assert_eq!(numbers(&take(&*consumer, 1).await), [500]);
    assert!(matches!(consumer.start(&at(&topic, 7), 0), Err(LogError::NotOwned { .. })));
}

async fn start_jumps(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 1).await;
    append_texts(&log, &topic, 0, 0..2000).await;
    let consumer = log.consume(options(&topic)).await.expect("join");
    assigned(&*consumer).await;
    for begin in [1500, 0, 700, 701, 1999, 3] {
        consumer.start(&at(&topic, 0), begin).expect("ours");
        let read = numbers(&take(&*consumer, 1).await);
        assert_eq!(read, (begin..begin + read.len() as u64).collect::<Vec<_>>());
        // Let it run ahead before the next jump.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Beyond the end: nothing until the log has come that far.
    consumer.start(&at(&topic, 0), 2002).expect("ours");
    let early = timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(early.is_err(), "{early:?}");
    append_texts(&log, &topic, 0, 2000..2004).await;
    assert_eq!(numbers(&take(&*consumer, 2).await), [2002, 2003]);
}

async fn a_consumer_resumes_at_its_commit(lab: Lab) {
    let mut log = lab.open().await;
    let topic = topic(&log, 1).await;
    append_texts(&log, &topic, 0, 0..300).await;
    let mut next_wanted = 0;
    for round in 0..4_u64 {
        let consumer = log.consume(options(&topic)).await.expect("join");
        let got = assigned(&*consumer).await;
        assert_eq!(got, [(at(&topic, 0), (round > 0).then_some(next_wanted))]);
        consumer.start(&at(&topic, 0), next_wanted).expect("ours");
        let seen = numbers(&take(&*consumer, 50).await);
        assert_eq!(seen[0], next_wanted);
        // Fewer than were delivered: the rest comes again.
        next_wanted += 50;
        consumer.commit(&at(&topic, 0), next_wanted).await.expect("commit");
        drop(consumer);
        if round % 2 == 1 {
            log.close().await;
            drop(log);
            log = lab.open().await;
        }
    }
}

/// A member that processes what it gets, commits and releases what is revoked, and tells all that to `seen`.
struct Worker {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Owner of each partition by what the members were told and did.
    owners: HashMap<TopicPartition, u32>,
    processed: Vec<u64>,
    handovers: u32,
}

impl Worker {
    async fn start(log: &Arc<dyn EventLog>, topic: &str, id: u32, seen: &Arc<Mutex<Seen>>) -> Worker {
        let consumer = log.consume(options(topic)).await.expect("join");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(seen));
        let task = spawn(async move {
            let mut positions: HashMap<TopicPartition, u64> = HashMap::new();
            while !stopped.load(Ordering::SeqCst) {
                let Ok(event) = timeout(Duration::from_millis(50), consumer.next()).await else {
                    continue;
                };
                match event.expect("no error") {
                    ConsumerEvent::Assigned { partitions } => {
                        for (at, committed) in partitions {
                            let before = seen.lock().unwrap().owners.insert(at.clone(), id);
                            assert_eq!(before, None, "{at} has two owners");
                            positions.insert(at.clone(), committed.unwrap_or(0));
                            consumer.start(&at, committed.unwrap_or(0)).expect("ours");
                        }
                    }
                    ConsumerEvent::Batch { partition, records } => {
                        let position = positions.get_mut(&partition).expect("records of a partition that is ours");
                        assert_eq!(records[0].offset, *position, "{partition}");
                        *position = records.last().unwrap().offset + 1;
                        let mut seen = seen.lock().unwrap();
                        assert_eq!(seen.owners.get(&partition), Some(&id));
                        seen.processed.extend(numbers(&records));
                    }
                    ConsumerEvent::Revoked { partitions } => {
                        for at in partitions {
                            let position = positions.remove(&at).expect("ours");
                            consumer.commit(&at, position).await.expect("still accepted");
                            {
                                let mut seen = seen.lock().unwrap();
                                assert_eq!(seen.owners.remove(&at), Some(id));
                                seen.handovers += 1;
                            }
                            consumer.released(&[at]);
                        }
                    }
                    ConsumerEvent::Lost { partitions } => panic!("lost {partitions:?}"),
                }
            }
            for (at, position) in positions {
                consumer.commit(&at, position).await.expect("commit");
                assert_eq!(seen.lock().unwrap().owners.remove(&at), Some(id));
            }
        });
        Worker { stop, task }
    }

    async fn leave(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("worker");
    }
}

async fn two_members_share_and_nothing_is_lost_or_done_twice(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 4).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let appending = {
        let (log, topic, stop, last) = (Arc::clone(&log), topic.clone(), Arc::clone(&stop), Arc::clone(&last));
        spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let from = last.load(Ordering::SeqCst);
                let now = now_ms();
                let records = (from..from + 20).map(|n| record((n % 4) as u32, now, n.to_string())).collect();
                log.append(&topic, records).await.expect("append");
                last.store(from + 20, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let loads = |seen: &Seen| {
        let mut loads: BTreeMap<u32, u32> = BTreeMap::new();
        seen.owners.values().for_each(|id| *loads.entry(*id).or_default() += 1);
        loads
    };
    let until = |wanted: BTreeMap<u32, u32>| {
        let seen = Arc::clone(&seen);
        async move {
            let shared = async {
                while loads(&seen.lock().unwrap()) != wanted {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(LONG, shared).await.unwrap_or_else(|_| panic!("never shared as {wanted:?}"));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let first = Worker::start(&log, &topic, 1, &seen).await;
    until(BTreeMap::from([(1, 4)])).await;
    let second = Worker::start(&log, &topic, 2, &seen).await;
    until(BTreeMap::from([(1, 2), (2, 2)])).await;
    assert_eq!(seen.lock().unwrap().handovers, 2, "no partition moves that need not");
    first.leave().await;
    until(BTreeMap::from([(2, 4)])).await;
    let third = Worker::start(&log, &topic, 3, &seen).await;
    until(BTreeMap::from([(2, 2), (3, 2)])).await;
    stop.store(true, Ordering::SeqCst);
    appending.await.expect("appender");
    let all = last.load(Ordering::SeqCst);
    let done = async {
        while (seen.lock().unwrap().processed.len() as u64) < all {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = timeout(LONG, done).await;
    let mut processed = seen.lock().unwrap().processed.clone();
    processed.sort_unstable();
    let twice = processed.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let different: BTreeSet<u64> = processed.iter().copied().collect();
    assert_eq!((twice, different.len() as u64), (0, all), "done twice, and done at all");
    second.leave().await;
    third.leave().await;
}

async fn a_partition_that_is_not_released_is_taken_in_time(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 2).await;
    append_texts(&log, &topic, 0, 0..10).await;
    append_texts(&log, &topic, 1, 0..10).await;
    let options = ConsumerOptions { handover_timeout: Duration::from_secs(2), ..options(&topic) };
    let holder = log.consume(options.clone()).await.expect("join");
    assert_eq!(assigned(&*holder).await.len(), 2);
    let (joined, began) = (log.consume(options).await.expect("join"), Instant::now());
    let revoked = match next(&*holder).await {
        ConsumerEvent::Revoked { partitions } => partitions,
        other => panic!("{other:?}"),
    };
    assert_eq!(revoked.len(), 1);
    assert!(matches!(holder.start(&revoked[0], 0), Err(LogError::NotOwned { .. })));
    // Not released: it may still be committed, and goes to the other after the time is up, not before.
    tokio::time::sleep(Duration::from_millis(800)).await;
    holder.commit(&revoked[0], 7).await.expect("still ours");
    assert_eq!(assigned(&*joined).await, [(revoked[0].clone(), Some(7))]);
    assert!(began.elapsed() >= Duration::from_secs(2), "taken too early");
    let late = holder.commit(&revoked[0], 9).await;
    assert!(matches!(late, Err(LogError::NotOwned { .. })), "{late:?}");
    joined.start(&revoked[0], 7).expect("ours");
    assert_eq!(numbers(&take(&*joined, 3).await), [7, 8, 9]);
}

async fn a_slow_reader_keeps_its_partitions_and_misses_nothing(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 2).await;
    let now = now_ms();
    let mut wanted = 0;
    for round in 0..40_u64 {
        let values = (0..100).map(|n| {
            let mut value = format!("{:08}", round * 100 + n).into_bytes();
            value.resize(2000, b' ');
            record((round % 2) as u32, now, value)
        });
        wanted += log.append(&topic, values.collect()).await.expect("append").len();
    }
    // 8 MB through 256 KiB, by a reader that rests longer than the group would bear without polling.
    let consumer = log.consume(ConsumerOptions { buffer_bytes_max: 256 << 10, ..options(&topic) }).await.expect("join");
    for (at, _) in assigned(&*consumer).await {
        consumer.start(&at, 0).expect("ours");
    }
    let mut seen: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut count = 0;
    for round in 0.. {
        let (partition, records) = batch(&*consumer).await;
        count += records.len();
        seen.entry(partition.partition).or_default().extend(records.iter().map(|r| r.offset));
        match round {
            0 => tokio::time::sleep(Duration::from_secs(9)).await,
            5 | 9 => tokio::time::sleep(Duration::from_millis(700)).await,
            _ => {}
        }
        if count >= wanted {
            break;
        }
    }
    for (partition, offsets) in seen {
        assert_eq!(offsets, (0..2000).collect::<Vec<_>>(), "partition {partition}");
        consumer.commit(&at(&topic, partition), 2000).await.expect("still ours");
    }
}

async fn next_can_be_cancelled(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 1).await;
    append_texts(&log, &topic, 0, 0..3000).await;
    let consumer = log.consume(ConsumerOptions { batch_records_max: 3, ..options(&topic) }).await.expect("join");
    assigned(&*consumer).await;
    consumer.start(&at(&topic, 0), 0).expect("ours");
    let mut seen = Vec::new();
    for turn in 0_u64.. {
        // Sometimes too short for anything, sometimes just long enough to be in the middle of it.
        let Ok(event) = timeout(Duration::from_micros(turn % 50 * 4), consumer.next()).await else {
            continue;
        };
        match event.expect("no error") {
            ConsumerEvent::Batch { records, .. } => seen.extend(numbers(&records)),
            other => panic!("{other:?}"),
        }
        if seen.len() >= 3000 {
            break;
        }
    }
    assert_eq!(seen, (0..3000).collect::<Vec<_>>());
}

async fn a_batch_ends_where_its_bytes_are_reached(lab: Lab) {
    let log = lab.open().await;
    let topic = topic(&log, 1).await;
    // Each append is stored by itself.
    for _ in 0..20 {
        log.append(&topic, vec![record(0, now_ms(), vec![b'x'; 10_000])]).await.expect("appended");
    }
    let consumer = log.consume(ConsumerOptions { batch_bytes_max: 25_000, ..options(&topic) }).await.expect("join");
    assigned(&*consumer).await;
    consumer.start(&at(&topic, 0), 0).expect("ours");
    let mut offsets = Vec::new();
    while offsets.len() < 20 {
        let ConsumerEvent::Batch { records, .. } = consumer.next().await.expect("no error") else { panic!("a batch") };
        assert!((1..=3).contains(&records.len()), "{} records", records.len());
        offsets.extend(records.iter().map(|record| record.offset));
    }
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
}

async fn what_retention_removed_is_gone_by_name(lab: Lab) {
    let log = lab.open().await;
    let hour = Duration::from_secs(3600);
    let topic = topic_with(&log, 1, Some(hour)).await;
    let old = now_ms() - 2 * 60 * MINUTE_MS;
    log.append(&topic, (0..50).map(|_| record(0, old, vec![7; 1000])).collect()).await.expect("append");
    let place = at(&topic, 0);
    let gone = async {
        while log.bounds(&topic).await.expect("bounds")[&0].start < 50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, gone).await.expect("retention");
    // All is gone and yet the count goes on.
    assert_eq!(append_texts(&log, &topic, 0, 50..60).await[0], 50);
    let read = log.read(&place, 3, 10, Duration::ZERO).await;
    assert!(matches!(read, Err(LogError::Gone { wanted: 3, start: 50, .. })), "{read:?}");
    assert_eq!(log.offsets_at(&topic, 0).await.expect("found")[&0], 50);
    let consumer = log.consume(options(&topic)).await.expect("join");
    assigned(&*consumer).await;
    consumer.start(&place, 3).expect("ours");
    let told = timeout(LONG, consumer.next()).await.expect("told");
    assert!(
        matches!(&told, Err(LogError::Gone { wanted: 3, start: 50, partition }) if *partition == place),
        "{told:?}"
    );
    let after = timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(after.is_err(), "{after:?}");
    consumer.start(&place, 50).expect("ours");
    assert_eq!(numbers(&take(&*consumer, 10).await), (50..60).collect::<Vec<_>>());
    // What is young stays.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(log.bounds(&topic).await.expect("bounds")[&0], OffsetBounds { start: 50, end: 60 });
}

async fn offsets_go_on_after_a_reopen(lab: Lab) {
    let mut log = lab.open().await;
    let topic = topic_with(&log, 2, Some(Duration::from_secs(3600))).await;
    for round in 0..4_u64 {
        assert_eq!(append_texts(&log, &topic, 1, round * 10..round * 10 + 10).await[0], round * 10);
        log.close().await;
        drop(log);
        log = lab.open().await;
        assert_eq!(log.bounds(&topic).await.expect("bounds")[&1].end, round * 10 + 10);
    }
    assert_eq!(numbers(&read_all(&log, &at(&topic, 1), 0).await), (0..40).collect::<Vec<_>>());
    assert_eq!(
        log.offsets_at(&topic, now_ms() - 10 * MINUTE_MS).await.expect("found"),
        BTreeMap::from([(0, 0), (1, 0)])
    );
}

// Only the embedded log.

#[tokio::test]
async fn a_folder_that_is_open_is_refused_with_its_name_and_the_cause() {
    let folder = tempfile::tempdir().expect("folder");
    let first = EmbeddedLog::open(embedded_config(&folder)).expect("opens");
    let second = EmbeddedLog::open(embedded_config(&folder)).err().expect("refused");
    let LogError::Open { place, source } = &second else { panic!("{second:?}") };
    assert_eq!(*place, folder.path().display().to_string());
    assert!(source.to_string().contains("another process has it open"), "{source}");
    first.close().await;
    EmbeddedLog::open(embedded_config(&folder)).expect("free after close");
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_go_on_when_retention_removed_all_and_the_log_was_reopened() {
    let folder = tempfile::tempdir().expect("folder");
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(embedded_config(&folder)).expect("opens"));
    let topic = topic_with(&log, 1, Some(Duration::from_secs(60))).await;
    let old = (0..30).map(|_| record(0, 1000, vec![1; 9000])).collect();
    log.append(&topic, old).await.expect("append");
    while log.bounds(&topic).await.expect("bounds")[&0].start < 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log.close().await;
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(embedded_config(&folder)).expect("opens"));
    assert_eq!(log.bounds(&topic).await.expect("bounds")[&0], OffsetBounds { start: 30, end: 30 });
    assert_eq!(append_texts(&log, &topic, 0, 0..1).await, [30]);
}

/// Kills the writer ten times at various moments; then everything that it had acknowledged is there, no append is there
/// in part, and offsets have no holes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("folder");
    let mut acknowledged: BTreeMap<(u32, u64), String> = BTreeMap::new();
    for run in 0..10_u64 {
        let mut writer = Command::new(env!("CARGO_BIN_EXE_append_forever"))
            .arg(folder.path())
            .arg(run.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("writer starts");
        let mut output = BufReader::new(writer.stdout.take().expect("output"));
        // By what was told, not by a clock: on a slow machine the writer has done as much when it dies.
        let lines = 1 + run * run * 97 % 3000;
        let mut count = 0;
        let mut line = String::new();
        while {
            line.clear();
            output.read_line(&mut line).expect("line") > 0
        } {
            count += 1;
            if count == lines {
                writer.kill().expect("kill -9");
            }
            let Some(whole) = line.strip_suffix('\n') else { continue };
            let mut words = whole.splitn(3, ' ');
            let mut word = || words.next().expect("three words");
            let key = (word().parse().expect("partition"), word().parse().expect("offset"));
            assert_eq!(acknowledged.insert(key, word().to_owned()), None, "offset {key:?} given out twice");
        }
        writer.wait().expect("ended");
        assert!(count >= lines, "the writer ended by itself");

        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(embedded_config(&folder)).expect("opens after a kill"));
        let mut appends: HashMap<String, (u64, u64)> = HashMap::new();
        let mut stood: BTreeSet<(u32, u64)> = BTreeSet::new();
        for partition in 0..3 {
            let records = read_all(&log, &at("events", partition), 0).await;
            for (wanted, r) in (0..).zip(&records) {
                assert_eq!(r.offset, wanted, "a hole in partition {partition}");
                let value = std::str::from_utf8(&r.value).expect("text");
                if let Some(told) = acknowledged.get(&(partition, r.offset)) {
                    assert_eq!(told, value, "partition {partition}, offset {}", r.offset);
                    stood.insert((partition, r.offset));
                }
                let parts: Vec<&str> = value.split('-').collect();
                let seen = appends.entry(parts[..3].join("-")).or_default();
                *seen = (seen.0 + 1, parts[4].parse().expect("count"));
            }
        }
        assert_eq!(stood.len(), acknowledged.len(), "acknowledged records are missing");
        for (append, (there, whole)) in appends {
            assert_eq!(there, whole, "append {append} is there in part");
        }
        log.close().await;
    }
}

// Only Kafka.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_takes_every_codec() {
    for compression in Compression::ALL {
        let log = KafkaLog::connect(kafka::Config { compression, ..kafka_config() }).await.expect("connects");
        let log: Arc<dyn EventLog> = Arc::new(log);
        let topic = topic(&log, 1).await;
        append_texts(&log, &topic, 0, 0..1000).await;
        assert_eq!(numbers(&read_all(&log, &at(&topic, 0), 0).await), (0..1000).collect::<Vec<_>>(), "{compression:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_that_was_killed_or_hangs_is_waited_for_up_to_the_delivery_timeout() {
    let folder = tempfile::tempdir().expect("folder");
    let mut broker = KafkaBroker::start(folder.path()).expect("broker");
    let config =
        kafka::Config { brokers: broker.brokers(), delivery_timeout: Duration::from_secs(20), ..kafka_config() };
    let log: Arc<dyn EventLog> = Arc::new(KafkaLog::connect(config.clone()).await.expect("connects"));
    let topic = topic(&log, 1).await;
    append_texts(&log, &topic, 0, 0..10).await;
    let consumer = log.consume(options(&topic)).await.expect("join");
    assigned(&*consumer).await;
    consumer.start(&at(&topic, 0), 0).expect("ours");
    assert_eq!(numbers(&take(&*consumer, 10).await), (0..10).collect::<Vec<_>>());

    broker.kill9().expect("kill");
    let appending = {
        let (log, topic) = (Arc::clone(&log), topic.clone());
        spawn(async move { append_texts(&log, &topic, 0, 10..20).await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!appending.is_finished(), "nobody can have it");
    broker.restart().expect("restart");
    assert_eq!(timeout(LONG, appending).await.expect("in time").expect("task"), (10..20).collect::<Vec<_>>());
    // The group's memory of the member may have run out meanwhile; then it begins anew, at its commit.
    let again = async {
        let mut seen = Vec::new();
        while seen.last() != Some(&19) {
            match consumer.next().await.expect("no error") {
                ConsumerEvent::Batch { records, .. } => seen.extend(numbers(&records)),
                ConsumerEvent::Assigned { partitions } => {
                    assert_eq!(partitions, [(at(&topic, 0), None)]);
                    seen.clear();
                    consumer.start(&at(&topic, 0), 10).expect("ours");
                }
                ConsumerEvent::Lost { .. } => {}
                ConsumerEvent::Revoked { partitions } => consumer.released(&partitions),
            }
        }
        seen
    };
    assert_eq!(timeout(LONG, again).await.expect("in time"), (10..20).collect::<Vec<_>>());

    let hasty = kafka::Config { delivery_timeout: Duration::from_secs(2), ..config };
    let hasty = KafkaLog::connect(hasty).await.expect("connects");
    hasty.append(&topic, vec![record(0, now_ms(), "20")]).await.expect("append");
    broker.pause().expect("pause");
    let refused = timeout(LONG, hasty.append(&topic, vec![record(0, now_ms(), "21")])).await.expect("in time");
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    broker.resume().expect("resume");
    // It works again, by itself.
    hasty.append(&topic, vec![record(0, now_ms(), "22")]).await.expect("append");

    // A group that heard nothing for its session timeout is not a member any more, and then is again.
    consumer.commit(&at(&topic, 0), 15).await.expect("commit");
    broker.pause().expect("pause");
    let lost = async {
        loop {
            match consumer.next().await.expect("no error") {
                ConsumerEvent::Batch { .. } => {}
                other => break other,
            }
        }
    };
    let lost = timeout(LONG, lost).await.expect("lost");
    assert!(matches!(&lost, ConsumerEvent::Lost { partitions } if *partitions == [at(&topic, 0)]), "{lost:?}");
    let late = consumer.commit(&at(&topic, 0), 17).await;
    assert!(matches!(late, Err(LogError::NotOwned { .. })), "{late:?}");
    broker.resume().expect("resume");
    assert_eq!(assigned(&*consumer).await, [(at(&topic, 0), Some(15))]);
    consumer.start(&at(&topic, 0), 15).expect("ours");
    assert_eq!(numbers(&take(&*consumer, 5).await)[..5], [15, 16, 17, 18, 19]);
}

#[tokio::test]
async fn kafka_that_nobody_answers_for_is_an_error_that_names_it() {
    // Port 1 is reserved and closed.
    let config = kafka::Config { brokers: "127.0.0.1:1".to_owned(), ..kafka_config() };
    let error = KafkaLog::connect(config).await.err().expect("refused");
    assert!(matches!(&error, LogError::Open { place, .. } if place == "127.0.0.1:1"), "{error:?}");
}
