//! Items -> records: one per request and visitor, in the visitor's partition; what was rejected into its own topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join;
use hyper::http::request::Parts;
use trackway_domain::event::ReceivedEvent;
use trackway_domain::id::ProjectId;
use trackway_domain::stamp::stamp;
use trackway_domain::time::ReceivedAt;
use trackway_enrich::exclusion::Excluded;
use trackway_eventlog::{EventLog, LogError, NewRecord};
use trackway_wire::{Item, Rejection, log};

use crate::Topics;
use crate::group::Visitors;
use crate::privacy::{Kept, Unkept};
use crate::rejected::{RejectedItem, RejectedRequest};
use crate::reply::Refusal;

/// Where items come from, and what is kept of that.
pub(crate) struct Origin<'a> {
    /// Whose they are.
    pub project: &'a ProjectId,
    /// Name of the protocol.
    pub protocol: &'static str,
    /// The request's head.
    pub head: &'a Parts,
    /// The request's header.
    pub user_agent: &'a str,
    /// The client's address as it is kept; empty: not at all.
    pub ip: String,
    /// Why the sender is taken for a bot, or empty.
    pub bot: &'static str,
    /// The visitor objects to being tracked and the project honours it, or the project does not want the sender: of what is
    /// rejected, only the reason is kept.
    pub reasons_only: bool,
    /// When they came now: the records' time.
    pub now: ReceivedAt,
    /// The request was rejected before, and is kept: it is not kept again, under another place and other ids.
    pub is_replay: bool,
    /// When they came first: the events' time is reckoned from it.
    pub received: ReceivedAt,
    /// Derives the id of a visitor who has none.
    pub derived_visitor: &'a (dyn Fn() -> String + Sync),
}

/// What became of a project's items, durably.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Events in the log.
    pub accepted: usize,
    /// Items with nothing to record.
    pub nothing: usize,
    /// Events that privacy does not want kept.
    pub withheld: usize,
    /// Events that the project excludes, by reason.
    pub excluded: [usize; Excluded::ALL.len()],
    /// Place and reason of the others.
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
    ///
    /// - `items`: with their places in the request.
    /// - `kept`: what privacy leaves of an event, and whose it is; or why nothing.
    /// - `body`: of the request, to be kept if something was rejected.
    pub(crate) async fn append(
        &self,
        origin: &Origin<'_>,
        items: Vec<(usize, Item)>,
        kept: impl Fn(ReceivedEvent) -> Result<Kept, Unkept>,
        body: &Bytes,
    ) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::default();
        let mut visitors = Visitors::of(items.len());
        let mut rejected = Vec::new();
        for (index, item) in items {
            match item {
                Item::Event { event, content } => match kept(event) {
                    Ok(Kept { mut event, visitor, anonymised }) => {
                        // Browsers say it twice; the record holds the header once for all its events.
                        if event.context.user_agent == origin.user_agent {
                            event.context.user_agent = String::new();
                        }
                        let event = stamp(event, visitor, origin.project, origin.received, &content);
                        visitors.add(origin.project, event, anonymised);
                        outcome.accepted += 1;
                    }
                    Err(Unkept::Objection) => outcome.withheld += 1,
                    Err(Unkept::Excluded(why)) => outcome.excluded[why as usize] += 1,
                },
                Item::Rejected { reason, content } => rejected.push(RejectedItem { index, reason, content }),
                Item::Nothing => outcome.nothing += 1,
            }
        }
        let request = log::RequestContext {
            project: origin.project.as_str(),
            user_agent: origin.user_agent,
            protocol: origin.protocol,
            ip: &origin.ip,
            bot: origin.bot,
        };
        let anonymous = log::RequestContext { ip: "", ..request };
        let events = visitors.into_groups().into_iter().map(|group| NewRecord {
            partition: group.key.partition(self.events_partitions),
            timestamp_ms: origin.now.0,
            value: log::encode_events(
                if group.anonymised { &anonymous } else { &request },
                &group.visitor,
                &group.events,
            ),
        });
        let events = events.collect();
        let of_rejected = match rejected.is_empty() || origin.is_replay {
            true => Vec::new(),
            false => vec![self.rejected(origin, origin.request(body.clone()).items(&rejected))],
        };
        try_join(self.send(&self.topics.events, events), self.send(&self.topics.rejected, of_rejected)).await?;
        outcome.rejected = rejected.into_iter().map(|item| (item.index, item.reason)).collect();
        Ok(outcome)
    }

    /// Keeps a request that was not understood at all.
    pub(crate) async fn reject(&self, origin: &Origin<'_>, reason: &Rejection, body: Bytes) -> Result<(), Refusal> {
        if origin.is_replay {
            return Ok(());
        }
        self.send(&self.topics.rejected, vec![self.rejected(origin, origin.request(body).whole(reason))]).await
    }

    fn rejected(&self, origin: &Origin<'_>, value: Bytes) -> NewRecord {
        let partition = self.next_rejected.fetch_add(1, Ordering::Relaxed) % self.rejected_partitions;
        NewRecord { partition, timestamp_ms: origin.now.0, value }
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

impl Origin<'_> {
    fn request(&self, body: Bytes) -> RejectedRequest<'_> {
        RejectedRequest {
            project: self.project.as_str(),
            protocol: self.protocol,
            head: self.head,
            body,
            visitor: (self.derived_visitor)(),
            reasons_only: self.reasons_only,
        }
    }
}
