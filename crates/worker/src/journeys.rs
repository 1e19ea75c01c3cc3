//! Second stage, over topic `journeys`: who is one person, and audiences, person by person.

mod members;
mod outbox;
mod persons;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use trackway_domain::audience::{AudienceRule, Seen};
use trackway_domain::id::{EventKey, PersonKey};
use trackway_domain::identity::aliases::Cause;
use trackway_domain::identity::place::Edge;
use trackway_domain::rules::PartitionRules;
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_store::rows::{IdentityChangeRow, IdentityRow, MemberRow, identity_version};
use trackway_wire::log::{self, Arrival, DecodeError, pb};
use trackway_wire::rules::{audience_rule_from_pb, audience_rule_to_pb, rules_from_pb};

use crate::clock::PartitionClock;
use crate::events::key;
use crate::identities::IdentityRows;
use crate::snapshots::changes::Changes;
use crate::stage::{Decoded, Derived, FlushRange, Stage, Target};
use crate::tracked::Tracked;
use members::Members;
use outbox::Outbox;
use persons::{Standing, Users, seen};

/// State of one partition of `journeys`.
#[derive(Debug)]
pub struct JourneysStage {
    partition: u32,
    changes_partitions: u32,
    audiences: Vec<Audience>,
    /// Which audiences look at an event of a project.
    by_event: HashMap<(Arc<str>, String), Vec<u32>>,
    members: Members,
    /// Below whom keys of this partition stand; a key that is not here is a person by itself.
    places: Tracked<Standing>,
    /// Aliases of the projects that have their graph here.
    graphs: BTreeMap<Arc<str>, Users>,
    /// Place of the last record taken of each source partition.
    marks: BTreeMap<(Arc<str>, u32), (u64, u32)>,
    /// Of the record at hand, for rows of identities.
    version: u64,
    identities: IdentityRows,
    identity_changes: Vec<IdentityChangeRow>,
    outbox: Outbox,
    outgoing: Vec<Outgoing>,
    snapshot: snapshot::Snapshot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Audience {
    project: Arc<str>,
    name: Arc<str>,
    rule: AudienceRule,
    created_ms: i64,
}

impl Audience {
    fn to_pb(&self) -> pb::AudienceChange {
        pb::AudienceChange {
            project: self.project.to_string(),
            audience: self.name.to_string(),
            rule: Some(audience_rule_to_pb(&self.rule)),
            created_ms: self.created_ms,
        }
    }
}

/// A derived record for subscribers that waits for its origin.
#[derive(Debug)]
struct Outgoing {
    /// Place in the list.
    audience: u32,
    person: PersonKey,
    change: pb::MembershipChange,
}

/// What a record of `journeys` says, other than time and rules.
#[derive(Debug)]
pub enum JourneysBody {
    /// What persons did.
    Entries(pb::PersonEntries),
    /// An audience was made.
    Audience(pb::AudienceChange),
    /// A key's past came out of the store (or, written by an earlier version, from another partition).
    Moved(pb::PersonState),
    /// Another partition tells of persons.
    Updates(pb::PersonUpdates),
    /// Two users are to be two persons.
    Unmerge(pb::UserUnmerge),
    /// Sessions changed.
    Sessions(pb::SessionChanges),
}

/// Rows of one block.
#[derive(Debug, Default)]
pub struct JourneysRows {
    /// Stays taken back and put in.
    pub members: Vec<MemberRow>,
    /// What aliases say of who is who.
    pub identities: Vec<IdentityRow>,
    /// Commands that changed who is who.
    pub identity_changes: Vec<IdentityChangeRow>,
}

impl JourneysStage {
    /// Of an empty partition.
    #[must_use]
    pub fn new(partition: u32, journeys_partitions: u32, changes_partitions: u32) -> Self {
        Self {
            partition,
            changes_partitions,
            audiences: Vec::new(),
            by_event: HashMap::new(),
            members: Members::new(),
            places: Tracked::new(),
            graphs: BTreeMap::new(),
            marks: BTreeMap::new(),
            version: 0,
            identities: IdentityRows::default(),
            identity_changes: Vec::new(),
            outbox: Outbox::new(journeys_partitions),
            outgoing: Vec::new(),
            snapshot: snapshot::Snapshot::default(),
        }
    }

    /// Whether a record's turn has come; from now on it was. What is dropped is counted.
    fn is_next(&mut self, origin: Option<&pb::Origin>) -> bool {
        let arrival = origin.map_or(Arrival::Seen, |origin| {
            let source = (Arc::from(origin.topic.as_str()), origin.partition);
            let arrival = origin.arrival(self.marks.get(&source).copied());
            if arrival == Arrival::Next {
                self.marks.insert(source, origin.place());
            }
            arrival
        });
        match arrival {
            Arrival::Next => return true,
            Arrival::Seen => {
                metrics::counter!("worker_derived_duplicates_total", "topic" => "journeys").increment(1);
            }
            Arrival::Early => metrics::counter!("worker_derived_early_total", "topic" => "journeys").increment(1),
        }
        false
    }

