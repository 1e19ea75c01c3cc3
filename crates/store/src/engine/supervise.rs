//! Keeps the child alive until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::launch::{self, Plan, Running};

/// The engine ends within 65 ms of the end of its standard input; a merge of big parts may hold it longer. It is safe to
/// kill then: acknowledged blocks survive a kill.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Wait before a start that follows a death, doubled each time: a broken folder must not become a busy loop.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The one place of this crate that spawns: the supervisor, owned and joined by [`super::Engine`].
#[expect(
    clippy::disallowed_methods,
    reason = "the supervisor must outlive the call that starts it; `Engine` owns and joins it"
)]
pub(super) fn spawn(supervisor: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(supervisor)
}

/// Starts the child again whenever it dies, on the same port, until `stopped` says stop or its sender is gone.
///
/// - `process`: told the id of each new process.
pub(super) async fn run(
    plan: Plan,
    first: Running,
    port: u16,
    process: Arc<AtomicU32>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut running = first;
    loop {
        tokio::select! {
            status = running.child.wait() => {
                process.store(0, Ordering::Relaxed);
                metrics::counter!("store_engine_deaths_total").increment(1);
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!(status, last_lines = launch::log_of(&plan), "embedded ClickHouse died, starting it again");
            }
            _ = &mut stopped => {
                return stop(running).await;
            }
        }
        tokio::select! {
            again = start_again(&plan, port) => running = again,
            _ = &mut stopped => return,
        }
        process.store(running.process_id(), Ordering::Relaxed);
    }
}

/// A running child, however often it takes.
async fn start_again(plan: &Plan, port: u16) -> Running {
    let mut backoff = BACKOFF_FIRST;
    loop {
        sleep(backoff).await;
        match launch::launch(plan, Some(port)).await {
            Ok((running, _)) => {
                tracing::info!(port, "embedded ClickHouse started again");
                return running;
            }
            // Not worth an end of this process: inserts wait, and whoever frees the port or the disk needs no restart.
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "embedded ClickHouse does not start");
            }
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn stop(mut running: Running) {
    drop(running.stdin.take());
    if timeout(STOP_TIME_MAX, running.child.wait()).await.is_err() {
        tracing::warn!(waited = ?STOP_TIME_MAX, "embedded ClickHouse did not end by itself, killing it");
        launch::kill(&mut running.child).await;
    }
    tracing::info!("embedded ClickHouse stopped");
}
