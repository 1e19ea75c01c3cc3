//! Sending one rejected request to a gateway until it has answered for it.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HeaderName, RETRY_AFTER};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::Instant;
use trackway_query::pb;

/// First pause before a request is sent again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause, also when the gateway asks for a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Longest answer that is read. A thousand rejections with reasons are far smaller.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Time for one request; the gateway itself gives up on its log earlier.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// Place of the request in the topic `rejected`: `PARTITION.OFFSET`.
const REPLAY: &str = "x-trackway-replay";

/// Places of the items to take, separated by commas. Without it: all.
const ONLY: &str = "x-trackway-only";

/// When the request was first received, in ms since 1970 UTC.
const RECEIVED: &str = "x-trackway-received";

/// A write key of the project, which must be the rejected request's.
const PROJECT_KEY: &str = "x-trackway-project-key";

/// Headers that belong to the connection or to the body as it was compressed, and those that are ours to say.
const NOT_SENT: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    REPLAY,
    ONLY,
    RECEIVED,
    PROJECT_KEY,
];

/// Sends to one gateway with one key.
pub struct Resender {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: String,
    project_key: String,
    give_up_after: Duration,
}

/// What became of one request's items.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// So many are in the log now; a request as a whole counts as one where the gateway does not say how many.
    pub accepted: u64,
    /// Which were rejected again (`None`: the request as a whole), and why.
    pub rejected: Vec<(Option<u32>, String)>,
}

/// What a gateway says about a replayed request, whatever its protocol.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    accepted: Option<u64>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    rejected: Vec<RejectedAgain>,
}

#[derive(Debug, Deserialize)]
struct RejectedAgain {
    index: u32,
    #[serde(default)]
    code: String,
    message: String,
}

enum Attempt {
    Answered(Outcome),
    Again { pause: Option<Duration>, why: String },
}

