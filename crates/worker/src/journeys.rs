//! Second stage, over topic `journeys`: audiences, person by person.

mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use trackway_domain::audience::{AudienceRule, Change, Membership, Seen, Stay};
use trackway_domain::id::{EventKey, PersonKey};
use trackway_domain::rules::PartitionRules;
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_store::rows::MemberRow;
use trackway_wire::log::{self, DecodeError, pb};
use trackway_wire::rules::{audience_rule_from_pb, rules_from_pb};

use crate::clock::PartitionClock;
use crate::events::key;
use crate::snapshots::changes::Changes;
use crate::stage::{Decoded, Derived, FlushRange, Stage, Target};
use crate::touches::{self, Touches};
use crate::tracked::Tracked;

/// State of one partition of `journeys`.
#[derive(Debug)]
pub struct JourneysStage {
    partition: u32,
    journeys_partitions: u32,
    changes_partitions: u32,
    audiences: Vec<Audience>,
    /// Which audiences look at an event of a project.
    by_event: HashMap<(Arc<str>, String), Vec<u32>>,
    members: Tracked<Member>,
    /// Persons who turned out to be others: what still comes for them goes there.
    merged: Tracked<MergedInto>,
    /// Last origin seen of each source partition: what is not after it came before.
    marks: BTreeMap<(Arc<str>, u32), (u64, u32)>,
    /// Whose stays may have changed since the last block.
    dirty: Vec<MemberKey>,
    /// Whom the record at hand touched: whose subscribers may have to hear of it.
    fresh: Vec<MemberKey>,
    /// When stays of members end. What was extended since is found to be so when its time comes.
    timers: BTreeSet<(EventTime, MemberKey)>,
    touches: Touches<MemberKey>,
    rows: Vec<MemberRow>,
    derived: Vec<Outgoing>,
    snapshot: snapshot::Snapshot,
}

/// Audience (place in the list) and person.
type MemberKey = (u32, PersonKey);

/// Whom a person turned out to be.
#[derive(Debug, Clone, Copy)]
struct MergedInto(PersonKey);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Audience {
    project: Arc<str>,
    name: Arc<str>,
    rule: AudienceRule,
    created_ms: i64,
}

#[derive(Debug, Default)]
struct Member {
    state: Membership,
    user_id: String,
    visitor_id: String,
    dirty: bool,
    touched_minute: i64,
}

/// A derived record that waits for its origin.
#[derive(Debug)]
enum Outgoing {
    Moved { to: PersonKey, state: pb::PersonState },
    Changed { person: PersonKey, change: pb::MembershipChange },
}

/// What a record of `journeys` says, other than time and rules.
#[derive(Debug)]
pub enum JourneysBody {
    /// What persons did.
    Entries(pb::PersonEntries),
    /// An audience was made.
    Audience(pb::AudienceChange),
    /// A person's state came from another partition.
    Moved(pb::PersonState),
}

impl JourneysStage {
    /// Of an empty partition.
    #[must_use]
    pub fn new(partition: u32, journeys_partitions: u32, changes_partitions: u32) -> Self {
        Self {
            partition,
            journeys_partitions,
            changes_partitions,
            audiences: Vec::new(),
            by_event: HashMap::new(),
            members: Tracked::new(),
            merged: Tracked::new(),
            marks: BTreeMap::new(),
            dirty: Vec::new(),
            fresh: Vec::new(),
            timers: BTreeSet::new(),
            touches: Touches::new(),
            rows: Vec::new(),
            derived: Vec::new(),
            snapshot: snapshot::Snapshot::default(),
        }
    }

    /// Whether a record was not seen before; from now on it is.
    fn is_new(&mut self, origin: Option<&pb::Origin>) -> bool {
        let Some(origin) = origin else { return false };
        let mark = (origin.offset, origin.index);
        let source = (Arc::from(origin.topic.as_str()), origin.partition);
        match self.marks.get_mut(&source) {
            Some(last) if *last >= mark => false,
            Some(last) => {
                *last = mark;
                true
            }
            None => {
                self.marks.insert(source, mark);
                true
            }
        }
    }

