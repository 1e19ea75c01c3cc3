//! First stage, over topic `events`: dedup, identity, enrichment, sessions, touchpoints; entries for the second stage.

mod changes;
mod entries;
mod identity;
mod known;
mod projects;
mod row;
mod sessions;
mod snapshot;
mod visitor;
mod whole_snapshot;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use trackway_domain::dedup::{KnownEvents, Memory};
use trackway_domain::event::EventKind;
use trackway_domain::fate::Fate;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::identity::{Link, stored_under};
use trackway_domain::rules::PartitionRules;
use trackway_domain::session::VisitorSessions;
use trackway_domain::stamp;
use trackway_domain::time::ReceivedAt;
use trackway_enrich::geo::Places;
use trackway_store::insert::{EncodedRows, EventColumns};
use trackway_store::rows::{IdentityChangeRow, IdentityRow, SessionRow};
use trackway_wire::log::{self, DecodeError, EventsRecord, LoggedEvent, VisitorEvents, pb};

use crate::WorkerError;
use crate::clock::PartitionClock;
use crate::identities::IdentityRows;
use crate::rejected::Refused;
use crate::snapshots::changes::Changes;
use crate::stage::{Decoded, Derived, FlushRange, Stage};
use crate::touches::Touches;
use crate::tracked::Tracked;
use entries::Entries;
pub(crate) use identity::change_row;
pub use known::{DayFiles, KnownError};
use projects::Projects;
use row::Enricher;
pub(crate) use snapshot::{key, key_bytes};

/// State of one partition of `events`.
#[derive(Debug)]
pub struct EventsStage {
    partition: u32,
    known: KnownEvents<DayFiles>,
    /// Why it cannot be said what is known.
    failure: Option<KnownError>,
    visitors: Tracked<VisitorState>,
    /// Visitors whose sessions changed since the last block.
    dirty: Vec<PersonKey>,
    touches: Touches<PersonKey>,
    columns: EventColumns,
    /// The other rows of the block; its events are in `columns` until it is closed.
    rows: EventsRows,
    identities: IdentityRows,
    entries: Entries,
    /// Records for `rejected` since the last flush.
    rejected: Vec<Derived>,
    enricher: Enricher,
    projects: Projects,
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
    pub events: EncodedRows,
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
            known: KnownEvents::new(Memory::USUAL, DayFiles::default()),
            failure: None,
            visitors: Tracked::new(),
            dirty: Vec::new(),
            touches: Touches::new(),
            columns: EventColumns::new(),
            rows: EventsRows::default(),
            identities: IdentityRows::default(),
            entries: Entries::new(partition, journeys_partitions),
            rejected: Vec::new(),
            enricher: Enricher::default(),
            projects: Projects::default(),
            snapshot: snapshot::Snapshot::default(),
        }
    }

    /// With the operator's database of places.
    #[must_use]
    pub fn located_by(mut self, places: Option<Arc<Places>>) -> Self {
        self.enricher.places = places;
        self
    }

    /// With the ids of days that are over in files of this folder; `None`: they stay in memory. Those that there are
    /// already go there at once.
    #[must_use]
    pub fn with_ids_in(mut self, folder: Option<PathBuf>) -> Self {
        self.known.put_away_in(DayFiles::new(folder, self.partition));
        self
    }

    /// One event. What a bot did is stored with the reason, and goes no further: it is in no session, no journey and no
    /// audience.
    fn on_event(
        &mut self,
        event: &LoggedEvent<'_>,
        request: &Request<'_>,
        index: u32,
        clock: &mut PartitionClock,
    ) -> Fate {
        let (Some(kind), Some(time_source)) = (event.kind, event.time_source) else { return Fate::Rejected };
        let received = clock.log_time;
        match self.known.claim(event.key, event.key_source(), request.received, received) {
            Ok(true) => {}
            Ok(false) => return Fate::Duplicate,
            Err(error) => {
                // Nothing that follows from here on leaves the partition.
                self.failure = Some(error);
                return Fate::Retry;
            }
        }
        let late = event.time.0 < clock.watermark().0;
        let project = request.project;
        let user = match (event.user_id, request.sender) {
            ("", Sender::User(_)) => Some(request.visitor_key),
            ("", Sender::Device(_)) => None,
            (user, _) => Some(PersonKey::of_user(project, user)),
        };
        let enriched = self.enricher.enrich(event, kind, request, clock.rules.project(project));
        let is_bot = !enriched.bot.is_empty();
        if is_bot {
            metrics::counter!("worker_bot_events_total", "reason" => enriched.bot.to_owned()).increment(1);
        }
        let under = stored_under(request.visitor_key, user);
        let origin = row::Origin { partition: self.partition, offset: request.offset, index };
        let stamp = row::Stamp { kind, time_source, late, received };
        self.columns.push(&row::to_row(event, request, under, &enriched, origin, stamp));
        // Crawlers come with a new visitor each time, of whom nothing need be held.
        if !is_bot || user.is_some() || self.visitors.contains_key(&request.visitor_key) {
            self.hold_visitor(request, received);
            self.identify(event, user, request);
            if kind.is_activity() && !is_bot {
                self.on_activity(event, kind, &enriched, user, request, clock);
                self.entries.event(project, under, request.sender, event);
            }
            if kind == EventKind::Alias {
                self.on_alias(event, user, request);
            }
        }
        clock.on_event(event.time);
        if late { Fate::Late } else { Fate::Counted }
    }
}

