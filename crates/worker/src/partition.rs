//! The loop of one owned partition: records in, effects out, a tick where time is waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use trackway_domain::rules::PartitionRules;
use trackway_domain::time::ReceivedAt;
use trackway_eventlog::{NewRecord, Record};

use crate::effects::{Append, Carrier, Insert, Insertable};
use crate::snapshots::saver::Saver;
use crate::stage::{Core, Effect, Stage, Waits};
use crate::{WorkerError, spawn};

/// Blocks and appends that wait to be carried out, of one partition. Few: each block may hold 50,000 rows.
const QUEUE: usize = 4;

/// Snapshots that wait to be written: one, and the last of a partition that is given up.
const SNAPSHOTS: usize = 2;

/// Entries that are put into a snapshot at a time, between records: a few milliseconds' work.
const ENTRIES_AT_A_TIME: usize = 2_000;

/// A tick that did not come back by then is taken for lost.
const TICK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a partition that is given up may take for its last block and snapshot.
const GOODBYE_MAX: Duration = Duration::from_secs(4);

/// How often a partition that is given up looks whether it may go.
const GOODBYE_STEP: Duration = Duration::from_millis(100);

/// What the loop is sent.
pub(crate) enum Input {
    /// Records, in order.
    Records(Vec<Record>),
    /// Give the partition up; answer when all that is durable is committed.
    Leave(oneshot::Sender<()>),
}

/// How a stage encodes what its owner itself appends.
pub(crate) struct OwnRecords {
    pub tick: bytes::Bytes,
    pub rules: bytes::Bytes,
}

pub(crate) async fn run<S>(
    mut core: Core<S>,
    saver: Saver,
    carrier: Arc<Carrier>,
    own: OwnRecords,
    wanted_rules: &PartitionRules,
    mut inputs: mpsc::Receiver<Input>,
) -> Result<(), WorkerError>
where
    S: Stage,
    S::Rows: Insertable,
{
    let (append_queue, appends) = mpsc::channel(QUEUE * 8);
    let (insert_queue, inserts) = mpsc::channel(QUEUE);
    let (appended, appended_seen) = watch::channel(0);
    let (snapshot_queue, snapshots) = mpsc::channel(SNAPSHOTS);
    let mut carriers = JoinSet::new();
    spawn(&mut carriers, carrier.clone().append(appends, appended));
    spawn(&mut carriers, carrier.clone().insert(inserts, appended_seen, snapshot_queue));
    spawn(&mut carriers, carrier.clone().save(snapshots, saver));
    let out = Out { append_queue, insert_queue, appends: 0 };
    let partition = carrier.partition.clone();
    let result = tokio::select! {
        result = drive(&mut core, &carrier, own, wanted_rules, &mut inputs, out) => result,
        // A carrier ends early only with an error, or because the partition is given up.
        Some(ended) = carriers.join_next() => match ended {
            Ok(Ok(())) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        },
    };
    let goodbye = result?;
    // The queues are closed now: the carriers end when they are empty.
    let ended = tokio::time::timeout(GOODBYE_MAX, async {
        while let Some(ended) = carriers.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        Ok::<_, WorkerError>(())
    });
    match ended.await {
        Ok(result) => result?,
        Err(_) => tracing::warn!(%partition, "what is not yet in the tables is left to the next owner"),
    }
    if let Some(goodbye) = goodbye {
        // Nobody may wait any more; that is fine.
        goodbye.send(()).ok();
    }
    Ok(())
}

/// Where effects go.
struct Out<R> {
    append_queue: mpsc::Sender<Append>,
    insert_queue: mpsc::Sender<Insert<R>>,
    appends: u64,
}

impl<R> Out<R> {
    /// Hands effects over, waiting for room. Gives up quietly when the carriers have ended: their error says why.
    async fn send(&mut self, effects: &mut Vec<Effect<R>>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Append(records) => {
                    self.appends += 1;
                    self.append_queue.send(Append { number: self.appends, records }).await.ok();
                }
                Effect::Block(block) => {
                    self.insert_queue.send(Insert::Block { block, after_append: self.appends }).await.ok();
                }
                Effect::Snapshot(snapshot) => {
                    self.insert_queue.send(Insert::Snapshot(snapshot)).await.ok();
                }
            }
        }
    }
}

