//! The doc's claims, one by one.

use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{Refused, Tally};

fn understood(body: &str) -> Understood {
    with_request(Method::Post, "/2/httpapi", &[], body.as_bytes(), |request| {
        Amplitude.parse(request).unwrap_or_else(|error| panic!("{error}: {body}"))
    })
}

/// The event whose members are these beside a device.
fn check(members: &str) -> ReceivedEvent {
    let body = format!(r#"{{"api_key":"k","events":[{{"device_id":"d",{members}}}]}}"#);
    match understood(&body).items.pop() {
        Some(Item::Event { event, .. }) => event,
        other => panic!("{other:?}: {members}"),
    }
}

#[test]
fn an_event_fills_its_fields_and_loses_nothing() {
    let event = check(
        r#""user_id":"u","event_type":"e","time":1795360919919,"insert_id":"i","event_id":3,"session_id":1795360918665,
        "ip":"192.0.2.7","language":"de-DE","library":"amplitude-ts/2.45.0","user_agent":"UA","platform":"Web","carrier":null,
        "groups":{"company":["a","b"]},"event_properties":{"big":9007199254740993,"nothing":null,"utm_source":"s",
        "[Amplitude] Page Location":"U","[Amplitude] Page Title":"T","[Amplitude] Previous Page Location":"R"}"#,
    );
    let context = &event.context;
    assert_eq!((event.kind, &*event.name, event.id.as_deref()), (EventKind::Track, "e", Some("d\ni")));
    assert_eq!((event.client_time_ms, event.sequence), (Some(1_795_360_919_919), 3));
    assert_eq!((&*context.url, &*context.title, &*context.referrer), ("U", "T", "R"));
    assert_eq!((&*context.session, &*context.ip, &*context.locale), ("1795360918665", "192.0.2.7", "de-DE"));
    assert_eq!((&*context.library, &*context.library_version, &*context.user_agent), ("amplitude-ts", "2.45.0", "UA"));
    assert_eq!(context.campaign.source, "s");
    let left =
        r#"{"big":9007199254740993,"nothing":null,"$context":{"platform":"Web","groups":{"company":["a","b"]}}}"#;
    assert_eq!(event.properties, left);
}

#[test]
fn no_session_and_the_senders_own_address_are_empty() {
    let event = check(r#""event_type":"e","session_id":-1,"ip":"$remote""#);
    assert_eq!((&*event.context.session, &*event.context.ip, &*event.properties), ("", "", "{}"));
}

#[test]
fn views_are_views_and_keep_their_names() {
    let event = check(r#""event_type":"[Amplitude] Page Viewed","event_properties":{"x":1}"#);
    assert_eq!((event.kind, &*event.name), (EventKind::Page, "page"));
    assert_eq!(event.properties, r#"{"$event_name":"[Amplitude] Page Viewed","x":1}"#);
    let event =
        check(r#""event_type":"[Amplitude] Screen Viewed","event_properties":{"[Amplitude] Screen Name":"Cart"}"#);
    assert_eq!((event.kind, &*event.context.page_name), (EventKind::Screen, "Cart"));
}

#[test]
fn what_is_set_becomes_traits_and_other_operations_keep_their_names() {
    let event = check(
        r#""event_type":"$identify","user_properties":{"$set":{"a":1},"$add":{"n":1},"$clearAll":"-"},"user_id":"u""#,
    );
    assert_eq!((event.kind, event.user_id.as_deref()), (EventKind::Identify, Some("u")));
    assert_eq!((&*event.traits, &*event.properties), (r#"{"a":1,"$add":{"n":1},"$clearAll":"-"}"#, "{}"));
    // A server's event brings what it knows of the person.
    let event = check(r#""event_type":"e","user_properties":{"plan":"pro"},"group_properties":{"x":1}"#);
    assert_eq!(event.traits, r#"{"plan":"pro"}"#);
    assert_eq!(event.properties, r#"{"$context":{"group_properties":{"x":1}}}"#);
}

#[test]
fn a_group_identify_names_its_group() {
    for groups in [r#"{"company":"g"}"#, r#"{"company":["g","h"]}"#] {
        let event = check(&format!(
            r#""event_type":"$groupidentify","groups":{groups},"group_properties":{{"$set":{{"seats":12}}}},
            "user_properties":{{"x":1}}"#
        ));
        assert_eq!((event.kind, event.other_id.as_deref()), (EventKind::Group, Some("g")));
        assert_eq!(event.traits, r#"{"seats":12}"#);
        let kept = format!(r#"{{"$context":{{"groups":{groups},"user_properties":{{"x":1}}}}}}"#);
        assert_eq!(event.properties, kept);
    }
}

#[test]
fn what_was_earned_is_said_or_price_times_quantity() {
    let earned = |members: &str| {
        let event = check(&format!(r#""event_type":"revenue_amount",{members}"#));
        event.revenue.map(|revenue| (revenue.micros, revenue.currency))
    };
    let euros = |micros| Some((micros, "EUR".to_owned()));
    let own = |members: &str| earned(&format!(r#""event_properties":{{{members},"$currency":"EUR"}}"#));
    // 19.99 times 3 is 59.97 in decimals, and not in floats.
    assert_eq!(own(r#""$price":19.99,"$quantity":3"#), euros(59_970_000));
    assert_eq!(own(r#""$price":"19.99","$quantity":"0.5""#), euros(9_995_000));
    assert_eq!(own(r#""$price":19.99"#), euros(19_990_000));
    assert_eq!(own(r#""$price":19.99,"$quantity":3,"$revenue":50"#), euros(50_000_000));
    assert_eq!(own(r#""$price":-1,"$quantity":3"#), euros(-3_000_000));
    assert_eq!(own(r#""$price":9223372036854,"$quantity":9223372036854"#), None);
    assert_eq!(own(r#""price":19.99,"quantity":3"#), None);
    assert_eq!(earned(r#""price":0.07,"quantity":100,"currency":"EUR""#), euros(7_000_000));
    assert_eq!(earned(r#""revenue":1.5,"event_properties":{}"#), Some((1_500_000, String::new())));
    assert_eq!(earned(r#""event_properties":{"revenue":2,"currency":"EUR"}"#), euros(2_000_000));
}

#[test]
fn the_request_says_key_and_sending_time_for_all() {
    let understood = understood(
        r#"{"api_key":"k","client_upload_time":"2026-11-22T15:21:59.920Z","options":{},"events":[
        {"user_id":"u","event_type":"a"},7,{"event_type":"a"},{"user_id":"u","event_type":"b","x":NaN}]}"#,
    );
    assert_eq!(understood.write_key.as_deref(), Some("k"));
    let seen = understood.items.iter().map(|item| match item {
        Item::Event { event, .. } => {
            assert_eq!((event.sent_at_ms, &event.visitor), (Some(1_795_360_919_920), &Some(Visitor::User("u".into()))));
            &*event.name
        }
        Item::Rejected { reason, .. } => reason.code(),
        Item::Nothing => "nothing",
    });
    assert_eq!(seen.collect::<Vec<_>>(), ["a", "malformed", "missing_field", "b"]);
}

#[test]
fn a_body_that_is_not_the_protocols_is_refused_as_a_whole() {
    let refused = |body: &str| {
        with_request(Method::Post, "/batch", &[], body.as_bytes(), |request| Amplitude.parse(request))
            .expect_err(body)
            .to_string()
    };
    assert_eq!(refused("[]"), "body is not a JSON object");
    assert_eq!(refused(r#"{"events":"#), "body at line 1 column 10 is not valid JSON");
    assert_eq!(refused(r#"{"events":{}}"#), "`events` is not a list");
    assert!(refused(r#"{"api_key":"k"}"#).starts_with("`events` is missing."));
    let many = format!(r#"{{"events":[0{}]}}"#, ",0".repeat(1000));
    assert_eq!(refused(&many), "`events` is 1 001 items, limit is 1 000");
}

#[test]
fn posthogs_and_universal_analytics_batches_are_left_to_them() {
    let recognised = |body: &str| {
        with_request(Method::Post, "/batch", &[], body.as_bytes(), |request| Amplitude.recognises(request))
    };
    assert!(recognised(r#" {"api_key":"k","events":[]}"#));
    assert!(recognised(r#"{"api_key":"k","events":[{"x":NaN}]}"#));
    for body in [r#"{"api_key":"k","batch":[]}"#, "v=1&tid=UA-1&t=event\nv=1", "", "{", r#"["events"]"#] {
        assert!(!recognised(body), "{body}");
    }
}

/// The answer as status and body.
fn answer(verdict: &Verdict<'_>) -> (u16, String) {
    let answer = with_request(Method::Post, "/batch", &[], b"", |request| Amplitude.answer(request, verdict));
    (answer.status, String::from_utf8(answer.body.into_owned()).expect("text"))
}

#[test]
fn what_is_taken_is_never_asked_for_again() {
    let reason = Rejection::Malformed { what: "item".into(), expected: "a JSON object" };
    let mut tally = Tally { accepted: 2, nothing: 1, rejected: Vec::new() };
    assert_eq!(answer(&Verdict::Taken(&tally)), (200, r#"{"code":200,"events_ingested":3}"#.into()));
    tally.rejected = vec![(1, reason.clone()), (4, reason)];
    let rejected = |index| format!(r#"{{"index":{index},"code":"malformed","message":"item is not a JSON object"}}"#);
    let body = format!(r#"{{"code":200,"events_ingested":3,"rejected":[{},{}]}}"#, rejected(1), rejected(4));
    assert_eq!(answer(&Verdict::Taken(&tally)), (200, body));
}

#[test]
fn a_refusal_says_in_amplitudes_words_whether_to_drop() {
    let check = |status, retry_after_seconds, expected: (u16, &str)| {
        let refused = Refused { status, code: "x", message: "no".into(), retry_after_seconds };
        assert_eq!(answer(&Verdict::Refused(&refused)), (expected.0, expected.1.to_owned()));
    };
    check(401, None, (400, r#"{"code":400,"error":"Invalid API key: no"}"#));
    check(400, None, (400, r#"{"code":400,"error":"no","missing_field":"events"}"#));
    check(415, None, (400, r#"{"code":400,"error":"no","missing_field":"events"}"#));
    check(413, None, (413, r#"{"code":413,"error":"no"}"#));
    check(429, Some(1), (429, r#"{"code":429,"error":"no"}"#));
    check(503, Some(1), (503, r#"{"code":503,"error":"no"}"#));
}
