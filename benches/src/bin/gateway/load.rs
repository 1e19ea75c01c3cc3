//! The load: requests made beforehand, sent over connections that are kept.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trackway_benches::{realistic, user_agent};

use crate::serve::WRITE_KEY;

/// Events in a batch.
const BATCH: u64 = 50;

/// Length of the stream that events are taken from.
const STREAM: u64 = 2_000_000;

/// Different requests of each kind, sent in turn. More than fit into a core's caches.
const REQUESTS: u64 = 2_000;

/// One kind of request.
pub struct Load {
    pub what: &'static str,
    /// Events in a request.
    pub events: u64,
    /// Records that they become: one for each visitor.
    pub records: u64,
    requests: Arc<Vec<Vec<u8>>>,
}

/// All kinds.
pub fn all() -> [Load; 4] {
    let single = (0..REQUESTS).map(|i| request(&format!("/v1/{}", kind(i)), &event(i, i), i, false));
    let batches = |gzip: bool, is_one_visitor: bool| {
        let batches = (0..REQUESTS / BATCH).map(move |batch| {
            let first = batch * BATCH;
            let events = (first..first + BATCH).map(|i| event(i, if is_one_visitor { first } else { i }));
            let events = events.collect::<Vec<_>>().join(",");
            request("/v1/batch", &format!(r#"{{"batch":[{events}],"sentAt":"{}"}}"#, clock(first + BATCH)), first, gzip)
        });
        Arc::new(batches.collect())
    };
    [
        Load { what: "One event per request", events: 1, records: 1, requests: Arc::new(single.collect()) },
        Load { what: "Batches of 50, one visitor each", events: BATCH, records: 1, requests: batches(false, true) },
        Load { what: "The same, gzip", events: BATCH, records: 1, requests: batches(true, true) },
        Load {
            what: "Batches of 50, of 50 visitors (a server's)",
            events: BATCH,
            records: BATCH,
            requests: batches(false, false),
        },
    ]
}

/// Sends on all connections for a time; says how many requests were answered with 200.
///
/// # Errors
/// Any other answer.
pub async fn drive(address: SocketAddr, load: &Load, connections: usize, time: Duration) -> Result<u64> {
    let until = Instant::now() + time;
    let mut senders = JoinSet::new();
    for first in 0..connections {
        // Each begins elsewhere, so that not all send the same at once.
        let first = first * load.requests.len() / connections;
        senders.spawn(send(address, load.requests.clone(), first, until, Duration::ZERO));
    }
    let mut requests = 0;
    while let Some(sent) = senders.join_next().await {
        requests += sent??;
    }
    Ok(requests)
}

/// As [`drive`], no faster than `requests_per_second` in all.
///
/// # Errors
/// Any answer but 200.
pub async fn drive_at(
    address: SocketAddr,
    load: &Load,
    connections: usize,
    time: Duration,
    requests_per_second: f64,
) -> Result<u64> {
    let until = Instant::now() + time;
    let every = Duration::from_secs_f64(connections as f64 / requests_per_second);
    let mut senders = JoinSet::new();
    for first in 0..connections {
        senders.spawn(send(address, load.requests.clone(), first * load.requests.len() / connections, until, every));
    }
    let mut requests = 0;
    while let Some(sent) = senders.join_next().await {
        requests += sent??;
    }
    Ok(requests)
}

async fn send(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    first: usize,
    until: Instant,
    every: Duration,
) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(4096);
    let mut sent = 0;
    let mut due = Instant::now();
    for request in requests.iter().cycle().skip(first) {
        if Instant::now() >= until {
            break;
        }
        if !every.is_zero() {
            // A sender that fell behind makes up for it.
            tokio::time::sleep_until(due).await;
            due += every;
        }
        stream.write_all(request).await?;
        answer.clear();
        while !is_whole(&answer)? {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the server hung up after `{}`", answer.escape_ascii());
        }
        sent += 1;
    }
    Ok(sent)
}

/// Whether an answer of 200 is complete.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "the answer is `{}`", answer.escape_ascii());
    const LENGTH: &[u8] = b"content-length: ";
    let at =
        answer[..head].windows(LENGTH.len()).position(|name| name == LENGTH).context("an answer without length")?;
    let digits = answer[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Ok(answer.len() >= head + 4 + length)
}

fn request(path: &str, body: &str, i: u64, gzip: bool) -> Vec<u8> {
    let body = if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body.as_bytes()).and_then(|()| encoder.finish()).expect("memory takes it")
    } else {
        body.as_bytes().to_vec()
    };
    let encoding = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: collect.example\r\nAuthorization: Basic {}\r\nUser-Agent: {}\r\n\
         Content-Type: text/plain\r\nAccept: */*\r\nOrigin: https://shop.example\r\nReferer: https://shop.example/\r\n\
         Accept-Encoding: gzip, deflate, br\r\nAccept-Language: de-DE,de;q=0.9\r\n{encoding}Content-Length: {}\r\n\r\n",
        STANDARD.encode(format!("{WRITE_KEY}:")),
        user_agent(i),
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    request
}

fn kind(i: u64) -> &'static str {
    if i.is_multiple_of(3) { "page" } else { "track" }
}

/// Event `i` as analytics.js sends it, of this visitor.
fn event(i: u64, visitor: u64) -> String {
    let event = realistic(i, STREAM).received;
    let (kind, context, name_member) = (kind(i), event.context, if kind(i) == "page" { "name" } else { "event" });
    format!(
        r#"{{"type":"{kind}","{name_member}":"{}","messageId":"{}","anonymousId":"visitor-{visitor:08}","timestamp":"{}","sentAt":"{}","integrations":{{}},"properties":{},"context":{{"page":{{"url":"{}","title":"{}","referrer":"{}"}},"userAgent":"{}","locale":"{}","screen":{{"width":1920,"height":1080}},"library":{{"name":"analytics.js","version":"1.84.3"}}}}}}"#,
        event.name,
        event.id.unwrap_or_default(),
        clock(i),
        clock(i + 1),
        event.properties,
        context.url,
        context.title,
        context.referrer,
        user_agent(visitor),
        context.locale,
    )
}

/// Some time of a day, as trackers write it.
fn clock(i: u64) -> String {
    format!("2023-11-14T{:02}:{:02}:{:02}.{:03}Z", i / 3600 % 24, i / 60 % 60, i % 60, i % 1000)
}
