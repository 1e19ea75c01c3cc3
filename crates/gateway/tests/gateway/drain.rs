//! Shutdown: what has begun ends well, nothing new begins.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::server::{Server, config, eventually};

const GOOD: &str = r#"{"event":"e","anonymousId":"a"}"#;

#[tokio::test]
async fn a_request_that_has_begun_is_answered_and_then_all_is_over() {
    let mut config = config();
    // So that nothing but the drain closes an idle connection.
    config.limits.header_timeout = Duration::from_secs(60);
    let mut server = Server::with(config).await;
    let mut idle = server.client().await;
    assert_eq!(idle.post("/v1/track", GOOD).await.status, 200);
    server.log.stalled.store(true, Ordering::SeqCst);
    let mut busy = server.client().await;
    let early = tokio::time::timeout(Duration::from_millis(100), busy.post("/v1/track", GOOD)).await;
    assert!(early.is_err());

    server.shutdown.cancel();
    assert!(idle.answer().await.is_none(), "an idle connection is closed at once");
    for _ in 0..500 {
        if TcpStream::connect(server.address).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing is accepted any more");
    assert!(server.serving.try_join_next().is_none(), "it waits for the busy one");

    server.log.gate.add_permits(1);
    assert_eq!(busy.answer().await.expect("an answer").status, 200);
    tokio::time::timeout(Duration::from_secs(3), server.serving.join_next()).await.expect("it ends");
    assert_eq!(server.log.events().len(), 2);
}

#[tokio::test]
async fn a_body_on_its_way_is_still_taken() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let head = format!("POST /v1/t?writeKey=wk HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", GOOD.len());
    client.send(head.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.send(GOOD.as_bytes()).await;
    assert_eq!(client.answer().await.expect("an answer").status, 200);
    tokio::time::timeout(Duration::from_secs(3), server.serving.join_next()).await.expect("it ends");
}

#[tokio::test]
async fn a_caller_that_waits_no_longer_cuts_what_is_left() {
    let mut server = Server::start().await;
    server.log.stalled.store(true, Ordering::SeqCst);
    let mut busy = server.client().await;
    let early = tokio::time::timeout(Duration::from_millis(100), busy.post("/v1/track", GOOD)).await;
    assert!(early.is_err());
    server.shutdown.cancel();
    server.serving.abort_all();
    assert!(busy.answer().await.is_none());
    eventually("the end", || server.serving.try_join_next().is_some()).await;
}
