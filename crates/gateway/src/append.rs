//! Items -> records: one per request and visitor, in the visitor's partition; rejections into their own topic.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join;
use trackway_domain::event::Event;
use trackway_domain::id::{PersonKey, ProjectId, Visitor};
use trackway_domain::stamp::stamp;
use trackway_domain::time::ReceivedAt;
use trackway_eventlog::{EventLog, LogError, NewRecord};
use trackway_wire::{Item, Rejection, log};

use crate::Topics;
use crate::meters::Protocol;
use crate::reply::Refusal;

/// Bytes of a rejected event that are kept: those of the largest event that would have been taken.
const REJECTED_BYTES_MAX: usize = trackway_domain::limits::EVENT_BYTES_MAX;

/// Where items come from.
pub(crate) struct Origin<'a> {
    /// Whose they are.
    pub project: &'a ProjectId,
    /// How they came.
    pub protocol: Protocol,
    /// The request's header.
    pub user_agent: &'a str,
    /// When they came.
    pub received: ReceivedAt,
}

/// What became of a request's items, durably.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Events in the log.
    pub accepted: usize,
    /// Items with nothing to record.
    pub nothing: usize,
    /// Position and reason of the others.
    pub rejected: Vec<(usize, Rejection)>,
}

/// The way into the log.
pub(crate) struct Appender {
    log: Arc<dyn EventLog>,
    topics: Topics,
    events_partitions: u32,
    rejected_partitions: u32,
    timeout: Duration,
    /// Rejections have no order to keep, so they go round.
    next_rejected: AtomicU32,
    /// Whether the last append was not done, so that an outage is two lines in the log and not one per request.
    down: AtomicBool,
}

impl Appender {
    /// Asks the log for its partitions, once: their number never changes.
    pub(crate) async fn new(log: Arc<dyn EventLog>, topics: Topics, timeout: Duration) -> Result<Self, LogError> {
        let events_partitions = log.partitions(&topics.events).await?;
        let rejected_partitions = log.partitions(&topics.rejected).await?;
        let (next_rejected, down) = (AtomicU32::new(0), AtomicBool::new(false));
        Ok(Self { log, topics, events_partitions, rejected_partitions, timeout, next_rejected, down })
    }

    /// Appends what items hold; resolves when all of it is durable.
    pub(crate) async fn append(&self, origin: &Origin<'_>, items: Vec<Item>) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::default();
        let mut visitors = Visitors::default();
        let mut rejected = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Item::Event { mut event, content } => {
                    // Browsers say it twice; the record holds the header once for all its events.
                    if event.context.user_agent == origin.user_agent {
                        event.context.user_agent = String::new();
                    }
                    let visitor = event.visitor.take().expect("a protocol with ids");
                    visitors.add(origin.project, stamp(event, visitor, origin.project, origin.received, &content));
                    outcome.accepted += 1;
                }
                Item::Rejected { reason, content } => {
                    rejected.push(self.rejected(origin, &reason, content.into()));
                    outcome.rejected.push((index, reason));
                }
                Item::Nothing => outcome.nothing += 1,
            }
        }
        let request = log::RequestContext {
            project: origin.project.as_str(),
            user_agent: origin.user_agent,
            protocol: origin.protocol.as_str(),
            ip: "",
            bot: "",
        };
        let events = visitors.groups.into_iter().map(|(key, visitor, events)| NewRecord {
            partition: key.partition(self.events_partitions),
            timestamp_ms: origin.received.0,
            value: log::encode_events(&request, &visitor, events),
        });
        let events = events.collect();
        try_join(self.send(&self.topics.events, events), self.send(&self.topics.rejected, rejected)).await?;
        Ok(outcome)
    }

    /// Keeps a body that was not understood at all.
    pub(crate) async fn reject(&self, origin: &Origin<'_>, reason: &Rejection, body: Bytes) -> Result<(), Refusal> {
        self.send(&self.topics.rejected, vec![self.rejected(origin, reason, body)]).await
    }

    fn rejected(&self, origin: &Origin<'_>, reason: &Rejection, mut body: Bytes) -> NewRecord {
        body.truncate(REJECTED_BYTES_MAX);
        NewRecord {
            partition: self.next_rejected.fetch_add(1, Ordering::Relaxed) % self.rejected_partitions,
            timestamp_ms: origin.received.0,
            value: log::encode(&log::pb::RejectedRecord {
                project: origin.project.as_str().to_owned(),
                protocol: origin.protocol.as_str().to_owned(),
                reason: reason.code().to_owned(),
                message: reason.to_string(),
                body,
                ..Default::default()
            }),
        }
    }

    async fn send(&self, topic: &str, records: Vec<NewRecord>) -> Result<(), Refusal> {
        if records.is_empty() {
            return Ok(());
        }
        let result = match tokio::time::timeout(self.timeout, self.log.append(topic, records)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Refusal::Log(error)),
            Err(_) => Err(Refusal::LogSlow { limit: self.timeout }),
        };
        // Read before written: the line of memory stays shared between the cores while all goes well.
        let is_down = result.is_err();
        if self.down.load(Ordering::Relaxed) != is_down && self.down.swap(is_down, Ordering::Relaxed) != is_down {
            match &result {
                Ok(()) => tracing::info!(topic, "event log takes records again"),
                Err(refusal) => tracing::warn!(
                    topic,
                    error = refusal as &dyn std::error::Error,
                    "event log does not take records; senders are told to retry"
                ),
            }
        }
        result
    }
}

/// Events by visitor: visitors in the order of their first event, events in the order of the request.
#[derive(Default)]
struct Visitors {
    groups: Vec<(PersonKey, Visitor, Vec<Event>)>,
    /// Place of each key in `groups`; filled from the second visitor on, since most requests have only one.
    places: HashMap<PersonKey, usize>,
}

impl Visitors {
    fn add(&mut self, project: &ProjectId, event: Event) {
        if let Some((_, visitor, events)) = self.groups.last_mut()
            && *visitor == event.visitor
        {
            events.push(event);
            return;
        }
        let key = event.visitor.key(project);
        if self.places.is_empty()
            && let Some((first, ..)) = self.groups.first()
        {
            self.places.insert(*first, 0);
        }
        match self.places.get(&key) {
            Some(&place) => self.groups[place].2.push(event),
            None => {
                if !self.groups.is_empty() {
                    self.places.insert(key, self.groups.len());
                }
                self.groups.push((key, event.visitor.clone(), vec![event]));
            }
        }
    }
}
