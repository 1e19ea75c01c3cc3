//! What browsers must be told. The recorded preflights are replayed in `segment.rs`.

use crate::client::Answer;
use crate::server::Server;

const ORIGIN: &str = "origin: https://shop.example\r\n";

fn check(answer: &Answer, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(answer.header(name), *value, "{name}");
    }
}

#[tokio::test]
async fn a_preflight_reflects_what_is_asked_for() {
    let server = Server::start().await;
    let headers = format!(
        "{ORIGIN}access-control-request-method: POST\r\naccess-control-request-headers: authorization,x-retry-count\r\n\
         access-control-request-private-network: true\r\n"
    );
    let answer = server.client().await.ask("OPTIONS /v1/t", &headers, b"").await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    check(
        &answer,
        &[
            ("access-control-allow-origin", Some("https://shop.example")),
            ("access-control-allow-credentials", Some("true")),
            ("access-control-allow-methods", Some("GET, POST, OPTIONS")),
            ("access-control-allow-headers", Some("authorization,x-retry-count")),
            ("access-control-allow-private-network", Some("true")),
            ("access-control-max-age", Some("600")),
            ("vary", Some("Origin")),
        ],
    );
}

#[tokio::test]
async fn nothing_is_allowed_that_nobody_asked_for() {
    let server = Server::start().await;
    let answer = server.client().await.ask("OPTIONS /v1/t", "", b"").await;
    check(
        &answer,
        &[
            ("access-control-allow-origin", None),
            ("access-control-allow-credentials", None),
            ("access-control-allow-headers", None),
            ("access-control-allow-private-network", None),
        ],
    );
    assert_eq!(server.client().await.ask("OPTIONS /nowhere", ORIGIN, b"").await.status, 404);
}

#[tokio::test]
async fn answers_and_refusals_can_be_read_by_the_page_that_asked() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let good = br#"{"event":"e","anonymousId":"a"}"#;
    let own = [("access-control-allow-origin", Some("https://shop.example")), ("vary", Some("Origin"))];
    let answer = client.ask("POST /v1/t?writeKey=wk", ORIGIN, good).await;
    assert_eq!(answer.status, 200);
    check(&answer, &own);
    server.log.break_topic(Some("events"));
    let answer = client.ask("POST /v1/t?writeKey=wk", ORIGIN, good).await;
    assert_eq!(answer.status, 503);
    check(&answer, &own);
    check(&answer, &[("access-control-expose-headers", Some("Retry-After, X-Trackway-Rejected"))]);
}
