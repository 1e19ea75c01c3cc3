//! Whether memory stays the same over a long time under load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{CONNECTIONS, Server, drive, load, serve};

/// How long the maximum is looked for.
const SEARCH: Duration = Duration::from_secs(10);

const MINUTE: Duration = Duration::from_secs(60);

/// Growth from the fifth minute to the last that is taken for noise of the allocator and the log's caches.
const GROWTH_MAX: f64 = 1.10;

/// Sends for so many minutes at half of the maximum.
pub fn run(minutes: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("log").to_str().context("the folder's name is no text")?.to_owned();
    let server = Server::start(serve::EMBEDDED, &place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let [load, ..] = load::all();
    let found = drive(&runtime, server.address, &load, SEARCH)?;
    let half = found as f64 / SEARCH.as_secs_f64() / 2.0;
    println!("maximum {:.0} events/s, sending {half:.0} events/s for {minutes} minutes", half * 2.0);
    let (mut records, mut memory) = (found, Vec::new());
    for minute in 1..=minutes {
        records += runtime.block_on(load::drive_at(server.address, &load, CONNECTIONS, MINUTE, half))?;
        memory.push(resident_mib(server.child.id())?);
        println!("minute {minute:>3}: {records:>10} events, resident {:.1} MiB", memory[memory.len() - 1]);
    }
    server.stop(records * load.records)?;
    if let (Some(fifth), Some(last)) = (memory.get(4), memory.last()) {
        println!("resident memory, last minute to fifth: {:.3}", last / fifth);
        ensure!(last / fifth <= GROWTH_MAX, "memory grew from {fifth:.1} to {last:.1} MiB");
    }
    Ok(())
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the server has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("no number")?;
    Ok(kib / 1024.0)
}
