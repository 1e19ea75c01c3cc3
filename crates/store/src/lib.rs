//! ClickHouse: tables and migrations, row types, exact inserts, one SQL file per question; [`engine`] starts an embedded
//! server.
//!
//! - A row counts once, however often its block is sent ([`insert`]).
//! - Every question names its project, has limits, and says what it read ([`queries`]).
//! - One client and one SQL: whether ClickHouse is a child of ours or a cluster is not seen from here.
//! - Not here: what the numbers mean. Questions about order are evaluated by `domain`; SQL filters and sorts for it.

mod connect;
pub mod engine;
pub mod insert;
pub mod migrate;
mod native;
pub mod queries;
pub mod rows;
mod server_error;

pub use connect::{ConnectError, Store, StoreConfig};
