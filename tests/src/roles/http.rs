//! A plain HTTP client. Each request has a connection of its own: kept ones belong to the runtime of the test that opened
//! them, and an installation may be shared by tests.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Longer than a gateway waits for its log.
const REQUEST_MAX: Duration = Duration::from_secs(70);

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {:?}", self.body))
    }
}

pub(super) struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }

    pub async fn get(&self, url: &str) -> Result<Reply> {
        self.ask(Request::get(url).body(Full::default())?).await
    }

    /// - `key`: write key, as Basic authorization.
    pub async fn post(&self, url: &str, key: Option<&str>, headers: &[(&str, &str)], body: Bytes) -> Result<Reply> {
        let mut request = Request::builder().method(Method::POST).uri(url);
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{key}:"))));
        }
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        self.ask(request.body(Full::new(body))?).await
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Reply> {
        let url = request.uri().to_string();
        let exchange = async {
            let response = self.0.request(request).await?;
            let status = response.status().as_u16();
            anyhow::Ok(Reply { status, body: response.into_body().collect().await?.to_bytes() })
        };
        let answered = tokio::time::timeout(REQUEST_MAX, exchange).await.context("no answer in time");
        answered.and_then(|reply| reply).with_context(|| format!("asking {url}"))
    }
}
