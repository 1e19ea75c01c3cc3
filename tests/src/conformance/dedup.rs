//! Cases of duplicates: which arrivals count.
//!
//! The case's window is our memory, in days of 1 ms so that it ends where the case says. The log's time is what the case
//! calls its clock: times given for it, else the events' own, which never make it go back. Several parts of a key are one
//! id, as they are when an adapter of ours makes an id of them. A batch means nothing to us but an order.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use trackway_domain::dedup::{InMemory, KnownEvents, Memory};
use trackway_domain::event::{KeySource, OrderKey};
use trackway_domain::id::{EventKey, ProjectId};
use trackway_domain::rules::SessionRules;
use trackway_domain::session::{Session, SessionEvent, VisitorSessions};
use trackway_domain::time::{EventTime, ReceivedAt};

use super::case::{Case, CaseEvent, Outcome, time_ms};

/// Runs one case.
pub fn run(case: &Case) -> Outcome {
    let accepted = match accepted(case) {
        Ok(accepted) => accepted,
        Err(outcome) => return outcome,
    };
    let expected = case.expected();
    let mut outcomes = Vec::new();
    if let Some(arrivals) = expected.value("accepted_arrivals") {
        let mut found: Vec<usize> = accepted.iter().map(|(arrival, _)| *arrival).collect();
        found.sort_unstable();
        outcomes.push(Outcome::equal("accepted_arrivals", arrivals, &json!(found)));
    }
    if let Some(events) = expected.whole("unique_events") {
        outcomes.push(Outcome::equal("unique_events", &events, &(accepted.len() as i64)));
    }
    if expected.has("sessions") {
        outcomes.push(sessions(case, &accepted));
    }
    if outcomes.is_empty() {
        return Outcome::skipped("the case expects nothing that we have");
    }
    Outcome::all(outcomes)
}

/// Arrivals that count, each with its place in the order of arrival.
fn accepted(case: &Case) -> Result<Vec<(usize, &CaseEvent)>, Outcome> {
    let query = case.query();
    let arrivals = case.arrivals();
    let key = Key::of(case, &arrivals)?;
    let memory = match query.number("window_seconds") {
        Some(seconds) => Memory {
            window: Duration::try_from_secs_f64(seconds)
                .map_err(|e| Outcome::failed(format!("window_seconds: {e}")))?,
            day: Duration::from_millis(1),
        },
        None => Memory::USUAL,
    };
    let batches = batches(query.value("batches"), arrivals.len())?;
    let times = times(query.value("clock"), &arrivals, &batches)?;
    let mut known = KnownEvents::new(memory, InMemory);
    let mut now = i64::MIN;
    let mut accepted = Vec::new();
    for arrival in batches.into_iter().flatten() {
        let event = arrivals[arrival];
        now = now.max(times[arrival]);
        let (key, source) = key.of_event(event);
        let Ok(counts) = known.claim(key, source, ReceivedAt(times[arrival]), ReceivedAt(now));
        if counts {
            accepted.push((arrival, event));
        }
    }
    Ok(accepted)
}

/// Places of arrivals, by batch; in one batch if there are none.
fn batches(value: Option<&Value>, arrivals: usize) -> Result<Vec<Vec<usize>>, Outcome> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(vec![(0..arrivals).collect()]) };
    let place = |value: &Value| value.as_u64().map(|n| n as usize).filter(|&n| n < arrivals);
    let batch = |value: &Value| value.as_array()?.iter().map(place).collect::<Option<Vec<_>>>();
    let batches = value.as_array().and_then(|batches| batches.iter().map(batch).collect());
    batches.ok_or_else(|| Outcome::failed(format!("batches {value} are no lists of arrivals")))
}

