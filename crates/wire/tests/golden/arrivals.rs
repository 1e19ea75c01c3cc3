//! What arrived of what a recorded script did.

use std::collections::BTreeMap;

use serde_json::Value;
use trackway_domain::event::ReceivedEvent;
use trackway_domain::id::Visitor;
use trackway_wire::Item;
use trackway_wire::protocol::{Answer, Tally, Verdict};

use crate::capture::{Entry, entries, holds};

/// One event with what the recording knows of it.
pub(crate) struct Arrival {
    pub event: ReceivedEvent,
    /// When the recorder received it, ms.
    pub received_ms: i64,
}

impl Arrival {
    /// When it happened, as far as the tracker says, in ms.
    pub(crate) fn time_ms(&self) -> i64 {
        self.event.client_time_ms.unwrap_or(self.received_ms)
    }

    pub(crate) fn properties(&self) -> Value {
        json(&self.event.properties)
    }

    pub(crate) fn traits(&self) -> Value {
        json(&self.event.traits)
    }

    pub(crate) fn device(&self) -> Option<&str> {
        match &self.event.visitor {
            Some(Visitor::Device(id)) => Some(id),
            Some(Visitor::User(_)) | None => None,
        }
    }
}

/// One scenario group of a capture.
#[derive(Default)]
pub(crate) struct Group {
    /// What the script did, with the ids that held then. Requests repeat the list of their step.
    pub actions: Vec<(Value, Value)>,
    pub arrivals: Vec<Arrival>,
}

/// Reads a capture with the protocol that must take all of its events with this write key.
///
/// - `is_success`: whether an answer is what the tracker took as success, beyond its status.
pub(crate) fn groups(
    capture: &str,
    protocol: &str,
    write_key: &str,
    is_success: impl Fn(&Answer, &Entry) -> bool,
) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for entry in entries(capture) {
        let group = groups.entry(entry.group().to_owned()).or_default();
        for action in &entry.actions {
            if !group.actions.iter().any(|(known, _)| known == action) {
                group.actions.push((action.clone(), entry.ids.clone()));
            }
        }
        if entry.kind == "preflight" {
            continue;
        }
        let mut tally = Tally::default();
        if entry.kind == "event" {
            let (name, key, items) = entry.with_request(|request| {
                let key = trackway_wire::protocol::of(request).and_then(|protocol| protocol.write_key(&request.head));
                let (name, understood) = entry.understood();
                assert!(understood.own_keys.is_empty(), "{}", entry.line);
                (name, key.or(understood.write_key), understood.items)
            });
            assert_eq!((name, key.as_deref()), (protocol, Some(write_key)), "{}", entry.line);
            tally.accepted = items.len();
            for item in items {
                let Item::Event { event, content } = item else { panic!("{item:?}: {}", entry.line) };
                assert_eq!(event.id.is_none(), !content.is_empty(), "content is kept where there is no id");
                group.arrivals.push(Arrival { event, received_ms: entry.received_ms });
            }
        }
        let answer = entry.answer(&Verdict::Taken(&tally));
        assert_eq!(Some(u64::from(answer.status)), entry.expected_answer["status"].as_u64(), "{}", entry.line);
        assert!(is_success(&answer, &entry), "{answer:?}: {}", entry.line);
    }
    groups
}

/// Takes the one arrival of each action out of its group; returns what no action explains.
///
/// - `is`: whether an arrival is what the action did, time and properties aside.
/// - `slack_ms`: how long before and after the script's note of the time an event may say that it happened.
pub(crate) fn check(
    group: Group,
    slack_ms: std::ops::RangeInclusive<i64>,
    is: impl Fn(&Arrival, &Value) -> bool,
    details: impl Fn(&Arrival, &Value, &Value),
) -> Vec<Arrival> {
    let Group { actions, mut arrivals } = group;
    for (action, ids) in &actions {
        if matches!(action["type"].as_str(), Some("reset" | "note")) {
            continue;
        }
        let time = action["event_ts"].as_str().or(action["ts"].as_str()).expect("a time");
        let time: jiff::Timestamp = time.parse().expect("a time");
        let fits = |arrival: &Arrival| {
            let off = arrival.time_ms() - time.as_millisecond();
            is(arrival, action)
                && slack_ms.contains(&off)
                && holds(&arrival.properties(), &wanted(&action["properties"]))
        };
        let found: Vec<_> = (0..arrivals.len()).filter(|&at| fits(&arrivals[at])).collect();
        assert_eq!(found.len(), 1, "events for {action}");
        details(&arrivals.remove(found[0]), action, ids);
    }
    arrivals
}

/// What the properties of an action should have become.
fn wanted(properties: &Value) -> Value {
    let mut wanted = properties.clone();
    let Some(members) = wanted.as_object_mut() else { return Value::Object(serde_json::Map::new()) };
    // Null says nothing.
    members.retain(|_, value| !value.is_null());
    // The recording lost a digit here that the request has: 2^53 + 1.
    if members.get("big") == Some(&9_007_199_254_740_992_u64.into()) {
        members.insert("big".to_owned(), 9_007_199_254_740_993_u64.into());
    }
    wanted
}

/// Checks address and title of the page, where the script notes them.
pub(crate) fn place_is(arrival: &Arrival, action: &Value) {
    let context = &arrival.event.context;
    for (said, noted) in [(&context.url, &action["url"]), (&context.title, &action["title"])] {
        if let Some(noted) = noted.as_str() {
            assert_eq!(said, noted, "{action}");
        }
    }
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// The body that the recorder answered with.
pub(crate) fn recorded_body(entry: &Entry) -> Vec<u8> {
    use base64::Engine as _;
    let body = entry.expected_answer["body_b64"].as_str().unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(body).expect("base64")
}

pub(crate) fn names(arrivals: &[Arrival]) -> Vec<&str> {
    arrivals.iter().map(|arrival| &*arrival.event.name).collect()
}
