//! The one thread that writes: group commit.
//!
//! Appends and commits of all topics queue up; the writer takes what is waiting, gives out offsets, joins records of
//! one partition into batches, writes one atomic store batch with one fsync, and answers everyone. While the disk is
//! busy the next group gathers, so the fsync rate adapts to the disk and nobody has to tune a delay.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use fjall::{OwnedWriteBatch, PersistMode};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::batch::{self, RECORD_OVERHEAD_BYTES};
use super::spans::{OpenSpan, Span};
use super::store::{Catalog, Store, Topic, encode_span, group_key};
use super::{Fsync, lock};
use crate::{NewRecord, TopicPartition};

/// The store refused a write; it takes none any more until the process has restarted.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store does not take writes any more. Look at the disk (full, failing?) and restart")]
pub(super) struct WriteFault(#[source] Arc<fjall::Error>);

/// What waits for the writer.
pub(super) enum Job {
    Append {
        topic: Arc<Topic>,
        /// All partitions exist.
        records: Vec<NewRecord>,
        bytes: usize,
        /// Room in the queue; given back when the job is done.
        permit: OwnedSemaphorePermit,
        done: oneshot::Sender<Result<Vec<u64>, WriteFault>>,
    },
    Commit {
        group: String,
        at: TopicPartition,
        offset: u64,
        done: oneshot::Sender<Result<(), WriteFault>>,
    },
    /// Everything before it is done; the writer ends.
    Stop,
}

/// The writer's limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub fsync: Fsync,
    pub group_delay: Duration,
    pub group_bytes_max: usize,
    pub batch_bytes_max: usize,
}

/// Runs until [`Job::Stop`] or until nobody can send any more.
pub(super) fn run(store: &Store, catalog: &Catalog, limits: Limits, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let (group, stop) = gather(first, limits, jobs);
        if !group.is_empty() {
            write(store, catalog, limits, group);
        }
        if stop {
            return;
        }
    }
}

fn gather(first: Job, limits: Limits, jobs: &Receiver<Job>) -> (Vec<Job>, bool) {
    let mut group = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(job) = next {
        match &job {
            Job::Stop => return (group, true),
            Job::Append { bytes: more, .. } => bytes += more,
            Job::Commit { .. } => {}
        }
        group.push(job);
        if bytes >= limits.group_bytes_max {
            break;
        }
        next = jobs.try_recv().ok();
        if next.is_none() && !limits.group_delay.is_zero() && group.len() == 1 {
            next = jobs.recv_timeout(limits.group_delay).ok();
        }
    }
    (group, false)
}

/// What a partition will be once the group is durable.
struct Pending {
    topic: Arc<Topic>,
    end: u64,
    base: u64,
    bytes: usize,
    records: Vec<NewRecord>,
    open: OpenSpan,
    closed: Vec<Span>,
}

impl Pending {
    fn flush(&mut self, partition: u32, store: &Store, batch: &mut OwnedWriteBatch) {
        let Some(newest) = self.records.iter().map(|record| record.timestamp_ms).max() else {
            return;
        };
        let key = batch::key(self.topic.id, partition, self.base);
        batch.insert(&store.batches, key, batch::encode(&key, &self.records));
        if let Some(span) = self.open.add(self.end, newest, self.bytes) {
            batch.insert(&store.spans, batch::key(self.topic.id, partition, span.base), encode_span(&span));
            self.closed.push(span);
        }
        self.base = self.end;
        self.bytes = 0;
        self.records.clear();
    }
}

enum Answer {
    Append(oneshot::Sender<Result<Vec<u64>, WriteFault>>, Vec<u64>, OwnedSemaphorePermit),
    Commit(oneshot::Sender<Result<(), WriteFault>>, String, TopicPartition, u64),
}

fn write(store: &Store, catalog: &Catalog, limits: Limits, group: Vec<Job>) {
    let mut batch = store.db.batch().durability(Some(match limits.fsync {
        Fsync::EveryGroup => PersistMode::SyncAll,
        Fsync::Never => PersistMode::Buffer,
    }));
    let mut pending: BTreeMap<(u32, u32), Pending> = BTreeMap::new();
    let mut answers = Vec::with_capacity(group.len());
    for job in group {
        match job {
            Job::Append { topic, records, permit, done, .. } => {
                let mut offsets = Vec::with_capacity(records.len());
                for record in records {
                    let partition = record.partition;
                    let state = pending.entry((topic.id, partition)).or_insert_with(|| begin(&topic, partition));
                    offsets.push(state.end);
                    state.end += 1;
                    state.bytes += record.value.len() + RECORD_OVERHEAD_BYTES;
                    state.records.push(record);
                    if state.bytes >= limits.batch_bytes_max {
                        state.flush(partition, store, &mut batch);
                    }
                }
                answers.push(Answer::Append(done, offsets, permit));
            }
            Job::Commit { group, at, offset, done } => {
                batch.insert(&store.meta, group_key(&group, &at), offset.to_be_bytes());
                answers.push(Answer::Commit(done, group, at, offset));
            }
            Job::Stop => {}
        }
    }
    for ((_, partition), state) in &mut pending {
        state.flush(*partition, store, &mut batch);
    }
    let outcome = batch.commit().map_err(|error| WriteFault(Arc::new(error)));
    match &outcome {
        Ok(()) => publish(pending),
        // The store stays closed for writes after this, so offsets that were given out here are not used again.
        Err(fault) => tracing::error!(error = ?fault, "embedded log does not take writes any more"),
    }
    for answer in answers {
        // Whoever does not listen any more was cancelled: that append or commit has happened all the same.
        match answer {
            Answer::Append(done, offsets, permit) => {
                drop(permit);
                let _ = done.send(outcome.clone().map(|()| offsets));
            }
            Answer::Commit(done, group, at, offset) => {
                if outcome.is_ok() {
                    lock(&catalog.committed).entry(group).or_default().insert(at, offset);
                }
                let _ = done.send(outcome.clone());
            }
        }
    }
}

fn begin(topic: &Arc<Topic>, partition: u32) -> Pending {
    let state = lock(&topic.partitions[partition as usize]);
    Pending {
        topic: Arc::clone(topic),
        end: state.end,
        base: state.end,
        bytes: 0,
        records: Vec::new(),
        open: state.open,
        closed: Vec::new(),
    }
}

/// Makes durable records visible and wakes who waits for them.
fn publish(pending: BTreeMap<(u32, u32), Pending>) {
    let mut touched = HashMap::new();
    for ((id, partition), done) in pending {
        let mut state = lock(&done.topic.partitions[partition as usize]);
        state.end = done.end;
        state.open = done.open;
        state.spans.extend(done.closed);
        drop(state);
        touched.insert(id, done.topic);
    }
    for topic in touched.into_values() {
        topic.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}
