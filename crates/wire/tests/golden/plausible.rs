//! Real requests of Plausible's script.

use serde_json::Value;
use trackway_domain::event::EventKind;
use trackway_domain::revenue::Revenue;

use crate::arrivals::{Arrival, check, groups, names, recorded_body};

/// The tracker sends no times: an event happened when it came. Automatic page views are before the script's own note.
const SLACK_MS: std::ops::RangeInclusive<i64> = -400..=80;

fn is(arrival: &Arrival, action: &Value) -> bool {
    let (kind, name) = match action["type"].as_str().expect("a type") {
        "page_view" => (EventKind::Page, "page"),
        "track" | "click" => (EventKind::Track, action["event"].as_str().expect("a name")),
        "link_click" => (EventKind::Track, "File Download"),
        "purchase" => (EventKind::Track, "Purchase"),
        other => panic!("action {other} is not known"),
    };
    arrival.event.kind == kind && arrival.event.name == name
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let is_success = |answer: &_, entry: &_| {
        let answer: &trackway_wire::protocol::Answer = answer;
        *answer.body == *recorded_body(entry)
    };
    let capture = include_str!("../captures/plausible/plausible.jsonl");
    let mut groups = groups(capture, "plausible", "shop.example.com", is_success);
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["default"]);
    let unexplained = check(groups.remove("default").expect("recorded"), SLACK_MS, is, |arrival, action, _| {
        let event = &arrival.event;
        assert_eq!((&event.visitor, &event.user_id, &event.id), (&None, &None, &None), "{action}");
        if let Some(url) = action["url"].as_str() {
            assert_eq!(event.context.url, url, "{action}");
        }
        assert!(event.context.referrer.ends_with("/vorher"), "{action}");
        assert_eq!((&*event.context.library, &*event.context.library_version), ("plausible", "36"));
        // The site gives these with every event.
        assert_eq!((&arrival.properties()["tier"], &arrival.properties()["author"]), (&"gold".into(), &"Zoë".into()));
        if action["type"] == "link_click" {
            assert_eq!(arrival.properties()["url"], action["href"]);
        }
        let is_purchase = action["type"] == "purchase";
        // The script took the total for the revenue.
        assert_eq!(event.revenue, Revenue::parse("59.97", "EUR").filter(|_| is_purchase));
        if is_purchase {
            assert_eq!(arrival.properties()["order_id"], action["order"]["order_id"]);
            assert_eq!(arrival.properties()["coupon"], action["order"]["coupon"]);
        }
    });
    // How long each page was looked at, and the page view of the next visit.
    assert_eq!(names(&unexplained), ["engagement", "engagement", "page", "engagement"]);
}
