//! One owner per partition drives the domain, carries out its effects, writes snapshots, commits.
//!
//! Two stages, each over a topic of its own: [`events`] (by visitor) and [`journeys`] (by person). A partition is a pure
//! function of its records ([`stage::Core`]); everything with a clock or a network is in [`mod@partition`] and `effects`.
//!
//! Invariants:
//! - A block for ClickHouse ends where the records say, so a replay makes the same blocks under the same names.
//! - An offset is committed only when every effect of all records before it is durable and the snapshot is written.
//! - Rules and time reach state only through records.

pub mod clock;
mod effects;
pub mod events;
mod group;
mod identities;
pub mod journeys;
pub mod partition;
mod rejected;
pub mod snapshots;
pub mod stage;
mod touches;
mod tracked;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trackway_domain::rules::PartitionRules;
use trackway_domain::time::ReceivedAt;
use trackway_enrich::geo::Places;
use trackway_eventlog::{AppendError, EventLog, LogError};
use trackway_store::Store;
use trackway_store::insert::InsertError;
use trackway_wire::log::DecodeError;

use crate::snapshots::SnapshotError;
use crate::stage::Target;

/// Reads our clock.
pub type Clock = fn() -> ReceivedAt;

/// Settings of the worker.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the consumer group's first part; all workers of one installation share it.
    pub group: String,
    /// Names of topics.
    pub topics: Topics,
    /// Rules that are to hold; they take effect through the log.
    pub rules: PartitionRules,
    /// Received time between two snapshots of a partition: how much is replayed after a crash.
    pub snapshot_every: Duration,
    /// Records between two snapshots of a partition at most.
    pub snapshot_records: u64,
    /// Bytes of records that wait in memory for their partition at most.
    pub buffer_bytes_max: usize,
    /// Where addresses are; `None`: nobody knows.
    pub places: Option<Arc<Places>>,
    /// Folder for the ids of days that are over; `None`: they stay in memory.
    pub ids_folder: Option<PathBuf>,
    /// How long a partition that moves to another worker may be held for its last snapshot.
    pub handover_timeout: Duration,
}

/// Names of the topics a worker reads and writes.
#[derive(Debug, Clone)]
pub struct Topics {
    /// By project and visitor.
    pub events: String,
    /// By project and person.
    pub journeys: String,
    /// By person.
    pub audience_changes: String,
    /// Bad records.
    pub rejected: String,
}

impl Topics {
    fn of(&self, target: Target) -> &str {
        match target {
            Target::Journeys => &self.journeys,
            Target::AudienceChanges => &self.audience_changes,
            Target::Rejected => &self.rejected,
        }
    }
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The event log cannot be read.
    #[error("event log cannot be read on")]
    Log(#[from] LogError),
    /// Derived records are refused for good.
    #[error("derived records are refused")]
    Append(#[from] AppendError),
    /// Rows are refused for good.
    #[error("rows are refused")]
    Insert(#[from] InsertError),
    /// Ids that are known cannot be read.
    #[error("known event ids cannot be read")]
    Known(#[from] events::KnownError),
    /// State cannot be restored.
    #[error("state cannot be restored")]
    Snapshot(#[from] SnapshotError),
    /// A snapshot of ours cannot be read.
    #[error("snapshot of {partition} at offset {offset} cannot be read")]
    Restore {
        /// Whose.
        partition: String,
        /// Which.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
}

/// Runs both stages until `shutdown`; then finishes what is open, writes snapshots, commits, and leaves the groups.
///
/// # Errors
/// [`WorkerError`] if something will not get better by trying again; restart the worker when the cause is mended.
pub async fn run(
    config: Config,
    log: Arc<dyn EventLog>,
    store: Store,
    snapshots: Arc<dyn object_store::ObjectStore>,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    // The first event would wait for it otherwise.
    trackway_enrich::user_agent::warm();
    let snapshots = snapshots::Snapshots::new(snapshots);
    let worker = Arc::new(group::Worker { config, log, store, snapshots, clock });
    let mut stages = JoinSet::new();
    let stop = shutdown.child_token();
    spawn(&mut stages, worker.clone().run_events(stop.clone()));
    spawn(&mut stages, worker.clone().run_journeys(stop.clone()));
    let mut result = Ok(());
    while let Some(ended) = stages.join_next().await {
        let ended = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        // If one stage cannot go on, the other leaves in order.
        stop.cancel();
        result = result.and(ended);
    }
    result
}

/// The one place where tasks begin; each is owned and joined by its set.
fn spawn<T: Send + 'static>(tasks: &mut JoinSet<T>, task: impl Future<Output = T> + Send + 'static) {
    tasks.spawn(task);
}
