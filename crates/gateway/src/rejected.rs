//! What never became an event, as a record of its own: one a request, with the request's bytes, so that it can be looked at
//! and sent again.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::http::request::Parts;
use trackway_wire::log::pb;
use trackway_wire::{Rejection, log};

use crate::replay;

/// Bytes of one item that are shown beside its reason; the whole stands in the body.
const EXCERPT_BYTES_MAX: usize = 4096;

/// Items of one request whose reasons are told; the body still has all.
const ITEMS_MAX: usize = 1000;

/// Headers that a protocol may read. No cookies, no addresses, and nothing that is secret.
const HEADERS_KEPT: [&str; 13] = [
    "content-type",
    "user-agent",
    "accept-language",
    "origin",
    "referer",
    "anonymousid",
    "sentat",
    "openpanel-client-id",
    "openpanel-sdk-name",
    "openpanel-sdk-version",
    "x-umami-cache",
    "sp-anonymous",
    replay::VISITOR,
];

/// One item that was rejected.
pub(crate) struct RejectedItem {
    /// Its place in the request.
    pub index: usize,
    /// Why.
    pub reason: Rejection,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// A request with something that was rejected.
pub(crate) struct RejectedRequest<'a> {
    /// Whose it is.
    pub project: &'a str,
    /// Name of the protocol.
    pub protocol: &'static str,
    /// Its head.
    pub head: &'a Parts,
    /// Its body, decompressed.
    pub body: Bytes,
    /// Id derived for a visitor who has none; the address that it was derived from is not kept.
    pub visitor: String,
    /// The visitor objects to being tracked, and the project honours it: only the reasons are kept.
    pub reasons_only: bool,
}

impl RejectedRequest<'_> {
    /// The request as a whole was not understood.
    pub(crate) fn whole(self, reason: &Rejection) -> Bytes {
        self.record(reason, Vec::new())
    }

    /// Some of its items were not understood; at least one.
    pub(crate) fn items(self, items: &[RejectedItem]) -> Bytes {
        let excerpt_bytes = if self.reasons_only { 0 } else { EXCERPT_BYTES_MAX };
        let told = items.iter().take(ITEMS_MAX).map(|item| pb::RejectedItem {
            index: u32::try_from(item.index).unwrap_or(u32::MAX),
            reason: item.reason.code().to_owned(),
            message: item.reason.to_string(),
            content: Bytes::copy_from_slice(&item.content[..item.content.len().min(excerpt_bytes)]),
        });
        let told = told.collect();
        self.record(&items[0].reason, told)
    }

    fn record(self, reason: &Rejection, items: Vec<pb::RejectedItem>) -> Bytes {
        let (path, whole) = (self.head.uri.path(), self.head.uri.path_and_query());
        let target = if self.reasons_only { path } else { whole.map_or(path, hyper::http::uri::PathAndQuery::as_str) };
        log::encode(&pb::RejectedRecord {
            project: self.project.to_owned(),
            protocol: self.protocol.to_owned(),
            reason: reason.code().to_owned(),
            message: reason.to_string(),
            body: if self.reasons_only { Bytes::new() } else { self.body },
            items,
            method: self.head.method.as_str().to_owned(),
            target: target.to_owned(),
            headers: if self.reasons_only { Vec::new() } else { kept(&self.head.headers, &self.visitor) },
        })
    }
}

fn kept(headers: &HeaderMap, visitor: &str) -> Vec<pb::Header> {
    let header = |name: &str, value: &str| pb::Header { name: name.to_owned(), value: value.to_owned() };
    let of_request = HEADERS_KEPT.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(header(name, value))
    });
    let mut kept: Vec<_> = of_request.collect();
    if !headers.contains_key(replay::VISITOR) {
        kept.push(header(replay::VISITOR, visitor));
    }
    kept
}
