//! Real requests of universal-analytics 0.5.3 (Node.js).

use serde_json::Value;
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_wire::Item;
use trackway_wire::protocol::{Tally, Verdict};

use crate::capture::{self, Entry};

const CAPTURE: &str = include_str!("../captures/universal_analytics/ua-node.jsonl");

/// The events of a step, and what its script did.
fn step(name: &str) -> (Vec<ReceivedEvent>, Vec<Value>) {
    let entries: Vec<Entry> = capture::entries(CAPTURE).into_iter().filter(|entry| entry.scenario == name).collect();
    let actions = entries.first().expect("recorded").actions.clone();
    let mut events = Vec::new();
    for entry in entries {
        let (protocol, understood) = entry.understood();
        assert_eq!(protocol, "universal_analytics", "{}", entry.line);
        assert_eq!((understood.write_key.as_deref(), &understood.own_keys[..]), (Some("UA-12345-1"), &[][..]));
        for item in understood.items {
            let Item::Event { event, .. } = item else { panic!("{item:?}") };
            let device = entry.ids["anonymous_id"].as_str().expect("an id").to_owned();
            assert_eq!(event.visitor, Some(Visitor::Device(device)));
            assert_eq!(event.user_id.as_deref(), entry.ids["user_id"].as_str());
            events.push(event);
        }
    }
    (events, actions)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn properties_are(event: &ReceivedEvent, action: &Value) {
    let own = json(&event.properties);
    for (name, value) in action["properties"].as_object().expect("properties") {
        // The tracker leaves out what is zero.
        assert!(own[name] == *value || *value == 0 && own[name].is_null(), "{name}: {own}");
    }
}

#[test]
fn views_of_pages_and_screens_arrive_once() {
    let (events, actions) = step("node/page_view");
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.kind, &*event.name), (EventKind::Page, "page"));
    assert_eq!(Some(&*event.context.url), actions[0]["url"].as_str());
    assert_eq!(Some(&*event.context.title), actions[0]["title"].as_str());
    let (events, actions) = step("node/screen");
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.kind, Some(&*event.context.page_name)), (EventKind::Screen, actions[0]["name"].as_str()));
}

#[test]
fn every_event_arrives_once_under_the_name_of_its_action() {
    for (name, count) in [("node/event", 1), ("node/burst", 25), ("node/queued", 1)] {
        let (events, actions) = step(name);
        assert_eq!((events.len(), actions.len()), (count, count), "{name}");
        for (event, action) in events.iter().zip(&actions) {
            assert_eq!((event.kind, Some(&*event.name)), (EventKind::Track, action["event"].as_str()));
            properties_are(event, action);
            let queued = event.sent_at_ms.zip(event.client_time_ms).map(|(sent, happened)| sent - happened);
            assert_eq!(queued, action["queue_ms"].as_i64());
        }
    }
}

#[test]
fn an_order_is_a_transaction_and_an_item_each() {
    let (events, actions) = step("node/transaction");
    let order = &actions[0]["order"];
    let [transaction, items @ ..] = &events[..] else { panic!("{events:?}") };
    let own = json(&transaction.properties);
    for (name, own_name) in
        [("order_id", "transactionId"), ("total", "revenue"), ("shipping", "shipping"), ("tax", "tax")]
    {
        assert_eq!(own[own_name], order[name]);
    }
    assert_eq!(transaction.name, "transaction");
    assert_eq!(transaction.revenue.as_ref().map(|revenue| revenue.micros), Some(59_970_000));
    let wanted = order["items"].as_array().expect("items");
    assert_eq!(items.len(), wanted.len());
    for (event, item) in items.iter().zip(wanted) {
        assert_eq!((&*event.name, &event.revenue), ("item", &None), "the transaction has it all");
        let own = json(&event.properties);
        for (name, own_name) in [
            ("sku", "itemCode"),
            ("name", "itemName"),
            ("category", "itemCategory"),
            ("price", "itemPrice"),
            ("quantity", "itemQuantity"),
        ] {
            assert_eq!(own[own_name], item[name]);
        }
        assert_eq!(own["transactionId"], order["order_id"]);
    }
}

#[test]
fn the_other_types_of_hits_keep_their_names() {
    let (events, actions) = step("node/others");
    assert_eq!(events.len(), actions.len());
    for (event, action) in events.iter().zip(&actions) {
        assert_eq!(Some(&*event.name), action["type"].as_str());
        properties_are(event, action);
    }
}

#[test]
fn success_is_what_it_was() {
    let tally = Tally { accepted: 1, ..Tally::default() };
    for entry in capture::entries(CAPTURE) {
        let answer = entry.answer(&Verdict::Taken(&tally));
        assert_eq!(answer.status, entry.expected_answer["status"].as_u64().expect("a status") as u16);
        assert_eq!(answer.content_type, "image/gif");
    }
}
