//! First stage, over topic `events`: dedup, identity, enrichment, sessions, touchpoints; entries for the second stage.

mod entries;
mod row;
mod snapshot;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use trackway_domain::dedup::KnownEvents;
use trackway_domain::event::{Event, EventKind};
use trackway_domain::fate::Fate;
use trackway_domain::id::{PersonKey, ProjectId, Visitor};
use trackway_domain::identity::{self, Identified};
use trackway_domain::rules::PartitionRules;
use trackway_domain::session::{Session, SessionEvent, VisitorSessions};
use trackway_domain::time::ReceivedAt;
use trackway_store::rows::{EventRow, IdentityRow, SessionRow};
use trackway_wire::log::{self, DecodeError, pb};

use crate::clock::PartitionClock;
use crate::stage::{Decoded, Derived, FlushRange, Stage};
use entries::Entries;
use row::Enricher;
pub(crate) use snapshot::key;

/// State of one partition of `events`.
#[derive(Debug)]
pub struct EventsStage {
    partition: u32,
    known: KnownEvents,
    visitors: HashMap<PersonKey, VisitorState>,
    /// Visitors whose sessions changed since the last block.
    dirty: Vec<PersonKey>,
    /// When visitors were touched, by the minute, oldest first: whom to look at for eviction.
    touches: VecDeque<(i64, PersonKey)>,
    rows: EventsRows,
    entries: Entries,
    enricher: Enricher,
}

#[derive(Debug, Clone)]
struct VisitorState {
    project: ProjectId,
    /// The user it belongs to, once it was identified.
    user: Option<PersonKey>,
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
    /// Identities learnt.
    pub identities: Vec<IdentityRow>,
}

impl EventsStage {
    /// Of an empty partition.
    #[must_use]
    pub fn new(partition: u32, journeys_partitions: u32) -> Self {
        Self {
            partition,
            known: KnownEvents::default(),
            visitors: HashMap::new(),
            dirty: Vec::new(),
            touches: VecDeque::new(),
            rows: EventsRows::default(),
            entries: Entries::new(partition, journeys_partitions),
            enricher: Enricher::default(),
        }
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
        if is_bot && user.is_none() && !self.visitors.contains_key(&request.visitor_key) {
            // Crawlers come with a new visitor each time, of whom nothing need be held.
            clock.on_event(event.time);
            let under = request.visitor_key;
            self.rows.events.push(row::to_row(event, request, under, enriched, origin, late, received));
            return if late { Fate::Late } else { Fate::Counted };
        }
        let visitor = self.visitors.entry(request.visitor_key).or_insert_with(|| VisitorState {
            project: project.clone(),
            user: None,
            sessions: VisitorSessions::default(),
            dirty: false,
            touched_minute: i64::MIN,
        });
        let minute = received.0.div_euclid(60_000);
        if visitor.touched_minute != minute {
            visitor.touched_minute = minute;
            self.touches.push_back((minute, request.visitor_key));
        }
        // Who a visitor is holds whoever says it: the same person may come from a hosting range today and from home
        // tomorrow.
        let person = match identity::on_event(request.visitor_key, user, &mut visitor.user) {
            Identified::Known { person } => person,
            Identified::Joined { person } => {
                self.entries.merge(project, request.visitor_key, person);
                self.rows.identities.push(IdentityRow {
                    project: project.as_str().into(),
                    key: request.visitor_key.0,
                    person: person.0,
                    visitor_id: request.visitor.id().to_owned(),
                    user_id: event.received.user_id.clone().unwrap_or_default(),
                    at_ms: event.time.0,
                });
                person
            }
        };
        let under = identity::stored_under(request.visitor_key, person, visitor.user);
        let session = &clock.rules.project(project).session;
        if event.received.kind.is_activity() && !is_bot {
            visitor.sessions.on_event(
                SessionEvent { order: event.order(), page: enriched.page.clone(), landing: enriched.landing.clone() },
                session,
                received,
            );
            if !visitor.dirty {
                visitor.dirty = true;
                self.dirty.push(request.visitor_key);
            }
            self.entries.event(project, person, request.visitor, &event);
        }
        if event.received.kind == EventKind::Alias {
            self.on_alias(&event, user, project);
        }
        clock.on_event(event.time);
        self.rows.events.push(row::to_row(event, request, under, enriched, origin, late, received));
        if late { Fate::Late } else { Fate::Counted }
    }

    /// An alias says that another id, of a device or of a user, is this user too. Answers follow it at once, by the table
    /// of identities.
    fn on_alias(&mut self, event: &Event, user: Option<PersonKey>, project: &ProjectId) {
        let (Some(user), Some(other)) = (user, &event.received.other_id) else { return };
        if identity::is_refused(other) {
            return;
        }
        for key in [PersonKey::of_user(project, other), PersonKey::of_device(project, other)] {
            if key != user {
                self.rows.identities.push(IdentityRow {
                    project: project.as_str().into(),
                    key: key.0,
                    person: user.0,
                    visitor_id: other.clone(),
                    user_id: event.received.user_id.clone().unwrap_or_else(|| event.visitor.id().to_owned()),
                    at_ms: event.time.0,
                });
            }
        }
    }

