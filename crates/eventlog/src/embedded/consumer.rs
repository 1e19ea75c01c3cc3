//! One member of a group: takes what the group tells it and reads its partitions on demand, so nothing waits in memory
//! for a slow reader.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::select_all;
use tokio::sync::{Mutex, Notify, oneshot, watch};
use tokio::time::Instant;

use super::group::{Group, MemberId, Position};
use super::store::Topic;
use super::writer::Job;
use super::{Shared, lock};
use crate::{Consumer, ConsumerEvent, ConsumerOptions, LogError, Record, TopicPartition};

pub(super) struct EmbeddedConsumer {
    shared: Arc<Shared>,
    id: MemberId,
    group: String,
    batch_records_max: usize,
    batch_bytes_max: usize,
    topics: Vec<Arc<Topic>>,
    wake: Arc<Notify>,
    /// Used by the one caller of `next`.
    waiting: Mutex<Waiting>,
}

struct Waiting {
    changed: Vec<watch::Receiver<u64>>,
    /// The partition served last: the others come first next time.
    last: Option<TopicPartition>,
}

impl EmbeddedConsumer {
    pub fn join(shared: Arc<Shared>, options: ConsumerOptions, topics: Vec<Arc<Topic>>) -> EmbeddedConsumer {
        let id = shared.last_member.fetch_add(1, Ordering::Relaxed) + 1;
        let counts = topics.iter().map(|topic| (Arc::clone(&topic.name), topic.partitions.len() as u32)).collect();
        let changed = topics.iter().map(|topic| topic.changed.subscribe()).collect();
        let (group, batch_records_max) = (options.group.clone(), options.batch_records_max);
        // Nothing waits here: what is read is handed out at once.
        let batch_bytes_max = options.batch_bytes_max.min(options.buffer_bytes_max);
        let wake = {
            let mut groups = lock(&shared.groups);
            let joined = groups.entry(group.clone()).or_default();
            joined.join(id, options, counts, Instant::now(), |at| shared.committed(&group, at))
        };
        let waiting = Mutex::new(Waiting { changed, last: None });
        EmbeddedConsumer { shared, id, group, batch_records_max, batch_bytes_max, topics, wake, waiting }
    }

    fn with_group<T>(&self, act: impl FnOnce(&mut Group, Instant, &dyn Fn(&TopicPartition) -> Option<u64>) -> T) -> T {
        let mut groups = lock(&self.shared.groups);
        let group = groups.entry(self.group.clone()).or_default();
        act(group, Instant::now(), &|at| self.shared.committed(&self.group, at))
    }

    fn topic(&self, at: &TopicPartition) -> Option<&Arc<Topic>> {
        self.topics.iter().find(|topic| topic.name == at.topic && (at.partition as usize) < topic.partitions.len())
    }

    /// The next event, or the next partition that has something to read, or when to look again.
    fn due(&self, last: Option<&TopicPartition>) -> Due {
        self.with_group(|group, now, committed| {
            let again = group.expire(now, committed);
            let Some(member) = group.member(self.id) else {
                return Due::Later(None);
            };
            if let Some(event) = member.events.pop_front() {
                return Due::Event(event);
            }
            let readable = |at: &TopicPartition, position: &Position| {
                let Some(topic) = self.topic(at) else { return false };
                let state = lock(&topic.partitions[at.partition as usize]);
                position.next < state.end || position.next < state.start
            };
            // In the order of partitions, beginning behind the one that was served last.
            let (before, after): (Vec<_>, Vec<_>) = member.positions.iter().partition(|(at, _)| Some(*at) <= last);
            let next = after.into_iter().chain(before).find(|(at, position)| readable(at, position));
            match next {
                Some((at, position)) => Due::Read(at.clone(), *position),
                None => Due::Later(again),
            }
        })
    }

    async fn read(&self, at: &TopicPartition, position: Position) -> Option<Result<ConsumerEvent, LogError>> {
        let topic = Arc::clone(self.topic(at)?);
        let (partition, records_max, bytes_max) = (at.partition, self.batch_records_max, self.batch_bytes_max);
        let read = self.shared.blocking("read", &at.topic, move |store| {
            store.read(&topic, partition, position.next, records_max, bytes_max)
        });
        let outcome = read.await;
        // No await from here on: what is taken is handed out.
        self.with_group(|group, _, _| {
            let current = group.delivers(self.id, at);
            let positions = &mut group.member(self.id)?.positions;
            if !current || positions.get(at) != Some(&position) {
                return None;
            }
            match outcome {
                Ok(records) => {
                    let next = records.last().map(|record: &Record| record.offset + 1)?;
                    positions.insert(at.clone(), Position { next, ..position });
                    Some(Ok(ConsumerEvent::Batch { partition: at.clone(), records }))
                }
                Err(error) => {
                    if matches!(error, LogError::Gone { .. }) {
                        positions.remove(at);
                    }
                    Some(Err(error))
                }
            }
        })
    }
}

enum Due {
    Event(ConsumerEvent),
    Read(TopicPartition, Position),
    Later(Option<Instant>),
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next(&self) -> Result<ConsumerEvent, LogError> {
        let mut waiting = self.waiting.lock().await;
        loop {
            self.shared.check_open("read", &self.group)?;
            // Marked as seen before looking: what comes after that wakes us.
            waiting.changed.iter_mut().for_each(|changed| drop(changed.borrow_and_update()));
            match self.due(waiting.last.as_ref()) {
                Due::Event(event) => return Ok(event),
                Due::Read(at, position) => {
                    if let Some(outcome) = self.read(&at, position).await {
                        waiting.last = Some(at);
                        return outcome;
                    }
                }
                Due::Later(again) => {
                    let appended = select_all(waiting.changed.iter_mut().map(|changed| Box::pin(changed.changed())));
                    tokio::select! {
                        () = self.wake.notified() => {}
                        _ = appended => {}
                        () = sleep_until(again) => {}
                    }
                }
            }
        }
    }

    fn start(&self, at: &TopicPartition, offset: u64) -> Result<(), LogError> {
        let started = self.with_group(|group, _, _| group.start(self.id, at, offset));
        if started { Ok(()) } else { Err(LogError::NotOwned { partition: at.clone() }) }
    }

    async fn commit(&self, at: &TopicPartition, offset: u64) -> Result<(), LogError> {
        let owned = self.with_group(|group, now, committed| {
            group.expire(now, committed);
            group.owns(self.id, at)
        });
        if !owned {
            return Err(LogError::NotOwned { partition: at.clone() });
        }
        let fault = |source| LogError::Operation { what: "commit an offset", subject: self.group.clone(), source };
        let (done, answer) = oneshot::channel();
        self.shared
            .send(Job::Commit { group: self.group.clone(), at: at.clone(), offset, done })
            .map_err(|closed| fault(closed.into()))?;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(fault(error.into())),
            Err(_) => Err(fault(super::Closed.into())),
        }
    }

    fn released(&self, partitions: &[TopicPartition]) {
        self.with_group(|group, now, committed| group.release(self.id, partitions, now, committed));
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        let mut groups = lock(&self.shared.groups);
        if let Some(group) = groups.get_mut(&self.group) {
            group.leave(self.id, Instant::now(), |at| self.shared.committed(&self.group, at));
            if group.is_empty() {
                groups.remove(&self.group);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
