//! The ids of days that are over, in files, as a partition meets them.

mod made;

use std::path::Path;

use made::track;
use trackway_eventlog::Record;
use trackway_wire::log;
use trackway_worker::WorkerError;
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::EventsStage;
use trackway_worker::stage::{Core, Effect, SnapshotPace};

const PACE: SnapshotPace = SnapshotPace { time_ms: i64::MAX, records: u64::MAX };
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Applies a record with one event of this id, and one that ends its block. Answers with how many events counted.
fn apply(core: &mut Core<EventsStage>, id: u32, day: i64) -> usize {
    let at = day * DAY_MS + core.next() as i64 * 10_000;
    let request = log::RequestContext { project: "shop", protocol: "test", ..Default::default() };
    let event = track("v", "look", at, &id.to_string());
    let values = [log::encode_events(&request, &event.visitor.clone(), &[event]), log::encode_events_tick()];
    let mut effects = Vec::new();
    for (value, later) in values.into_iter().zip([0, 9_000]) {
        core.apply(Record { offset: core.next(), timestamp_ms: at + later, value }, &mut effects);
    }
    let rows = effects.into_iter().filter_map(|effect| match effect {
        Effect::Block(block) => Some(block.rows.events.len()),
        Effect::Append(_) | Effect::Snapshot(_) => None,
    });
    rows.sum()
}

/// Cuts the files that this process holds and that have no name in the folder any more. Answers with how many there were.
fn cut_files(folder: &Path) -> usize {
    let mut cut = 0;
    for entry in std::fs::read_dir("/proc/self/fd").expect("our open files").flatten() {
        let is_there = std::fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(folder));
        if is_there {
            let file = std::fs::OpenOptions::new().write(true).open(entry.path()).expect("our own file");
            file.set_len(0).expect("it is cut");
            cut += 1;
        }
    }
    cut
}

#[test]
fn a_day_in_a_file_is_known_until_the_file_is_spoilt_and_then_the_partition_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let stage = EventsStage::new(0, 1).with_ids_in(Some(folder.path().to_owned()));
    let mut core = Core::new(stage, PartitionClock::new(), 0, PACE);
    for (day, ids) in [(0, 0..50), (1, 50..60)] {
        for id in ids {
            assert_eq!(apply(&mut core, id, day), 1, "{id}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    assert_eq!(apply(&mut core, 7, 1), 0, "its file says that it is known");
    assert!(core.failure().is_none());
    assert_eq!(cut_files(folder.path()), 1);
    apply(&mut core, 7, 1);
    assert!(matches!(core.failure(), Some(WorkerError::Known(_))));
}
