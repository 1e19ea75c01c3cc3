//! The table, by what is hostile about a request.

mod bodies;
mod http1;
mod http2;
mod json;
mod queries;
mod senders;
mod slowness;
mod trackers;

use crate::row::Row;

/// What is answered at once.
pub(crate) fn quick() -> Vec<Row> {
    [http1::rows(), http2::rows(), bodies::rows(), json::rows(), queries::rows(), senders::rows(), trackers::rows()]
        .into_iter()
        .flatten()
        .collect()
}

/// What the gateway's patience ends.
pub(crate) fn slow() -> Vec<Row> {
    slowness::rows()
}
