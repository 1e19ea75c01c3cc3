//! Real requests of PostHog's browser and Python trackers.

use serde_json::Value;
use trackway_domain::event::EventKind;
use trackway_domain::revenue::Revenue;
use trackway_wire::protocol::Answer;

use crate::arrivals::{Arrival, check, groups, json, names, recorded_body};
use crate::capture::{Entry, holds};

/// Automatic page views happen up to this long before the script's own note of the time.
const SLACK_MS: std::ops::RangeInclusive<i64> = -400..=50;

/// Whether the event is what the action did.
fn is(arrival: &Arrival, action: &Value) -> bool {
    let (kind, name) = match action["type"].as_str().expect("a type") {
        "page_view" => (EventKind::Page, "page"),
        "track" => (EventKind::Track, action["event"].as_str().expect("a name")),
        "click" | "link_click" => (EventKind::Track, "$autocapture"),
        "purchase" => (EventKind::Track, "order_completed"),
        "identify" => (EventKind::Identify, "identify"),
        "group" => (EventKind::Group, "group"),
        "alias" => (EventKind::Alias, "alias"),
        other => panic!("action {other} is not known"),
    };
    // Python's `set_once` is an event of its own; the script did it with the identification.
    let is_once = kind == EventKind::Identify && arrival.traits().get("email").is_none();
    arrival.event.kind == kind && arrival.event.name == name && !is_once
}

fn details_are(arrival: &Arrival, action: &Value) {
    let event = &arrival.event;
    assert!(event.id.is_some() && event.sent_at_ms >= event.client_time_ms, "{action}");
    if action["traits"].is_object() {
        assert!(holds(&arrival.traits(), &action["traits"]), "{action}: {}", event.traits);
    }
    if let Some(other) = action["group_id"].as_str().or(action["previous_id"].as_str()) {
        assert_eq!(event.other_id.as_deref(), Some(other), "{action}");
    }
    if let Some(url) = action["url"].as_str().or(action["page_url"].as_str()) {
        assert_eq!(event.context.url, url, "{action}");
    }
    if action["order"].is_object() {
        let wanted = Revenue { micros: 46_480_000, currency: "EUR".into() };
        assert_eq!(event.revenue.as_ref(), Some(&wanted));
        assert!(holds(&arrival.properties(), &action["order"]), "{}", event.properties);
    }
}

fn is_success(answer: &Answer, entry: &Entry) -> bool {
    let recorded = recorded_body(entry);
    match &*entry.kind {
        // Python looks at the status only.
        "event" => &*answer.body == br#"{"status":1}"#,
        _ if answer.content_type == "application/javascript" => *answer.body == *recorded,
        _ => {
            // An id of each answer; and a list of surveys, for which the recording's browser fetched a script.
            let members = |body: &[u8]| {
                let body = json(std::str::from_utf8(body).expect("text"));
                let mut body = body.as_object().expect("an object").clone();
                body.retain(|name, _| !["requestId", "surveys"].contains(&&**name));
                body
            };
            members(&answer.body) == members(&recorded)
        }
    }
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let mut groups = groups(include_str!("../captures/posthog/posthog.jsonl"), "posthog", "phc_test_key", is_success);
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["gzip", "legacy", "nocompress"]);
    let details = |arrival: &Arrival, action: &Value, ids: &Value| {
        details_are(arrival, action);
        let event = &arrival.event;
        let id = |name: &str| ids[name].as_str().expect("an id").to_owned();
        let (distinct, anonymous) = (id("distinct_id"), id("anonymous_id"));
        if distinct == "user_42" {
            // An alias call's user is the id that is used from now on.
            let user = if action["type"] == "alias" { "user_42_new" } else { "user_42" };
            assert_eq!((arrival.device(), event.user_id.as_deref()), (Some(&*anonymous), Some(user)), "{action}");
        } else {
            // After a reset the visitor is somebody new on the same device.
            assert_eq!((arrival.device(), &event.user_id), (Some(&*distinct), &None), "{action}");
        }
        assert_eq!((&*event.context.library, &*event.context.library_version), ("web", "1.449.2"));
        assert_eq!(event.context.session, id("session"), "{action}");
        assert_eq!((&*event.context.locale, event.context.screen), ("de-DE", (1280, 720)));
        if let Some(title) = action["title"].as_str().filter(|_| action["auto"] == true) {
            assert_eq!(event.context.title, title);
        }
        if let Some(referrer) = action["referrer"].as_str() {
            assert_eq!(event.context.referrer, referrer);
        }
        if action["type"] == "click" {
            assert_eq!(arrival.properties()["$el_text"], action["text"]);
        }
    };
    // The page view of the next visit, and how each page was left.
    let unexplained = check(groups.remove("gzip").expect("recorded"), SLACK_MS, is, details);
    assert_eq!(names(&unexplained), ["$pageleave", "page", "$pageleave"]);
    let unexplained = check(groups.remove("nocompress").expect("recorded"), SLACK_MS, is, details);
    assert_eq!(names(&unexplained), ["$pageleave"]);
    let unexplained = check(groups.remove("legacy").expect("recorded"), SLACK_MS, is, details);
    assert_eq!(names(&unexplained), ["$pageleave"]);
}

#[test]
fn every_action_in_python_arrives_exactly_once() {
    let capture = include_str!("../captures/posthog/posthog-python.jsonl");
    let mut groups = groups(capture, "posthog", "phc_test_key", is_success);
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["gzip", "plain"]);
    let details = |arrival: &Arrival, action: &Value, _: &Value| {
        details_are(arrival, action);
        assert_eq!(arrival.event.context.library, "posthog-python");
        if action["type"] == "group" {
            // The tracker made an id up: the group call names no user.
            assert_eq!((arrival.device().map(str::len), &arrival.event.user_id), (Some(36), &None));
        } else {
            assert_eq!(arrival.device(), None);
            assert_eq!(arrival.event.user_id.as_deref(), action["user_id"].as_str(), "{action}");
        }
    };
    for name in ["gzip", "plain"] {
        let unexplained = check(groups.remove(name).expect("recorded"), SLACK_MS, is, details);
        // The script's identification also set a trait once.
        assert_eq!(names(&unexplained), ["identify"]);
        assert_eq!(unexplained[0].event.traits, r#"{"$set_once":{"first_plan":"pro"}}"#);
    }
}

#[test]
fn numbers_above_two_to_the_53_keep_their_digits() {
    let capture = include_str!("../captures/posthog/posthog-python.jsonl");
    let groups = groups(capture, "posthog", "phc_test_key", is_success);
    let big = |arrival: &&Arrival| arrival.event.properties.contains(r#""big":9007199254740993,"#);
    assert_eq!(groups["plain"].arrivals.iter().filter(big).count(), 1);
}