    fn on_entries(&mut self, entries: pb::PersonEntries, clock: &mut PartitionClock) {
        if !self.is_new(entries.origin.as_ref()) {
            metrics::counter!("worker_derived_duplicates_total", "topic" => "journeys").increment(1);
            return;
        }
        let projects: Vec<Arc<str>> = entries.projects.iter().map(|project| project.as_str().into()).collect();
        // Which audiences look at which of the record's names, by project: looked up once, not per event.
        let mut looked_at: HashMap<(u32, u32), Vec<u32>> = HashMap::new();
        for entry in entries.entries {
            let (Ok(person), Some(project)) = (key(&entry.person), projects.get(entry.project as usize)) else {
                continue;
            };
            for ((&name, &time), &event_key) in entry.names.iter().zip(&entry.times_ms).zip(&entry.keys) {
                clock.on_event(EventTime(time));
                let audiences = looked_at.entry((entry.project, name)).or_insert_with(|| {
                    let name = entries.names.get(name as usize).cloned().unwrap_or_default();
                    self.by_event.get(&(project.clone(), name)).cloned().unwrap_or_default()
                });
                for &audience in audiences.iter() {
                    let seen = Seen { time: EventTime(time), key: EventKey(event_key), received: clock.log_time };
                    let rule = &self.audiences[audience as usize].rule;
                    let mut marks =
                        Marks { dirty: &mut self.dirty, fresh: &mut self.fresh, touches: &mut self.touches };
                    let member = touch(&mut self.members, &mut marks, (audience, person), clock);
                    name_member(member, &entry.user_id, &entry.visitor_id);
                    member.state.on_event(seen, rule);
                }
            }
            if !entry.merge_into.is_empty()
                && let Ok(into) = key(&entry.merge_into)
            {
                self.move_person(project, person, into, clock);
            }
        }
        self.tell(clock);
    }

    /// All that a person is goes to the partition of the person it turned out to be.
    fn move_person(&mut self, project: &Arc<str>, from: PersonKey, into: PersonKey, clock: &PartitionClock) {
        self.merged.insert(from, MergedInto(into));
        let mut audiences = Vec::new();
        let (mut user_id, mut visitor_id) = (String::new(), String::new());
        let mut marks = Marks { dirty: &mut self.dirty, fresh: &mut self.fresh, touches: &mut self.touches };
        for (number, audience) in (0..).zip(&self.audiences) {
            if audience.project != *project || !self.members.contains_key(&(number, from)) {
                continue;
            }
            let member = touch(&mut self.members, &mut marks, (number, from), clock);
            let seen = member.state.take(&audience.rule);
            user_id.clone_from(&member.user_id);
            visitor_id.clone_from(&member.visitor_id);
            audiences.push(pb::AudienceTimes {
                audience: audience.name.to_string(),
                times_ms: seen.iter().map(|seen| seen.time.0).collect(),
                keys: seen.iter().map(|seen| seen.key.0).collect(),
                received_ms: seen.iter().map(|seen| seen.received.0).collect(),
            });
        }
        if !audiences.is_empty() {
            let person = into.0.to_be_bytes().to_vec().into();
            let state =
                pb::PersonState { origin: None, project: project.to_string(), person, user_id, visitor_id, audiences };
            self.derived.push(Outgoing::Moved { to: into, state });
        }
    }

    /// A person's past: from another partition, or (without an origin) out of the store for an audience made later. What is
    /// held already counts once, so the latter may come twice.
    fn on_moved(&mut self, mut moved: pb::PersonState, clock: &mut PartitionClock) {
        if moved.origin.is_some() && !self.is_new(moved.origin.as_ref()) {
            metrics::counter!("worker_derived_duplicates_total", "topic" => "journeys").increment(1);
            return;
        }
        let Ok(person) = key(&moved.person) else { return };
        if let Some(&MergedInto(to)) = self.merged.peek(&person) {
            moved.person = to.0.to_be_bytes().to_vec().into();
            self.derived.push(Outgoing::Moved { to, state: moved });
            return;
        }
        for times in moved.audiences {
            let is = |a: &Audience| *a.project == *moved.project && *a.name == *times.audience;
            let Some(number) = self.audiences.iter().position(is) else { continue };
            // It may be the first that this partition hears of anybody; without a time nobody would ever leave.
            times.times_ms.iter().for_each(|&time| clock.on_event(EventTime(time)));
            let member_key = (u32::try_from(number).expect("few audiences"), person);
            let mut marks = Marks { dirty: &mut self.dirty, fresh: &mut self.fresh, touches: &mut self.touches };
            let member = touch(&mut self.members, &mut marks, member_key, clock);
            name_member(member, &moved.user_id, &moved.visitor_id);
            let seen = times.times_ms.iter().zip(&times.keys).zip(&times.received_ms);
            let seen = seen.map(|((&time, &key), &received)| Seen {
                time: EventTime(time),
                key: EventKey(key),
                received: ReceivedAt(received),
            });
            member.state.merge(seen, &self.audiences[number].rule);
        }
        self.tell(clock);
    }

