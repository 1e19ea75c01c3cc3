//! What the first stage tells the second: per flush and partition of `journeys` one record with all its persons.

use hashbrown::HashMap;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::identity::aliases;
use trackway_wire::log::{self, LoggedEvent, pb};

use super::{Sender, key_bytes};
use crate::stage::{Derived, FlushRange, Target};

/// Entries collected since the last flush.
#[derive(Debug)]
pub(super) struct Entries {
    source: u32,
    partitions: Vec<OnePartition>,
}

#[derive(Debug, Default)]
struct OnePartition {
    names: Vec<String>,
    name_numbers: HashMap<String, u32>,
    projects: Vec<String>,
    entries: Vec<pb::PersonEntry>,
    /// Where a person's open entry is.
    places: HashMap<PersonKey, usize>,
    aliases: Vec<pb::UserAlias>,
}

impl Entries {
    pub fn new(source: u32, partitions: u32) -> Self {
        Self { source, partitions: (0..partitions).map(|_| OnePartition::default()).collect() }
    }

    /// A person did something, known by the key that it is kept under.
    pub fn event(&mut self, project: &ProjectId, person: PersonKey, sender: Sender<'_>, event: &LoggedEvent<'_>) {
        let to = self.of(person);
        let name = match to.name_numbers.get(event.name) {
            Some(&number) => number,
            None => {
                let number = u32::try_from(to.names.len()).expect("fewer names than 2^32 in a flush");
                to.names.push(event.name.to_owned());
                to.name_numbers.insert(event.name.to_owned(), number);
                number
            }
        };
        let entry = to.entry(project, person);
        entry.names.push(name);
        entry.times_ms.push(event.time.0);
        entry.keys.push(event.key.0);
        match sender {
            Sender::Device(id) if entry.visitor_id.is_empty() => id.clone_into(&mut entry.visitor_id),
            Sender::User(id) if entry.user_id.is_empty() => id.clone_into(&mut entry.user_id),
            Sender::Device(_) | Sender::User(_) => {}
        }
        if entry.user_id.is_empty() {
            event.user_id.clone_into(&mut entry.user_id);
        }
    }

    /// Something became known of a device.
    pub fn step(&mut self, project: &ProjectId, device: PersonKey, device_id: &str, step: pb::PersonStep) {
        let entry = self.of(device).entry(project, device);
        if entry.visitor_id.is_empty() {
            device_id.clone_into(&mut entry.visitor_id);
        }
        entry.steps.push(step);
    }

    /// An alias joins two users, each with its id: for the project's graph.
    pub fn alias(&mut self, project: &ProjectId, (a, a_id): (PersonKey, &str), (b, b_id): (PersonKey, &str)) {
        let to = self.of(aliases::home(project));
        let project = to.project(project);
        let (a_id, b_id) = (a_id.to_owned(), b_id.to_owned());
        to.aliases.push(pb::UserAlias { project, a: key_bytes(a), b: key_bytes(b), a_id, b_id });
    }

    /// The records of one flush.
    pub fn flush(&mut self, range: FlushRange) -> Vec<Derived> {
        let mut records = Vec::new();
        for (partition, to) in (0..).zip(&mut self.partitions) {
            if to.entries.is_empty() && to.aliases.is_empty() {
                continue;
            }
            let OnePartition { names, projects, entries, aliases, .. } = std::mem::take(to);
            let entries = pb::PersonEntries {
                origin: Some(pb::Origin {
                    topic: "events".to_owned(),
                    partition: self.source,
                    offset: range.first,
                    index: 0,
                }),
                names,
                projects,
                entries,
                through: range.last,
                aliases,
            };
            let record = pb::JourneysRecord { body: Some(pb::journeys_record::Body::Entries(entries)) };
            records.push(Derived { target: Target::Journeys, partition, value: log::encode(&record) });
        }
        records
    }

    fn of(&mut self, person: PersonKey) -> &mut OnePartition {
        let partitions = u32::try_from(self.partitions.len()).expect("at most 1024 partitions");
        &mut self.partitions[person.partition(partitions) as usize]
    }
}

impl OnePartition {
    fn entry(&mut self, project: &ProjectId, person: PersonKey) -> &mut pb::PersonEntry {
        let place = match self.places.get(&person) {
            Some(&place) => place,
            None => {
                let project = self.project(project);
                let entry = pb::PersonEntry { person: key_bytes(person), project, ..pb::PersonEntry::default() };
                self.entries.push(entry);
                self.places.insert(person, self.entries.len() - 1);
                self.entries.len() - 1
            }
        };
        &mut self.entries[place]
    }

    fn project(&mut self, project: &ProjectId) -> u32 {
        let number = self.projects.iter().position(|name| name == project.as_str()).unwrap_or_else(|| {
            self.projects.push(project.as_str().to_owned());
            self.projects.len() - 1
        });
        u32::try_from(number).expect("few projects")
    }
}
