//! The doc's claims, one by one.

use trackway_domain::id::Visitor;

use super::*;
use trackway_domain::event::ReceivedEvent;

const TRACK: Call = Call::One(EventKind::Track);

fn items(call: Call, body: &str) -> Vec<Item> {
    parse(call, body.as_bytes(), 100).unwrap_or_else(|error| panic!("{error}: {body}")).items
}

/// The one event of a body.
fn check(call: Call, body: &str) -> ReceivedEvent {
    match items(call, body).pop() {
        Some(Item::Event { event, .. }) => event,
        other => panic!("{other:?}: {body}"),
    }
}

fn track(members: &str) -> ReceivedEvent {
    check(TRACK, &format!(r#"{{"event":"e","anonymousId":"a"{members}}}"#))
}

/// Why the one item of a body is rejected.
fn refusal(call: Call, body: &str) -> String {
    match items(call, body).pop() {
        Some(Item::Rejected { reason, content }) => {
            assert!(body.contains(std::str::from_utf8(&content).expect("as sent")));
            reason.to_string()
        }
        other => panic!("{other:?}: {body}"),
    }
}

#[test]
fn every_path_names_its_call() {
    for (path, kind) in [
        ("/v1/track", EventKind::Track),
        ("/v1/t", EventKind::Track),
        ("/v1/page", EventKind::Page),
        ("/v1/p", EventKind::Page),
        ("/v1/screen", EventKind::Screen),
        ("/v1/s", EventKind::Screen),
        ("/v1/identify", EventKind::Identify),
        ("/v1/i", EventKind::Identify),
        ("/v1/group", EventKind::Group),
        ("/v1/g", EventKind::Group),
        ("/v1/alias", EventKind::Alias),
        ("/v1/a", EventKind::Alias),
    ] {
        assert_eq!(Call::of_path(path), Some(Call::One(kind)), "{path}");
    }
    for path in ["/v1/batch", "/v1/b", "/v1/import"] {
        assert_eq!(Call::of_path(path), Some(Call::Batch), "{path}");
    }
    for path in ["/v1/m", "/track", "/v1/", "/v1/track/x"] {
        assert_eq!(Call::of_path(path), None, "{path}");
    }
}

#[test]
fn the_path_says_the_kind_of_a_single_call_and_the_item_that_of_a_batch() {
    assert_eq!(check(TRACK, r#"{"type":"page","event":"e","userId":"u"}"#).kind, EventKind::Track);
    let event = check(Call::Batch, r#"{"batch":[{"type":"screen","userId":"u"}]}"#);
    assert_eq!((event.kind, &*event.name), (EventKind::Screen, "screen"));
    assert!(refusal(Call::Batch, r#"{"batch":[{"userId":"u"}]}"#).starts_with("`type` is missing."));
    assert_eq!(
        refusal(Call::Batch, r#"{"batch":[{"type":"x"}]}"#),
        "type `x` is not track, page, screen, identify, group or alias"
    );
}

#[test]
fn a_bad_item_stands_in_its_place_and_spoils_no_other() {
    let good = |name: &str| format!(r#"{{"type":"track","event":"{name}","userId":"u"}}"#);
    let body = format!(r#"{{"batch":[{},7,{{"type":"track"}},{}]}}"#, good("a"), good("b"));
    let items = items(Call::Batch, &body);
    let seen: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Event { event, .. } => format!("{} {}", event.name, event.sequence),
            Item::Rejected { content, .. } => String::from_utf8_lossy(content).into_owned(),
            Item::Nothing => "nothing".into(),
        })
        .collect();
    assert_eq!(seen, ["a 0", "7", r#"{"type":"track"}"#, "b 3"]);
}

#[test]
fn a_device_with_a_user_is_the_devices_event_and_a_user_alone_is_the_visitor() {
    let ids = |members: &str| {
        let event = check(TRACK, &format!(r#"{{"event":"e",{members}}}"#));
        (event.visitor, event.user_id)
    };
    let (device, user) = (Some(Visitor::Device("a".into())), Some(Visitor::User("7".into())));
    assert_eq!(ids(r#""anonymousId":"a","userId":"u""#), (device.clone(), Some("u".into())));
    assert_eq!(ids(r#""anonymousId":"a","userId":null"#), (device.clone(), None));
    assert_eq!(ids(r#""anonymousId":"a","userId":"undefined""#), (device, None));
    assert_eq!(ids(r#""anonymousId":null,"userId":7"#), (user, Some("7".into())));
    let big = Some("9007199254740993".to_owned());
    assert_eq!(ids(r#""userId":9007199254740993"#).1, big);
    for nobody in ["", r#","userId":"null""#, r#","userId":true"#, r#","anonymousId":"undefined""#] {
        let refusal = refusal(TRACK, &format!(r#"{{"event":"e"{nobody}}}"#));
        assert!(refusal.starts_with("`anonymousId` is missing. Send it or `userId`"), "{refusal}");
    }
}

#[test]
fn identify_needs_no_user() {
    let event = check(Call::One(EventKind::Identify), r#"{"anonymousId":"a","traits":{"x":1}}"#);
    assert_eq!((event.user_id, &*event.traits, &*event.name), (None, r#"{"x":1}"#, "identify"));
}

#[test]
fn traits_that_the_context_repeats_stand_once() {
    let event = track(r#","traits":{"x":1},"context":{"traits":{"x":1}}"#);
    assert_eq!((&*event.traits, &*event.properties), (r#"{"x":1}"#, "{}"));
    let event = track(r#","traits":{"x":1},"context":{"traits":{"y":2}}"#);
    assert_eq!((&*event.traits, &*event.properties), (r#"{"x":1}"#, r#"{"$context":{"traits":{"y":2}}}"#));
    assert_eq!(track(r#","context":{"traits":{"y":2}}"#).traits, r#"{"y":2}"#);
}

#[test]
fn an_alias_names_two_different_ids() {
    const ALIAS: Call = Call::One(EventKind::Alias);
    let event = check(ALIAS, r#"{"previousId":"old","userId":"new"}"#);
    assert_eq!((event.visitor, event.other_id.as_deref()), (Some(Visitor::User("new".into())), Some("old")));
    let event = check(ALIAS, r#"{"previousId":"old","userId":"new","anonymousId":"a"}"#);
    assert_eq!((event.visitor, event.user_id.as_deref()), (Some(Visitor::Device("a".into())), Some("new")));
    assert!(matches!(items(ALIAS, r#"{"previousId":"u","userId":"u","anonymousId":"a"}"#)[..], [Item::Nothing]));
    assert!(refusal(ALIAS, r#"{"userId":"u"}"#).starts_with("`previousId` is missing."));
    assert!(refusal(ALIAS, r#"{"previousId":"u","anonymousId":"a"}"#).starts_with("`userId` is missing."));
}

#[test]
fn a_group_call_names_its_group() {
    const GROUP: Call = Call::One(EventKind::Group);
    let event = check(GROUP, r#"{"userId":"u","groupId":"g","traits":{"seats":3},"context":{"traits":{"age":1}}}"#);
    assert_eq!((event.other_id.as_deref(), &*event.traits), (Some("g"), r#"{"seats":3}"#));
    assert_eq!(event.properties, r#"{"$context":{"traits":{"age":1}}}"#);
    assert!(refusal(GROUP, r#"{"userId":"u"}"#).starts_with("`groupId` is missing."));
}

#[test]
fn a_track_call_names_what_happened() {
    for nameless in [r#"{"userId":"u"}"#, r#"{"userId":"u","event":""}"#, r#"{"userId":"u","event":null}"#] {
        assert!(refusal(TRACK, nameless).starts_with("`event` is missing."), "{nameless}");
    }
}

#[test]
fn properties_keep_their_text() {
    let text = r#"{"big":9007199254740993, "f":1.10,"nested":{"é":[null,"\u00e9"]}}"#;
    assert_eq!(track(&format!(r#","properties":{text}"#)).properties, text);
    for none in ["", r#","properties":null"#, r#","properties":[ ]"#, r#","properties":{}"#] {
        assert_eq!(track(none).properties, "{}", "{none}");
    }
    assert_eq!(refusal(TRACK, r#"{"event":"e","userId":"u","properties":[1]}"#), "`properties` is not a JSON object");
    assert_eq!(refusal(TRACK, r#"{"event":"e","userId":"u","traits":"x"}"#), "`traits` is not a JSON object");
}

#[test]
fn half_an_emoji_is_replaced_and_nan_becomes_null() {
    let event = track(r#","properties":{"a":"x\ud83d"},"context":{"locale":"\ude80"}"#);
    assert_eq!((&*event.properties, &*event.context.locale), (r#"{"a":"x\ufffd"}"#, "\u{fffd}"));
    assert_eq!(track(r#","properties":{"a":NaN}"#).properties, r#"{"a":null}"#);
    let event = parse(TRACK, b"{\"event\":\"e\xff\",\"userId\":\"u\"}", 1).expect("understood").items.pop();
    assert!(matches!(event, Some(Item::Event { event, .. }) if event.name == "e\u{fffd}"));
    assert_eq!(check(TRACK, "\u{feff} {\"event\":\"e\",\"userId\":\"u\"}\n").name, "e");
}

#[test]
fn the_context_fills_its_fields() {
    let event = track(
        r#","context":{"page":{"url":"https://x.example/p?q=1","title":"T","referrer":"R","path":"/p","search":"?q=1"},
            "campaign":{"source":"s","medium":"m","name":"n","term":"t","content":"c"},"userAgent":"UA","locale":"de",
            "screen":{"width":1024,"height":768.5},"library":{"name":"L","version":"1"},"sequence":9,"traits":{"x":1}},
            "messageId":"m","integrations":{"All":true},"_metadata":{"x":1},"writeKey":"secret""#,
    );
    let expected = trackway_domain::event::Context {
        url: "https://x.example/p?q=1".into(),
        title: "T".into(),
        referrer: "R".into(),
        page_name: String::new(),
        user_agent: "UA".into(),
        locale: "de".into(),
        screen: (1024, 768),
        library: "L".into(),
        library_version: "1".into(),
        campaign: trackway_domain::event::Campaign {
            source: "s".into(),
            medium: "m".into(),
            name: "n".into(),
            term: "t".into(),
            content: "c".into(),
        },
        ..Default::default()
    };
    assert_eq!(event.context, expected);
    assert_eq!((event.id.as_deref(), event.sequence, &*event.traits), (Some("m"), 9, r#"{"x":1}"#));
    assert_eq!(event.properties, "{}");
}

#[test]
fn what_has_no_field_is_kept_as_context() {
    let event = track(
        r#","properties":{"a":1},"channel":"web","name":"N","groupId":"g","context":{"timezone":"Europe/Berlin","none":null,
            "sequence":-1,"page":{"url":"https://x.example/","path":"/other","h":1},"campaign":{"id":"c7"},
            "screen":{"density":2},"library":{"b":3}}"#,
    );
    let expected = concat!(
        r#"{"a":1,"$context":{"timezone":"Europe/Berlin","sequence":-1,"page":{"h":1,"path":"/other"},"campaign":{"id":"c7"},"#,
        r#""screen":{"density":2},"library":{"b":3},"$event":{"channel":"web","name":"N","groupId":"g"}}}"#
    );
    assert_eq!(event.properties, expected);
    let page = |path: &str, search: &str| {
        let url = "https://x.example/a/b?q=1&r#top";
        let page = format!(r#","context":{{"page":{{"url":"{url}","path":"{path}","search":"{search}"}}}}"#);
        track(&page).properties
    };
    assert_eq!(page("/a/b", "?q=1&r"), "{}");
    assert_eq!(page("/b", "?q=1"), r#"{"$context":{"page":{"search":"?q=1"}}}"#);
    assert_eq!(page("/a", ""), r#"{"$context":{"page":{"path":"/a","search":""}}}"#);
    let again = track(r#","properties":{"$context":{}},"channel":"web""#).properties;
    assert_eq!(again, r#"{"$context":{},"$context_of_request":{"$event":{"channel":"web"}}}"#);
}

#[test]
fn name_and_category_of_a_page_join_its_properties_unless_they_are_there() {
    let page = |members: &str| check(Call::One(EventKind::Page), &format!(r#"{{"userId":"u",{members}}}"#));
    let event = page(r#""name":"Home","category":"Shop","properties":{"category":"Own"}"#);
    assert_eq!((&*event.properties, &*event.name), (r#"{"category":"Own","name":"Home"}"#, "page"));
    assert_eq!(event.context.page_name, "Home");
    let event =
        page(r#""properties":{"url":"U","title":"T","referrer":"R","name":"P"},"context":{"page":{"title":"C"}}"#);
    let (context, category) = (&event.context, r#""name":null,"category":null,"properties":{"name":"P"}"#);
    assert_eq!((&*page(category).properties, &*page(category).context.page_name), (r#"{"name":"P"}"#, "P"));
    assert_eq!(page(r#""name":null,"category":null"#).properties, "{}");
    assert_eq!((&*context.url, &*context.title, &*context.referrer, &*context.page_name), ("U", "C", "R", "P"));
}

#[test]
fn times_come_from_the_item_or_its_batch() {
    let event = check(
        Call::Batch,
        r#"{"sentAt":"2026-11-22T15:20:11Z","batch":[{"type":"page","userId":"u","timestamp":"2026-11-22T15:20:10Z"}]}"#,
    );
    assert_eq!((event.client_time_ms, event.sent_at_ms), (Some(1_795_360_810_000), Some(1_795_360_811_000)));
    let own = r#"{"sentAt":1795360899,"batch":[{"type":"page","userId":"u","sentAt":1795360812}]}"#;
    assert_eq!(check(Call::Batch, own).sent_at_ms, Some(1_795_360_812_000));
    let event = track(r#","originalTimestamp":1795360810000,"timestamp":1795360899000,"sentAt":1795360812"#);
    assert_eq!((event.client_time_ms, event.sent_at_ms), (Some(1_795_360_810_000), Some(1_795_360_812_000)));
    assert_eq!(event.properties, r#"{"$context":{"$event":{"timestamp":1795360899000}}}"#);
    let properties = track(r#","originalTimestamp":"then","timestamp":1795360810"#).properties;
    assert_eq!(properties, r#"{"$context":{"$event":{"originalTimestamp":"then"}}}"#);
    let event = track(r#","timestamp":"tomorrow""#);
    assert_eq!(
        (event.client_time_ms, &*event.properties),
        (None, r#"{"$context":{"$event":{"timestamp":"tomorrow"}}}"#)
    );
}

#[test]
fn the_context_of_a_batch_stands_for_what_its_items_leave_out() {
    let body = r#"{"context":{"locale":"de","page":{"url":"U","title":"T"},"tz":1,"ip":"i"},"batch":[
        {"type":"page","userId":"u","context":{"locale":"fr","page":{"title":"own"},"tz":2}}]}"#;
    let event = check(Call::Batch, body);
    assert_eq!((&*event.context.locale, &*event.context.url, &*event.context.title), ("fr", "U", "own"));
    assert_eq!((&*event.properties, &*event.context.ip), (r#"{"$context":{"tz":2}}"#, "i"));
    let behind = r#"{"batch":[{"type":"page","userId":"u"}],"context":{"locale":"de"},"sentAt":1795360812}"#;
    let event = check(Call::Batch, behind);
    assert_eq!((&*event.context.locale, event.sent_at_ms), ("de", Some(1_795_360_812_000)));
}

#[test]
fn the_write_key_is_read_and_never_kept() {
    assert_eq!(parse(TRACK, br#"{"writeKey":"wk"}"#, 1).expect("understood").write_key.as_deref(), Some("wk"));
    let body = br#"{"batch":[{"type":"page","userId":"u","writeKey":"wk"}],"writeKey":"wk"}"#;
    let mut understood = parse(Call::Batch, body, 1).expect("understood");
    assert_eq!(understood.write_key.as_deref(), Some("wk"));
    assert!(matches!(understood.items.pop(), Some(Item::Event { event, .. }) if event.properties == "{}"));
}

#[test]
fn content_is_kept_only_where_there_is_no_id() {
    let content = |body: &str| match items(TRACK, body).pop() {
        Some(Item::Event { content, .. }) => content,
        other => panic!("{other:?}"),
    };
    let body = r#"{"event":"e","userId":"u"}"#;
    assert_eq!(content(body), body.as_bytes());
    assert_eq!(content(r#"{"event":"e","userId":"u","messageId":"m"}"#), b"");
    assert_ne!(content(r#"{"event":"e","userId":"u","messageId":"undefined"}"#), b"");
}

#[test]
fn every_limit_names_the_thing_its_size_and_itself() {
    let limit = |members: &str, expected: &str| {
        assert_eq!(refusal(TRACK, &format!(r#"{{"event":"signup",{members}}}"#)), expected);
    };
    let text = |length: usize| "x".repeat(length);
    limit(
        &format!(r#""userId":"u","properties":{{"a":"{}"}}"#, text(70_079)),
        "event `signup` is 70 132 bytes, limit is 65 536",
    );
    for field in ["userId", "anonymousId", "messageId"] {
        let members = format!(r#""userId":"u","{field}":"{}""#, text(1025));
        limit(&members, &format!("`{field}` is 1 025 bytes, limit is 1 024"));
    }
    limit(
        &format!(r#""userId":"u","event":"{}""#, text(513)),
        &format!("name of event `{}…` is 513 bytes, limit is 512", text(64)),
    );
    let nested =
        |depth: usize| format!(r#""userId":"u","properties":{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    limit(&nested(32), "nesting of the properties of event `signup` is 33 levels, limit is 32");
    limit(&nested(20_000), "nesting of the properties of event `signup` is 20 001 levels, limit is 32");
    let keys: Vec<_> = (0..1025).map(|n| format!(r#""{n}":0"#)).collect();
    let members = format!(r#""userId":"u","traits":{{{}}}"#, keys.join(","));
    limit(&members, "size of the traits of event `signup` is 1 025 keys, limit is 1 024");
}

#[test]
fn a_body_that_is_not_the_protocols_is_refused_as_a_whole() {
    let refused = |call, body: &str| parse(call, body.as_bytes(), 2).expect_err(body).to_string();
    assert_eq!(refused(TRACK, " "), "empty body is not a JSON object");
    assert_eq!(refused(TRACK, "[]"), "body is not a JSON object");
    assert_eq!(refused(TRACK, r#"{"event":"#), "body at line 1 column 9 is not valid JSON");
    assert_eq!(refused(TRACK, r#"{} {}"#), "body at line 1 column 4 is not valid JSON");
    assert!(refused(Call::Batch, "{}").starts_with("`batch` is missing."));
    assert!(refused(Call::Batch, r#"{"batch":null}"#).starts_with("`batch` is missing."));
    assert_eq!(refused(Call::Batch, r#"{"batch":"secret"}"#), "`batch` is not a list");
    assert_eq!(refused(Call::Batch, r#"{"batch":[1,2,3]}"#), "batch is 3 events, limit is 2");
    assert_eq!(refused(Call::Batch, "{\n\"batch\":[{\"x\":}]}"), "body at line 2 column 15 is not valid JSON");
    assert!(parse(Call::Batch, br#"{"batch":[]}"#, 1).is_ok());
}

#[test]
fn revenue_is_what_a_track_call_says_it_earned() {
    let money = r#","properties":{"revenue":46.48,"currency":"EUR"}"#;
    let revenue = track(money).revenue.expect("it earned");
    assert_eq!((revenue.micros, &*revenue.currency), (46_480_000, "EUR"));
    assert_eq!(track(r#","properties":{"price":46.48}"#).revenue, None);
    let page = check(Call::One(EventKind::Page), &format!(r#"{{"userId":"u"{money}}}"#));
    assert_eq!(page.revenue, None);
}

#[test]
fn session_address_and_consent_have_fields() {
    let consent = r#"{"categoryPreferences":{"Analytics":false}}"#;
    let event = track(&format!(r#","context":{{"sessionId":1795360879787,"ip":"192.0.2.7","consent":{consent}}}"#));
    let context = &event.context;
    assert_eq!((&*context.session, &*context.ip), ("1795360879787", "192.0.2.7"));
    assert_eq!(context.consent, trackway_domain::event::Consent::Denied);
    assert_eq!(event.properties, format!(r#"{{"$context":{{"consent":{consent}}}}}"#));
    let management = r#"{"allowedConsentIds":["C0002"]}"#;
    let event = track(&format!(r#","context":{{"consentManagement":{management}}}"#));
    assert_eq!(event.context.consent, trackway_domain::event::Consent::Granted);
    assert_eq!(event.properties, format!(r#"{{"$context":{{"consentManagement":{management}}}}}"#));
}

#[test]
fn deep_nesting_anywhere_overflows_no_stack() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        deep.clone(),
        format!(r#"{{"batch":{deep}}}"#),
        format!(r#"{{"batch":[{deep}]}}"#),
        format!(r#"{{"context":{deep},"batch":[]}}"#),
        format!(r#"{{"context":{{"page":{deep}}},"batch":[]}}"#),
        format!(r#"{{"batch":[{{"integrations":{deep},"properties":{{"a":{deep}}}}}]}}"#),
    ] {
        drop(parse(Call::Batch, body.as_bytes(), 10));
        drop(parse(TRACK, body.as_bytes(), 10));
    }
}

#[test]
fn a_pixel_holds_a_call_and_is_answered_with_an_image() {
    use crate::protocol::testing::with_request;
    use base64::Engine as _;
    let data =
        base64::engine::general_purpose::STANDARD.encode(r#"{"writeKey":"wk","userId":"u","event":"Mail Opened"}"#);
    let target = format!("/v1/pixel/track?data={data}");
    let understood = with_request(Method::Get, &target, &[], b"", |request| {
        assert!(Segment.claims(&request.head));
        let answer = Segment.answer(request, &Verdict::Taken(&crate::protocol::Tally::default()));
        assert_eq!(answer.content_type, "image/gif");
        Segment.parse(request).expect("understood")
    });
    assert_eq!(understood.write_key.as_deref(), Some("wk"));
    assert!(matches!(&understood.items[..], [Item::Event { event, .. }] if event.name == "Mail Opened"));
    for (target, expected) in
        [("/v1/pixel/track", "`data` is missing"), ("/v1/pixel/page?data=!", "`data` is not base64")]
    {
        let error = with_request(Method::Get, target, &[], b"", |request| Segment.parse(request)).expect_err("refused");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    for target in ["/v1/pixel/batch", "/v1/pixel", "/v1/track"] {
        with_request(Method::Get, target, &[], b"", |request| assert!(!Segment.claims(&request.head), "{target}"));
    }
}

#[test]
fn the_context_of_a_batch_cannot_make_much_of_little() {
    let batch = |context: usize, events: usize| {
        let items = vec![r#"{"type":"page","userId":"u"}"#; events].join(",");
        let body = format!(r#"{{"batch":[{items}],"context":{{"x":"{}"}}}}"#, "x".repeat(context));
        parse(Call::Batch, body.as_bytes(), 10_000).map(|understood| understood.items.len())
    };
    assert_eq!(batch(2000, 1000), Ok(1000));
    let error = batch(65_536, 1).expect_err("it is as large as no event may be").to_string();
    assert_eq!(error, "context of the batch is 65 544 bytes, limit is 65 536");
    let error = batch(2000, 10_000).expect_err("20 MB").to_string();
    assert_eq!(error, "context of the batch, for 10 000 events, is 20 080 000 bytes, limit is 16 777 216");
}
