//! The event log of one machine, in a folder.
//!
//! - A record batch is one value of a [`fjall`] store, keyed (topic, partition, base offset); see `batch.rs`.
//! - One thread writes, with one fsync for all appends that wait (group commit); see `writer.rs`.
//! - Groups live inside this process; committed offsets are durable; see `group.rs`.
//! - `kill -9` at any time: what was acknowledged is there afterwards; an append that was not is there as a whole or not
//!   at all; offsets stay contiguous.
//!
//! Not here: replication. Who must survive the loss of the machine uses Kafka.

mod batch;
mod consumer;
mod fetch;
mod group;
mod spans;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use self::batch::RECORD_OVERHEAD_BYTES;
use self::consumer::EmbeddedConsumer;
use self::group::Group;
use self::spans::{OpenSpan, PartitionState};
use self::store::{Catalog, Store, Topic, topic_key};
use self::writer::{Job, Limits};
use crate::{
    AppendError, Consumer, ConsumerOptions, EventLog, LogError, LogFault, NewRecord, OffsetBounds, RECORD_BYTES_MAX,
    Record, TopicPartition, TopicSpec, check_options, check_spec,
};

/// When the disk must confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before a group of appends is acknowledged. Survives power loss.
    EveryGroup,
    /// Never: the system writes when it likes. Survives `kill -9` of the process, not a power loss. For demos and tests.
    Never,
}

/// How the embedded log is kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder; created if missing. One process at a time may have it open.
    pub folder: PathBuf,
    /// When the disk must confirm. Default `EveryGroup`.
    pub fsync: Fsync,
    /// How long the writer waits for a second append before it writes a lonely one. Default 0: while the disk is busy
    /// the next group gathers anyway. More saves fsyncs on a disk that wears out, and delays every answer.
    pub group_delay: Duration,
    /// One group commit takes no further append from this size on. Default 16 MiB.
    pub group_bytes_max: usize,
    /// A stored batch takes no further record from this size on. Default 1 MiB: what a read decodes at once.
    pub batch_bytes_max: usize,
    /// Bytes that wait for the disk at most; then `append` waits. Default 64 MiB, at most 4 GiB.
    pub queue_bytes_max: usize,
    /// Memory for blocks read from disk. Default 32 MiB.
    pub cache_bytes: u64,
    /// Memory for what was written last, per keyspace; also what a restart reads back. Default 32 MiB.
    pub memtable_bytes: u64,
    /// Size of the write-ahead journals on disk at most; 64 MiB or more. Default 256 MiB.
    pub journal_bytes_max: u64,
    /// Whether stored batches are compressed (lz4). Fixed when the folder is created. Default true.
    pub compress: bool,
    /// How often the topics' retention is applied. Default 60 s.
    pub retention_every: Duration,
    /// Milliseconds since 1970 now, for retention. Default [`system_clock`].
    pub clock: fn() -> i64,
}

/// The machine's clock, for [`Config::clock`].
#[expect(clippy::disallowed_methods, reason = "retention compares timestamps with now; here is where now comes in")]
pub fn system_clock() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The embedded log. See the module.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Option<Threads>>>,
}

struct Threads {
    writer: JoinHandle<()>,
    retention: JoinHandle<()>,
    /// Dropping it ends the retention thread.
    stop_retention: mpsc::Sender<()>,
}

/// What the log, its consumers and its threads share.
struct Shared {
    /// `None` once closed: the folder is let go even while consumers are still around.
    store: RwLock<Option<Store>>,
    catalog: Catalog,
    groups: Mutex<HashMap<String, Group>>,
    last_member: AtomicU64,
    jobs: Mutex<mpsc::Sender<Job>>,
    queue: Arc<Semaphore>,
    queue_bytes_max: usize,
    closed: AtomicBool,
}

/// The log was closed, or its writer thread has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the embedded log is closed")]
struct Closed;

