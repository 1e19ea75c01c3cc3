//! The one place where tasks are spawned: each has a name, is owned here, and is joined.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// A part of the process: a task that runs until it is told to stop.
#[derive(Debug)]
pub struct Part {
    /// Its name, for people.
    pub name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Part {
    /// Starts a part.
    ///
    /// - `run`: gets the token that tells it to stop. Ending before that is an error, also with `Ok`.
    /// - `ended`: is cancelled when the part has ended, whatever the reason.
    pub fn start<F>(name: &'static str, ended: &CancellationToken, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let future = run(stop.clone());
        let (told, ended) = (stop.clone(), ended.clone().drop_guard());
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let task = tokio::spawn(async move {
            let _ended = ended;
            let result = future.await.with_context(|| format!("{name} ended"));
            if result.is_ok() && !told.is_cancelled() {
                bail!("{name} ended without having been told to");
            }
            result
        });
        Self { name, stop, task }
    }

    /// Tells the part to stop and waits for it; at `deadline` it is abandoned. Returns whether all went well.
    pub async fn drain(mut self, deadline: Instant) -> bool {
        let begin = Instant::now();
        self.stop.cancel();
        let ended = tokio::time::timeout_at(deadline, &mut self.task).await;
        let seconds = begin.elapsed().as_secs_f64();
        match &ended {
            Ok(Ok(Ok(()))) => info!(part = self.name, seconds, "part drained"),
            Ok(Ok(Err(e))) => error!(part = self.name, error = format!("{e:#}"), "part ended with an error"),
            Ok(Err(e)) => error!(part = self.name, error = %e, "part crashed"),
            Err(_) => {
                self.task.abort();
                error!(part = self.name, seconds, "part did not drain in time and was abandoned");
            }
        }
        matches!(ended, Ok(Ok(Ok(()))))
    }
}

/// Time from the first signal until the process has ended, whatever still goes on. Container managers kill after 10 s.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    #[tokio::test]
    async fn a_part_that_stops_when_told_has_drained() {
        let ended = CancellationToken::new();
        let part = Part::start("p", &ended, |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        assert!(!ended.is_cancelled());
        assert!(part.drain(soon()).await);
        assert!(ended.is_cancelled());
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_is_noticed_and_is_no_success() {
        let ended = CancellationToken::new();
        let part = Part::start("p", &ended, |_| async { Ok(()) });
        ended.cancelled().await;
        assert!(!part.drain(soon()).await);
    }

    #[tokio::test]
    async fn a_part_that_crashes_is_noticed() {
        let ended = CancellationToken::new();
        let part = Part::start("p", &ended, |_| async { panic!("on purpose") });
        ended.cancelled().await;
        assert!(!part.drain(soon()).await);
    }

    #[tokio::test]
    async fn a_part_that_does_not_stop_is_abandoned_at_the_deadline() {
        let ended = CancellationToken::new();
        let part = Part::start("p", &ended, |_| std::future::pending());
        assert!(!part.drain(soon()).await);
        ended.cancelled().await;
    }
}
