use serde_json::{Value, json};
use trackway_domain::event::{Consent, EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{self, Refused, Tally};

fn parse(method: Method, target: &str, body: &str) -> Result<Understood, Rejection> {
    with_request(method, target, &[], body.as_bytes(), |request| {
        assert_eq!(protocol::of(request).map(protocol::Protocol::name), Some("countly"), "{target}");
        Countly.parse(request)
    })
}

fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The items of a request from device `d` with these fields more.
fn items(fields: &[(&str, &str)]) -> Vec<Item> {
    let form = encoded(&[("app_key", "k"), ("device_id", "d"), ("t", "1"), ("timestamp", "1795361099547")]);
    let form = format!("{form}&{}", encoded(fields));
    parse(Method::Post, "/i", &form).expect("a request").items
}

fn events(items: Vec<Item>) -> Vec<ReceivedEvent> {
    items
        .into_iter()
        .map(|item| match item {
            Item::Event { event, .. } => event,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn contents(fields: &[(&str, &str)]) -> Vec<String> {
    items(fields)
        .into_iter()
        .map(|item| match item {
            Item::Event { content, .. } | Item::Rejected { content, .. } => String::from_utf8(content).expect("text"),
            Item::Nothing => panic!("something"),
        })
        .collect()
}

/// The one event of a request with these fields.
fn check(fields: &[(&str, &str)]) -> ReceivedEvent {
    let mut events = events(items(fields));
    assert_eq!(events.len(), 1);
    events.remove(0)
}

fn properties(event: &ReceivedEvent) -> Value {
    serde_json::from_str(&event.properties).expect("JSON")
}

fn answer(verdict: &Verdict<'_>) -> (u16, String) {
    let answer = with_request(Method::Post, "/i", &[], b"", |request| Countly.answer(request, verdict));
    (answer.status, String::from_utf8_lossy(&answer.body).into())
}

#[test]
fn one_request_becomes_an_item_for_each_thing_it_says() {
    let fields = [
        ("begin_session", "1"),
        ("session_duration", "30"),
        ("end_session", "1"),
        ("user_details", r#"{"name":"n"}"#),
        ("events", r#"[{"key":"a"},{"key":"b"}]"#),
    ];
    let events = events(items(&fields));
    let names: Vec<_> = events.iter().map(|event| (&*event.name, event.sequence)).collect();
    let expected =
        [("begin_session", 0), ("identify", 1), ("a", 2), ("b", 3), ("session_duration", 4), ("end_session", 5)];
    assert_eq!(names, expected);
    assert!(events.iter().all(|event| event.client_time_ms == Some(1_795_361_099_547) && event.sent_at_ms.is_none()));
    assert_eq!(events[4].properties, r#"{"duration":30}"#);
    for nothing in [("hc", "{}"), ("begin_session", "0"), ("session_duration", "0")] {
        assert!(matches!(items(&[nothing, ("rr", "3")])[..], [Item::Nothing]), "{nothing:?}");
    }
}

#[test]
fn an_event_keeps_its_segmentation_and_numbers() {
    let event = check(&[(
        "events",
        r#"[{"key":"Käse","count":1,"sum":129.90,"dur":3,"id":"i1","cvid":"v","hour":16,"timestamp":1795361100913,
            "segmentation":{"big":9007199254740993,"none":null,"dur":"own"}}]"#,
    )]);
    assert_eq!(
        (&*event.name, event.id.as_deref(), event.client_time_ms),
        ("Käse", Some("i1"), Some(1_795_361_100_913))
    );
    let expected = r#"{"big":9007199254740993,"none":null,"dur":"own","count":1,"sum":129.90,"$context":{"$event":{"dur":3,"cvid":"v","hour":16}}}"#;
    assert_eq!(event.properties, expected);
    assert_eq!(event.revenue, None, "a sum may be of anything");
    let paid = check(&[("events", r#"[{"key":"purchase","sum":39.98,"segmentation":{"currency":"EUR"}}]"#)]);
    let revenue = paid.revenue.expect("money");
    assert_eq!((revenue.micros, &*revenue.currency), (39_980_000, "EUR"));
}

#[test]
fn a_view_counts_when_it_begins_and_says_later_how_long_it_was() {
    let views = |sdk: &str| {
        let events_text = r#"[{"key":"[CLY]_view","id":"v1","segmentation":{"name":"Home","visit":1,"view":"/a","domain":"x.example",
            "utm_campaign":"h%C3%A4rbst+&","referrer":"r"}},{"key":"[CLY]_view","id":"v1","dur":4,"segmentation":{"name":"Home"}}]"#;
        events(items(&[("sdk_name", sdk), ("events", events_text)]))
    };
    let web = views("javascript_native_web");
    assert_eq!(
        (web[0].kind, &*web[0].context.page_name, &*web[0].context.url),
        (EventKind::Page, "Home", "https://x.example/a")
    );
    assert_eq!((&*web[0].context.campaign.name, &*web[0].context.referrer), ("härbst &", "r"));
    assert_eq!((web[1].kind, &*web[1].name), (EventKind::Track, "[CLY]_view"));
    assert_eq!((web[0].id.as_deref(), web[1].id.as_deref()), (Some("v1"), Some("v1:left")), "no duplicate");
    assert_eq!(views("java-native-android")[0].kind, EventKind::Screen);
    assert_eq!(check(&[("events", r#"[{"key":"[CLY]_action"}]"#)]).name, "[CLY]_action");
}

#[test]
fn an_id_that_the_app_has_set_is_a_user() {
    let who = |kind: &str| {
        let event = check(&[("t", kind), ("begin_session", "1")]);
        (event.visitor, event.user_id)
    };
    assert_eq!(who("0"), (Some(Visitor::User("d".into())), Some("d".into())));
    assert_eq!(who("1"), (Some(Visitor::Device("d".into())), None));
    assert_eq!(who(""), (Some(Visitor::Device("d".into())), None));
    match &parse(Method::Post, "/i", "app_key=k&begin_session=1").expect("a request").items[..] {
        [Item::Rejected { reason, .. }] => {
            assert_eq!(reason.to_string(), "`device_id` is missing. Say which device it was");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_of_the_id_joins_the_old_one() {
    let joined = |kind: &str, old: &str| {
        let events = events(items(&[("t", kind), ("old_device_id", old)]));
        events.into_iter().map(|event| (event.kind, event.visitor, event.user_id, event.other_id)).collect::<Vec<_>>()
    };
    let user = || Some("d".to_owned());
    let device = |id: &str| Some(Visitor::Device(id.into()));
    for made in ["9ae83e3f-553d-4594-bf23-8be09fb1328c", "9774d56d682e549c"] {
        assert_eq!(joined("0", made), [(EventKind::Identify, device(made), user(), None)]);
        let old_sdk =
            [(EventKind::Identify, device(made), user(), None), (EventKind::Identify, device("d"), user(), None)];
        assert_eq!(joined("", made), old_sdk);
    }
    assert_eq!(joined("0", "u1"), [(EventKind::Alias, Some(Visitor::User("d".into())), user(), Some("u1".into()))]);
}

#[test]
fn details_become_traits_and_operations_keep_their_names() {
    let traits = |details: &str| check(&[("user_details", details)]).traits;
    assert_eq!(
        traits(r#"{"name":"n","byear":1990,"custom":{"plan":"pro","name":"x","o":{"a":1}}}"#),
        r#"{"name":"n","byear":1990,"plan":"pro","o":{"a":1}}"#
    );
    assert_eq!(
        traits(r#"{"custom":{"logins":{"$inc":1},"tags":{"$push":["a"]},"n":{"$inc":2}}}"#),
        r#"{"$inc":{"logins":1,"n":2},"$push":{"tags":["a"]}}"#
    );
    assert_eq!(traits("[]"), "{}");
}

#[test]
fn what_a_request_says_of_its_sender_goes_to_each_event() {
    let event = check(&[
        ("metrics", r#"{"_ua":"UA","_resolution":"1280x720","_locale":"de_DE","_os":"Linux"}"#),
        ("sdk_name", "n"),
        ("sdk_version", "1"),
        ("ip_address", "203.0.113.9"),
        ("av", "1.2"),
        ("tz", "60"),
        ("rr", "3"),
        ("checksum256", "X"),
        ("begin_session", "1"),
    ]);
    let context = &event.context;
    assert_eq!(
        (&*context.user_agent, context.screen, &*context.locale, &*context.ip),
        ("UA", (1280, 720), "de-DE", "203.0.113.9")
    );
    assert_eq!((&*context.library, &*context.library_version), ("n", "1"));
    assert_eq!(properties(&event), json!({"$context": {"av": "1.2", "tz": "60", "metrics": {"_os": "Linux"}}}));
}

#[test]
fn consent_crashes_and_performance_are_events_of_that_name() {
    let consent = |text| check(&[("consent", text)]).context.consent;
    assert_eq!(consent(r#"{"events":true}"#), Consent::Granted);
    assert_eq!(consent(r#"{"events":false}"#), Consent::Denied);
    assert_eq!(consent(r#"{"push":true}"#), Consent::Unknown);
    let crash = check(&[("crash", r#"{"_error":"e"}"#)]);
    assert_eq!((&*crash.name, &*crash.properties), ("crash", r#"{"_error":"e"}"#));
}

#[test]
fn what_is_sent_again_reads_the_same_and_what_differs_does_not() {
    let fields = |rr, sum| {
        [
            ("rr", rr),
            ("checksum256", sum),
            ("begin_session", "1"),
            ("end_session", "1"),
            ("events", r#"[{"key":"a"},{"key":"a"}]"#),
        ]
    };
    let first = contents(&fields("3", "A"));
    assert_eq!(first, contents(&fields("1", "B")));
    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert_eq!(distinct.len(), 4, "{first:?}");
    assert_eq!(first[0], "device_id=d&timestamp=1795361099547&begin_session[0]=1");
}

#[test]
fn many_requests_come_at_once_and_one_bad_one_stays_alone() {
    let requests = r#"[{"app_key":"k","device_id":"a","begin_session":1},7,
        {"app_key":"l","device_id":"b","events":"[{\"key\":\"x\"},{\"key\":\"y\"}]"},{"events":[{"key":"z","sum":NaN}]},{"hc":{}}]"#;
    let query = encoded(&[("device_id", "outer"), ("requests", requests)]);
    for (method, target, body) in
        [(Method::Get, format!("/i/bulk?{query}"), String::new()), (Method::Post, "/i/bulk".to_owned(), query)]
    {
        let understood = parse(method, &target, &body).expect("requests");
        assert_eq!(understood.write_key.as_deref(), Some("k"));
        assert_eq!(understood.own_keys, [(2, "l".to_owned()), (3, "l".to_owned())]);
        let all = understood.items.iter().map(|item| match item {
            Item::Event { event, .. } => (&*event.name, event.visitor.as_ref().map_or("", Visitor::id)),
            Item::Rejected { .. } => ("rejected", ""),
            Item::Nothing => ("nothing", ""),
        });
        let expected =
            [("begin_session", "a"), ("rejected", ""), ("x", "b"), ("y", "b"), ("z", "outer"), ("nothing", "")];
        assert_eq!(all.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn bad_events_are_rejected_alone_and_too_many_are_refused() {
    let refusal = |fields: &[(&str, &str)]| match &items(fields)[..] {
        [Item::Rejected { reason, .. }] => reason.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&[("events", "[")]), "`events` is not a list of events");
    assert_eq!(refusal(&[("events", "[7]")]), "item of `events` is not a JSON object");
    assert_eq!(refusal(&[("events", "[{}]")]), "`event` is missing. Name what the visitor did");
    let long = "x".repeat(8192);
    assert_eq!(
        refusal(&[("av", &long), ("begin_session", "1")]),
        "what the request says of its sender is 8 228 bytes, limit is 8 192"
    );
    let whole = |target: &str, body: &str| parse(Method::Post, target, body).expect_err("refused").to_string();
    let many = format!("[{}]", vec!["{}"; 1001].join(","));
    assert_eq!(whole("/i", &encoded(&[("events", &many)])), "request is 1 001 events, limit is 1 000");
    assert_eq!(whole("/i/bulk", &encoded(&[("requests", &many)])), "bulk is 1 001 requests, limit is 1 000");
    let half = format!(r#"{{"events":[{}]}}"#, vec!["{}"; 600].join(","));
    assert_eq!(
        whole("/i/bulk", &encoded(&[("requests", &format!("[{half},{half}]"))])),
        "request is 1 200 items, limit is 1 000"
    );
    assert_eq!(whole("/i/bulk", "app_key=k"), "`requests` is missing. Send a list of requests in it");
    assert_eq!(whole("/i/bulk", "requests=7"), "`requests` is not a list of requests");
}

#[test]
fn a_key_of_the_head_comes_first() {
    let key = |target, headers: &[_]| {
        with_request(Method::Post, target, headers, b"", |request| Countly.write_key(&request.head))
    };
    assert_eq!(key("/i?app_key=a", &[("x-write-key", "k")]).as_deref(), Some("a"));
    assert_eq!(key("/i", &[("x-write-key", "k")]).as_deref(), Some("k"));
    assert_eq!(key("/i", &[]), None);
}

#[test]
fn questions_are_answered_so_that_the_sdk_goes_on() {
    for target in ["/o/sdk", "/o/sdk?method=rc", "/o", "/o/surveys/nps/widget"] {
        for method in [Method::Get, Method::Post] {
            let answer = with_request(method, target, &[], b"", |request| {
                assert_eq!(protocol::of(request).map(protocol::Protocol::name), Some("countly"), "{target}");
                Countly.aside(request)
            });
            assert_eq!(answer, Some(Answer::of(200, "application/json", b"{}")));
        }
    }
    assert!(with_request(Method::Post, "/i", &[], b"", |request| Countly.aside(request)).is_none());
}

#[test]
fn the_pixel_of_snowplow_is_told_apart() {
    let taker = |target| {
        with_request(Method::Get, target, &[], b"", |request| protocol::of(request).map(protocol::Protocol::name))
    };
    assert_eq!(taker("/i?e=pv&tv=js-4.10.1&aid=a"), Some("snowplow"));
    assert_eq!(taker("/i?e=pv&app_key=k"), Some("countly"));
    assert_eq!(taker("/i?begin_session=1&app_key=k"), Some("countly"));
    let is_own = |method, target| with_request(method, target, &[], b"", |request| Countly.recognises(request));
    assert!(!is_own(Method::Get, "/i?e=pv&tv=js-4.10.1&aid=a"), "whoever is asked first");
    assert!(is_own(Method::Post, "/i") && is_own(Method::Get, "/i/bulk"));
}

#[test]
fn only_what_may_be_taken_later_blocks_the_queue_of_the_sdk() {
    let taken = Tally { accepted: 1, ..Tally::default() };
    assert_eq!(answer(&Verdict::Taken(&taken)), (200, r#"{"result":"Success"}"#.into()));
    let reason = Rejection::Missing { field: "event", hint: "h" };
    let wholly = Tally { rejected: vec![(0, reason)], ..Tally::default() };
    assert_eq!(
        answer(&Verdict::Taken(&wholly)),
        (200, r#"{"result":"Success","rejected":["`event` is missing. h"]}"#.into())
    );
    let refused = |status, retry_after_seconds| Refused { status, code: "c", message: "m".into(), retry_after_seconds };
    for status in [400, 401, 413] {
        let expected = r#"{"result":"Refused","code":"c","message":"m"}"#;
        assert_eq!(answer(&Verdict::Refused(&refused(status, None))), (200, expected.into()));
    }
    for status in [429, 503] {
        let (answered, body) = answer(&Verdict::Refused(&refused(status, Some(1))));
        assert_eq!((answered, body.contains("result")), (status, false));
    }
}