#[derive(Debug, thiserror::Error)]
#[error("another process has it open. Stop that one first; one folder serves one process")]
struct InUse(#[source] fjall::Error);

impl EmbeddedLog {
    /// Opens the log in a folder, or creates one. Blocks while the store recovers (up to `journal_bytes_max` are read).
    ///
    /// # Errors
    /// [`LogError::Open`], which says if another process has the folder open.
    pub fn open(config: Config) -> Result<EmbeddedLog, LogError> {
        let fault = |source: LogFault| LogError::Open { place: config.folder.display().to_string(), source };
        let store = Store::open(&config).map_err(|error| match error {
            fjall::Error::Locked => fault(InUse(error).into()),
            other => fault(other.into()),
        })?;
        let catalog = store.recover().map_err(fault)?;
        let (jobs, waiting) = mpsc::channel();
        let queue_bytes_max = config.queue_bytes_max.clamp(1, u32::MAX as usize);
        let shared = Arc::new(Shared {
            store: RwLock::new(Some(store.clone())),
            catalog,
            groups: Mutex::default(),
            last_member: AtomicU64::new(0),
            jobs: Mutex::new(jobs),
            queue: Arc::new(Semaphore::new(queue_bytes_max)),
            queue_bytes_max,
            closed: AtomicBool::new(false),
        });
        let limits = Limits {
            fsync: config.fsync,
            group_delay: config.group_delay,
            group_bytes_max: config.group_bytes_max,
            batch_bytes_max: config.batch_bytes_max,
        };
        let (for_writer, for_retention) = (Arc::clone(&shared), Arc::clone(&shared));
        let retention_store = store.clone();
        let writer = spawn_thread("eventlog-writer", move || {
            writer::run(&store, &for_writer.catalog, limits, &waiting);
        })
        .map_err(|error| fault(error.into()))?;
        let (stop_retention, stop) = mpsc::channel();
        let (every, clock) = (config.retention_every, config.clock);
        let retention = spawn_thread("eventlog-retention", move || {
            while stop.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
                expire_all(&retention_store, &for_retention.catalog, clock());
            }
        })
        .map_err(|error| fault(error.into()))?;
        let threads = Arc::new(Mutex::new(Some(Threads { writer, retention, stop_retention })));
        tracing::info!(folder = %config.folder.display(), "embedded log opened");
        Ok(EmbeddedLog { shared, threads })
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        self.shared.topic(name).ok_or_else(|| LogError::NoSuchTopic { topic: name.to_owned() })
    }

    async fn append_to(&self, topic: &Arc<Topic>, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        let name = &topic.name;
        for record in &records {
            if record.partition as usize >= topic.partitions.len() {
                return Err(AppendError::NoSuchPartition { topic: name.to_string(), partition: record.partition });
            }
            if record.value.len() > RECORD_BYTES_MAX {
                let (bytes, limit) = (record.value.len(), RECORD_BYTES_MAX);
                return Err(AppendError::TooLarge { topic: name.to_string(), bytes, limit });
            }
        }
        let unavailable = |source: LogFault| AppendError::Unavailable { topic: name.to_string(), source };
        let bytes: usize = records.iter().map(|record| record.value.len() + RECORD_OVERHEAD_BYTES).sum();
        // An append larger than the whole queue may pass when it has the queue for itself.
        let room = bytes.min(self.shared.queue_bytes_max) as u32;
        let permit = Arc::clone(&self.shared.queue).acquire_many_owned(room).await;
        let permit = permit.map_err(|_| unavailable(Closed.into()))?;
        let (done, answer) = oneshot::channel();
        let job = Job::Append { topic: Arc::clone(topic), records, bytes, permit, done };
        self.shared.send(job).map_err(|closed| unavailable(closed.into()))?;
        match answer.await {
            Ok(outcome) => outcome.map_err(|error| unavailable(error.into())),
            Err(_) => Err(unavailable(Closed.into())),
        }
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        shut(&self.shared, &self.threads);
    }
}

impl Shared {
    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.catalog.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn committed(&self, group: &str, at: &TopicPartition) -> Option<u64> {
        lock(&self.catalog.committed).get(group)?.get(at).copied()
    }

