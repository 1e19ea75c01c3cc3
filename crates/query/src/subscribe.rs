//! Audience subscriptions: who is in now, then who enters and leaves, as it happens.
//!
//! **Consistent begin.** With `P` = the worker's progress in `journeys`, the snapshot holds every change that comes from
//! before `P` (rows are durable before progress is written), and the stream then gives those that come from `P` or later.
//! Rows may be ahead of progress, so some of these may be in the snapshot too: said again, they are the same.
//!
//! This relies on the worker: progress never stands within a flush, since a change's origin names the flush's first record.
//!
//! **Nothing is sent twice after a worker's crash**, nor lost when the log takes a change before an earlier one: changes are
//! appended again, with the same origins in the same order, and of each source (per partition here, since each is in order by
//! itself) those are taken whose turn has come. The cursor carries these origins, so that this holds for a client that comes
//! back too.
//!
//! **No task, no queue.** The stream is driven by the connection: a slow client takes changes from the log at its own
//! pace, and one that is gone takes its stream with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::Status;
use trackway_domain::id::{EventKey, PersonKey, ProjectId};
use trackway_eventlog::{LogError, OffsetBounds};
use trackway_wire::log::{Arrival, pb as log_pb};

use crate::audience::{existing, member_to_pb};
use crate::changes::{Change, Taken};
use crate::check::{self, BadRequest};
use crate::cursor::Cursor;
use crate::freshness::{PartitionState, done};
use crate::pb;
use crate::service::{Desk, refuse};
use crate::status::Fault;

/// Members in one response: about 100 KB.
const MEMBERS_PER_RESPONSE: usize = 1_000;
/// Changes that are taken at a time.
const CHANGES_PER_TURN: usize = 500;
/// How long a read of older changes waits for the log. Brokers need some time even for records that exist.
const READ_WAIT: Duration = Duration::from_millis(500);
/// How long a subscriber waits for the tables to reach what the log had when it came. A block takes a second or so; if
/// they are further behind, the begin is found by time instead.
const BEGIN_WAIT: Duration = Duration::from_secs(3);
const BEGIN_PAUSE: Duration = Duration::from_millis(50);
/// Clocks of machines that append to one partition differ by far less; beginning too early costs a few records that are
/// read and dropped.
const CLOCK_SLACK_MS: i64 = 60_000;

type Responses = Pin<Box<dyn Stream<Item = Result<pb::SubscribeResponse, Status>> + Send>>;

/// Checks, takes the snapshot, and hands out the stream.
pub(crate) async fn begin(desk: Arc<Desk>, request: pb::SubscribeRequest) -> Result<Responses, Fault> {
    let project = check::project(&request.project)?;
    let audience = check::plain_name("name", request.name)?;
    let place = Arc::clone(&desk.subscriber_places)
        .try_acquire_owned()
        .map_err(|_| Fault::Subscribers { limit: desk.config.subscribers_max })?;
    existing(&desk, project.as_str(), &audience).await?;

    let mut ready = VecDeque::new();
    let cursor = if request.cursor.is_empty() {
        let cursor = snapshot(&desk, &project, &audience, &mut ready).await?;
        let end = pb::subscribe_response::Body::SnapshotEnd(pb::SubscribeSnapshotEnd {});
        ready.push_back(pb::SubscribeResponse { body: Some(end), cursor: cursor.to_text() });
        cursor
    } else {
        resumed(&desk, &project, &audience, &request.cursor).await?
    };

    let mut cursor_period = tokio::time::interval(desk.config.cursor_period);
    cursor_period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    cursor_period.reset();
    let subscription = Subscription {
        arrivals: desk.changes.arrivals(),
        project: project.as_str().to_owned(),
        audience,
        told: cursor.next.clone(),
        cursor,
        ready,
        cursor_period,
        ended: false,
        _counted: Counted::new(place),
        desk,
    };
    Ok(Box::pin(futures_util::stream::unfold(subscription, Subscription::turn)))
}

