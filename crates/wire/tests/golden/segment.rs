//! Real requests of Segment's browser and Python trackers: each action that the recorded script did arrives exactly
//! once, with the right name, ids, time and properties.

use std::collections::BTreeMap;
use std::io::Read as _;

use base64::Engine as _;
use serde_json::Value;
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_wire::{Item, segment};

use crate::capture::holds;

/// The tracker stamps an event up to this much after (Python: rounded before) the script's own note of the time.
const SLACK_MS: i64 = 15;

/// One scenario group (`standard`, `batching`, …) of a capture.
#[derive(Default)]
struct Group {
    /// What the script did, with the ids that held then. Requests repeat the list of their step.
    actions: Vec<(Value, Value)>,
    /// What the requests said; alias calls of an id to itself say nothing.
    events: Vec<ReceivedEvent>,
    nothing: usize,
}

fn groups(capture: &str) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for line in capture.lines() {
        let entry: Value = serde_json::from_str(line).expect("a line of JSON");
        let (name, _) = entry["scenario"].as_str().expect("a scenario").split_once('/').expect("group/step");
        let group = groups.entry(name.to_owned()).or_default();
        let expected = &entry["expected"];
        for action in expected["actions"].as_array().expect("actions") {
            if !group.actions.iter().any(|(known, _)| known == action) {
                group.actions.push((action.clone(), expected["ids"].clone()));
            }
        }
        if entry["kind"] != "event" {
            continue;
        }
        let path = entry["request"]["path"].as_str().expect("a path");
        let call = segment::Call::of_path(path).unwrap_or_else(|| panic!("{path} is one of Segment's"));
        let body = body(&entry["request"]);
        let understood = segment::parse(call, &body, 100).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(understood.write_key.as_deref(), Some("wk_segment_test"), "{line}");
        for item in understood.items {
            match item {
                Item::Event { event, content } => {
                    assert_eq!(content, b"", "every event of these trackers has an id");
                    group.events.push(event);
                }
                Item::Nothing => group.nothing += 1,
                Item::Rejected { reason, .. } => panic!("{reason}: {line}"),
            }
        }
    }
    groups
}

fn body(request: &Value) -> Vec<u8> {
    let sent = request["body_b64"].as_str().expect("a body");
    let sent = base64::engine::general_purpose::STANDARD.decode(sent).expect("base64");
    if !sent.starts_with(&[0x1f, 0x8b]) {
        return sent;
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut plain).expect("gzip");
    plain
}

/// Whether the event is what the action did.
fn is(event: &ReceivedEvent, action: &Value) -> bool {
    let (kind, name) = match action["type"].as_str().expect("a type") {
        "page_view" => (EventKind::Page, "page"),
        "track" | "click" => (EventKind::Track, action["event"].as_str().expect("a name")),
        "purchase" => (EventKind::Track, "Order Completed"),
        "identify" => (EventKind::Identify, "identify"),
        "group" => (EventKind::Group, "group"),
        "alias" => (EventKind::Alias, "alias"),
        other => panic!("action {other} is not known"),
    };
    let time = action["event_ts"].as_str().or(action["ts"].as_str()).expect("a time");
    let time: jiff::Timestamp = time.parse().expect("a time");
    let off = event.client_time_ms.expect("every event of these trackers has a time") - time.as_millisecond();
    event.kind == kind && event.name == name && (-SLACK_MS..=SLACK_MS).contains(&off) && properties_are(event, action)
}

fn properties_are(event: &ReceivedEvent, action: &Value) -> bool {
    let own: Value = serde_json::from_str(&event.properties).expect("properties are JSON");
    let mut wanted = action["properties"].clone();
    // The recording lost a digit here that the request has: 2^53 + 1.
    if wanted["big"] == 9_007_199_254_740_992_u64 {
        wanted["big"] = 9_007_199_254_740_993_u64.into();
    }
    wanted.as_object().is_none_or(|wanted| wanted.iter().all(|(name, value)| own[name] == *value))
}

/// Takes the one event of each action out of its group; returns what no action of the recording explains.
fn check(group: Group, ids_are: impl Fn(&ReceivedEvent, &Value, &Value)) -> Vec<ReceivedEvent> {
    let Group { actions, mut events, nothing } = group;
    let mut nothings = 0;
    for (action, ids) in &actions {
        if action["type"] == "reset" {
            continue;
        }
        let found: Vec<_> = (0..events.len()).filter(|&at| is(&events[at], action)).collect();
        match (found[..].first(), found.len()) {
            // Its userId was overwritten by the tracker: an alias of an id to itself (see the gateway's protocol notes).
            (None, _) if action["type"] == "alias" => nothings += 1,
            (Some(&at), 1) => {
                let event = events.remove(at);
                ids_are(&event, action, ids);
                details_are(&event, action);
            }
            _ => panic!("{} events for {action}", found.len()),
        }
    }
    assert_eq!(nothing, nothings, "each call without effect is an alias of the script");
    let mut ids: Vec<_> = events.iter().map(|event| event.id.clone().expect("an id")).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), events.len(), "no id comes twice");
    events
}

