//! Real requests of Matomo's browser tracker, over each way it has to send them.

use serde_json::json;
use trackway_domain::event::EventKind;
use trackway_domain::id::Visitor;
use trackway_domain::revenue::Revenue;

use crate::capture::holds;
use crate::story::{self, Arrived, Story, stories};

fn all() -> std::collections::BTreeMap<String, Story> {
    stories(include_str!("../captures/matomo/matomo.jsonl"), "matomo", "1")
}

fn check(story: &mut Story) {
    for action in std::mem::take(&mut story.actions) {
        let said = &action.said;
        let Arrived { event, received_ms } = match said["type"].as_str().expect("a type") {
            "reset" => continue,
            "page_view" => story.take(said, |arrived| {
                arrived.event.kind == EventKind::Page
                    && arrived.event.context.url == said["url"]
                    && arrived.event.user_id.is_none()
            }),
            // There is no call for it: the page after the login names the user.
            "identify" => story.take(said, |arrived| arrived.event.context.title == "after login"),
            // The tracker decodes the address.
            "link_click" => story.take(said, |arrived| {
                let properties = story::json(&arrived.event.properties);
                arrived.event.name == "download"
                    && properties["url"].as_str().map(|url| url.replace('ü', "%C3%BC")).as_deref()
                        == said["href"].as_str()
            }),
            "purchase" => story.take(said, |arrived| arrived.event.name == "ecommerce_order"),
            // An event has but one number and one text; the script put the price or its counter there.
            "track" | "click" => story.take(said, |arrived| {
                let value = said["properties"]["price"].as_f64().or(said["properties"]["seq"].as_f64()).unwrap_or(0.0);
                let properties = story::json(&arrived.event.properties);
                arrived.event.name == said["event"]
                    && properties["value"].as_f64() == Some(value)
                    && properties["name"] == *said["properties"].get("city").unwrap_or(&"x".into())
            }),
            other => panic!("action {other} is not known"),
        };
        let device = action.ids["anonymous_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        // Without cookies there is no device, and the user's own events are all that can be joined.
        let visitor = match (device, &action.user) {
            (Some(device), _) => Some(Visitor::Device(device)),
            (None, user) => user.clone().map(Visitor::User),
        };
        assert_eq!((event.visitor, event.user_id), (visitor, action.user), "{said}");
        if let Some(url) = said["url"].as_str() {
            assert_eq!(event.context.url, url);
        }
        // There is no time in a hit, so ours counts. Leaving the page was noted when it was gone.
        assert_eq!((event.client_time_ms, event.sent_at_ms), (None, None));
        let noted: jiff::Timestamp = said["ts"].as_str().and_then(|time| time.parse().ok()).expect("a time");
        assert!((-400..400).contains(&(received_ms - noted.as_millisecond())), "{said}");
    }
}

#[test]
fn every_action_arrives_exactly_once_in_every_way_of_sending() {
    let mut stories = all();
    assert_eq!(stories.keys().collect::<Vec<_>>(), ["beacon", "cookieless", "default", "get", "heartbeat", "post"]);
    for (name, story) in &mut stories {
        check(story);
        // The script also searched on each page, reached a goal, and looked at a product that it then put into a cart.
        let searches = if name == "default" { 2 } else { 1 };
        let expected = [("ecommerce_cart_update", 1), ("goal", 1), ("page", 1), ("site_search", searches)];
        assert_eq!(story.left(), expected, "{name}");
        let view =
            story.events.iter().find(|arrived| arrived.event.kind == EventKind::Page).expect("the product's page");
        let products = json!([{"product_id": "SKU-1", "name": "Käse – Gouda \"alt\"", "category": "Lebensmittel/Käse",
            "price": 19.99}]);
        assert_eq!(story::json(&view.event.properties)["products"], products, "{name}");
    }
}

#[test]
fn an_order_says_what_it_earned_and_what_was_bought() {
    for (name, story) in all() {
        let order = &story.events.iter().find(|arrived| arrived.event.name == "ecommerce_order").expect("one").event;
        assert_eq!(order.revenue, Some(Revenue { micros: 59_970_000, currency: String::new() }), "{name}");
        let expected = json!({"order_id": "ORD-1001", "revenue": 59.97, "subtotal": 46.48, "tax": 8.5, "shipping": 4.99,
            "products": [
                {"product_id": "SKU-1", "name": "Käse – Gouda \"alt\"", "category": "Lebensmittel/Käse", "price": 19.99, "quantity": 2},
                {"product_id": "SKU-2", "name": "抹茶 Tee", "category": "Getränke", "price": 19.99, "quantity": 1}]});
        assert!(holds(&story::json(&order.properties), &expected), "{name}: {}", order.properties);
    }
}

#[test]
fn what_the_browser_says_beside_its_fields_is_kept() {
    for (name, story) in all() {
        let page = &story.events.iter().find(|arrived| arrived.event.kind == EventKind::Page).expect("a page").event;
        assert_eq!((&*page.context.title, page.context.screen), ("Startseite ü", (1280, 720)), "{name}");
        let expected = json!({"dimension1": "dim–1", "$context": {"custom_variables": {"tier": "gold ü"},
            "uadata": {"platform": "Linux"}, "h": "16", "cookie": "1"}});
        let properties = story::json(&page.properties);
        assert!(holds(&properties, &expected), "{name}: {properties}");
        assert!(properties["$context"]["pv_id"].as_str().is_some_and(|id| id.len() == 6), "{name}: {properties}");
        for noise in ["r", "rec", "send_image", "idsite"] {
            assert!(properties["$context"][noise].is_null(), "{name}: {noise}");
        }
    }
}
