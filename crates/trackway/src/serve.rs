//! The roles that serve: build, bind, serve, drain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trackway_eventlog::EventLog;
use trackway_store::Store;
use trackway_store::engine::Engine;

use crate::config::settings::{LogKind, Settings};
use crate::migrate;
use crate::parts;
use crate::reload;
use crate::tasks::{DRAIN_TIME_MAX, Part};
use crate::telemetry;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Up,
    /// HTTP in.
    Gateway,
    /// From the log to the tables.
    Worker,
    /// Answers out.
    Query,
    /// The embedded ClickHouse, for other processes.
    ClickHouse,
}

impl Role {
    fn has_gateway(self) -> bool {
        matches!(self, Self::Up | Self::Gateway)
    }

    fn has_worker(self) -> bool {
        matches!(self, Self::Up | Self::Worker)
    }

    fn has_query(self) -> bool {
        matches!(self, Self::Up | Self::Query)
    }

    fn uses_log(self) -> bool {
        self != Self::ClickHouse
    }

    fn uses_tables(self) -> bool {
        self != Self::Gateway
    }

    fn starts_engine(self, settings: &Settings) -> bool {
        self == Self::ClickHouse || (self == Self::Up && settings.clickhouse.url.is_empty())
    }

    /// Why these settings cannot carry this role, if they cannot.
    pub fn objection(self, settings: &Settings) -> Option<&'static str> {
        if self == Self::Up {
            return None;
        }
        if self.uses_log() && settings.log.kind == LogKind::Embedded {
            return Some(
                "setting `log.kind` is `embedded`, which serves one process: use `trackway up`, or set it to `kafka`",
            );
        }
        if self.uses_log() && self.uses_tables() && settings.clickhouse.url.is_empty() {
            return Some(
                "setting `clickhouse.url` is empty: set it to your server's address, or to that of `trackway clickhouse`",
            );
        }
        None
    }
}

/// What parts stand on.
struct Ground {
    engine: Option<Engine>,
    log: Option<Arc<dyn EventLog>>,
    store: Option<Store>,
}

