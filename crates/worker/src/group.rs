//! Which partitions are ours: one task for each while we own it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trackway_eventlog::{Consumer, ConsumerEvent, ConsumerOptions, EventLog, TopicPartition};
use trackway_store::Store;
use trackway_wire::log::{self, DecodeError, pb};
use trackway_wire::rules::rules_to_pb;

use crate::clock::PartitionClock;
use crate::effects::{Carrier, Insertable, Saved};
use crate::events::EventsStage;
use crate::journeys::JourneysStage;
use crate::partition::{self, Input, OwnRecords};
use crate::snapshots::saver::Saver;
use crate::snapshots::{Content, Position, Restored, SnapshotError, Snapshots};
use crate::stage::{Core, SnapshotPace, Stage};
use crate::{Clock, Config, WorkerError, spawn};

/// Batches that wait for one partition's task; the consumer holds more.
const BATCHES: usize = 4;

/// Records in a batch. A batch is the unit of handing over between tasks, some hundred microseconds of work.
const BATCH_RECORDS_MAX: usize = 2_000;

/// Bytes in a batch. One partition with large records (a request of a thousand events is one) must not keep the others waiting
/// for long, and while ClickHouse is away each partition holds [`BATCHES`] and one of these in memory.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What both stages share.
pub(crate) struct Worker {
    pub config: Config,
    pub log: Arc<dyn EventLog>,
    pub store: Store,
    pub snapshots: Snapshots,
    pub clock: Clock,
}

impl Worker {
    pub async fn run_events(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let topic = self.config.topics.events.clone();
        let journeys = self.log.partitions(&self.config.topics.journeys).await?;
        let own = |rules| {
            let rules = pb::EventsRecord { body: Some(pb::events_record::Body::Rules(rules)) };
            OwnRecords { tick: log::encode_events_tick(), rules: log::encode(&rules) }
        };
        let places = self.config.places.clone();
        let folder = self.config.ids_folder.clone();
        let equip = move |stage: EventsStage| stage.located_by(places.clone()).with_ids_in(folder.clone());
        let fresh = {
            let equip = equip.clone();
            move |partition| equip(EventsStage::new(partition, journeys))
        };
        let restore = move |partition, content: &Content| {
            let (stage, clock) = EventsStage::restore(partition, journeys, content)?;
            Ok((equip(stage), clock))
        };
        self.run_stage(topic, shutdown, own, fresh, restore).await
    }

    pub async fn run_journeys(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let topic = self.config.topics.journeys.clone();
        let journeys = self.log.partitions(&topic).await?;
        let changes = self.log.partitions(&self.config.topics.audience_changes).await?;
        let own = |rules| {
            use pb::journeys_record::Body;
            let tick = pb::JourneysRecord { body: Some(Body::Tick(pb::Tick {})) };
            let rules = pb::JourneysRecord { body: Some(Body::Rules(rules)) };
            OwnRecords { tick: log::encode(&tick), rules: log::encode(&rules) }
        };
        let fresh = move |partition| JourneysStage::new(partition, journeys, changes);
        let restore = move |partition, content: &Content| JourneysStage::restore(partition, journeys, changes, content);
        self.run_stage(topic, shutdown, own, fresh, restore).await
    }

    async fn run_stage<S>(
        self: Arc<Self>,
        topic: String,
        shutdown: CancellationToken,
        own: impl Fn(pb::PartitionRules) -> OwnRecords,
        fresh: impl Fn(u32) -> S + Clone + Send + 'static,
        restore: impl Fn(u32, &Content) -> Result<(S, PartitionClock), DecodeError> + Clone + Send + 'static,
    ) -> Result<(), WorkerError>
    where
        S: Stage,
        S::Rows: Insertable,
    {
        let options = ConsumerOptions {
            group: format!("{}-{topic}", self.config.group),
            topics: vec![topic],
            batch_records_max: BATCH_RECORDS_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            buffer_bytes_max: self.config.buffer_bytes_max,
            handover_timeout: self.config.handover_timeout,
        };
        let consumer: Arc<dyn Consumer> = self.log.consume(options).await?.into();
        let mut owned: HashMap<TopicPartition, Owned> = HashMap::new();
        let mut tasks: JoinSet<Result<(), WorkerError>> = JoinSet::new();
        // Partitions on their way out: records still reach them meanwhile, among them the tick that closes their last block.
        let mut leaving: JoinSet<()> = JoinSet::new();
        loop {
            let event = tokio::select! {
                event = consumer.next() => event?,
                Some(ended) = tasks.join_next() => {
                    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
                    continue;
                }
                Some(_) = leaving.join_next() => continue,
                () = shutdown.cancelled() => break,
            };
            match event {
                ConsumerEvent::Assigned { partitions } => {
                    for (partition, committed) in partitions {
                        tracing::info!(%partition, ?committed, "partition is ours");
                        let (inputs, receiver) = mpsc::channel(BATCHES);
                        let stop = CancellationToken::new();
                        let carrier = Arc::new(Carrier {
                            partition: partition.clone(),
                            log: self.log.clone(),
                            consumer: consumer.clone(),
                            store: self.store.clone(),
                            snapshots: self.snapshots.clone(),
                            topics: self.config.topics.clone(),
                            clock: self.clock,
                            stop: stop.clone(),
                            saved: Saved::default(),
                        });
                        let (worker, fresh, restore) = (self.clone(), fresh.clone(), restore.clone());
                        let own = own(rules_to_pb(&self.config.rules));
                        spawn(&mut tasks, async move {
                            let (core, saver) = worker.open(&carrier, committed, fresh, restore).await?;
                            carrier.consumer.start(&carrier.partition, core.next()).or_else(lost_meanwhile)?;
                            partition::run(core, saver, carrier, own, &worker.config.rules, receiver).await
                        });
                        owned.insert(partition, Owned { inputs, stop });
                    }
                }
                ConsumerEvent::Batch { partition, records } => {
                    metrics::counter!("worker_records_total", "topic" => partition.topic.to_string())
                        .increment(records.len() as u64);
                    if let Some(owned) = owned.get(&partition) {
                        // A task that ended has left its error in `tasks`.
                        tokio::select! {
                            _ = owned.inputs.send(Input::Records(records)) => {}
                            () = shutdown.cancelled() => break,
                        }
                    }
                }
                ConsumerEvent::Revoked { partitions } => {
                    let these: Vec<Owned> =
                        partitions.iter().filter_map(|partition| owned.get(partition).cloned()).collect();
                    let consumer = consumer.clone();
                    spawn(&mut leaving, async move {
                        leave(these).await;
                        consumer.released(&partitions);
                        tracing::info!(?partitions, "partitions are free for another worker");
                    });
                }
                ConsumerEvent::Lost { partitions } => {
                    for partition in &partitions {
                        if let Some(owned) = owned.remove(partition) {
                            owned.stop.cancel();
                        }
                    }
                    tracing::warn!(?partitions, "partitions were lost; what is open is left to their new owner");
                }
            }
        }
        self.finish(owned, consumer, tasks).await
    }

