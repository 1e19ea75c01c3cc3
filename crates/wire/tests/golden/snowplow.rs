//! Real requests of Snowplow's browser and Python trackers.

use serde_json::{Value, json};
use trackway_domain::event::EventKind;
use trackway_domain::id::Visitor;
use trackway_domain::revenue::Revenue;

use crate::capture::holds;
use crate::story::{self, Action, Arrived, Story, is_time_of, stories};

/// Whether the event is what the action did. The recorded script put the name it used for all trackers into a property
/// of the self-describing event; in Python only where the name is no schema's.
fn is(arrived: &Arrived, action: &Value) -> bool {
    let event = &arrived.event;
    let properties = story::json(&event.properties);
    let fits = match action["type"].as_str().expect("a type") {
        "page_view" => event.kind == EventKind::Page && event.name == "page",
        "track" | "click" => event.name == action["event"] || properties["name"] == action["event"],
        "link_click" => event.name == "link_click" && properties["targetUrl"] == action["href"],
        "identify" => event.name == "identify",
        "purchase" if event.name == "snowplow_ecommerce_action" => properties["type"] == "transaction",
        "purchase" => event.name == "order",
        other => panic!("action {other} is not known"),
    };
    let mut wanted = action["properties"].clone();
    // The recording lost a digit here that the request has: 2^53 + 1.
    if wanted["big"] == 9_007_199_254_740_992_u64 {
        wanted["big"] = 9_007_199_254_740_993_u64.into();
    }
    // The historic event was given another property than the recording says of it.
    fits && is_time_of(action, event.client_time_ms.expect("a time"))
        && (wanted.is_null() || holds(&properties, &wanted))
}

fn check(story: &mut Story, device_of: impl Fn(&Action) -> Option<String>) {
    for action in std::mem::take(&mut story.actions) {
        let said = &action.said;
        if said["type"] == "reset" {
            continue;
        }
        let Arrived { event, received_ms } = story.take(said, |arrived| is(arrived, said));
        let device = device_of(&action);
        // Without a device the tracker was asked to keep its visitors anonymous: then it names no user either.
        let user = said["user_id"].as_str().map(str::to_owned).or(action.user.clone()).filter(|_| device.is_some());
        assert_eq!(event.user_id, user, "{said}");
        assert_eq!(event.visitor, device.map(Visitor::Device), "{said}");
        if let Some(url) = said["url"].as_str().or(said["page_url"].as_str()) {
            assert_eq!(event.context.url, url);
        }
        if let Some(title) = said["title"].as_str() {
            assert_eq!(event.context.title, title);
        }
        match event.sent_at_ms {
            Some(sent) => assert!((0..2500).contains(&(received_ms - sent)), "{sent} {said}"),
            None => assert!(said["event_ts"].is_string(), "only a true time is not the client's clock"),
        }
    }
    let mut ids: Vec<_> = story.events.iter().map(|arrived| arrived.event.id.clone().expect("an id")).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), story.events.len(), "no id comes twice");
}

#[test]
fn every_action_in_the_browser_arrives_exactly_once() {
    let mut stories = stories(include_str!("../captures/snowplow/snowplow.jsonl"), "snowplow", "shop-web");
    assert_eq!(stories.keys().collect::<Vec<_>>(), ["buffered", "custom_headers", "get", "plain", "post"]);
    for (name, story) in &mut stories {
        check(story, |action| action.ids["anonymous_id"].as_str().map(str::to_owned));
        // The script also made a structured event and two steps of a shop.
        let expected: &[_] = match &**name {
            // A click waited for the next step, and the recording lists only steps that sent something.
            "buffered" => &[("clicked ✓", 1), ("signup_clicked", 1), ("snowplow_ecommerce_action", 2)],
            // These come by themselves while somebody reads.
            "post" => &[("clicked ✓", 1), ("page_ping", 2), ("snowplow_ecommerce_action", 2)],
            _ => &[("clicked ✓", 1), ("snowplow_ecommerce_action", 2)],
        };
        assert_eq!(story.left(), expected, "{name}");
    }
}

#[test]
fn every_action_in_python_arrives_exactly_once() {
    let capture = include_str!("../captures/snowplow/snowplow-python.jsonl");
    let mut stories = stories(capture, "snowplow", "shop-backend");
    assert_eq!(stories.keys().collect::<Vec<_>>(), ["buffered", "get", "post"]);
    for (name, story) in &mut stories {
        check(story, |_| Some("aeb1691c5a0ee5a6".to_owned()));
        let expected: &[_] = if name == "buffered" { &[] } else { &[("clicked ✓", 1), ("page_ping", 1)] };
        assert_eq!(story.left(), expected, "{name}");
    }
}

#[test]
fn a_transaction_says_what_it_earned_and_what_was_bought() {
    let stories = stories(include_str!("../captures/snowplow/snowplow.jsonl"), "snowplow", "shop-web");
    for (name, story) in &stories {
        let earned: Vec<_> = story.events.iter().filter(|arrived| arrived.event.revenue.is_some()).collect();
        let [Arrived { event, .. }] = earned[..] else { panic!("{name}: {} events earned something", earned.len()) };
        assert_eq!(event.revenue, Some(Revenue { micros: 59_970_000, currency: "EUR".into() }));
        let properties = story::json(&event.properties);
        assert_eq!(properties["products"].as_array().expect("a list").len(), 2);
        let tea = json!({"id": "SKU-2", "name": "抹茶 Tee", "category": "Getränke", "price": 19.99, "quantity": 1});
        assert!(holds(&properties["products"][1], &tea), "{properties}");
        let order = json!({"transaction_id": "ORD-1001", "revenue": 59.97, "tax": 8.5, "shipping": 4.99});
        assert!(holds(&properties["transaction"], &order), "{properties}");
    }
}

#[test]
fn what_the_browser_says_beside_its_fields_is_kept() {
    let stories = stories(include_str!("../captures/snowplow/snowplow.jsonl"), "snowplow", "shop-web");
    for (name, story) in &stories {
        let page = &story.events.iter().find(|arrived| arrived.event.kind == EventKind::Page).expect("a page").event;
        assert_eq!((&*page.context.library, &*page.context.library_version), ("snowplow-js", "4.10.1"));
        assert_eq!((&*page.context.locale, page.context.screen), ("de-DE", (1280, 720)));
        let context = &story::json(&page.properties)["$context"];
        let is_anonymous = page.visitor.is_none();
        assert_eq!(is_anonymous, name == "plain");
        assert_eq!(
            (page.context.session.is_empty(), context["network_user_id"].is_null()),
            (is_anonymous, is_anonymous)
        );
        let expected = json!({"tna": "sp1", "p": "web", "tz": "Europe/Berlin", "cd": "24", "vp": "1280x720"});
        assert!(holds(context, &expected), "{name}: {context}");
        let own = json!({"schema": "iglu:com.acme/page_context/jsonschema/1-0-0",
            "data": {"category": "Käse", "author": "山田"}});
        assert_eq!(context["contexts"][0], own, "{name}");
        assert_eq!(context["contexts"].as_array().expect("a list").len(), if is_anonymous { 3 } else { 4 });
    }
}
