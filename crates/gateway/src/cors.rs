//! Browsers on the customer's pages ask from another origin: the answer reflects it.
//!
//! Never `*`: beacons come with credentials. The header names asked for are reflected too, because trackers add
//! some on a retry only (`x-retry-count`, `rsa-*`), and a fixed list would lose exactly the retried events. That is safe
//! here: a gateway answers nothing that a page could not know, and a write key may never read.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use crate::reply::Reply;

/// How long a browser remembers a preflight's answer. The longest that all of them honour.
const MAX_AGE_SECONDS: &str = "600";
const METHODS: &str = "GET, POST, OPTIONS";
/// What scripts may read of an answer besides its body.
const EXPOSED: &str = "Retry-After, X-Trackway-Rejected";

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The answer to a preflight.
pub(crate) fn preflight(asked: &HeaderMap) -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::NO_CONTENT;
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if asked.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    reply
}

/// Lets the page at `origin` read the answer. Without an origin nobody asked; and some answers are for everybody
/// ([`crate::script`]).
pub(crate) fn allow(reply: &mut Reply, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    let failed = !reply.status().is_success();
    let headers = reply.headers_mut();
    if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if failed {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}
