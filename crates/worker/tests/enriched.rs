//! What the first stage makes of an event's context, in the row that it writes.

mod made;

use std::sync::Arc;

use made::track;
use trackway_domain::event::{Campaign, Consent, Context, Event, EventKind, TimeSource};
use trackway_domain::id::EventKey;
use trackway_domain::revenue::Revenue;
use trackway_enrich::geo::Places;
use trackway_eventlog::Record;
use trackway_store::insert::EncodedRows;
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
fn rows(places: Option<Arc<Places>>, events: &[Event]) -> EncodedRows {
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
    let mut blocks = effects.into_iter().filter_map(|effect| match effect {
        Effect::Block(block) => Some(block.rows.events),
        Effect::Append(_) | Effect::Snapshot(_) => None,
    });
    blocks.next().expect("a block")
}

/// The first row, as far as these columns.
fn first<const N: usize>(rows: &EncodedRows, columns: [&str; N]) -> [String; N] {
    columns.map(|column| rows.texts(column).swap_remove(0))
}

#[test]
fn a_row_tells_program_device_language_screen_and_place() {
    let context = Context { locale: "de-AT".to_owned(), screen: (360, 780), ..Context::default() };
    let rows = rows(places(), &[event("1", context)]);
    let check = |columns, expected: [&str; 4]| assert_eq!(first(&rows, columns), expected, "{columns:?}");
    check(["browser", "browser_version", "os", "os_version"], ["Chrome Mobile", "112", "Android", "13"]);
    check(["device", "device_brand", "device_model", "screen_class"], ["mobile", "Samsung", "SM-S911B", "small"]);
    check(["locale", "language", "screen_width", "screen_height"], ["de-AT", "de", "360", "780"]);
    check(["ip", "country", "region", "city"], ["192.0.2.0", "AT", "AT-9", "Vienna"]);
}

#[test]
fn a_row_has_what_the_event_says() {
    let mut event = event("1", Context::default());
    event.received.kind = EventKind::Page;
    event.received.name = "seen".to_owned();
    event.received.user_id = Some("u".to_owned());
    event.received.sequence = 3;
    event.received.properties = r#"{"score":"9","comment":"fine"}"#.to_owned();
    event.received.traits = r#"{"plan":"pro"}"#.to_owned();
    event.received.revenue = Some(Revenue { micros: -5, currency: "EUR".to_owned() });
    event.time_source = TimeSource::Corrected;
    event.received.context = Context {
        url: "https://www.shop.example/a/b?utm_source=Ads&utm_medium=cpc&x=1".to_owned(),
        title: "T".to_owned(),
        referrer: "https://other.example/".to_owned(),
        library: "lib".to_owned(),
        library_version: "7".to_owned(),
        campaign: Campaign { term: "shoes".to_owned(), content: "red".to_owned(), ..Campaign::default() },
        session: "s1".to_owned(),
        consent: Consent::Denied,
        ..Context::default()
    };
    let mut other = event.clone();
    other.received.name = "nps".to_owned();
    other.received.revenue = None;
    other.key = EventKey(77);
    let rows = rows(None, &[event, other]);
    for (column, expected) in [
        ("project", ["shop", "shop"]),
        ("visitor_id", ["a", "a"]),
        ("user_id", ["u", "u"]),
        ("time", ["1800000000000", "1800000000000"]),
        ("sequence", ["3", "3"]),
        ("event_id", ["1", "1"]),
        ("kind", ["page", "page"]),
        ("event", ["seen", "nps"]),
        ("host", ["shop.example", "shop.example"]),
        ("path", ["/a/b", "/a/b"]),
        ("title", ["T", "T"]),
        ("referrer", ["https://other.example/", "https://other.example/"]),
        ("channel", ["Paid Other", "Paid Other"]),
        ("source", ["ads", "ads"]),
        ("medium", ["cpc", "cpc"]),
        ("campaign", ["", ""]),
        ("term", ["shoes", "shoes"]),
        ("content", ["red", "red"]),
        ("touchpoint", ["", ""]),
        ("feedback", ["", "nps"]),
        ("score", ["NULL", "9000000"]),
        ("comment", ["", "fine"]),
        ("library", ["lib", "lib"]),
        ("library_version", ["7", "7"]),
        ("protocol", ["test", "test"]),
        ("traits", [r#"{"plan":"pro"}"#, r#"{"plan":"pro"}"#]),
        ("bot", ["", ""]),
        ("revenue", ["-5", "NULL"]),
        ("currency", ["EUR", ""]),
        ("tracker_session", ["s1", "s1"]),
        ("consent", ["denied", "denied"]),
        ("time_source", ["corrected", "corrected"]),
        ("late", ["0", "0"]),
        ("origin_offset", ["0", "0"]),
        ("origin_index", ["0", "1"]),
    ] {
        assert_eq!(rows.texts(column), expected, "{column}");
    }
}

#[test]
fn an_event_with_an_address_of_its_own_is_placed_by_it() {
    let at = |ip: &str| Context { ip: ip.to_owned(), ..Context::default() };
    let events =
        [event("1", at("198.51.100.0")), event("2", at("")), event("3", at("203.0.113.9")), event("4", at("?"))];
    assert_eq!(rows(places(), &events).texts("country"), ["US", "AT", "FR", ""]);
}

#[test]
fn without_a_database_places_are_unknown() {
    let rows = rows(None, &[event("1", Context::default())]);
    assert_eq!(first(&rows, ["country", "region", "city"]), ["", "", ""]);
}
