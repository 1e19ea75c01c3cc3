//! Answers out: a gRPC server over the tables; audience subscriptions, rejected requests and a live tail from the log.
//!
//! - A request becomes a checked question ([`check`]) before anything is read; every refusal names the field, the value and
//!   the limit.
//! - Questions about order stream out of ClickHouse and are evaluated by `domain`, person by person; merged persons are
//!   joined on the way ([`persons`]) in bounded memory.
//! - Every answer says how complete it is ([`freshness`]), and never claims more than it holds: the log's ends and the
//!   tables' progress are read before the tables.
//! - When a client goes away its handler is dropped, and with it the stream from ClickHouse, which ends the query there.
//! - Nothing is written here but audience definitions ([`audience`]) and what they take over from the past ([`backfill`]).
//!
//! Not here: authentication. Whoever reaches the port may read everything, so it belongs on a private network.

mod audience;
mod backfill;
mod changes;
mod check;
mod config;
mod cursor;
mod evaluate;
mod freshness;
mod funnel;
mod journey;
mod lag;
#[cfg(test)]
mod memory_log;
mod paths;
mod persons;
mod rejected;
mod server;
mod service;
mod sessions;
mod status;
mod subscribe;
mod tail;
mod touchpoint_flow;
mod touchpoints;
mod trend;
mod unmerge;

pub use config::{Config, Topics};
pub use server::{Bound, Clock, ServeError, bind, serve};

/// The public contract, generated: messages, servers and clients.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    reason = "generated; the comments stand in proto/trackway/v1"
)]
pub mod pb {
    tonic::include_proto!("trackway.v1");

    /// All files of the contract, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trackway.v1.bin"));
}
