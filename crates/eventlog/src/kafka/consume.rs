//! The reader's side of a group member. The work is done by the thread in [`super::member`].

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;

use super::member::{self, Member};
use super::owned::{Part, Phase, RECORD_OVERHEAD_BYTES, Shared, State};
use super::rebalance::MemberContext;
use super::{Config, lock, settings, to_list};
use crate::{Consumer, ConsumerEvent, ConsumerOptions, LogError, LogFault, Record, TopicPartition};

/// How long a commit is tried again while the group is between two generations.
const COMMIT_TRIES: u32 = 100;
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct KafkaConsumer {
    shared: Arc<Shared>,
    /// Weak, because whoever drops the last one blocks until the group is left: that shall be the thread.
    consumer: Weak<Member>,
    group: String,
    batch_records_max: usize,
    batch_bytes_max: usize,
    last: Mutex<Option<TopicPartition>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the consumer has left the group")]
struct Left;

impl KafkaConsumer {
    /// Joins the group; its topics exist. Blocks.
    pub fn join(config: &Config, options: ConsumerOptions) -> Result<KafkaConsumer, LogError> {
        let fault =
            |source: LogFault| LogError::Operation { what: "join the group", subject: options.group.clone(), source };
        let client = settings::member(config, &options);
        let consumer = Member::from_config_and_context(&client, MemberContext::new()).map_err(|e| fault(e.into()))?;
        let names: Vec<&str> = options.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(|error| fault(error.into()))?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            readable: Notify::new(),
            room: Condvar::new(),
            buffer_bytes_max: options.buffer_bytes_max,
            handover_timeout: options.handover_timeout,
        });
        let consumer = Arc::new(consumer);
        let weak = Arc::downgrade(&consumer);
        let topics: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
        let (for_thread, group) = (Arc::clone(&shared), options.group.clone());
        std::thread::Builder::new()
            .name("eventlog-consumer".to_owned())
            .spawn(move || member::run(consumer, &for_thread, &topics, &group))
            .map_err(|error| fault(error.into()))?;
        let ConsumerOptions { group, batch_records_max, batch_bytes_max, .. } = options;
        let last = Mutex::default();
        Ok(KafkaConsumer { shared, consumer: weak, group, batch_records_max, batch_bytes_max, last })
    }

    fn take(&self) -> Option<Result<ConsumerEvent, LogError>> {
        let mut state = lock(&self.shared.state);
        if let Some(event) = state.events.pop_front() {
            return Some(event);
        }
        let mut last = lock(&self.last);
        // In the order of partitions, beginning behind the one that was served last.
        let waiting = |(_, part): &(&TopicPartition, &Part)| !part.records.is_empty();
        let mut after = state.owned.iter().filter(waiting).filter(|(at, _)| Some(*at) > last.as_ref());
        let next = after.next().or_else(|| state.owned.iter().find(waiting)).map(|(at, _)| at.clone());
        let Some(partition) = next else {
            let source = Left.into();
            let ended = || LogError::Operation { what: "read records", subject: self.group.clone(), source };
            return state.ended.then(|| Err(ended()));
        };
        let part = state.owned.get_mut(&partition)?;
        let mut bytes = 0;
        let has_room = |record: &&Record| {
            let had = bytes;
            bytes += record.value.len();
            had < self.batch_bytes_max
        };
        let count = part.records.iter().take(self.batch_records_max).take_while(has_room).count();
        let records: Vec<_> = part.records.drain(..count).collect();
        state.bytes -= records.iter().map(|record| record.value.len() + RECORD_OVERHEAD_BYTES).sum::<usize>();
        drop(state);
        self.shared.room.notify_one();
        *last = Some(partition.clone());
        Some(Ok(ConsumerEvent::Batch { partition, records }))
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn next(&self) -> Result<ConsumerEvent, LogError> {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.shared.readable.notified().await;
        }
    }

    fn start(&self, at: &TopicPartition, offset: u64) -> Result<(), LogError> {
        let mut state = lock(&self.shared.state);
        state.clear(at);
        match state.owned.get_mut(at) {
            None | Some(Part { phase: Phase::Revoked, .. }) => Err(LogError::NotOwned { partition: at.clone() }),
            Some(part) => {
                part.phase = Phase::Seek { offset, not_before: None, tries: 0 };
                drop(state);
                self.shared.room.notify_one();
                Ok(())
            }
        }
    }

    async fn commit(&self, at: &TopicPartition, offset: u64) -> Result<(), LogError> {
        let not_owned = || LogError::NotOwned { partition: at.clone() };
        let fault =
            |source: LogFault| LogError::Operation { what: "commit an offset", subject: self.group.clone(), source };
        for _ in 0..COMMIT_TRIES {
            if !lock(&self.shared.state).owned.contains_key(at) {
                return Err(not_owned());
            }
            let consumer = self.consumer.upgrade().ok_or_else(not_owned)?;
            let list = to_list([(at, Offset::Offset(offset as i64))]).map_err(|error| fault(error.into()))?;
            let committing = tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync));
            let outcome = committing.await.map_err(|panicked| fault(panicked.into()))?;
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) => match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::UnknownMemberId
                        | RDKafkaErrorCode::IllegalGeneration
                        | RDKafkaErrorCode::FencedInstanceId
                        | RDKafkaErrorCode::AssignmentLost,
                    ) => return Err(not_owned()),
                    // The group is being rebuilt, or its coordinator moves: ours until told otherwise.
                    Some(
                        RDKafkaErrorCode::RebalanceInProgress
                        | RDKafkaErrorCode::CoordinatorLoadInProgress
                        | RDKafkaErrorCode::CoordinatorNotAvailable
                        | RDKafkaErrorCode::NotCoordinator
                        | RDKafkaErrorCode::WaitingForCoordinator,
                    ) => tokio::time::sleep(COMMIT_PAUSE).await,
                    Some(_) | None => return Err(fault(error.into())),
                },
            }
        }
        Err(fault(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress).into()))
    }

    fn released(&self, partitions: &[TopicPartition]) {
        let mut state = lock(&self.shared.state);
        if let Some(handover) = &mut state.handover {
            handover.waiting.retain(|at| !partitions.contains(at));
        }
        drop(state);
        self.shared.room.notify_one();
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.room.notify_one();
    }
}
