//! Real requests of ga4mp 2.0.4 (Python), which speaks GA4's Measurement Protocol.

use serde_json::Value;
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_wire::Item;
use trackway_wire::protocol::{Tally, Verdict};

use crate::capture::{self, Entry};

const CAPTURE: &str = include_str!("../captures/ga4/ga4mp-python.jsonl");

/// A postponed event's time is taken up to this much after the script's own note of it.
const SLACK_MS: i64 = 15;

fn entries() -> impl Iterator<Item = Entry> {
    capture::entries(CAPTURE).into_iter()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn time(action: &Value) -> i64 {
    let text = action["event_ts"].as_str().or(action["ts"].as_str()).expect("a time");
    text.parse::<jiff::Timestamp>().expect("a time").as_millisecond()
}

fn is(event: &ReceivedEvent, action: &Value) -> bool {
    let (kind, name) = match action["type"].as_str().expect("a type") {
        "page_view" => (EventKind::Page, "page"),
        "screen_view" => (EventKind::Screen, "screen"),
        name @ ("purchase" | "refund") => (EventKind::Track, name),
        "track" => (EventKind::Track, action["event"].as_str().expect("a name")),
        other => panic!("action {other} is not known"),
    };
    let own = json(&event.properties);
    let mut wanted = action["properties"].as_object().into_iter().flatten();
    event.kind == kind && event.name == name && wanted.all(|(name, value)| own[name] == *value)
}

fn check(event: &ReceivedEvent, action: &Value, entry: &Entry) {
    let device = entry.ids["anonymous_id"].as_str().expect("an id").to_owned();
    assert_eq!((&event.visitor, &event.user_id), (&Some(Visitor::Device(device)), &None));
    // The user property is set by the step of that name, and sent from then on.
    let traits = if action["traits"].is_object() { action["traits"].to_string() } else { event.traits.clone() };
    assert_eq!(event.traits, traits);
    match &*entry.scenario {
        "gtag/postponed" => {
            let off = event.client_time_ms.expect("a time") - time(action);
            assert!((0..=SLACK_MS).contains(&off), "{off} ms");
        }
        // The tracker cuts a given time to seconds.
        "gtag/historical" => assert_eq!(event.client_time_ms, Some(time(action) / 1000 * 1000)),
        _ => assert_eq!(event.client_time_ms, None, "the tracker sends none"),
    }
    for (field, name) in
        [(&event.context.url, "url"), (&event.context.title, "title"), (&event.context.referrer, "referrer")]
    {
        assert_eq!(field, action[name].as_str().unwrap_or_default(), "{name}");
    }
    assert_eq!(event.context.page_name, action["name"].as_str().unwrap_or_default());
    assert!(!event.context.session.is_empty());
    if let Some(order) = action["order"].as_object() {
        let own = json(&event.properties);
        for (name, sent_name) in
            [("order_id", "transaction_id"), ("total", "value"), ("items", "items"), ("tax", "tax")]
        {
            assert_eq!(own[sent_name], order.get(name).cloned().unwrap_or_default(), "{name}");
        }
        let total = order["total"].as_f64().expect("a number") * if event.name == "refund" { -1.0 } else { 1.0 };
        let revenue = event.revenue.as_ref().expect("revenue");
        assert_eq!((revenue.micros, &*revenue.currency), ((total * 1e6).round() as i64, "EUR"));
    }
}

#[test]
fn every_action_arrives_exactly_once() {
    let mut steps: Vec<(String, Vec<Value>)> = Vec::new();
    for entry in entries().filter(|entry| entry.scenario != "gtag/validation") {
        let (protocol, understood) = entry.understood();
        assert_eq!(protocol, "ga4_mp");
        if steps.iter().all(|(scenario, _)| *scenario != entry.scenario) {
            steps.push((entry.scenario.clone(), entry.actions.clone()));
        }
        let left = &mut steps.last_mut().expect("a step").1;
        for item in understood.items {
            let Item::Event { event, content } = item else { panic!("{item:?}") };
            assert!(content.ends_with(b"}"), "without an id its bytes are hashed");
            let at = left.iter().position(|action| is(&event, action)).unwrap_or_else(|| panic!("{event:?}"));
            check(&event, &left.remove(at), &entry);
        }
    }
    assert_eq!(steps.len(), 9);
    assert!(steps.iter().all(|(_, left)| left.is_empty()), "{steps:?}");
}

#[test]
fn numbers_above_two_to_the_53_keep_their_digits() {
    let (_, understood) = entries().next().expect("an entry").understood();
    let Item::Event { event, .. } = &understood.items[0] else { panic!("{understood:?}") };
    assert!(event.properties.contains(r#""big":9007199254740993"#));
}

#[test]
fn success_is_what_it_was() {
    let tally = Tally { accepted: 1, ..Tally::default() };
    for entry in entries() {
        let answer = entry.answer(&Verdict::Taken(&tally));
        assert_eq!(answer.status, entry.expected_answer["status"].as_u64().expect("a status") as u16);
        let expected = if entry.scenario == "gtag/validation" { r#"{"validationMessages":[]}"# } else { "" };
        assert_eq!(String::from_utf8_lossy(&answer.body), expected);
    }
}
