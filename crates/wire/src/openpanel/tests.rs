//! The doc's claims, one by one.

use trackway_domain::event::ReceivedEvent;
use trackway_domain::id::Visitor;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{Refused, Tally};

const HEADERS: &[(&str, &str)] = &[
    (CLIENT_ID, "client"),
    ("openpanel-client-secret", "secret"),
    ("openpanel-sdk-name", "web"),
    ("openpanel-sdk-version", "1.4.1"),
];

fn items(body: &str) -> Vec<Item> {
    with_request(Method::Post, "/track", HEADERS, body.as_bytes(), |request| OpenPanel.parse(request))
        .unwrap_or_else(|error| panic!("{error}: {body}"))
        .items
}

fn event(what: &str, payload: &str) -> ReceivedEvent {
    let body = format!(r#"{{"type":"{what}","payload":{{{payload}}}}}"#);
    match items(&body).pop() {
        Some(Item::Event { event, content }) => {
            assert_eq!(content, body.as_bytes());
            assert!(!format!("{event:?}").contains("secret"));
            event
        }
        other => panic!("{other:?}: {body}"),
    }
}

#[test]
fn the_head_says_key_and_tracker() {
    with_request(Method::Post, "/track", HEADERS, b"", |request| {
        assert!(OpenPanel.claims(&request.head) && OpenPanel.recognises(request));
        assert_eq!(OpenPanel.write_key(&request.head).as_deref(), Some("client"));
    });
    with_request(Method::Post, "/api/track/?writeKey=w", &[], b"data=x", |request| {
        assert!(OpenPanel.claims(&request.head) && !OpenPanel.recognises(request));
        assert_eq!(OpenPanel.write_key(&request.head).as_deref(), Some("w"));
    });
    let context = event("track", r#""name":"x""#).context;
    assert_eq!((&*context.library, &*context.library_version), ("web", "1.4.1"));
}

#[test]
fn what_the_tracker_adds_is_context_and_the_rest_properties() {
    let event = event(
        "track",
        r#""name":"revenue","profileId":"u","groups":["g"],"properties":{"__path":"https://x.example/","__referrer":"r",
            "__title":"t","__revenue":129.90,"currency":"EUR","__timestamp":"2026-11-22T15:20:10.973Z","big":9007199254740993}"#,
    );
    assert_eq!((event.kind, &*event.name, event.user_id.as_deref()), (EventKind::Track, "revenue", Some("u")));
    assert_eq!(event.client_time_ms, Some(1_795_360_810_973));
    assert_eq!(
        (&*event.context.url, &*event.context.referrer, &*event.context.title),
        ("https://x.example/", "r", "t")
    );
    assert_eq!(event.revenue, Revenue::parse("129.90", "EUR"));
    let properties = r#"{"__revenue":129.90,"currency":"EUR","big":9007199254740993,"$context":{"groups":["g"]}}"#;
    assert_eq!(event.properties, properties);
    let twice = self::event("track", r#""name":"x","groups":["g"],"properties":{"$context":1}"#);
    assert_eq!(twice.properties, r#"{"$context":1,"$context_of_event":{"groups":["g"]}}"#);
}

#[test]
fn a_screen_view_is_a_page_by_its_address_and_a_screen_by_its_route() {
    let page = event("track", r#""name":"screen_view","properties":{"__path":"https://x.example/a"}"#);
    assert_eq!((page.kind, &*page.context.url, &page.visitor), (EventKind::Page, "https://x.example/a", &None));
    let screen = event("track", r#""name":"screen_view","properties":{"__path":"/home"}"#);
    assert_eq!((screen.kind, &*screen.context.page_name, &*screen.context.url), (EventKind::Screen, "/home", ""));
}

#[test]
fn identify_gives_traits_from_beside_the_properties_too() {
    let event = event(
        "identify",
        r#""profileId":"u","firstName":"Zoë","email":"e","properties":{"__referrer":"r","plan":"pro","email":"f"}"#,
    );
    assert_eq!((event.kind, &event.visitor), (EventKind::Identify, &Some(Visitor::User("u".into()))));
    assert_eq!((&*event.traits, &*event.context.referrer), (r#"{"plan":"pro","email":"f","firstName":"Zoë"}"#, "r"));
}

#[test]
fn a_group_has_traits_and_a_profile_joins_each_of_its_groups() {
    let group = event("group", r#""id":"g","type":"company","name":"n","properties":{"seats":12}"#);
    assert_eq!((group.kind, group.other_id.as_deref(), &group.visitor), (EventKind::Group, Some("g"), &None));
    assert_eq!(group.traits, r#"{"seats":12,"type":"company","name":"n"}"#);
    let joined = items(r#"{"type":"assign_group","payload":{"groupIds":["a","b",7],"profileId":"u"}}"#);
    let joined = joined.iter().map(|item| match item {
        Item::Event { event, content } => {
            (event.other_id.as_deref(), event.user_id.as_deref(), event.sequence, content)
        }
        other => panic!("{other:?}"),
    });
    let (ids, contents): (Vec<_>, std::collections::HashSet<_>) =
        joined.map(|(other, user, at, content)| ((other, user, at), content)).unzip();
    assert_eq!(ids, [(Some("a"), Some("u"), 0), (Some("b"), Some("u"), 1), (Some("7"), Some("u"), 2)]);
    assert_eq!(contents.len(), 3, "none looks like another sent twice");
    let none = items(r#"{"type":"assign_group","payload":{"groupIds":[],"profileId":"u"}}"#);
    assert!(matches!(&none[..], [Item::Rejected { .. }]));
}

#[test]
fn counts_are_traits_by_their_operation() {
    let up = event("increment", r#""profileId":"u","property":"orders","value":2"#);
    assert_eq!((up.kind, &*up.traits), (EventKind::Identify, r#"{"$increment":{"orders":2}}"#));
    assert_eq!(event("decrement", r#""profileId":"u","property":"a""#).traits, r#"{"$decrement":{"a":1}}"#);
}

#[test]
fn an_alias_names_the_id_before() {
    let event = event("alias", r#""profileId":"u","alias":"a""#);
    let ids = (event.user_id.as_deref(), event.other_id.as_deref());
    assert_eq!((event.kind, ids), (EventKind::Alias, (Some("u"), Some("a"))));
}

#[test]
fn recordings_are_nothing_and_unknown_calls_are_rejected() {
    assert!(matches!(&items(r#"{"type":"replay","payload":{"chunk":1}}"#)[..], [Item::Nothing]));
    let unknown = items(r#"{"type":"x"}"#);
    let [Item::Rejected { reason, content }] = &unknown[..] else { panic!("{unknown:?}") };
    assert!(reason.to_string().starts_with("type `x` is not track, identify"), "{reason}");
    assert_eq!(content, br#"{"type":"x"}"#);
    let groups = format!(r#"{{"type":"assign_group","payload":{{"groupIds":[{}1]}}}}"#, "1,".repeat(100));
    for (body, expected) in [
        ("", "body is not a JSON object"),
        ("{", "body at line 1 column 1 is not valid JSON"),
        (&*groups, "`groupIds` is 101 groups, limit is 100"),
    ] {
        let parse = |request: &Request<'_>| OpenPanel.parse(request).expect_err("a refusal").to_string();
        assert_eq!(with_request(Method::Post, "/track", HEADERS, body.as_bytes(), parse), expected);
    }
}

#[test]
fn what_was_taken_is_200_what_may_be_taken_later_503_and_what_never_will_401() {
    let status = |verdict: &Verdict<'_>| {
        with_request(Method::Post, "/track", HEADERS, b"", |request| OpenPanel.answer(request, verdict).status)
    };
    let rejected = vec![(0, Rejection::Missing { field: "x", hint: "" })];
    assert_eq!(status(&Verdict::Taken(&Tally { accepted: 1, ..Tally::default() })), 200);
    assert_eq!(status(&Verdict::Taken(&Tally { rejected, ..Tally::default() })), 200);
    for (refused, retry_after_seconds, answered) in [(429, Some(1), 503), (413, None, 401), (400, None, 401)] {
        let refused = Refused { status: refused, code: "c", message: String::new(), retry_after_seconds };
        assert_eq!(status(&Verdict::Refused(&refused)), answered);
    }
}
