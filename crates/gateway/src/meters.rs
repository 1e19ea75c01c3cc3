//! What is measured, with each counter looked up once: a look-up per event costs more than the event.
//!
//! Handles belong to the recorder that is installed when they are made, so the binary installs it before [`crate::bind`].

use std::time::Instant;

use hyper::StatusCode;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use trackway_domain::fate::Fate;
use trackway_domain::id::ProjectId;

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Segment's API.
    Segment,
    /// The pixel.
    Pixel,
    /// No tracker's: health, preflights, unknown paths.
    None,
}

impl Protocol {
    /// All of them, in the order of their numbers.
    const ALL: [Self; 3] = [Self::Segment, Self::Pixel, Self::None];

    /// As records and labels say it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Pixel => "pixel",
            Self::None => "none",
        }
    }
}

/// What the gateway itself decides about events. Whether an accepted one is counted, late or a duplicate, the worker
/// tells.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decision {
    /// In the log.
    Accepted,
    /// In the topic `rejected`, or refused together with its body.
    Rejected,
    /// The log did not take it; the sender was told to send again.
    Retry,
    /// Understood, and nothing to record.
    Nothing,
}

impl Decision {
    const ALL: [Self; 4] = [Self::Accepted, Self::Rejected, Self::Retry, Self::Nothing];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => Fate::Rejected.as_str(),
            Self::Retry => Fate::Retry.as_str(),
            Self::Nothing => "nothing",
        }
    }
}

/// The statuses that [`crate::reply`] gives.
const STATUSES: [StatusCode; 10] = [
    StatusCode::OK,
    StatusCode::NO_CONTENT,
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// The process's meters.
pub(crate) struct Meters {
    requests: [[Counter; STATUSES.len()]; Protocol::ALL.len()],
    /// Bytes of bodies as sent.
    pub body_bytes: Counter,
    /// From handing records to the log until it has them.
    pub append_seconds: Histogram,
    /// From a request's header to its answer.
    pub request_seconds: Histogram,
    /// Open connections.
    pub connections: Gauge,
}

impl Meters {
    /// Of the recorder that is installed.
    pub(crate) fn new() -> Self {
        let request = |protocol: Protocol, status: StatusCode| {
            let (protocol, status) = (protocol.as_str(), status.as_str().to_owned());
            counter!("gateway_requests_total", "protocol" => protocol, "status" => status)
        };
        Self {
            requests: Protocol::ALL.map(|protocol| STATUSES.map(|status| request(protocol, status))),
            body_bytes: counter!("gateway_body_bytes_total"),
            append_seconds: histogram!("gateway_append_seconds"),
            request_seconds: histogram!("gateway_request_seconds"),
            connections: gauge!("gateway_connections"),
        }
    }

    /// One request was answered.
    pub(crate) fn request(&self, protocol: Protocol, status: StatusCode) {
        let at = STATUSES.iter().position(|known| *known == status);
        let at = at.unwrap_or_else(|| panic!("status {status} is not one of meters::STATUSES"));
        self.requests[protocol as usize][at].increment(1);
    }
}

/// One project's meters.
#[derive(Clone)]
pub(crate) struct ProjectMeters([[Counter; Decision::ALL.len()]; Protocol::ALL.len()]);

impl ProjectMeters {
    /// Of the recorder that is installed. No project: what cannot be attributed to one.
    pub(crate) fn new(project: Option<&ProjectId>) -> Self {
        let project = project.map_or("", ProjectId::as_str);
        let event = |protocol: Protocol, decision: Decision| {
            let (fate, project, protocol) = (decision.as_str(), project.to_owned(), protocol.as_str());
            counter!("gateway_events_total", "fate" => fate, "project" => project, "protocol" => protocol)
        };
        Self(Protocol::ALL.map(|protocol| Decision::ALL.map(|decision| event(protocol, decision))))
    }

    /// So many events met this fate.
    pub(crate) fn events(&self, protocol: Protocol, decision: Decision, count: usize) {
        if count > 0 {
            self.0[protocol as usize][decision as usize].increment(count as u64);
        }
    }
}

/// The clock of durations, for histograms only; no decision looks at it.
#[expect(clippy::disallowed_methods, reason = "measures how long things take; decides nothing")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_protocols_and_decisions_are_their_places() {
        assert!(Protocol::ALL.iter().enumerate().all(|(at, protocol)| *protocol as usize == at));
        assert!(Decision::ALL.iter().enumerate().all(|(at, decision)| *decision as usize == at));
    }
}