    /// Lets go of visitors that nobody has touched for `hold` and whose sessions the watermark has passed. Who a visitor
    /// is stays known.
    fn evict(&mut self, clock: &PartitionClock) {
        let horizon = clock.log_time.minus(clock.rules.hold).minus(Duration::from_mins(1)).0.div_euclid(60_000);
        while self.touches.front().is_some_and(|&(minute, _)| minute < horizon) {
            let (minute, key) = self.touches.pop_front().expect("there is one");
            let Some(visitor) = self.visitors.get_mut(&key).filter(|visitor| visitor.touched_minute == minute) else {
                continue;
            };
            let session = &clock.rules.project(&visitor.project).session;
            visitor.sessions.evict(session, clock.watermark(), clock.log_time, clock.rules.hold);
            if !visitor.sessions.is_empty() {
                // The watermark has not passed it: look again an hour of received time later.
                visitor.touched_minute = horizon + 60;
                let place = self.touches.partition_point(|&(minute, _)| minute < horizon + 60);
                self.touches.insert(place, (horizon + 60, key));
            } else if visitor.user.is_none() {
                self.visitors.remove(&key);
            }
        }
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
}

impl Stage for EventsStage {
    type Body = pb::VisitorEvents;
    type Rows = EventsRows;

    fn decode(value: Bytes) -> Result<Decoded<Self::Body>, DecodeError> {
        match log::decode::<pb::EventsRecord>(value)?.body {
            Some(pb::events_record::Body::Tick(pb::Tick {})) => Ok(Decoded::Tick),
            Some(pb::events_record::Body::Rules(rules)) => {
                Ok(Decoded::Rules(trackway_wire::rules::rules_from_pb(&rules)?))
            }
            Some(pb::events_record::Body::Events(events)) if ProjectId::parse(&events.project).is_some() => {
                Ok(Decoded::Body(events))
            }
            Some(pb::events_record::Body::Events(_)) => Err(DecodeError::Field { field: "project" }),
            None => Err(DecodeError::Field { field: "body" }),
        }
    }

    fn on_body(&mut self, offset: u64, received: ReceivedAt, mut body: pb::VisitorEvents, clock: &mut PartitionClock) {
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
        let changed = |project: &ProjectId| old.project(project).session != clock.rules.project(project).session;
        for (key, visitor) in &mut self.visitors {
            if !visitor.sessions.is_empty() && changed(&visitor.project) {
                visitor
                    .sessions
                    .on_rules(&old.project(&visitor.project).session, &clock.rules.project(&visitor.project).session);
                if !std::mem::replace(&mut visitor.dirty, true) {
                    self.dirty.push(*key);
                }
            }
        }
        // The order of a hash table differs from run to run; a block's rows must not.
        self.dirty.sort_unstable();
    }

    fn rows(&self) -> usize {
        self.rows.events.len().max(self.dirty.len())
    }

    fn flush(&mut self, range: FlushRange) -> Vec<Derived> {
        self.entries.flush(range)
    }

    fn take_rows(&mut self, clock: &PartitionClock) -> EventsRows {
        for key in std::mem::take(&mut self.dirty) {
            let visitor = self.visitors.get_mut(&key).expect("a dirty visitor is held");
            visitor.dirty = false;
            let (back, put) = visitor.sessions.changes(&clock.rules.project(&visitor.project).session);
            let signed =
                back.into_iter().map(|session| (session, -1)).chain(put.into_iter().map(|session| (session, 1)));
            self.rows.sessions.extend(signed.map(|(session, sign)| session_row(&visitor.project, key, session, sign)));
        }
        self.evict(clock);
        std::mem::take(&mut self.rows)
    }

    fn next_due(&self, _clock: &PartitionClock) -> Option<ReceivedAt> {
        None
    }

    fn snapshot(&self, clock: &PartitionClock) -> Bytes {
        log::encode(&self.to_snapshot(clock))
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("visitors", self.visitors.len()), ("known_events", self.known.len())]
    }
}

fn session_row(project: &ProjectId, visitor: PersonKey, session: Session, sign: i8) -> SessionRow {
    let text = |page: Option<std::sync::Arc<str>>| page.map(|page| page.to_string()).unwrap_or_default();
    let landing = session.landing.as_deref().cloned().unwrap_or_default();
    SessionRow {
        project: project.as_str().into(),
        visitor: visitor.0,
        start_ms: session.start.0,
        end_ms: session.end.0,
        events: session.events,
        page_views: session.page_views,
        entry_page: text(session.entry_page),
        exit_page: text(session.exit_page),
        channel: if session.landing.is_some() { landing.channel } else { "Direct".to_owned() },
        source: landing.source,
        medium: landing.medium,
        campaign: landing.campaign,
        sign,
    }
}
