//! Framing of HTTP/1: where a request begins and ends, and what its head may be.

use crate::row::{AUTHORIZED, Row, event, get, post, raw};

/// The head of a track call, without a length.
fn head(headers: &str) -> String {
    format!("POST /v1/track HTTP/1.1\r\nhost: x\r\n{AUTHORIZED}{headers}")
}

fn chunked(body: &str) -> Vec<u8> {
    raw(&head("transfer-encoding: chunked\r\n"), body)
}

/// A whole body as one chunk.
fn chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

pub(super) fn rows() -> Vec<Row> {
    [lengths(), chunks(), smuggling(), heads(), targets(), methods()].into_iter().flatten().collect()
}

fn lengths() -> Vec<Row> {
    let body = event("length");
    let length = body.len();
    let with = |headers: &str| raw(&head(headers), &body);
    vec![
        Row::new("a length that is negative", with("content-length: -1\r\n")).says(400, "").closes(),
        Row::new("a length that is no number", with("content-length: many\r\n")).says(400, "").closes(),
        Row::new("a length with a sign", with(&format!("content-length: +{length}\r\n"))).says(400, "").closes(),
        Row::new("a length in hexadecimal", with("content-length: 0x20\r\n")).says(400, "").closes(),
        Row::new("a length that is empty", with("content-length: \r\n")).says(400, "").closes(),
        Row::new("a length above 2^64", with("content-length: 99999999999999999999\r\n")).says(400, "").closes(),
        Row::new("a length of 2^63", with("content-length: 9223372036854775808\r\n"))
            .says(413, "body is 9 223 372 036 854 775 808 bytes or more, limit is 1 048 576")
            .closes(),
        Row::new("two lengths that differ", with(&format!("content-length: {length}\r\ncontent-length: 3\r\n")))
            .says(400, "")
            .closes(),
        Row::new("two lengths in one line", with("content-length: 3, 4\r\n")).says(400, "").closes(),
        Row::new("a length that is too short: the rest is no request", with("content-length: 10\r\n"))
            .bad("malformed", "body at line 1 column 10 is not valid JSON")
            .says(400, "")
            .closes(),
        Row::new("a body without any length is no body", raw(&head(""), &body))
            .bad("malformed", "empty body is not a JSON object")
            .says(400, "")
            .closes(),
    ]
}

fn chunks() -> Vec<Row> {
    let good = chunk(&event("chunk"));
    vec![
        Row::new("a chunk that is longer than it says", chunked(&format!("5\r\n{}\r\n0\r\n\r\n", event("chunk"))))
            .says(400, "body ended before its end")
            .closes(),
        Row::new("a chunk size that is no number", chunked("xyz\r\n{}\r\n0\r\n\r\n"))
            .says(400, "body ended before its end")
            .closes(),
        Row::new("a chunk size above 2^64", chunked("fffffffffffffffff\r\n{}\r\n0\r\n\r\n"))
            .says(400, "body ended before its end")
            .closes(),
        Row::new("a chunk size that is negative", chunked("-2\r\n{}\r\n0\r\n\r\n"))
            .says(400, "body ended before its end")
            .closes(),
        Row::new(
            "more chunks than the limit of a body",
            chunked(&format!("{}\r\n", format_args!("100000\r\n{}", " ".repeat(1 << 20))).repeat(2)),
        )
        .says(413, "bytes or more, limit is 1 048 576")
        .closes(),
        Row::new("a chunk extension of 100 kB", chunked(&format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(100_000))))
            .says(400, "body ended before its end")
            .closes(),
        Row::new("trailers of 200 kB", chunked(&format!("2\r\n{{}}\r\n0\r\nx: {}\r\n\r\n", "x".repeat(200_000))))
            .says(400, "body ended before its end")
            .closes(),
        Row::new(
            "a trailer that would be a write key",
            chunked(&good.replace("0\r\n\r\n", "0\r\nauthorization: x\r\n\r\n")),
        )
        .taken("chunk"),
        Row::new("a body in chunks of one byte", {
            let chunks: String = event("chunk").chars().map(|c| format!("1\r\n{c}\r\n")).collect();
            chunked(&format!("{chunks}0\r\n\r\n"))
        })
        .taken("chunk"),
        Row::new("chunks of HTTP/1.0", raw(&head("transfer-encoding: chunked\r\n").replace("1.1", "1.0"), &good))
            .says(400, "")
            .closes(),
    ]
}

