//! The store's folders and what is known of them in memory: topics, partitions, committed offsets.
//!
//! Three keyspaces: `batches` (see `batch.rs`), `spans` (same keys; see `spans.rs`) and `meta`:
//!
//! | key | value |
//! |---|---|
//! | `t` topic name | id (4 bytes), partitions (4), retention in ms (8; `u64::MAX`: for ever) |
//! | `s` topic id, partition | first offset kept (8) |
//! | `g` group, 0, topic, 0, partition | committed offset (8) |
//!
//! A partition's first offset is stored, because once retention has removed the last batch nothing else would say
//! where the partition ended, and offsets would begin at 0 again.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use tokio::sync::watch;

use super::batch::{self, Damage};
use super::spans::{OpenSpan, PartitionState, Span};
use super::{Config, lock};
use crate::metering::AppendMeter;
use crate::{LogFault, Record, TopicPartition};

/// Values from this size on live in files of their own, which compaction does not copy.
const SEPARATE_FROM_BYTES: u32 = 4096;
const FOR_EVER: u64 = u64::MAX;

/// Handles of the store. Clones are cheap; the folder is let go when the last one is dropped.
#[derive(Clone)]
pub(super) struct Store {
    pub db: Database,
    pub batches: Keyspace,
    pub spans: Keyspace,
    pub meta: Keyspace,
}

/// A topic, as it stands in memory.
pub(super) struct Topic {
    pub id: u32,
    pub name: Arc<str>,
    pub partitions: Vec<Mutex<PartitionState>>,
    retention_ms: AtomicU64,
    /// Counts the group commits that touched the topic; readers wait on it.
    pub changed: watch::Sender<u64>,
    pub meter: AppendMeter,
}

/// What the log knows.
#[derive(Default)]
pub(super) struct Catalog {
    pub topics: RwLock<HashMap<String, Arc<Topic>>>,
    /// Committed offsets, by group.
    pub committed: Mutex<HashMap<String, HashMap<TopicPartition, u64>>>,
}

impl Topic {
    pub fn retention_ms(&self) -> Option<u64> {
        Some(self.retention_ms.load(Ordering::Relaxed)).filter(|ms| *ms != FOR_EVER)
    }

    pub fn set_retention_ms(&self, retention: Option<u64>) {
        self.retention_ms.store(retention.unwrap_or(FOR_EVER), Ordering::Relaxed);
    }

    pub fn at(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: Arc::clone(&self.name), partition }
    }

    pub fn new(id: u32, name: &str, retention: Option<u64>, partitions: Vec<PartitionState>) -> Topic {
        Topic {
            id,
            name: name.into(),
            partitions: partitions.into_iter().map(Mutex::new).collect(),
            retention_ms: AtomicU64::new(retention.unwrap_or(FOR_EVER)),
            changed: watch::Sender::new(0),
            meter: AppendMeter::new("embedded", name),
        }
    }

    pub fn encode_meta(id: u32, partitions: u32, retention: Option<u64>) -> Vec<u8> {
        let mut value = Vec::with_capacity(16);
        value.extend_from_slice(&id.to_be_bytes());
        value.extend_from_slice(&partitions.to_be_bytes());
        value.extend_from_slice(&retention.unwrap_or(FOR_EVER).to_be_bytes());
        value
    }
}

pub(super) fn topic_key(name: &str) -> Vec<u8> {
    [b"t", name.as_bytes()].concat()
}

pub(super) fn start_key(topic: u32, partition: u32) -> Vec<u8> {
    [b"s", &topic.to_be_bytes()[..], &partition.to_be_bytes()].concat()
}

pub(super) fn group_key(group: &str, at: &TopicPartition) -> Vec<u8> {
    [b"g", group.as_bytes(), b"\0", at.topic.as_bytes(), b"\0", &at.partition.to_be_bytes()].concat()
}

fn parse_group_key(key: &[u8]) -> Option<(String, TopicPartition)> {
    let (names, partition) = key.get(1..)?.split_last_chunk::<4>()?;
    let mut names = names.split(|byte| *byte == 0).map(|name| std::str::from_utf8(name).ok());
    let (group, topic) = (names.next()??, names.next()??);
    Some((group.to_owned(), TopicPartition { topic: topic.into(), partition: u32::from_be_bytes(*partition) }))
}

pub(super) fn encode_span(span: &Span) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&span.end.to_be_bytes());
    value[8..].copy_from_slice(&span.newest_ms.to_be_bytes());
    value
}

fn u64_at(value: &[u8], from: usize) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(from..from + 8)?.try_into().ok()?))
}

fn u32_at(value: &[u8], from: usize) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(from..from + 4)?.try_into().ok()?))
}

/// An entry of `meta` or `spans` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("entry {0:?} of the store is damaged")]
struct DamagedEntry(Vec<u8>);