    /// Finishes what is open. Records still flow meanwhile: the ticks that close the last blocks come with them.
    async fn finish(
        &self,
        owned: HashMap<TopicPartition, Owned>,
        consumer: Arc<dyn Consumer>,
        mut tasks: JoinSet<Result<(), WorkerError>>,
    ) -> Result<(), WorkerError> {
        let inputs: HashMap<_, _> =
            owned.iter().map(|(partition, owned)| (partition.clone(), owned.inputs.clone())).collect();
        let mut feed = JoinSet::new();
        spawn(&mut feed, async move {
            while let Ok(event) = consumer.next().await {
                if let ConsumerEvent::Batch { partition, records } = event
                    && let Some(inputs) = inputs.get(&partition)
                {
                    inputs.send(Input::Records(records)).await.ok();
                }
            }
        });
        leave(owned.into_values().collect()).await;
        feed.shutdown().await;
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        }
        Ok(())
    }

    /// A partition's state from its newest snapshot, or a new one where nothing was ever committed.
    async fn open<S: Stage>(
        &self,
        carrier: &Carrier,
        committed: Option<u64>,
        fresh: impl Fn(u32) -> S,
        restore: impl Fn(u32, &Content) -> Result<(S, PartitionClock), DecodeError> + Send + 'static,
    ) -> Result<(Core<S>, Saver), WorkerError> {
        let partition = &carrier.partition;
        let time_ms = i64::try_from(self.config.snapshot_every.as_millis()).unwrap_or(i64::MAX);
        let pace = SnapshotPace { time_ms, records: self.config.snapshot_records };
        if let Some(Restored { offset, content, position }) = self.snapshots.restore(partition).await? {
            let failed = |source| WorkerError::Restore { partition: partition.to_string(), offset, source };
            let (bytes, files) = (content.bytes(), position.len());
            let number = partition.partition;
            let read = tokio::task::spawn_blocking(move || restore(number, &content)).await;
            let read = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let (stage, clock) = read.map_err(failed)?;
            tracing::info!(%partition, offset, bytes, files, "state restored");
            carrier.saved.log_time_ms.store(clock.log_time.0, Ordering::Relaxed);
            return Ok((Core::new(stage, clock, offset, pace), Saver::new(position)));
        }
        match committed {
            Some(committed) if committed > 0 => {
                Err(SnapshotError::Missing { partition: partition.clone(), committed }.into())
            }
            Some(_) | None => {
                let bounds = self.log.bounds(&partition.topic).await?;
                let start = bounds.get(&partition.partition).map_or(0, |bounds| bounds.start);
                carrier.saved.log_time_ms.store((self.clock)().0, Ordering::Relaxed);
                let core = Core::new(fresh(partition.partition), PartitionClock::new(), start, pace);
                Ok((core, Saver::new(Position::default())))
            }
        }
    }
}

/// A partition that we own.
#[derive(Clone)]
struct Owned {
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
}

/// Asks partitions to finish and waits until they have.
async fn leave(partitions: Vec<Owned>) {
    let goodbyes = partitions.into_iter().map(|owned| async move {
        let (answer, goodbye) = oneshot::channel();
        if owned.inputs.send(Input::Leave(answer)).await.is_ok() {
            goodbye.await.ok();
        }
        owned.stop.cancel();
    });
    futures_util::future::join_all(goodbyes).await;
}

/// A partition that was taken away while its state was read: its task will hear of it.
fn lost_meanwhile(error: trackway_eventlog::LogError) -> Result<(), WorkerError> {
    match error {
        trackway_eventlog::LogError::NotOwned { .. } => Ok(()),
        error => Err(error.into()),
    }
}