    fn on_audience(&mut self, change: &pb::AudienceChange) {
        let Some(rule) = change.rule.as_ref().and_then(|rule| audience_rule_from_pb(rule).ok()) else { return };
        let audience = Audience {
            project: change.project.as_str().into(),
            name: change.audience.as_str().into(),
            rule,
            created_ms: change.created_ms,
        };
        let known = self.audiences.iter().any(|known| known.project == audience.project && known.name == audience.name);
        if !known {
            self.add_audience(audience);
        }
    }

    fn add_audience(&mut self, audience: Audience) {
        let number = u32::try_from(self.audiences.len()).expect("few audiences");
        let AudienceRule::EventCount { event, .. } = &audience.rule;
        self.by_event.entry((audience.project.clone(), event.clone())).or_default().push(number);
        self.audiences.push(audience);
    }

    /// Tells subscribers what follows from what was just applied: for those touched, and for those whose time has come.
    fn tell(&mut self, clock: &PartitionClock) {
        let watermark = clock.watermark();
        let mut ask = std::mem::take(&mut self.fresh);
        while let Some(&(due, member)) = self.timers.first() {
            if due.0 > watermark.0 {
                break;
            }
            self.timers.pop_first();
            ask.push(member);
        }
        for member_key in ask {
            let Some(member) = self.members.get_mut(&member_key) else { continue };
            let audience = &self.audiences[member_key.0 as usize];
            let (change, due) = member.state.on_time(&audience.rule, watermark);
            if let Some(due) = due {
                self.timers.insert((due, member_key));
            }
            let Some(change) = change else { continue };
            let (entered, at) = match change {
                Change::Entered(at) => (true, at),
                Change::Left(at) => (false, at),
            };
            let change = pb::MembershipChange {
                origin: None,
                project: audience.project.to_string(),
                audience: audience.name.to_string(),
                person: member_key.1.0.to_be_bytes().to_vec().into(),
                user_id: member.user_id.clone(),
                visitor_id: member.visitor_id.clone(),
                entered,
                at_ms: at.0,
            };
            self.derived.push(Outgoing::Changed { person: member_key.1, change });
        }
    }

    fn evict(&mut self, clock: &PartitionClock) {
        let horizon = Touches::<MemberKey>::horizon(clock);
        while let Some((minute, member_key)) = self.touches.due(horizon) {
            if self.members.peek(&member_key).is_none_or(|member| member.touched_minute != minute) {
                continue;
            }
            let member = self.members.get_mut(&member_key).expect("just looked at");
            let rule = &self.audiences[member_key.0 as usize].rule;
            member.state.evict(rule, clock.watermark(), clock.log_time, clock.rules.hold);
            if member.state.is_empty() {
                self.members.remove(&member_key);
            } else {
                self.touches.again(member_key, &mut member.touched_minute, horizon);
            }
        }
    }
}

/// The state of a person in an audience, marked as changed.
fn touch<'a>(
    members: &'a mut Tracked<Member>,
    marks: &mut Marks<'_>,
    key: MemberKey,
    clock: &PartitionClock,
) -> &'a mut Member {
    let member = members.get_or_insert_with(key, || Member { touched_minute: touches::NEVER, ..Member::default() });
    if !std::mem::replace(&mut member.dirty, true) {
        marks.dirty.push(key);
    }
    if marks.fresh.last() != Some(&key) {
        marks.fresh.push(key);
    }
    marks.touches.touch(key, &mut member.touched_minute, clock.log_time);
    member
}