/// Fills in the members as of some progress `P`, and says where what follows it begins.
async fn snapshot(
    desk: &Desk,
    project: &ProjectId,
    audience: &str,
    ready: &mut VecDeque<pb::SubscribeResponse>,
) -> Result<Cursor, Fault> {
    let topics = &desk.config.topics;
    // The order matters. If `P` reaches where `journeys` ended *after* the ends of `audience-changes` were read, then every
    // record from `P` on, and so every change that comes of it, was appended behind those ends.
    let mut next = ends(&desk.log.bounds(&topics.audience_changes).await?);
    let journeys = desk.log.bounds(&topics.journeys).await?;
    let deadline = Instant::now() + BEGIN_WAIT;
    let states = loop {
        let progress = desk.store.progress(&topics.journeys).await?;
        let states: Vec<_> = journeys
            .iter()
            .map(|(&partition, bounds)| PartitionState {
                partition,
                start: bounds.start,
                end: bounds.end,
                done: progress.iter().find(|row| row.partition == partition).map(done),
            })
            .collect();
        if states.iter().all(|state| state.pending() == 0) {
            break states;
        }
        if Instant::now() >= deadline {
            for (next, earlier) in next.iter_mut().zip(begin_by_time(desk, &states).await?) {
                *next = (*next).min(earlier);
            }
            break states;
        }
        tokio::time::sleep(BEGIN_PAUSE).await;
    };

    let watermarks: Vec<_> =
        states.iter().map(|state| (state.partition, state.watermark_ms().unwrap_or(i64::MIN))).collect();
    let _place = desk.place().await?;
    let mut members = desk.store.audience_members_by_partition(project.as_str(), audience, &watermarks).await?;
    // Of two stays that both lie ahead of the watermark subscribers hear of the last only.
    members.sort_unstable_by_key(|member| (member.person, Reverse(member.entered_ms)));
    members.dedup_by_key(|member| member.person);
    let mut members = members.into_iter().map(member_to_pb).peekable();
    while members.peek().is_some() {
        let part = pb::SubscribeSnapshot { members: members.by_ref().take(MEMBERS_PER_RESPONSE).collect() };
        let body = Some(pb::subscribe_response::Body::Snapshot(part));
        ready.push_back(pb::SubscribeResponse { body, cursor: String::new() });
    }
    Ok(Cursor {
        audience: audience_key(project, audience),
        next,
        floor: states.iter().map(|state| state.done.map_or(0, |done| done.offset)).collect(),
        seen: BTreeMap::new(),
    })
}

/// Where changes begin that come of records the tables lack, by the times at which those were received.
async fn begin_by_time(desk: &Desk, states: &[PartitionState]) -> Result<Vec<u64>, Fault> {
    let topic = &desk.config.topics.audience_changes;
    // `None` is less than any time: a partition that nobody worked on yet may have anything.
    let received =
        states.iter().filter(|state| state.pending() > 0).map(|state| state.done.map(|done| done.log_time_ms));
    let offsets = match received.min().flatten() {
        Some(log_time_ms) => desk.log.offsets_at(topic, log_time_ms.saturating_sub(CLOCK_SLACK_MS)).await?,
        None => {
            desk.log.bounds(topic).await?.into_iter().map(|(partition, bounds)| (partition, bounds.start)).collect()
        }
    };
    Ok(offsets.into_values().collect())
}

/// Goes on where a cursor says.
async fn resumed(desk: &Desk, project: &ProjectId, audience: &str, text: &str) -> Result<Cursor, Fault> {
    let bad = |allowed: &str| {
        Fault::from(BadRequest::Value {
            field: "cursor".to_owned(),
            value: format!("`{}`", text.chars().take(80).collect::<String>()),
            allowed: allowed.to_owned(),
        })
    };
    let cursor = Cursor::parse(text).ok_or_else(|| bad("empty, or of a response of this subscription"))?;
    if cursor.audience != audience_key(project, audience) {
        return Err(bad("of this project and audience"));
    }
    let bounds = desk.log.bounds(&desk.config.topics.audience_changes).await?;
    if cursor.next.len() != bounds.len() || cursor.floor.len() != desk.journeys_partitions as usize {
        return Err(bad("of a log with as many partitions as this one. Begin again without a cursor"));
    }
    for (&wanted, (&partition, bounds)) in cursor.next.iter().zip(&bounds) {
        if wanted > bounds.end {
            return Err(bad("of this log, which ends before it. Begin again without a cursor"));
        }
        if wanted < bounds.start {
            return Err(Fault::CursorGone { partition, wanted, start: bounds.start });
        }
    }
    Ok(cursor)
}

fn ends(bounds: &BTreeMap<u32, OffsetBounds>) -> Vec<u64> {
    bounds.values().map(|bounds| bounds.end).collect()
}

/// What a cursor is bound to. An event key is 64 bits of a hash over project and text, which is what is needed.
fn audience_key(project: &ProjectId, audience: &str) -> u64 {
    EventKey::of_content(project, audience.as_bytes()).0
}

