//! HTTP in: write key -> limits -> parse -> stamp -> append -> one answer per event.
//!
//! - An answer of success means that the log has the events durably, nothing more and nothing less.
//! - A bad event spoils no other of its request; it goes to the topic `rejected` with its reason and bytes.
//! - What one request has for one visitor is one record, in order, in the partition that the visitor's key names.
//! - What a project's privacy does not want kept is gone before anything is written, and so is whoever it excludes.
//! - Bodies with an unknown write key are counted and not kept: anyone could fill the disk with them.
//! - Nothing that identifies a person, and no write key, is ever logged.
//!
//! Not here: what events mean (`domain`), how bytes become events and answers become bytes (`wire`), where events go next
//! (`eventlog`).

mod address;
mod admit;
mod append;
mod body;
mod cookie;
mod cors;
mod decode;
mod group;
mod meters;
mod patience;
mod privacy;
mod rate;
mod rejected;
mod replay;
mod reply;
mod routes;
mod script;
mod secret;
mod server;
mod shares;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use trackway_domain::id::ProjectId;
use trackway_domain::time::ReceivedAt;
use trackway_wire::redact::PropertyLists;

pub use server::{Bound, Projects, ServeError, SharedKey, bind, serve};
pub use trackway_enrich::exclusion::Exclusions;
pub use trackway_enrich::network::{AddressRange, AddressRanges};

/// Our clock, from the binary: the only way in which time gets in.
pub type Clock = fn() -> ReceivedAt;

/// What a gateway needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one ([`Bound::address`] tells which).
    pub listen: SocketAddr,
    /// Who may send. Can be replaced while it serves: [`Projects::replace`].
    pub projects: Vec<Project>,
    /// How much.
    pub limits: Limits,
    /// Where to.
    pub topics: Topics,
    /// Proxies whose word on the client's address (`X-Forwarded-For`) is taken.
    pub trusted_proxies: AddressRanges,
    /// Networks of data centres: whoever sends from there is flagged as a bot.
    pub hosting: Arc<AddressRanges>,
    /// Where the salts of derived ids come from.
    pub secret: Secret,
}

/// A project: who may write to it, how much, and what it wants kept.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its keys; several, so that one can be replaced without a gap. A key belongs to one project only.
    pub write_keys: Vec<WriteKey>,
    /// What all keys together may send.
    pub quota: Quota,
    /// What is kept of a visitor.
    pub privacy: Privacy,
    /// Whose events are not wanted at all.
    pub exclusions: Exclusions,
}

/// A key that lets events into its project, and never out.
#[derive(Debug, Clone)]
pub struct WriteKey {
    /// The key.
    pub key: String,
    /// Whence browsers may use it.
    pub use_from: UseFrom,
    /// What this key may send.
    pub quota: Quota,
}

/// Where a write key may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UseFrom {
    /// Anywhere.
    Anywhere,
    /// On pages of these origins only (`https://shop.example`, or `https://*.shop.example` for all hosts below).
    Origins(Vec<String>),
    /// By servers only: a request that a browser sent from a page is refused.
    Servers,
}

/// How many events are taken; `None`: as many as come. Each gateway process counts by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Events a second, averaged over some seconds.
    pub events_per_second: Option<u32>,
    /// Events a day (UTC).
    pub events_per_day: Option<u64>,
}

/// What a project keeps of its visitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privacy {
    /// What becomes of addresses.
    pub ip: IpPolicy,
    /// Visitors are known by a hash that changes daily, whatever ids their trackers send.
    pub cookieless: bool,
    /// A visitor without an id of its tracker's gets one in a cookie of the gateway's own domain, else a daily hash.
    pub id_cookie: bool,
    /// What `DNT: 1` and `Sec-GPC: 1` do.
    pub do_not_track: Objection,
    /// What a tracker's "consent denied" does.
    pub consent_denied: Objection,
    /// Whether a tracker that says nothing of consent counts as denied.
    pub consent_required: bool,
    /// What becomes of properties and traits, by name.
    pub properties: PropertyLists,
}

/// What becomes of a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpPolicy {
    /// It is kept whole.
    Keep,
    /// The network is kept (IPv4 /24, IPv6 /48): enough for geography.
    Truncate,
    /// Nothing is kept.
    Drop,
}

/// What a visitor's objection to being tracked does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// Nothing.
    Ignore,
    /// The event counts, and nobody can tell whose it is: daily hash as visitor, no user, traits, address or session id.
    Anonymise,
    /// Nothing is kept of the event.
    Refuse,
}

impl Privacy {
    /// Of a project that decided nothing.
    pub const USUAL: Self = Self {
        ip: IpPolicy::Truncate,
        cookieless: false,
        id_cookie: false,
        do_not_track: Objection::Ignore,
        consent_denied: Objection::Anonymise,
        consent_required: false,
        properties: PropertyLists::NONE,
    };
}

/// Where the daily salt of derived visitor ids, and the key of hashed properties, come from.
#[derive(Debug, Clone)]
pub enum Secret {
    /// Random, kept in this file, the salt replaced each day: nobody can reckon yesterday's ids from an address again.
    /// For one gateway.
    File(PathBuf),
    /// Reckoned from a secret that several gateways share, so that they derive the same ids.
    Shared(String),
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
