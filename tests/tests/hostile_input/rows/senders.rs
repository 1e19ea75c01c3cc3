//! Who says to be who: keys, origins, addresses, cookies, and headers that only our own tools should send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::row::{Row, event, event_with, get, post, post_as};

fn basic(credentials: impl AsRef<[u8]>) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(credentials))
}

pub(super) fn rows() -> Vec<Row> {
    [keys(), origins(), claims(), replays()].into_iter().flatten().collect()
}

fn keys() -> Vec<Row> {
    let with = |name: &str, headers: &str| Row::new(name, post_as(headers, "/v1/track", "", event("key")));
    let (missing, unknown) = ("write key is missing", "write key is not known");
    vec![
        with("no key", "").says(401, missing),
        with("a key that is empty", &basic(":")).says(401, missing),
        with("a key of 50 kB", &basic("k".repeat(50_000))).says(401, unknown),
        with("a key that is no base64", "authorization: Basic !!!\r\n").says(401, missing),
        with("a key in base64 that is cut", "authorization: Basic d2s\r\n").says(401, missing),
        with("a key that is no UTF-8", &basic([0xff, 0xfe, b':'])).says(401, missing),
        with("a key of letters above ASCII", &basic("schl\u{fc}ssel:")).says(401, unknown),
        with("a key with NUL behind it", &basic("wk\0:")).says(401, unknown),
        with("a key with a blank behind it", &basic("wk :")).says(401, unknown),
        with("a key in capitals", &basic("WK:")).says(401, unknown),
        with("a bearer's token", "authorization: Bearer wk\r\n").says(401, missing),
        with("two keys: the first counts", &format!("{}{}", basic("wk:"), basic("nobody:"))).taken("key"),
        with("the key of another project", &basic("wk-blog:")).taken("key"),
        Row::new(
            "a key in the body that is an object",
            post_as("", "/v1/track", "", event_with("key", r#""writeKey":{"$ne":null}"#)),
        )
        .says(401, missing),
        Row::new(
            "a key in the body that is of nobody",
            post_as("", "/v1/track", "", event_with("key", r#""writeKey":"nobody""#)),
        )
        .says(401, unknown),
        Row::new(
            "a good key in the body and a bad one in the head: the head counts",
            post_as(&basic("nobody:"), "/v1/track", "", event_with("key", r#""writeKey":"wk""#)),
        )
        .says(401, unknown),
        Row::new("what is not understood and has no key is not kept", post_as("", "/v1/track", "", "garbage"))
            .says(400, "body is not a JSON object"),
        Row::new(
            "a large body with the key of nobody is not kept",
            post_as(&basic("nobody:"), "/v1/track", "", "x".repeat(900_000)),
        )
        .says(401, unknown),
    ]
}

fn origins() -> Vec<Row> {
    let pages =
        |name: &str, headers: &str| Row::new(name, post_as(&basic("wk-pages:"), "/v1/track", headers, event("origin")));
    let refused = "write key may not be used on pages of origin";
    let preflight = |headers: &str| {
        format!("OPTIONS /v1/track HTTP/1.1\r\nhost: x\r\norigin: https://x\r\naccess-control-request-method: POST\r\n{headers}\r\n").into_bytes()
    };
    vec![
        pages("a page of elsewhere", "origin: https://evil.example\r\n").says(403, refused),
        pages("a page whose name goes on", "origin: https://shop.example.evil.example\r\n").says(403, refused),
        pages("a page of no origin", "origin: null\r\n").says(403, refused),
        pages("two origins", "origin: https://shop.example https://evil.example\r\n").says(403, refused),
        pages("an origin of letters above ASCII", "origin: https://sh\u{f6}p.example\r\n").says(403, refused),
        pages("the page itself", "origin: https://shop.example\r\n").taken("origin"),
        Row::new(
            "a browser with the key of servers",
            post_as(&basic("wk-servers:"), "/v1/track", "origin: https://x\r\n", event("x")),
        )
        .says(403, "write key is for servers only"),
        Row::new(
            "an origin of 10 kB",
            post("/v1/track", &format!("origin: https://{}\r\n", "x".repeat(10_000)), event("origin")),
        )
        .taken("origin"),
        Row::new(
            "a preflight for 50 kB of headers",
            preflight(&format!("access-control-request-headers: {}\r\n", "x-a,".repeat(12_500))),
        )
        .says(204, "access-control-allow-headers: x-a,"),
        Row::new("a preflight of nothing", preflight("")).says(204, "access-control-allow-origin: https://x"),
        Row::new(
            "a preflight where nothing is",
            b"OPTIONS /nothing HTTP/1.1\r\nhost: x\r\norigin: https://x\r\n\r\n".to_vec(),
        )
        .says(404, "access-control-allow-origin: https://x"),
        Row::new("a preflight for everything", b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n".to_vec())
            .says(404, "path `*` is not known"),
    ]
}

fn claims() -> Vec<Row> {
    let with = |name: &str, headers: &str| Row::new(name, post("/v1/track", headers, event("claim"))).taken("claim");
    let hops = (0..1000).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect::<Vec<_>>().join(", ");
    vec![
        with("an address that is forged", "x-forwarded-for: 127.0.0.1, 8.8.8.8\r\n"),
        with("an address that is none", "x-forwarded-for: '; DROP TABLE events; --\r\n"),
        with("an address of a thousand hops", &format!("x-forwarded-for: {hops}\r\n")),
        with("an address of 50 000 commas", &format!("x-forwarded-for: {}\r\n", ",".repeat(50_000))),
        with("eighty lines of addresses", &"x-forwarded-for: 127.0.0.1\r\n".repeat(80)),
        with("an address above ASCII", "x-forwarded-for: \u{661}.2.3.4\r\n"),
        with("a user agent that is none", "user-agent: \u{1f600}\r\n"),
        with("a content type that is none", "content-type: application/x-evil; charset=utf-7\r\n"),
        with("multipart", "content-type: multipart/form-data; boundary=x\r\n"),
        Row::new(
            "a cookie of ours that is none",
            post_as(
                &basic("wk-cookie:"),
                "/v1/track",
                "cookie: _trackway_id=<script>; _trackway_id=x\r\n",
                event("cookie"),
            ),
        )
        .says(200, "set-cookie: _trackway_id=")
        .keeps("cookie"),
        Row::new(
            "a cookie of ours that would set another",
            post_as(
                &basic("wk-cookie:"),
                "/v1/track",
                "cookie: _trackway_id=8c5c3ab0-95ab-4d5c-8d4c-2f0c8c5c3ab0\tx\r\n",
                event("cookie"),
            ),
        )
        .says(200, "set-cookie: _trackway_id=")
        .keeps("cookie"),
        Row::new(
            "who asks for health with a body",
            b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello".to_vec(),
        )
        .says(200, "ok"),
        Row::new(
            "an image that is asked for with a body",
            get("/v1/pixel.gif?writeKey=wk&event=claim&anonymousId=a", "content-length: 2\r\n")
                .into_iter()
                .chain(*b"{}")
                .collect(),
        )
        .says(200, "GIF89a")
        .keeps("claim"),
    ]
}

/// Headers with which our own tool sends again what was rejected.
fn replays() -> Vec<Row> {
    let with = |name: &str, headers: &str| Row::new(name, post("/v1/track", headers, event("replay")));
    vec![
        with("a replay of 10 kB is none", &format!("x-trackway-replay: {}\r\n", "x".repeat(10_000))).taken("replay"),
        with("a replay with the key of nobody", "x-trackway-replay: 0.1\r\nx-trackway-project-key: nobody\r\n")
            .says(401, "write key is not known"),
        with(
            "a replay from before all trackers",
            "x-trackway-replay: 0.1\r\nx-trackway-received: -9223372036854775808\r\n",
        )
        .taken("replay"),
        with("a replay from the future", "x-trackway-replay: 0.1\r\nx-trackway-received: 9223372036854775807\r\n")
            .taken("replay"),
        with("a replay of nothing", "x-trackway-replay: 0.1\r\nx-trackway-only: ,-1,x,99999999999999999999\r\n")
            .says(200, "true"),
        with(
            "a replay for a visitor of 1 kB",
            &format!("x-trackway-replay: 0.1\r\nx-trackway-visitor: {}\r\n", "x".repeat(1000)),
        )
        .taken("replay"),
        Row::new("a replay of 40 000 places in a batch of 10 000", {
            let items = vec![r#"{"type":"track","event":"replay","anonymousId":"a"}"#; 10_000].join(",");
            let only = vec!["10000"; 15_000].join(",");
            post(
                "/v1/batch",
                &format!("x-trackway-replay: 0.1\r\nx-trackway-only: {only}\r\n"),
                format!(r#"{{"batch":[{items}]}}"#),
            )
        })
        .says(200, "true"),
    ]
}
