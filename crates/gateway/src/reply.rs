//! Answers: one total match from what happened to status, code and headers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use trackway_eventlog::AppendError;
use trackway_wire::{Grouped, Rejection, pixel};

use crate::append::Outcome;

/// The header that tells a pixel's sender what its body cannot.
const REJECTED: HeaderName = HeaderName::from_static("x-trackway-rejected");

/// Why a request as a whole was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nothing lies at this path.
    #[error("path `{path}` is not known")]
    NoSuchPath { path: String },
    /// Something lies there, for another method.
    #[error("method is not allowed here. Use {allow}")]
    Method { allow: &'static str },
    /// No write key at all.
    #[error(
        "write key is missing. Send it as user name of Basic authorization, as `writeKey` of the query or in the body"
    )]
    NoKey,
    /// A write key of nobody.
    #[error("write key is not known")]
    UnknownKey,
    /// The body is not the protocol's.
    #[error(transparent)]
    Body(Rejection),
    /// The body is too long; reading stopped.
    #[error("body is {} bytes or more, limit is {}", Grouped(*bytes), Grouped(*limit))]
    BodyTooLarge { bytes: usize, limit: usize },
    /// The body is too long once decompressed; decompressing stopped.
    #[error("decompressed body is {} bytes or more, limit is {}", Grouped(*bytes), Grouped(*limit))]
    DecodedTooLarge { bytes: usize, limit: usize },
    /// Not all of the body came in time.
    #[error("body did not arrive within {limit:?}")]
    BodySlow { limit: Duration },
    /// The connection broke within the body.
    #[error("body ended before its end")]
    BodyCut,
    /// It says gzip and is not.
    #[error("body is not valid gzip")]
    NotGzip,
    /// A compression that we do not undo.
    #[error("content encoding `{encoding}` is not supported. Use gzip or none")]
    Encoding { encoding: String },
    /// Too much at once.
    #[error("bodies in flight are {} bytes, limit is {}. Send again later", Grouped(*bytes), Grouped(*limit))]
    Overloaded { bytes: usize, limit: usize },
    /// The log did not take it.
    #[error("event log did not take the events. Send again later")]
    Log(#[source] AppendError),
    /// The log did not answer.
    #[error("event log did not answer within {limit:?}. Send again later")]
    LogSlow { limit: Duration },
}

impl Refusal {
    /// Status and short code.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoSuchPath { .. } => (StatusCode::NOT_FOUND, "no_such_path"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::NoKey => (StatusCode::UNAUTHORIZED, "no_write_key"),
            Self::UnknownKey => (StatusCode::UNAUTHORIZED, "unknown_write_key"),
            Self::Body(rejection) => match rejection {
                Rejection::Malformed { .. } | Rejection::Missing { .. } => (StatusCode::BAD_REQUEST, rejection.code()),
                Rejection::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, rejection.code()),
            },
            Self::BodyTooLarge { .. } | Self::DecodedTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::BodySlow { .. } => (StatusCode::REQUEST_TIMEOUT, "body_slow"),
            Self::BodyCut => (StatusCode::BAD_REQUEST, "body_cut"),
            Self::NotGzip => (StatusCode::BAD_REQUEST, "not_gzip"),
            Self::Encoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding"),
            Self::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::LogSlow { .. } => (StatusCode::SERVICE_UNAVAILABLE, "log_slow"),
            Self::Log(error) => match error {
                // A missing topic is ours to mend; until then the sender keeps its events.
                AppendError::NoSuchPartition { .. } | AppendError::Unavailable { .. } => {
                    (StatusCode::SERVICE_UNAVAILABLE, "log_unavailable")
                }
                // It would be too large the next time, too.
                AppendError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            },
        }
    }

    fn allow(&self) -> Option<&'static str> {
        if let Self::Method { allow } = self { Some(allow) } else { None }
    }
}

/// A response without the headers that depend on the asker ([`crate::cors`]).
pub(crate) type Reply = Response<Full<Bytes>>;

/// `/health`: this process serves.
pub(crate) fn healthy() -> Reply {
    reply(StatusCode::OK, "text/plain", Bytes::from_static(b"ok"))
}

/// Answer to a request that carries no events.
pub(crate) fn refused(refusal: &Refusal) -> Reply {
    let (status, code) = refusal.status();
    let message = json_text(&refusal.to_string());
    let body = format!(r#"{{"success":false,"code":"{code}","message":{message}}}"#);
    with_hints(reply(status, "application/json", body.into()), refusal, status)
}

/// Segment's answer. Its trackers look at the status only; people look at the rest.
pub(crate) fn segment(result: &Result<Outcome, Refusal>) -> Reply {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(refusal) => return refused(refusal),
    };
    if outcome.rejected.is_empty() {
        return reply(StatusCode::OK, "application/json", Bytes::from_static(br#"{"success":true}"#));
    }
    // An item with nothing to record was understood, so it is no failure.
    let success = outcome.accepted + outcome.nothing > 0;
    let rejected = outcome.rejected.iter().map(|(index, reason)| {
        let message = json_text(&reason.to_string());
        format!(r#"{{"index":{index},"code":"{}","message":{message}}}"#, reason.code())
    });
    let rejected = rejected.collect::<Vec<_>>().join(",");
    let accepted = outcome.accepted;
    let body = format!(r#"{{"success":{success},"accepted":{accepted},"rejected":[{rejected}]}}"#);
    let status = if success { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    reply(status, "application/json", body.into())
}

/// The pixel's answer: always the image, since an `<img>` has no use for an error. Only what the log did not take is
/// not called a success.
pub(crate) fn pixel(result: &Result<Outcome, Refusal>) -> Reply {
    let image = |status| {
        let mut reply = reply(status, "image/gif", Bytes::from_static(&pixel::GIF));
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        reply
    };
    let told = |mut reply: Reply, reason: String| {
        let visible = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        let reason: String = reason.chars().map(visible).collect();
        reply.headers_mut().insert(REJECTED, HeaderValue::from_str(&reason).expect("visible characters only"));
        reply
    };
    match result {
        Ok(outcome) => match outcome.rejected.first() {
            None => image(StatusCode::OK),
            Some((_, reason)) => told(image(StatusCode::OK), reason.to_string()),
        },
        Err(refusal) => {
            let (status, _) = refusal.status();
            let shown = if status.is_server_error() { status } else { StatusCode::OK };
            with_hints(told(image(shown), refusal.to_string()), refusal, status)
        }
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn with_hints(mut reply: Reply, refusal: &Refusal, status: StatusCode) -> Reply {
    let headers = reply.headers_mut();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        // Segment's and RudderStack's trackers wait as long as this says.
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(allow) = refusal.allow() {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if status == StatusCode::REQUEST_TIMEOUT {
        // The rest of the body would be taken for the next request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("text is always JSON")
}
