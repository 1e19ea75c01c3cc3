//! The event log: moves bytes durably, in order, per partition.
//!
//! Two implementations of one trait: [`kafka`] over a Kafka cluster and [`embedded`] over a local store for one
//! machine. They keep the same promises, and one contract-test suite (`tests/eventlog_contract.rs`) holds both to them:
//!
//! - **Durable**: [`EventLog::append`] resolves only when every record would survive `kill -9` of this process (embedded:
//!   fsynced; Kafka: acknowledged by all in-sync replicas).
//! - **Ordered**: records of one `append` to one partition keep their order and get rising offsets; appends that were
//!   awaited one after the other do too. Offsets start at 0; embedded offsets have no holes, Kafka's may.
//! - **At least once**: an append that failed or was cancelled may still have happened.
//! - **Owned**: in one group each partition has at most one owner at a time, told by [`ConsumerEvent`].
//!
//! [`spool`] puts a bounded queue on the local disk before one of them, for the time when its cluster is away.
//!
//! What a record's bytes mean is not known here.

pub mod embedded;
pub mod kafka;
mod metering;
pub mod spool;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// A topic's partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition, from 0.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What a topic must look like. Creating it twice with the same partitions is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name: letters, digits, `.`, `_`, `-`; 1 to 200 bytes.
    pub name: String,
    /// Number of partitions, 1 to 1024. It cannot change later: a visitor's events would move away from its state.
    pub partitions: u32,
    /// How long a record is kept, by its timestamp. `None`: for ever.
    pub retention: Option<Duration>,
    /// Copies of each partition (Kafka only), 1 to the number of brokers.
    pub replicas: u16,
}

/// One record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Where to. The caller chooses the partition, so that both logs place a visitor alike.
    pub partition: u32,
    /// When we received it, in milliseconds since 1970 UTC. Never the event's own time: retention looks at it.
    pub timestamp_ms: i64,
    /// The bytes. Up to 16 MiB.
    pub value: Bytes,
}

/// One record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position in its partition.
    pub offset: u64,
    /// As given in [`NewRecord::timestamp_ms`].
    pub timestamp_ms: i64,
    /// As given in [`NewRecord::value`].
    pub value: Bytes,
}

/// What a consumer in a group is told, in the order in which it happened.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// These partitions are owned from now on. Nothing is delivered for one until [`Consumer::start`] says from where.
    Assigned {
        /// Each with the group's committed offset (the next record to read), if there is one.
        partitions: Vec<(TopicPartition, Option<u64>)>,
    },
    /// These partitions are about to be taken away. They stay ours until [`Consumer::released`] is called or
    /// `handover_timeout` has passed; commits are still accepted until then.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// These partitions were lost without a chance to say good-bye (the broker believed us dead). Commits are refused.
    Lost {
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// Records of one owned partition, in offset order, at least one.
    Batch {
        /// Where they come from.
        partition: TopicPartition,
        /// The records.
        records: Vec<Record>,
    },
}

/// How a consumer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// The group that shares the partitions.
    pub group: String,
    /// The topics, which exist already.
    pub topics: Vec<String>,
    /// Records in one [`ConsumerEvent::Batch`] at most.
    pub batch_records_max: usize,
    /// Bytes that end a [`ConsumerEvent::Batch`]; the record that reaches them is in it (embedded: what was stored with it
    /// too). So a reader that serves several partitions in turn keeps none of them waiting for long, and queues of batches
    /// have a size.
    pub batch_bytes_max: usize,
    /// Bytes that wait in memory for a slow reader at most, over all partitions; then fetching pauses (it never fails
    /// and ownership is kept, however long the reader takes).
    pub buffer_bytes_max: usize,
    /// How long a revoked partition may be held for its snapshot and last commit.
    pub handover_timeout: Duration,
}

/// Why an append was not done (or not known to be done).
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No such topic, or no such partition in it.
    #[error("partition {partition} of topic `{topic}` does not exist. Run `trackway migrate` first")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// A record is larger than the log takes.
    #[error("record for topic `{topic}` is {bytes} bytes, limit is {limit}")]
    TooLarge {
        /// The topic.
        topic: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The log cannot take records now; the same append may succeed later.
    #[error("log does not take records for topic `{topic}`")]
    Unavailable {
        /// The topic.
        topic: String,
        /// What the log said.
        #[source]
        source: LogFault,
    },
}

/// Why something other than an append was not done.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log cannot be opened or reached.
    #[error("cannot open the event log at `{place}`")]
    Open {
        /// Folder or broker list.
        place: String,
        /// What it said.
        #[source]
        source: LogFault,
    },
    /// A topic exists with another number of partitions.
    #[error(
        "topic `{topic}` has {have} partitions, configured are {want}. The number cannot change once events are in"
    )]
    PartitionCount {
        /// The topic.
        topic: String,
        /// What is there.
        have: u32,
        /// What is asked for.
        want: u32,
    },
    /// A topic that does not exist.
    #[error("topic `{topic}` does not exist. Run `trackway migrate` first")]
    NoSuchTopic {
        /// The topic.
        topic: String,
    },
    /// An operation on a topic or group that did not succeed.
    #[error("cannot {what} of `{subject}`")]
    Operation {
        /// What was tried, as words that follow "cannot".
        what: &'static str,
        /// The topic or group.
        subject: String,
        /// What the log said.
        #[source]
        source: LogFault,
    },
    /// A commit or release for a partition that this consumer does not own (any more).
    #[error("partition {partition} is not owned by this consumer")]
    NotOwned {
        /// The partition.
        partition: TopicPartition,
    },
    /// The wanted records were removed by retention.
    #[error("{partition} starts at offset {start}, offset {wanted} is gone")]
    Gone {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        wanted: u64,
        /// The first offset that is left.
        start: u64,
    },
}

