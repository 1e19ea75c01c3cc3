//! The thread of one group member: polls librdkafka without pause, so that the group never takes us for dead, and moves
//! records into a bounded buffer from which [`super::consume`] serves the reader.
//!
//! - The rebalance callback only notes what happened; this loop answers it. So a revocation can wait for its release
//!   while polling goes on.
//! - A partition is assigned paused. `start` makes it *seek*, and only then records are taken; whatever comes before that,
//!   or below the offset that is due, is dropped. librdkafka discards what it had fetched when a seek begins.
//! - A full buffer stops polling for [`FULL_BUFFER_WAIT`] at most; a reader slower than that has its partitions
//!   paused, and they seek back to where it is once there is room. Pausing at once would throw away what librdkafka has
//!   prefetched each time a reader is a little slower than the broker, which is the normal state when catching up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::owned::{Handover, Part, Phase, RECORD_OVERHEAD_BYTES, Shared};
use super::rebalance::{MemberContext, Rebalance};
use super::{lock, to_list};
use crate::{ConsumerEvent, LogError, Record, TopicPartition};

/// How long a full buffer may keep us from polling. Rebalances wait that long too, so it is short.
const FULL_BUFFER_WAIT: Duration = Duration::from_millis(200);
/// Poll time when nothing but records is awaited.
const CALM: Duration = Duration::from_millis(100);
/// Poll time while a start, a release or room is awaited: these come from other threads and do not end a poll.
const ALERT: Duration = Duration::from_millis(10);
/// Records taken from librdkafka between two looks at everything else.
const RECORDS_PER_TURN: usize = 2000;
/// For requests that the thread itself makes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a seek that did not work is tried again.
const SEEK_RETRY: Duration = Duration::from_millis(100);

pub(super) type Member = BaseConsumer<MemberContext>;

/// Runs until the reader's side is dropped or the group cannot go on.
pub(super) fn run(consumer: Arc<Member>, shared: &Shared, topics: &[Arc<str>], group: &str) {
    let mut thread = Thread { consumer, shared, topics, group, paused: false };
    while !lock(&shared.state).stop {
        if !thread.turn() {
            break;
        }
    }
    thread.consumer.context().closing.store(true, Ordering::SeqCst);
    // A rebalance that is under way must be answered, or closing would wait for it.
    let handover = {
        let mut state = lock(&shared.state);
        state.ended = true;
        state.handover.take()
    };
    if let Some(handover) = handover {
        thread.unassign(&handover.list);
    }
    for rebalance in lock(&thread.consumer.context().rebalances).drain(..) {
        match rebalance {
            Rebalance::Assign(list) => drop(thread.consumer.incremental_assign(&list)),
            Rebalance::Revoke(list, _) => thread.unassign(&list),
        }
    }
    shared.readable.notify_one();
    // Leaves the group, unless a commit is still under way; then that does when it is done.
    drop(thread.consumer);
}

struct Thread<'a> {
    consumer: Arc<Member>,
    shared: &'a Shared,
    topics: &'a [Arc<str>],
    group: &'a str,
    /// All running partitions are paused because the reader is slow.
    paused: bool,
}

/// Consecutive records of one partition.
struct Run {
    at: TopicPartition,
    records: Vec<Record>,
}

