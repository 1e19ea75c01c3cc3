//! HTTP in: write key -> limits -> parse -> stamp -> append -> one answer per event.
//!
//! - An answer of success means that the log has the events durably, nothing more and nothing less.
//! - A bad event spoils no other of its request; it goes to the topic `rejected` with its reason and bytes.
//! - What one request has for one visitor is one record, in order, in the partition that the visitor's key names.
//! - Bodies with an unknown write key are counted and not kept: anyone could fill the disk with them.
//! - Nothing that identifies a person, and no write key, is ever logged.
//!
//! Not here: what events mean (`domain`), how bytes become events (`wire`), where they go next (`eventlog`).

mod admit;
mod append;
mod body;
mod cors;
mod meters;
mod patience;
mod reply;
mod routes;
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use trackway_domain::id::ProjectId;
use trackway_domain::time::ReceivedAt;

pub use server::{Bound, ServeError, bind, serve};

/// Our clock, from the binary: the only way in which time gets in.
pub type Clock = fn() -> ReceivedAt;

/// What a gateway needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one ([`Bound::address`] tells which).
    pub listen: SocketAddr,
    /// Who may send.
    pub projects: Vec<ProjectKeys>,
    /// How much.
    pub limits: Limits,
    /// Where to.
    pub topics: Topics,
}

/// A project and the keys that let events into it.
#[derive(Debug, Clone)]
pub struct ProjectKeys {
    /// The project.
    pub id: ProjectId,
    /// Its write keys; several, so that one can be replaced without a gap. A key belongs to one project only.
    pub write_keys: Vec<String>,
}

/// Limits of one gateway process.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a body as sent. Trackers cut batches at about 500 kB.
    pub body_bytes_max: usize,
    /// Bytes of a body after decompression. Stays well below the 16 MiB of one log record, since all of a body may be
    /// one visitor's.
    pub body_bytes_decoded_max: usize,
    /// Events in a batch.
    pub batch_events_max: usize,
    /// From a connection's first byte, or the end of its last request, to the end of the next request's header; so
    /// also how long a kept-alive connection may be idle.
    pub header_timeout: Duration,
    /// From the end of the header to the end of the body.
    pub body_timeout: Duration,
    /// How long an answer waits for the log. Longer than the log's own patience, so that its reason is heard first.
    pub append_timeout: Duration,
    /// Open connections; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Bytes of all bodies (as sent, and as decompressed) that are held at one moment, from reading to the log's
    /// answer. More are told to retry. Memory used is about four times this: bytes, parsed events, records.
    pub in_flight_bytes_max: usize,
}

/// Names of the topics written to.
#[derive(Debug, Clone)]
pub struct Topics {
    /// Events, by visitor.
    pub events: String,
    /// What never became an event.
    pub rejected: String,
}
