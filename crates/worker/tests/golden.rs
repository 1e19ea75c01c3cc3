//! Snapshots as released versions wrote them stay readable, and the next one carries on from them.
//!
//! `tests/golden/events/3`: 24 events of 3 visitors (event `n` has id `n` and is of visitor `n % 3`, at `n * 5 % 24` ms), in
//! one message. `tests/golden/events/4`: the same as a base and two deltas.
//! `tests/golden/journeys/0`: what the second stage made of them, with an audience of those who bought twice.

#[expect(dead_code, reason = "no snapshot is harmed here")]
mod kept;
mod made;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use made::track;
use object_store::local::LocalFileSystem;
use trackway_domain::event::{Event, KeySource, OrderKey};
use trackway_domain::id::EventKey;
use trackway_domain::rules::SessionRules;
use trackway_domain::session::{self, SessionEvent};
use trackway_domain::time::EventTime;
use trackway_eventlog::{Record, TopicPartition};
use trackway_wire::log;
use trackway_worker::events::{EventsRows, EventsStage};
use trackway_worker::journeys::JourneysStage;
use trackway_worker::snapshots::{Content, Restored, Snapshots};
use trackway_worker::stage::{Core, Effect, SnapshotPace, Stage};

const PACE: SnapshotPace = SnapshotPace { time_ms: 0, records: 1 };
const BASE: i64 = 1_577_836_800_000;

fn golden(topic: &str, partition: u32) -> Restored {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let snapshots = Snapshots::new(Arc::new(LocalFileSystem::new_with_prefix(folder).expect("a folder")));
    let restored = kept::wait(snapshots.restore(&TopicPartition { topic: topic.into(), partition }));
    restored.expect("it can be read").expect("it is there")
}

fn event(n: u8, time: i64) -> Event {
    let key_source = if n.is_multiple_of(3) { KeySource::Content } else { KeySource::Id };
    Event { key_source, ..track(&(n % 3).to_string(), "look", BASE + time, &n.to_string()) }
}

/// All 24 events again, and one that is new, at 24 ms.
fn again() -> Vec<Record> {
    let request = log::RequestContext { project: "shop", protocol: "test", ..Default::default() };
    let events = (0..24).map(|n| event(n, i64::from(n) * 5 % 24)).chain([event(24, 24)]);
    let values = events.map(|event| log::encode_events(&request, &event.visitor.clone(), &[event]));
    let values = values.chain([log::encode_events_tick()]);
    let record =
        |(n, value): (u64, _)| Record { offset: 26 + n, timestamp_ms: BASE + 2_000 + (n as i64 / 25) * 50, value };
    (0..).zip(values).map(record).collect()
}

/// Events that count among these records, and sessions told of, with their signs.
fn told(content: &Content) -> (usize, BTreeSet<(i64, i64, u32, i8)>) {
    let (stage, clock) = EventsStage::restore(3, 2, content).expect("it is read");
    let mut core = Core::new(stage, clock, 26, PACE);
    let mut rows: Vec<EventsRows> = Vec::new();
    let mut effects = Vec::new();
    for record in again() {
        core.apply(record, &mut effects);
    }
    rows.extend(effects.into_iter().filter_map(|effect| match effect {
        Effect::Block(block) => Some(block.rows),
        Effect::Append(_) | Effect::Snapshot(_) => None,
    }));
    let sessions = rows.iter().flat_map(|rows| &rows.sessions);
    let sessions = sessions.map(|row| (row.start_ms - BASE, row.end_ms - BASE, row.events, row.sign)).collect();
    (rows.iter().map(|rows| rows.events.len()).sum(), sessions)
}

/// The state as a base has it: the next snapshot of a state in one message, and here of any.
fn carried_on<S: Stage>(stage: S, clock: trackway_worker::clock::PartitionClock, offset: u64) -> Content {
    let mut kept = kept::Kept::new();
    let mut core = Core::new(stage, clock, offset, PACE);
    core.start_over();
    let mut effects = Vec::new();
    core.apply(Record { offset, timestamp_ms: BASE + 1_500, value: log::encode_events_tick() }, &mut effects);
    while core.is_saving() {
        core.go_on_saving(1, &mut effects);
    }
    for effect in effects {
        if let Effect::Snapshot(snapshot) = effect {
            kept.write(snapshot);
        }
    }
    kept.restore().expect("a snapshot was written").1
}

#[test]
fn the_first_stage_in_one_message_is_read_and_carried_on() {
    let Restored { content, .. } = golden("events", 3);
    assert!(matches!(content, Content::Whole(_)));
    first_stage_is_read_and_carried_on(3);
}

#[test]
fn the_first_stage_in_deltas_is_read_and_carried_on() {
    let Restored { content, position, .. } = golden("events", 4);
    assert!(matches!(content, Content::Chain(_)));
    assert_eq!(position.len(), 3);
    first_stage_is_read_and_carried_on(4);
}

fn first_stage_is_read_and_carried_on(partition: u32) {
    let Restored { offset, content, .. } = golden("events", partition);
    assert_eq!(offset, 26);
    // Visitor 0's sessions (a gap of 3 ms, 9 ms long at most) before and after its event at 24 ms.
    let rules =
        SessionRules { gap: Duration::from_millis(3), length_max: Duration::from_millis(9), ..SessionRules::USUAL };
    let of_visitor_0 = |times: &[i64]| -> BTreeSet<(i64, i64, u32)> {
        let events: Vec<_> = times
            .iter()
            .map(|&time| SessionEvent::at(OrderKey { time: EventTime(time), sequence: 0, key: EventKey(0) }))
            .collect();
        let cut = session::oracle::sessions(&events, &rules);
        cut.into_iter().map(|session| (session.start.0, session.end.0, session.events)).collect()
    };
    let mut times: Vec<i64> = (0..24).step_by(3).map(|n| n * 5 % 24).collect();
    let before = of_visitor_0(&times);
    times.push(24);
    let after = of_visitor_0(&times);
    let back = before.difference(&after).map(|&(start, end, events)| (start, end, events, -1));
    let put = after.difference(&before).map(|&(start, end, events)| (start, end, events, 1));
    let expected: BTreeSet<_> = back.chain(put).collect();
    assert!(!expected.is_empty());
    assert_eq!(told(&content), (1, expected.clone()));

    let (stage, clock) = EventsStage::restore(3, 2, &content).expect("it is read");
    let sizes = stage.sizes();
    let content = carried_on(stage, clock, offset);
    assert!(matches!(content, Content::Chain(_)));
    let (stage, _) = EventsStage::restore(3, 2, &content).expect("it is read");
    assert_eq!(stage.sizes(), sizes);
    assert_eq!(told(&content), (1, expected));
}

#[test]
fn the_second_stage_in_one_message_is_read_and_carried_on() {
    let Restored { offset, content, .. } = golden("journeys", 0);
    assert_eq!(offset, 9);
    let restore = |content: &Content| JourneysStage::restore(0, 2, 1, content).expect("it is read");
    let (stage, clock) = restore(&content);
    let sizes = stage.sizes();
    assert!(sizes.iter().any(|&(what, size)| what == "members" && size > 0), "{sizes:?}");
    let content = carried_on(stage, clock, offset);
    assert!(matches!(content, Content::Chain(_)));
    assert_eq!(restore(&content).0.sizes(), sizes);
}
