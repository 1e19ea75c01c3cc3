//! Carries out what partitions ask for: appends derived records, inserts blocks, writes snapshots, commits.
//!
//! Two tasks for each partition: one appends, so that subscribers need not wait for ClickHouse; one inserts, and commits only
//! what every effect before it is durable for. Each thing is tried until it is done: an outage stops progress, and the
//! bounded queues in front of these tasks stop the partition; nothing grows and nothing is lost.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trackway_domain::time::ReceivedAt;
use trackway_eventlog::{Consumer, EventLog, NewRecord, TopicPartition};
use trackway_store::Store;
use trackway_store::insert::{InsertError, Row};
use trackway_store::rows::ProgressRow;

use crate::events::EventsRows;
use crate::journeys::JourneysRows;
use crate::snapshots::saver::{Base, Saver};
use crate::snapshots::{Encoded, SnapshotError, Snapshots};
use crate::stage::{Block, Derived, Snapshot, Target};
use crate::{Clock, Topics, WorkerError, spawn};

/// First and longest pause between tries.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// What the tasks of one partition work with.
pub(crate) struct Carrier {
    pub partition: TopicPartition,
    pub log: Arc<dyn EventLog>,
    pub consumer: Arc<dyn Consumer>,
    pub store: Store,
    pub snapshots: Snapshots,
    pub topics: Topics,
    pub clock: Clock,
    /// The partition is given up: try no more.
    pub stop: CancellationToken,
    /// What the partition hears of its snapshots.
    pub saved: Saved,
}

/// What a partition hears of its snapshots.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// How many were written.
    pub written: AtomicU64,
    /// Log time of the newest.
    pub log_time_ms: AtomicI64,
    /// The chain is broken: the next is to be a base.
    pub start_over: AtomicBool,
}

/// Derived records on their way, numbered.
pub(crate) struct Append {
    pub number: u64,
    pub records: Vec<Derived>,
}

/// For the tables, in order.
pub(crate) enum Insert<R> {
    /// A block on its way, and the last append that must be done before it counts.
    Block { block: Block<R>, after_append: u64 },
    /// A snapshot, once everything before it is in.
    Snapshot(Snapshot),
}

/// Rows that can be put into the tables.
pub trait Insertable: Send + Sync + 'static {
    /// Inserts every table's part under a token made of `name`.
    fn insert(&self, store: &Store, name: &str) -> impl Future<Output = Result<(), InsertError>> + Send;
    /// Number of rows.
    fn len(&self) -> usize;
}

impl Insertable for EventsRows {
    async fn insert(&self, store: &Store, name: &str) -> Result<(), InsertError> {
        // Identities first and alone: an event must not be visible as a stranger's when its user is known already.
        insert_rows(store, &self.identities, name).await?;
        insert_rows(store, &self.identity_changes, name).await?;
        let (events, sessions) = futures_util::future::join(
            store.insert_encoded(&self.events, &format!("{name}/{}", self.events.table())),
            insert_rows(store, &self.sessions, name),
        )
        .await;
        events.and(sessions)
    }

    fn len(&self) -> usize {
        self.events.len() + self.sessions.len() + self.identities.len() + self.identity_changes.len()
    }
}

impl Insertable for JourneysRows {
    async fn insert(&self, store: &Store, name: &str) -> Result<(), InsertError> {
        insert_rows(store, &self.identities, name).await?;
        insert_rows(store, &self.identity_changes, name).await?;
        insert_rows(store, &self.members, name).await
    }

    fn len(&self) -> usize {
        self.members.len() + self.identities.len() + self.identity_changes.len()
    }
}

async fn insert_rows<R: Row>(store: &Store, rows: &[R], name: &str) -> Result<(), InsertError> {
    if rows.is_empty() {
        return Ok(());
    }
    store.insert(rows, &format!("{name}/{}", R::TABLE)).await
}

