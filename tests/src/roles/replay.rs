//! `trackway replay` in the background.

use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Installation;

/// A replay that runs; killed if nobody waits for it.
pub struct Replay<'a> {
    pub(super) installation: &'a Installation,
    pub(super) child: Option<Child>,
}

/// What a replay says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySummary {
    /// Rows that gateways answered for.
    pub answered: u64,
    /// Rows that they rejected.
    pub rejected: u64,
    /// Requests that were sent again.
    pub resent: u64,
}

impl Replay<'_> {
    /// Whether it still runs.
    ///
    /// # Errors
    /// If that cannot be known.
    pub fn is_running(&mut self) -> Result<bool> {
        let child = self.child.as_mut().context("the replay is over")?;
        Ok(child.try_wait()?.is_none())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If that takes longer than `max`, or it does not succeed.
    pub async fn finish(mut self, max: Duration) -> Result<ReplaySummary> {
        let installation = self.installation;
        installation
            .eventually("the replay to end", max, async || {
                ensure!(!self.is_running()?, "it still runs");
                Ok(())
            })
            .await?;
        let child = self.child.take().context("the replay is over")?;
        installation.processes().forget(&child);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "replay ended with {}: {said}\n{}", output.status, installation.logs());
        let summary: serde_json::Value = serde_json::from_str(&said).context("the replay's summary")?;
        let number = |name: &str| summary[name].as_u64().with_context(|| format!("`{name}` in {summary}"));
        Ok(ReplaySummary {
            answered: number("rows_answered")?,
            rejected: number("rows_rejected")?,
            resent: number("requests_resent")?,
        })
    }
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.installation.processes().forget(&child);
        }
    }
}
