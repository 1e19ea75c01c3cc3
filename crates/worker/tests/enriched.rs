//! What the first stage makes of an event's context, in the row that it writes.

mod made;

use std::sync::Arc;

use made::track;
use trackway_domain::event::{Context, Event};
use trackway_enrich::geo::Places;
use trackway_eventlog::Record;
use trackway_store::rows::EventRow;
use trackway_wire::log;
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::EventsStage;
use trackway_worker::stage::{Core, Effect, SnapshotPace};

const BASE: i64 = 1_800_000_000_000;

const PHONE: &str = "Mozilla/5.0 (Linux; Android 13; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/112.0.0.0 Mobile Safari/537.36";

/// Its networks stand beside what made it, in `trackway-enrich`.
fn places() -> Option<Arc<Places>> {
    let bytes = include_bytes!("../../enrich/tests/places.mmdb").to_vec();
    Some(Arc::new(Places::read(bytes).expect("a database")))
}

fn event(id: &str, context: Context) -> Event {
    let mut event = track("a", "e", BASE, id);
    event.received.context = context;
    event
}

/// Rows of one request's events.
fn rows(places: Option<Arc<Places>>, events: &[Event]) -> Vec<EventRow> {
    let request =
        log::RequestContext { project: "shop", user_agent: PHONE, protocol: "test", ip: "192.0.2.0", bot: "" };
    let stage = EventsStage::new(0, 1).located_by(places);
    let pace = SnapshotPace { time_ms: 60_000, records: 1000 };
    let mut core = Core::new(stage, PartitionClock::new(), 0, pace);
    let mut effects = Vec::new();
    let records = [log::encode_events(&request, &events[0].visitor, events), log::encode_events_tick()];
    for (offset, value) in (0_u64..).zip(records) {
        core.apply(
            Record { offset, timestamp_ms: BASE + i64::try_from(offset).expect("small") * 60_000, value },
            &mut effects,
        );
    }
    let blocks = effects.into_iter().filter_map(|effect| match effect {
        Effect::Block(block) => Some(block.rows.events),
        Effect::Append(_) | Effect::Snapshot(_) => None,
    });
    blocks.flatten().collect()
}

#[test]
fn a_row_tells_program_device_language_screen_and_place() {
    let context = Context { locale: "de-AT".to_owned(), screen: (360, 780), ..Context::default() };
    let row = rows(places(), &[event("1", context)]).pop().expect("a row");
    assert_eq!(
        [&*row.browser, &*row.browser_version, &*row.os, &*row.os_version],
        ["Chrome Mobile", "112", "Android", "13"]
    );
    assert_eq!([&*row.device, &*row.device_brand, &*row.device_model], ["mobile", "Samsung", "SM-S911B"]);
    assert_eq!([&*row.locale, &*row.language, row.screen_class], ["de-AT", "de", "small"]);
    assert_eq!([&*row.ip, &*row.country, &*row.region, &*row.city], ["192.0.2.0", "AT", "AT-9", "Vienna"]);
}

#[test]
fn an_event_with_an_address_of_its_own_is_placed_by_it() {
    let at = |ip: &str| Context { ip: ip.to_owned(), ..Context::default() };
    let events =
        [event("1", at("198.51.100.0")), event("2", at("")), event("3", at("203.0.113.9")), event("4", at("?"))];
    let found: Vec<String> = rows(places(), &events).into_iter().map(|row| row.country).collect();
    assert_eq!(found, ["US", "AT", "FR", ""]);
}

#[test]
fn without_a_database_places_are_unknown() {
    let row = rows(None, &[event("1", Context::default())]).pop().expect("a row");
    assert_eq!([&*row.country, &*row.region, &*row.city], ["", "", ""]);
}
