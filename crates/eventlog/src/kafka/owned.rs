//! What a member owns and what waits for its reader: shared between the polling thread and the reader's side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{ConsumerEvent, LogError, Record, TopicPartition};

/// What a waiting record costs beside its bytes.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 64;

/// What the thread and the reader share.
pub(super) struct Shared {
    pub state: Mutex<State>,
    /// Something for the reader.
    pub readable: Notify,
    /// Something for the thread while it waits for room.
    pub room: Condvar,
    pub buffer_bytes_max: usize,
    pub handover_timeout: Duration,
}

#[derive(Default)]
pub(super) struct State {
    pub owned: BTreeMap<TopicPartition, Part>,
    pub events: VecDeque<Result<ConsumerEvent, LogError>>,
    /// Bytes in all parts' records.
    pub bytes: usize,
    pub handover: Option<Handover>,
    pub stop: bool,
    pub ended: bool,
}

/// A partition that is ours.
pub(super) struct Part {
    pub phase: Phase,
    pub records: VecDeque<Record>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for `start`.
    Assigned,
    /// Shall deliver from `offset`; not tried before `not_before`.
    Seek { offset: u64, not_before: Option<Instant>, tries: u32 },
    /// Delivers; the next record wanted.
    Running { next: u64 },
    /// Revoked, not yet released.
    Revoked,
    /// Its records are gone; it waits for another `start`.
    Gone,
}

/// Revoked partitions on their way out.
pub(super) struct Handover {
    pub waiting: BTreeSet<TopicPartition>,
    pub until: Instant,
    /// All of them, as librdkafka wants them back.
    pub list: TopicPartitionList,
}

impl State {
    /// Forgets what waits of a partition.
    pub fn clear(&mut self, at: &TopicPartition) {
        if let Some(part) = self.owned.get_mut(at) {
            let waiting: usize = part.records.iter().map(|r| r.value.len() + RECORD_OVERHEAD_BYTES).sum();
            self.bytes -= waiting;
            part.records.clear();
        }
    }
}
