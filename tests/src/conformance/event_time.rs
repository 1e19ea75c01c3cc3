//! Cases of event times: when an event happened, from what the client says and when we received it.

use trackway_domain::stamp;
use trackway_domain::time::ReceivedAt;

use super::case::{Case, Outcome, time_ms};

/// Runs one case. A client that says how long ago an event happened is one whose clock is right.
pub fn run(case: &Case) -> Outcome {
    let query = case.query();
    let Some(received) = query.time_ms("received_at") else { return Outcome::failed("`received_at` is missing") };
    let client = match (query.time_ms("client_time"), query.whole("offset_ms")) {
        (time, None) => time,
        (None, Some(offset)) => Some(received - offset),
        (Some(_), Some(_)) => return Outcome::failed("both `client_time` and `offset_ms` say when it happened"),
    };
    let (found, _) = stamp::event_time(client, query.time_ms("sent_at"), ReceivedAt(received));
    let Some(expected) = case.expected().text("event_time").and_then(time_ms) else {
        return Outcome::failed("`event_time` is missing");
    };
    Outcome::equal("event_time, in ms", &expected, &found.0)
}