    fn on_entries(&mut self, entries: pb::PersonEntries, clock: &mut PartitionClock) {
        if !self.is_next(entries.origin.as_ref()) {
            return;
        }
        let projects: Vec<Arc<str>> = entries.projects.iter().map(|project| project.as_str().into()).collect();
        // Which audiences look at which of the record's names, by project: looked up once, not per event.
        let mut looked_at: HashMap<(u32, u32), Vec<u32>> = HashMap::new();
        for entry in entries.entries {
            let (Ok(person), Some(project)) = (key(&entry.person), projects.get(entry.project as usize)) else {
                continue;
            };
            let place = self.parent(person);
            for ((&name, &time), &event_key) in entry.names.iter().zip(&entry.times_ms).zip(&entry.keys) {
                clock.on_event(EventTime(time));
                let audiences = looked_at.entry((entry.project, name)).or_insert_with(|| {
                    let name = entries.names.get(name as usize).cloned().unwrap_or_default();
                    self.by_event.get(&(project.clone(), name)).cloned().unwrap_or_default()
                });
                for &audience in audiences.iter() {
                    let (time, key) = (EventTime(time), EventKey(event_key));
                    let seen = Seen { time, key, via: person, received: clock.log_time };
                    let rule = &self.audiences[audience as usize].rule;
                    let member = self.members.touch((audience, person), place.is_some(), clock);
                    member.name(&entry.user_id, &entry.visitor_id);
                    if member.state.on_event(seen, rule) && place.is_some() {
                        self.hand_on(audience, person, vec![seen]);
                    }
                }
            }
            if !entry.merge_into.is_empty() {
                let link = pb::person_step::Step::Link(entry.merge_into.clone());
                let step = pb::PersonStep { step: Some(link), user_id: entry.user_id.clone() };
                self.on_step(project, person, &entry.visitor_id, &step, clock);
            }
            for step in &entry.steps {
                self.on_step(project, person, &entry.visitor_id, step, clock);
            }
        }
        for alias in &entries.aliases {
            let (Ok(a), Ok(b), Some(project)) = (key(&alias.a), key(&alias.b), projects.get(alias.project as usize))
            else {
                continue;
            };
            let edge = Edge { holds: true, a, b, cause: Cause::Alias };
            self.on_edge(project, edge, (&alias.a_id, &alias.b_id));
        }
        self.tell(clock);
    }

    fn on_updates(&mut self, updates: pb::PersonUpdates, clock: &mut PartitionClock) {
        use pb::person_update::Update;
        if !self.is_next(updates.origin.as_ref()) {
            return;
        }
        let projects: Vec<Arc<str>> = updates.projects.iter().map(|project| project.as_str().into()).collect();
        // The sender may have heard of an audience before this partition has.
        updates.audiences.iter().for_each(|audience| self.on_audience(audience));
        let audiences: Vec<Option<u32>> =
            updates.audiences.iter().map(|told| self.audience(&told.project, &told.audience)).collect();
        for update in &updates.updates {
            let Some(project) = projects.get(update.project as usize) else { continue };
            match (&update.update, key(&update.person)) {
                (Some(Update::Handed(handed)), Ok(person)) => {
                    let audience = audiences.get(handed.audience as usize).copied().flatten();
                    self.on_handed(project, person, handed, audience, clock);
                }
                (Some(Update::Named(named)), Ok(user)) => self.on_named(project, user, named, clock),
                (Some(Update::Edge(edge)), _) => {
                    if let Some(told) = persons::edge_from_pb(edge) {
                        self.on_edge(project, told, (&edge.a_id, &edge.b_id));
                    }
                }
                (Some(Update::Handed(_) | Update::Named(_)), Err(_)) | (None, _) => {}
            }
        }
        self.tell(clock);
    }

    /// A key's past out of the store, for an audience made later. What is held already counts once, so it may come twice.
    fn on_moved(&mut self, moved: &pb::PersonState, clock: &mut PartitionClock) {
        if moved.origin.is_some() && !self.is_next(moved.origin.as_ref()) {
            return;
        }
        let Ok(person) = key(&moved.person) else { return };
        let hidden = self.parent(person).is_some();
        for times in &moved.audiences {
            let Some(number) = self.audience(&moved.project, &times.audience) else { continue };
            // It may be the first that this partition hears of anybody; without a time nobody would ever leave.
            times.times_ms.iter().for_each(|&time| clock.on_event(EventTime(time)));
            let member = self.members.touch((number, person), hidden, clock);
            member.name(&moved.user_id, &moved.visitor_id);
            let seen = seen(&times.times_ms, &times.keys, &times.received_ms, person);
            let new = member.state.merge(seen, &self.audiences[number as usize].rule);
            self.hand_on(number, person, new);
        }
        self.tell(clock);
    }

    fn audience(&self, project: &str, name: &str) -> Option<u32> {
        let place = self.audiences.iter().position(|known| *known.project == *project && *known.name == *name)?;
        Some(u32::try_from(place).expect("few audiences"))
    }

