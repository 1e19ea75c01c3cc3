//! The gateway over real TCP connections, with a log in memory.

mod admission;
mod captures;
mod client;
mod cors;
mod drain;
mod limits;
mod log;
mod pixel;
mod segment;
mod server;
