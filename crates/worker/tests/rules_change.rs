//! Rules that change in the middle of the log, as state in use and as state that came back from a snapshot meets them.

#[expect(dead_code, reason = "no snapshot is harmed here")]
mod kept;
mod made;

use std::time::Duration;

use bytes::Bytes;
use made::{shop, track};
use trackway_domain::rules::{PartitionRules, ProjectRules, SessionRules};
use trackway_eventlog::Record;
use trackway_wire::log::{self, pb};
use trackway_wire::rules::rules_to_pb;
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::EventsStage;
use trackway_worker::stage::{Core, Effect, SnapshotPace};

const MINUTE: i64 = 60_000;
const BASE: i64 = 1_577_836_800_000;
/// A snapshot after each block.
const PACE: SnapshotPace = SnapshotPace { time_ms: 0, records: 1 };

fn gap(minutes: u64) -> Bytes {
    let session = SessionRules { gap: Duration::from_mins(minutes), ..SessionRules::USUAL };
    let projects = vec![(shop(), ProjectRules { session, ..ProjectRules::USUAL })];
    let rules = rules_to_pb(&PartitionRules { projects, ..PartitionRules::USUAL });
    log::encode(&pb::EventsRecord { body: Some(pb::events_record::Body::Rules(rules)) })
}

fn event(id: &str, minute: i64) -> Bytes {
    let event = track("a", "look", BASE + minute * MINUTE, id);
    let request = log::RequestContext { project: "shop", protocol: "test", ..Default::default() };
    log::encode_events(&request, &event.visitor.clone(), &[event])
}

/// Applies records a minute of log time apart; each is followed by a tick, which closes its block. Sessions told of: first and
/// last minute, number of events, sign.
fn apply(core: &mut Core<EventsStage>, kept: &mut kept::Kept, values: &[Bytes]) -> Vec<(i64, i64, u32, i8)> {
    let mut told = Vec::new();
    for value in values.iter().flat_map(|value| [value.clone(), log::encode_events_tick()]) {
        let offset = core.next();
        let mut effects = Vec::new();
        core.apply(Record { offset, timestamp_ms: BASE + (60 + offset as i64) * MINUTE, value }, &mut effects);
        while core.is_saving() {
            core.go_on_saving(1, &mut effects);
        }
        for effect in effects {
            match effect {
                Effect::Block(block) => told.extend(block.rows.sessions.iter().map(|row| {
                    let minute = |ms: i64| (ms - BASE) / MINUTE;
                    (minute(row.start_ms), minute(row.end_ms), row.events, row.sign)
                })),
                Effect::Snapshot(snapshot) => {
                    kept.write(snapshot);
                    core.on_written(1);
                }
                Effect::Append(_) => {}
            }
        }
    }
    told
}

#[test]
fn sessions_that_are_held_are_cut_anew_when_the_gap_changes() {
    for restarts in [false, true] {
        let mut kept = kept::Kept::new();
        let mut core = Core::new(EventsStage::new(0, 1), PartitionClock::new(), 0, PACE);
        let told = apply(&mut core, &mut kept, &[gap(30), event("1", 0), event("2", 20), event("3", 25)]);
        assert_eq!(told, [(0, 0, 1, 1), (0, 0, 1, -1), (0, 20, 2, 1), (0, 20, 2, -1), (0, 25, 3, 1)]);
        if restarts {
            let (offset, content) = kept.restore().expect("a snapshot was written");
            let (stage, clock) = EventsStage::restore(0, 1, &content).expect("our own snapshot");
            core = Core::new(stage, clock, offset, PACE);
        }
        assert_eq!(apply(&mut core, &mut kept, &[gap(10)]), [(0, 25, 3, -1), (0, 0, 1, 1), (20, 25, 2, 1)]);
        assert_eq!(apply(&mut core, &mut kept, &[gap(10)]), [], "the same rules change nothing");
        let told = apply(&mut core, &mut kept, &[event("4", 9)]);
        assert_eq!(told, [(0, 0, 1, -1), (0, 9, 2, 1)]);
    }
}
