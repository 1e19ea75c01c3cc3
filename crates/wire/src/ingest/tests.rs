//! The contract's claims, one by one.

use trackway_domain::event::{Campaign, Consent, Context, EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;

use super::*;
use crate::Item;
use crate::protocol::testing::with_request;
use crate::protocol::{Refused, Tally};

const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];

fn understood(headers: &[(&str, &str)], body: &[u8]) -> Result<Understood, Rejection> {
    with_request(Method::Post, PATH, headers, body, |request| Ingest.parse(request))
}

fn items(body: &str) -> Vec<Item> {
    understood(&[], body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}")).items
}

/// The one event of a body.
fn check(body: &str) -> ReceivedEvent {
    match items(body).pop() {
        Some(Item::Event { event, .. }) => event,
        other => panic!("{other:?}: {body}"),
    }
}

fn track(members: &str) -> ReceivedEvent {
    check(&format!(r#"{{"event":"e","visitor_id":"v"{members}}}"#))
}

fn refusal(event: &str) -> String {
    match items(event).pop() {
        Some(Item::Rejected { reason, content }) => {
            assert_eq!(content, event.as_bytes());
            reason.to_string()
        }
        other => panic!("{other:?}: {event}"),
    }
}

/// An event in which every field of the contract says something.
fn whole() -> ReceivedEvent {
    ReceivedEvent {
        kind: EventKind::Track,
        name: "order ✓".into(),
        id: Some("i".into()),
        visitor: Some(Visitor::Device("v".into())),
        user_id: Some("u".into()),
        other_id: None,
        client_time_ms: Some(1_795_360_810_973),
        sent_at_ms: Some(1_795_360_811_000),
        sequence: 9,
        context: Context {
            url: "U".into(),
            title: "T".into(),
            referrer: "R".into(),
            page_name: "P".into(),
            user_agent: "UA".into(),
            locale: "de".into(),
            screen: (1280, 720),
            library: "L".into(),
            library_version: "1".into(),
            campaign: Campaign {
                source: "s".into(),
                medium: "m".into(),
                name: "n".into(),
                term: "t".into(),
                content: "c".into(),
            },
            session: "S".into(),
            ip: "192.0.2.7".into(),
            consent: Consent::Granted,
        },
        revenue: trackway_domain::revenue::Revenue::parse("129.90", "EUR"),
        properties: r#"{"big":9007199254740993,"price":129.90,"nothing":null}"#.into(),
        traits: r#"{"plan":"pro"}"#.into(),
    }
}

const JSON: &str = r#"{"write_key":"wk","sent_at":"2026-11-22T15:20:11Z","events":[{"type":"track","event":"order ✓","id":"i",
    "visitor_id":"v","user_id":"u","time":"2026-11-22T15:20:10.973Z","sequence":9,
    "properties":{"big":9007199254740993,"price":129.90,"nothing":null},"traits":{"plan":"pro"},
    "context":{"url":"U","title":"T","referrer":"R","page_name":"P","locale":"de","screen":{"width":1280,"height":720},
    "user_agent":"UA","session":"S","ip":"192.0.2.7","consent":"granted","library":{"name":"L","version":"1"},
    "campaign":{"source":"s","medium":"m","name":"n","term":"t","content":"c"}},
    "revenue":{"amount":129.90,"currency":"EUR"}}]}"#;

fn message() -> pb::IngestRequest {
    let event = pb::Event {
        r#type: pb::event::Type::Track.into(),
        event: "order ✓".into(),
        id: "i".into(),
        visitor_id: "v".into(),
        user_id: "u".into(),
        other_id: String::new(),
        time_ms: Some(1_795_360_810_973),
        sequence: Some(9),
        properties_json: r#" {"big":9007199254740993,"price":129.90,"nothing":null} "#.into(),
        traits_json: r#"{"plan":"pro"}"#.into(),
        context: Some(pb::Context {
            url: "U".into(),
            title: "T".into(),
            referrer: "R".into(),
            page_name: "P".into(),
            locale: "de".into(),
            screen: Some(pb::Screen { width: 1280, height: 720 }),
            user_agent: "UA".into(),
            session: "S".into(),
            ip: "192.0.2.7".into(),
            consent: pb::context::Consent::Granted.into(),
            library: Some(pb::Library { name: "L".into(), version: "1".into() }),
            campaign: Some(pb::Campaign {
                source: "s".into(),
                medium: "m".into(),
                name: "n".into(),
                term: "t".into(),
                content: "c".into(),
            }),
        }),
        revenue: Some(pb::Revenue { amount: "129.90".into(), currency: "EUR".into() }),
    };
    pb::IngestRequest { write_key: "wk".into(), sent_at_ms: Some(1_795_360_811_000), events: vec![event] }
}

