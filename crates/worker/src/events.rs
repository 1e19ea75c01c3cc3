//! First stage, over topic `events`: dedup, identity, enrichment, sessions, touchpoints; entries for the second stage.

mod entries;
mod identity;
mod row;
mod sessions;
mod snapshot;
mod visitor;
mod whole_snapshot;

use std::sync::Arc;

use bytes::Bytes;
use trackway_domain::dedup::KnownEvents;
use trackway_domain::event::{Event, EventKind};
use trackway_domain::fate::Fate;
use trackway_domain::id::{PersonKey, ProjectId, Visitor};
use trackway_domain::identity::{Link, stored_under};
use trackway_domain::rules::PartitionRules;
use trackway_domain::session::VisitorSessions;
use trackway_domain::time::ReceivedAt;
use trackway_enrich::geo::Places;
use trackway_store::rows::{EventRow, IdentityChangeRow, IdentityRow, SessionRow};
use trackway_wire::log::{self, DecodeError, pb};

use crate::clock::PartitionClock;
use crate::identities::IdentityRows;
use crate::snapshots::changes::Changes;
use crate::stage::{Decoded, Derived, FlushRange, Stage};
use crate::touches::Touches;
use crate::tracked::Tracked;
use entries::Entries;
pub(crate) use identity::change_row;
use row::Enricher;
pub(crate) use snapshot::{key, key_bytes};

/// State of one partition of `events`.
#[derive(Debug)]
pub struct EventsStage {
    partition: u32,
    known: KnownEvents,
    visitors: Tracked<VisitorState>,
    /// Visitors whose sessions changed since the last block.
    dirty: Vec<PersonKey>,
    touches: Touches<PersonKey>,
    rows: EventsRows,
    identities: IdentityRows,
    entries: Entries,
    enricher: Enricher,
    snapshot: snapshot::Snapshot,
}

#[derive(Debug, Clone)]
struct VisitorState {
    project: ProjectId,
    /// The user it belongs to, once it was identified.
    link: Option<Link>,
    sessions: VisitorSessions,
    dirty: bool,
    /// Minute in which it was last put into `touches`.
    touched_minute: i64,
}

/// Rows of one block.
#[derive(Debug, Default)]
pub struct EventsRows {
    /// Events that count.
    pub events: Vec<EventRow>,
    /// Sessions taken back and put in.
    pub sessions: Vec<SessionRow>,
    /// Identities learnt, and unlearnt.
    pub identities: Vec<IdentityRow>,
    /// Commands that changed who is who.
    pub identity_changes: Vec<IdentityChangeRow>,
}

impl EventsStage {
    /// Of an empty partition.
    #[must_use]
    pub fn new(partition: u32, journeys_partitions: u32) -> Self {
        Self {
            partition,
            known: KnownEvents::default(),
            visitors: Tracked::new(),
            dirty: Vec::new(),
            touches: Touches::new(),
            rows: EventsRows::default(),
            identities: IdentityRows::default(),
            entries: Entries::new(partition, journeys_partitions),
            enricher: Enricher::default(),
            snapshot: snapshot::Snapshot::default(),
        }
    }

    /// With the operator's database of places.
    #[must_use]
    pub fn located_by(mut self, places: Option<Arc<Places>>) -> Self {
        self.enricher.places = places;
        self
    }

    /// One event. What a bot did is stored with the reason, and goes no further: it is in no session, no journey and no
    /// audience.
    fn on_event(&mut self, event: Event, request: &Request<'_>, index: u32, clock: &mut PartitionClock) -> Fate {
        let received = clock.log_time;
        if !self.known.claim(event.key, event.key_source, request.received, received) {
            return Fate::Duplicate;
        }
        let late = event.time.0 < clock.watermark().0;
        let project = request.project;
        let user =
            event.received.user_id.as_deref().map(|id| PersonKey::of_user(project, id)).or(match request.visitor {
                Visitor::User(_) => Some(request.visitor_key),
                Visitor::Device(_) => None,
            });
        let enriched = self.enricher.enrich(&event, request, clock.rules.project(project));
        let is_bot = !enriched.bot.is_empty();
        if is_bot {
            metrics::counter!("worker_bot_events_total", "reason" => enriched.bot.clone()).increment(1);
        }
        let origin = row::Origin { partition: self.partition, offset: request.offset, index };
        let under = stored_under(request.visitor_key, user);
        if is_bot && user.is_none() && !self.visitors.contains_key(&request.visitor_key) {
            // Crawlers come with a new visitor each time, of whom nothing need be held.
            clock.on_event(event.time);
            self.rows.events.push(row::to_row(event, request, under, enriched, origin, late, received));
            return if late { Fate::Late } else { Fate::Counted };
        }
        self.hold_visitor(request, received);
        self.identify(&event, user, request);
        if event.received.kind.is_activity() && !is_bot {
            self.on_activity(&event, &enriched, user, request, clock);
            self.entries.event(project, under, request.visitor, &event);
        }
        if event.received.kind == EventKind::Alias {
            self.on_alias(&event, user, request);
        }
        clock.on_event(event.time);
        self.rows.events.push(row::to_row(event, request, under, enriched, origin, late, received));
        if late { Fate::Late } else { Fate::Counted }
    }
}

