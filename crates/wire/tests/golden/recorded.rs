//! What a recorded script did beside what its requests said, for the protocols that batch and repeat.

use std::collections::BTreeMap;

use serde_json::Value;
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_wire::Item;
use trackway_wire::protocol::{self, Answer, Tally, Verdict};

use crate::capture::{Entry, entries};

/// One scenario group of a capture.
#[derive(Default)]
pub(crate) struct Recorded {
    /// What the script did, with the ids that held then.
    pub actions: Vec<(Value, Value)>,
    /// What the requests said, once each; an event that came again with the same id is in `again`.
    pub events: Vec<ReceivedEvent>,
    /// Names of the events that came again.
    pub again: Vec<String>,
}

/// Reads a capture: every request is of the protocol called `name` and has write key `key`; `answer_is` sees each answer to success.
pub(crate) fn recorded(
    capture: &str,
    name: &str,
    key: &str,
    answer_is: impl Fn(&Entry, &Answer),
) -> BTreeMap<String, Recorded> {
    let mut groups: BTreeMap<String, Recorded> = BTreeMap::new();
    for entry in entries(capture) {
        let group = groups.entry(entry.group().to_owned()).or_default();
        for action in &entry.actions {
            if !group.actions.iter().any(|(known, _)| known == action) {
                group.actions.push((action.clone(), entry.ids.clone()));
            }
        }
        if entry.kind != "event" {
            continue;
        }
        let (own_name, understood) = entry.understood();
        let in_head = entry.with_request(|request| protocol::of(request)?.write_key(&request.head));
        assert_eq!((own_name, in_head.or(understood.write_key).as_deref()), (name, Some(key)), "{}", entry.line);
        assert_eq!(understood.own_keys, [], "{}", entry.line);
        let accepted = understood.items.len();
        for item in understood.items {
            match item {
                Item::Event { event, .. } => {
                    let happened = event.client_time_ms.unwrap_or(entry.received_ms);
                    assert!(happened <= entry.received_ms, "one clock, so no event is from the future: {}", entry.line);
                    group.take_in(event);
                }
                other => panic!("{other:?}: {}", entry.line),
            }
        }
        let answer = entry.answer(&Verdict::Taken(&Tally { accepted, ..Tally::default() }));
        assert_eq!(u64::from(answer.status), entry.expected_answer["status"], "{}", entry.line);
        answer_is(&entry, &answer);
    }
    groups
}

impl Recorded {
    fn take_in(&mut self, event: ReceivedEvent) {
        if event.id.is_some() && self.events.iter().any(|known| known.id == event.id) {
            self.again.push(event.name);
        } else {
            self.events.push(event);
        }
    }

    /// Takes out the one event that `is` finds.
    pub(crate) fn one(&mut self, action: &Value, is: impl Fn(&ReceivedEvent) -> bool) -> ReceivedEvent {
        let found: Vec<_> = (0..self.events.len()).filter(|&at| is(&self.events[at])).collect();
        let [at] = found[..] else { panic!("{} events for {action}", found.len()) };
        self.events.remove(at)
    }

    /// Kind and name of what no action explains, sorted, once each.
    pub(crate) fn unexplained(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.events.iter().map(|event| &*event.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Whether an event is of this kind and name, says all of the action's properties, and happened at most `slack_ms` from
/// when the script did it.
pub(crate) fn is(event: &ReceivedEvent, kind: EventKind, name: &str, action: &Value, slack_ms: i64) -> bool {
    let ts = action["event_ts"].as_str().or(action["ts"].as_str()).expect("a time");
    let ts: jiff::Timestamp = ts.parse().expect("a time");
    let is_near = |ms: i64| (ms - ts.as_millisecond()).abs() <= slack_ms;
    let wanted = with_exact_numbers(&action["properties"]);
    event.kind == kind
        && event.name == name
        && event.client_time_ms.is_none_or(is_near)
        && (wanted.is_null() || holds(&json(&event.properties), &wanted))
}

/// The recording lost a digit that Python's requests have: 2^53 + 1.
fn with_exact_numbers(wanted: &Value) -> Value {
    let mut wanted = wanted.clone();
    if wanted["big"] == 9_007_199_254_740_992_u64 {
        wanted["big"] = 9_007_199_254_740_993_u64.into();
    }
    wanted
}

/// Text of JSON as a value.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Whether `own` says all that `wanted` does; null is as good as nothing.
pub(crate) fn holds(own: &Value, wanted: &Value) -> bool {
    match (own, wanted) {
        (Value::Object(own), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| holds(own.get(name).unwrap_or(&Value::Null), value))
        }
        (Value::Array(own), Value::Array(wanted)) => {
            own.len() == wanted.len() && own.iter().zip(wanted).all(|(own, wanted)| holds(own, wanted))
        }
        _ => own == wanted,
    }
}

/// Asserts a browser's ids, and the page that the script was on.
pub(crate) fn browser_is(event: &ReceivedEvent, action: &Value, ids: &Value, user: Option<&str>) {
    let device = ids["anonymous_id"].as_str().expect("an id").to_owned();
    assert_eq!(event.visitor, Some(Visitor::Device(device)), "{action}");
    assert_eq!(event.user_id.as_deref(), user, "{action}");
}

/// Asserts order and revenue of a purchase.
pub(crate) fn purchase_is(event: &ReceivedEvent, order: &Value, items: &str) {
    let own = json(&event.properties);
    for (name, value) in order.as_object().expect("an order") {
        let name = if matches!(&**name, "items" | "products") { items } else { name };
        assert!(holds(&own[name], value), "{name}: {own}");
    }
    let revenue = event.revenue.as_ref().expect("a purchase earns");
    assert_eq!((revenue.micros, &*revenue.currency), (46_480_000, "EUR"));
}
