//! Question: how long does a snapshot stop its partition, and how long does a restart take, with a million open sessions or
//! five?
//!
//! Baseline: the state in one message, encoded at once, as versions before deltas did between two records. Command:
//! `cargo xtask bench snapshots [-- VISITORS [FOLDER]]` (default 1,000,000 in a folder of the system's; of one partition).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use object_store::local::LocalFileSystem;
use trackway_benches::{argument, realistic, shop};
use trackway_domain::id::PersonKey;
use trackway_domain::rules::PartitionRules;
use trackway_eventlog::{Record, TopicPartition};
use trackway_wire::log::{self, pb};
use trackway_wire::rules::rules_to_pb;
use trackway_worker::events::EventsStage;
use trackway_worker::snapshots::saver::Saver;
use trackway_worker::snapshots::{Content, Encoded, Position, Restored, Snapshots};
use trackway_worker::stage::{Core, Effect, Snapshot, SnapshotPace};

const NOW: i64 = 1_700_000_000_000;

/// Events of an open session, on average 6.6 as in the stream of all benches.
const EVENTS: [usize; 5] = [3, 5, 6, 8, 11];

/// As in `partition.rs`.
const ENTRIES_AT_A_TIME: usize = 2_000;

/// Records applied between the first and the second snapshot: what 30 s bring at 10,000 a second.
const RECORDS: u64 = 300_000;

fn main() -> Result<()> {
    let visitors: u64 = argument(1, 1_000_000);
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args().nth(2).map_or(temporary.path().to_owned(), Into::into);
    let store = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true);
    let snapshots = Snapshots::new(Arc::new(store));
    let partition = TopicPartition { topic: "events".into(), partition: 0 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;

    let state = state(visitors);
    let began = clock();
    let whole = log::encode(&state);
    println!("baseline: one message of {visitors} visitors, at once: {} ms, {} MB", ms(began), mb(whole.len() as u64));
    drop(state);
    let began = clock();
    let (stage, clock_of_stage) = EventsStage::restore(0, 4, &Content::Whole(whole)).context("the state")?;
    println!("restore of it: {} ms, {} MB in memory", ms(began), memory()?);

    // Only where log time moves on: at the ticks.
    let pace = SnapshotPace { time_ms: 1_000, records: u64::MAX };
    let mut core = Core::new(stage, clock_of_stage, 1, pace);
    let mut saver = Saver::new(Position::default());
    let (mut next, mut now) = (1, NOW);
    for (what, records) in [("base", 1), ("delta", RECORDS), ("small delta", RECORDS / 100)] {
        let mut effects = Vec::new();
        // A block is open until the tick, however many records: no snapshot begins before.
        for n in 0..records {
            let event = realistic(n * 7 + next, 20_000_000);
            let request = log::RequestContext { project: "shop", protocol: "bench", ..Default::default() };
            let value = log::encode_events(&request, &event.visitor.clone(), &[event]);
            core.apply(Record { offset: next, timestamp_ms: NOW, value }, &mut effects);
            next += 1;
        }
        effects.clear();
        now += 2_000;
        let tick = Record { offset: next, timestamp_ms: now, value: log::encode_events_tick() };
        next += 1;
        let began = clock();
        core.apply(tick, &mut effects);
        let begin = began.elapsed();
        effects.retain(|effect| matches!(effect, Effect::Snapshot(_)));
        let mut pauses = vec![];
        while core.is_saving() {
            let began = clock();
            core.go_on_saving(ENTRIES_AT_A_TIME, &mut effects);
            pauses.push(began.elapsed());
        }
        let Some(Effect::Snapshot(Snapshot { end, changes, .. })) = effects.pop() else { anyhow::bail!("no snapshot") };
        core.on_written(1);
        let entries = changes.entries();
        let began = clock();
        let snapshot = Encoded::new(end, saver.position(), changes);
        runtime.block_on(snapshots.write(&partition, &snapshot))?;
        let written = ms(began);
        saver.on_written(&snapshot);
        pauses.sort_unstable();
        let all: Duration = pauses.iter().sum();
        println!(
            "{what}: {entries} entries, {} MB; tick, block and begin {} µs; {} pauses, p50 {} µs, p99 {} µs, longest {} µs, in all {} ms; written in {written} ms",
            mb(snapshot.bytes()),
            begin.as_micros(),
            pauses.len(),
            pauses[pauses.len() / 2].as_micros(),
            pauses[pauses.len() * 99 / 100].as_micros(),
            pauses[pauses.len() - 1].as_micros(),
            all.as_millis(),
        );
    }
    drop(core);

    let began = clock();
    let Restored { content, .. } = runtime.block_on(snapshots.restore(&partition))?.context("a snapshot")?;
    let read = ms(began);
    let (stage, clock_of_stage) = EventsStage::restore(0, 4, &content)?;
    println!(
        "restore of base and deltas: {} ms (of these {read} ms to read and check {} MB), {} MB in memory",
        ms(began),
        mb(content.bytes()),
        memory()?
    );
    drop((content, stage, clock_of_stage));

    let began = clock();
    let base = runtime.block_on(snapshots.shorten(&partition, saver.position()))?;
    println!("a new base out of these files, off the loop: {} ms", ms(began));
    saver.on_base(base);
    let began = clock();
    let Restored { content, .. } = runtime.block_on(snapshots.restore(&partition))?.context("a snapshot")?;
    let restored = EventsStage::restore(0, 4, &content)?;
    drop(content);
    println!("restore of it: {} ms, {} MB in memory", ms(began), memory()?);
    drop(restored);
    Ok(())
}

