//! Real requests of Mixpanel's browser and Python trackers.

use serde_json::Value;
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_wire::protocol::Answer;

use crate::capture::Entry;
use crate::recorded::{Recorded, browser_is, holds, is, json, purchase_is, recorded};

/// The script notes a time up to 300 ms after what the tracker does by itself; its import rounded to seconds.
const SLACK_MS: i64 = 350;

/// As recorded, the members that the trackers read: all of `1`, `status` and `error` of JSON.
fn answer_is(entry: &Entry, answer: &Answer) {
    use base64::Engine as _;
    let recorded = entry.expected_answer["body_b64"].as_str().expect("a body");
    let recorded = base64::engine::general_purpose::STANDARD.decode(recorded).expect("base64");
    let (recorded, own) = (String::from_utf8_lossy(&recorded), String::from_utf8_lossy(&answer.body));
    if recorded == "1" {
        assert_eq!(own, "1", "{}", entry.line);
    } else {
        // The recorder counted one record whatever came.
        let (own, recorded) = (json(&own), json(&recorded));
        assert_eq!((&own["status"], &own["error"]), (&recorded["status"], &recorded["error"]), "{}", entry.line);
    }
}

fn read(capture: &str) -> std::collections::BTreeMap<String, Recorded> {
    recorded(capture, "mixpanel", "mp_token_test", answer_is)
}

/// Takes the events of each action out of its group.
fn check(group: &mut Recorded) {
    for (action, ids) in std::mem::take(&mut group.actions) {
        let named = |name: &str| match name {
            "page" => (EventKind::Page, "page".to_owned()),
            name => (EventKind::Track, name.to_owned()),
        };
        let (kind, name) = match action["type"].as_str().expect("a type") {
            "reset" | "note" => continue,
            "page_view" => named("page"),
            "track" => named(action["event"].as_str().expect("a name")),
            "click" => named(action["event"].as_str().unwrap_or("$mp_click")),
            "purchase" => named("Purchase"),
            "identify" => (EventKind::Identify, "identify".to_owned()),
            "group" => (EventKind::Group, "group".to_owned()),
            "alias" => (EventKind::Alias, "alias".to_owned()),
            other => panic!("action {other} is not known"),
        };
        let event = match kind {
            // The browser says who somebody is by an event, and what is known of them by updates.
            EventKind::Identify => {
                let said = |event: &ReceivedEvent| event.id.is_some() && event.traits == "{}";
                let traits = traits(group, &action);
                let user = action["user_id"].as_str();
                if ids.as_object().is_some_and(|ids| !ids.is_empty()) {
                    browser_is(&traits, &action, &ids, user);
                    group.one(&action, |event| is(event, kind, &name, &action, SLACK_MS) && said(event))
                } else {
                    traits
                }
            }
            EventKind::Page => {
                let url = action["url"].as_str().or(action["page_url"].as_str());
                group
                    .one(&action, |event| is(event, kind, &name, &action, SLACK_MS) && Some(&*event.context.url) == url)
            }
            _ => group.one(&action, |event| is(event, kind, &name, &action, SLACK_MS)),
        };
        ids_are(&event, &action, &ids);
        if let Some(title) = action["title"].as_str() {
            assert_eq!(event.context.title, title, "{action}");
        }
        if let Some(referrer) = action["referrer"].as_str() {
            assert_eq!(event.context.referrer, referrer, "{action}");
        }
        if !action["order"].is_null() {
            let items = if ids["anonymous_id"].is_null() { "products" } else { "items" };
            purchase_is(&event, &action["order"], items);
        }
        if kind == EventKind::Group {
            assert_eq!(event.other_id.as_deref(), action["group_id"].as_str());
            assert!(action["traits"].is_null() || holds(&json(&event.traits), &action["traits"]), "{action}");
        }
        if kind == EventKind::Alias {
            assert_eq!(event.other_id.as_deref(), action["previous_id"].as_str());
        }
    }
}

