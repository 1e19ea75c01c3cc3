//! Each limit holds, and its answer names it with the value.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::client::{AUTHORIZED, Answer, Client};
use crate::server::{Server, config};

const GOOD: &str = r#"{"event":"e","anonymousId":"a"}"#;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// A good body of exactly `length` bytes.
fn padded(length: usize) -> String {
    GOOD.to_owned() + &" ".repeat(length - GOOD.len())
}

fn check(answer: &Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(answer.text().contains(message), "{}", answer.text());
}

#[tokio::test]
async fn a_body_may_be_exactly_as_long_as_the_limit() {
    let server = Server::start().await;
    check(&server.client().await.post("/v1/t", &padded(100_000)).await, 200, "true");
    // Refused by what it announces, before any of it is sent.
    let mut client = server.client().await;
    client
        .send(format!("POST /v1/t HTTP/1.1\r\nhost: x\r\n{AUTHORIZED}content-length: 100001\r\n\r\n").as_bytes())
        .await;
    check(&client.answer().await.expect("an answer"), 413, "body is 100 001 bytes or more, limit is 100 000");
}

#[tokio::test]
async fn a_body_without_a_length_has_the_same_limit() {
    let server = Server::start().await;
    let chunked = format!("POST /v1/t HTTP/1.1\r\nhost: x\r\n{AUTHORIZED}transfer-encoding: chunked\r\n\r\n");
    let (middle, end) = GOOD.split_at(9);
    let mut client = server.client().await;
    client.send(format!("{chunked}9\r\n{middle}\r\n").as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.send(format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len()).as_bytes()).await;
    check(&client.answer().await.expect("an answer"), 200, "true");
    assert_eq!(server.log.events().len(), 1);
    let mut client = server.client().await;
    client.send(format!("{chunked}186a1\r\n{}\r\n", padded(100_001)).as_bytes()).await;
    check(&client.answer().await.expect("an answer"), 413, "bytes or more, limit is 100 000");
}

#[tokio::test]
async fn gzip_is_seen_from_the_bytes() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (zipped, headers) = (gzip(GOOD.as_bytes()), format!("{AUTHORIZED}content-encoding: gzip\r\n"));
    check(&client.ask("POST /v1/t", AUTHORIZED, &zipped).await, 200, "true");
    check(&client.ask("POST /v1/t", &headers, &zipped).await, 200, "true");
    check(&client.ask("POST /v1/t", &headers, GOOD.as_bytes()).await, 200, "true");
    assert_eq!(server.log.events().len(), 3);
    check(&client.ask("POST /v1/t", &headers, &zipped[..zipped.len() - 4]).await, 400, "body is not valid gzip");
    let headers = format!("{AUTHORIZED}content-encoding: lzma\r\n");
    let answer = server.client().await.ask("POST /v1/t", &headers, GOOD.as_bytes()).await;
    check(&answer, 415, "content encoding `lzma` is not supported. Use gzip, deflate, br, zstd or none");
}

#[tokio::test]
async fn a_gzip_bomb_is_stopped_at_the_limit() {
    // Before anybody connects: it takes longer than a connection may be idle here.
    let bomb = gzip(&vec![b' '; 50_000_000]);
    let server = Server::start().await;
    let mut client = server.client().await;
    check(&client.ask("POST /v1/t", AUTHORIZED, &gzip(padded(200_000).as_bytes())).await, 200, "true");
    assert!(bomb.len() < 100_000);
    let answer = client.ask("POST /v1/t", AUTHORIZED, &bomb).await;
    check(&answer, 413, "decompressed body is 200 001 bytes or more, limit is 200 000");
}

#[tokio::test]
async fn a_batch_may_hold_exactly_as_many_events_as_the_limit() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let batch = |count| format!(r#"{{"batch":[{}]}}"#, vec![r#"{"type":"page","userId":"u"}"#; count].join(","));
    check(&client.post("/v1/batch", &batch(10)).await, 200, "true");
    check(&client.post("/v1/import", &batch(11)).await, 413, "batch is 11 events, limit is 10");
    assert_eq!(server.log.events().len(), 1);
    assert_eq!(server.log.rejected().len(), 1);
}

#[tokio::test]
async fn an_event_that_is_too_large_is_rejected_by_itself() {
    let server = Server::start().await;
    let large = format!(r#"{{"event":"signup","anonymousId":"a","x":"{}"}}"#, "x".repeat(65_536));
    let answer = server.client().await.post("/v1/track", &large).await;
    check(&answer, 400, "event `signup` is 65 579 bytes, limit is 65 536");
    assert_eq!(server.log.rejected()[0].reason, "too_large");
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let head = format!("POST /v1/t HTTP/1.1\r\nhost: x\r\n{AUTHORIZED}content-length: 100\r\n\r\n{{");
    client.send(head.as_bytes()).await;
    let answer = client.answer().await.expect("an answer");
    check(&answer, 408, "body did not arrive within 300ms");
    assert!(client.answer().await.is_none(), "the connection is closed");
}

async fn is_closed_in_time(mut client: Client) -> bool {
    tokio::time::timeout(Duration::from_secs(3), client.answer()).await.is_ok_and(|answer| answer.is_none())
}

#[tokio::test]
async fn whoever_never_finishes_a_header_is_let_go() {
    let server = Server::start().await;
    for start in ["", "P", "PRI * HT", "POST /v1/t HTTP/1.1\r\nhost:"] {
        let mut client = server.client().await;
        client.send(start.as_bytes()).await;
        assert!(is_closed_in_time(client).await, "{start}");
    }
    let mut idle = server.client().await;
    check(&idle.post("/v1/track", GOOD).await, 200, "true");
    assert!(is_closed_in_time(idle).await, "a kept-alive connection is not kept for ever");
}

#[tokio::test]
async fn more_connections_than_places_wait() {
    let mut config = config();
    config.limits.connections_max = 1;
    let server = Server::with(config).await;
    let mut first = server.client().await;
    check(&first.post("/v1/track", GOOD).await, 200, "true");
    let mut second = server.client().await;
    let early = tokio::time::timeout(Duration::from_millis(100), second.post("/v1/track", GOOD)).await;
    assert!(early.is_err());
    drop(first);
    check(&second.answer().await.expect("an answer"), 200, "true");
}

#[tokio::test]
async fn more_bytes_in_flight_than_the_limit_are_told_to_come_again() {
    let mut config = config();
    config.limits.in_flight_bytes_max = 150_000;
    let server = Server::with(config).await;
    server.log.stalled.store(true, Ordering::SeqCst);
    let mut first = server.client().await;
    let held = tokio::time::timeout(Duration::from_millis(200), first.post("/v1/t", &padded(90_000))).await;
    assert!(held.is_err());
    let answer = server.client().await.post("/v1/t", &padded(90_000)).await;
    check(&answer, 503, "bytes, limit is 150 000. Send again later");
    assert_eq!(answer.header("retry-after"), Some("1"));
    server.log.stalled.store(false, Ordering::SeqCst);
    server.log.gate.add_permits(1);
    check(&first.answer().await.expect("an answer"), 200, "true");
    check(&server.client().await.post("/v1/t", &padded(90_000)).await, 200, "true");
}
