//! An event log in memory, that can fail or stand still on demand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use trackway_eventlog::{
    AppendError, Consumer, ConsumerOptions, EventLog, LogError, NewRecord, OffsetBounds, Record, TopicPartition,
    TopicSpec,
};
use trackway_wire::log::{self, pb};

pub(crate) const EVENTS_PARTITIONS: u32 = 4;

pub(crate) struct MemoryLog {
    records: Mutex<Vec<(String, NewRecord)>>,
    /// Name of a topic that takes nothing.
    broken: Mutex<Option<&'static str>>,
    /// One permit lets one append through, if `stalled`.
    pub gate: Semaphore,
    pub stalled: AtomicBool,
}

impl MemoryLog {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            broken: Mutex::default(),
            gate: Semaphore::new(0),
            stalled: AtomicBool::new(false),
        })
    }

    pub(crate) fn break_topic(&self, topic: Option<&'static str>) {
        *self.broken.lock().expect("not poisoned") = topic;
    }

    fn of(&self, topic: &str) -> Vec<NewRecord> {
        let records = self.records.lock().expect("not poisoned");
        records.iter().filter(|(of, _)| of == topic).map(|(_, record)| record.clone()).collect()
    }

    /// Records of `events` with their partition and time, in the order of their append.
    pub(crate) fn events(&self) -> Vec<(u32, i64, pb::VisitorEvents)> {
        let decoded = self.of("events").into_iter().map(|record| {
            let events: pb::EventsRecord = log::decode(record.value).expect("a record");
            match events.body {
                Some(pb::events_record::Body::Events(events)) => (record.partition, record.timestamp_ms, events),
                other => panic!("{other:?}"),
            }
        });
        decoded.collect()
    }

    pub(crate) fn rejected(&self) -> Vec<pb::RejectedRecord> {
        self.of("rejected").into_iter().map(|record| log::decode(record.value).expect("a record")).collect()
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        match topic {
            "events" => Ok(EVENTS_PARTITIONS),
            "rejected" => Ok(1),
            other => Err(LogError::NoSuchTopic { topic: other.to_owned() }),
        }
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        if self.stalled.load(Ordering::SeqCst) {
            self.gate.acquire().await.map(SemaphorePermit::forget).expect("open");
        }
        if *self.broken.lock().expect("not poisoned") == Some(topic) {
            return Err(AppendError::Unavailable { topic: topic.to_owned(), source: "no disk".into() });
        }
        let offsets = records.iter().map(|_| 0).collect();
        let mut all = self.records.lock().expect("not poisoned");
        all.extend(records.into_iter().map(|record| (topic.to_owned(), record)));
        Ok(offsets)
    }

    async fn create_topics(&self, _: &[TopicSpec]) -> Result<(), LogError> {
        unreachable!("a gateway creates nothing")
    }

    async fn consume(&self, _: ConsumerOptions) -> Result<Box<dyn Consumer>, LogError> {
        unreachable!("a gateway reads nothing")
    }

    async fn read(&self, _: &TopicPartition, _: u64, _: usize, _: Duration) -> Result<Vec<Record>, LogError> {
        unreachable!("a gateway reads nothing")
    }

    async fn bounds(&self, _: &str) -> Result<BTreeMap<u32, OffsetBounds>, LogError> {
        unreachable!("a gateway reads nothing")
    }

    async fn offsets_at(&self, _: &str, _: i64) -> Result<BTreeMap<u32, u64>, LogError> {
        unreachable!("a gateway reads nothing")
    }

    async fn close(&self) {}
}
