//! Real requests of a small tracker that speaks GA4's protocol of browsers (minimal-analytics 1.8).

use serde_json::Value;
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_wire::Item;
use trackway_wire::protocol::{Tally, Verdict};

use crate::capture::{self, Entry};

const CAPTURE: &str = include_str!("../captures/ga4/ga4.jsonl");

/// Step and event of each request.
fn requests() -> Vec<(Entry, ReceivedEvent)> {
    let request = |entry: Entry| {
        let (protocol, understood) = entry.understood();
        assert_eq!(protocol, "ga4_web", "{}", entry.line);
        assert_eq!(understood.write_key.as_deref(), Some("G-TEST12345"));
        let event = match <[Item; 1]>::try_from(understood.items).expect("one event") {
            [Item::Event { event, content }] => {
                assert!(content.starts_with(b"v=2&tid="), "without an id the query is hashed");
                event
            }
            [other] => panic!("{other:?}"),
        };
        (entry, event)
    };
    capture::entries(CAPTURE).into_iter().filter(|entry| entry.kind == "event").map(request).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Whether the event says all that the action did. The tracker writes a boolean as text.
fn properties_are(event: &ReceivedEvent, action: &Value) -> bool {
    let own = json(&event.properties);
    let text = |value: &Value| if let Value::Bool(flag) = value { flag.to_string().into() } else { value.clone() };
    let wanted = action["properties"].as_object().into_iter().flatten();
    wanted.clone().all(|(name, value)| own[name] == text(value))
}

#[test]
fn every_action_arrives_exactly_once() {
    let mut requests = requests();
    let mut steps = Vec::new();
    for (entry, _) in &requests {
        if !steps.iter().any(|(scenario, _)| *scenario == entry.scenario) {
            steps.push((entry.scenario.clone(), entry.actions.clone()));
        }
    }
    assert_eq!(steps.len(), 8, "every step sent something");
    for (scenario, actions) in steps {
        for action in actions {
            let name = match action["type"].as_str().expect("a type") {
                // The tracker names clicks itself, and makes a download of the link.
                "click" => "click",
                "link_click" => "file_download",
                // It makes a search of everything on a page with `q` in its address: a fault of its own.
                _ if scenario != "default/page_view" && scenario != "default/custom_event" => "view_search_results",
                "page_view" => "page",
                "track" => action["event"].as_str().expect("a name"),
                other => panic!("action {other} is not known"),
            };
            let is = |(entry, event): &(Entry, ReceivedEvent)| {
                entry.scenario == scenario && event.name == name && properties_are(event, &action)
            };
            // Of several in one step each takes the first that is left; they were sent in order.
            let at = requests.iter().position(is).unwrap_or_else(|| panic!("no event for {action}"));
            let (entry, event) = requests.remove(at);
            let device = entry.ids["anonymous_id"].as_str().expect("an id").to_owned();
            assert_eq!((event.visitor, event.user_id), (Some(Visitor::Device(device)), None), "{action}");
            assert_eq!(event.client_time_ms, None, "this protocol has no times");
            if let Some(url) = action["url"].as_str() {
                assert_eq!(event.context.url, url, "{action}");
            }
            if let Some(title) = action["title"].as_str() {
                assert_eq!(event.context.title, title, "{action}");
            }
            assert_eq!((event.context.screen, &*event.context.locale), ((1280, 720), "de-de"));
            assert_eq!(Some(&*event.context.session), entry.ids["storage"]["sessionId"].as_str());
        }
    }
    let left: Vec<_> = requests.iter().map(|(entry, event)| (&*entry.scenario, &*event.properties)).collect();
    let [(scenario, properties)] = left[..] else { panic!("{left:?}") };
    // How long the visitor was there, when the page is left.
    assert_eq!((scenario, &json(properties)["$context"]["_et"]), ("default/unload", &"9008".into()));
}

#[test]
fn the_page_view_is_one() {
    let (_, event) = &requests()[0];
    assert_eq!((event.kind, &*event.name), (EventKind::Page, "page"));
    let context = &json(&event.properties)["$context"];
    assert_eq!((&context["_ss"], &context["_fv"], &context["sct"]), (&"1".into(), &"1".into(), &"1".into()));
    assert!(event.context.referrer.ends_with("/vorher"));
}

#[test]
fn the_order_is_whole() {
    let requests = requests();
    let (entry, event) = requests.iter().find(|(entry, _)| entry.scenario == "default/purchase").expect("recorded");
    let (order, own) = (&entry.actions[0]["order"], json(&event.properties));
    for (name, sent_name) in [
        ("order_id", "transaction_id"),
        ("total", "value"),
        ("tax", "tax"),
        ("shipping", "shipping"),
        ("coupon", "coupon"),
    ] {
        assert_eq!(own[sent_name], order[name], "{name}");
    }
    assert_eq!(own["currency"], "EUR");
    let items = order["items"].as_array().expect("items");
    let products = own["products"].as_array().expect("products");
    assert_eq!(products.len(), items.len());
    for (item, product) in items.iter().zip(products) {
        for (name, own_name) in [("sku", "product_id"), ("name", "name"), ("price", "price"), ("quantity", "quantity")]
        {
            assert_eq!(product[own_name], item[name], "{name}");
        }
    }
    assert_eq!(products[0]["category"], items[0]["category"]);
    // The tracker lost the purchase's name (see above), so nobody can know that its value was paid.
    assert_eq!((&*event.name, &event.revenue), ("view_search_results", &None));
}

#[test]
fn success_is_what_it_was() {
    for (entry, _) in requests() {
        let tally = Tally { accepted: 1, ..Tally::default() };
        let answer = entry.answer(&Verdict::Taken(&tally));
        assert_eq!(answer.status, entry.expected_answer["status"].as_u64().expect("a status") as u16);
        assert_eq!(&*answer.body, b"");
    }
}
