//! Answers: one total match from what happened to status, code and "send it again"; the protocol makes bytes of it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use trackway_eventlog::AppendError;
use trackway_wire::protocol::{Answer, Refused, Verdict, plain_answer};
use trackway_wire::{Grouped, Rejection};

use crate::rate::Exceeded;

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
        "write key is missing. Send it where your tracker does, as user name of Basic authorization, or as `writeKey` of \
         the query"
    )]
    NoKey,
    /// A write key of nobody.
    #[error("write key is not known")]
    UnknownKey,
    /// The key may be used by servers only.
    #[error("write key is for servers only, and this request comes from a browser. Use a key for browsers")]
    ServerKey,
    /// The key may be used on other pages only.
    #[error("write key may not be used on pages of origin `{origin}`. Add it to the key's origins")]
    Origin { origin: String },
    /// So much may not be sent.
    #[error(
        "{of} has sent more than its limit of {} {}. Send again in {} s",
        Grouped(usize::try_from(exceeded.limit).unwrap_or(usize::MAX)),
        exceeded.unit,
        exceeded.retry_after_seconds
    )]
    Quota { of: &'static str, exceeded: Exceeded },
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
    /// It says so and is not.
    #[error("body is not valid {encoding}")]
    NotEncoded { encoding: &'static str },
    /// A compression that we do not undo.
    #[error("content encoding `{encoding}` is not supported. Use gzip, deflate, br, zstd or none")]
    Encoding { encoding: String },
    /// Too much at once.
    #[error("bodies in flight are {} bytes, limit is {}. Send again later", Grouped(*bytes), Grouped(*limit))]
    Overloaded { bytes: usize, limit: usize },
    /// The log did not take it.
    #[error("event log did not take the events. {}", if matches!(.0, AppendError::TooLarge { .. }) { "Send fewer at once" } else { "Send again later" })]
    Log(#[source] AppendError),
    /// The log did not answer.
    #[error("event log did not answer within {limit:?}. Send again later")]
    LogSlow { limit: Duration },
}

/// When to send again what the log or the process had no room for.
const RETRY_AFTER_SECONDS: u32 = 1;

impl Refusal {
    /// As protocols and plain clients are told it.
    pub(crate) fn refused(&self) -> Refused {
        let (status, code, retry_after_seconds) = self.kind();
        Refused { status: status.as_u16(), code, message: self.to_string(), retry_after_seconds }
    }

    /// Whether the same request may be taken later.
    pub(crate) fn is_temporary(&self) -> bool {
        self.kind().2.is_some()
    }

    fn kind(&self) -> (StatusCode, &'static str, Option<u32>) {
        let again = Some(RETRY_AFTER_SECONDS);
        match self {
            Self::NoSuchPath { .. } => (StatusCode::NOT_FOUND, "no_such_path", None),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method", None),
            Self::NoKey => (StatusCode::UNAUTHORIZED, "no_write_key", None),
            Self::UnknownKey => (StatusCode::UNAUTHORIZED, "unknown_write_key", None),
            Self::ServerKey => (StatusCode::FORBIDDEN, "server_key", None),
            Self::Origin { .. } => (StatusCode::FORBIDDEN, "origin", None),
            Self::Quota { exceeded, .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "quota", Some(exceeded.retry_after_seconds))
            }
            Self::Body(rejection) => match rejection {
                Rejection::Malformed { .. } | Rejection::Missing { .. } => {
                    (StatusCode::BAD_REQUEST, rejection.code(), None)
                }
                Rejection::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, rejection.code(), None),
                Rejection::Key { .. } => (StatusCode::UNAUTHORIZED, rejection.code(), None),
            },
            Self::BodyTooLarge { .. } | Self::DecodedTooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large", None)
            }
            Self::BodySlow { .. } => (StatusCode::REQUEST_TIMEOUT, "body_slow", again),
            Self::BodyCut => (StatusCode::BAD_REQUEST, "body_cut", None),
            Self::NotEncoded { .. } => (StatusCode::BAD_REQUEST, "not_encoded", None),
            Self::Encoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", None),
            Self::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", again),
            Self::LogSlow { .. } => (StatusCode::SERVICE_UNAVAILABLE, "log_slow", again),
            Self::Log(error) => match error {
                // A missing topic is ours to mend; until then the sender keeps its events.
                AppendError::NoSuchPartition { .. } | AppendError::Unavailable { .. } => {
                    (StatusCode::SERVICE_UNAVAILABLE, "log_unavailable", again)
                }
                // It would be too large the next time, too.
                AppendError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", None),
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
    of_answer(Answer::of(200, "text/plain", b"ok"))
}

/// Answer to a request that no protocol has.
pub(crate) fn refused(refusal: &Refusal) -> Reply {
    of_refusal(refusal, plain_answer(&Verdict::Refused(&refusal.refused())))
}

/// A protocol's answer.
pub(crate) fn of_answer(answer: Answer) -> Reply {
    let Answer { status, content_type, body, headers } = answer;
    let body = match body {
        std::borrow::Cow::Borrowed(body) => Bytes::from_static(body),
        std::borrow::Cow::Owned(body) => body.into(),
    };
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = StatusCode::from_u16(status).expect("a protocol answers with a status of HTTP");
    if !content_type.is_empty() {
        reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in headers {
        // A value that no header can have comes from the sender (a cookie that is echoed): it is left away.
        if let Ok(value) = HeaderValue::from_str(&value) {
            reply.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    reply
}

/// A protocol's answer to a request that was refused, with what every client may go by.
pub(crate) fn of_refusal(refusal: &Refusal, answer: Answer) -> Reply {
    let mut reply = of_answer(answer);
    let failed = !reply.status().is_success();
    let headers = reply.headers_mut();
    if let Some(seconds) = refusal.refused().retry_after_seconds
        && failed
    {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(allow) = refusal.allow() {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if matches!(refusal, Refusal::BodySlow { .. }) {
        // The rest of the body would be taken for the next request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}