impl Store {
    pub fn open(config: &Config) -> fjall::Result<Store> {
        let db = Database::builder(&config.folder)
            .cache_size(config.cache_bytes)
            .max_journaling_size(config.journal_bytes_max)
            .worker_threads(2)
            .open()?;
        let compression = if config.compress { CompressionType::Lz4 } else { CompressionType::None };
        let batches = db.keyspace("batches", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(config.memtable_bytes)
                .data_block_compression_policy(CompressionPolicy::all(compression))
                .with_kv_separation(Some(
                    KvSeparationOptions::default().separation_threshold(SEPARATE_FROM_BYTES).compression(compression),
                ))
        })?;
        let spans = db.keyspace("spans", KeyspaceCreateOptions::default)?;
        let meta = db.keyspace("meta", KeyspaceCreateOptions::default)?;
        Ok(Store { db, batches, spans, meta })
    }

    /// Reads everything that is kept in memory.
    pub fn recover(&self) -> Result<Catalog, LogFault> {
        let mut topics = HashMap::new();
        for entry in self.meta.prefix(b"t") {
            let (key, value) = entry.into_inner()?;
            let damaged = || DamagedEntry(key.to_vec());
            let name = std::str::from_utf8(&key[1..]).map_err(|_| damaged())?;
            let id = u32_at(&value, 0).ok_or_else(damaged)?;
            let count = u32_at(&value, 4).ok_or_else(damaged)?;
            let retention = Some(u64_at(&value, 8).ok_or_else(damaged)?).filter(|ms| *ms != FOR_EVER);
            let mut partitions = Vec::new();
            for partition in 0..count {
                partitions.push(self.recover_partition(name, id, partition)?);
            }
            topics.insert(name.to_owned(), Arc::new(Topic::new(id, name, retention, partitions)));
        }
        let mut committed: HashMap<String, HashMap<TopicPartition, u64>> = HashMap::new();
        for entry in self.meta.prefix(b"g") {
            let (key, value) = entry.into_inner()?;
            let damaged = || DamagedEntry(key.to_vec());
            let (group, at) = parse_group_key(&key).ok_or_else(damaged)?;
            committed.entry(group).or_default().insert(at, u64_at(&value, 0).ok_or_else(damaged)?);
        }
        Ok(Catalog { topics: RwLock::new(topics), committed: Mutex::new(committed) })
    }

    fn recover_partition(&self, name: &str, id: u32, partition: u32) -> Result<PartitionState, LogFault> {
        let start = match self.meta.get(start_key(id, partition))? {
            Some(value) => u64_at(&value, 0).ok_or_else(|| DamagedEntry(start_key(id, partition)))?,
            None => 0,
        };
        let (first, last) = (batch::key(id, partition, start), batch::key(id, partition, u64::MAX));
        // What a crash in the middle of a retention run left behind.
        for entry in self.batches.range(batch::key(id, partition, 0)..first) {
            self.batches.remove(entry.key()?)?;
        }
        let end = match self.batches.range(first..=last).next_back() {
            None => start,
            Some(entry) => decode(name, partition, entry)?.last().map_or(start, |record| record.offset + 1),
        };
        let mut spans = std::collections::VecDeque::new();
        for entry in self.spans.range(batch::key(id, partition, 0)..=last) {
            let (key, value) = entry.into_inner()?;
            let damaged = || DamagedEntry(key.to_vec());
            let base = batch::base_of(&key).ok_or_else(damaged)?;
            let (end, newest) = u64_at(&value, 0).zip(u64_at(&value, 8)).ok_or_else(damaged)?;
            spans.push_back(Span { base, end, newest_ms: newest as i64 });
        }
        let mut open = OpenSpan::new(spans.back().map_or(start, |span| span.end));
        for entry in self.batches.range(batch::key(id, partition, open.base.max(start))..=last) {
            let records = decode(name, partition, entry)?;
            let bytes = records.iter().map(|record| record.value.len()).sum();
            if let (Some(last), Some(newest)) = (records.last(), records.iter().map(|r| r.timestamp_ms).max()) {
                // A span is written together with the batch that closes it, so none closes here unless this version
                // has lower limits than the one that wrote.
                spans.extend(open.add(last.offset + 1, newest, bytes));
            }
        }
        Ok(PartitionState { start, end, spans, open })
    }

    pub fn load_bounds(topic: &Topic) -> BTreeMap<u32, crate::OffsetBounds> {
        let bounds = topic.partitions.iter().map(|partition| {
            let state = lock(partition);
            crate::OffsetBounds { start: state.start, end: state.end }
        });
        (0..).zip(bounds).collect()
    }
}

/// A batch that is not what was written, with its place.
#[derive(Debug, thiserror::Error)]
#[error("{topic}/{partition}, batch at offset {base}")]
struct DamagedBatch {
    topic: String,
    partition: u32,
    base: u64,
    #[source]
    damage: Damage,
}

pub(super) fn decode(topic: &str, partition: u32, entry: Guard) -> Result<Vec<Record>, LogFault> {
    let (key, value) = entry.into_inner()?;
    batch::decode(&key, Bytes::from_owner(value)).map_err(|damage| {
        let base = batch::base_of(&key).unwrap_or(0);
        DamagedBatch { topic: topic.to_owned(), partition, base, damage }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::{group_key, parse_group_key};
    use crate::TopicPartition;

    #[test]
    fn a_group_key_is_parsed_back_even_with_zero_bytes_in_the_partition() {
        for partition in [0, 1, 256, u32::MAX] {
            let at = TopicPartition { topic: "events".into(), partition };
            assert_eq!(parse_group_key(&group_key("worker", &at)), Some(("worker".to_owned(), at)));
        }
    }
}
