//! What needs to look inside the store; the promises themselves are in `tests/tests/eventlog_contract.rs`.

use std::time::Duration;

use bytes::Bytes;

use super::{Config, EmbeddedLog, Fsync, batch, expire_all, lock};
use crate::{EventLog, LogError, NewRecord, OffsetBounds, TopicPartition, TopicSpec};

fn config(folder: &tempfile::TempDir) -> Config {
    Config {
        folder: folder.path().to_owned(),
        fsync: Fsync::Never,
        group_delay: Duration::ZERO,
        group_bytes_max: 16 << 20,
        batch_bytes_max: 64 << 10,
        queue_bytes_max: 64 << 20,
        cache_bytes: 8 << 20,
        memtable_bytes: 1 << 20,
        journal_bytes_max: 64 << 20,
        compress: true,
        retention_every: Duration::from_secs(3600),
        clock: || 0,
    }
}

async fn create(log: &EmbeddedLog, retention: Option<Duration>) {
    let spec = TopicSpec { name: "events".to_owned(), partitions: 2, retention, replicas: 1 };
    log.create_topics(&[spec]).await.expect("topic");
}

fn record(timestamp_ms: i64, bytes: usize) -> NewRecord {
    NewRecord { partition: 1, timestamp_ms, value: Bytes::from(vec![timestamp_ms as u8; bytes]) }
}

#[tokio::test]
async fn times_are_found_over_many_spans_before_and_after_a_reopen_and_after_retention() {
    let folder = tempfile::tempdir().expect("folder");
    let mut log = EmbeddedLog::open(config(&folder)).expect("opens");
    create(&log, Some(Duration::from_millis(100))).await;
    // Some 25 MiB: several spans; times go up and down by more than a batch.
    let times: Vec<i64> = (0..2500_i64).map(|n| 1000 + n - n % 7 * 40).collect();
    for part in times.chunks(50) {
        log.append("events", part.iter().map(|t| record(*t, 10_000)).collect()).await.expect("append");
    }
    for round in 0..2 {
        let spans = lock(&log.topic("events").expect("known").partitions[1]).spans.len();
        assert!(spans >= 4, "{spans} spans in round {round}");
        for asked in (700..3600).step_by(13) {
            let want = times.iter().position(|t| *t >= asked).unwrap_or(times.len()) as u64;
            assert_eq!(log.offsets_at("events", asked).await.expect("found")[&1], want, "time {asked}, round {round}");
        }
        log.close().await;
        log = EmbeddedLog::open(config(&folder)).expect("opens again");
    }
    // Now is 2100, so 2000 is the limit: the batches of 6 or 7 records before the first with such a time go.
    let first = times.iter().position(|t| *t >= 2000).expect("one") as u64;
    for round in 0..2 {
        let store = log.shared.store.read().expect("lock").clone().expect("open");
        expire_all(&store, &log.shared.catalog, 2100);
        drop(store);
        let bounds = log.bounds("events").await.expect("bounds")[&1];
        assert!(bounds.start <= first && bounds.start + 50 > first, "{bounds:?} for {first}, round {round}");
        assert_eq!(bounds.end, 2500);
        for asked in [0, 1999, 2000, 2500, 3498, 4000] {
            let from = times.iter().enumerate().skip(bounds.start as usize);
            let want = from.filter(|(_, t)| **t >= asked).map(|(n, _)| n as u64).next().unwrap_or(2500);
            assert_eq!(log.offsets_at("events", asked).await.expect("found")[&1], want, "time {asked}, round {round}");
        }
        let at = TopicPartition { topic: "events".into(), partition: 1 };
        let read = log.read(&at, bounds.start, 1, Duration::ZERO).await.expect("the first one kept");
        assert_eq!(read[0].offset, bounds.start);
        log.close().await;
        log = EmbeddedLog::open(config(&folder)).expect("opens again");
    }
}

#[tokio::test]
async fn a_damaged_batch_is_told_with_its_place() {
    let folder = tempfile::tempdir().expect("folder");
    let log = EmbeddedLog::open(config(&folder)).expect("opens");
    create(&log, None).await;
    for _ in 0..3 {
        log.append("events", vec![record(1, 10), record(1, 10)]).await.expect("append");
    }
    let at = TopicPartition { topic: "events".into(), partition: 1 };
    {
        let store = log.shared.store.read().expect("lock").clone().expect("open");
        let key = batch::key(0, 1, 2);
        let mut value = store.batches.get(key).expect("read").expect("there").to_vec();
        *value.last_mut().expect("bytes") ^= 1;
        store.batches.insert(key, value).expect("write");
    }
    assert_eq!(log.read(&at, 0, 2, Duration::ZERO).await.expect("before it").len(), 2);
    let told = log.read(&at, 2, 10, Duration::ZERO).await.expect_err("damaged");
    let LogError::Operation { source, .. } = &told else { panic!("{told:?}") };
    assert_eq!(source.to_string(), "events/1, batch at offset 2");
    assert!(source.source().expect("cause").to_string().contains("checksum"));
    assert_eq!(log.read(&at, 4, 10, Duration::ZERO).await.expect("behind it").len(), 2);
    // At start the newest batches are read back: then it is told at once.
    log.close().await;
    let told = EmbeddedLog::open(config(&folder)).err().expect("damaged");
    assert!(
        matches!(&told, LogError::Open { source, .. } if source.to_string() == "events/1, batch at offset 2"),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_a_crash_left_of_a_retention_run_is_removed_at_start() {
    let folder = tempfile::tempdir().expect("folder");
    let log = EmbeddedLog::open(config(&folder)).expect("opens");
    create(&log, None).await;
    for _ in 0..3 {
        log.append("events", vec![record(1, 10), record(1, 10)]).await.expect("append");
    }
    {
        // As after the first part of `expire`: the start has moved, batches before it are still there.
        let store = log.shared.store.read().expect("lock").clone().expect("open");
        store.meta.insert(super::store::start_key(0, 1), 4_u64.to_be_bytes()).expect("write");
    }
    log.close().await;
    let log = EmbeddedLog::open(config(&folder)).expect("opens again");
    assert_eq!(log.bounds("events").await.expect("bounds")[&1], OffsetBounds { start: 4, end: 6 });
    let store = log.shared.store.read().expect("lock").clone().expect("open");
    assert_eq!(store.batches.iter().count(), 1);
}