    fn send(&self, job: Job) -> Result<(), Closed> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Closed);
        }
        lock(&self.jobs).send(job).map_err(|_| Closed)
    }

    fn check_open(&self, what: &'static str, subject: &str) -> Result<(), LogError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(LogError::Operation { what, subject: subject.to_owned(), source: Closed.into() });
        }
        Ok(())
    }

    /// Runs something that reads the disk on a thread that may block.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        subject: &str,
        act: impl FnOnce(&Store) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let fault = |source: LogFault| LogError::Operation { what, subject: subject.to_owned(), source };
        let shared = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let store = shared.store.read().unwrap_or_else(PoisonError::into_inner);
            store.as_ref().map(act)
        });
        match task.await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(fault(Closed.into())),
            Err(panicked) => Err(fault(panicked.into())),
        }
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        topics.iter().try_for_each(check_spec)?;
        let (shared, topics) = (Arc::clone(&self.shared), topics.to_vec());
        let create = move |store: &Store| topics.iter().try_for_each(|spec| create(store, &shared.catalog, spec));
        self.shared.blocking("create topics", "embedded log", create).await
    }

    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        Ok(self.topic(topic)?.partitions.len() as u32)
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        let partition = records.first().map_or(0, |record| record.partition);
        let found = self.shared.topic(topic);
        let topic = found.ok_or_else(|| AppendError::NoSuchPartition { topic: topic.to_owned(), partition })?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (began, count) = (Instant::now(), records.len());
        let bytes = records.iter().map(|record| record.value.len()).sum();
        let outcome = self.append_to(&topic, records).await;
        match &outcome {
            Ok(_) => topic.meter.appended(began.elapsed(), count, bytes),
            Err(_) => topic.meter.failed(),
        }
        outcome
    }

    async fn consume(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>, LogError> {
        self.shared.check_open("join the group", &options.group)?;
        check_options(&options)?;
        let topics = options.topics.iter().map(|name| self.topic(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(EmbeddedConsumer::join(Arc::clone(&self.shared), options, topics)))
    }

    async fn read(
        &self,
        at: &TopicPartition,
        offset: u64,
        records_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let topic = self.topic(&at.topic)?;
        if at.partition as usize >= topic.partitions.len() {
            return Err(LogError::NoSuchTopic { topic: at.to_string() });
        }
        let mut changed = topic.changed.subscribe();
        let (until, partition) = (Instant::now() + wait, at.partition);
        loop {
            changed.borrow_and_update();
            let reading = Arc::clone(&topic);
            let bytes_max = READ_BYTES_MAX;
            let read = move |store: &Store| store.read(&reading, partition, offset, records_max, bytes_max);
            let records = self.shared.blocking("read", &at.topic, read).await?;
            if !records.is_empty() || records_max == 0 {
                return Ok(records);
            }
            if tokio::time::timeout_at(until, changed.changed()).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    async fn bounds(&self, topic: &str) -> Result<BTreeMap<u32, OffsetBounds>, LogError> {
        Ok(Store::load_bounds(&*self.topic(topic)?))
    }

    async fn offsets_at(&self, topic: &str, timestamp_ms: i64) -> Result<BTreeMap<u32, u64>, LogError> {
        let topic = self.topic(topic)?;
        let name = Arc::clone(&topic.name);
        let look_up = move |store: &Store| {
            let partitions = 0..topic.partitions.len() as u32;
            partitions.map(|partition| Ok((partition, store.offset_at(&topic, partition, timestamp_ms)?))).collect()
        };
        self.shared.blocking("look up a time", &name, look_up).await
    }

    async fn close(&self) {
        // The writer finishes what waits, then the folder is let go; both may take as long as the disk does.
        let (shared, threads) = (Arc::clone(&self.shared), Arc::clone(&self.threads));
        if let Err(panicked) = tokio::task::spawn_blocking(move || shut(&shared, &threads)).await {
            tracing::error!(error = %panicked, "embedded log did not close cleanly");
        }
    }
}

/// Bytes that one `read` answers at most (and one record more).
const READ_BYTES_MAX: usize = 8 << 20;

fn shut(shared: &Shared, threads: &Mutex<Option<Threads>>) {
    shared.closed.store(true, Ordering::SeqCst);
    shared.queue.close();
    let Some(threads) = lock(threads).take() else { return };
    // Fails only if the writer has ended already.
    let _ = lock(&shared.jobs).send(Job::Stop);
    drop(threads.stop_retention);
    for thread in [threads.writer, threads.retention] {
        if thread.join().is_err() {
            tracing::error!("a thread of the embedded log panicked");
        }
    }
    lock(&shared.groups).values().for_each(Group::wake_all);
    for topic in shared.catalog.topics.read().unwrap_or_else(PoisonError::into_inner).values() {
        topic.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
    *shared.store.write().unwrap_or_else(PoisonError::into_inner) = None;
}

fn create(store: &Store, catalog: &Catalog, spec: &TopicSpec) -> Result<(), LogError> {
    let fault = |error: fjall::Error| LogError::Operation {
        what: "create the topic",
        subject: spec.name.clone(),
        source: error.into(),
    };
    let retention = spec.retention.map(|retention| u64::try_from(retention.as_millis()).unwrap_or(u64::MAX - 1));
    // Held all the while: two creators must not take the same id.
    let mut topics = catalog.topics.write().unwrap_or_else(PoisonError::into_inner);
    let id = match topics.get(&spec.name) {
        Some(topic) => {
            let have = topic.partitions.len() as u32;
            if have != spec.partitions {
                return Err(LogError::PartitionCount { topic: spec.name.clone(), have, want: spec.partitions });
            }
            topic.id
        }
        None => topics.values().map(|topic| topic.id + 1).max().unwrap_or(0),
    };
    store
        .meta
        .insert(topic_key(&spec.name), Topic::encode_meta(id, spec.partitions, retention))
        .and_then(|()| store.db.persist(fjall::PersistMode::SyncAll))
        .map_err(fault)?;
    match topics.get(&spec.name) {
        Some(topic) => topic.set_retention_ms(retention),
        None => {
            let empty = || PartitionState { start: 0, end: 0, spans: [].into(), open: OpenSpan::new(0) };
            let partitions = (0..spec.partitions).map(|_| empty()).collect();
            topics.insert(spec.name.clone(), Arc::new(Topic::new(id, &spec.name, retention, partitions)));
        }
    }
    Ok(())
}

fn expire_all(store: &Store, catalog: &Catalog, now_ms: i64) {
    let topics: Vec<_> =
        catalog.topics.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
    for topic in topics {
        let Some(retention) = topic.retention_ms() else {
            continue;
        };
        let cutoff = now_ms.saturating_sub(i64::try_from(retention).unwrap_or(i64::MAX));
        for partition in 0..topic.partitions.len() as u32 {
            match store.expire(&topic, partition, cutoff) {
                Ok(0) => {}
                Ok(records) => tracing::debug!(topic = &*topic.name, partition, records, "retention removed records"),
                Err(error) => {
                    tracing::error!(topic = &*topic.name, partition, error = ?error, "cannot apply retention");
                }
            }
        }
    }
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// A lock whose holder panicked is taken all the same: every change under our locks is complete or not begun.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
