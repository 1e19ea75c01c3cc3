//! What one flush has for other partitions: records of updates, in order, each for one partition.

use std::sync::Arc;

use trackway_domain::audience::Seen;
use trackway_domain::id::PersonKey;
use trackway_domain::identity::aliases::Cause;
use trackway_domain::identity::place::Edge;
use trackway_wire::log::pb;

use super::Audience;
use crate::events::key_bytes;

/// Events in one update, and in one record's updates (or what takes as much): some 30 bytes each, and a record stays well
/// below 1 MB.
const EVENTS_OF_UPDATE_MAX: usize = 4_000;
const EVENTS_OF_RECORD_MAX: usize = 8_000;

/// One thing to tell, except what keys have: for that see [`Outbox::has`].
pub(super) enum Update {
    /// To a person: all that `via` handed on is gone.
    AllGone { person: PersonKey, via: PersonKey },
    /// To a user: its person.
    Named { user: PersonKey, person: PersonKey, user_id: String, person_id: String },
    /// To the graph.
    Edge { edge: Edge, a_id: String, b_id: String },
}

/// Updates by partition.
#[derive(Debug)]
pub(super) struct Outbox {
    partitions: Vec<Vec<Record>>,
}

#[derive(Debug, Default)]
struct Record {
    projects: Vec<Arc<str>>,
    /// Their numbers here, in the order in which the record has them.
    audiences: Vec<u32>,
    body: pb::PersonUpdates,
    events: usize,
}

impl Record {
    fn project(&mut self, project: &Arc<str>) -> u32 {
        let number = self.projects.iter().position(|known| known == project).unwrap_or_else(|| {
            self.projects.push(project.clone());
            self.projects.len() - 1
        });
        u32::try_from(number).expect("few projects")
    }

    fn audience(&mut self, number: u32, audience: &Audience) -> u32 {
        let place = self.audiences.iter().position(|known| *known == number).unwrap_or_else(|| {
            self.audiences.push(number);
            self.body.audiences.push(audience.to_pb());
            self.audiences.len() - 1
        });
        u32::try_from(place).expect("few audiences")
    }
}

impl Outbox {
    pub fn new(partitions: u32) -> Self {
        Self { partitions: (0..partitions).map(|_| Vec::new()).collect() }
    }

    /// - `to`: the key whose owner is told.
    pub fn send(&mut self, to: PersonKey, project: &Arc<str>, update: Update) {
        let ids = match &update {
            Update::AllGone { .. } => 0,
            Update::Named { user_id: a, person_id: b, .. } | Update::Edge { a_id: a, b_id: b, .. } => a.len() + b.len(),
        };
        let record = self.record(to, 3 + ids / 30);
        let project = record.project(project);
        let (person, update) = match update {
            Update::AllGone { person, via } => {
                let kind = pb::handed_on::Kind::AllGone.into();
                let handed = pb::HandedOn { kind, via: key_bytes(via), ..pb::HandedOn::default() };
                (key_bytes(person), pb::person_update::Update::Handed(handed))
            }
            Update::Named { user, person, user_id, person_id } => {
                let named = pb::Named { person: key_bytes(person), user_id, person_id };
                (key_bytes(user), pb::person_update::Update::Named(named))
            }
            Update::Edge { edge, a_id, b_id } => {
                let Cause::Device(device) = edge.cause else { unreachable!("aliases come from the first stage") };
                let Edge { holds, a, b, .. } = edge;
                let edge =
                    pb::UserEdge { holds, a: key_bytes(a), b: key_bytes(b), device: key_bytes(device), a_id, b_id };
                (bytes::Bytes::new(), pb::person_update::Update::Edge(edge))
            }
        };
        record.body.updates.push(pb::PersonUpdate { project, person, update: Some(update) });
    }

    /// `via`, which stands below `to`, has these events. They are told once each.
    ///
    /// - `names`: user and visitor that they are known by.
    pub fn has(
        &mut self,
        to: PersonKey,
        via: PersonKey,
        audience: (u32, &Audience),
        mut seen: Vec<Seen>,
        names: (&str, &str),
    ) {
        seen.dedup_by_key(|seen| (seen.time, seen.key));
        self.hand(pb::handed_on::Kind::Has, to, via, audience, &seen, names);
    }

    /// `via`, which stands below `to`, has these events no longer.
    pub fn has_no_longer(&mut self, to: PersonKey, via: PersonKey, audience: (u32, &Audience), seen: Vec<Seen>) {
        self.hand(pb::handed_on::Kind::HasNoLonger, to, via, audience, &seen, ("", ""));
    }

    fn hand(
        &mut self,
        kind: pb::handed_on::Kind,
        to: PersonKey,
        via: PersonKey,
        (number, audience): (u32, &Audience),
        seen: &[Seen],
        (user_id, visitor_id): (&str, &str),
    ) {
        for seen in seen.chunks(EVENTS_OF_UPDATE_MAX) {
            let record = self.record(to, seen.len());
            let project = record.project(&audience.project);
            let audience = record.audience(number, audience);
            let (person, via) = (key_bytes(to), key_bytes(via));
            // A busy visitor's events come one after the other: they share one update.
            if let Some(last) = record.body.updates.last_mut()
                && last.person == person
                && let Some(pb::person_update::Update::Handed(handed)) = &mut last.update
                && (handed.kind(), &handed.via, handed.audience) == (kind, &via, audience)
            {
                add(handed, seen);
                continue;
            }
            let mut handed = pb::HandedOn {
                kind: kind.into(),
                via,
                audience,
                user_id: user_id.to_owned(),
                visitor_id: visitor_id.to_owned(),
                ..pb::HandedOn::default()
            };
            add(&mut handed, seen);
            let update = Some(pb::person_update::Update::Handed(handed));
            record.body.updates.push(pb::PersonUpdate { project, person, update });
        }
    }

    /// The records so far, with their partitions.
    pub fn take(&mut self) -> impl Iterator<Item = (u32, pb::PersonUpdates)> + '_ {
        (0..).zip(&mut self.partitions).flat_map(|(partition, records)| {
            std::mem::take(records).into_iter().map(move |mut record| {
                record.body.projects = record.projects.iter().map(|project| project.to_string()).collect();
                (partition, record.body)
            })
        })
    }

    fn record(&mut self, to: PersonKey, events: usize) -> &mut Record {
        let partitions = u32::try_from(self.partitions.len()).expect("at most 1024 partitions");
        let records = &mut self.partitions[to.partition(partitions) as usize];
        if records.last().is_none_or(|record| record.events > 0 && record.events + events > EVENTS_OF_RECORD_MAX) {
            records.push(Record::default());
        }
        let record = records.last_mut().expect("pushed above");
        record.events += events;
        record
    }
}

fn add(handed: &mut pb::HandedOn, seen: &[Seen]) {
    handed.times_ms.extend(seen.iter().map(|seen| seen.time.0));
    handed.keys.extend(seen.iter().map(|seen| seen.key.0));
    handed.received_ms.extend(seen.iter().map(|seen| seen.received.0));
}
