//! Laws of foreign bytes: nothing panics, and what is understood comes back from the log as it went in.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use trackway_domain::event::EventKind;
use trackway_domain::id::{ProjectId, Visitor};
use trackway_domain::stamp::stamp;
use trackway_domain::time::ReceivedAt;
use trackway_wire::{Item, log, pixel, segment};

const REQUEST: log::RequestContext<'_> =
    log::RequestContext { project: "shop", user_agent: "UA", protocol: "segment", ip: "", bot: "" };

const CALLS: [segment::Call; 7] = [
    segment::Call::Batch,
    segment::Call::One(EventKind::Track),
    segment::Call::One(EventKind::Page),
    segment::Call::One(EventKind::Screen),
    segment::Call::One(EventKind::Identify),
    segment::Call::One(EventKind::Group),
    segment::Call::One(EventKind::Alias),
];

const NAMES: &str = "type messageId anonymousId userId previousId groupId event name category properties traits \
    timestamp originalTimestamp sentAt writeKey context batch page url path search campaign source screen width library \
    version sequence locale $context x integrations userAgent referrer";

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(NAMES.split_whitespace().collect::<Vec<_>>())
}

const SCALARS: [&str; 24] = [
    "null",
    "true",
    "0",
    "7",
    "-1",
    "1.5",
    "9007199254740993",
    "1e400",
    "1795360810973",
    "NaN",
    r#""""#,
    r#""a""#,
    r#""b""#,
    r#""null""#,
    r#""track""#,
    r#""page""#,
    r#""identify""#,
    r#""alias""#,
    r#""ü\u00e9\ud83d\ude80""#,
    r#""\ud83d""#,
    r#""\"\\\n""#,
    r#""2026-11-22T15:20:10.973Z""#,
    r#""https://x.example/p?q=1""#,
    r#""/p""#,
];

/// JSON text from the words that mean something here.
fn json() -> impl Strategy<Value = String> {
    let scalar = proptest::sample::select(&SCALARS[..]).prop_map(str::to_owned);
    scalar.prop_recursive(5, 60, 8, |inner| {
        let member = (name(), inner.clone());
        let object = vec(member, 0..8).prop_map(|members| {
            let members: Vec<_> = members.into_iter().map(|(name, value)| format!(r#""{name}": {value}"#)).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![4 => object, 1 => vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" ,")))]
    })
}

/// An item that is likely to become an event.
fn likely_item() -> impl Strategy<Value = String> {
    let kind = proptest::sample::select(&["track", "page", "screen", "identify", "group", "alias"][..]);
    let member = (name(), json());
    (kind, vec(member, 0..6)).prop_map(|(kind, members)| {
        let more: String = members.into_iter().map(|(name, value)| format!(r#","{name}":{value}"#)).collect();
        // What comes last wins: the members that are needed.
        format!(r#"{{"x":0{more},"type":"{kind}","event":"e","userId":"u","previousId":"p","groupId":"g"}}"#)
    })
}

fn survives_the_log(items: Vec<Item>) -> Result<usize, TestCaseError> {
    let project = ProjectId::parse("shop").expect("a project id");
    let mut events = 0;
    for item in items {
        let Item::Event { event, content } = item else { continue };
        events += 1;
        for object in [&event.properties, &event.traits] {
            let whole = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(object);
            // Numbers beyond f64 are JSON, and kept as text; serde_json's own values have no room for them.
            prop_assert!(whole.is_ok() || object.contains("1e400"), "{object}");
        }
        let visitor = event.visitor.clone().unwrap_or_else(|| Visitor::Device("derived".into()));
        let event = stamp(event, visitor, &project, ReceivedAt(1_795_360_811_000), &content);
        let visitor = event.visitor.clone();
        let bytes = log::encode_events(&REQUEST, &visitor, std::slice::from_ref(&event));
        let log::EventsRecord::Events(record) = log::read_events(&bytes).expect("our own record") else {
            panic!("events")
        };
        prop_assert_eq!(record.visitor(), visitor.clone());
        let back = record.events.last().expect("one event").to_event(visitor).expect("our own event");
        prop_assert_eq!(back, event);
    }
    Ok(events)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_segment_panic(bytes in vec(any::<u8>(), 0..200)) {
        for call in CALLS {
            drop(segment::parse(call, &bytes, 10));
        }
    }

    #[test]
    fn no_bytes_make_the_pixel_panic(bytes in vec(any::<u8>(), 0..200)) {
        drop(pixel::parse(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn no_json_makes_segment_panic_and_its_events_survive_the_log(body in json()) {
        for call in CALLS {
            if let Ok(understood) = segment::parse(call, body.as_bytes(), 10) {
                survives_the_log(understood.items)?;
            }
        }
    }

    #[test]
    fn no_cut_makes_segment_panic(body in likely_item(), at in 0_usize..400) {
        let body = format!(r#"{{"batch":[{body}]}}"#);
        drop(segment::parse(segment::Call::Batch, &body.as_bytes()[..at.min(body.len())], 10));
    }

    #[test]
    fn each_item_has_its_place_and_events_survive_the_log(items in vec(likely_item(), 0..5)) {
        let body = format!(r#"{{"batch":[{}]}}"#, items.join(","));
        let understood = segment::parse(segment::Call::Batch, body.as_bytes(), 10).expect("a batch");
        prop_assert_eq!(understood.items.len(), items.len());
        survives_the_log(understood.items)?;
    }

    #[test]
    fn pixels_survive_the_log(pairs in vec(("(event|anonymousId|userId|messageId|timestamp|p.a|p.|x|url)", "[a-z0-9%+ü\"]{0,6}"), 0..8)) {
        let query: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        survives_the_log(pixel::parse(&query.join("&")).items)?;
    }
}

#[test]
fn most_likely_items_are_events() {
    // Otherwise the law above would hold for nothing.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut events = 0;
    for _ in 0..200 {
        let item = likely_item().new_tree(&mut runner).expect("a tree").current();
        let body = format!(r#"{{"batch":[{item}]}}"#);
        let understood = segment::parse(segment::Call::Batch, body.as_bytes(), 10).expect("a batch");
        events += survives_the_log(understood.items).expect("survives");
    }
    assert!(events > 60, "{events} of 200");
}