fn details_are(event: &ReceivedEvent, action: &Value) {
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    if let Some(traits) = action["traits"].as_object() {
        assert_eq!(json(&event.traits), Value::Object(traits.clone()), "{action}");
    }
    if let Some(group) = action["group_id"].as_str() {
        assert_eq!(event.other_id.as_deref(), Some(group));
    }
    if let Some(previous) = action["previous_id"].as_str() {
        assert_eq!(event.other_id.as_deref(), Some(previous));
    }
    if let Some(url) = action["url"].as_str().or(action["page_url"].as_str()) {
        assert_eq!(event.context.url, url, "{action}");
    }
    if let Some(title) = action["title"].as_str() {
        assert_eq!(event.context.title, title);
    }
    if let Some(order) = action["order"].as_object() {
        let own = json(&event.properties);
        for (name, value) in order {
            let name = if name == "items" { "products" } else { name };
            assert!(holds(&own[name], value), "{name}: {own}");
        }
        let revenue = event.revenue.as_ref().expect("an order earns");
        assert_eq!((revenue.micros, &*revenue.currency), (46_480_000, "EUR"));
    }
}

fn names(events: &[ReceivedEvent]) -> Vec<&str> {
    events.iter().map(|event| &*event.name).collect()
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let mut groups = groups(include_str!("../captures/segment/segment.jsonl"));
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["batching", "keepalive", "standard"]);
    let ids_are = |event: &ReceivedEvent, action: &Value, ids: &Value| {
        let device = ids["anonymous_id"].as_str().expect("an id").to_owned();
        assert_eq!(event.visitor, Some(Visitor::Device(device)), "{action}");
        assert_eq!(event.user_id.as_deref(), ids["user_id"].as_str(), "{action}");
        assert_eq!(event.context.library, "analytics.js");
        assert!(event.sent_at_ms.is_some_and(|sent| Some(sent) >= event.client_time_ms), "{action}");
    };
    let unexplained = check(groups.remove("standard").expect("recorded"), ids_are);
    assert_eq!(names(&unexplained), [""; 0]);
    let unexplained = check(groups.remove("keepalive").expect("recorded"), ids_are);
    assert_eq!(names(&unexplained), [""; 0]);
    // In a batch three calls left with the step after their own, and the recording lists steps that sent something.
    let unexplained = check(groups.remove("batching").expect("recorded"), ids_are);
    assert_eq!(names(&unexplained), ["page", "Button Clicked", "Order Completed"]);
}

#[test]
fn every_action_in_python_arrives_exactly_once() {
    let mut groups = groups(include_str!("../captures/segment/segment-python.jsonl"));
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["gzip", "plain"]);
    let ids_are = |event: &ReceivedEvent, action: &Value, _: &Value| {
        if let Some(user) = action["user_id"].as_str() {
            assert_eq!(event.user_id.as_deref(), Some(user), "{action}");
        }
        let visitor = match action["event"].as_str().or(action["type"].as_str()) {
            Some("page_view" | "identify" | "Signup Clicked ✓ größe") => Visitor::Device("anon-5f1c".into()),
            _ => Visitor::User(event.user_id.clone().expect("a server's event without a device names a user")),
        };
        assert_eq!(event.visitor, Some(visitor), "{action}");
        assert_eq!(event.context.library, "analytics-python");
        assert!(event.sent_at_ms.is_some(), "the batch says when it was sent");
    };
    for name in ["gzip", "plain"] {
        let unexplained = check(groups.remove(name).expect("recorded"), ids_are);
        assert_eq!(names(&unexplained), [""; 0]);
    }
}

#[test]
fn numbers_above_two_to_the_53_keep_their_digits() {
    let groups = groups(include_str!("../captures/segment/segment-python.jsonl"));
    let big = groups["plain"].events.iter().filter(|event| event.properties.contains("9007199254740993"));
    assert_eq!(big.count(), 1);
}

#[test]
fn what_the_browser_says_beside_its_fields_is_kept() {
    let groups = groups(include_str!("../captures/segment/segment.jsonl"));
    for event in &groups["standard"].events {
        let properties: Value = serde_json::from_str(&event.properties).expect("JSON");
        let context = &properties["$context"];
        assert_eq!(context["timezone"], "Europe/Berlin");
        assert_eq!(context["userAgentData"]["platform"], "Linux");
        assert_eq!(context.as_object().map(serde_json::Map::len), Some(2), "and nothing that has a field: {context}");
    }
    let page = groups["standard"].events.iter().find(|event| event.kind == EventKind::Page).expect("a page view");
    let properties: Value = serde_json::from_str(&page.properties).expect("JSON");
    assert_eq!((&properties["name"], &properties["category"]), (&"Startseite".into(), &"Shop".into()));
    assert_eq!(page.context.page_name, "Startseite");
    assert_eq!(page.context.campaign.name, "härbst");
}
