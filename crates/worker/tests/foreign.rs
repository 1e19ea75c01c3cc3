//! Records of `events` that no gateway of ours wrote: readable, and odd.

mod made;

use made::track;
use trackway_domain::event::Event;
use trackway_eventlog::Record;
use trackway_wire::log::{self, pb};
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::EventsStage;
use trackway_worker::stage::{Core, Effect, SnapshotPace, Target};

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
    let column = |name| -> Vec<String> {
        let blocks = effects.iter().filter_map(|effect| match effect {
            Effect::Block(block) => Some(&block.rows.events),
            Effect::Append(_) | Effect::Snapshot(_) => None,
        });
        blocks.flat_map(|rows| rows.texts(name)).collect()
    };
    assert_eq!(column("time"), [NOW, NOW + 1_000, NOW + 1_999].map(|ms| ms.to_string()));
    assert_eq!(column("time_source"), ["replaced", "replaced", "client"]);
    assert_eq!(column("late"), ["0", "0", "0"]);
    let watermarks = effects.iter().filter_map(|effect| match effect {
        Effect::Block(block) => Some(block.watermark.0),
        Effect::Append(_) | Effect::Snapshot(_) => None,
    });
    assert!(watermarks.max().is_some_and(|watermark| watermark < NOW + 4_000));
}

#[test]
fn events_of_unknown_kinds_are_kept_and_the_others_count() {
    let event = |kind: i32, id: u64| pb::Event {
        kind,
        name: "e".into(),
        id: id.to_string(),
        key: id,
        time_ms: NOW,
        time_source: pb::event::TimeSource::Client as i32,
        properties: "x".repeat(5_000),
        ..Default::default()
    };
    let (track, of_a_later_version) = (pb::event::Kind::Track as i32, 99);
    let value = |kinds: &[i32]| {
        let events = (0..).zip(kinds).map(|(id, &kind)| event(kind, id)).collect();
        let events = pb::VisitorEvents { project: "shop".into(), visitor_id: "a".into(), events, ..Default::default() };
        log::encode(&pb::EventsRecord { body: Some(pb::events_record::Body::Events(events)) })
    };
    let some = value(&[of_a_later_version, track, of_a_later_version]);
    let effects = applied(vec![some.clone(), value(&[of_a_later_version; 3_000])]);
    let mut kept = Vec::new();
    let mut counted = 0;
    for effect in effects {
        match effect {
            Effect::Append(derived) => {
                let rejected = derived.into_iter().filter(|derived| derived.target == Target::Rejected);
                kept.extend(rejected.map(|derived| log::decode::<pb::RejectedRecord>(derived.value).expect("ours")));
            }
            Effect::Block(block) => counted += block.rows.events.len(),
            Effect::Snapshot(_) => {}
        }
    }
    assert_eq!((counted, kept.len()), (1, 2));
    assert_eq!((kept[0].project.as_str(), kept[0].protocol.as_str(), &kept[0].body), ("shop", "log", &some));
    assert_eq!(
        kept[0].message,
        "2 events of record 0 of `events` 3, the first: field `kind` of a record has no meaning"
    );
    let items: Vec<_> = kept[0].items.iter().map(|item| (item.index, item.content.len())).collect();
    assert_eq!(items, [(0, 4_096), (2, 4_096)]);
    // Of a record of 15 MB so much is kept as fits into a record.
    assert_eq!((kept[1].items.len(), kept[1].body.len()), (100, 65_536));
    assert!(kept[1].message.starts_with("3000 events of record 1"), "{}", kept[1].message);
}
