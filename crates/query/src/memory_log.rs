//! A log in memory, for tests of what reads it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use trackway_eventlog::{
    AppendError, Consumer, ConsumerOptions, EventLog, LogError, NewRecord, OffsetBounds, Record, TopicPartition,
    TopicSpec,
};

/// Topics by name, each with its partitions.
#[derive(Debug, Default)]
pub(crate) struct MemoryLog {
    topics: Mutex<BTreeMap<String, Vec<Partition>>>,
    appended: Notify,
}

#[derive(Debug, Default, Clone)]
struct Partition {
    start: u64,
    records: Vec<Record>,
}

impl Partition {
    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }
}

impl MemoryLog {
    /// With these topics and numbers of partitions.
    pub(crate) fn new(topics: &[(&str, usize)]) -> Self {
        let topics = topics.iter().map(|&(name, partitions)| (name.to_owned(), vec![Partition::default(); partitions]));
        Self { topics: Mutex::new(topics.collect()), appended: Notify::new() }
    }

    /// Removes records before `start`, as retention does.
    pub(crate) fn remove_before(&self, topic: &str, partition: usize, start: u64) {
        self.with(topic, |partitions| {
            let partition = &mut partitions[partition];
            partition.records.retain(|record| record.offset >= start);
            partition.start = start;
        })
        .expect("the topic exists");
    }

    fn with<T>(&self, topic: &str, then: impl FnOnce(&mut Vec<Partition>) -> T) -> Result<T, LogError> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.get_mut(topic).map(then).ok_or_else(|| LogError::NoSuchTopic { topic: topic.to_owned() })
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn create_topics(&self, _topics: &[TopicSpec]) -> Result<(), LogError> {
        unreachable!("queries make no topics")
    }

    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        self.with(topic, |partitions| u32::try_from(partitions.len()).expect("few partitions"))
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        let offsets = self.with(topic, |partitions| {
            let append = |new: NewRecord| {
                let partition = &mut partitions[new.partition as usize];
                let offset = partition.end();
                partition.records.push(Record { offset, timestamp_ms: new.timestamp_ms, value: new.value });
                offset
            };
            records.into_iter().map(append).collect()
        });
        self.appended.notify_waiters();
        Ok(offsets.expect("the topic exists"))
    }

    async fn consume(&self, _options: ConsumerOptions) -> Result<Box<dyn Consumer>, LogError> {
        unreachable!("queries join no group")
    }

    async fn read(
        &self,
        at: &TopicPartition,
        offset: u64,
        records_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let appended = self.appended.notified();
        let now = || {
            self.with(&at.topic, |partitions| {
                let partition = &partitions[at.partition as usize];
                if offset < partition.start {
                    return Err(LogError::Gone { partition: at.clone(), wanted: offset, start: partition.start });
                }
                let from = partition.records.iter().filter(|record| record.offset >= offset);
                Ok(from.take(records_max).cloned().collect::<Vec<_>>())
            })?
        };
        tokio::pin!(appended);
        appended.as_mut().enable();
        let found = now()?;
        if !found.is_empty() || tokio::time::timeout(wait, appended).await.is_err() {
            return Ok(found);
        }
        now()
    }

    async fn bounds(&self, topic: &str) -> Result<BTreeMap<u32, OffsetBounds>, LogError> {
        self.with(topic, |partitions| {
            (0..).zip(partitions).map(|(n, p)| (n, OffsetBounds { start: p.start, end: p.end() })).collect()
        })
    }

    async fn offsets_at(&self, topic: &str, timestamp_ms: i64) -> Result<BTreeMap<u32, u64>, LogError> {
        self.with(topic, |partitions| {
            let first = |p: &Partition| p.records.iter().find(|r| r.timestamp_ms >= timestamp_ms).map(|r| r.offset);
            (0..).zip(partitions).map(|(n, p)| (n, first(p).unwrap_or(p.end()))).collect()
        })
    }

    async fn close(&self) {}
}