/// When each arrival comes, in ms, on the clock that the window is measured by.
fn times(clock: Option<&Value>, arrivals: &[&CaseEvent], batches: &[Vec<usize>]) -> Result<Vec<i64>, Outcome> {
    let own = || arrivals.iter().map(|event| event.time_ms).collect::<Vec<_>>();
    let skipped = || Outcome::skipped(format!("the clock {} is none of ours", clock.unwrap_or(&Value::Null)));
    match clock {
        None | Some(Value::Null) => Ok(own()),
        // Events have one time in a case: it stands for whichever clock the source reads.
        Some(Value::String(name)) => {
            let known = ["event", "arrival", "received", "processing", "ingest", "server", "wall", "ts", "log"];
            let is_known = known.iter().any(|clock| name.to_ascii_lowercase().contains(clock));
            if is_known { Ok(own()) } else { Err(skipped()) }
        }
        Some(Value::Array(times)) => {
            let time = |value: &Value| match value {
                Value::String(text) => time_ms(text),
                Value::Number(seconds) => seconds.as_f64().map(|seconds| (seconds * 1000.0) as i64),
                _ => None,
            };
            let times: Vec<i64> = times.iter().map(time).collect::<Option<_>>().ok_or_else(skipped)?;
            if times.len() == arrivals.len() {
                return Ok(times);
            }
            if times.len() != batches.len() {
                return Err(skipped());
            }
            let mut all = own();
            for (batch, time) in batches.iter().zip(times) {
                batch.iter().for_each(|&arrival| all[arrival] = time);
            }
            Ok(all)
        }
        Some(_) => Err(skipped()),
    }
}

/// What duplicates are known by: fields and properties of an event.
struct Key(Vec<String>);

