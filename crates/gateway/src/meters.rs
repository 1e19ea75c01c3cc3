//! What is measured, with each counter looked up once: a look-up per event costs more than the event.
//!
//! Handles belong to the recorder that is installed when they are made, so the binary installs it before [`crate::bind`].
//! Those of a project and protocol are made when the first request of theirs comes: most projects speak one protocol.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use trackway_domain::fate::Fate;
use trackway_domain::id::ProjectId;
use trackway_enrich::exclusion::Excluded;
use trackway_wire::protocol::{ALL, Protocol};

/// What the gateway itself decides about events. Whether an accepted one is counted, late or a duplicate, the worker
/// tells.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decision {
    /// In the log.
    Accepted,
    /// In the topic `rejected`, or refused together with its body.
    Rejected,
    /// Not taken now; the sender was told to send again.
    Retry,
    /// Understood, and nothing to record.
    Nothing,
    /// Not kept, because the visitor objects.
    Withheld,
    /// Not kept, because the project does not want it.
    Excluded,
}

impl Decision {
    const ALL: [Self; 6] = [Self::Accepted, Self::Rejected, Self::Retry, Self::Nothing, Self::Withheld, Self::Excluded];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => Fate::Rejected.as_str(),
            Self::Retry => Fate::Retry.as_str(),
            Self::Nothing => "nothing",
            Self::Withheld => "withheld",
            Self::Excluded => "excluded",
        }
    }
}

/// Statuses that are told apart: those of [`crate::reply`] and of protocols; others are `other`.
const STATUSES: [u16; 16] = [200, 202, 204, 301, 302, 304, 400, 401, 403, 404, 405, 408, 413, 415, 429, 503];

/// One protocol's answers by status.
type Statuses = [OnceLock<Counter>; STATUSES.len() + 1];

/// The process's meters.
pub(crate) struct Meters {
    /// By protocol; the last is nobody's: health, preflights, unknown paths.
    requests: Vec<Statuses>,
    /// From handing records to the log until it has them.
    pub append_seconds: Histogram,
    /// Open connections.
    pub connections: Gauge,
}

impl Meters {
    /// Of the recorder that is installed.
    pub(crate) fn new() -> Self {
        Self {
            requests: (0..=ALL.len()).map(|_| std::array::from_fn(|_| OnceLock::new())).collect(),
            append_seconds: histogram!("gateway_append_seconds"),
            connections: gauge!("gateway_connections"),
        }
    }

    /// One request was answered.
    pub(crate) fn request(&self, protocol: Option<&'static dyn Protocol>, status: StatusCode) {
        let name = protocol.map_or("none", Protocol::name);
        let at = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len());
        let counter = self.requests[protocol.map_or(ALL.len(), number)][at].get_or_init(|| {
            let status = STATUSES.get(at).map_or_else(|| "other".to_owned(), u16::to_string);
            counter!("gateway_requests_total", "protocol" => name, "status" => status)
        });
        counter.increment(1);
    }
}

/// What a project and a protocol have in common.
struct EventMeters {
    events: [Counter; Decision::ALL.len()],
    requests: Counter,
    bytes: Counter,
    seconds: Histogram,
}

/// One project's meters.
pub(crate) struct ProjectMeters {
    project: String,
    protocols: Vec<OnceLock<EventMeters>>,
}

impl ProjectMeters {
    /// Of the recorder that is installed. No project: what cannot be attributed to one.
    pub(crate) fn new(project: Option<&ProjectId>) -> Self {
        let project = project.map_or("", ProjectId::as_str).to_owned();
        Self { project, protocols: ALL.iter().map(|_| OnceLock::new()).collect() }
    }

    /// So many events met this fate.
    pub(crate) fn events(&self, protocol: &'static dyn Protocol, decision: Decision, count: usize) {
        if count > 0 {
            self.of(protocol).events[decision as usize].increment(count as u64);
        }
    }

    /// So many events were excluded, by reason.
    pub(crate) fn excluded(&self, protocol: &'static dyn Protocol, by_reason: [usize; Excluded::ALL.len()]) {
        self.events(protocol, Decision::Excluded, by_reason.iter().sum());
        for (reason, count) in Excluded::ALL.into_iter().zip(by_reason).filter(|(_, count)| *count > 0) {
            let project = self.project.clone();
            counter!("gateway_excluded_events_total", "project" => project, "reason" => reason.as_str())
                .increment(count as u64);
        }
    }

    /// A request came, with a body of so many bytes as sent.
    pub(crate) fn request(&self, protocol: &'static dyn Protocol, body_bytes: usize) {
        let meters = self.of(protocol);
        meters.requests.increment(1);
        meters.bytes.increment(body_bytes as u64);
    }

    /// A request was answered, so long after its head came.
    pub(crate) fn took(&self, protocol: &'static dyn Protocol, time: Duration) {
        self.of(protocol).seconds.record(time);
    }

    fn of(&self, protocol: &'static dyn Protocol) -> &EventMeters {
        self.protocols[number(protocol)].get_or_init(|| {
            let (project, protocol) = (self.project.as_str(), protocol.name());
            let event = |decision: Decision| {
                let (fate, project) = (decision.as_str(), project.to_owned());
                counter!("gateway_events_total", "fate" => fate, "project" => project, "protocol" => protocol)
            };
            let labels = [("project", project.to_owned()), ("protocol", protocol.to_owned())];
            EventMeters {
                events: Decision::ALL.map(event),
                requests: counter!("gateway_project_requests_total", &labels),
                bytes: counter!("gateway_body_bytes_total", &labels),
                seconds: histogram!("gateway_request_seconds", &labels),
            }
        })
    }
}

/// A protocol's place among all.
fn number(protocol: &'static dyn Protocol) -> usize {
    ALL.iter().position(|other| other.name() == protocol.name()).expect("there are no others")
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
    fn numbers_of_decisions_are_their_places_and_names_of_protocols_differ() {
        assert!(Decision::ALL.iter().enumerate().all(|(at, decision)| *decision as usize == at));
        assert!(ALL.iter().enumerate().all(|(at, protocol)| number(*protocol) == at));
    }
}
