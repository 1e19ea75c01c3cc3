//! Real requests of Amplitude's browser tracker.

use serde_json::Value;
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_wire::protocol::Answer;

use crate::capture::Entry;
use crate::recorded::{Recorded, browser_is, holds, is, json, recorded};

/// The script notes a time up to this much after what the tracker does by itself.
const SLACK_MS: i64 = 400;

/// Its trackers read the code only.
fn answer_is(entry: &Entry, answer: &Answer) {
    assert_eq!(json(&String::from_utf8_lossy(&answer.body))["code"], 200, "{}", entry.line);
}

fn read() -> std::collections::BTreeMap<String, Recorded> {
    let capture = include_str!("../captures/amplitude/amplitude.jsonl");
    recorded(capture, "amplitude", "ampkey_test_0123456789abcdef", answer_is)
}

/// Takes the events of each action out of its group.
fn check(group: &mut Recorded) {
    for (action, ids) in std::mem::take(&mut group.actions) {
        let track = EventKind::Track;
        let (kind, name) = match action["type"].as_str().expect("a type") {
            "reset" | "note" => continue,
            "page_view" => (EventKind::Page, "page"),
            "track" => (track, action["event"].as_str().expect("a name")),
            "click" => (track, "[Amplitude] Element Clicked"),
            "link_click" => (track, "[Amplitude] File Downloaded"),
            "identify" => (EventKind::Identify, "identify"),
            "group" => (EventKind::Group, "group"),
            "purchase" => {
                purchase(group, &action, &ids);
                continue;
            }
            other => panic!("action {other} is not known"),
        };
        let event = group.one(&action, |event| {
            let is_it = match kind {
                EventKind::Page => action["url"].as_str() == Some(&*encoded(&event.context.url)),
                // The tracker updates the person with campaigns and groups by itself.
                EventKind::Identify => holds(&json(&event.traits), &action["traits"]),
                _ if action["type"] == "click" => json(&event.properties)["[Amplitude] Element ID"] == "buy",
                _ => true,
            };
            is(event, kind, name, &action, SLACK_MS) && is_it
        });
        browser_is(&event, &action, &ids, ids["user_id"].as_str());
        assert!(event.id.is_some() && event.sent_at_ms >= event.client_time_ms, "{action}");
        assert_eq!(event.context.session, ids["session"].to_string(), "{action}");
        if let Some(title) = action["title"].as_str() {
            assert_eq!(event.context.title, title, "{action}");
        }
        if let Some(referrer) = action["referrer"].as_str() {
            assert_eq!(event.context.referrer, referrer, "{action}");
        }
        if kind == EventKind::Group {
            assert_eq!(event.other_id.as_deref(), action["group_id"].as_str());
            assert_eq!(json(&event.traits), action["traits"]);
        }
    }
}

/// An address as the script notes it: the tracker decodes it.
fn encoded(url: &str) -> String {
    url.replace('ä', "%C3%A4").replace('é', "%C3%A9")
}

/// An order is an event for each of its items.
fn purchase(group: &mut Recorded, action: &Value, ids: &Value) {
    let items = action["order"]["items"].as_array().expect("items");
    let mut micros = 0;
    for item in items {
        let event = group.one(action, |event| {
            let own = json(&event.properties);
            own["$productId"] == item["sku"] && is(event, EventKind::Track, "revenue_amount", action, SLACK_MS)
        });
        browser_is(&event, action, ids, Some("user_42"));
        let own = json(&event.properties);
        for (own_name, name) in [("name", "name"), ("$price", "price"), ("$quantity", "quantity")] {
            assert_eq!(own[own_name], item[name], "{action}");
        }
        assert_eq!(own["order_id"], action["order"]["order_id"]);
        let revenue = event.revenue.expect("a purchase earns");
        assert_eq!(revenue.currency, "EUR");
        micros += revenue.micros;
    }
    assert_eq!(micros, 59_970_000);
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let mut groups = read();
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["batch", "beacon", "fetch", "gzip", "xhr"]);
    for (name, group) in &mut groups {
        check(group);
        assert_eq!(group.again, [""; 0], "{name}");
        // By itself: the first touch, the session, and what came into view.
        let more: &[&str] = match &**name {
            // What unload left came at the next visit, with that visit's page view; the link was clicked, too.
            "fetch" => &[
                "[Amplitude] Element Clicked",
                "[Amplitude] Viewport Content Updated",
                "identify",
                "page",
                "page_leave_event",
                "page_leave_event_2",
                "session_start",
            ],
            "beacon" => &["[Amplitude] Viewport Content Updated", "identify", "page", "session_start"],
            _ => &["identify", "session_start"],
        };
        assert_eq!(group.unexplained(), more, "{name}");
    }
}

#[test]
fn what_came_at_the_next_visit_keeps_its_time() {
    let groups = read();
    let find = |name: &str| groups["fetch"].events.iter().find(|event| event.name == name).expect("it came");
    let left: &ReceivedEvent = find("page_leave_event");
    let late_ms = left.sent_at_ms.expect("sent") - left.client_time_ms.expect("happened");
    assert!((1000..5000).contains(&late_ms), "{late_ms}");
}

#[test]
fn what_the_browser_says_beside_its_fields_is_kept() {
    let groups = read();
    let page = groups["fetch"].events.iter().find(|event| event.kind == EventKind::Page).expect("a page view");
    let own = json(&page.properties);
    assert_eq!((&own["$event_name"], &own["gclid"]), (&"[Amplitude] Page Viewed".into(), &"TeSt123".into()));
    assert_eq!(own["$context"]["platform"], "Web");
    assert_eq!((&*page.context.campaign.name, &*page.context.locale), ("härbst", "de-DE"));
    assert_eq!((&*page.context.library, &*page.context.library_version), ("amplitude-ts", "2.45.0"));
    assert!(page.context.user_agent.contains("Chrome/156") && page.context.ip.is_empty());
}