impl Resender {
    /// - `gateway`: for example `http://127.0.0.1:7070`.
    /// - `give_up_after`: how long one request is tried.
    ///
    /// # Errors
    /// If `gateway` is not an address that can be used.
    pub fn new(gateway: &str, project_key: &str, give_up_after: Duration) -> anyhow::Result<Self> {
        let gateway = gateway.trim_end_matches('/').to_owned();
        let url: Uri = gateway
            .parse()
            .with_context(|| format!("--gateway `{gateway}` is not an address such as http://127.0.0.1:7070"))?;
        if url.scheme_str() != Some("http") || url.host().is_none() {
            bail!("--gateway `{gateway}` must be http://HOST:PORT (for https go through a local proxy)");
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, gateway, project_key: project_key.to_owned(), give_up_after })
    }

    /// Sends a request until the gateway has answered for it.
    ///
    /// - `only`: places of the items to take; none: the request as a whole.
    ///
    /// # Errors
    /// When it was tried for `give_up_after`, or the gateway lets nothing of this project in.
    pub async fn deliver(&self, rejected: &pb::RejectedRequest, only: &[u32]) -> anyhow::Result<Outcome> {
        let (begin, mut backoff) = (Instant::now(), PAUSE_MIN);
        loop {
            match self.attempt(rejected, only).await? {
                Attempt::Answered(outcome) => return Ok(outcome),
                Attempt::Again { pause, why } => {
                    let pause = pause.unwrap_or(backoff).clamp(PAUSE_MIN, PAUSE_MAX);
                    if begin.elapsed() + pause > self.give_up_after {
                        bail!(
                            "{} did not take a request for {:.0} s: {why}. Run the same command again to go on; what was \
                             taken counts once",
                            self.gateway,
                            begin.elapsed().as_secs_f64()
                        );
                    }
                    tokio::time::sleep(pause).await;
                    backoff = (backoff * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn attempt(&self, rejected: &pb::RejectedRequest, only: &[u32]) -> anyhow::Result<Attempt> {
        let request = self.request(rejected, only)?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| format!("{:#}", anyhow::Error::from(e)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((head, body.to_bytes()))
        };
        let (head, body) = match tokio::time::timeout(REQUEST_TIME_MAX, exchange).await {
            Ok(Ok(exchange)) => exchange,
            Ok(Err(why)) => return Ok(Attempt::Again { pause: None, why }),
            Err(_) => {
                let why = format!("no answer within {} s", REQUEST_TIME_MAX.as_secs());
                return Ok(Attempt::Again { pause: None, why });
            }
        };
        let text = String::from_utf8_lossy(&body[..body.len().min(500)]).trim().to_owned();
        let status = head.status;
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) || status.is_server_error() {
            let asked = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Ok(Attempt::Again { pause: asked.map(Duration::from_secs), why: format!("{status} {text}") });
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            bail!("{} answered {status}: {text}. Check --project-key", self.gateway);
        }
        let answer = serde_json::from_slice::<Answer>(&body).unwrap_or_default();
        Ok(Attempt::Answered(outcome(status, answer, &text, only)))
    }

    fn request(&self, rejected: &pb::RejectedRequest, only: &[u32]) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(rejected.method.as_str())
            .uri(format!("{}{}", self.gateway, rejected.target))
            .header(REPLAY, format!("{}.{}", rejected.partition, rejected.offset))
            .header(RECEIVED, rejected.received_ms)
            .header(PROJECT_KEY, &self.project_key);
        if !only.is_empty() {
            let only: Vec<String> = only.iter().map(u32::to_string).collect();
            request = request.header(ONLY, only.join(","));
        }
        for header in &rejected.headers {
            // What a stranger called his headers must not stop the others.
            let Ok(name) = HeaderName::try_from(&header.name) else { continue };
            if !NOT_SENT.contains(&name.as_str()) {
                request = request.header(name, &header.value);
            }
        }
        let at = format!("{}.{}", rejected.partition, rejected.offset);
        request.body(Full::new(rejected.body.clone().into())).with_context(|| {
            format!("the rejected request at {at} ({} {}) cannot be sent again", rejected.method, rejected.target)
        })
    }
}

fn outcome(status: StatusCode, answer: Answer, text: &str, only: &[u32]) -> Outcome {
    let sent = only.len().max(1) as u64;
    if !answer.rejected.is_empty() {
        let rejected: Vec<_> = answer
            .rejected
            .into_iter()
            .map(|again| {
                let why =
                    if again.code.is_empty() { again.message } else { format!("{}: {}", again.code, again.message) };
                (Some(again.index), why)
            })
            .collect();
        let accepted = answer.accepted.unwrap_or(sent.saturating_sub(rejected.len() as u64));
        return Outcome { accepted, rejected };
    }
    if status.is_success() {
        return Outcome { accepted: answer.accepted.unwrap_or(sent), rejected: Vec::new() };
    }
    let why = match (answer.code.as_str(), answer.message.as_str()) {
        ("", "") => format!("{status} {text}"),
        (code, message) => format!("{code}: {message}"),
    };
    Outcome { accepted: 0, rejected: vec![(None, why)] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Delivers one request against a server that gives these answers. Returns what became of it and what the server got.
    async fn exchange(answers: &[&str], only: &[u32]) -> (anyhow::Result<Outcome>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let header = |name: &str, value: &str| pb::Header { name: name.into(), value: value.into() };
        let rejected = pb::RejectedRequest {
            partition: 2,
            offset: 17,
            received_ms: 1_700_000_000_000,
            method: "POST".into(),
            target: "/api/event?x=%20".into(),
            headers: vec![
                header("content-type", "text/plain"),
                header("content-encoding", "gzip"),
                header("content-length", "999"),
                header("x-trackway-only", "1"),
                header("x-trackway-visitor", "derived"),
                header("no header\n", "at all"),
            ],
            body: b"the body".to_vec(),
            ..Default::default()
        };
        let server = async {
            let mut got = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = Vec::new();
                while !request.ends_with(b"the body") {
                    let mut buf = [0; 4096];
                    let n = stream.read(&mut buf).await.expect("a request");
                    request.extend_from_slice(&buf[..n]);
                }
                got.push(String::from_utf8(request).expect("text"));
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            got
        };
        let resender =
            Resender::new(&format!("http://{address}/"), "key", Duration::from_secs(30)).expect("an address");
        tokio::join!(resender.deliver(&rejected, only), server)
    }

    fn answer(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_request_goes_as_it_came_and_says_what_it_is() {
        let (outcome, got) = exchange(&[&answer("202 Accepted", "ok")], &[3, 7]).await;
        assert_eq!(outcome.expect("taken"), Outcome { accepted: 2, rejected: Vec::new() });
        let mut lines: Vec<&str> = got[0].split("\r\n").collect();
        assert_eq!(lines.remove(0), "POST /api/event?x=%20 HTTP/1.1");
        lines.retain(|line| !line.starts_with("host:"));
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "",
                "content-length: 8",
                "content-type: text/plain",
                "the body",
                "x-trackway-only: 3,7",
                "x-trackway-project-key: key",
                "x-trackway-received: 1700000000000",
                "x-trackway-replay: 2.17",
                "x-trackway-visitor: derived",
            ]
        );
    }

    #[tokio::test]
    async fn what_is_rejected_again_is_told_by_item_or_as_a_whole() {
        let body = r#"{"success":true,"accepted":1,"rejected":[{"index":7,"code":"too_large","message":"it is"}]}"#;
        let (outcome, _) = exchange(&[&answer("200 OK", body)], &[3, 7]).await;
        let again = vec![(Some(7), "too_large: it is".to_owned())];
        assert_eq!(outcome.expect("answered"), Outcome { accepted: 1, rejected: again });
        let body = r#"{"success":false,"code":"malformed","message":"body is not JSON"}"#;
        let (outcome, got) = exchange(&[&answer("400 Bad Request", body)], &[]).await;
        let again = vec![(None, "malformed: body is not JSON".to_owned())];
        assert_eq!(outcome.expect("answered"), Outcome { accepted: 0, rejected: again });
        assert!(!got[0].contains("x-trackway-only"), "{}", got[0]);
    }

    #[tokio::test]
    async fn a_busy_gateway_is_asked_again_and_a_wrong_key_is_said_at_once() {
        let (outcome, got) = exchange(&[&answer("503 Busy", ""), &answer("200 OK", r#"{"success":true}"#)], &[]).await;
        assert_eq!((outcome.expect("taken").accepted, got.len()), (1, 2));
        let (outcome, _) = exchange(&[&answer("401 Unauthorized", "write key is not known")], &[]).await;
        assert!(outcome.expect_err("refused").to_string().ends_with("write key is not known. Check --project-key"));
    }
}
