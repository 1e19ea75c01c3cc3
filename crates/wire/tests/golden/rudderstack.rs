//! Real requests of RudderStack's browser tracker.

use trackway_domain::event::EventKind;

use crate::recorded::{Recorded, browser_is, is, json, purchase_is, recorded};

/// The tracker stamps an event a few ms after the script's note of the time; the one that navigates away, 100 ms before.
const SLACK_MS: i64 = 150;

/// The write key stands in the head (Basic authorization, or the beacon's query), and nowhere in the body.
fn read() -> std::collections::BTreeMap<String, Recorded> {
    let capture = include_str!("../captures/rudderstack/rudderstack.jsonl");
    recorded(capture, "rudderstack", "wk_rudder_test", |_, _| {})
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let mut groups = read();
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["batch", "beacon", "xhr"]);
    for (group_name, group) in &mut groups {
        for (action, ids) in std::mem::take(&mut group.actions) {
            let (kind, name) = match action["type"].as_str().expect("a type") {
                "reset" => continue,
                "page_view" => (EventKind::Page, "page"),
                "track" | "click" => (EventKind::Track, action["event"].as_str().expect("a name")),
                "purchase" => (EventKind::Track, "Order Completed"),
                "identify" => (EventKind::Identify, "identify"),
                "group" => (EventKind::Group, "group"),
                "alias" => (EventKind::Alias, "alias"),
                other => panic!("action {other} is not known"),
            };
            let event = group.one(&action, |event| is(event, kind, name, &action, SLACK_MS));
            let user = match kind {
                EventKind::Alias => action["user_id"].as_str(),
                _ => ids["user_id"].as_str().filter(|id| !id.is_empty()),
            };
            browser_is(&event, &action, &ids, user);
            assert!(event.id.is_some() && event.sent_at_ms >= event.client_time_ms, "{action}");
            assert_eq!(event.context.session, ids["session"].to_string(), "{action}");
            if let Some(url) = action["url"].as_str() {
                assert_eq!(event.context.url, url, "{action}");
            }
            if let Some(title) = action["title"].as_str() {
                assert_eq!(event.context.title, title, "{action}");
            }
            if let Some(referrer) = action["referrer"].as_str() {
                assert_eq!(event.context.referrer, referrer, "{action}");
            }
            if !action["traits"].is_null() {
                assert_eq!(json(&event.traits), action["traits"], "{action}");
            }
            match kind {
                EventKind::Group => assert_eq!(event.other_id.as_deref(), action["group_id"].as_str()),
                EventKind::Alias => assert_eq!(event.other_id.as_deref(), action["previous_id"].as_str()),
                _ if !action["order"].is_null() => purchase_is(&event, &action["order"], "products"),
                _ => {}
            }
        }
        assert_eq!((&*group.again, group.unexplained()), (&[][..], vec![]), "{group_name}");
    }
}

#[test]
fn what_the_browser_says_beside_its_fields_is_kept() {
    let groups = read();
    let page = groups["xhr"].events.iter().find(|event| event.kind == EventKind::Page).expect("a page view");
    let own = json(&page.properties);
    let context = &own["$context"];
    assert_eq!((&own["name"], &context["sessionStart"]), (&"Startseite".into(), &true.into()));
    assert_eq!((&context["app"]["installType"], &context["$event"]["channel"]), (&"npm".into(), &"web".into()));
    assert_eq!((&*page.context.library, &*page.context.campaign.name), ("RudderLabs JavaScript SDK", "härbst"));
}