/// Runs a role until it is told to stop or a part of it ends.
///
/// - `file`: that the settings came from, if they did; its projects are taken over when it changes.
///
/// # Errors
/// If it cannot start.
pub async fn serve(role: Role, settings: Settings, file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let metrics = telemetry::start_metrics()?;
    let address = settings.telemetry.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for metrics. Set `telemetry.listen` to a free address"))?;
    let address = listener.local_addr()?;

    let ended = CancellationToken::new();
    let draining = Arc::new(AtomicBool::new(false));
    let monitor = Part::start("metrics", &ended, {
        let draining = draining.clone();
        |stop| telemetry::serve(listener, metrics, draining, stop)
    });
    info!("metrics on http://{address}/metrics");

    // A signal while things start ends the start, in order.
    let mut ground = Ground { engine: None, log: None, store: None };
    let mut parts = Vec::new();
    let started = tokio::select! {
        started = start(role, &settings, file, &mut ground, &mut parts, &ended) => started,
        () = signals.next() => {
            info!("told to stop while starting");
            Ok(())
        }
    };
    let mut good = started.is_ok();
    if good && !signals.seen {
        info!("ready. Ctrl-C stops");
        tokio::select! {
            () = signals.next() => info!("told to stop; draining, at most {} s. Again: at once", DRAIN_TIME_MAX.as_secs()),
            () = ended.cancelled() => {
                error!("a part ended by itself; stopping the others");
                good = false;
            }
        }
    }
    draining.store(true, Relaxed);
    tokio::select! {
        drained = drain(parts, ground, monitor) => good &= drained,
        () = signals.next() => {
            warn!("told to stop at once");
            return Ok(ExitCode::from(130));
        }
    }
    started?;
    info!("stopped");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the ground and starts the parts of a role on it, in the order in which beacons travel backwards: whoever is
/// written to is there first.
async fn start(
    role: Role,
    settings: &Settings,
    file: Option<PathBuf>,
    ground: &mut Ground,
    parts: &mut Vec<Part>,
    ended: &CancellationToken,
) -> anyhow::Result<()> {
    if role.starts_engine(settings) {
        ground.engine = Some(parts::engine(settings).await?);
    }
    if role == Role::ClickHouse {
        return Ok(());
    }
    let log = match role {
        Role::Gateway => parts::gateway_log(settings).await?,
        Role::Up | Role::Worker | Role::Query | Role::ClickHouse => parts::log(settings).await?,
    };
    ground.log = Some(log.clone());
    if settings.log.kind == LogKind::Kafka {
        info!("event log in kafka at {}", settings.log.brokers);
    }
    if role.uses_tables() {
        let store = parts::store(settings, ground.engine.as_ref())?;
        migrate::await_store(&store).await?;
        ground.store = Some(store);
    }
    if role == Role::Up {
        migrate::tables_and_topics(settings, &*log, ground.store.as_ref().context("`up` has tables")?).await?;
    }
    if role.has_query() {
        let store = ground.store.clone().context("query needs tables")?;
        let query = trackway_query::bind(parts::query(settings), store, log.clone(), parts::clock).await?;
        let address = query.address();
        parts.push(Part::start("query", ended, |stop| async move { Ok(query.serve(stop).await?) }));
        info!("query on http://{address} (gRPC)");
    }
    if role.has_worker() {
        let config = trackway_worker::Config { places: parts::places(settings)?, ..parts::worker(settings) };
        let store = ground.store.clone().context("worker needs tables")?;
        let snapshots = parts::snapshots(settings)?;
        let log = log.clone();
        parts.push(Part::start("worker", ended, |stop| async move {
            Ok(trackway_worker::run(config, log, store, snapshots, parts::clock, stop).await?)
        }));
        info!("worker on {} and {} partitions", settings.log.events_partitions, settings.log.journeys_partitions);
    }
    if role.has_gateway() {
        let gateway = trackway_gateway::bind(parts::gateway(settings)?, log, parts::clock).await?;
        if let Some(file) = file {
            let (projects, kept) = (gateway.projects(), settings.projects.clone());
            parts.push(Part::start("projects", ended, |stop| reload::follow(file, kept, projects, stop)));
        }
        parts.push(Part::start("gateway", ended, |stop| async move {
            gateway.serve(stop).await;
            Ok(())
        }));
        if settings.projects.is_empty() {
            info!("no project is configured: project `default` takes events with write key `dev`");
        }
    }
    Ok(())
}

/// Stops the parts in the order in which beacons travel, then what they stand on. Returns whether all went well.
async fn drain(parts: Vec<Part>, ground: Ground, monitor: Part) -> bool {
    let begin = Instant::now();
    // Each leaves the next some time, also when it uses up all of its own.
    let deadline = |name| match name {
        "gateway" => begin + DRAIN_TIME_MAX.mul_f64(0.4),
        "worker" => begin + DRAIN_TIME_MAX.mul_f64(0.8),
        _ => begin + DRAIN_TIME_MAX.mul_f64(0.9),
    };
    let mut good = true;
    for part in parts.into_iter().rev() {
        let deadline = deadline(part.name);
        good &= part.drain(deadline).await;
    }
    let last = begin + DRAIN_TIME_MAX.mul_f64(0.97);
    drop(ground.store);
    if let Some(engine) = ground.engine {
        good &= in_time("clickhouse", last, engine.stop()).await;
    }
    if let Some(log) = ground.log {
        good &= in_time("event log", last, log.close()).await;
    }
    good & monitor.drain(last).await
}

async fn in_time(name: &'static str, deadline: Instant, stopping: impl Future<Output = ()>) -> bool {
    let stopped = tokio::time::timeout_at(deadline, stopping).await.is_ok();
    if !stopped {
        error!(part = name, "did not stop in time");
    }
    stopped
}

/// Being told to stop, by Ctrl-C or a process manager.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    seen: bool,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())?, seen: false })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.seen = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_of_its_own_needs_servers_that_others_reach_too() {
        let mut settings = Settings::default();
        assert!(Role::Up.objection(&settings).is_none() && Role::ClickHouse.objection(&settings).is_none());
        assert!(Role::Gateway.objection(&settings).is_some_and(|text| text.contains("log.kind")));
        settings.log.kind = LogKind::Kafka;
        assert!(Role::Gateway.objection(&settings).is_none());
        assert!(Role::Worker.objection(&settings).is_some_and(|text| text.contains("clickhouse.url")));
        settings.clickhouse.url = "http://c:8123".into();
        assert!(Role::Query.objection(&settings).is_none());
    }
}
