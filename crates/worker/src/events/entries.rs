//! What the first stage tells the second: per flush and partition of `journeys` one record with all its persons.

use hashbrown::HashMap;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::identity::aliases;
use trackway_wire::log::{self, Entry, LoggedEvent, pb};

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
    entries: Vec<Person>,
    /// Where a person's open entry is.
    places: HashMap<PersonKey, usize>,
    /// Of all persons; each knows its first and last.
    events: Vec<OneEvent>,
    aliases: Vec<pb::UserAlias>,
}

#[derive(Debug)]
struct Person {
    key: PersonKey,
    project: u32,
    user_id: String,
    visitor_id: String,
    /// First and last of its events.
    events: Option<(usize, usize)>,
    steps: Vec<pb::PersonStep>,
}

#[derive(Debug)]
struct OneEvent {
    name: u32,
    time_ms: i64,
    key: u64,
    /// The person's next.
    next: Option<usize>,
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
        let number = to.events.len();
        to.events.push(OneEvent { name, time_ms: event.time.0, key: event.key.0, next: None });
        let place = to.place(project, person);
        let entry = &mut to.entries[place];
        match &mut entry.events {
            Some((_, last)) => {
                to.events[*last].next = Some(number);
                *last = number;
            }
            none => *none = Some((number, number)),
        }
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
        let to = self.of(device);
        let place = to.place(project, device);
        let entry = &mut to.entries[place];
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
            let rest = pb::PersonEntries {
                origin: Some(pb::Origin {
                    topic: "events".to_owned(),
                    partition: self.source,
                    offset: range.first,
                    index: 0,
                    after: None,
                }),
                names: std::mem::take(&mut to.names),
                projects: std::mem::take(&mut to.projects),
                entries: Vec::new(),
                through: range.last,
                aliases: std::mem::take(&mut to.aliases),
            };
            let value = log::encode_entries(&rest, to.entries.iter().map(|person| person.entry(&to.events)));
            records.push(Derived { target: Target::Journeys, partition, value });
            to.name_numbers.clear();
            to.entries.clear();
            to.places.clear();
            to.events.clear();
        }
        records
    }

    /// Number of partitions of `journeys`.
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("at most 1024 partitions")
    }

    fn of(&mut self, person: PersonKey) -> &mut OnePartition {
        let partition = person.partition(self.partitions());
        &mut self.partitions[partition as usize]
    }
}

impl OnePartition {
    /// Where the person's entry is, which is made if there is none.
    fn place(&mut self, project: &ProjectId, person: PersonKey) -> usize {
        if let Some(&place) = self.places.get(&person) {
            return place;
        }
        let place = self.entries.len();
        let project = self.project(project);
        self.entries.push(Person {
            key: person,
            project,
            user_id: String::new(),
            visitor_id: String::new(),
            events: None,
            steps: Vec::new(),
        });
        self.places.insert(person, place);
        place
    }

    fn project(&mut self, project: &ProjectId) -> u32 {
        let number = self.projects.iter().position(|name| name == project.as_str()).unwrap_or_else(|| {
            self.projects.push(project.as_str().to_owned());
            self.projects.len() - 1
        });
        u32::try_from(number).expect("few projects")
    }
}

impl Person {
    fn entry<'a>(&'a self, all: &'a [OneEvent]) -> Entry<'a, impl Iterator<Item = (u32, i64, u64)> + Clone + 'a> {
        let first = self.events.map(|(first, _)| &all[first]);
        let events = std::iter::successors(first, |event| event.next.map(|next| &all[next]));
        Entry {
            person: self.key.0.to_be_bytes(),
            project: self.project,
            user_id: &self.user_id,
            visitor_id: &self.visitor_id,
            events: events.map(|event| (event.name, event.time_ms, event.key)),
            steps: &self.steps,
        }
    }
}
