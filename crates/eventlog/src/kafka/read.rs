//! Reading without a group: a few consumers that are kept, each standing somewhere in a partition.
//!
//! Reading on from where an earlier call ended finds the consumer that stands there, with what it has prefetched; any
//! other place moves an idle one. No thread waits while a reader waits for records.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::client::Logged;
use super::{lock, to_list};
use crate::{LogError, LogFault, Record, TopicPartition};

/// Bytes that one `read` answers at most (and one record more).
const READ_BYTES_MAX: usize = 8 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at the end of a partition by a reader that stands beyond it.
const BEYOND_END_PAUSE: Duration = Duration::from_millis(100);

impl ConsumerContext for Logged {}

type Inner = StreamConsumer<Logged>;

/// A consumer that nobody uses now.
struct Idle {
    consumer: Arc<Inner>,
    /// Where its next record is; `None` if that is not known.
    stands: Option<(TopicPartition, u64)>,
}

pub(super) struct Readers {
    config: ClientConfig,
    /// The one used last is at the end.
    idle: Mutex<Vec<Idle>>,
    turns: Semaphore,
}

/// A consumer in use; goes back to the idle ones however the reading ends.
struct Lease<'a> {
    readers: &'a Readers,
    consumer: Arc<Inner>,
    stands: Option<(TopicPartition, u64)>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let idle = Idle { consumer: Arc::clone(&self.consumer), stands: self.stands.take() };
        lock(&self.readers.idle).push(idle);
    }
}

enum Moved {
    Ready,
    BeyondEnd,
    Gone(u64),
}

impl Readers {
    /// - `readers_max`: reads at the same time; more wait for their turn.
    pub fn new(config: ClientConfig, readers_max: usize) -> Readers {
        Readers { config, idle: Mutex::default(), turns: Semaphore::new(readers_max.max(1)) }
    }

    pub async fn read(
        &self,
        at: &TopicPartition,
        offset: u64,
        records_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let fault = |source: LogFault| LogError::Operation { what: "read", subject: at.to_string(), source };
        let until = Instant::now() + wait;
        let _turn = self.turns.acquire().await.map_err(|error| fault(error.into()))?;
        let mut lease = self.lease(at, offset).await.map_err(fault)?;
        loop {
            if lease.stands.is_none() {
                match self.move_to(&lease.consumer, at, offset).await.map_err(fault)? {
                    Moved::Ready => {}
                    Moved::Gone(start) => {
                        return Err(LogError::Gone { partition: at.clone(), wanted: offset, start });
                    }
                    Moved::BeyondEnd => {
                        tokio::time::sleep_until(until.min(Instant::now() + BEYOND_END_PAUSE)).await;
                        if Instant::now() >= until {
                            return Ok(Vec::new());
                        }
                        continue;
                    }
                }
            }
            // Unknown until we are through: a cancelled read may have taken records that nobody saw.
            lease.stands = None;
            match take(&lease.consumer, at, offset, records_max, until).await {
                Ok(records) => {
                    let next = records.last().map_or(offset, |record: &Record| record.offset + 1);
                    lease.stands = Some((at.clone(), next));
                    return Ok(records);
                }
                // Retention or a restored broker moved the limits: look again.
                Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                )) => {}
                Err(error) => return Err(fault(error.into())),
            }
        }
    }

    async fn lease(&self, at: &TopicPartition, offset: u64) -> Result<Lease<'_>, LogFault> {
        let idle = {
            let mut idle = lock(&self.idle);
            let there =
                |idle: &Idle| idle.stands.as_ref().is_some_and(|(stands, next)| stands == at && *next == offset);
            match idle.iter().position(there) {
                Some(found) => Some(idle.remove(found)),
                // A new one as long as there may be more, so that two readers do not push each other about.
                None if idle.len() < self.turns.available_permits() + 1 => None,
                None => Some(Idle { stands: None, ..idle.remove(0) }),
            }
        };
        if let Some(Idle { consumer, stands }) = idle {
            return Ok(Lease { readers: self, consumer, stands });
        }
        let config = self.config.clone();
        let create = move || Inner::from_config_and_context(&config, Logged { part: "reader" });
        let runtime = tokio::runtime::Handle::current();
        let consumer = tokio::task::spawn_blocking(move || {
            let _runtime = runtime.enter();
            create()
        })
        .await??;
        Ok(Lease { readers: self, consumer: Arc::new(consumer), stands: None })
    }

    async fn move_to(&self, consumer: &Arc<Inner>, at: &TopicPartition, offset: u64) -> Result<Moved, LogFault> {
        let (consumer, at) = (Arc::clone(consumer), at.clone());
        let moving = move || -> Result<Moved, KafkaError> {
            let (low, high) = consumer.fetch_watermarks(&at.topic, at.partition as i32, REQUEST_TIMEOUT)?;
            if (offset as i64) < low {
                return Ok(Moved::Gone(low as u64));
            }
            if (offset as i64) > high {
                return Ok(Moved::BeyondEnd);
            }
            consumer.assign(&to_list([(&at, Offset::Offset(offset as i64))])?)?;
            Ok(Moved::Ready)
        };
        Ok(tokio::task::spawn_blocking(moving).await??)
    }

    /// Lets go of all idle consumers. Blocks.
    pub fn close(&self) {
        self.turns.close();
        let idle = std::mem::take(&mut *lock(&self.idle));
        drop(idle);
    }
}

async fn take(
    consumer: &Inner,
    at: &TopicPartition,
    offset: u64,
    records_max: usize,
    until: Instant,
) -> Result<Vec<Record>, KafkaError> {
    let mut records = Vec::new();
    let (mut next, mut bytes) = (offset, 0);
    while records.len() < records_max && bytes < READ_BYTES_MAX {
        let message = if records.is_empty() {
            match tokio::time::timeout_at(until, consumer.recv()).await {
                Ok(message) => message,
                Err(_) => break,
            }
        } else {
            match consumer.recv().now_or_never() {
                Some(message) => message,
                None => break,
            }
        };
        match message {
            Ok(message) => {
                let ours = message.topic() == &*at.topic && message.partition() == at.partition as i32;
                if ours && message.offset() as u64 >= next {
                    let record = to_record(&message);
                    next = record.offset + 1;
                    bytes += record.value.len();
                    records.push(record);
                }
            }
            // Brokers away, leaders moving: librdkafka goes on by itself, the deadline decides.
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve,
            )) => {}
            Err(error) if records.is_empty() => return Err(error),
            // What was read is handed out; the error comes again.
            Err(_) => break,
        }
    }
    Ok(records)
}

fn to_record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        offset: message.offset() as u64,
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
    }
}
