//! Ways to hurt a running installation, besides ending its processes.

use anyhow::{Context, Result};

use super::process::{Process, free_ports};
use super::{Installation, named};

impl Installation {
    /// Stops the clock of a process: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self, name: &str) -> Result<()> {
        self.processes().signal(name, "STOP")
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self, name: &str) -> Result<()> {
        self.processes().signal(name, "CONT")
    }

    /// [`Self::pause`] for the children of a process: of `up` or `clickhouse`, the ClickHouse server.
    ///
    /// # Errors
    /// If it does not run or has none.
    pub fn pause_children(&self, name: &str) -> Result<()> {
        self.processes().signal_children(name, "STOP")
    }

    /// [`Self::resume`] for the children of a process.
    ///
    /// # Errors
    /// If it does not run or has none.
    pub fn resume_children(&self, name: &str) -> Result<()> {
        self.processes().signal_children(name, "CONT")
    }

    /// One more process like another, which is not started yet.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn define_like(&self, name: &str, other: &str) -> Result<()> {
        let [metrics] = free_ports()?;
        let mut processes = self.processes();
        let (role, mut environment) = processes.like(other)?;
        environment.extend(named(&[("TELEMETRY__LISTEN", format!("127.0.0.1:{metrics}"))]));
        processes.define(Process { name: name.to_owned(), role, environment, metrics, child: None });
        Ok(())
    }

    /// How many gateways there are.
    #[must_use]
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Whether a process runs, as far as we have started it and nobody ended it.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        self.processes().metrics_ports().iter().any(|(running, _)| running == name)
    }

    /// Memory that a process has in use, in bytes.
    ///
    /// # Errors
    /// If it does not run.
    pub fn memory(&self, name: &str) -> Result<u64> {
        let pid = self.processes().pid(name)?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024)
    }
}
