//! HTTP/2, which a gateway speaks with proxies, frame by frame.

use crate::row::Row;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Preface and empty settings.
pub(super) fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A header without compression.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut out = Vec::new();
        let mut rest = text.len();
        if rest < 127 {
            out.push(u8::try_from(rest).expect("small"));
        } else {
            out.push(127);
            rest -= 127;
            while rest >= 128 {
                out.push(u8::try_from(rest % 128).expect("small") | 128);
                rest /= 128;
            }
            out.push(u8::try_from(rest).expect("small"));
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    [vec![0], text(name), text(value)].concat()
}

fn request(more: &[(&str, &str)]) -> Vec<u8> {
    let of = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/v1/track")];
    let headers = of.iter().chain(&[("authorization", "Basic d2s6")]).chain(more);
    headers.flat_map(|(name, value)| literal(name, value)).collect()
}

pub(super) fn rows() -> Vec<Row> {
    let after_hello = |frames: Vec<u8>| [hello(), frames].concat();
    let headers = |stream, flags| frame(HEADERS, flags | END_HEADERS, stream, &request(&[]));
    let streams = |count: u32| (0..count).map(|n| 2 * n + 1);
    let row = |name: &str, frames: Vec<u8>| Row::new(format!("HTTP/2: {name}"), after_hello(frames)).goes_away();
    vec![
        row(
            "streams that are opened and reset, fast",
            streams(2000).flat_map(|id| [headers(id, 0), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()).collect(),
        ),
        row("a header list of 1 MB", {
            let mut frames = frame(HEADERS, END_STREAM, 1, &request(&[]));
            for at in 0..64 {
                let part = literal(&format!("x{at}"), &"x".repeat(16_000));
                frames.extend(frame(CONTINUATION, if at == 63 { END_HEADERS } else { 0 }, 1, &part));
            }
            frames
        }),
        row("a header that goes on for ever in empty frames", {
            [frame(HEADERS, 0, 1, &request(&[])), frame(CONTINUATION, 0, 1, &[]).repeat(10_000)].concat()
        }),
        row("a frame of 16 MB", [&[0xff, 0xff, 0xff, DATA, 0][..], &1_u32.to_be_bytes(), &[0; 100]].concat()),
        row("headers that are no HPACK", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 20])),
        row("a stream of an even number", headers(2, END_STREAM)),
        row("streams that go backwards", [headers(5, END_STREAM), headers(3, END_STREAM)].concat()),
        row("data of no stream", frame(DATA, 0, 1, b"{}")),
        row("a window that overflows", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
        row("a ping that is too short", frame(PING, 0, 0, &[0; 3])),
        row("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        row("a window above 2^31", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        Row::new("HTTP/2: a preface that is another", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec())
            .says(400, "")
            .closes(),
    ]
}
