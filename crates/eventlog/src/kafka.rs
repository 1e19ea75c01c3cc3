//! The event log in a Kafka cluster, through rdkafka.
//!
//! - Appends: an idempotent producer with acks=all; see `append.rs`.
//! - Groups: a thread per member, cooperative rebalances answered by hand; see `member.rs`,
//!   `rebalance.rs`, `owned.rs` and `consume.rs`.
//! - Reads without a group: a few kept consumers; see `read.rs`.
//! - Topics and look-ups: `admin.rs`. All settings with their reasons: `settings.rs`.
//!
//! Nothing that blocks runs on the runtime's threads. Not here: transactions. Effects are made to bear a replay instead.

mod admin;
mod append;
mod client;
mod consume;
mod member;
mod owned;
mod read;
mod rebalance;
mod settings;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use self::admin::{Admin, blocking};
use self::append::{Appender, Closed};
use self::consume::KafkaConsumer;
use self::read::Readers;
use crate::metering::AppendMeter;
use crate::{
    AppendError, Consumer, ConsumerOptions, EventLog, LogError, LogFault, NewRecord, OffsetBounds, RECORD_BYTES_MAX,
    Record, TopicPartition, TopicSpec, check_options, check_spec,
};

/// How batches are compressed on their way and in the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Small, slow.
    Gzip,
    /// Fast.
    Snappy,
    /// Fast; the usual choice.
    Lz4,
    /// Small, still fast.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// As Kafka spells it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// How the cluster is reached and used.
#[derive(Clone)]
pub struct Config {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Default `Lz4`.
    pub compression: Compression,
    /// How long the producer gathers records for a batch. Default 5 ms: more makes batches larger and each answer later.
    pub linger: Duration,
    /// How long an append may take, retries included, before it fails as unavailable. Default 30 s.
    pub delivery_timeout: Duration,
    /// Bytes on their way to the brokers at most; then `append` waits. Default 128 MiB, at most 1 GiB.
    pub queue_bytes_max: usize,
    /// How long the group waits for a dead member before others get its partitions. Default 10 s, 6 s or more unless the
    /// brokers allow less.
    pub session_timeout: Duration,
    /// [`EventLog::read`]s at the same time, each with a consumer of its own; more wait for their turn. Default 8.
    pub readers_max: usize,
    /// librdkafka properties, applied last to every client: TLS and SASL (`security.protocol`, `sasl.*`, `ssl.*`), and
    /// whatever else an operator must change. May hold secrets.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords and keys are among the properties' values.
        f.debug_struct("Config")
            .field("brokers", &self.brokers)
            .field("compression", &self.compression)
            .field("linger", &self.linger)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("session_timeout", &self.session_timeout)
            .field("readers_max", &self.readers_max)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// The longest delivery timeout that librdkafka takes: 24 days.
const PATIENCE_WITHOUT_END: Duration = Duration::from_millis(i32::MAX as u64);

/// How long a log of that patience, when it is closed, waits for what is in flight. Whoever gave it that has it elsewhere.
const PATIENT_FLUSH_MAX: Duration = Duration::from_millis(200);

/// The log in Kafka. See the module.
pub struct KafkaLog {
    config: Config,
    admin: Arc<Admin>,
    appender: Arc<Appender>,
    readers: Arc<Readers>,
    topics: Arc<Mutex<HashMap<String, Arc<KnownTopic>>>>,
    closed: AtomicBool,
    /// How long closing waits for what is in flight.
    flush_max: Duration,
}

/// What is remembered of a topic: its number of partitions never changes.
struct KnownTopic {
    partitions: u32,
    meter: AppendMeter,
}

impl KafkaLog {
    /// Connects, and waits until a broker has answered.
    ///
    /// # Errors
    /// [`LogError::Open`]: a setting that librdkafka refuses, or no broker within 10 s.
    pub async fn connect(config: Config) -> Result<KafkaLog, LogError> {
        let log = Self::open(config).await?;
        log.reach().await?;
        Ok(log)
    }

