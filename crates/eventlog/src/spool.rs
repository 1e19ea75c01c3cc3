//! A log that goes on taking records while its cluster is away: a bounded queue on the local disk before another log.
//!
//! - **Direct**: as long as the other log (the *primary*) takes records, appends go to it, and wait for it if it is slow.
//! - **Spooling**: once an append could not be done (the primary refused it as unavailable, or acknowledged nothing at all
//!   for [`Config::patience`]), it and all that come after it are written to the spool, synced and answered.
//! - A task drains the spool into the primary, in order. When little is left, new appends are **held** for the moment that
//!   this takes, and then everything goes directly again. If it takes longer, they go to the spool after all.
//!
//! The invariant that keeps every visitor's order: **no append goes to the primary directly while an append that was
//! answered out of the spool is not acknowledged by the primary.** An append takes its way, and its room in the spool,
//! under one lock, and going directly again asks under that lock for a spool with nothing in it and nothing on its way
//! into it. (An append whose way was decided earlier may arrive later. It was not answered then, so nobody waited for it
//! before sending another.)
//!
//! Durable means here: acknowledged by the primary, or synced on this machine's disk; `kill -9` at any time loses nothing
//! that was answered, and the spool is drained after the next start. At least once: an append that the primary did not
//! acknowledge in time may have happened and is in the spool too, with the same received time and bytes, and a drain that
//! is broken off sends its last records again.
//!
//! Not here: reading. It goes to the primary, which does not have yet what is in the spool.

mod disk;
mod drain;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use self::disk::{Contents, Folder};
use self::writer::{Job, Written};
use crate::{
    AppendError, Consumer, ConsumerOptions, EventLog, LogError, LogFault, NewRecord, OffsetBounds, RECORD_BYTES_MAX,
    Record, TopicPartition, TopicSpec,
};

/// How the spool is kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder; created if missing. One process at a time may have it open.
    pub folder: PathBuf,
    /// Bytes of files in it at most; then appends fail as unavailable.
    pub bytes_max: u64,
    /// A primary that acknowledges nothing for this long, while something waits, is away.
    pub patience: Duration,
    /// Milliseconds since 1970 now, for the age of the oldest record. Default [`crate::embedded::system_clock`].
    pub clock: fn() -> i64,
}

/// The log with a spool before it. See the module.
pub struct SpooledLog {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<()>,
    drain: tokio::task::JoinHandle<()>,
}

struct Shared {
    config: Config,
    primary: Arc<dyn EventLog>,
    /// The same log, with a patience without end: what it was given stays in order.
    patient: Arc<dyn EventLog>,
    folder: Folder,
    state: Mutex<State>,
    /// Topics with their partitions, as the primary told them last.
    topics: Mutex<BTreeMap<String, u32>>,
    /// Counts what may be of interest to whoever waits: another mode, records on disk, the end.
    changed: watch::Sender<u64>,
    /// When the primary acknowledged something last, in milliseconds since `began`.
    acknowledged_ms: AtomicU64,
    began: Instant,
}

/// What the next append does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It goes to the primary.
    Direct,
    /// It goes to the spool.
    Spooling,
    /// It waits for the last of the spool to be drained.
    Held,
}

struct State {
    mode: Mode,
    contents: Contents,
    /// Bytes of appends on their way into the spool.
    arriving: u64,
    /// Nobody knows whether the primary is there: it was not at the start.
    unseen: bool,
    /// Records drained since spooling began, and when that was, for the line in the log.
    drained: u64,
    since: Instant,
    /// Whether the spool had no room, or its disk failed, the last time: so that it is said once.
    full: bool,
    failing: bool,
    closed: bool,
    jobs: mpsc::Sender<Job>,
}

/// The way of one append.
enum Way {
    Direct,
    Wait,
    Spool(oneshot::Receiver<Written>),
}

#[derive(Debug, thiserror::Error)]
#[error("the spooled log is closed")]
struct Closed;