impl Thread<'_> {
    /// One round; false if the group cannot go on.
    fn turn(&mut self) -> bool {
        self.answer_rebalances();
        self.finish_handover();
        self.seek_started();
        if !self.wait_for_room() {
            self.pause_running();
        }
        let calm = {
            let state = lock(&self.shared.state);
            !self.paused
                && state.handover.is_none()
                && state.owned.values().all(|p| matches!(p.phase, Phase::Running { .. }))
        };
        self.poll(if calm { CALM } else { ALERT })
    }

    fn answer_rebalances(&mut self) {
        loop {
            // One at a time, and none before the handover under way is finished: the group waits for our answer.
            if lock(&self.shared.state).handover.is_some() {
                return;
            }
            let Some(rebalance) = lock(&self.consumer.context().rebalances).pop_front() else {
                return;
            };
            match rebalance {
                Rebalance::Assign(list) => {
                    if let Err(error) = self.assign(&list) {
                        tracing::warn!(group = self.group, error = %error, "committed offsets are not known yet, asking again");
                        lock(&self.consumer.context().rebalances).push_front(Rebalance::Assign(list));
                        return;
                    }
                }
                Rebalance::Revoke(list, lost) => self.revoke(list, lost),
            }
        }
    }

    fn assign(&mut self, list: &TopicPartitionList) -> Result<(), KafkaError> {
        if list.count() == 0 {
            return self.consumer.incremental_assign(list);
        }
        // Not knowing an offset must not look like having none: that would begin at the oldest record.
        let committed = self.consumer.committed_offsets(list.clone(), REQUEST_TIMEOUT)?;
        let mut partitions = Vec::new();
        let mut begin = TopicPartitionList::new();
        for element in committed.elements() {
            element.error()?;
            let offset = match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            };
            // Where librdkafka stands until `start`; an offset that exists, lest it reports a reset.
            let stand = offset.map_or(Offset::End, |offset| Offset::Offset(offset as i64));
            begin.add_partition_offset(element.topic(), element.partition(), stand)?;
            partitions.push((self.name(element.topic(), element.partition()), offset));
        }
        self.consumer.incremental_assign(&begin)?;
        self.consumer.pause(&begin)?;
        let mut state = lock(&self.shared.state);
        for (at, _) in &partitions {
            state.owned.insert(at.clone(), Part { phase: Phase::Assigned, records: VecDeque::new() });
        }
        tracing::info!(group = self.group, count = partitions.len(), "partitions assigned");
        state.events.push_back(Ok(ConsumerEvent::Assigned { partitions }));
        drop(state);
        self.shared.readable.notify_one();
        Ok(())
    }

    fn revoke(&mut self, list: TopicPartitionList, lost: bool) {
        let partitions: Vec<_> = list.elements().iter().map(|e| self.name(e.topic(), e.partition())).collect();
        if partitions.is_empty() {
            self.unassign(&list);
            return;
        }
        let mut state = lock(&self.shared.state);
        for at in &partitions {
            state.clear(at);
            if let Some(part) = state.owned.get_mut(at) {
                part.phase = Phase::Revoked;
            }
        }
        if lost {
            tracing::warn!(group = self.group, count = partitions.len(), "partitions lost");
            partitions.iter().for_each(|at| drop(state.owned.remove(at)));
            state.events.push_back(Ok(ConsumerEvent::Lost { partitions }));
            drop(state);
            self.unassign(&list);
        } else {
            tracing::info!(group = self.group, count = partitions.len(), "partitions revoked");
            let until = Instant::now() + self.shared.handover_timeout;
            let waiting = partitions.iter().cloned().collect();
            state.handover = Some(Handover { waiting, until, list });
            state.events.push_back(Ok(ConsumerEvent::Revoked { partitions }));
        }
        self.shared.readable.notify_one();
    }

    fn finish_handover(&mut self) {
        let mut state = lock(&self.shared.state);
        let Some(handover) = &state.handover else { return };
        let lost = self.consumer.assignment_lost();
        if !lost && !handover.waiting.is_empty() && Instant::now() < handover.until {
            return;
        }
        if !lost && !handover.waiting.is_empty() {
            tracing::warn!(group = self.group, "revoked partitions were not released in time and are given up");
        }
        let Some(handover) = state.handover.take() else { return };
        let partitions: Vec<_> = handover.list.elements().iter().map(|e| self.name(e.topic(), e.partition())).collect();
        partitions.iter().for_each(|at| drop(state.owned.remove(at)));
        if lost && !handover.waiting.is_empty() {
            let partitions = handover.waiting.into_iter().collect();
            state.events.push_back(Ok(ConsumerEvent::Lost { partitions }));
            self.shared.readable.notify_one();
        }
        drop(state);
        self.unassign(&handover.list);
    }

    fn unassign(&self, list: &TopicPartitionList) {
        if let Err(error) = self.consumer.incremental_unassign(list) {
            tracing::warn!(group = self.group, error = %error, "cannot hand partitions back");
        }
    }

    /// Seeks partitions that were started, or stopped for want of room.
    fn seek_started(&mut self) {
        if self.paused {
            return;
        }
        let now = Instant::now();
        let due: Vec<(TopicPartition, u64, u32)> = lock(&self.shared.state)
            .owned
            .iter()
            .filter_map(|(at, part)| match part.phase {
                Phase::Seek { offset, not_before, tries } if not_before.is_none_or(|at| at <= now) => {
                    Some((at.clone(), offset, tries))
                }
                _ => None,
            })
            .collect();
        for (at, offset, tries) in due {
            let outcome = self.seek(&at, offset, tries);
            let mut state = lock(&self.shared.state);
            let Some(part) = state.owned.get_mut(&at) else { continue };
            // Started elsewhere meanwhile: that seek is still to come.
            if !matches!(part.phase, Phase::Seek { offset: wanted, .. } if wanted == offset) {
                continue;
            }
            match outcome {
                Seek::Done => part.phase = Phase::Running { next: offset },
                Seek::Again => {
                    let not_before = Some(Instant::now() + SEEK_RETRY);
                    part.phase = Phase::Seek { offset, not_before, tries: tries + 1 };
                }
                Seek::Gone(start) => {
                    part.phase = Phase::Gone;
                    state.events.push_back(Err(LogError::Gone { partition: at, wanted: offset, start }));
                    self.shared.readable.notify_one();
                }
            }
        }
    }

    fn seek(&self, at: &TopicPartition, offset: u64, tries: u32) -> Seek {
        let partition = at.partition as i32;
        let attempt = || -> Result<Seek, KafkaError> {
            let (low, high) = self.consumer.fetch_watermarks(&at.topic, partition, REQUEST_TIMEOUT)?;
            if (offset as i64) < low {
                return Ok(Seek::Gone(low as u64));
            }
            if (offset as i64) > high {
                // Asked for more than there is: the records will come. librdkafka would call it an error.
                return Ok(Seek::Again);
            }
            let list = to_list([(at, Offset::Offset(offset as i64))])?;
            // A fetch that ran into retention leaves the partition where a seek does not reach it; assigned anew it works.
            // (Also right after an assignment a seek can come too early; hence not at the first tries.)
            if tries > 5 && tries.is_multiple_of(5) {
                self.consumer.incremental_unassign(&list)?;
                self.consumer.incremental_assign(&list)?;
            } else {
                self.consumer.seek(&at.topic, partition, Offset::Offset(offset as i64), REQUEST_TIMEOUT)?;
            }
            self.consumer.resume(&list)?;
            Ok(Seek::Done)
        };
        attempt().unwrap_or_else(|error| {
            tracing::debug!(partition = %at, offset, error = %error, "partition cannot start yet, trying again");
            Seek::Again
        })
    }

    /// False if the reader left no room in time.
    fn wait_for_room(&mut self) -> bool {
        let full = self.shared.buffer_bytes_max / 2;
        let mut state = lock(&self.shared.state);
        if self.paused {
            if state.bytes <= full / 2 {
                self.paused = false;
                for part in state.owned.values_mut() {
                    if let Phase::Running { next } = part.phase {
                        part.phase = Phase::Seek { offset: next, not_before: None, tries: 0 };
                    }
                }
                drop(state);
                self.seek_started();
            }
            return true;
        }
        if state.bytes < full || state.stop || state.handover.is_some() {
            return state.bytes < full;
        }
        let until = Instant::now() + FULL_BUFFER_WAIT;
        while state.bytes >= full && !state.stop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.room.wait_timeout(state, left);
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        true
    }

    fn pause_running(&mut self) {
        let state = lock(&self.shared.state);
        let running = state.owned.iter().filter(|(_, part)| matches!(part.phase, Phase::Running { .. }));
        let paused = to_list(running.map(|(at, _)| (at, Offset::Invalid))).and_then(|list| self.consumer.pause(&list));
        match paused {
            Ok(()) => self.paused = true,
            Err(error) => tracing::warn!(group = self.group, error = %error, "cannot pause partitions"),
        }
    }

    /// Takes what has arrived; false if the group cannot go on.
    fn poll(&mut self, wait: Duration) -> bool {
        let mut runs: Vec<Run> = Vec::new();
        let mut bytes = 0;
        let mut wait = wait;
        let mut go_on = true;
        for _ in 0..RECORDS_PER_TURN {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => bytes += self.take(&message, &mut runs),
                Some(Err(error)) => {
                    // In order: what came before the error first.
                    self.deliver(std::mem::take(&mut runs));
                    go_on = self.on_error(&error);
                    break;
                }
            }
            if bytes >= self.shared.buffer_bytes_max / 8 {
                break;
            }
            wait = Duration::ZERO;
        }
        self.deliver(runs);
        go_on
    }

    fn take(&self, message: &BorrowedMessage<'_>, runs: &mut Vec<Run>) -> usize {
        let value = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        let bytes = value.len() + RECORD_OVERHEAD_BYTES;
        let timestamp_ms = message.timestamp().to_millis().unwrap_or(0);
        let record = Record { offset: message.offset() as u64, timestamp_ms, value };
        let partition = message.partition() as u32;
        match runs.last_mut() {
            Some(run) if run.at.partition == partition && *run.at.topic == *message.topic() => run.records.push(record),
            _ => runs.push(Run { at: self.name(message.topic(), message.partition()), records: vec![record] }),
        }
        bytes
    }

    fn deliver(&self, runs: Vec<Run>) {
        if runs.is_empty() {
            return;
        }
        let mut state = lock(&self.shared.state);
        let mut added = 0;
        for run in runs {
            let Some(part) = state.owned.get_mut(&run.at) else {
                continue;
            };
            let Phase::Running { next } = &mut part.phase else {
                continue;
            };
            for record in run.records {
                if record.offset >= *next {
                    *next = record.offset + 1;
                    added += record.value.len() + RECORD_OVERHEAD_BYTES;
                    part.records.push_back(record);
                }
            }
        }
        state.bytes += added;
        drop(state);
        if added > 0 {
            self.shared.readable.notify_one();
        }
    }

    fn on_error(&mut self, error: &KafkaError) -> bool {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match error.rdkafka_error_code() {
            // Some partition's position is gone, but not which one is said: all look again where they may stand.
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) if !fatal => {
                let mut state = lock(&self.shared.state);
                for part in state.owned.values_mut() {
                    if let Phase::Running { next } = part.phase {
                        part.phase = Phase::Seek { offset: next, not_before: None, tries: 0 };
                    }
                }
                true
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
                self.report(error);
                true
            }
            Some(_) | None if fatal => {
                self.report(error);
                false
            }
            // Brokers away, leaders moving: librdkafka goes on by itself.
            Some(_) | None => {
                tracing::debug!(group = self.group, error = %error, "kafka consumer goes on after an error");
                true
            }
        }
    }

    fn report(&self, error: &KafkaError) {
        let source = error.clone().into();
        let error = LogError::Operation { what: "read records", subject: self.group.to_owned(), source };
        lock(&self.shared.state).events.push_back(Err(error));
        self.shared.readable.notify_one();
    }

    fn name(&self, topic: &str, partition: i32) -> TopicPartition {
        let known = self.topics.iter().find(|known| ***known == *topic);
        TopicPartition { topic: known.map_or_else(|| topic.into(), Arc::clone), partition: partition as u32 }
    }
}

enum Seek {
    Done,
    Again,
    Gone(u64),
}
