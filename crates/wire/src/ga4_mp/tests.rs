use trackway_domain::event::ReceivedEvent;
use trackway_domain::id::Visitor;
use trackway_domain::revenue::Revenue;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{self, Refused, Tally};

const TARGET: &str = "/mp/collect?measurement_id=G-1&api_secret=s3cret";

fn items(body: &str) -> Vec<Item> {
    with_request(Method::Post, TARGET, &[], body.as_bytes(), |request| {
        assert_eq!(protocol::of(request).map(Protocol::name), Some("ga4_mp"));
        Ga4Mp.parse(request).unwrap_or_else(|error| panic!("{error}: {body}")).items
    })
}

fn events(body: &str) -> Vec<ReceivedEvent> {
    let event = |item| match item {
        Item::Event { event, .. } => event,
        other => panic!("{body}: {other:?}"),
    };
    items(body).into_iter().map(event).collect()
}

fn event(body: &str) -> ReceivedEvent {
    let [event] = <[_; 1]>::try_from(events(body)).expect("one event");
    event
}

fn refusal(body: &str) -> Rejection {
    with_request(Method::Post, TARGET, &[], body.as_bytes(), |request| Ga4Mp.parse(request).expect_err(body))
}

#[test]
fn a_purchase_says_who_when_where_and_how_much() {
    let event = event(
        r#"{"client_id":"123.456","user_id":"u1","timestamp_micros":1795360810973000,"non_personalized_ads":false,
        "validation_behavior":"RELAXED","api_secret":"s3cret",
        "user_properties":{"plan":{"value":"pro"},"big":{"value":9007199254740993},"gone":{"value":null},"odd":[1]},
        "ip_override":"192.0.2.7","user_agent":"UA","device":{"language":"de-DE","screen_resolution":"1280x720"},
        "events":[{"name":"purchase","params":{"session_id":1795360800,"engagement_time_msec":"100","value":129.90,
        "currency":"eur","transaction_id":"T1","page_location":"https://x.example/?a=1","page_title":"Käse",
        "page_referrer":"https://y.example/","items":[{"item_id":"SKU-1","price":19.99,"quantity":2}]}}]}"#,
    );
    assert_eq!((event.kind, &*event.name), (EventKind::Track, "purchase"));
    assert_eq!(event.visitor, Some(Visitor::Device("123.456".into())));
    assert_eq!(event.user_id.as_deref(), Some("u1"));
    assert_eq!((event.client_time_ms, event.sent_at_ms), (Some(1_795_360_810_973), None));
    assert_eq!(event.revenue, Some(Revenue { micros: 129_900_000, currency: "EUR".into() }));
    assert_eq!(event.traits, r#"{"plan":"pro","big":9007199254740993,"gone":null,"odd":[1]}"#);
    let context = Context {
        url: "https://x.example/?a=1".into(),
        title: "Käse".into(),
        referrer: "https://y.example/".into(),
        session: "1795360800".into(),
        ip: "192.0.2.7".into(),
        user_agent: "UA".into(),
        locale: "de-DE".into(),
        screen: (1280, 720),
        ..Context::default()
    };
    assert_eq!(event.context, context);
    assert!(event.properties.contains(r#""value":129.90,"#), "{}", event.properties);
    assert!(event.properties.contains(r#""items":[{"item_id":"SKU-1","price":19.99,"quantity":2}]"#));
    assert!(event.properties.ends_with(
        r#""$context":{"non_personalized_ads":false,"device":{"language":"de-DE","screen_resolution":"1280x720"}}}"#
    ));
    assert!(!event.properties.contains("s3cret"));
}

#[test]
fn an_event_has_its_own_time_and_the_requests_else() {
    let events = events(
        r#"{"client_id":"c","timestamp_micros":"1795360810973999","events":[{"name":"a"},
        {"name":"b","timestamp_micros":1795360810000000},{"name":"c","timestamp_micros":"soon"},{"name":"d","timestamp_micros":0}]}"#,
    );
    let times: Vec<_> = events.iter().map(|event| event.client_time_ms.expect("a time")).collect();
    assert_eq!(times, [1_795_360_810_973, 1_795_360_810_000, 1_795_360_810_973, 1_795_360_810_973]);
    assert_eq!(events[2].properties, r#"{"$context":{"$event":{"timestamp_micros":"soon"}}}"#);
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn one_event_may_stand_where_the_list_should() {
    // ga4mp's postponed_send.
    assert_eq!(event(r#"{"client_id":"c","events":{"name":"a","params":{"x":1}}}"#).properties, r#"{"x":1}"#);
    assert_eq!(events(r#"{"client_id":"c","events":[]}"#), []);
}

#[test]
fn views_of_pages_and_screens_are_known_by_name() {
    let events = events(
        r#"{"app_instance_id":"i","events":[{"name":"page_view"},
        {"name":"screen_view","params":{"screen_name":"Start","language":"en"}},
        {"name":"screen_view","params":{"firebase_screen":"End"}}]}"#,
    );
    assert_eq!((events[0].kind, &*events[0].name), (EventKind::Page, "page"));
    assert_eq!((events[1].kind, &*events[1].name), (EventKind::Screen, "screen"));
    assert_eq!((&*events[1].context.page_name, &*events[1].context.locale), ("Start", "en"));
    assert_eq!(events[2].context.page_name, "End");
    assert_eq!(events[0].visitor, Some(Visitor::Device("i".into())));
}

#[test]
fn money_is_what_was_paid_and_a_refund_gives_it_back() {
    let micros = |name: &str, value: &str| {
        let body = format!(
            r#"{{"client_id":"c","events":[{{"name":"{name}","params":{{"value":{value},"currency":"EUR"}}}}]}}"#
        );
        event(&body).revenue.map(|revenue| revenue.micros)
    };
    assert_eq!(micros("purchase", r#""12.5""#), Some(12_500_000));
    assert_eq!(micros("refund", "12.5"), Some(-12_500_000));
    assert_eq!(micros("in_app_purchase", "1"), Some(1_000_000));
    assert_eq!(micros("add_to_cart", "12.5"), None);
    assert_eq!(micros("purchase", "null"), None);
}

#[test]
fn consent_to_ads_is_not_consent_to_analytics() {
    let consent = |consent: &str| {
        let event = event(&format!(r#"{{"client_id":"c","consent":{consent},"events":[{{"name":"a"}}]}}"#));
        assert_eq!(event.properties, format!(r#"{{"$context":{{"consent":{consent}}}}}"#), "and it is kept");
        event.context.consent
    };
    assert_eq!(consent(r#"{"ad_user_data":"GRANTED"}"#), Consent::Unknown);
    assert_eq!(consent(r#"{"analytics_storage":"GRANTED"}"#), Consent::Granted);
    assert_eq!(consent(r#"{"analytics_storage":"denied"}"#), Consent::Denied);
}

#[test]
fn a_campaign_is_told_by_its_own_event() {
    let body = r#"{"client_id":"c","events":[{"name":"campaign_details","params":{"source":"s","campaign":"härbst"}},
        {"name":"select_content","params":{"content":"x","source":"menu"}}]}"#;
    let events = events(body);
    assert_eq!((&*events[0].context.campaign.source, &*events[0].context.campaign.name), ("s", "härbst"));
    assert_eq!(events[1].context.campaign, Campaign::default());
}

#[test]
fn one_bad_event_never_spoils_its_batch() {
    let items = items(r#"{"client_id":"c","events":[7,{"params":{}},{"name":"a","params":"x"},{"name":"b"}]}"#);
    let rejected = |item: &Item| match item {
        Item::Rejected { reason, content } => (reason.code(), String::from_utf8(content.clone()).expect("text")),
        other => panic!("{other:?}"),
    };
    assert_eq!(rejected(&items[0]), ("malformed", "7".into()));
    assert_eq!(rejected(&items[1]), ("missing_field", r#"{"params":{}}"#.into()));
    let Item::Event { event, .. } = &items[2] else { panic!("{items:?}") };
    assert_eq!(event.properties, r#"{"$context":{"$event":{"params":"x"}}}"#);
    assert!(matches!(&items[3], Item::Event { .. }));
}

#[test]
fn the_same_event_of_another_visitor_or_time_is_another() {
    let content = |body: &str| match items(body).pop() {
        Some(Item::Event { content, .. }) => content,
        other => panic!("{other:?}"),
    };
    let [a, again, b, later] = [
        r#"{"client_id":"a","events":[{"name":"e"}]}"#,
        r#"{"events":[{"name":"e"}],"client_id":"a"}"#,
        r#"{"client_id":"b","events":[{"name":"e"}]}"#,
        r#"{"client_id":"a","timestamp_micros":1795360810973000,"events":[{"name":"e"}]}"#,
    ]
    .map(content);
    assert_eq!(a, again);
    assert_ne!(a, b);
    assert_ne!(a, later);
}

#[test]
fn nobody_is_rejected_and_nonsense_is_refused_whole() {
    let items = items(r#"{"events":[{"name":"a"}]}"#);
    assert!(matches!(&items[0], Item::Rejected { reason: Rejection::Missing { field: "client_id", .. }, .. }));
    assert_eq!(refusal("").code(), "malformed");
    assert_eq!(refusal("[]").code(), "malformed");
    assert_eq!(refusal(r#"{"client_id":"c"}"#).code(), "missing_field");
    assert_eq!(refusal(r#"{"client_id":"c","events":"x"}"#).code(), "malformed");
    let many = format!(r#"{{"client_id":"c","events":[{}7]}}"#, "7,".repeat(1000));
    assert_eq!(refusal(&many).to_string(), "`events` is 1 001 events at least, limit is 1 000");
}

#[test]
fn pythons_nan_costs_a_value() {
    assert_eq!(event(r#"{"client_id":"c","events":[{"name":"a","params":{"x":NaN,"y":1}}]}"#).properties, r#"{"y":1}"#);
}

#[test]
fn a_small_request_does_not_become_a_large_one() {
    let body = |bytes| {
        let events = vec![r#"{"name":"a"}"#; 1000].join(",");
        format!(r#"{{"user_properties":{{"x":"{}"}},"client_id":"c","events":[{events}]}}"#, "x".repeat(bytes))
    };
    assert_eq!(events(&body(3000)).len(), 1000);
    assert_eq!(refusal(&body(5000)).code(), "too_large");
}

#[test]
fn the_stream_is_the_key() {
    let key = |target: &str| with_request(Method::Post, target, &[], b"", |request| Ga4Mp.write_key(&request.head));
    assert_eq!(key(TARGET).as_deref(), Some("G-1"));
    assert_eq!(key("/mp/collect?firebase_app_id=1:2:ios:3&api_secret=x").as_deref(), Some("1:2:ios:3"));
    assert_eq!(key("/mp/collect?writeKey=wk").as_deref(), Some("wk"));
    assert_eq!(key("/mp/collect?api_secret=x"), None);
}

#[test]
fn it_is_204_whatever_became_of_the_items_and_a_refusal_is_said() {
    let answer = |verdict: &Verdict<'_>| {
        with_request(Method::Post, TARGET, &[], b"", |request| Ga4Mp.answer(request, verdict).status)
    };
    let rejected = Tally { rejected: vec![(0, refusal(""))], ..Tally::default() };
    assert_eq!(answer(&Verdict::Taken(&Tally { accepted: 1, ..Tally::default() })), 204);
    assert_eq!(answer(&Verdict::Taken(&rejected)), 204);
    let refused = |status, retry_after_seconds| {
        let refused = Refused { status, code: "x", message: "m".into(), retry_after_seconds };
        answer(&Verdict::Refused(&refused))
    };
    assert_eq!((refused(401, None), refused(503, Some(1))), (401, 503));
}

#[test]
fn validation_says_what_is_wrong_and_records_nothing() {
    let check = |body: &str, expected: &str| {
        let answer = with_request(Method::Post, "/debug/mp/collect", &[], body.as_bytes(), |request| {
            assert_eq!(protocol::of(request).map(Protocol::name), Some("ga4_mp"));
            Ga4Mp.aside(request).expect("an answer")
        });
        assert_eq!((answer.status, answer.content_type), (200, "application/json"));
        assert_eq!(String::from_utf8_lossy(&answer.body), format!(r#"{{"validationMessages":[{expected}]}}"#));
    };
    check(r#"{"client_id":"c","events":[{"name":"a"}]}"#, "");
    check(
        r#"{"client_id":"c","events":[{"name":"a"},7]}"#,
        r#"{"fieldPath":"events[1]","description":"item of `events` is not a JSON object","validationCode":"VALUE_INVALID"}"#,
    );
    check(
        r#"{"client_id":"c"}"#,
        r#"{"fieldPath":"","description":"`events` is missing. Send a list of events","validationCode":"VALUE_REQUIRED"}"#,
    );
    let long = format!(r#"{{"client_id":"c","events":[{{"name":"{}"}}]}}"#, "x".repeat(513));
    let name = "x".repeat(64);
    check(
        &long,
        &format!(
            r#"{{"fieldPath":"events[0]","description":"name of event `{name}…` is 513 bytes, limit is 512","validationCode":"VALUE_OUT_OF_BOUNDS"}}"#
        ),
    );
    let none = with_request(Method::Post, TARGET, &[], b"{}", |request| Ga4Mp.aside(request));
    assert_eq!(none, None, "only where it was asked for");
}
