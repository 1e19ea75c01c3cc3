//! Real requests of Countly's browser SDK.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trackway_domain::event::EventKind;
use trackway_domain::id::Visitor;
use trackway_wire::protocol::{Tally, Verdict};

use crate::capture::{self, holds};
use crate::story::{self, Action, Arrived, Story, is_time_of, stories};

const CAPTURE: &str = include_str!("../captures/countly/countly.jsonl");

fn all() -> BTreeMap<String, Story> {
    stories(CAPTURE, "countly", "countly_app_key_test")
}

/// Whether the event is what the action did.
fn is(arrived: &Arrived, action: &Value) -> bool {
    let event = &arrived.event;
    let properties = story::json(&event.properties);
    let fits = match action["type"].as_str().expect("a type") {
        "page_view" => event.kind == EventKind::Page,
        "track" => event.name == action["event"],
        "click" => event.name == "[CLY]_action",
        "link_click" => event.name == "linkClick" && properties["href"] == action["href"],
        // The SDK counts a purchase product by product.
        "purchase" => event.name == "purchase" && properties["sku"] == "SKU-1",
        // It sends no objects among the traits.
        "identify" => {
            let mut traits = action["traits"].clone();
            traits.as_object_mut().expect("traits").remove("company");
            event.kind == EventKind::Identify && story::json(&event.traits) == traits
        }
        other => panic!("action {other} is not known"),
    };
    let wanted = &action["properties"];
    fits && is_time_of(action, event.client_time_ms.expect("a time"))
        && (wanted.is_null() || holds(&properties, wanted))
}

/// Takes the one event of each action out; returns what was done and never arrived.
fn check(story: &mut Story) -> Vec<String> {
    let mut lost = Vec::new();
    for Action { said, ids, user } in std::mem::take(&mut story.actions) {
        if said["type"] == "note" {
            continue;
        }
        // Done in the same task as leaving the page, it waits for the next visit.
        if said["note"].is_string() && !story.names().contains(&said["event"].as_str().expect("a name")) {
            lost.push(said["event"].as_str().expect("a name").to_owned());
            continue;
        }
        let Arrived { event, .. } = story.take(&said, |arrived| is(arrived, &said));
        let id = ids["anonymous_id"].as_str().expect("an id").to_owned();
        let visitor = if ids["id_type"] == 0 { Visitor::User(id) } else { Visitor::Device(id) };
        assert_eq!((event.visitor, event.user_id), (Some(visitor), user), "{said}");
        assert_eq!(event.sent_at_ms, None, "a request says when it was made");
    }
    let mut ids: Vec<_> = story.events.iter().filter_map(|arrived| arrived.event.id.clone()).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "no id comes twice");
    lost
}

#[test]
fn every_action_arrives_exactly_once() {
    let mut stories = all();
    assert_eq!(stories.keys().collect::<Vec<_>>(), ["default", "post", "salt"]);
    for (name, story) in &mut stories {
        // Only one profile came back after it had left.
        let lost = check(story);
        assert_eq!(lost, if name == "post" { vec!["page_leave_event_2".to_owned()] } else { vec![] }, "{name}");
        // Beside the script's own: traits from the campaign, the change of the id, a counter; the second product; and
        // what the SDK says by itself of sessions, clicks, and views that were left.
        let expected: &[_] = match &**name {
            "default" => &[
                ("[CLY]_action", 1),
                ("[CLY]_orientation", 2),
                ("[CLY]_view", 2),
                ("begin_session", 1),
                ("identify", 3),
                ("purchase", 1),
                ("session_duration", 3),
            ],
            "post" | "salt" => &[
                ("[CLY]_orientation", 1),
                ("begin_session", 1),
                ("identify", 3),
                ("purchase", 1),
                ("session_duration", 1),
            ],
            other => panic!("{other}"),
        };
        assert_eq!(story.left(), expected, "{name}");
        // A sign of life at each visit.
        assert_eq!(story.nothing, if name == "default" { 2 } else { 1 }, "{name}");
    }
}

#[test]
fn the_user_takes_the_device_over() {
    for (name, story) in all() {
        let first = story.actions[0].ids["anonymous_id"].as_str().expect("an id").to_owned();
        let joined = story.events.iter().filter(|arrived| {
            let event = &arrived.event;
            event.kind == EventKind::Identify
                && event.user_id.is_some()
                && event.visitor == Some(Visitor::Device(first.clone()))
        });
        let joined: Vec<_> = joined.map(|arrived| arrived.event.user_id.as_deref()).collect();
        assert_eq!(joined, [Some("user_42")], "{name}");
        let counted = story.events.iter().any(|arrived| arrived.event.traits == r#"{"$inc":{"logins":1}}"#);
        assert!(counted, "{name}");
    }
}

#[test]
fn a_purchase_earns_product_by_product() {
    for (name, story) in all() {
        let earned: i64 = story
            .events
            .iter()
            .filter_map(|arrived| {
                let revenue = arrived.event.revenue.as_ref()?;
                assert_eq!(revenue.currency, "EUR");
                Some(revenue.micros)
            })
            .sum();
        assert_eq!(earned, 59_970_000, "{name}");
        let tea = json!({"order_id": "ORD-1001", "sku": "SKU-2", "name": "抹茶 Tee", "count": 1, "sum": 19.99});
        assert!(story.events.iter().any(|arrived| holds(&story::json(&arrived.event.properties), &tea)), "{name}");
    }
}

#[test]
fn a_page_view_says_where_it_was_and_what_the_browser_is() {
    for (name, story) in all() {
        let page = &story.events.iter().find(|arrived| arrived.event.kind == EventKind::Page).expect("a page").event;
        let context = &page.context;
        assert_eq!((&*context.page_name, &*context.url), ("/shop/käse", "https://shop.localhost/"), "{name}");
        assert_eq!((&*context.campaign.source, &*context.campaign.name), ("newsletter", "härbst"));
        assert_eq!((&*context.library, &*context.library_version), ("javascript_native_web", "26.1.1"));
        assert!(context.user_agent.contains("Chrome/156"), "{name}");
        let begin = &story.events.iter().find(|arrived| arrived.event.name == "begin_session").expect("one").event;
        assert_eq!((&*begin.context.locale, begin.context.screen), ("de-DE", (1280, 720)));
        let expected = json!({"$context": {"av": "1.2.3", "tz": "60", "metrics": {"_browser": "Chromium"}}});
        assert!(holds(&story::json(&begin.properties), &expected), "{}", begin.properties);
    }
}

#[test]
fn questions_for_settings_are_answered_as_recorded() {
    let entries = capture::entries(CAPTURE);
    let questions: Vec<_> = entries.iter().filter(|entry| entry.kind == "config").collect();
    assert_eq!(questions.len(), 4);
    for entry in questions {
        let answer = entry.answer(&Verdict::Taken(&Tally::default()));
        assert_eq!((u64::from(answer.status), &*answer.body), (200, &b"{}"[..]), "{}", entry.line);
        assert_eq!(answer.content_type, entry.expected_answer["headers"]["content-type"], "{}", entry.line);
    }
}