/// Where a touched member is noted, apart from the members themselves.
struct Marks<'a> {
    dirty: &'a mut Vec<MemberKey>,
    fresh: &'a mut Vec<MemberKey>,
    touches: &'a mut Touches<MemberKey>,
}

fn name_member(member: &mut Member, user_id: &str, visitor_id: &str) {
    if !user_id.is_empty() && member.user_id.is_empty() {
        user_id.clone_into(&mut member.user_id);
    }
    if !visitor_id.is_empty() && member.visitor_id.is_empty() {
        visitor_id.clone_into(&mut member.visitor_id);
    }
}

impl Stage for JourneysStage {
    type Body = JourneysBody;
    type Rows = Vec<MemberRow>;

    fn decode(value: Bytes) -> Result<Decoded<Self::Body>, DecodeError> {
        use pb::journeys_record::Body;
        match log::decode::<pb::JourneysRecord>(value)?.body {
            Some(Body::Tick(pb::Tick {})) => Ok(Decoded::Tick),
            Some(Body::Rules(rules)) => Ok(Decoded::Rules(rules_from_pb(&rules)?)),
            Some(Body::Entries(entries)) => Ok(Decoded::Body(JourneysBody::Entries(entries))),
            Some(Body::Audience(change)) => Ok(Decoded::Body(JourneysBody::Audience(change))),
            Some(Body::Moved(state)) => Ok(Decoded::Body(JourneysBody::Moved(state))),
            None => Err(DecodeError::Field { field: "body" }),
        }
    }

    fn on_body(&mut self, _offset: u64, _received: ReceivedAt, body: JourneysBody, clock: &mut PartitionClock) {
        match body {
            JourneysBody::Entries(entries) => self.on_entries(entries, clock),
            JourneysBody::Audience(change) => self.on_audience(&change),
            JourneysBody::Moved(state) => self.on_moved(state, clock),
        }
    }

    fn on_tick(&mut self, clock: &PartitionClock) {
        self.tell(clock);
    }

    fn on_rules(&mut self, _old: &PartitionRules, _clock: &PartitionClock) {}

    fn rows(&self) -> usize {
        self.dirty.len()
    }

    fn flush(&mut self, range: FlushRange) -> Vec<Derived> {
        let origin = |index| {
            Some(pb::Origin { topic: "journeys".to_owned(), partition: self.partition, offset: range.first, index })
        };
        // Numbered in the order of each target's partition, so that its reader can drop what it has seen.
        let derive = |(index, outgoing)| match outgoing {
            Outgoing::Moved { to, mut state } => {
                state.origin = origin(index);
                let record = pb::JourneysRecord { body: Some(pb::journeys_record::Body::Moved(state)) };
                Derived {
                    target: Target::Journeys,
                    partition: to.partition(self.journeys_partitions),
                    value: log::encode(&record),
                }
            }
            Outgoing::Changed { person, mut change } => {
                change.origin = origin(index);
                let partition = person.partition(self.changes_partitions);
                Derived { target: Target::AudienceChanges, partition, value: log::encode(&change) }
            }
        };
        (0..).zip(std::mem::take(&mut self.derived)).map(derive).collect()
    }

    fn take_rows(&mut self, clock: &PartitionClock) -> Vec<MemberRow> {
        for member_key in std::mem::take(&mut self.dirty) {
            let member = self.members.get_mut(&member_key).expect("a dirty member is held");
            member.dirty = false;
            let audience = &self.audiences[member_key.0 as usize];
            let (back, put) = member.state.changes(&audience.rule);
            let row = |stay: Stay, sign| MemberRow {
                project: audience.project.clone(),
                audience: audience.name.clone(),
                person: member_key.1.0,
                user_id: member.user_id.clone(),
                visitor_id: member.visitor_id.clone(),
                entered_ms: stay.entered.0,
                left_ms: stay.left.0,
                partition: self.partition,
                sign,
            };
            self.rows.extend(back.into_iter().map(|stay| row(stay, -1)));
            self.rows.extend(put.into_iter().map(|stay| row(stay, 1)));
        }
        self.evict(clock);
        std::mem::take(&mut self.rows)
    }

    fn next_due(&self, clock: &PartitionClock) -> Option<ReceivedAt> {
        let (due, _) = self.timers.first()?;
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
        vec![("members", self.members.len()), ("timers", self.timers.len())]
    }
}