/// A partition's state in which every visitor has an open session.
fn state(visitors: u64) -> pb::EventsSnapshot {
    let mut keys = 0_u64;
    let visitor = |n: u64| {
        let events = EVENTS[n as usize % EVENTS.len()];
        let begin = NOW - 1_000_000 + (n % 900_000) as i64;
        keys += events as u64;
        pb::VisitorState {
            key: PersonKey::of_device(&shop(), &format!("visitor-{n:08}")).0.to_be_bytes().to_vec().into(),
            runs: vec![pb::SessionRun {
                touched_ms: NOW,
                times_ms: (0..events).map(|e| begin + e as i64 * 11_000).collect(),
                sequences: vec![0; events],
                keys: (0..events as u64).map(|e| mix(keys - e)).collect(),
                pages: (0..events as u64).map(|e| if e % 3 == 0 { 1 + ((n + e) % 1_000) as u32 } else { 0 }).collect(),
                landings: (0..events).map(|e| u32::from(e == 0)).collect(),
                facts: Vec::new(),
            }],
            touched_minute: NOW / 60_000 - (n % 20) as i64,
            ..Default::default()
        }
    };
    let states = (0..visitors).map(visitor).collect();
    let day = pb::KnownDay { day: NOW / 86_400_000, keys: (1..=keys).map(mix).collect() };
    let landing = pb::Landing {
        channel: "Organic Search".into(),
        source: "google".into(),
        medium: "organic".into(),
        campaign: String::new(),
        kind: 0,
    };
    pb::EventsSnapshot {
        clock: Some(pb::PartitionClock {
            rules: Some(rules_to_pb(&PartitionRules::USUAL)),
            log_time_ms: NOW,
            event_now_ms: Some(NOW),
        }),
        projects: vec!["shop".to_owned()],
        pages: (0..1_000).map(|n| format!("/category/{}/product/{n}", n % 37)).collect(),
        landings: vec![landing],
        visitors: states,
        days: vec![day],
        ..Default::default()
    }
}

fn mix(z: u64) -> u64 {
    let z = z.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

/// Resident memory of this process in MB.
fn memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}

fn ms(began: Instant) -> u128 {
    began.elapsed().as_millis()
}

fn mb(bytes: u64) -> u64 {
    bytes / 1_000_000
}

#[expect(clippy::disallowed_methods, reason = "a bench measures wall time: a pause is one")]
fn clock() -> Instant {
    Instant::now()
}