/// What the events of one record share.
pub(crate) struct Request<'a> {
    pub project: &'a ProjectId,
    pub sender: Sender<'a>,
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

/// The visitor of a record, by its id as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender<'a> {
    /// A browser or device.
    Device(&'a str),
    /// A user's server-side self.
    User(&'a str),
}

impl<'a> Sender<'a> {
    fn of(events: &VisitorEvents<'a>) -> Self {
        if events.visitor_is_user { Self::User(events.visitor_id) } else { Self::Device(events.visitor_id) }
    }

    fn id(self) -> &'a str {
        match self {
            Self::Device(id) | Self::User(id) => id,
        }
    }

    fn key(self, project: &ProjectId) -> PersonKey {
        match self {
            Self::Device(id) => PersonKey::of_device(project, id),
            Self::User(id) => PersonKey::of_user(project, id),
        }
    }
}

/// What a record of `events` says, other than time and rules.
#[derive(Debug)]
pub enum EventsBody<'a> {
    /// What a visitor did, and the record that says so.
    Events(VisitorEvents<'a>, &'a Bytes),
    /// A visitor is to be a person of its own.
    Unmerge(pb::VisitorUnmerge),
}

impl Stage for EventsStage {
    type Body<'a> = EventsBody<'a>;
    type Rows = EventsRows;

    fn decode(value: &Bytes) -> Result<Decoded<EventsBody<'_>>, DecodeError> {
        match log::read_events(value)? {
            EventsRecord::Tick => Ok(Decoded::Tick),
            EventsRecord::Rules(rules) => Ok(Decoded::Rules(trackway_wire::rules::rules_from_pb(&rules)?)),
            EventsRecord::Events(events) if ProjectId::is_one(events.project) => {
                Ok(Decoded::Body(EventsBody::Events(events, value)))
            }
            EventsRecord::Unmerge(unmerge) if ProjectId::is_one(&unmerge.project) => {
                Ok(Decoded::Body(EventsBody::Unmerge(unmerge)))
            }
            EventsRecord::Events(_) | EventsRecord::Unmerge(_) => Err(DecodeError::Field { field: "project" }),
        }
    }

    fn on_body(&mut self, offset: u64, received: ReceivedAt, body: EventsBody<'_>, clock: &mut PartitionClock) {
        let (mut body, record) = match body {
            EventsBody::Events(events, record) => (events, record),
            EventsBody::Unmerge(unmerge) => return self.on_unmerge(&unmerge, offset, clock),
        };
        let project = self.projects.of(body.project);
        let sender = Sender::of(&body);
        let request = Request {
            project: &project.id,
            sender,
            visitor_key: sender.key(&project.id),
            user_agent: body.user_agent,
            protocol: body.protocol,
            ip: body.ip,
            bot: body.bot,
            offset,
            received,
            log_time: clock.log_time,
        };
        let mut refused = Refused::default();
        for (index, event) in (0..).zip(&mut body.events) {
            if let Some(source) = &mut event.time_source {
                (event.time, *source) = stamp::believed(event.time, *source, received);
            }
            let fate = self.on_event(event, &request, index, clock);
            project.count(fate);
            if fate == Fate::Rejected {
                refused.push(index, if event.kind.is_none() { "kind" } else { "time_source" });
            }
        }
        self.rejected.extend(refused.keep(record, (self.partition, offset)));
    }

    fn on_tick(&mut self, _clock: &PartitionClock) {}

    fn on_rules(&mut self, old: &PartitionRules, clock: &PartitionClock) {
        self.recut(old, clock);
    }

    fn rows(&self) -> usize {
        self.columns.len().max(self.dirty.len())
    }

    fn flush(&mut self, range: FlushRange) -> Vec<Derived> {
        let mut derived = self.entries.flush(range);
        derived.append(&mut self.rejected);
        derived
    }

    fn take_rows(&mut self, last: u64, clock: &PartitionClock) -> (EventsRows, Vec<Derived>) {
        self.tell_sessions(clock);
        self.evict(clock);
        let (events, identities) = (self.columns.take(), self.identities.take());
        let rows = EventsRows { events, identities, ..std::mem::take(&mut self.rows) };
        let derived = changes::records(&rows.sessions, self.partition, last, self.entries.partitions());
        (rows, derived)
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

    fn failure(&mut self) -> Option<WorkerError> {
        self.failure.take().map(WorkerError::Known)
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("visitors", self.visitors.len()), ("known_events", self.known.len())]
    }
}