impl Carrier {
    /// Appends derived records in order, and says how far it is.
    pub async fn append(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<Append>,
        done: watch::Sender<u64>,
    ) -> Result<(), WorkerError> {
        while let Some(Append { number, records }) = queue.recv().await {
            let mut by_topic: BTreeMap<Target, Vec<NewRecord>> = BTreeMap::new();
            let timestamp_ms = (self.clock)().0;
            for Derived { target, partition, value } in records {
                by_topic.entry(target).or_default().push(NewRecord { partition, timestamp_ms, value });
            }
            for (target, records) in by_topic {
                let topic = self.topics.of(target);
                // All together, and all again if one fails: by their origins readers drop what they have, and leave what
                // came before its turn. Nothing later is appended meanwhile, which they rely on.
                let tried = self.until_done(|| async {
                    match self.log.append(topic, records.clone()).await {
                        Ok(_) => Tried::Done,
                        Err(error @ trackway_eventlog::AppendError::Unavailable { .. }) => Tried::Again(error.into()),
                        Err(error) => Tried::Never(error.into()),
                    }
                });
                if tried.await?.is_none() {
                    return Ok(());
                }
            }
            done.send_replace(number);
        }
        Ok(())
    }

    /// Inserts blocks in order, then tells the table of progress. A snapshot is handed on once all before it is in.
    pub async fn insert<R: Insertable>(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<Insert<R>>,
        mut appended: watch::Receiver<u64>,
        snapshots: mpsc::Sender<Snapshot>,
    ) -> Result<(), WorkerError> {
        while let Some(insert) = queue.recv().await {
            let (block, after_append) = match insert {
                Insert::Block { block, after_append } => (block, after_append),
                Insert::Snapshot(snapshot) => {
                    // The saver has ended only if the partition is given up.
                    snapshots.send(snapshot).await.ok();
                    continue;
                }
            };
            let Block { first, end, rows, watermark, log_time } = block;
            // A topic that was made anew begins at the same offsets; its first record's time tells the two apart.
            let name = format!("{}/{}@{}", self.partition, first.0, first.1);
            let tried = self.until_done(|| async {
                match rows.insert(&self.store, &name).await {
                    Ok(()) => Tried::Done,
                    Err(error) if error.is_retryable() => Tried::Again(error.into()),
                    Err(error) => Tried::Never(error.into()),
                }
            });
            if tried.await?.is_none() {
                return Ok(());
            }
            metrics::histogram!("worker_block_rows", "topic" => self.partition.topic.to_string())
                .record(rows.len() as f64);
            let waited = tokio::select! {
                waited = appended.wait_for(|&done| done >= after_append) => waited.is_ok(),
                () = self.stop.cancelled() => false,
            };
            if !waited {
                return Ok(());
            }
            let progress = ProgressRow {
                topic: self.partition.topic.clone(),
                partition: self.partition.partition,
                offset: end,
                watermark_ms: watermark.0,
                log_time_ms: log_time.0,
            };
            let tried = self.until_done(|| async {
                match self.store.insert(std::slice::from_ref(&progress), &format!("{name}-{end}/progress")).await {
                    Ok(()) => Tried::Done,
                    Err(error) if error.is_retryable() => Tried::Again(error.into()),
                    Err(error) => Tried::Never(error.into()),
                }
            });
            if tried.await?.is_none() {
                return Ok(());
            }
            self.gauge_lag(log_time);
        }
        Ok(())
    }