#[derive(Debug, thiserror::Error)]
#[error("the log is away, and its spool has {bytes} bytes for {wanted} more; the limit is {limit}")]
struct Full {
    bytes: u64,
    wanted: u64,
    limit: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the log is away, and its spool's disk takes no records (full, failing?)")]
struct DiskFault(#[source] Arc<io::Error>);

#[derive(Debug, thiserror::Error)]
#[error("the log has acknowledged nothing for {0:?}")]
struct Silent(Duration);

/// Why an append was not done directly.
enum NotDirect {
    Refused(AppendError),
    Away(LogFault),
}

/// A spool folder that is open and looked through, before the log that it belongs to is.
pub struct Spool {
    config: Config,
    folder: Folder,
    contents: Contents,
    topics: BTreeMap<String, u32>,
}

impl Spool {
    /// Opens a folder and reads what is in it. Blocks.
    ///
    /// # Errors
    /// [`LogError::Open`], which says if another process has the folder open.
    pub fn open(config: Config) -> Result<Spool, LogError> {
        let fault =
            |error: io::Error| LogError::Open { place: config.folder.display().to_string(), source: error.into() };
        let (folder, contents) = Folder::open(&config.folder).map_err(fault)?;
        let topics = folder.topics().map_err(fault)?.into_iter().collect();
        Ok(Spool { config, folder, contents, topics })
    }

    /// Whether it knows topics, from a time when the primary was there: then it can work without it.
    #[must_use]
    pub fn knows_topics(&self) -> bool {
        !self.topics.is_empty()
    }

    /// Begins to serve, and to drain what is in it. Call it within the runtime.
    ///
    /// - `primary`: where appends go; its own delivery timeout bounds them.
    /// - `patient`: the same log opened to wait without end ([`crate::kafka::KafkaLog::patient`]); what is drained goes
    ///   there. With a timeout, records behind one that timed out could arrive before it.
    /// - `reached`: whether the primary was there just now. If not, appends go to the spool until it is.
    ///
    /// # Errors
    /// [`LogError::Open`] if a thread cannot be started.
    pub fn serve(
        self,
        primary: Arc<dyn EventLog>,
        patient: Arc<dyn EventLog>,
        reached: bool,
    ) -> Result<SpooledLog, LogError> {
        let Spool { config, folder, contents, topics } = self;
        let place = config.folder.display().to_string();
        let (jobs, waiting) = mpsc::channel();
        let mode = if reached && contents.records == 0 { Mode::Direct } else { Mode::Spooling };
        if mode == Mode::Spooling {
            let (records, bytes) = (contents.records, contents.bytes());
            tracing::warn!(folder = place, records, bytes, reached, "log begins with its spool");
        }
        let state = State {
            mode,
            contents,
            arriving: 0,
            unseen: !reached,
            drained: 0,
            since: Instant::now(),
            full: false,
            failing: false,
            closed: false,
            jobs,
        };
        let shared = Arc::new(Shared {
            config,
            primary,
            patient,
            folder,
            state: Mutex::new(state),
            topics: Mutex::new(topics),
            changed: watch::Sender::new(0),
            acknowledged_ms: AtomicU64::new(0),
            began: Instant::now(),
        });
        shared.tell_sizes(&shared.lock());
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("eventlog-spool".to_owned())
            .spawn(move || writer::run(&for_writer, &waiting))
            .map_err(|error| LogError::Open { place, source: error.into() })?;
        let threads = Mutex::new(Some(Threads { writer, drain: spawn_drain(Arc::clone(&shared)) }));
        Ok(SpooledLog { shared, threads })
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place; it is owned and joined by the log")]
fn spawn_drain(shared: Arc<Shared>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(drain::run(shared))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Decides an append's way and takes its room.
    ///
    /// - `away`: why it must not go directly, if it was tried.
    fn way(&self, topic: &str, records: &[NewRecord], away: Option<&LogFault>) -> Result<Way, AppendError> {
        let mut state = self.lock();
        let unavailable = |source: LogFault| AppendError::Unavailable { topic: topic.to_owned(), source };
        if state.closed {
            return Err(unavailable(Closed.into()));
        }
        match (state.mode, away) {
            (Mode::Direct, None) => return Ok(Way::Direct),
            (Mode::Held, None) => return Ok(Way::Wait),
            (Mode::Spooling, _) | (Mode::Direct | Mode::Held, Some(_)) => {}
        }
        self.check(topic, records)?;
        let wanted = disk::encoded_len(topic, records) as u64;
        let (bytes, limit) = (state.contents.bytes() + state.arriving, self.config.bytes_max);
        if bytes + wanted > limit {
            metrics::counter!("eventlog_spool_refused_records_total").increment(records.len() as u64);
            if !std::mem::replace(&mut state.full, true) {
                tracing::error!(bytes, limit, "spool is full; senders are told to retry");
            }
            return Err(unavailable(Full { bytes, wanted, limit }.into()));
        }
        if state.full {
            // Not at the first record that happens to fit.
            state.full = bytes + wanted > limit / 10 * 9;
        }
        if state.mode == Mode::Direct {
            (state.since, state.drained) = (Instant::now(), 0);
            let error = away.map(|fault| &**fault as &dyn std::error::Error);
            tracing::warn!(error, "log is away; records go to the spool");
        }
        state.arriving += wanted;
        let (done, written) = oneshot::channel();
        let job = Job::Append { topic: topic.to_owned(), records: records.to_vec(), done };
        state.jobs.send(job).map_err(|_| unavailable(Closed.into()))?;
        self.set_mode(&mut state, Mode::Spooling);
        Ok(Way::Spool(written))
    }

    fn set_mode(&self, state: &mut State, mode: Mode) {
        if state.mode != mode {
            state.mode = mode;
            self.notify();
        }
        metrics::gauge!("eventlog_spool_mode").set(if mode == Mode::Direct { 0.0 } else { 1.0 });
    }

    /// What the primary would refuse must not get into the spool: it would never leave it.
    fn check(&self, topic: &str, records: &[NewRecord]) -> Result<(), AppendError> {
        let partitions = self.topics.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied().unwrap_or(0);
        for record in records {
            if record.partition >= partitions {
                return Err(AppendError::NoSuchPartition { topic: topic.to_owned(), partition: record.partition });
            }
            if record.value.len() > RECORD_BYTES_MAX {
                let (bytes, limit) = (record.value.len(), RECORD_BYTES_MAX);
                return Err(AppendError::TooLarge { topic: topic.to_owned(), bytes, limit });
            }
        }
        Ok(())
    }

    async fn direct(&self, topic: &str, records: &[NewRecord]) -> Result<Vec<u64>, NotDirect> {
        let patience = self.config.patience;
        let mut attempt = self.primary.append(topic, records.to_vec());
        loop {
            match timeout(patience, &mut attempt).await {
                Ok(Ok(offsets)) => {
                    self.acknowledged();
                    return Ok(offsets);
                }
                Ok(Err(AppendError::Unavailable { source, .. })) => return Err(NotDirect::Away(source)),
                Ok(Err(refused @ (AppendError::NoSuchPartition { .. } | AppendError::TooLarge { .. }))) => {
                    return Err(NotDirect::Refused(refused));
                }
                // As long as it acknowledges others' records it is slow, not away.
                Err(_) if self.lock().mode == Mode::Direct && !self.is_silent() => {}
                Err(_) => return Err(NotDirect::Away(Silent(patience).into())),
            }
        }
    }

    fn acknowledged(&self) {
        let now = self.began.elapsed().as_millis() as u64;
        // Read before written: the line of memory stays shared between the cores.
        if self.acknowledged_ms.load(Ordering::Relaxed) != now {
            self.acknowledged_ms.store(now, Ordering::Relaxed);
        }
    }

    fn is_silent(&self) -> bool {
        let last = Duration::from_millis(self.acknowledged_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last) >= self.config.patience
    }

    /// Remembers a topic, for a start without the primary.
    async fn remember(self: &Arc<Self>, topic: &str, partitions: u32) {
        let all: Vec<_> = {
            let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
            if topics.insert(topic.to_owned(), partitions) == Some(partitions) {
                return;
            }
            topics.iter().map(|(name, partitions)| (name.clone(), *partitions)).collect()
        };
        let shared = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || shared.folder.save_topics(&all)).await;
        let error = match saved {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panicked) => panicked.to_string(),
        };
        tracing::warn!(topic, error, "spool cannot remember a topic; without the log the next start will not know it");
    }

    fn tell_sizes(&self, state: &State) {
        metrics::gauge!("eventlog_spool_bytes").set(state.contents.bytes() as f64);
        metrics::gauge!("eventlog_spool_records").set(state.contents.records as f64);
        let age_ms = state.contents.oldest_ms.map_or(0, |oldest| ((self.config.clock)() - oldest).max(0));
        metrics::gauge!("eventlog_spool_oldest_seconds").set(age_ms as f64 / 1000.0);
        metrics::gauge!("eventlog_spool_mode").set(if state.mode == Mode::Direct { 0.0 } else { 1.0 });
    }
}

impl SpooledLog {
    /// Ends the threads; what is in the spool stays there.
    fn stop(&self) -> Option<Threads> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let mut state = self.shared.lock();
        state.closed = true;
        // Fails only if the writer has ended already.
        let _ = state.jobs.send(Job::Stop);
        drop(state);
        self.shared.notify();
        Some(threads)
    }
}

impl Drop for SpooledLog {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

#[async_trait]
impl EventLog for SpooledLog {
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        self.shared.primary.create_topics(topics).await?;
        for topic in topics {
            self.shared.remember(&topic.name, topic.partitions).await;
        }
        Ok(())
    }