/// What two servers in a row may take for different requests.
fn smuggling() -> Vec<Row> {
    let inner = "GET /v1/pixel.gif?event=smuggled&anonymousId=a&writeKey=wk HTTP/1.1\r\nhost: x\r\n\r\n";
    let both = "content-length: 6\r\ntransfer-encoding: chunked\r\n";
    vec![
        // The chunks count, as the standard has it, and whatever follows does not.
        Row::new("a length and chunks at once", raw(&head(both), chunk(&event("chunks")))).taken("chunks").closes(),
        Row::new("a request within a body that has a length and chunks", raw(&head(both), format!("0\r\n\r\n{inner}")))
            .bad("malformed", "empty body is not a JSON object")
            .closes(),
        Row::new(
            "chunks and a length at once",
            raw(&head("transfer-encoding: chunked\r\ncontent-length: 6\r\n"), format!("0\r\n\r\n{inner}")),
        )
        .bad("malformed", "empty body is not a JSON object")
        .closes(),
        Row::new(
            "a transfer encoding that is not chunks at last",
            raw(&head("transfer-encoding: chunked, identity\r\n"), format!("0\r\n\r\n{inner}")),
        )
        .says(400, "")
        .closes(),
        Row::new(
            "an unknown transfer encoding",
            raw(&head("transfer-encoding: xchunked\r\n"), format!("0\r\n\r\n{inner}")),
        )
        .says(400, "")
        .closes(),
        Row::new("a transfer encoding hidden by a blank", raw(&head("transfer-encoding : chunked\r\n"), "0\r\n\r\n"))
            .says(400, "")
            .closes(),
        Row::new("a thousand requests at once", post("/v1/track", "", event("many")).repeat(1000))
            .many(1000, 200, "true", "many"),
        Row::new(
            "a good request after one that is no HTTP",
            [b"\0\x01\x02\r\n\r\n".to_vec(), get("/health", "")].concat(),
        )
        .says(400, "")
        .closes(),
    ]
}