async fn drive<S>(
    core: &mut Core<S>,
    carrier: &Carrier,
    own: OwnRecords,
    wanted_rules: &PartitionRules,
    inputs: &mut mpsc::Receiver<Input>,
    mut out: Out<S::Rows>,
) -> Result<Option<oneshot::Sender<()>>, WorkerError>
where
    S: Stage,
    S::Rows: Insertable,
{
    let partition = &carrier.partition;
    if core.clock().rules != *wanted_rules {
        // They hold from where the record stands, in this run and in every replay.
        append_own(carrier, own.rules.clone()).await;
    }
    let mut effects = Vec::new();
    let mut tick_sent: Option<ReceivedAt> = None;
    let mut goodbye: Option<(oneshot::Sender<()>, ReceivedAt)> = None;
    let mut written = 0;
    loop {
        let now_written = carrier.saved.written.load(Ordering::Acquire);
        core.on_written(now_written - written);
        written = now_written;
        if carrier.saved.start_over.swap(false, Ordering::AcqRel) {
            core.start_over();
        }
        if let Some(failure) = core.failure() {
            return Err(failure);
        }
        save_some(core, carrier, &mut effects);
        out.send(&mut effects).await;
        let now = (carrier.clock)();
        if let Some((_, since)) = &goodbye
            && (core.is_settled() && !core.is_saving() || now.since(*since) > GOODBYE_MAX.as_millis() as i64 / 2)
        {
            return Ok(goodbye.map(|(goodbye, _)| goodbye));
        }
        let tick_in = match core.waits() {
            Waits::Open { flush_until, block_until } => Some(flush_until.unwrap_or(block_until).min(block_until)),
            Waits::Due(at) => Some(at),
            Waits::Nothing => None,
        };
        // A tick on its way is waited for, and not doubled.
        let tick_in = match (tick_in, tick_sent) {
            (Some(at), Some(sent)) => Some(at.max(sent.plus(TICK_TIMEOUT))),
            (at, _) => at,
        };
        // Due by our clock; by the log's it may be due a moment later, so leave a moment between two ticks.
        let pause = tick_in.map(|at| Duration::from_millis(at.since(now).clamp(5, 60_000) as u64));
        let pause = if goodbye.is_some() { Some(pause.unwrap_or(GOODBYE_STEP).min(GOODBYE_STEP)) } else { pause };
        let input = tokio::select! {
            biased;
            input = inputs.recv() => input,
            // Others have had their turn: on with the snapshot.
            () = tokio::task::yield_now(), if core.is_saving() => continue,
            () = sleep(pause) => {
                // Not yet: the pause was cut short.
                if tick_in.is_some_and(|at| (carrier.clock)() >= at) {
                    append_own(carrier, own.tick.clone()).await;
                    tick_sent = Some((carrier.clock)());
                }
                continue;
            }
        };
        match input {
            None => return Ok(None),
            Some(Input::Leave(answer)) => {
                core.want_snapshot(&mut effects);
                if let Some(failure) = core.failure() {
                    return Err(failure);
                }
                out.send(&mut effects).await;
                goodbye = Some((answer, now));
            }
            Some(Input::Records(records)) => {
                for record in records {
                    // A jump back after a restart of delivery may bring records again.
                    if record.offset < core.next() {
                        continue;
                    }
                    if tick_sent.is_some() && record.value == own.tick {
                        tick_sent = None;
                    }
                    core.apply(record, &mut effects);
                    if let Some(failure) = core.failure() {
                        return Err(failure);
                    }
                    if !effects.is_empty() {
                        out.send(&mut effects).await;
                        gauge(core, carrier);
                    }
                }
                tracing::debug!(%partition, next = core.next(), "records applied");
            }
        }
    }
}

/// Puts some more of the snapshot that has begun, if one has.
fn save_some<S: Stage>(core: &mut Core<S>, carrier: &Carrier, effects: &mut Vec<Effect<S::Rows>>) {
    if core.is_saving() {
        let began = clock();
        core.go_on_saving(ENTRIES_AT_A_TIME, effects);
        let topic = carrier.partition.topic.to_string();
        metrics::histogram!("worker_snapshot_pause_seconds", "topic" => topic).record(began.elapsed().as_secs_f64());
    }
}

#[expect(clippy::disallowed_methods, reason = "a pause is measured; nothing is decided by it")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

fn gauge<S: Stage>(core: &Core<S>, carrier: &Carrier) {
    let labels =
        [("topic", carrier.partition.topic.to_string()), ("partition", carrier.partition.partition.to_string())];
    metrics::gauge!("worker_watermark_seconds", &labels).set(core.clock().watermark().0.max(0) as f64 / 1000.0);
    metrics::gauge!("worker_offset", &labels).set(core.next() as f64);
    let behind = (carrier.clock)().since(core.clock().log_time).max(0);
    metrics::gauge!("worker_lag_seconds", &labels).set(behind as f64 / 1000.0);
    let saved = ReceivedAt(carrier.saved.log_time_ms.load(Ordering::Relaxed));
    metrics::gauge!("worker_snapshot_age_seconds", &labels).set((carrier.clock)().since(saved).max(0) as f64 / 1000.0);
    for (what, size) in core.stage().sizes() {
        metrics::gauge!("worker_state", "what" => what, "partition" => carrier.partition.partition.to_string())
            .set(size as f64);
    }
}

/// Appends a record of the owner's own. A failure is no harm: it is tried again when it is due again.
async fn append_own(carrier: &Carrier, value: bytes::Bytes) {
    let record = NewRecord { partition: carrier.partition.partition, timestamp_ms: (carrier.clock)().0, value };
    if let Err(error) = carrier.log.append(&carrier.partition.topic, vec![record]).await {
        tracing::warn!(partition = %carrier.partition, error = &error as &dyn std::error::Error, "tick was not appended");
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