    /// As the primary says; as it said last, while it was not there at the start.
    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        if self.shared.lock().unseen {
            let known = self.shared.topics.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied();
            return known.ok_or_else(|| LogError::NoSuchTopic { topic: topic.to_owned() });
        }
        let partitions = self.shared.primary.partitions(topic).await?;
        self.shared.remember(topic, partitions).await;
        Ok(partitions)
    }

    /// Records that went to the spool have no offsets yet: then the answer is empty.
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        let shared = &self.shared;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut changed = None;
        let mut away = None;
        let written = loop {
            match shared.way(topic, &records, away.as_ref())? {
                Way::Direct => match shared.direct(topic, &records).await {
                    Ok(offsets) => return Ok(offsets),
                    Err(NotDirect::Refused(error)) => return Err(error),
                    Err(NotDirect::Away(fault)) => away = Some(fault),
                },
                // Asked once more after listening has begun, so that no change is missed.
                Way::Wait => match &mut changed {
                    None => changed = Some(shared.changed.subscribe()),
                    Some(changed) => drop(changed.changed().await),
                },
                Way::Spool(written) => break written,
            }
        };
        let unavailable = |source: LogFault| AppendError::Unavailable { topic: topic.to_owned(), source };
        match written.await {
            Ok(Ok(())) => Ok(Vec::new()),
            Ok(Err(error)) => Err(unavailable(DiskFault(error).into())),
            Err(_) => Err(unavailable(Closed.into())),
        }
    }

    async fn consume(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>, LogError> {
        self.shared.primary.consume(options).await
    }

    async fn read(
        &self,
        at: &TopicPartition,
        offset: u64,
        records_max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        self.shared.primary.read(at, offset, records_max, wait).await
    }

    async fn bounds(&self, topic: &str) -> Result<BTreeMap<u32, OffsetBounds>, LogError> {
        self.shared.primary.bounds(topic).await
    }

    async fn offsets_at(&self, topic: &str, timestamp_ms: i64) -> Result<BTreeMap<u32, u64>, LogError> {
        self.shared.primary.offsets_at(topic, timestamp_ms).await
    }

    async fn close(&self) {
        if let Some(threads) = self.stop() {
            let joining = tokio::task::spawn_blocking(move || threads.writer.join());
            if !matches!(joining.await, Ok(Ok(()))) {
                tracing::error!("the spool's writer panicked");
            }
            if let Err(error) = threads.drain.await {
                tracing::error!(error = %error, "the spool's drain panicked");
            }
            let state = self.shared.lock();
            if state.contents.records > 0 {
                let (records, bytes) = (state.contents.records, state.contents.bytes());
                tracing::warn!(records, bytes, "records stay in the spool; the next start drains them");
            }
        }
        futures_util::future::join(self.shared.primary.close(), self.shared.patient.close()).await;
    }
}