    /// Writes snapshots in order, commits their offsets, and keeps their chain short meanwhile. A store that is away costs
    /// a longer replay, nothing else: records go on, and the next snapshot has all that changed.
    pub async fn save(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<Snapshot>,
        mut saver: Saver,
    ) -> Result<(), WorkerError> {
        // One at most. If the partition is given up it ends unfinished, and the next owner begins anew.
        let mut shortening: JoinSet<Result<Base, SnapshotError>> = JoinSet::new();
        loop {
            let snapshot = tokio::select! {
                Some(made) = shortening.join_next() => {
                    let made = made.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                    self.on_base(&mut saver, made);
                    continue;
                }
                snapshot = queue.recv() => snapshot,
            };
            let Some(Snapshot { end, log_time, changes }) = snapshot else { return Ok(()) };
            let began = (self.clock)();
            let position = saver.position().clone();
            // Checksums of what may be a gigabyte.
            let encoded = tokio::task::spawn_blocking(move || Encoded::new(end, &position, changes)).await;
            let snapshot = encoded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let tried = self.until_done(|| async {
                match self.snapshots.write(&self.partition, &snapshot).await {
                    Ok(()) => Tried::Done,
                    Err(error) => {
                        metrics::counter!("worker_snapshot_errors_total").increment(1);
                        Tried::Again(error.into())
                    }
                }
            });
            if tried.await?.is_none() {
                return Ok(());
            }
            saver.on_written(&snapshot);
            self.saved.log_time_ms.store(log_time.0, Ordering::Relaxed);
            self.saved.written.fetch_add(1, Ordering::Release);
            self.gauge_snapshot(&snapshot, &saver, began);
            if let Err(error) = self.consumer.commit(&self.partition, end).await {
                tracing::warn!(partition = %self.partition, error = &error as &dyn std::error::Error, "offset was not committed, the next will be");
            }
            if shortening.is_empty() && saver.wants_base() {
                let (carrier, position) = (self.clone(), saver.position().clone());
                spawn(&mut shortening, async move { carrier.snapshots.shorten(&carrier.partition, &position).await });
            }
        }
    }

    fn on_base(&self, saver: &mut Saver, made: Result<Base, SnapshotError>) {
        match made {
            Ok(base) => saver.on_base(base),
            Err(error @ SnapshotError::Store { .. }) if !error.is_gone() => {
                tracing::warn!(partition = %self.partition, error = &error as &dyn std::error::Error, "chain of snapshots was not shortened, it will be");
            }
            Err(error) => {
                tracing::error!(partition = %self.partition, error = &error as &dyn std::error::Error, "chain of snapshots is broken, the next one has everything");
                metrics::counter!("worker_snapshots_damaged_total").increment(1);
                self.saved.start_over.store(true, Ordering::Release);
            }
        }
    }

    fn gauge_snapshot(&self, snapshot: &Encoded, saver: &Saver, began: ReceivedAt) {
        let (topic, partition) = (self.partition.topic.to_string(), self.partition.partition.to_string());
        metrics::histogram!("worker_snapshot_seconds", "topic" => topic.clone())
            .record((self.clock)().since(began) as f64 / 1000.0);
        let labels = [("topic", topic), ("partition", partition)];
        metrics::gauge!("worker_snapshot_bytes", &labels).set(snapshot.bytes() as f64);
        metrics::gauge!("worker_snapshot_chain_files", &labels).set(saver.position().len() as f64);
    }

    fn gauge_lag(&self, log_time: ReceivedAt) {
        let seconds = (self.clock)().since(log_time).max(0) as f64 / 1000.0;
        metrics::gauge!("worker_block_age_seconds", "topic" => self.partition.topic.to_string(), "partition" => self.partition.partition.to_string())
            .set(seconds);
    }

    /// Tries until it is done (`Some`) or the partition is given up (`None`).
    async fn until_done<F: Future<Output = Tried>>(
        &self,
        mut work: impl FnMut() -> F,
    ) -> Result<Option<()>, WorkerError> {
        let mut pause = RETRY_FIRST;
        loop {
            let tried = tokio::select! {
                tried = work() => tried,
                () = self.stop.cancelled() => return Ok(None),
            };
            match tried {
                Tried::Done => return Ok(Some(())),
                Tried::Never(error) => return Err(error),
                Tried::Again(error) => {
                    tracing::warn!(partition = %self.partition, error = &error as &dyn std::error::Error, pause_ms = pause.as_millis() as u64, "will be tried again");
                    metrics::counter!("worker_retries_total", "topic" => self.partition.topic.to_string()).increment(1);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Ok(None),
            }
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }
}

enum Tried {
    Done,
    Again(WorkerError),
    Never(WorkerError),
}