/// What the events of one record share.
pub(crate) struct Request<'a> {
    pub project: &'a ProjectId,
    pub visitor: &'a Visitor,
    pub visitor_key: PersonKey,
    pub user_agent: &'a str,
    pub protocol: &'a str,
    pub ip: &'a str,
    /// Why the gateway takes the sender for a bot, or empty.
    pub bot: &'a str,
    pub offset: u64,
    /// When the gateway received it; the same in every copy of the record.
    pub received: ReceivedAt,
    /// Time of the log when it came.
    pub log_time: ReceivedAt,
}

/// What a record of `events` says, other than time and rules.
#[derive(Debug)]
pub enum EventsBody {
    /// What a visitor did.
    Events(pb::VisitorEvents),
    /// A visitor is to be a person of its own.
    Unmerge(pb::VisitorUnmerge),
}

impl Stage for EventsStage {
    type Body = EventsBody;
    type Rows = EventsRows;

    fn decode(value: Bytes) -> Result<Decoded<Self::Body>, DecodeError> {
        match log::decode::<pb::EventsRecord>(value)?.body {
            Some(pb::events_record::Body::Tick(pb::Tick {})) => Ok(Decoded::Tick),
            Some(pb::events_record::Body::Rules(rules)) => {
                Ok(Decoded::Rules(trackway_wire::rules::rules_from_pb(&rules)?))
            }
            Some(pb::events_record::Body::Events(events)) if ProjectId::parse(&events.project).is_some() => {
                Ok(Decoded::Body(EventsBody::Events(events)))
            }
            Some(pb::events_record::Body::Unmerge(unmerge)) if ProjectId::parse(&unmerge.project).is_some() => {
                Ok(Decoded::Body(EventsBody::Unmerge(unmerge)))
            }
            Some(pb::events_record::Body::Events(_) | pb::events_record::Body::Unmerge(_)) => {
                Err(DecodeError::Field { field: "project" })
            }
            None => Err(DecodeError::Field { field: "body" }),
        }
    }

    fn on_body(&mut self, offset: u64, received: ReceivedAt, body: EventsBody, clock: &mut PartitionClock) {
        let mut body = match body {
            EventsBody::Events(events) => events,
            EventsBody::Unmerge(unmerge) => return self.on_unmerge(&unmerge, offset, clock),
        };
        let project = ProjectId::parse(&body.project).expect("checked in `decode`");
        let visitor = log::visitor_of(&body);
        let events = std::mem::take(&mut body.events);
        let request = Request {
            project: &project,
            visitor: &visitor,
            visitor_key: visitor.key(&project),
            user_agent: &body.user_agent,
            protocol: &body.protocol,
            ip: &body.ip,
            bot: &body.bot,
            offset,
            received,
            log_time: clock.log_time,
        };
        let mut fates = [0_u64; 4];
        for (index, event) in (0..).zip(events) {
            let fate = match log::event_from_pb(event, visitor.clone()) {
                Ok(event) => self.on_event(event, &request, index, clock),
                Err(_) => Fate::Rejected,
            };
            match fate {
                Fate::Counted => fates[0] += 1,
                Fate::Late => fates[1] += 1,
                Fate::Duplicate => fates[2] += 1,
                Fate::Rejected | Fate::Retry => fates[3] += 1,
            }
        }
        for (count, fate) in fates.into_iter().zip([Fate::Counted, Fate::Late, Fate::Duplicate, Fate::Rejected]) {
            if count > 0 {
                let project = project.as_str().to_owned();
                metrics::counter!("worker_events_total", "fate" => fate.as_str(), "project" => project)
                    .increment(count);
            }
        }
    }

    fn on_tick(&mut self, _clock: &PartitionClock) {}

    fn on_rules(&mut self, old: &PartitionRules, clock: &PartitionClock) {
        self.recut(old, clock);
    }

    fn rows(&self) -> usize {
        self.rows.events.len().max(self.dirty.len())
    }

    fn flush(&mut self, range: FlushRange) -> Vec<Derived> {
        self.entries.flush(range)
    }

    fn take_rows(&mut self, clock: &PartitionClock) -> EventsRows {
        self.tell_sessions(clock);
        self.evict(clock);
        EventsRows { identities: self.identities.take(), ..std::mem::take(&mut self.rows) }
    }

    fn next_due(&self, _clock: &PartitionClock) -> Option<ReceivedAt> {
        None
    }

    fn begin_snapshot(&mut self, clock: &PartitionClock) {
        self.begin(clock);
    }

    fn go_on_with_snapshot(&mut self, entries_max: usize) -> Option<Changes> {
        self.put_some(entries_max)
    }

    fn start_over(&mut self) {
        self.all_changed();
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("visitors", self.visitors.len()), ("known_events", self.known.len())]
    }
}
