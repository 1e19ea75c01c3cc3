use serde_json::{Value, json};
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_domain::revenue::Revenue;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{self, Refused, Tally};

const TP2: &str = "/com.snowplowanalytics.snowplow/tp2";
const FRESH: &str = "00000000-0000-4000-8000-000000000001";

fn payload(items: &Value) -> Vec<u8> {
    let schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
    json!({"schema": schema, "data": items}).to_string().into_bytes()
}

fn post(items: &Value, headers: &[(&str, &str)]) -> Understood {
    with_request(Method::Post, TP2, headers, &payload(items), |request| Snowplow.parse(request)).expect("a payload")
}

fn event(item: Item) -> ReceivedEvent {
    match item {
        Item::Event { event, .. } => event,
        other => panic!("{other:?}"),
    }
}

/// The one event of a POST.
fn check(item: &Value) -> ReceivedEvent {
    event(post(&json!([item]), &[]).items.pop().expect("an item"))
}

fn refusal(item: &Value) -> String {
    match post(&json!([item]), &[]).items.pop() {
        Some(Item::Rejected { reason, content }) => {
            assert_eq!(content, item.to_string().into_bytes());
            reason.to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn properties(event: &ReceivedEvent) -> Value {
    let mut properties: Value = serde_json::from_str(&event.properties).expect("JSON");
    properties.as_object_mut().expect("an object").remove("$context");
    properties
}

fn answer(method: Method, headers: &[(&str, &str)], verdict: &Verdict<'_>) -> Answer {
    let target = if method == Method::Get { "/i?e=pv" } else { TP2 };
    with_request(method, target, headers, b"", |request| Snowplow.answer(request, verdict))
}

fn refused(status: u16, retry_after_seconds: Option<u32>) -> Refused {
    Refused { status, code: "x", message: "m".into(), retry_after_seconds }
}

fn self_describing(name: &str, data: &str) -> String {
    format!(
        r#"{{"schema":"iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
            "data":{{"schema":"iglu:com.acme/{name}/jsonschema/1-0-0","data":{data}}}}}"#
    )
}

#[test]
fn self_describing_data_reads_from_every_encoding() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    // Chosen so that each alphabet uses the characters that only it has.
    let text = self_describing("signup", r#"{"big":9007199254740993,"price":129.90,"a":"~~~???>>>ÿÿÿ","none":null}"#);
    let expected = r#"{"big":9007199254740993,"price":129.90,"a":"~~~???>>>ÿÿÿ","none":null,"$schema":"iglu:com.acme/signup/jsonschema/1-0-0","#;
    let standard = STANDARD.encode(&text);
    assert!(standard.contains('+') && standard.contains('/') && standard.ends_with('='), "{standard}");
    for (name, value) in [
        ("ue_pr", text.clone()),
        ("ue_px", URL_SAFE.encode(&text)),
        ("ue_px", URL_SAFE_NO_PAD.encode(&text)),
        ("ue_px", standard.replace('+', " ")),
        ("ue_px", standard),
    ] {
        let event = check(&json!({"e": "ue", "eid": "1", "duid": "d", name: value}));
        assert_eq!((event.kind, &*event.name), (EventKind::Track, "signup"));
        assert!(event.properties.starts_with(expected), "{value}: {}", event.properties);
        assert!(!event.properties.contains("ue_p"), "{}", event.properties);
    }
}

#[test]
fn a_self_describing_event_that_is_none_is_rejected_alone() {
    let good = json!({"e": "pv", "duid": "d", "eid": "1"});
    let items = json!([{"e": "ue", "ue_px": "?"}, {"e": "ue", "ue_pr": "{\"data\":{\"schema\":\"x\"}}"}, 7, {}, good]);
    let items = post(&items, &[]).items;
    let reasons: Vec<_> = items.iter().map(|item| matches!(item, Item::Rejected { .. })).collect();
    assert_eq!(reasons, [true, true, true, true, false]);
    assert_eq!(refusal(&json!({"e": "ue"})), "`ue_pr` or `ue_px` is not a self-describing event");
    assert!(refusal(&json!({"eid": "1"})).starts_with("`e` is missing. Say what kind"));
}

#[test]
fn a_structured_event_is_named_by_its_action() {
    let event = check(&json!({"e": "se", "se_ca": "c", "se_ac": "a", "se_la": "7", "se_pr": "p", "se_va": "19.90"}));
    assert_eq!(event.name, "a");
    assert!(event.properties.starts_with(r#"{"category":"c","label":"7","property":"p","value":19.90,"#));
}

#[test]
fn old_orders_pings_and_screens_have_names_of_their_own() {
    let order = check(&json!({"e": "tr", "duid": "d", "tr_id": "7", "tr_tt": "12.50", "tr_cu": "eur"}));
    assert_eq!((&*order.name, &order.revenue), ("transaction", &Revenue::parse("12.5", "EUR")));
    assert_eq!(properties(&order), json!({"tr_id": "7", "tr_tt": 12.5, "tr_cu": "eur"}));
    let item = check(&json!({"e": "ti", "duid": "d", "ti_id": "o1", "ti_qu": "2"}));
    assert_eq!((&*item.name, properties(&item)), ("transaction_item", json!({"ti_id": "o1", "ti_qu": 2})));
    let ping = check(&json!({"e": "pp", "duid": "d", "pp_mix": "0", "pp_may": "300"}));
    assert_eq!((ping.kind, &*ping.name), (EventKind::Track, "page_ping"));
    assert_eq!(properties(&ping), json!({"pp_mix": 0, "pp_may": 300}));
    let screen = self_describing("screen_view", r#"{"name":"Cart"}"#);
    let foreign = check(&json!({"e": "ue", "duid": "d", "ue_pr": screen}));
    assert_eq!(foreign.kind, EventKind::Track, "anybody may call an event so");
    let screen = screen.replace("com.acme", "com.snowplowanalytics.mobile");
    let screen = check(&json!({"e": "ue", "duid": "d", "ue_pr": screen}));
    assert_eq!((screen.kind, &*screen.context.page_name), (EventKind::Screen, "Cart"));
}

#[test]
fn a_refund_is_negative_and_entities_of_others_are_kept() {
    let shop = |name: &str| format!("iglu:com.snowplowanalytics.snowplow.ecommerce/{name}/jsonschema/1-0-0");
    let event = json!({"data": {"schema": shop("snowplow_ecommerce_action"), "data": {"type": "refund"}}});
    let own = json!({"schema": "iglu:com.acme/user/jsonschema/1-0-0", "data": {"tier": "gold"}});
    let refund = json!({"schema": shop("refund"), "data": {"refund_amount": 5.25, "currency": "EUR"}});
    let contexts = json!({"data": [own, refund, "broken"]});
    let event = check(&json!({"e": "ue", "duid": "d", "ue_pr": event.to_string(), "co": contexts.to_string()}));
    assert_eq!(event.revenue.as_ref().map(|revenue| revenue.micros), Some(-5_250_000));
    let all: Value = serde_json::from_str(&event.properties).expect("JSON");
    assert_eq!(all["refund"]["currency"], "EUR");
    assert_eq!(all["$context"]["contexts"], json!([own, "broken"]));
}

#[test]
fn a_true_time_is_not_corrected_by_the_clock_of_the_device() {
    let times = |item: &Value| {
        let event = check(item);
        (event.client_time_ms, event.sent_at_ms)
    };
    let device = json!({"e": "pv", "duid": "d", "dtm": "1795360762645", "stm": "1795360763000"});
    assert_eq!(times(&device), (Some(1_795_360_762_645), Some(1_795_360_763_000)));
    // The Node tracker leaves `dtm` out then.
    let true_time = json!({"e": "pv", "duid": "d", "ttm": "1795169472345", "stm": "1795360763000"});
    assert_eq!(times(&true_time), (Some(1_795_169_472_345), None));
    let both = check(&json!({"e": "pv", "duid": "d", "ttm": "1795169472345", "dtm": "1795360762645"}));
    assert!(both.properties.contains(r#""dtm":"1795360762645""#), "{}", both.properties);
}

#[test]
fn the_visitor_is_who_the_tracker_names_then_the_session_then_the_cookie() {
    let visitor = |mut item: Value, headers: &[(&str, &str)]| {
        item["e"] = "pv".into();
        event(post(&json!([item]), headers).items.pop().expect("an item")).visitor
    };
    let device = |id: &str| Some(Visitor::Device(id.into()));
    let session = json!({"data": [{"schema": "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
        "data": {"userId": "s", "eventIndex": 7}}]});
    let cookie = [("cookie", "a=b; sp=n-1")];
    assert_eq!(visitor(json!({"duid": "d", "co": session.to_string()}), &cookie), device("d"));
    assert_eq!(visitor(json!({"co": session.to_string()}), &cookie), device("s"));
    assert_eq!(visitor(json!({"uid": "u"}), &cookie), device("n-1"));
    assert_eq!(visitor(json!({"uid": "u"}), &[]), Some(Visitor::User("u".into())));
    assert_eq!(visitor(json!({}), &[]), None, "the gateway derives one");
    assert_eq!(visitor(json!({}), &[("cookie", "sp=n-1"), ("sp-anonymous", "*")]), None);
    assert_eq!(check(&json!({"e": "pv", "co": session.to_string()})).sequence, 7);
}

#[test]
fn the_network_id_is_set_renewed_and_kept_unless_the_visitor_is_anonymous() {
    let context = |headers: &[(&str, &str)]| {
        let understood = post(&json!([{"e": "pv", "duid": "d", "ip": "203.0.113.9"}]), headers);
        let event = event(understood.items.into_iter().next().expect("an item"));
        assert_eq!(event.context.ip, if understood.anonymous { "" } else { "203.0.113.9" });
        let properties: Value = serde_json::from_str(&event.properties).expect("JSON");
        (properties["$context"]["network_user_id"].clone(), understood.anonymous)
    };
    let set = |headers: &[(&str, &str)]| {
        let answer = answer(Method::Post, headers, &Verdict::Taken(&Tally::default()));
        answer.headers.into_iter().find(|(name, _)| *name == "set-cookie").map(|(_, value)| value)
    };
    let cookie = |id: &str| Some(format!("sp={id}; Max-Age=31536000; Path=/; SameSite=None; Secure"));
    assert_eq!((context(&[]), set(&[])), ((FRESH.into(), false), cookie(FRESH)));
    let known = [("cookie", "sp=n-1")];
    assert_eq!((context(&known), set(&known)), (("n-1".into(), false), cookie("n-1")));
    let hostile = [("cookie", "sp=x\" evil")];
    assert_eq!((context(&hostile), set(&hostile)), ((FRESH.into(), false), cookie(FRESH)));
    let anonymous = [("cookie", "sp=n-1"), ("sp-anonymous", "*")];
    assert_eq!((context(&anonymous), set(&anonymous)), ((Value::Null, true), None));
}

#[test]
fn a_server_may_name_the_network_id_and_every_tracker_names_itself() {
    let event = check(&json!({"e": "pv", "duid": "d", "tnuid": "n", "vid": "1", "tv": "node-js-4.0.0-beta.1"}));
    assert!(event.properties.contains(r#""$context":{"network_user_id":"n","vid":"1"}"#), "{}", event.properties);
    assert_eq!((&*event.context.library, &*event.context.library_version), ("snowplow-node-js", "4.0.0-beta.1"));
    assert_eq!(check(&json!({"e": "pv", "duid": "d", "tv": "own-"})).context.library_version, "own-");
}

#[test]
fn the_app_id_is_the_write_key_unless_the_head_names_one() {
    let items = json!([{"e": "pv"}, {"e": "pv", "aid": "a"}, {"e": "pv", "aid": "b"}, {"e": "pv", "aid": "a"}]);
    let understood = post(&items, &[]);
    assert_eq!((understood.write_key.as_deref(), understood.own_keys), (Some("a"), vec![(2, "b".to_owned())]));
    for item in understood.items {
        assert!(!event(item).properties.contains("aid"));
    }
    let understood = post(&items, &[("x-write-key", "k")]);
    assert_eq!((understood.write_key, understood.own_keys), (None, vec![]));
    assert!(event(understood.items.into_iter().nth(1).expect("an item")).properties.contains(r#""aid":"a""#));
    let key = |target, headers: &[_]| {
        with_request(Method::Get, target, headers, b"", |request| Snowplow.write_key(&request.head))
    };
    assert_eq!(key("/i?e=pv&aid=a&writeKey=w", &[]).as_deref(), Some("a"));
    assert_eq!(key("/i?e=pv&writeKey=w", &[]).as_deref(), Some("w"));
}

#[test]
fn a_path_of_the_site_is_told_from_others_and_by_its_schema() {
    let taker = |target: &str, body: &[u8]| {
        with_request(Method::Post, target, &[], body, |request| protocol::of(request).map(protocol::Protocol::name))
    };
    let body = payload(&json!([]));
    for (target, expected) in [
        (TP2, Some("snowplow")),
        ("/com.acme/track", Some("snowplow")),
        ("/acme/t/", Some("snowplow")),
        ("/v1/batch", Some("segment")),
        ("/v2/batch", None),
        ("/tracks", None),
        ("/a/b/c", None),
        ("//b", None),
    ] {
        assert_eq!(taker(target, &body), expected, "{target}");
    }
    let refusal = |target: &str, body: &[u8]| {
        with_request(Method::Post, target, &[], body, |request| Snowplow.parse(request))
            .expect_err("no payload")
            .to_string()
    };
    let expected = "body at a path of no known tracker is not Snowplow's payload_data";
    assert_eq!(refusal("/com.acme/track", br#"{"data":[]}"#), expected);
    assert_eq!(
        refusal("/com.acme/track", b"{\"data\":[{\"schema\":\"iglu:com.snowplowanalytics.snowplow/payload_data/\"}]}"),
        expected
    );
    assert_eq!(refusal(TP2, b"{"), "body at line 1 column 1 is not valid JSON");
    assert_eq!(refusal(TP2, b"[]"), "`data` is missing. Send a list of events in it");
    let many = payload(&Value::Array(vec![json!({"e": "pv"}); 1001]));
    assert_eq!(refusal(TP2, &many), "payload is 1 001 events, limit is 1 000");
}

#[test]
fn countlys_requests_to_the_pixel_are_not_taken_for_its_own() {
    let is_own = |target: &str| with_request(Method::Get, target, &[], b"", |request| Snowplow.recognises(request));
    assert!(is_own("/i?e=pv&tv=js-4&aid=a"));
    assert!(!is_own("/i?app_key=k&e=pv"));
    assert!(!is_own("/i?begin_session=1&app_key=k"));
    assert!(!is_own("/i"));
}

#[test]
fn pythons_not_a_number_costs_a_value_only() {
    let text = self_describing("x", r#"{"a":NaN,"b":1}"#);
    assert_eq!(properties(&check(&json!({"e": "ue", "ue_pr": text})))["b"], 1);
}

#[test]
fn a_get_without_an_event_id_is_known_by_its_query() {
    let item =
        |target| with_request(Method::Get, target, &[], b"", |request| Snowplow.parse(request)).expect("a query");
    match item("/i?e=pv&aid=a&url=https%3A%2F%2Fx.example%2F%3Fq%3Dh%25C3%25A4").items.pop() {
        Some(Item::Event { event, content }) => {
            assert_eq!(event.context.url, "https://x.example/?q=h%C3%A4");
            assert!(!event.properties.contains("aid"), "{}", event.properties);
            assert_eq!(content, b"e=pv&aid=a&url=https%3A%2F%2Fx.example%2F%3Fq%3Dh%25C3%25A4");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_may_be_taken_later_is_sent_again() {
    const FINAL: [u16; 5] = [400, 401, 403, 410, 422];
    let taken = Tally { accepted: 1, ..Tally::default() };
    let ok = answer(Method::Post, &[], &Verdict::Taken(&taken));
    assert_eq!((ok.status, &*ok.body), (200, &b"ok"[..]));
    let reason = || Rejection::Missing { field: "e", hint: "h" };
    let partly = Tally { accepted: 1, rejected: vec![(1, reason())], ..Tally::default() };
    assert_eq!(answer(Method::Post, &[], &Verdict::Taken(&partly)).status, 200);
    let wholly = Tally { rejected: vec![(0, reason())], ..Tally::default() };
    assert!(FINAL.contains(&answer(Method::Post, &[], &Verdict::Taken(&wholly)).status));
    assert_eq!(answer(Method::Get, &[], &Verdict::Taken(&wholly)).status, 200);
    for (status, answered) in [(400, 400), (401, 401), (403, 403), (404, 400), (413, 400), (422, 422)] {
        let never = refused(status, None);
        assert_eq!(answer(Method::Post, &[], &Verdict::Refused(&never)).status, answered);
        assert!(FINAL.contains(&answered));
        assert_eq!(answer(Method::Get, &[], &Verdict::Refused(&never)).status, 200);
    }
    for (method, status) in [(Method::Post, 429), (Method::Post, 503), (Method::Get, 503)] {
        let later = answer(method, &[], &Verdict::Refused(&refused(status, Some(1))));
        assert_eq!(later.status, status);
        assert!(later.headers.iter().all(|(name, _)| *name != "set-cookie"));
    }
}
