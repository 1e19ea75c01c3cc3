//! Those who take their time.

use std::time::Duration;

use super::http2::{frame, hello};
use crate::row::{AUTHORIZED, Row, Sent, event, get, post};

const OFTEN: Duration = Duration::from_millis(100);

pub(super) fn rows() -> Vec<Row> {
    let head = |headers: &str| format!("POST /v1/track HTTP/1.1\r\nhost: x\r\n{AUTHORIZED}{headers}").into_bytes();
    let body_head = |headers: &str| [head(headers), b"\r\n".to_vec()].concat();
    let silent = |name: &str, bytes: &[u8]| Row::new(name, bytes.to_vec()).closes();
    let slow_body = "body did not arrive within 2s";
    let half_closed = |name: &str, bytes: Vec<u8>| Row::of(name, Sent::HalfClosed(bytes)).closes();
    vec![
        silent("a connection that says nothing", b""),
        silent("one letter", b"P"),
        silent("the begin of HTTP/2 and nothing more", b"PRI * HTTP/2.0\r\n"),
        silent("half a header", &head("x: ")),
        Row::of("a header that comes letter by letter", Sent::Drip(head("x: "), b"x".to_vec(), OFTEN)).closes(),
        Row::of("headers that come line by line", Sent::Drip(head(""), b"a: b\r\n".to_vec(), OFTEN)).closes(),
        Row::of("line breaks before a request, for ever", Sent::Drip(Vec::new(), b"\r\n".to_vec(), OFTEN)).closes(),
        Row::new("a body that does not come", body_head("content-length: 100\r\n")).says(408, slow_body).closes(),
        Row::of(
            "a body that comes letter by letter",
            Sent::Drip(body_head("content-length: 1000\r\n"), b" ".to_vec(), OFTEN),
        )
        .says(408, slow_body)
        .closes(),
        Row::of(
            "chunks that come for ever",
            Sent::Drip(body_head("transfer-encoding: chunked\r\n"), b"1\r\n \r\n".to_vec(), OFTEN),
        )
        .says(408, slow_body)
        .closes(),
        Row::of(
            "a chunk extension that comes for ever",
            Sent::Drip([body_head("transfer-encoding: chunked\r\n"), b"2;x=".to_vec()].concat(), b"x".to_vec(), OFTEN),
        )
        .says(408, slow_body)
        .closes(),
        Row::new(
            "trailers that do not end",
            body_head("transfer-encoding: chunked\r\n").into_iter().chain(*b"2\r\n{}\r\n0\r\nx: y").collect::<Vec<_>>(),
        )
        .says(408, slow_body)
        .closes(),
        Row::new(
            "a body that waits to be told to go on, and does not",
            body_head("content-length: 100\r\nexpect: 100-continue\r\n"),
        )
        .says(100, "Continue")
        .says(408, slow_body)
        .closes(),
        Row::new("a request and then silence", post("/v1/track", "", event("idle"))).taken("idle").closes(),
        half_closed("whoever leaves before a request", Vec::new()),
        half_closed("whoever leaves in a header", head("x: ")),
        half_closed("whoever leaves in a body", [body_head("content-length: 100\r\n"), b"{".to_vec()].concat())
            .says(400, "body ended before its end"),
        half_closed(
            "whoever leaves in a chunk",
            [body_head("transfer-encoding: chunked\r\n"), b"10\r\n{".to_vec()].concat(),
        )
        .says(400, "body ended before its end"),
        half_closed("whoever leaves after a request is counted", post("/v1/track", "", event("left"))).taken("left"),
        Row::of("whoever asks for ever and never listens", Sent::Flood(get("/health", "").repeat(100))),
        Row::of(
            "whoever asks HTTP/2 for ever and never listens",
            Sent::Flood([hello(), frame(6, 0, 0, &[0; 8]).repeat(1000)].concat()),
        ),
        Row::new("HTTP/2: a preface and nothing more", hello()[..24].to_vec()).goes_away(),
        Row::new("HTTP/2: settings and nothing more", hello()).goes_away(),
        Row::of("HTTP/2: settings for ever", Sent::Drip(hello(), frame(4, 0, 0, &[]), OFTEN)).goes_away(),
        Row::of("HTTP/2: pings for ever", Sent::Drip(hello(), frame(6, 0, 0, &[0; 8]), OFTEN)).goes_away(),
        Row::of(
            "HTTP/2: a header in empty frames, slowly, for ever",
            Sent::Drip([hello(), frame(1, 0, 1, &[])].concat(), frame(9, 0, 1, &[]), OFTEN),
        )
        .goes_away(),
    ]
}
