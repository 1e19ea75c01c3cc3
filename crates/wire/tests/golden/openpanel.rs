//! Real requests of OpenPanel's browser tracker.

use serde_json::Value;
use trackway_domain::event::EventKind;
use trackway_domain::id::Visitor;
use trackway_domain::revenue::Revenue;

use crate::arrivals::{Arrival, check, groups, json, names, place_is, recorded_body};
use crate::capture::holds;

/// The tracker sends no times: an event happened when it came. Automatic page views are before the script's own note.
const SLACK_MS: std::ops::RangeInclusive<i64> = -400..=80;

fn is(arrival: &Arrival, action: &Value) -> bool {
    let (kind, name) = match action["type"].as_str().expect("a type") {
        "page_view" => (EventKind::Page, "page"),
        "track" | "click" => (EventKind::Track, action["event"].as_str().expect("a name")),
        "purchase" => (EventKind::Track, "revenue"),
        "identify" => (EventKind::Identify, "identify"),
        // The script also made the user a member, which is a call of its own.
        "group" => (EventKind::Group, "group"),
        other => panic!("action {other} is not known"),
    };
    let is_membership = kind == EventKind::Group && arrival.event.user_id.is_some();
    arrival.event.kind == kind && arrival.event.name == name && !is_membership
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let is_success = |answer: &trackway_wire::protocol::Answer, entry: &_| {
        let names = |body: &[u8]| {
            let body = json(std::str::from_utf8(body).expect("text"));
            body.as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
        };
        names(&answer.body) == names(&recorded_body(entry))
    };
    let capture = include_str!("../captures/openpanel/openpanel.jsonl");
    let mut groups = groups(capture, "openpanel", "op_client_test", is_success);
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["default"]);
    let unexplained = check(groups.remove("default").expect("recorded"), SLACK_MS, is, |arrival, action, _| {
        let event = &arrival.event;
        let is_identified = ["identify", "purchase"].contains(&action["type"].as_str().expect("a type"))
            || action["event"] == "burst_event";
        let visitor = is_identified.then(|| Visitor::User("user_42".into()));
        assert_eq!((&event.visitor, &event.id), (&visitor, &None), "{action}");
        assert_eq!((&*event.context.library, &*event.context.library_version), ("web", "1.4.1"));
        match action["type"].as_str() {
            Some("identify") => {
                // The script gave the name in two parts, and no age.
                let traits = arrival.traits();
                assert_eq!((&traits["firstName"], &traits["lastName"]), (&"Zoë".into(), &"Müller".into()));
                for name in ["email", "plan", "company"] {
                    assert_eq!(traits[name], action["traits"][name], "{name}");
                }
                return;
            }
            Some("group") => {
                assert_eq!(event.other_id.as_deref(), action["group_id"].as_str());
                assert!(holds(&arrival.traits(), &action["traits"]));
                return;
            }
            Some("purchase") => {
                // The script took the total for the revenue.
                assert_eq!(event.revenue, Revenue::parse("59.97", "EUR"));
                let given = arrival.properties();
                assert!(holds(&given["items"], &action["order"]["items"]), "{given}");
                assert_eq!(given["order_id"], action["order"]["order_id"]);
            }
            _ => {}
        }
        place_is(arrival, action);
        assert!(event.context.referrer.ends_with("/vorher"), "{action}");
    });
    // The user as a member of the group, the orders counted up, and the page view of the next visit.
    assert_eq!(names(&unexplained), ["group", "identify", "page"]);
    assert_eq!(unexplained[0].event.user_id.as_deref(), Some("user_42"));
    assert_eq!(unexplained[1].event.traits, r#"{"$increment":{"orders":1}}"#);
}
