//! Sending batches to a gateway until it has answered for them. A batch that the gateway cannot take now is sent again
//! with the same ids, so it counts once however often it arrives.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::Batch;
use super::tally::Tally;

/// First pause before a batch is sent again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause, also when the gateway asks for a longer one: what it knows may change earlier.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Longest answer that is read. A batch of a thousand rejections with reasons is far smaller.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Time for one request; the gateway itself gives up on its log earlier.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// Sends to gateways with one key, to one as long as it takes what it gets, to the next when it does not. Clones share
/// connections.
#[derive(Clone)]
pub struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    /// At least one.
    urls: Vec<Uri>,
    /// Which of them is sent to.
    at: usize,
    authorization: String,
    give_up_after: Duration,
}

/// What a gateway says about a batch.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    /// Events that it did not take, the others it did.
    #[serde(default)]
    rejected: Vec<RejectedEvent>,
}

#[derive(Debug, Deserialize)]
struct RejectedEvent {
    index: usize,
    message: String,
}

/// What to do with a batch after one attempt.
enum Attempt {
    Answered(Answer),
    Again { pause: Option<Duration>, why: String },
}

impl Sender {
    /// - `servers`: for example `http://127.0.0.1:7070`; at least one.
    /// - `give_up_after`: how long one batch is tried.
    ///
    /// # Errors
    /// If one of `servers` is not an address that can be used.
    pub fn new(servers: &[String], project_key: &str, give_up_after: Duration) -> anyhow::Result<Self> {
        assert!(!servers.is_empty(), "there is a server to send to");
        let urls = servers.iter().map(|server| import_url(server)).collect::<anyhow::Result<_>>()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let authorization = format!("Basic {}", STANDARD.encode(format!("{project_key}:")));
        Ok(Self { client, urls, at: 0, authorization, give_up_after })
    }

    /// The same sender, beginning with another server: lanes share the servers out.
    #[must_use]
    pub fn of_lane(&self, lane: usize) -> Self {
        Self { at: lane % self.urls.len(), ..self.clone() }
    }

    fn url(&self) -> &Uri {
        &self.urls[self.at]
    }

    /// Sends what comes, one batch after the other, until there is no more.
    ///
    /// # Errors
    /// When a batch was tried for `give_up_after`, or the gateway refuses the whole request for a reason that sending it
    /// again cannot mend.
    pub async fn run(mut self, mut batches: mpsc::Receiver<Batch>, tally: &Tally) -> anyhow::Result<()> {
        while let Some(batch) = batches.recv().await {
            let answer = self.deliver(&batch, tally).await?;
            for rejected in answer.rejected {
                if let Some(&number) = batch.numbers.get(rejected.index) {
                    tally.reject(number, &rejected.message);
                }
            }
            tally.answered.fetch_add(batch.numbers.len() as u64, Relaxed);
        }
        Ok(())
    }

    async fn deliver(&mut self, batch: &Batch, tally: &Tally) -> anyhow::Result<Answer> {
        let body = Bytes::from(batch.body());
        let (begin, mut backoff) = (Instant::now(), PAUSE_MIN);
        loop {
            match self.attempt(body.clone()).await? {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Again { pause, why } => {
                    let pause = pause.unwrap_or(backoff).clamp(PAUSE_MIN, PAUSE_MAX);
                    if begin.elapsed() + pause > self.give_up_after {
                        bail!(
                            "{} did not take a batch for {:.0} s: {why}. Run the same command again to go on; what was \
                             taken counts once",
                            self.url(),
                            begin.elapsed().as_secs_f64()
                        );
                    }
                    tally.resent.fetch_add(1, Relaxed);
                    self.at = (self.at + 1) % self.urls.len();
                    tokio::time::sleep(pause).await;
                    backoff = (backoff * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn attempt(&self, body: Bytes) -> anyhow::Result<Attempt> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url().clone())
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, &self.authorization)
            .body(Full::new(body))
            .context("the project key cannot stand in a header")?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| chain(&e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((head, body.to_bytes()))
        };
        let again = |pause, why| Ok(Attempt::Again { pause, why });
        let (head, answer) = match tokio::time::timeout(REQUEST_TIME_MAX, exchange).await {
            Ok(Ok(exchange)) => exchange,
            Ok(Err(why)) => return again(None, why),
            Err(_) => return again(None, format!("no answer within {} s", REQUEST_TIME_MAX.as_secs())),
        };
        let text = || String::from_utf8_lossy(&answer[..answer.len().min(500)]).trim().to_owned();
        if head.status.is_success() {
            // An answer without JSON is some other Segment-like gateway's: it took everything.
            return Ok(Attempt::Answered(serde_json::from_slice(&answer).unwrap_or_default()));
        }
        // "Not one of them" is an answer event by event too.
        if head.status == StatusCode::BAD_REQUEST
            && let Ok(answer) = serde_json::from_slice::<Answer>(&answer)
            && !answer.rejected.is_empty()
        {
            return Ok(Attempt::Answered(answer));
        }
        if is_passing(head.status) {
            let asked = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return again(asked.map(Duration::from_secs), format!("{} {}", head.status, text()));
        }
        let hint = match head.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ". Check --project-key",
            StatusCode::PAYLOAD_TOO_LARGE => ". Choose a smaller --batch",
            StatusCode::NOT_FOUND => ". Is --server a gateway?",
            _ => "",
        };
        bail!("{} answered {}: {}{hint}", self.url(), head.status, text())
    }
}

fn import_url(server: &str) -> anyhow::Result<Uri> {
    let url: Uri = format!("{}/v1/import", server.trim_end_matches('/'))
        .parse()
        .with_context(|| format!("--server `{server}` is not an address such as http://127.0.0.1:7070"))?;
    if url.scheme_str() != Some("http") || url.host().is_none() {
        bail!("--server `{server}` must be http://HOST:PORT (for https go through a local proxy)");
    }
    Ok(url)
}

/// Whether the same request may be taken later.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) || status.is_server_error()
}

/// An error with its causes; hyper's outer words alone say nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
