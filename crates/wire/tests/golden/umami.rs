//! Real requests of Umami's script.

use serde_json::Value;
use trackway_domain::event::EventKind;
use trackway_domain::id::Visitor;
use trackway_domain::revenue::Revenue;
use trackway_wire::protocol::Answer;

use crate::arrivals::{Arrival, check, groups, json, names, place_is};
use crate::capture::{Entry, holds};

/// The tracker sends no times: an event happened when it came. The first page view came before the script's own note, and
/// the page view of a single-page app up to 300 ms late.
const SLACK_MS: std::ops::RangeInclusive<i64> = -400..=330;

fn is(arrival: &Arrival, action: &Value) -> bool {
    let (kind, name) = match action["type"].as_str().expect("a type") {
        "page_view" => (EventKind::Page, "page"),
        "track" => (EventKind::Track, action["event"].as_str().expect("a name")),
        // What the button's `data-umami-event` says.
        "click" => (EventKind::Track, "Buy Button"),
        "purchase" => (EventKind::Track, "purchase"),
        "identify" => (EventKind::Identify, "identify"),
        other => panic!("action {other} is not known"),
    };
    arrival.event.kind == kind && arrival.event.name == name
}

/// The tracker reads `cache` and `disabled` of the answer.
fn is_success(answer: &Answer, _: &Entry) -> bool {
    let body = json(std::str::from_utf8(&answer.body).expect("text"));
    body["cache"].as_str().is_some_and(|cache| cache.split('.').count() == 3) && body["disabled"].is_null()
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let capture = include_str!("../captures/umami/umami.jsonl");
    let mut groups = groups(capture, "umami", "b59e9c65-ae32-47f1-8400-119fcf4861c4", is_success);
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["default", "perf"]);
    let details = |arrival: &Arrival, action: &Value, _: &Value| {
        let event = &arrival.event;
        let before = ["page_view", "click"].contains(&action["type"].as_str().expect("a type"))
            || action["event"] == "Signup Clicked ✓ größe";
        // Nobody is named before the script identifies its user.
        let visitor = (!before).then(|| Visitor::User("user_42".into()));
        assert_eq!((&event.visitor, &event.id), (&visitor, &None), "{action}");
        place_is(arrival, action);
        assert_eq!((&*event.context.locale, event.context.screen), ("de-DE", (1280, 720)));
        assert_eq!(arrival.properties()["$context"]["tag"], "rel-ü");
        if action["traits"].is_object() {
            assert_eq!(arrival.traits(), action["traits"]);
        }
        if action["type"] == "purchase" {
            // The script took the total for the revenue.
            assert_eq!(event.revenue, Revenue::parse("59.97", "EUR"));
            let given = arrival.properties();
            assert!(holds(&given["items"], &action["order"]["items"]), "{given}");
            assert_eq!(given["order_id"], action["order"]["order_id"]);
        }
    };
    // The page view of the next visit.
    let unexplained = check(groups.remove("default").expect("recorded"), SLACK_MS, is, details);
    assert_eq!(names(&unexplained), ["page"]);
    // How fast the page was, told when it was left.
    let unexplained = check(groups.remove("perf").expect("recorded"), SLACK_MS, is, details);
    assert_eq!(names(&unexplained), ["performance"]);
    assert_eq!(unexplained[0].properties()["lcp"], 116);
}
