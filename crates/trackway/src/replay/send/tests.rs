use super::*;
use crate::replay::rows::Row;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Runs one batch of two rows against a server that gives these answers, one connection each. Returns what became of it,
/// the tally, and the bodies that the server got.
async fn exchange(answers: &[String], give_up_after: Duration) -> (anyhow::Result<()>, Arc<Tally>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let server = async {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"]}") {
                let mut buf = [0; 4096];
                let n = stream.read(&mut buf).await.expect("a request");
                request.extend_from_slice(&buf[..n]);
            }
            bodies.lock().expect("no panic").push(String::from_utf8(request).expect("text"));
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    };
    let (batches, receiver) = mpsc::channel(1);
    let mut batch = Batch::default();
    for number in [1, 2] {
        let (user, event, id) = ("u".into(), "e".into(), format!("id-{number}"));
        batch.push(&Row { number, user, visitor: String::new(), event, time_ms: 0, id, properties: "{}".into() });
    }
    batches.send(batch).await.expect("room for one");
    drop(batches);
    let tally = Arc::new(Tally::default());
    let sender = Sender::new(&[format!("http://{address}/")], "key", give_up_after).expect("an address");
    let (result, ()) = tokio::join!(sender.run(receiver, &tally), server);
    let bodies = std::mem::take(&mut *bodies.lock().expect("no panic"));
    (result, tally, bodies)
}

const LONG: Duration = Duration::from_secs(30);

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn ok() -> String {
    answer("200 OK", r#"{"success":true}"#)
}

fn busy() -> String {
    answer("503 Busy", "")
}

#[tokio::test]
async fn a_batch_goes_out_once_with_the_key_and_is_answered() {
    let (result, tally, bodies) = exchange(&[ok()], LONG).await;
    result.expect("taken");
    assert_eq!(tally.answered.load(Relaxed), 2);
    assert!(bodies[0].starts_with("POST /v1/import HTTP/1.1\r\n"), "{}", bodies[0]);
    assert!(bodies[0].contains("authorization: Basic a2V5Og=="), "{}", bodies[0]);
}

#[tokio::test]
async fn a_busy_gateway_gets_the_same_batch_again() {
    // A connection that breaks without an answer counts as busy too: nobody knows whether the batch arrived.
    let (result, tally, bodies) = exchange(&[busy(), String::new(), ok()], LONG).await;
    result.expect("taken at last");
    assert_eq!((tally.answered.load(Relaxed), tally.resent.load(Relaxed)), (2, 2));
    let body = |request: &str| request.split_once("\r\n\r\n").expect("a body").1.to_owned();
    assert!(body(&bodies[0]) == body(&bodies[1]) && body(&bodies[1]) == body(&bodies[2]));
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let wait = answer("429 Slow\r\nRetry-After: 1", "");
    let begin = Instant::now();
    exchange(&[wait, ok()], LONG).await.0.expect("taken");
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn it_gives_up_after_the_time_that_was_given() {
    let (result, tally, _) = exchange(&[busy(), busy()], Duration::from_millis(250)).await;
    let error = result.expect_err("given up").to_string();
    assert!(error.contains("503") && error.contains("again to go on"), "{error}");
    assert_eq!(tally.answered.load(Relaxed), 0);
}

#[tokio::test]
async fn a_refused_key_is_no_use_trying_again() {
    let (result, tally, bodies) = exchange(&[answer("401 No", "")], LONG).await;
    let error = result.expect_err("refused").to_string();
    assert!(error.contains("--project-key"), "{error}");
    assert_eq!((bodies.len(), tally.resent.load(Relaxed)), (1, 0));
}

#[tokio::test]
async fn a_rejected_event_is_told_by_its_row() {
    let partly = answer("200 OK", r#"{"success":true,"rejected":[{"index":1,"message":"no good"}]}"#);
    let (result, tally, _) = exchange(&[partly], LONG).await;
    result.expect("answered");
    assert_eq!((tally.answered.load(Relaxed), tally.rejected()), (2, 1));
    assert!(tally.summary(LONG, false).contains("row 2: no good"));
}

#[tokio::test]
async fn a_batch_of_which_nothing_was_taken_is_answered_too() {
    let rejected = r#"{"success":false,"rejected":[{"index":0,"message":"a"},{"index":1,"message":"b"}]}"#;
    let (result, tally, _) = exchange(&[answer("400 No", rejected)], LONG).await;
    result.expect("answered");
    assert_eq!(tally.rejected(), 2);
}

#[test]
fn an_address_that_cannot_be_used_is_refused_at_once() {
    for server in ["localhost:7070", "https://x", "http://", "nonsense here"] {
        assert!(Sender::new(&[server.to_owned()], "k", LONG).is_err(), "{server}");
    }
}

#[test]
fn lanes_share_the_servers_out() {
    let servers = ["http://a:1", "http://b:2"].map(str::to_owned);
    let sender = Sender::new(&servers, "k", LONG).expect("addresses");
    let hosts: Vec<_> = (0..3).map(|lane| sender.of_lane(lane).url().host().expect("a host").to_owned()).collect();
    assert_eq!(hosts, ["a", "b", "a"]);
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_passed_over() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let servers = [format!("http://{gone}"), format!("http://{}", listener.local_addr().expect("bound"))];
    let (batches, receiver) = mpsc::channel(1);
    batches.send(Batch::default()).await.expect("room");
    drop(batches);
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 4096]).await.expect("a request");
        stream.write_all(ok().as_bytes()).await.expect("answered");
    };
    let tally = Tally::default();
    let sender = Sender::new(&servers, "k", LONG).expect("addresses");
    let (result, ()) = tokio::join!(sender.run(receiver, &tally), server);
    result.expect("the other took it");
}
