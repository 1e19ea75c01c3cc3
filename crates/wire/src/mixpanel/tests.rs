//! The doc's claims, one by one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{Refused, Tally};

const FORM: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];

fn understood(target: &str, body: &[u8]) -> Understood {
    with_request(Method::Post, target, FORM, body, |request| {
        Mixpanel.parse(request).unwrap_or_else(|error| panic!("{error}: {target}"))
    })
}

fn check(target: &str, item: &str) -> ReceivedEvent {
    match understood(target, item.as_bytes()).items.pop() {
        Some(Item::Event { event, .. }) => event,
        other => panic!("{other:?}: {item}"),
    }
}

fn track(event: &str, properties: &str) -> ReceivedEvent {
    check("/track", &format!(r#"{{"event":"{event}","properties":{{"token":"t"{properties}}}}}"#))
}

fn device(id: &str) -> Option<Visitor> {
    Some(Visitor::Device(id.into()))
}

#[test]
fn what_is_sent_is_understood_in_every_wrapping() {
    // With both characters that a form changes in base64: `+` and `/`.
    let json = r#"{"event":"ü~~>>??","properties":{"token":"t"}}"#;
    let base64 = STANDARD.encode(json);
    assert!(base64.contains('+') && base64.contains('/'), "{base64}");
    let escaped: String = form_urlencoded::byte_serialize(base64.as_bytes()).collect();
    let plain: String = form_urlencoded::byte_serialize(json.as_bytes()).collect();
    for body in [
        json.to_owned(),
        format!("[{json}]"),
        format!("data={base64}"),
        format!("verbose=1&data={escaped}&ip=0"),
        format!("data={}", base64.trim_end_matches('=')),
        format!("data={}", base64.replace('+', "-").replace('/', "_")),
        format!("data={plain}"),
    ] {
        assert_eq!(check("/track", &body).name, "ü~~>>??", "{body}");
    }
    assert_eq!(check(&format!("/track?data={escaped}"), "").name, "ü~~>>??");
}

#[test]
fn half_an_emoji_each_in_utf8_is_one_character() {
    let whole = |bytes: &[u8]| String::from_utf8(with_whole_surrogates(bytes)).expect("UTF-8");
    assert_eq!(whole(b"a \xed\xa0\xbd\xed\xba\x80 z"), "a 🚀 z");
    assert_eq!(whole("ü🚀".as_bytes()), "ü🚀");
    // Half alone stays what it is, and costs one character later.
    assert_eq!(with_whole_surrogates(b"\xed\xa0\xbdx"), b"\xed\xa0\xbdx");
}

#[test]
fn a_line_is_an_item_where_the_import_says_so() {
    let headers = [("content-type", "application/x-ndjson")];
    let body = b"{\"event\":\"a\",\"properties\":{}}\n\n{\"event\":\"b\",\"properties\":{}}\n";
    let items = with_request(Method::Post, "/import", &headers, body, |request| Mixpanel.parse(request));
    assert_eq!(items.expect("understood").items.len(), 2);
}

#[test]
fn a_bad_item_stands_in_its_place_and_spoils_no_other() {
    let mut items = understood("/track", br#"[{"event":"a","properties":{}},7,{"properties":{}}]"#).items;
    assert!(matches!(items.pop(), Some(Item::Rejected { reason, .. }) if reason.code() == "missing_field"));
    assert!(matches!(items.pop(), Some(Item::Rejected { content, .. }) if content == b"7"));
    assert!(matches!(items.pop(), Some(Item::Event { event, .. }) if event.name == "a"));
}

#[test]
fn more_items_than_allowed_refuse_the_request() {
    let body = format!("[0{}]", ",0".repeat(1000));
    let error = with_request(Method::Post, "/track", &[], body.as_bytes(), |request| Mixpanel.parse(request));
    assert_eq!(error.expect_err("refused").to_string(), "request is 1 001 items, limit is 1 000");
}

#[test]
fn the_first_token_is_the_requests_and_another_is_its_items() {
    let body = br#"[{"event":"a","properties":{}},{"event":"b","properties":{"token":"t1"}},
        {"event":"c","properties":{"token":"t2"}},{"event":"d","properties":{"token":"t1"}}]"#;
    let understood = understood("/track", body);
    assert_eq!((understood.write_key.as_deref(), understood.own_keys), (Some("t1"), vec![(2, "t2".to_owned())]));
}

#[test]
fn a_secret_is_no_write_key_while_there_is_a_token() {
    let secret = [("authorization", "Basic czo=")];
    let key = |body: &[u8]| {
        with_request(Method::Post, "/import", &secret, body, |request| {
            assert_eq!(Mixpanel.write_key(&request.head), None);
            Mixpanel.parse(request).expect("understood").write_key
        })
    };
    assert_eq!(key(br#"[{"event":"a","properties":{"token":"t"}}]"#).as_deref(), Some("t"));
    assert_eq!(key(br#"[{"event":"a","properties":{}}]"#).as_deref(), Some("s"));
}

#[test]
fn the_user_is_whoever_is_not_the_browser() {
    let ids = |properties: &str| {
        let event = track("e", properties);
        (event.visitor, event.user_id)
    };
    let user = Some("u".to_owned());
    assert_eq!(ids(r#","distinct_id":"$device:d","$device_id":"d""#), (device("d"), None));
    assert_eq!(ids(r#","distinct_id":"$device:d""#), (device("d"), None));
    assert_eq!(ids(r#","distinct_id":"d","$device_id":"d""#), (device("d"), None));
    assert_eq!(ids(r#","distinct_id":"u","$device_id":"d","$user_id":"u""#), (device("d"), user.clone()));
    assert_eq!(ids(r#","distinct_id":"u""#), (Some(Visitor::User("u".into())), user.clone()));
    assert_eq!(ids(r#","$user_id":"u","$device_id":"d""#), (device("d"), user));
    assert_eq!(ids(""), (None, None));
}

#[test]
fn identify_alias_and_merge_join_two_ids() {
    let join = |event: &str, properties: &str| {
        let event = track(event, properties);
        (event.kind, event.visitor, event.user_id.expect("a user"), event.other_id)
    };
    let (identify, alias) = (EventKind::Identify, EventKind::Alias);
    let properties = r#","distinct_id":"u","$anon_distinct_id":"$device:d""#;
    assert_eq!(join("$identify", properties), (identify, device("d"), "u".into(), None));
    assert_eq!(track("$identify", &format!(r#"{properties},"$device_id":"d""#)).properties, "{}");
    let other = Some("old".to_owned());
    let properties = r#","distinct_id":"old","alias":"u","$device_id":"d""#;
    assert_eq!(join("$create_alias", properties), (alias, device("d"), "u".into(), other.clone()));
    let properties = r#","distinct_id":"$device:d","alias":"u""#;
    assert_eq!(join("$create_alias", properties), (alias, device("d"), "u".into(), Some("d".into())));
    let user = Some(Visitor::User("u".into()));
    for ids in [r#"["u","old"]"#, r#"["$device:old","u"]"#, r#"["u","$device:old"]"#] {
        let properties = format!(r#","$distinct_ids":{ids}"#);
        assert_eq!(join("$merge", &properties), (alias, user.clone(), "u".into(), other.clone()), "{ids}");
    }
}

#[test]
fn an_insert_id_counts_beside_user_and_name_only() {
    let id = |event: &str, distinct: &str| track(event, &format!(r#","$insert_id":"i","distinct_id":"{distinct}""#)).id;
    assert_eq!(id("a", "u"), id("a", "u"));
    assert_ne!(id("a", "u"), id("b", "u"));
    assert_ne!(id("a", "u"), id("a", "v"));
    assert_eq!(track("e", "").id, None);
}

#[test]
fn times_are_seconds_or_milliseconds_and_the_query_says_when_it_was_sent() {
    for time in ["1795360974.925", "1795360974925", r#""1795360974.925""#] {
        assert_eq!(track("e", &format!(r#","time":{time}"#)).client_time_ms, Some(1_795_360_974_925));
    }
    let event = check("/engage?_=1795360974940", r#"{"$distinct_id":"u","$time":1795360974,"$set":{}}"#);
    assert_eq!((event.client_time_ms, event.sent_at_ms), (Some(1_795_360_974_000), Some(1_795_360_974_940)));
}

#[test]
fn a_page_view_fills_the_context_and_keeps_its_own_name() {
    let event = track(
        "$mp_web_page_view",
        r#","$current_url":"U","current_page_title":"T","$referrer":"R","$screen_width":1280,"$screen_height":720,
        "mp_lib":"web","$lib_version":"2","utm_source":"s","$os":"Linux","nothing":null"#,
    );
    let context = &event.context;
    assert_eq!((event.kind, &*context.url, &*context.title, &*context.referrer), (EventKind::Page, "U", "T", "R"));
    assert_eq!((context.screen, &*context.library, &*context.library_version), ((1280, 720), "web", "2"));
    // The campaign that the browser remembers from an earlier landing is no campaign of this page.
    assert_eq!(context.campaign.source, "");
    let left = r#"{"$event_name":"$mp_web_page_view","utm_source":"s","$os":"Linux","nothing":null}"#;
    assert_eq!(event.properties, left);
    assert_eq!(track("e", r#","utm_source":"s""#).context.campaign.source, "s");
}

#[test]
fn what_is_set_becomes_traits_and_other_operations_keep_their_names() {
    let event = check(
        "/engage",
        r#"{"$token":"t","$distinct_id":"u","$device_id":"d","$ip":"192.0.2.7","$ignore_time":true,"$set":{"a":1,"b":null},
        "$add":{"logins":9007199254740993},"$unset":["x"],"$delete":""}"#,
    );
    assert_eq!((event.kind, event.visitor, event.user_id.as_deref()), (EventKind::Identify, device("d"), Some("u")));
    let traits = r#"{"a":1,"b":null,"$add":{"logins":9007199254740993},"$unset":["x"],"$delete":""}"#;
    assert_eq!(event.traits, traits);
    assert_eq!((&*event.properties, &*event.context.ip), (r#"{"$context":{"$ignore_time":true}}"#, "192.0.2.7"));
    assert_eq!(check("/engage", r#"{"$distinct_id":"u","$ip":0,"$set":{}}"#).context.ip, "");
}

#[test]
fn a_group_is_named_by_its_id_and_belongs_to_nobody() {
    let event = check("/groups", r#"{"$token":"t","$group_key":"company","$group_id":"g","$set":{"seats":12}}"#);
    assert_eq!((event.kind, event.other_id.as_deref(), event.visitor), (EventKind::Group, Some("g"), None));
    assert_eq!((&*event.traits, &*event.properties), (r#"{"seats":12}"#, r#"{"$group_key":"company"}"#));
}

#[test]
fn a_charge_and_a_revenue_property_are_revenue() {
    let micros = |event: &ReceivedEvent| event.revenue.as_ref().map(|revenue| revenue.micros);
    let charge = r#"{"$distinct_id":"u","$append":{"$transactions":{"$amount":59.97,"$time":"x"}}}"#;
    assert_eq!(micros(&check("/engage", charge)), Some(59_970_000));
    assert_eq!(micros(&check("/engage", r#"{"$distinct_id":"u","$append":{"tags":"x"}}"#)), None);
    assert_eq!(micros(&track("Purchase", r#","revenue":46.48,"currency":"EUR""#)), Some(46_480_000));
}

#[test]
fn openpanels_track_is_left_to_it() {
    let recognised = |headers: &[(&str, &str)], target: &str, body: &str| {
        with_request(Method::Post, target, headers, body.as_bytes(), |request| Mixpanel.recognises(request))
    };
    for body in [r#"{"event":"a","properties":{}}"#, "[]", "data=e30", "ip=1&data=e30"] {
        assert!(recognised(&[], "/track", body), "{body}");
        assert!(!recognised(&[("openpanel-client-id", "c")], "/track", body), "{body}");
    }
    assert!(recognised(&[], "/track?data=e30", ""));
    for body in [r#"{"type":"track","payload":{"name":"a"}}"#, "", "{", r#"{"type":"track"} x"#, "data"] {
        assert!(!recognised(&[], "/track", body), "{body}");
    }
}

/// The answer as status and body.
fn answer(target: &str, headers: &[(&str, &str)], verdict: &Verdict<'_>) -> (u16, String) {
    let answer = with_request(Method::Post, target, headers, b"", |request| Mixpanel.answer(request, verdict));
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

#[test]
fn success_is_said_in_the_words_that_were_asked_for() {
    let tally = Tally { accepted: 2, ..Tally::default() };
    let taken = Verdict::Taken(&tally);
    let words = (200, r#"{"status":1,"error":null,"code":200,"num_records_imported":2}"#.to_owned());
    assert_eq!(answer("/track?verbose=1", &[], &taken), words);
    assert_eq!(answer("/track", &[("user-agent", "python-requests/2.32")], &taken), words);
    for target in ["/track", "/track?verbose=0", "/engage?ip=1"] {
        assert_eq!(answer(target, FORM, &taken), (200, "1".to_owned()), "{target}");
    }
    let json = [("content-type", "application/json")];
    let documented = r#"{"code":200,"num_records_imported":2,"status":"OK"}"#.to_owned();
    assert_eq!(answer("/import?strict=1", &json, &taken), (200, documented));
    assert!(answer("/track?img=1", &[], &taken).1.starts_with("GIF89a"));
}

#[test]
fn what_was_rejected_is_named_and_not_asked_for_again() {
    let reason = Rejection::Malformed { what: "item".into(), expected: "a JSON object" };
    let tally = Tally { accepted: 1, rejected: vec![(1, reason)], ..Tally::default() };
    let taken = Verdict::Taken(&tally);
    let failed = r#""failed_records":[{"index":1,"code":"malformed","message":"item is not a JSON object"}]"#;
    let verbose = format!(r#"{{"status":1,"error":null,"code":200,"num_records_imported":1,{failed}}}"#);
    assert_eq!(answer("/track?verbose=1", &[], &taken), (200, verbose));
    assert_eq!(answer("/track", &[], &taken), (200, "1".to_owned()));
    let json = [("content-type", "application/json")];
    let (status, body) = answer("/import?strict=1", &json, &taken);
    assert!(status == 400 && body.ends_with(&format!(r#""status":"Bad Request",{failed}}}"#)), "{body}");
    assert_eq!(answer("/import", &json, &taken).0, 200);
}

#[test]
fn a_refusal_keeps_its_status_since_browsers_go_by_it() {
    for (status, retry_after_seconds) in [(401, None), (413, None), (429, Some(1)), (503, Some(1))] {
        let refused = Refused { status, code: "x", message: "no \"key\"".into(), retry_after_seconds };
        let refused = Verdict::Refused(&refused);
        let words = r#"{"status":0,"error":"no \"key\""}"#.to_owned();
        assert_eq!(answer("/track?verbose=1", &[], &refused), (status, words));
        assert_eq!(answer("/track", &[], &refused), (status, "0".to_owned()));
        let json = [("content-type", "application/json")];
        let words = format!(r#"{{"code":{status},"error":"no \"key\"","status":"refused"}}"#);
        assert_eq!(answer("/import", &json, &refused), (status, words));
    }
}

#[test]
fn words_that_json_lacks_become_null() {
    assert_eq!(track("e", r#","a":NaN,"b":"NaN""#).properties, r#"{"a":null,"b":"NaN"}"#);
    assert_eq!(track("e", r#","a":-Infinity"#).properties, r#"{"a":null}"#);
}

#[test]
fn garbage_is_refused_or_rejected_without_panic() {
    for body in ["data=%", "data=!!!", "data=W3s=", "data=[", "data={", "[[[[", "{\"event\":", "data=7Q==", "data", "="]
    {
        with_request(Method::Post, "/track", &[], body.as_bytes(), |request| drop(Mixpanel.parse(request)));
    }
    let deep = "[".repeat(100_000);
    with_request(Method::Post, "/track", &[], deep.as_bytes(), |request| drop(Mixpanel.parse(request)));
}
