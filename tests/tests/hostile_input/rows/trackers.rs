//! What each tracker's own form makes possible: its places for keys, its base64, its lines, its lists.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::row::{Row, get, post, post_as};

/// Bytes that many events of one request would share.
const SHARED_BYTES: usize = 60_000;

pub(super) fn rows() -> Vec<Row> {
    [snowplow(), posthog(), amplitude(), mixpanel(), google(), matomo(), countly(), others(), own()]
        .into_iter()
        .flatten()
        .collect()
}

fn listed(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

fn deep(depth: usize) -> String {
    r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth)
}

fn snowplow() -> Vec<Row> {
    let payload = |data: &str| {
        format!(r#"{{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":{data}}}"#)
    };
    let tp2 = |name: &str, data: &str| {
        Row::new(format!("Snowplow: {name}"), post("/com.snowplowanalytics.snowplow/tp2", "", payload(data)))
    };
    let pixel = |name: &str, query: &str| Row::new(format!("Snowplow: {name}"), get(&format!("/i?aid=wk&{query}"), ""));
    let event = |members: &str| format!(r#"[{{"e":"pv","p":"web","tv":"js-3","duid":"d",{members}}}]"#);
    vec![
        tp2("data that are text", "\"x\"").says(400, "").rejects("malformed", "`data` is not a list of events"),
        tp2("data that are numbers", "[1,null,true]")
            .says(400, "item of the payload is not a JSON object")
            .rejects("malformed", "item of the payload is not a JSON object"),
        tp2("100 000 events", &format!("[{}]", listed(100_000, |_| "1".into())))
            .says(400, "payload is 10 001 events, limit is 10 000")
            .rejects("too_large", "payload is 10 001 events"),
        tp2("contexts that are no base64", &event(r#""cx":"!!!""#)).says(200, "").keeps("page"),
        tp2("contexts of base64 that are no JSON", &event(&format!(r#""cx":"{}""#, STANDARD.encode([0xff; 100]))))
            .says(200, "")
            .keeps("page"),
        tp2("contexts, 1000 deep", &event(&format!(r#""cx":"{}""#, STANDARD.encode(deep(1000)))))
            .says(200, "")
            .keeps("page"),
        tp2("properties in both forms", &event(r#""ue_px":"!!!","ue_pr":"{}""#)).says(200, "").keeps("page"),
        tp2("an unstructured event of nothing", r#"[{"e":"ue","p":"web","duid":"d","ue_px":"AAAA"}]"#)
            .bad("malformed", "`ue_pr` or `ue_px` is not a self-describing event"),
        pixel("a pixel of garbage", "e=ue&duid=d&ue_px=%ff%fe%00").says(200, "GIF").rejects("malformed", ""),
        pixel(
            "a pixel of 9000 parameters",
            &format!("e=pv&duid=d&{}", (0..9000).map(|n| format!("{n}=&")).collect::<String>()),
        )
        .says(200, "GIF")
        .rejects("too_large", ""),
    ]
}

fn posthog() -> Vec<Row> {
    let to = |name: &str, path: &str, body: String| Row::new(format!("PostHog: {name}"), post_as("", path, "", body));
    let event = |name: &str| format!(r#"{{"event":"{name}","properties":{{"distinct_id":"d","token":"wk"}}}}"#);
    vec![
        to("base64 that is none", "/e", "data=!!!!".into()).says(400, ""),
        to("base64 of base64", "/e", format!("data={}", STANDARD.encode(STANDARD.encode(event("twice")))))
            .says(400, ""),
        to("a form of 100 000 fields", "/e", "a=b&".repeat(100_000)).says(400, ""),
        to("a form whose data come twice", "/e", format!("data=x&data={}", STANDARD.encode(event("form"))))
            .says(400, ""),
        to(
            "10 000 events with a key of their own each",
            "/batch",
            format!(r#"{{"batch":[{}]}}"#, listed(10_000, |n| event("keys").replace("wk", &format!("k{n}")))),
        )
        .says(401, "write key is not known"),
        to(
            "events of two projects and of nobody",
            "/batch",
            format!(
                r#"{{"batch":[{},{},{}]}}"#,
                event("one"),
                event("two").replace("wk", "wk-blog"),
                event("none").replace("wk", "nobody")
            ),
        )
        .says(200, "")
        .keeps("one")
        .keeps("two"),
        to("a batch that is deep", "/batch", format!(r#"{{"api_key":"wk","batch":[{}]}}"#, deep(100_000)))
            .says(200, "`event` is missing")
            .rejects("missing_field", "`event` is missing"),
        to("lists in lists", "/e", "[".repeat(100_000)).says(400, ""),
        to(
            "settings of a million flags",
            "/flags",
            format!(r#"{{"token":"wk","x":[{}]}}"#, listed(100_000, |_| "1".into())),
        )
        .says(200, ""),
    ]
}

fn amplitude() -> Vec<Row> {
    let to = |name: &str, body: String| Row::new(format!("Amplitude: {name}"), post_as("", "/2/httpapi", "", body));
    vec![
        to("events that are text", r#"{"api_key":"wk","events":"x"}"#.into()).says(400, ""),
        to("no events", r#"{"api_key":"wk"}"#.into()).says(400, ""),
        to("100 000 events", format!(r#"{{"api_key":"wk","events":[{}]}}"#, listed(100_000, |_| "1".into()))).says(413, ""),
        to("properties, 1000 deep", format!(r#"{{"api_key":"wk","events":[{{"event_type":"deep","user_id":"u-hostile","event_properties":{}}}]}}"#, deep(1000)))
            .says(200, "nesting of the properties of event `deep` is 1 000 levels").rejects("too_large", "nesting"),
        to("times and revenues of no sense", r#"{"api_key":"wk","events":[{"event_type":"amplitude","user_id":"u-hostile","time":1e999,"revenue":-1e999,"price":"x","quantity":1e400,"session_id":-1e99}]}"#.into())
            .says(200, "")
            .keeps("amplitude"),
    ]
}

fn mixpanel() -> Vec<Row> {
    let to = |name: &str, path: &str, body: String| Row::new(format!("Mixpanel: {name}"), post_as("", path, "", body));
    let event = |name: &str| format!(r#"{{"event":"{name}","properties":{{"token":"wk","distinct_id":"d"}}}}"#);
    let form = |json: &str| format!("data={}", STANDARD.encode(json));
    vec![
        to("base64 that is none", "/track", "data=!!!".into()).says(400, ""),
        to("base64 that is cut", "/track", form(&event("cut"))[..40].into()).says(401, "0"),
        to("a form of 100 000 fields", "/track", "data=&".repeat(100_000)).says(400, ""),
        to("100 000 events", "/track", format!("[{}]", listed(100_000, |_| "1".into()))).says(413, ""),
        to("a profile that is no object", "/engage", r#"[{"$token":"wk","$distinct_id":"d","$set":[1]}]"#.into())
            .says(200, "1")
            .keeps("identify"),
        Row::new("Mixpanel: a pixel of garbage", get("/track?data=%00%ff&img=1", ""))
            .says(200, "x-trackway-rejected: `data` is not JSON or base64 of it"),
    ]
}

fn google() -> Vec<Row> {
    let shared = "x".repeat(SHARED_BYTES);
    let members = listed(600, |n| format!(r#""u{n}":{{"value":"{}"}}"#, "x".repeat(80)));
    let mp = |name: &str, body: String| {
        Row::new(format!("GA4: {name}"), post_as("", "/mp/collect?measurement_id=wk", "", body))
    };
    let web = |name: &str, query: &str, body: &str| {
        Row::new(format!("GA4: {name}"), post_as("", &format!("/g/collect?v=2&tid=wk&cid=1.2&{query}"), "", body))
    };
    let ua = |name: &str, path: &str, body: &str| {
        Row::new(format!("Universal Analytics: {name}"), post_as("", path, "", body))
    };
    vec![
        mp("events that are text", r#"{"client_id":"1.2","events":"x"}"#.into())
            .bad("malformed", "`events` is not a list of events"),
        mp(
            "properties that 10 000 events would share",
            format!(
                r#"{{"client_id":"1.2","user_properties":{{{members}}},"events":[{}]}}"#,
                listed(10_000, |_| r#"{"name":"shared"}"#.into())
            ),
        )
        .too_large("what the events share, times their number, is"),
        mp(
            "parameters, 1000 deep",
            format!(r#"{{"client_id":"1.2","events":[{{"name":"deep","params":{}}}]}}"#, deep(1000)),
        )
        .says(204, "")
        .rejects("too_large", "nesting"),
        web("a query that 10 000 lines would share", &format!("ep.x={shared}"), &"en=shared\r\n".repeat(10_000))
            .too_large("what the events share, times their number, is 600 240 000 bytes"),
        web("20 000 lines", "", &"en=lines\r\n".repeat(20_000))
            .too_large("body is 10 001 lines at least, limit is 10 000"),
        web("lines of percent signs", "", "en=percent&ep.%=%&epn.x=%zz\r\n").says(204, "").keeps("percent"),
        ua("20 000 lines", "/batch", &"v=1&tid=wk&cid=1&t=pageview\n".repeat(20_000))
            .says(200, "x-trackway-rejected: body is 10 001 lines at least, limit is 10 000"),
        ua("garbage", "/collect", "\0\u{1}\u{2}%%%&&&==").says(200, "x-trackway-rejected: write key is missing"),
    ]
}

fn matomo() -> Vec<Row> {
    let to =
        |name: &str, body: String| Row::new(format!("Matomo: {name}"), post_as("", "/matomo.php?idsite=wk", "", body));
    vec![
        to("100 000 requests", format!(r#"{{"requests":[{}]}}"#, listed(100_000, |_| "\"?a\"".into())))
            .says(200, "x-trackway-rejected: request is 10 001 hits, limit is 10 000")
            .rejects("too_large", "request is 10 001 hits"),
        to("requests that are objects", r#"{"requests":[{"a":{"b":1}},1,null,[]]}"#.into())
            .says(200, "x-trackway-rejected: `url` is missing")
            .rejects("missing_field", "`url` is missing"),
        to("requests that are text", r#"{"requests":"x"}"#.into())
            .says(200, "x-trackway-rejected: `requests` is not a list of hits")
            .rejects("malformed", "`requests` is not a list of hits"),
        to(
            "a request of 100 kB",
            format!(r#"{{"requests":["?rec=1&_id=0123456789abcdef&url={}"]}}"#, "x".repeat(100_000)),
        )
        .says(200, "x-trackway-rejected: hit is 100 031 bytes, limit is 65 536")
        .rejects("too_large", "hit is 100 031 bytes"),
        to(
            "custom variables of no sense",
            r#"{"requests":["?rec=1&_id=0123456789abcdef&url=http://x&_cvar={{{{&cvar=[[&ec_items=%00"]}"#.into(),
        )
        .says(200, "")
        .keeps("page"),
    ]
}

fn countly() -> Vec<Row> {
    let to = |name: &str, path: &str, body: String| Row::new(format!("Countly: {name}"), post_as("", path, "", body));
    vec![
        to("events that are no list", "/i?app_key=wk&device_id=d", "events=x".into())
            .says(200, "`events` is not a list of events")
            .rejects("malformed", "`events` is not a list of events"),
        to("100 000 events", "/i?app_key=wk&device_id=d", format!("events=[{}]", listed(100_000, |_| "1".into())))
            .says(200, "request is 10 001 events, limit is 10 000")
            .rejects("too_large", "request is 10 001 events"),
        to(
            "100 000 requests",
            "/i/bulk?app_key=wk&device_id=d",
            format!("requests=[{}]", listed(100_000, |_| "1".into())),
        )
        .says(200, "bulk is 10 001 requests, limit is 10 000")
        .rejects("too_large", "bulk is 10 001 requests"),
        to(
            "a device's id that 10 000 events would share",
            "/i",
            format!(
                "app_key=wk&device_id={}&events=[{}]",
                "d".repeat(SHARED_BYTES),
                listed(5000, |_| r#"{"key":"shared"}"#.into())
            ),
        )
        .says(200, "what the request says of its sender is 60 009 bytes, limit is 8 192")
        .rejects("too_large", "what the request says of its sender"),
        to("metrics of no sense", "/i?app_key=wk&device_id=d", "begin_session=1&metrics={{{{".into())
            .says(200, "Success")
            .keeps("begin_session"),
    ]
}

fn others() -> Vec<Row> {
    let to = |name: &str, path: &str, body: String| Row::new(name, post(path, "", body));
    let domains = listed(1000, |n| format!("d{n}"));
    vec![
        to(
            "Plausible: a thousand domains",
            "/api/event",
            format!(r#"{{"n":"domains","u":"http://x","d":"{domains}"}}"#),
        )
        .too_large("domain is 1 000 names, limit is 10"),
        to("Plausible: a list", "/api/event", "[]".into()).says(400, "").rejects("malformed", ""),
        to("Umami: a type of nobody", "/api/send", r#"{"type":"evil","payload":{"website":"wk"}}"#.into())
            .says(400, "")
            .rejects("malformed", ""),
        to("Umami: a payload that is text", "/api/send", r#"{"type":"event","payload":"x"}"#.into())
            .says(400, "")
            .rejects("malformed", ""),
        to("OpenPanel: a type of nobody", "/api/track", r#"{"type":"evil","payload":{}}"#.into())
            .says(200, "deviceId")
            .rejects("malformed", ""),
        to("Jitsu: a path that goes on", "/api/s/s2s/../../v1/track", "{}".into()).says(404, "is not known"),
        to("Jitsu: deep", "/api/s/track", deep(100_000)).says(400, "").rejects("missing_field", ""),
        Row::new(
            "RudderStack: settings for 10 kB of a key",
            get(&format!("/sourceConfig/?writeKey={}", "k".repeat(10_000)), ""),
        )
        .says(200, ""),
    ]
}

fn own() -> Vec<Row> {
    let to = |name: &str, headers: &str, body: Vec<u8>| {
        Row::new(format!("our own: {name}"), post("/v1/events", headers, body))
    };
    let protobuf = "content-type: application/x-protobuf\r\n";
    vec![
        to("protobuf of garbage", protobuf, vec![0xff; 1000]).says(400, "").rejects("malformed", ""),
        to(
            "protobuf of a length above 2^63",
            protobuf,
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        )
        .says(400, "")
        .rejects("malformed", ""),
        to("protobuf of 500 000 empty events", protobuf, [0x1a, 0].repeat(500_000))
            .says(413, "")
            .rejects("too_large", ""),
        to("protobuf of groups in groups", protobuf, vec![0x0b; 100_000]).says(400, "").rejects("malformed", ""),
        to(
            "JSON of 100 000 numbers",
            "",
            format!(r#"{{"events":[{}]}}"#, listed(100_000, |_| "1".into())).into_bytes(),
        )
        .says(413, "")
        .rejects("too_large", ""),
    ]
}