    /// Makes the clients, which look for a broker on their own and as long as it takes.
    ///
    /// # Errors
    /// [`LogError::Open`]: a setting that librdkafka refuses.
    pub async fn open(config: Config) -> Result<KafkaLog, LogError> {
        let place = config.brokers.clone();
        let open = move || -> Result<KafkaLog, KafkaError> {
            let admin = Arc::new(Admin::new(&settings::admin(&config))?);
            let flush_max = config.delivery_timeout;
            KafkaLog::with(config, admin, Arc::default(), flush_max)
        };
        let fault = |source: LogFault| LogError::Open { place: place.clone(), source };
        let opened = tokio::task::spawn_blocking(open).await.map_err(|panicked| fault(panicked.into()))?;
        opened.map_err(|error| fault(error.into()))
    }

    /// Waits until a broker has answered.
    ///
    /// # Errors
    /// [`LogError::Open`]: none has within 10 s.
    pub async fn reach(&self) -> Result<(), LogError> {
        let place = self.config.brokers.clone();
        let reached = blocking(&self.admin, Admin::reach).await;
        reached.map_err(|source| LogError::Open { place: place.clone(), source })?;
        tracing::info!(brokers = place, "kafka log connected");
        Ok(())
    }

    /// The same log with a producer that never gives up: an append to it waits until it is done, so that nothing that was
    /// given to it later arrives earlier. For a [`crate::spool`].
    ///
    /// # Errors
    /// [`LogError::Open`]: a setting that librdkafka refuses.
    pub fn patient(&self) -> Result<KafkaLog, LogError> {
        let config = Config { delivery_timeout: PATIENCE_WITHOUT_END, ..self.config.clone() };
        let made = KafkaLog::with(config, Arc::clone(&self.admin), Arc::clone(&self.topics), PATIENT_FLUSH_MAX);
        made.map_err(|error| LogError::Open { place: self.config.brokers.clone(), source: error.into() })
    }

    fn with(
        config: Config,
        admin: Arc<Admin>,
        topics: Arc<Mutex<HashMap<String, Arc<KnownTopic>>>>,
        flush_max: Duration,
    ) -> Result<KafkaLog, KafkaError> {
        Ok(KafkaLog {
            admin,
            appender: Arc::new(Appender::new(settings::producer(&config), config.queue_bytes_max)?),
            readers: Arc::new(Readers::new(settings::reader(&config), config.readers_max)),
            topics,
            closed: AtomicBool::new(false),
            flush_max,
            config,
        })
    }

    async fn find(&self, topic: &str) -> Result<Option<Arc<KnownTopic>>, LogFault> {
        if let Some(known) = lock(&self.topics).get(topic) {
            return Ok(Some(Arc::clone(known)));
        }
        let name = topic.to_owned();
        let Some(partitions) = blocking(&self.admin, move |admin| admin.partitions(&name)).await? else {
            return Ok(None);
        };
        let known = Arc::new(KnownTopic { partitions, meter: AppendMeter::new("kafka", topic) });
        Ok(Some(Arc::clone(lock(&self.topics).entry(topic.to_owned()).or_insert(known))))
    }

    async fn topic(&self, topic: &str) -> Result<Arc<KnownTopic>, LogError> {
        let subject = || topic.to_owned();
        if self.closed.load(Ordering::SeqCst) {
            return Err(LogError::Operation { what: "look up the topic", subject: subject(), source: Closed.into() });
        }
        let found = self.find(topic).await;
        let found =
            found.map_err(|source| LogError::Operation { what: "look up the topic", subject: subject(), source })?;
        found.ok_or_else(|| LogError::NoSuchTopic { topic: subject() })
    }