/// One subscriber.
struct Subscription {
    desk: Arc<Desk>,
    project: String,
    audience: String,
    /// Behind everything in `ready`.
    cursor: Cursor,
    /// [`Cursor::next`] as the client was last told.
    told: Vec<u64>,
    /// Responses to send.
    ready: VecDeque<pb::SubscribeResponse>,
    arrivals: watch::Receiver<u64>,
    cursor_period: Interval,
    ended: bool,
    _counted: Counted,
}

impl Subscription {
    /// The next response.
    async fn turn(mut self) -> Option<(Result<pb::SubscribeResponse, Status>, Self)> {
        if self.ended {
            return None;
        }
        let response = self.next().await.map_err(|fault| {
            self.ended = true;
            refuse("audience_subscribe", &fault)
        });
        Some((response, self))
    }

    async fn next(&mut self) -> Result<pb::SubscribeResponse, Fault> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(response);
            }
            if self.desk.stopping.is_cancelled() {
                return Err(Fault::Stopping);
            }
            // Marked before looking, so that what arrives while looking wakes us at once.
            self.arrivals.mark_unchanged();
            if self.look().await? {
                continue;
            }
            tokio::select! {
                _ = self.arrivals.changed() => {}
                () = self.desk.stopping.cancelled() => {}
                _ = self.cursor_period.tick() => {
                    if self.told != self.cursor.next {
                        self.told.clone_from(&self.cursor.next);
                        self.ready.push_back(pb::SubscribeResponse { body: None, cursor: self.cursor.to_text() });
                    }
                }
            }
        }
    }

    /// Takes what there is, of each partition a turn. False: nothing.
    async fn look(&mut self) -> Result<bool, Fault> {
        let mut found = false;
        for partition in 0..self.desk.changes.partitions() {
            let from = self.cursor.next[partition as usize];
            match self.desk.changes.take(partition, from, CHANGES_PER_TURN) {
                Taken::Changes { changes, next } => {
                    found |= next > from;
                    for change in changes {
                        self.on_change(partition, &change);
                    }
                    self.cursor.next[partition as usize] = next;
                }
                Taken::Older => {
                    let at = self.desk.changes.partition(partition);
                    let records = match self.desk.log.read(&at, from, CHANGES_PER_TURN, READ_WAIT).await {
                        Ok(records) => records,
                        Err(LogError::Gone { wanted, start, .. }) => {
                            return Err(Fault::CursorGone { partition, wanted, start });
                        }
                        Err(error) => return Err(error.into()),
                    };
                    found |= !records.is_empty();
                    for record in records {
                        self.on_change(partition, &Change::read(&at, record));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Queues a change, if it is this audience's and its turn has come.
    fn on_change(&mut self, partition: u32, change: &Change) {
        self.cursor.next[partition as usize] = change.offset + 1;
        let Some(change) = &change.change else { return };
        if change.audience != self.audience || change.project != self.project || !self.is_next(partition, change) {
            return;
        }
        let Some(person) = <[u8; 16]>::try_from(&*change.person).ok().map(u128::from_be_bytes) else {
            tracing::error!(partition, bytes = change.person.len(), "an audience change names no person");
            return;
        };
        self.told.clone_from(&self.cursor.next);
        let body = pb::subscribe_response::Body::Change(pb::MembershipChange {
            person: PersonKey(person).to_string(),
            user_id: change.user_id.clone(),
            visitor_id: change.visitor_id.clone(),
            entered: change.entered,
            at_ms: change.at_ms,
        });
        self.ready.push_back(pb::SubscribeResponse { body: Some(body), cursor: self.cursor.to_text() });
    }

    /// Whether a change is in neither the snapshot nor what was sent, and its turn has come.
    fn is_next(&mut self, partition: u32, change: &log_pb::MembershipChange) -> bool {
        // Every writer of ours names the origin; without one it can only be passed on.
        let Some(origin) = &change.origin else { return true };
        if self.cursor.floor.get(origin.partition as usize).is_some_and(|&floor| origin.offset < floor) {
            return false;
        }
        let source = (partition, origin.partition);
        match origin.arrival(self.cursor.seen.get(&source).copied()) {
            Arrival::Next => {
                self.cursor.seen.insert(source, origin.place());
                true
            }
            Arrival::Seen | Arrival::Early => false,
        }
    }
}

/// Counts a subscriber as long as it lives.
struct Counted {
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn new(place: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("subscribers").increment(1);
        Self { _place: place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("subscribers").decrement(1);
    }
}

#[cfg(test)]
mod tests;
