//! Real requests of Jitsu's tracker, as in a browser and as from a server.

use serde_json::Value;
use trackway_domain::event::EventKind;

use crate::arrivals::{Arrival, check, groups, names, place_is, recorded_body};
use crate::capture::holds;

/// The last event of a page was stamped before the script's own note.
const SLACK_MS: std::ops::RangeInclusive<i64> = -100..=15;

fn is(arrival: &Arrival, action: &Value) -> bool {
    let (kind, name) = match action["type"].as_str().expect("a type") {
        "page_view" => (EventKind::Page, "page"),
        "track" | "click" => (EventKind::Track, action["event"].as_str().expect("a name")),
        "purchase" => (EventKind::Track, "Order Completed"),
        "identify" => (EventKind::Identify, "identify"),
        "group" => (EventKind::Group, "group"),
        other => panic!("action {other} is not known"),
    };
    arrival.event.kind == kind && arrival.event.name == name
}

#[test]
fn every_action_arrives_exactly_once() {
    let is_success = |answer: &trackway_wire::protocol::Answer, entry: &_| *answer.body == *recorded_body(entry);
    let capture = include_str!("../captures/jitsu/jitsu.jsonl");
    let mut groups = groups(capture, "jitsu", "jitsu_key:jitsu_secret", is_success);
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["default", "s2s"]);
    for name in ["default", "s2s"] {
        let unexplained = check(groups.remove(name).expect("recorded"), SLACK_MS, is, |arrival, action, ids| {
            let event = &arrival.event;
            assert_eq!(arrival.device(), ids["anonymous_id"].as_str(), "{action}");
            assert_eq!(event.user_id.as_deref(), ids["user_id"].as_str(), "{action}");
            assert!(event.id.is_some() && event.sent_at_ms >= event.client_time_ms, "{action}");
            place_is(arrival, action);
            assert_eq!((&*event.context.library, &*event.context.library_version), ("@jitsu/js", "1.11.0"));
            if action["traits"].is_object() {
                assert_eq!(arrival.traits(), action["traits"], "{action}");
            }
            if let Some(group) = action["group_id"].as_str() {
                assert_eq!(event.other_id.as_deref(), Some(group));
            }
            if action["order"].is_object() {
                assert!(holds(&arrival.properties(), &action["order"]), "{}", event.properties);
            }
        });
        assert_eq!(names(&unexplained), [""; 0]);
    }
}