    async fn append_to(&self, topic: &str, records: &[NewRecord], known: &KnownTopic) -> Result<Vec<u64>, AppendError> {
        for record in records {
            if record.partition >= known.partitions {
                return Err(AppendError::NoSuchPartition { topic: topic.to_owned(), partition: record.partition });
            }
            if record.value.len() > RECORD_BYTES_MAX {
                let (bytes, limit) = (record.value.len(), RECORD_BYTES_MAX);
                return Err(AppendError::TooLarge { topic: topic.to_owned(), bytes, limit });
            }
        }
        self.appender.append(topic, records).await
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        topics.iter().try_for_each(check_spec)?;
        for spec in topics {
            let fault = |source| LogError::Operation { what: "look up the topic", subject: spec.name.clone(), source };
            let have = self.find(&spec.name).await.map_err(fault)?.map(|known| known.partitions);
            if let Some(have) = have.filter(|have| *have != spec.partitions) {
                return Err(LogError::PartitionCount { topic: spec.name.clone(), have, want: spec.partitions });
            }
            self.admin.create(spec).await?;
        }
        // A created topic is known to a broker only after a moment; whoever appends next must find it.
        for spec in topics {
            let until = Instant::now() + Duration::from_secs(10);
            loop {
                match self.topic(&spec.name).await {
                    Ok(known) if known.partitions == spec.partitions => break,
                    Ok(known) if Instant::now() >= until => {
                        let have = known.partitions;
                        return Err(LogError::PartitionCount { topic: spec.name.clone(), have, want: spec.partitions });
                    }
                    // Seen while it was being made, or made by another with another number: ask again.
                    Ok(_) => drop(lock(&self.topics).remove(&spec.name)),
                    Err(error) if Instant::now() >= until => return Err(error),
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        Ok(self.topic(topic).await?.partitions)
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        let unavailable = |source: LogFault| AppendError::Unavailable { topic: topic.to_owned(), source };
        if self.closed.load(Ordering::SeqCst) {
            return Err(unavailable(Closed.into()));
        }
        let partition = records.first().map_or(0, |record| record.partition);
        let known = self.find(topic).await.map_err(unavailable)?;
        let known = known.ok_or_else(|| AppendError::NoSuchPartition { topic: topic.to_owned(), partition })?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (began, bytes) = (Instant::now(), records.iter().map(|record| record.value.len()).sum());
        let outcome = self.append_to(topic, &records, &known).await;
        match &outcome {
            Ok(_) => known.meter.appended(began.elapsed(), records.len(), bytes),
            Err(_) => known.meter.failed(),
        }
        outcome
    }

    async fn consume(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>, LogError> {
        check_options(&options)?;
        for topic in &options.topics {
            self.topic(topic).await?;
        }
        let (config, group) = (self.config.clone(), options.group.clone());
        let joining = tokio::task::spawn_blocking(move || KafkaConsumer::join(&config, options));
        let joined = joining.await.map_err(|panicked| LogError::Operation {
            what: "join the group",
            subject: group,
            source: panicked.into(),
        })?;
        Ok(Box::new(joined?))
    }

    async fn read(
        &self,
        at: &TopicPartition,
        offset: u64,
        records_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        if at.partition >= self.topic(&at.topic).await?.partitions {
            return Err(LogError::NoSuchTopic { topic: at.to_string() });
        }
        if records_max == 0 {
            return Ok(Vec::new());
        }
        self.readers.read(at, offset, records_max, wait).await
    }

    async fn bounds(&self, topic: &str) -> Result<BTreeMap<u32, OffsetBounds>, LogError> {
        let (partitions, name) = (self.topic(topic).await?.partitions, topic.to_owned());
        let found = blocking(&self.admin, move |admin| admin.bounds(&name, partitions)).await;
        found.map_err(|source| LogError::Operation { what: "look up the ends", subject: topic.to_owned(), source })
    }

    async fn offsets_at(&self, topic: &str, timestamp_ms: i64) -> Result<BTreeMap<u32, u64>, LogError> {
        let (partitions, name) = (self.topic(topic).await?.partitions, topic.to_owned());
        let found = blocking(&self.admin, move |admin| admin.offsets_at(&name, partitions, timestamp_ms)).await;
        found.map_err(|source| LogError::Operation { what: "look up a time", subject: topic.to_owned(), source })
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let (appender, readers, timeout) = (Arc::clone(&self.appender), Arc::clone(&self.readers), self.flush_max);
        let closing = tokio::task::spawn_blocking(move || {
            appender.close(timeout);
            readers.close();
        });
        if let Err(panicked) = closing.await {
            tracing::error!(error = %panicked, "kafka log did not close cleanly");
        }
    }
}

/// The one place where this crate spawns a task.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place; what it spawns ends when the records in flight have landed"
)]
fn spawn_named(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tracing::debug!(name, "task started");
    drop(tokio::spawn(task));
}

fn to_list<'a>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, Offset)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (at, offset) in partitions {
        list.add_partition_offset(&at.topic, at.partition as i32, offset)?;
    }
    Ok(list)
}

/// A lock whose holder panicked is taken all the same: every change under our locks is complete or not begun.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