/// Bytes of one record at most. Kafka's brokers, topics and clients are all set to it.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// The words of an underlying library.
pub type LogFault = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The event log. See the module for its promises.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Creates topics that are missing, and sets the retention of those that exist.
    ///
    /// # Errors
    /// [`LogError::PartitionCount`] if one exists with another number of partitions; [`LogError::Operation`].
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError>;

    /// Number of partitions of a topic.
    ///
    /// # Errors
    /// [`LogError::NoSuchTopic`].
    async fn partitions(&self, topic: &str) -> Result<u32, LogError>;

    /// Appends records; resolves when all are durable, with their offsets in the order given.
    ///
    /// Slow storage or a slow broker makes this wait: memory is bounded, the caller feels it.
    ///
    /// # Errors
    /// [`AppendError`]; some of the records may be in the log all the same.
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError>;

    /// Joins a group. Leaving is dropping the consumer (its partitions go to the others at once).
    ///
    /// # Errors
    /// [`LogError::NoSuchTopic`], [`LogError::Operation`].
    async fn consume(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>, LogError>;

    /// Reads up to `records_max` records of one partition from `offset` on, without a group. Waits up to `wait` for the
    /// first; an empty answer means that there was none.
    ///
    /// # Errors
    /// [`LogError::Gone`] if retention removed `offset`; [`LogError::NoSuchTopic`], [`LogError::Operation`].
    async fn read(
        &self,
        at: &TopicPartition,
        offset: u64,
        records_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError>;

    /// First offset kept and the offset after the last durable record, per partition.
    ///
    /// # Errors
    /// [`LogError::NoSuchTopic`], [`LogError::Operation`].
    async fn bounds(&self, topic: &str) -> Result<BTreeMap<u32, OffsetBounds>, LogError>;

    /// Per partition, the first offset whose record has this timestamp or a later one (the end, if none has).
    ///
    /// # Errors
    /// [`LogError::NoSuchTopic`], [`LogError::Operation`].
    async fn offsets_at(&self, topic: &str, timestamp_ms: i64) -> Result<BTreeMap<u32, u64>, LogError>;

    /// Waits for what is in flight and lets go of the storage. Later calls fail.
    async fn close(&self);
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetBounds {
    /// First offset kept.
    pub start: u64,
    /// Offset that the next record will get.
    pub end: u64,
}

/// One member of a group. Calls may come from any task; only one at a time waits in [`Consumer::next`].
#[async_trait]
pub trait Consumer: Send + Sync {
    /// The next thing that happened. Cancel-safe: nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`LogError`] if the group cannot go on; after [`LogError::Gone`] the partition named delivers nothing more.
    async fn next(&self) -> Result<ConsumerEvent, LogError>;

    /// Begins delivery of an assigned partition at `offset`. Calling it again jumps there; batches already handed out
    /// stay valid.
    ///
    /// # Errors
    /// [`LogError::NotOwned`].
    fn start(&self, at: &TopicPartition, offset: u64) -> Result<(), LogError>;

    /// Makes `offset` (the next record to read) the group's durable position.
    ///
    /// # Errors
    /// [`LogError::NotOwned`] after a loss; [`LogError::Operation`].
    async fn commit(&self, at: &TopicPartition, offset: u64) -> Result<(), LogError>;

    /// Lets go of revoked partitions, earlier than `handover_timeout`.
    fn released(&self, partitions: &[TopicPartition]);
}

#[derive(Debug, thiserror::Error)]
enum BadArgument {
    #[error("topic names have 1 to 200 letters, digits, `.`, `_`, `-`")]
    TopicName,
    #[error("{0} partitions, limits are 1 and {PARTITIONS_MAX}")]
    Partitions(u32),
    #[error("a topic needs at least one copy")]
    Replicas,
    #[error("a group name has 1 to 200 bytes, none of them zero")]
    GroupName,
    #[error("a consumer reads at least one topic, one record at a time, one byte in memory")]
    Nothing,
}

/// Partitions of a topic at most: each has its state in a worker.
const PARTITIONS_MAX: u32 = 1024;

fn check_spec(spec: &TopicSpec) -> Result<(), LogError> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let bad = if !(1..=200).contains(&spec.name.len()) || !spec.name.bytes().all(letters) {
        BadArgument::TopicName
    } else if !(1..=PARTITIONS_MAX).contains(&spec.partitions) {
        BadArgument::Partitions(spec.partitions)
    } else if spec.replicas == 0 {
        BadArgument::Replicas
    } else {
        return Ok(());
    };
    Err(LogError::Operation { what: "create the topic", subject: spec.name.clone(), source: bad.into() })
}

fn check_options(options: &ConsumerOptions) -> Result<(), LogError> {
    let bad = if !(1..=200).contains(&options.group.len()) || options.group.contains('\0') {
        BadArgument::GroupName
    } else if options.topics.is_empty()
        || options.batch_records_max == 0
        || options.batch_bytes_max == 0
        || options.buffer_bytes_max == 0
    {
        BadArgument::Nothing
    } else {
        return Ok(());
    };
    Err(LogError::Operation { what: "join the group", subject: options.group.clone(), source: bad.into() })
}