    fn on_audience(&mut self, change: &pb::AudienceChange) {
        let Some(rule) = change.rule.as_ref().and_then(|rule| audience_rule_from_pb(rule).ok()) else { return };
        if self.audience(&change.project, &change.audience).is_none() {
            self.add_audience(Audience {
                project: change.project.as_str().into(),
                name: change.audience.as_str().into(),
                rule,
                created_ms: change.created_ms,
            });
        }
    }

    fn add_audience(&mut self, audience: Audience) {
        let number = u32::try_from(self.audiences.len()).expect("few audiences");
        let AudienceRule::EventCount { event, .. } = &audience.rule;
        self.by_event.entry((audience.project.clone(), event.clone())).or_default().push(number);
        self.audiences.push(audience);
    }
}

impl Stage for JourneysStage {
    type Body<'a> = JourneysBody;
    type Rows = JourneysRows;

    fn decode(value: &Bytes) -> Result<Decoded<JourneysBody>, DecodeError> {
        use pb::journeys_record::Body;
        match log::decode::<pb::JourneysRecord>(value.clone())?.body {
            Some(Body::Tick(pb::Tick {})) => Ok(Decoded::Tick),
            Some(Body::Rules(rules)) => Ok(Decoded::Rules(rules_from_pb(&rules)?)),
            Some(Body::Entries(entries)) => Ok(Decoded::Body(JourneysBody::Entries(entries))),
            Some(Body::Audience(change)) => Ok(Decoded::Body(JourneysBody::Audience(change))),
            Some(Body::Moved(state)) => Ok(Decoded::Body(JourneysBody::Moved(state))),
            Some(Body::Updates(updates)) => Ok(Decoded::Body(JourneysBody::Updates(updates))),
            Some(Body::Unmerge(unmerge)) => Ok(Decoded::Body(JourneysBody::Unmerge(unmerge))),
            Some(Body::Sessions(changes)) => Ok(Decoded::Body(JourneysBody::Sessions(changes))),
            None => Err(DecodeError::Field { field: "body" }),
        }
    }

    fn on_body(&mut self, offset: u64, _received: ReceivedAt, body: JourneysBody, clock: &mut PartitionClock) {
        self.version = identity_version(clock.log_time.0, offset);
        match body {
            JourneysBody::Entries(entries) => self.on_entries(entries, clock),
            JourneysBody::Audience(change) => self.on_audience(&change),
            JourneysBody::Moved(state) => self.on_moved(&state, clock),
            JourneysBody::Updates(updates) => self.on_updates(updates, clock),
            JourneysBody::Unmerge(unmerge) => self.on_unmerge(&unmerge, clock),
            // Downstream services read them. Nothing here follows from a session yet; but its place in the stream counts.
            JourneysBody::Sessions(changes) => {
                self.is_next(changes.origin.as_ref());
            }
        }
    }

    fn on_tick(&mut self, clock: &PartitionClock) {
        self.tell(clock);
    }

    fn on_rules(&mut self, _old: &PartitionRules, _clock: &PartitionClock) {}

    fn rows(&self) -> usize {
        self.members.changed()
    }

    fn flush(&mut self, range: FlushRange) -> Vec<Derived> {
        let mut numbers = 0..;
        // - `last`: of the stream that the record is for, the last one's index.
        let mut next = |last: &mut Option<u32>| {
            let index = numbers.next().expect("fewer records than 2^32 in a flush");
            let (topic, after) = ("journeys".to_owned(), last.replace(index));
            Some(pb::Origin { topic, partition: self.partition, offset: range.first, index, after })
        };
        let mut records = Vec::new();
        let mut last_updates: HashMap<u32, Option<u32>> = HashMap::new();
        for (partition, mut updates) in self.outbox.take() {
            updates.origin = next(last_updates.entry(partition).or_default());
            let record = pb::JourneysRecord { body: Some(pb::journeys_record::Body::Updates(updates)) };
            records.push(Derived { target: Target::Journeys, partition, value: log::encode(&record) });
        }
        let mut last_changes: HashMap<(u32, u32), Option<u32>> = HashMap::new();
        for Outgoing { audience, person, mut change } in std::mem::take(&mut self.outgoing) {
            let partition = person.partition(self.changes_partitions);
            change.origin = next(last_changes.entry((partition, audience)).or_default());
            records.push(Derived { target: Target::AudienceChanges, partition, value: log::encode(&change) });
        }
        records
    }

    fn take_rows(&mut self, _last: u64, clock: &PartitionClock) -> (JourneysRows, Vec<Derived>) {
        let rows = JourneysRows {
            members: self.members.take_rows(&self.audiences, self.partition),
            identities: self.identities.take(),
            identity_changes: std::mem::take(&mut self.identity_changes),
        };
        self.members.evict(&self.audiences, clock);
        (rows, Vec::new())
    }

    fn next_due(&self, clock: &PartitionClock) -> Option<ReceivedAt> {
        let (due, _) = self.members.timers.first()?;
        let wait = due.0.saturating_sub(clock.watermark().0).max(0);
        Some(ReceivedAt(clock.log_time.0.saturating_add(wait)))
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
        vec![("members", self.members.all.len()), ("timers", self.members.timers.len()), ("places", self.places.len())]
    }
}