impl Key {
    fn of(case: &Case, arrivals: &[&CaseEvent]) -> Result<Self, Outcome> {
        let names: Vec<&str> = match case.query().value("dedup_key") {
            // Several may stand in one text: `user + event`.
            Some(Value::String(text)) => text.split([' ', '+', ',', '&', '|', '(', ')']).collect(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => return Err(Outcome::failed("`dedup_key` is missing, or no text and no list of texts")),
        };
        let mut key = Self(Vec::new());
        for name in names.into_iter().filter(|name| !matches!(*name, "" | "and")) {
            if !is_all(name) && arrivals.iter().all(|event| part(event, name).is_null()) {
                return Err(Outcome::skipped(format!("no event has `{name}`, which duplicates are to be known by")));
            }
            key.0.push(name.to_owned());
        }
        if key.0.is_empty() { Err(Outcome::failed("`dedup_key` is empty")) } else { Ok(key) }
    }

    /// An event that has nothing of the key is known by its content, as one without an id is.
    fn of_event(&self, event: &CaseEvent) -> (EventKey, KeySource) {
        let project = ProjectId::parse("case").expect("a project id");
        let parts: Vec<Value> =
            self.0.iter().map(|name| if is_all(name) { all(event) } else { part(event, name) }).collect();
        if parts.iter().all(Value::is_null) {
            return (EventKey::of_content(&project, all(event).to_string().as_bytes()), KeySource::Content);
        }
        (EventKey::of_id(&project, &json!(parts).to_string()), KeySource::Id)
    }
}

fn is_all(name: &str) -> bool {
    matches!(name, "content" | "payload" | "fingerprint" | "all" | "all_fields")
}

fn all(event: &CaseEvent) -> Value {
    json!([event.user, event.event, event.time_ms, event.props, event.device])
}

/// A field by its name in cases or by a common one of trackers, else a property. Null if it is not there.
fn part(event: &CaseEvent, name: &str) -> Value {
    match name {
        "user" | "user_id" | "distinct_id" => json!(event.user),
        "event" | "name" | "event_name" => json!(event.event),
        "ts" | "time" | "timestamp" => json!(event.time_ms),
        "device" => json!(event.device),
        "event_id" | "id" | "message_id" | "messageId" | "insert_id" | "$insert_id" | "uuid"
            if event.event_id.is_some() =>
        {
            json!(event.event_id)
        }
        name => {
            let name = name.strip_prefix("props.").or(name.strip_prefix("properties.")).unwrap_or(name);
            event.props.get(name).cloned().unwrap_or_default()
        }
    }
}

/// Sessions of the arrivals that count: how many, or each with what the case says of it.
fn sessions(case: &Case, accepted: &[(usize, &CaseEvent)]) -> Outcome {
    let query = case.query();
    let mut rules = SessionRules::USUAL;
    let gap = query.number("gap_seconds").or(query.number("gap_minutes").map(|minutes| minutes * 60.0));
    let gap = gap.or(query.number("session_gap_seconds")).or(query.number("gap_ms").map(|ms| ms / 1000.0));
    if let Some(gap) = gap {
        rules.gap = Duration::from_secs_f64(gap);
    }
    let mut visitors: BTreeMap<&str, VisitorSessions> = BTreeMap::new();
    for &(arrival, event) in accepted {
        let order = OrderKey { time: EventTime(event.time_ms), sequence: 0, key: EventKey(arrival as u64) };
        let received = ReceivedAt(event.time_ms);
        visitors.entry(&event.user).or_default().on_event(&SessionEvent::at(order), &rules, received);
    }
    let of = |(user, visitor): (&str, &mut VisitorSessions)| -> Vec<(String, Session)> {
        visitor.changes(&rules).1.into_iter().map(|session| (user.to_owned(), session)).collect()
    };
    let mut found: Vec<_> = visitors.iter_mut().flat_map(|(user, visitor)| of((user, visitor))).collect();
    found.sort_by_key(|(_, session)| session.start);
    let expected = case.expected();
    if case.expected().value("sessions").is_some_and(Value::is_number) {
        return Outcome::equal("sessions", &expected.whole("sessions"), &Some(found.len() as i64));
    }
    let Some(mut list) = expected.list("sessions") else {
        return Outcome::failed("`sessions` is no number and no list");
    };
    list.sort_by_key(|session| session.time_ms("start"));
    let mut outcomes = vec![Outcome::equal("number of sessions", &list.len(), &found.len())];
    for (expected, (user, session)) in list.iter().zip(&found) {
        let equal =
            |what, expected: Option<i64>, found: i64| expected.map(|expected| Outcome::equal(what, &expected, &found));
        outcomes.extend(expected.text("user").map(|expected| Outcome::equal("user", &expected, &user.as_str())));
        outcomes.extend(equal("start", expected.time_ms("start"), session.start.0));
        outcomes.extend(equal("end", expected.time_ms("end"), session.end.0));
        outcomes.extend(equal("events", expected.whole("events"), i64::from(session.events)));
    }
    Outcome::all(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(events: &Value, query: Value, expected: Value) -> Outcome {
        let case = json!({"id": "i", "source": "s", "kind": "dedup", "title": "t", "events": events, "query": query,
                          "expected": expected});
        run(&Case::parse(case).expect("a case"))
    }

    fn event(second: u32, id: Option<&str>, order: u32) -> Value {
        json!({"user": "u", "event": "e", "ts": format!("2024-01-10T12:{:02}:{:02}Z", second / 60, second % 60),
               "props": {"order": order}, "event_id": id})
    }

    #[test]
    fn an_id_is_known_until_its_window_is_over() {
        let events = json!([event(0, Some("a"), 1), event(60, Some("a"), 2), event(61, Some("a"), 3)]);
        let query = json!({"dedup_key": "event_id", "window_seconds": 60});
        assert_eq!(outcome(&events, query, json!({"accepted_arrivals": [0, 2], "unique_events": 2})), Outcome::Passed);
        let query = json!({"dedup_key": "event_id"});
        assert_eq!(outcome(&events, query, json!({"accepted_arrivals": [0], "sessions": 1})), Outcome::Passed);
        let query = json!({"dedup_key": "event_id", "window_seconds": 60, "clock": [0, 30, 59]});
        assert_eq!(outcome(&events, query, json!({"accepted_arrivals": [0]})), Outcome::Passed);
    }

    #[test]
    fn a_key_may_be_a_property_or_several_fields() {
        let events = json!([event(0, Some("a"), 1), event(1, Some("b"), 1), event(1, Some("b"), 2)]);
        for (key, accepted) in
            [("order", json!([0, 2])), ("user + event", json!([0])), ("event_id,order", json!([0, 1, 2]))]
        {
            let query = json!({"dedup_key": key, "window_seconds": 60});
            assert_eq!(outcome(&events, query, json!({"accepted_arrivals": accepted})), Outcome::Passed, "{key}");
        }
        let strange = outcome(&events, json!({"dedup_key": "strange"}), json!({"accepted_arrivals": []}));
        assert!(matches!(strange, Outcome::Skipped { reason } if reason.contains("strange")));
    }

    #[test]
    fn batches_say_the_order_and_may_have_a_time_each() {
        let events = json!([event(0, Some("a"), 1), event(0, Some("a"), 2), event(0, Some("b"), 3)]);
        let query = json!({"dedup_key": "event_id", "window_seconds": 60, "batches": [[1, 2], [0]]});
        assert_eq!(outcome(&events, query.clone(), json!({"accepted_arrivals": [1, 2]})), Outcome::Passed);
        let mut later = query;
        later["clock"] = json!(["2024-01-10T12:00:00Z", "2024-01-10T12:01:01Z"]);
        assert_eq!(outcome(&events, later, json!({"accepted_arrivals": [0, 1, 2]})), Outcome::Passed);
    }
}
