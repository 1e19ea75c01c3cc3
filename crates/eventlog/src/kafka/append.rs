//! The producer side: one append is one set of records, awaited together.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::{Notify, Semaphore};

use super::client::Logged;
use crate::{AppendError, LogFault, NewRecord, RECORD_BYTES_MAX};

/// What a record costs in librdkafka's memory beside its bytes, roughly: its message structure.
const RECORD_OVERHEAD_BYTES: usize = 256;
/// How long to wait for room when librdkafka's queue is full all the same.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// One append on its way.
struct Flight {
    /// Records without an answer yet.
    open: AtomicUsize,
    /// Filled in as the answers come, in any order.
    offsets: Vec<AtomicI64>,
    /// The first failure.
    failure: OnceLock<KafkaError>,
    landed: Notify,
}

impl Flight {
    fn settle(&self, count: usize) {
        if count > 0 && self.open.fetch_sub(count, Ordering::AcqRel) == count {
            self.landed.notify_one();
        }
    }
}

/// A record's way back to its append.
pub(super) struct Ticket {
    flight: Arc<Flight>,
    index: usize,
}

struct Deliveries(Logged);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(message) => ticket.flight.offsets[ticket.index].store(message.offset(), Ordering::Relaxed),
            Err((error, _)) => drop(ticket.flight.failure.set(error.clone())),
        }
        ticket.flight.settle(1);
    }
}

type Inner = ThreadedProducer<Deliveries>;

/// The producer, replaced by a new one after a fatal error.
pub(super) struct Appender {
    config: ClientConfig,
    producer: RwLock<Option<Arc<Inner>>>,
    queue: Arc<Semaphore>,
    queue_bytes_max: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("the kafka log is closed")]
pub(super) struct Closed;

impl Appender {
    pub fn new(config: ClientConfig, queue_bytes_max: usize) -> Result<Appender, KafkaError> {
        let producer = RwLock::new(Some(connect(&config)?));
        let queue_bytes_max = queue_bytes_max.clamp(1, u32::MAX as usize);
        Ok(Appender { config, producer, queue: Arc::new(Semaphore::new(queue_bytes_max)), queue_bytes_max })
    }

    /// Sends the records and waits for all answers.
    pub async fn append(&self, topic: &str, records: &[NewRecord]) -> Result<Vec<u64>, AppendError> {
        let unavailable = |source: LogFault| AppendError::Unavailable { topic: topic.to_owned(), source };
        let bytes: usize = records.iter().map(|record| record.value.len() + RECORD_OVERHEAD_BYTES).sum();
        // An append larger than the whole budget may pass when it has the budget for itself.
        let room = bytes.min(self.queue_bytes_max) as u32;
        let producer = self.current().ok_or_else(|| unavailable(Closed.into()))?;
        let permit = Arc::clone(&self.queue).acquire_many_owned(room).await.map_err(|_| unavailable(Closed.into()))?;
        let flight = Arc::new(Flight {
            open: AtomicUsize::new(records.len()),
            offsets: records.iter().map(|_| AtomicI64::new(-1)).collect(),
            failure: OnceLock::new(),
            landed: Notify::new(),
        });
        // Should the caller stop waiting, the records that are sent still take memory until they land. The guard keeps
        // their room until then.
        let mut guard = LandingGuard { flight: Arc::clone(&flight), permit: Some(permit), unsent: records.len() };
        for (index, record) in records.iter().enumerate() {
            if let Err(error) = send(&producer, topic, record, &flight, index).await {
                // Neither this record nor those after it will be answered.
                let _ = flight.failure.set(error);
                flight.settle(std::mem::take(&mut guard.unsent));
                break;
            }
            guard.unsent -= 1;
        }
        while flight.open.load(Ordering::Acquire) > 0 {
            flight.landed.notified().await;
        }
        drop(guard);
        match flight.failure.get() {
            None => Ok(flight.offsets.iter().map(|offset| offset.load(Ordering::Relaxed) as u64).collect()),
            Some(error) => Err(self.explain(topic, records, error, &producer)),
        }
    }

    fn current(&self) -> Option<Arc<Inner>> {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn explain(&self, topic: &str, records: &[NewRecord], error: &KafkaError, producer: &Arc<Inner>) -> AppendError {
        let topic = topic.to_owned();
        if producer.client().fatal_error().is_some() {
            self.replace(producer);
        }
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic,
            ) => {
                let partition = records.iter().map(|record| record.partition).max().unwrap_or(0);
                AppendError::NoSuchPartition { topic, partition }
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                let bytes = records.iter().map(|record| record.value.len()).max().unwrap_or(0);
                AppendError::TooLarge { topic, bytes, limit: RECORD_BYTES_MAX }
            }
            // Timeouts, not enough replicas, authorization that may be granted, a fatal error that a new producer
            // does not have: the same append may succeed later.
            Some(_) | None => AppendError::Unavailable { topic, source: error.clone().into() },
        }
    }

    /// An idempotent producer that lost its place in the sequence (a broker lost data, say) never works again.
    fn replace(&self, broken: &Arc<Inner>) {
        let mut current = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if !current.as_ref().is_some_and(|current| Arc::ptr_eq(current, broken)) {
            return;
        }
        match connect(&self.config) {
            Ok(fresh) => {
                tracing::warn!("kafka producer met a fatal error and was replaced");
                *current = Some(fresh);
            }
            Err(error) => tracing::error!(error = %error, "cannot replace a kafka producer that met a fatal error"),
        }
    }

    /// Waits for what is in flight, at most `timeout`. Blocks.
    pub fn close(&self, timeout: Duration) {
        self.queue.close();
        let producer = self.producer.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(producer) = producer
            && let Err(error) = producer.flush(timeout)
        {
            tracing::warn!(error = %error, "kafka producer closes with records in flight");
        }
    }
}

fn connect(config: &ClientConfig) -> Result<Arc<Inner>, KafkaError> {
    Ok(Arc::new(ThreadedProducer::from_config_and_context(config, Deliveries(Logged { part: "producer" }))?))
}

async fn send(
    producer: &Inner,
    topic: &str,
    record: &NewRecord,
    flight: &Arc<Flight>,
    index: usize,
) -> Result<(), KafkaError> {
    let ticket = Box::new(Ticket { flight: Arc::clone(flight), index });
    let mut message: BaseRecord<'_, (), [u8], Box<Ticket>> = BaseRecord::with_opaque_to(topic, ticket)
        .partition(i32::try_from(record.partition).unwrap_or(i32::MAX))
        .timestamp(record.timestamp_ms)
        .payload(&record.value[..]);
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => message = back,
            Err((error, _)) => return Err(error),
        }
        tokio::time::sleep(FULL_QUEUE_PAUSE).await;
    }
}

/// Gives the room in the queue back when the records have landed, even if nobody waits for them any more.
struct LandingGuard {
    flight: Arc<Flight>,
    permit: Option<tokio::sync::OwnedSemaphorePermit>,
    /// Records that librdkafka was not given: no answer will come for them.
    unsent: usize,
}

impl Drop for LandingGuard {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        self.flight.settle(self.unsent);
        if self.flight.open.load(Ordering::Acquire) == 0 {
            return;
        }
        let flight = Arc::clone(&self.flight);
        super::spawn_named("eventlog-kafka-landing", async move {
            while flight.open.load(Ordering::Acquire) > 0 {
                flight.landed.notified().await;
            }
            drop(permit);
        });
    }
}