/// The update with what the script says of the person; Mixpanel has names of its own for two members.
fn traits(group: &mut Recorded, action: &Value) -> ReceivedEvent {
    let mut wanted = action["traits"].clone();
    // Python's script sent these two only in its description.
    if group.events.iter().any(|event| event.context.library == "python" || event.sent_at_ms.is_none()) {
        let wanted = wanted.as_object_mut().expect("traits");
        wanted.remove("plan");
        wanted.remove("age");
    }
    for name in ["email", "name"] {
        wanted[format!("${name}")] = wanted[name].take();
    }
    group.one(action, |event| event.kind == EventKind::Identify && holds(&json(&event.traits), &wanted))
}

fn ids_are(event: &ReceivedEvent, action: &Value, ids: &Value) {
    let user = match action["type"].as_str() {
        Some("alias") => action["user_id"].as_str(),
        _ => ids["distinct_id"].as_str().filter(|id| !id.starts_with("$device:")),
    };
    match event.kind {
        // An update of a group names nobody.
        EventKind::Group => assert_eq!(event.visitor, None),
        _ if ids["anonymous_id"].is_null() => {
            let user = action["user_id"].as_str().expect("servers name a user");
            assert_eq!(event.visitor, Some(Visitor::User(user.into())), "{action}");
        }
        _ => browser_is(event, action, ids, user),
    }
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let mut groups = read(include_str!("../captures/mixpanel/mixpanel.jsonl"));
    assert_eq!(
        groups.keys().collect::<Vec<_>>(),
        ["autocapture", "beacon", "form_batch", "form_nobatch", "get", "json"]
    );
    for (name, group) in &mut groups {
        check(group);
        // What unload sent by beacon, the next visit sent again.
        let again: &[&str] = if name == "form_batch" { &["page_leave_event", "page_leave_event_2"] } else { &[] };
        assert_eq!(group.again, again, "{name}");
        // Updates: first touch, `$add`, `$union`, `$set_once`. Autocapture also notices clicks without effect.
        let more: &[&str] = if name == "autocapture" { &["$mp_dead_click", "identify"] } else { &["identify"] };
        assert_eq!(group.unexplained(), more, "{name}");
        let operations: Vec<_> = group.events.iter().map(|event| json(&event.traits)).collect();
        for operation in ["$add", "$union", "$set_once"] {
            assert!(operations.iter().any(|traits| traits[operation].is_object()), "{name} {operation}");
        }
    }
}

#[test]
fn every_action_in_python_arrives_exactly_once() {
    let mut groups = read(include_str!("../captures/mixpanel/mixpanel-python.jsonl"));
    let steps = ["burst", "custom_event", "group", "historic_timestamp", "identify", "page_view", "purchase"];
    assert_eq!(groups.keys().collect::<Vec<_>>(), steps);
    for (name, group) in &mut groups {
        check(group);
        assert_eq!(group.again, [""; 0], "{name}");
        // `$add` and `$union`, and the charge.
        let more: &[&str] = if matches!(&**name, "identify" | "purchase") { &["identify"] } else { &[] };
        assert_eq!(group.unexplained(), more, "{name}");
    }
    let charge = groups["purchase"].events[0].revenue.as_ref().expect("a charge is revenue");
    assert_eq!(charge.micros, 59_970_000);
}

#[test]
fn what_the_browser_says_beside_its_fields_is_kept() {
    let groups = read(include_str!("../captures/mixpanel/mixpanel.jsonl"));
    let page = groups["form_batch"].events.iter().find(|event| event.kind == EventKind::Page).expect("a page view");
    let own = json(&page.properties);
    assert_eq!((&own["$os"], &own["section"], &own["gclid"]), (&"Linux".into(), &"Käse".into(), &"TeSt123".into()));
    assert_eq!((page.context.screen, &*page.context.library_version), ((1280, 720), "2.83.0"));
    assert!(page.sent_at_ms.is_some_and(|sent| Some(sent) >= page.client_time_ms));
    for private in ["token", "distinct_id", "$device_id", "$insert_id", "time"] {
        assert!(own[private].is_null(), "{private} has a field of its own");
    }
}