fn heads() -> Vec<Row> {
    let with = |headers: &str| post("/v1/track", headers, event("head"));
    vec![
        Row::new("10 000 headers", with(&"a: b\r\n".repeat(10_000))).says(431, "").closes(),
        Row::new("a header of 200 kB", with(&format!("x: {}\r\n", "x".repeat(200_000)))).says(431, "").closes(),
        Row::new("a header name of 70 kB", with(&format!("{}: x\r\n", "x".repeat(70_000)))).says(431, "").closes(),
        Row::new("cookies of 200 kB", with(&format!("cookie: {}\r\n", "a=b; ".repeat(40_000)))).says(431, "").closes(),
        Row::new("cookies of 50 kB", with(&format!("cookie: {}\r\n", "a=b; ".repeat(10_000)))).taken("head"),
        Row::new("NUL in a header", with("x: a\0b\r\n")).says(400, "").closes(),
        Row::new("NUL in a header's name", with("a\0b: x\r\n")).says(400, "").closes(),
        Row::new("a header without a colon", with("nonsense\r\n")).says(400, "").closes(),
        Row::new("a header without a name", with(": x\r\n")).says(400, "").closes(),
        Row::new("a header that goes on in the next line", with("x: a\r\n b\r\n")).says(400, "").closes(),
        Row::new("a bare CR in a header", with("x: a\rb\r\n")).says(400, "").closes(),
        Row::new("bytes above ASCII in a header are nobody's business", with("x: \u{e4}\u{20ac}\r\n")).taken("head"),
        Row::new("lines that end with LF alone", {
            let body = event("head");
            let head = format!(
                "POST /v1/track HTTP/1.1\nhost: x\nauthorization: Basic d2s6\ncontent-length: {}\n\n",
                body.len()
            );
            [head.as_bytes(), body.as_bytes()].concat()
        })
        .taken("head"),
        Row::new("no host", post("/v1/track", "", event("head")).replace_once("host: x\r\n", "")).taken("head"),
        Row::new("an expectation of nobody", with("expect: 999-magic\r\n")).taken("head"),
        Row::new("a wish to be told to go on", with("expect: 100-continue\r\n")).says(100, "Continue").taken("head"),
        Row::new(
            "a wish for HTTP/2 in clear",
            with("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"),
        )
        .taken("head"),
        Row::new(
            "a wish for a web socket",
            get(
                "/v1/pixel.gif?writeKey=wk&event=head&anonymousId=a",
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n",
            ),
        )
        .says(200, "GIF89a")
        .keeps("head"),
        Row::new("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec())
            .says(400, "")
            .closes(),
        Row::new("lines without end before a request", [b"\r\n".repeat(10), get("/health", "")].concat())
            .says(200, "ok"),
    ]
}

fn targets() -> Vec<Row> {
    let to = |target: &str| post(target, "", event("target"));
    let unknown = |name: &str, target: &str| {
        let shown = target.chars().take(200).collect::<String>();
        Row::new(name, to(target)).says(404, format!("path `{shown}` is not known"))
    };
    vec![
        unknown("a path with dots", "/v1/../v1/track"),
        unknown("a path with encoded dots", "/%2e%2e/v1/track"),
        unknown("a path with an encoded slash", "/v1%2Ftrack"),
        unknown("a path that begins twice", "//v1/track"),
        unknown("a path with parameters of its own", "/v1/track;x=y"),
        unknown("a path that ends with NUL", "/v1/track%00"),
        Row::new("a path in capitals is another", to("/V1/TRACK"))
            .bad("malformed", "body at a path of no known tracker is not Snowplow's payload_data"),
        unknown("a path to a file", "/../../../../etc/passwd"),
        unknown("a path encoded twice", "/v1/%2574rack"),
        unknown("a path of 10 000 steps", &"/..".repeat(10_000)),
        Row::new("a path with backslashes", to("\\v1\\track")).says(400, "").closes(),
        Row::new("a path of letters above ASCII", to("/v1/tr\u{e4}ck")).says(404, "is not known"),
        Row::new("an address of 70 000 bytes", to(&format!("/v1/track?{}", "x".repeat(70_000)))).says(414, "").closes(),
        Row::new("an address of 60 000 bytes", to(&format!("/v1/track?{}", "x".repeat(60_000)))).taken("target"),
        Row::new("an address with another host", to("http://evil.example/v1/track")).taken("target"),
        Row::new("an address with a name and password", to("http://user:secret@evil.example/v1/track")).taken("target"),
        Row::new("the asterisk", to("*")).says(404, "path `*` is not known"),
        Row::new("an address with a blank", to("/v1/track x")).says(400, "").closes(),
        Row::new("an address with a fragment", to("/v1/track#x")).taken("target"),
        Row::new("HTTP/0.9", b"GET /health\r\n\r\n".to_vec()).says(400, "").closes(),
        Row::new("HTTP/3.0", b"GET /health HTTP/3.0\r\n\r\n".to_vec()).says(400, "").closes(),
        Row::new("HTTP/1.0", b"GET /health HTTP/1.0\r\n\r\n".to_vec()).says(200, "ok").closes(),
    ]
}

fn methods() -> Vec<Row> {
    let by = |method: &str, target: &str| {
        format!("{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").into_bytes()
    };
    let refused = |method: &str| {
        Row::new(format!("{method} where events are sent"), by(method, "/v1/track")).says(405, "\"code\":\"method\"")
    };
    vec![
        refused("PUT"),
        refused("DELETE"),
        refused("PATCH"),
        refused("TRACE"),
        refused("PROPFIND"),
        refused(&"X".repeat(1000)),
        Row::new("CONNECT to elsewhere", by("CONNECT", "evil.example:443")).says(404, "is not known"),
        Row::new("a method of no letters", by("GE\u{7f}T", "/v1/track")).says(400, "").closes(),
    ]
}

/// Within bytes.
trait ReplaceOnce {
    fn replace_once(self, from: &str, to: &str) -> Vec<u8>;
}

impl ReplaceOnce for Vec<u8> {
    fn replace_once(self, from: &str, to: &str) -> Vec<u8> {
        String::from_utf8(self).expect("text").replacen(from, to, 1).into_bytes()
    }
}