#[test]
fn both_forms_say_the_same() {
    let json = understood(&[("content-type", "text/plain")], JSON.as_bytes());
    let protobuf = understood(PROTOBUF, &message().encode_to_vec());
    for understood in [json, protobuf] {
        let mut understood = understood.expect("understood");
        assert_eq!(understood.write_key.as_deref(), Some("wk"));
        let Some(Item::Event { event, content }) = understood.items.pop() else { panic!("an event") };
        assert_eq!((event, content), (whole(), Vec::new()));
    }
}

#[test]
fn zero_is_no_time() {
    let mut request = message();
    (request.sent_at_ms, request.events[0].time_ms) = (Some(0), Some(0));
    let mut understood = understood(PROTOBUF, &request.encode_to_vec()).expect("understood");
    let Some(Item::Event { event, .. }) = understood.items.pop() else { panic!("an event") };
    assert_eq!((event.client_time_ms, event.sent_at_ms), (None, None));
}

#[test]
fn one_event_may_stand_alone_and_is_a_track_call_unless_it_says_otherwise() {
    let body = r#"{"write_key":"wk","sent_at":1795360811,"event":"e","visitor_id":"v"}"#;
    let understood = understood(&[], body.as_bytes()).expect("understood");
    assert_eq!(understood.write_key.as_deref(), Some("wk"));
    let event = check(body);
    assert_eq!((event.kind, &*event.name, event.sent_at_ms), (EventKind::Track, "e", Some(1_795_360_811_000)));
    assert_eq!(event.properties, "{}");
    for (word, kind, more) in [
        ("page", EventKind::Page, ""),
        ("screen", EventKind::Screen, ""),
        ("identify", EventKind::Identify, ""),
        ("group", EventKind::Group, r#","other_id":"g""#),
        ("alias", EventKind::Alias, r#","other_id":"old""#),
    ] {
        let event = check(&format!(r#"{{"type":"{word}","user_id":"u"{more}}}"#));
        assert_eq!((event.kind, &*event.name), (kind, word));
    }
}

#[test]
fn nobody_is_derived_by_the_gateway() {
    assert_eq!(check(r#"{"event":"e"}"#).visitor, None);
    assert_eq!(check(r#"{"event":"e","visitor_id":"undefined"}"#).visitor, None);
}

#[test]
fn an_alias_names_two_different_ids() {
    assert!(refusal(r#"{"type":"alias","other_id":"old","visitor_id":"v"}"#).starts_with("`user_id` is missing."));
    assert!(refusal(r#"{"type":"alias","user_id":"u"}"#).starts_with("`alias` is missing."));
    assert!(matches!(items(r#"{"type":"alias","user_id":"u","other_id":"u"}"#)[..], [Item::Nothing]));
}

#[test]
fn what_the_contract_does_not_know_is_kept() {
    let event =
        track(r#","x":1,"time":"then","sequence":-1,"properties":{"a":1},"context":{"y":2,"consent":"perhaps"}"#);
    let kept = r#"{"a":1,"$context":{"y":2,"consent":"perhaps","$event":{"x":1,"time":"then","sequence":-1}}}"#;
    assert_eq!((&*event.properties, event.client_time_ms, event.sequence), (kept, None, 0));
    let mut items = items(r#"{"events":[{"event":"e","write_key":"secret"}]}"#);
    assert!(matches!(items.pop(), Some(Item::Event { event, .. }) if event.properties == "{}"));
}

#[test]
fn words_that_json_lacks_become_null() {
    assert_eq!(track(r#","properties":{"a":NaN}"#).properties, r#"{"a":null}"#);
}

#[test]
fn revenue_is_exact_and_else_the_properties_say_it() {
    let micros = |members: &str| track(members).revenue.map(|revenue| revenue.micros);
    assert_eq!(micros(r#","revenue":{"amount":"-0.000001","currency":"EUR"}"#), Some(-1));
    assert_eq!(micros(r#","properties":{"revenue":5}"#), Some(5_000_000));
    assert_eq!(micros(r#","revenue":{"amount":1},"properties":{"revenue":5}"#), Some(1_000_000));
    let refused = |revenue: &str| refusal(&format!(r#"{{"event":"e","revenue":{revenue}}}"#));
    assert_eq!(refused(r#"{"amount":"12,50"}"#), "`revenue.amount` is not a decimal number such as 129.90");
    assert!(refused(r#"{"currency":"EUR"}"#).starts_with("`revenue.amount` is missing."));
}

#[test]
fn wrong_types_are_rejected_by_name() {
    let kinds = "track, page, screen, identify, group or alias";
    assert_eq!(refusal(r#"{"type":"click"}"#), format!("type `click` is not {kinds}"));
    assert_eq!(refusal(r#"{"type":[1]}"#), format!("`type` is not {kinds}"));
    assert_eq!(refusal(r#"{"event":"e","properties":[]}"#), "`properties` is not a JSON object");
    assert_eq!(refusal(r#"{"event":"e","traits":1}"#), "`traits` is not a JSON object");
}

#[test]
fn a_bad_event_stands_in_its_place_and_spoils_no_other() {
    let mut request = message();
    let with = |change: fn(&mut pb::Event)| {
        let mut event = message().events.remove(0);
        change(&mut event);
        event
    };
    request.events.push(with(|event| event.properties_json = "[]".into()));
    request.events.push(with(|event| event.properties_json = "{".into()));
    request.events.push(with(|event| event.r#type = 77));
    request.events.push(with(|event| event.revenue = Some(pb::Revenue::default())));
    request.events.push(with(|event| (event.id, event.sequence) = (String::new(), None)));
    let mut body = request.encode_to_vec();
    // One more event, of one byte that is no field.
    body.extend_from_slice(&[0x1a, 0x01, 0xff]);
    let items = understood(PROTOBUF, &body).expect("understood").items;
    let seen: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Event { event, content } => format!("{} {}", event.sequence, content.is_empty()),
            Item::Rejected { reason, .. } => reason.to_string(),
            Item::Nothing => "nothing".into(),
        })
        .collect();
    assert_eq!(
        seen,
        [
            "9 true",
            "`properties_json` is not a JSON object",
            "`properties_json` is not a JSON object",
            "type 77 is not a type of trackway.ingest.v1.Event that this gateway knows",
            "`revenue.amount` is missing. Say how much, as in `129.90`",
            "5 false",
            "item of `events` is not a message trackway.ingest.v1.Event",
        ]
    );
}

#[test]
fn a_body_that_is_not_the_contracts_is_refused_as_a_whole() {
    let refused = |headers, body: &[u8]| understood(headers, body).expect_err("refused").to_string();
    assert_eq!(refused(&[], b""), "body is not a JSON object");
    assert_eq!(refused(&[], b"{\"events\":"), "body at line 1 column 10 is not valid JSON");
    assert_eq!(refused(&[], b"{\"events\":7}"), "`events` is not a list");
    assert_eq!(refused(PROTOBUF, b"{}"), "body is not a message trackway.ingest.v1.IngestRequest");
    let many = format!(r#"{{"events":[0{}]}}"#, ",0".repeat(1000));
    assert_eq!(refused(&[], many.as_bytes()), "`events` is 1 001 items, limit is 1 000");
    // A million events of two bytes.
    let many = [0x1a, 0x00].repeat(1_000_000);
    assert_eq!(refused(PROTOBUF, &many), "`events` is 1 000 000 items, limit is 1 000");
}

#[test]
fn the_key_may_stand_in_the_head() {
    let key = |target: &str, headers: &[(&str, &str)]| {
        with_request(Method::Post, target, headers, b"", |request| Ingest.write_key(&request.head))
    };
    assert_eq!(key("/v1/events?writeKey=a", &[]).as_deref(), Some("a"));
    assert_eq!(key("/v1/events", &[("x-write-key", "b")]).as_deref(), Some("b"));
    assert_eq!(key("/v1/events", &[("authorization", "Basic Yzo=")]).as_deref(), Some("c"));
    assert_eq!(key("/v1/events", &[("x-write-key", "")]), None);
}

fn answer(headers: &[(&str, &str)], verdict: &Verdict<'_>) -> Answer {
    with_request(Method::Post, PATH, headers, b"", |request| Ingest.answer(request, verdict))
}

#[test]
fn the_answer_names_what_was_rejected_in_the_form_that_was_asked_for() {
    let reason = Rejection::Malformed { what: "type 7".into(), expected: "known" };
    let tally = Tally { accepted: 2, nothing: 1, rejected: vec![(1, reason.clone()), (4, reason)] };
    let taken = Verdict::Taken(&tally);
    let rejected = |index| format!(r#"{{"index":{index},"code":"malformed","message":"type 7 is not known"}}"#);
    let json = format!(r#"{{"accepted":3,"rejected":[{},{}]}}"#, rejected(1), rejected(4));
    let both = [("content-type", "application/x-protobuf"), ("accept", "application/json")];
    for headers in [&[][..], &[("accept", "*/*")], &[("content-type", "text/plain")], &both] {
        assert_eq!(answer(headers, &taken), Answer::json(200, json.clone()), "{headers:?}");
    }
    let both = [("content-type", "text/plain"), ("accept", "text/html, application/protobuf;q=0.9")];
    for headers in [PROTOBUF, &both] {
        let answer = answer(headers, &taken);
        assert_eq!((answer.status, answer.content_type), (200, "application/x-protobuf"));
        let response = pb::IngestResponse::decode(&*answer.body).expect("a message");
        let message = "type 7 is not known".to_owned();
        let rejected = |index| pb::Rejected { index, code: "malformed".into(), message: message.clone() };
        assert_eq!(response, pb::IngestResponse { accepted: 3, rejected: vec![rejected(1), rejected(4)] });
    }
    let clean = Tally { accepted: 1, ..Tally::default() };
    assert_eq!(answer(&[], &Verdict::Taken(&clean)), Answer::json(200, r#"{"accepted":1,"rejected":[]}"#.into()));
}

#[test]
fn a_refusal_says_why_and_by_its_status_whether_to_send_again() {
    for (status, retry_after_seconds) in [(401, None), (413, None), (429, Some(1)), (503, Some(1))] {
        let refused = Refused { status, code: "x", message: "no".into(), retry_after_seconds };
        let refused = Verdict::Refused(&refused);
        assert_eq!(answer(&[], &refused), Answer::json(status, r#"{"code":"x","message":"no"}"#.into()));
        let answer = answer(PROTOBUF, &refused);
        let refusal = pb::Refusal { code: "x".into(), message: "no".into() };
        assert_eq!((answer.status, pb::Refusal::decode(&*answer.body)), (status, Ok(refusal)));
    }
}

#[test]
fn garbage_is_refused_or_rejected_without_panic() {
    for headers in [&[][..], PROTOBUF] {
        for body in
            [&b"\xff\xff\xff\xff\xff"[..], b"\x1a\xff\xff\xff\xff\x0f", b"{\"events\":[[[[", b"\x0a\x01\xff", &[0; 64]]
        {
            drop(understood(headers, body));
        }
        drop(understood(headers, "[".repeat(100_000).as_bytes()));
    }
    let whole = message().encode_to_vec();
    for cut in 0..whole.len() {
        drop(understood(PROTOBUF, &whole[..cut]));
    }
}
