//! Records of `events` that no gateway of ours wrote: readable, and odd.

mod made;

use made::track;
use trackway_domain::event::{Event, TimeSource};
use trackway_eventlog::Record;
use trackway_wire::log;
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::EventsStage;
use trackway_worker::stage::{Core, Effect, SnapshotPace};

const NOW: i64 = 1_800_000_000_000;

/// Applies records that come one second after the other, and a tick.
fn applied(records: Vec<bytes::Bytes>) -> Vec<Effect<trackway_worker::events::EventsRows>> {
    let pace = SnapshotPace { time_ms: 60_000, records: 1000 };
    let mut core = Core::new(EventsStage::new(3, 2), PartitionClock::new(), 0, pace);
    let mut effects = Vec::new();
    for (offset, value) in (0..).zip(records.into_iter().chain([log::encode_events_tick()])) {
        core.apply(Record { offset, timestamp_ms: NOW + offset as i64 * 1_000, value }, &mut effects);
    }
    effects
}

fn record(event: Event) -> bytes::Bytes {
    let request = log::RequestContext { project: "shop", protocol: "test", ..Default::default() };
    log::encode_events(&request, &event.visitor.clone(), &[event])
}

#[test]
fn a_time_in_the_far_future_becomes_the_records_and_makes_nobody_late() {
    let effects = applied(vec![
        record(track("a", "e", NOW + 86_400_000, "future")),
        record(track("a", "e", i64::MIN, "before all")),
        record(track("b", "e", NOW + 1_999, "now")),
    ]);
    let rows = effects.iter().flat_map(|effect| match effect {
        Effect::Block(block) => block.rows.events.as_slice(),
        Effect::Append(_) | Effect::Snapshot(_) => &[],
    });
    let told: Vec<_> = rows.map(|row| (row.time_ms, row.time_source, row.late)).collect();
    assert_eq!(told, [(NOW, "replaced", false), (NOW + 1_000, "replaced", false), (NOW + 1_999, "client", false)]);
    let watermarks = effects.iter().filter_map(|effect| match effect {
        Effect::Block(block) => Some(block.watermark.0),
        Effect::Append(_) | Effect::Snapshot(_) => None,
    });
    assert!(watermarks.max().is_some_and(|watermark| watermark < NOW + 4_000));
}
