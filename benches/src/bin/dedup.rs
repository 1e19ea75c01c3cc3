//! Question: what does it cost to know the event ids of a week, in memory and in time?
//!
//! Baseline: a hashbrown set for each day, as versions before kept them. Command: `cargo xtask bench dedup [-- NEWEST OLDER
//! [FOLDER]]`: ids of the newest day, and of the seven before it in all (default 10,000,000 each), in a folder of the
//! system's. Each line is a process of its own, so that the memory of one is not what another left.

use std::collections::VecDeque;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hashbrown::HashSet;
use trackway_benches::{argument, cpu_time};
use trackway_domain::dedup::{KnownEvents, Memory};
use trackway_domain::event::KeySource;
use trackway_domain::id::EventKey;
use trackway_domain::time::ReceivedAt;
use trackway_worker::events::DayFiles;

const OLDER_DAYS: u64 = 7;
const DAY_MS: i64 = 24 * 3600 * 1000;

fn main() -> Result<()> {
    let (newest, older): (u64, u64) = (argument(1, 10_000_000), argument(2, 10_000_000));
    let folder = std::env::args().nth(3).map_or_else(std::env::temp_dir, PathBuf::from);
    match std::env::args().nth(4).as_deref() {
        None => {
            println!("{newest} ids of the newest day, {older} of the {OLDER_DAYS} before it");
            println!(
                "{:<28} {:>9} {:>9} {:>10} {:>10} {:>12} {:>12}",
                "", "bytes/id", "peak", "ns/new id", "ns/known", "99.99 %", "longest claim"
            );
            for what in ["baseline: a set a day", "all days in memory", "older days in files"] {
                let run = Command::new(std::env::current_exe()?)
                    .args([newest.to_string(), older.to_string()])
                    .arg(&folder)
                    .arg(what)
                    .status()?;
                if !run.success() {
                    bail!("`{what}` ended with {run}");
                }
            }
            Ok(())
        }
        Some(what @ "baseline: a set a day") => measure(what, newest, older, &mut Sets::default()),
        Some(what @ "all days in memory") => measure(what, newest, older, &mut KnownEvents::default()),
        Some(what) => {
            measure(what, newest, older, &mut KnownEvents::new(Memory::USUAL, DayFiles::new(Some(folder), 0)))
        }
    }
}

trait Known {
    fn claim(&mut self, key: u64, day: i64) -> bool;
    /// A snapshot took what is new.
    fn saved(&mut self);
}

/// A set a day, newest first, and what is new.
#[derive(Default)]
struct Sets(VecDeque<(i64, HashSet<u64>)>, Vec<u64>);

impl Known for Sets {
    fn claim(&mut self, key: u64, day: i64) -> bool {
        if self.0.front().is_none_or(|(newest, _)| *newest < day) {
            self.0.push_front((day, HashSet::new()));
        }
        if self.0.iter().skip(1).any(|(_, keys)| keys.contains(&key)) {
            return false;
        }
        let is_new = self.0[0].1.insert(key);
        if is_new {
            self.1.push(key);
        }
        is_new
    }

    fn saved(&mut self) {
        self.1 = Vec::new();
    }
}

impl<A: trackway_domain::dedup::Archive> Known for KnownEvents<A> {
    fn claim(&mut self, key: u64, day: i64) -> bool {
        let now = ReceivedAt(day * DAY_MS);
        let Ok(is_new) = KnownEvents::claim(self, EventKey(key), KeySource::Id, now, now) else {
            panic!("the archive cannot be read")
        };
        is_new
    }

    fn saved(&mut self) {
        drop(self.take_claimed());
    }
}

fn measure(what: &str, newest: u64, older: u64, known: &mut impl Known) -> Result<()> {
    /// What comes between two snapshots.
    const SNAPSHOT: u64 = 300_000;
    let before = memory("VmRSS:")?;
    for n in 0..older {
        known.claim(mix(n), (n * OLDER_DAYS / older) as i64);
        if n % SNAPSHOT == 0 {
            known.saved();
        }
    }
    // Each claim by itself, over the turn of a day and all growth.
    let mut times = Vec::with_capacity(newest as usize);
    for n in older..older + newest {
        let began = clock();
        assert!(known.claim(mix(n), OLDER_DAYS as i64));
        times.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
        if n % SNAPSHOT == 0 {
            known.saved();
        }
    }
    known.saved();
    let used = memory("VmRSS:")? - before - newest * 4;
    let peak = memory("VmHWM:")? - before - newest * 4;
    times.sort_unstable();
    let at = |part: f64| Duration::from_nanos(u64::from(times[(times.len() as f64 * part) as usize]));
    let longest = Duration::from_nanos(u64::from(times[times.len() - 1]));
    // Many at a time, so that the clock is not what is measured.
    let count = newest.min(older).min(2_000_000);
    let began = cpu_time(None);
    (0..count).for_each(|n| assert!(known.claim(mix(older + newest + n), OLDER_DAYS as i64)));
    let new = cpu_time(None) - began;
    let began = cpu_time(None);
    // Every other one of an older day.
    (0..count).for_each(|n| {
        assert!(!known.claim(mix(if n % 2 == 0 { older + n } else { older - 1 - n }), OLDER_DAYS as i64));
    });
    let again = cpu_time(None) - began;
    let ns = |time: Duration| time.as_nanos() as f64 / count as f64;
    let each = |bytes: u64| bytes as f64 / (newest + older) as f64;
    println!(
        "{what:<28} {:>9.1} {:>9.1} {:>10.0} {:>10.0} {:>12?} {:>12?}",
        each(used),
        each(peak),
        ns(new),
        ns(again),
        at(0.9999),
        longest
    );
    Ok(())
}

fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A line of this process's memory, in bytes.
fn memory(line: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|other| other.strip_prefix(line)).context("a line of memory")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

#[expect(clippy::disallowed_methods, reason = "a bench measures wall time: a pause is one")]
fn clock() -> Instant {
    Instant::now()
}
