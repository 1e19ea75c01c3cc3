//! A request's events by visitor: visitors in the order of their first event, events in the order of the request.

use std::collections::HashMap;

use trackway_domain::event::Event;
use trackway_domain::id::{PersonKey, ProjectId, Visitor};

/// Events of one visitor.
pub(crate) struct Group {
    /// The visitor's key.
    pub key: PersonKey,
    /// The visitor.
    pub visitor: Visitor,
    /// Its events.
    pub events: Vec<Event>,
    /// Nobody may tell whose one of them is.
    pub anonymised: bool,
}

/// Groups, as they grow.
pub(crate) struct Visitors {
    groups: Vec<Group>,
    /// Events there will be at most.
    events_max: usize,
    /// Place of each key in `groups`; filled from the second visitor on, since most requests have only one.
    places: HashMap<PersonKey, usize>,
}

impl Visitors {
    /// Nobody yet, of at most so many events.
    pub(crate) fn of(events_max: usize) -> Self {
        Self { groups: Vec::new(), events_max, places: HashMap::new() }
    }

    /// Adds one event of `project`.
    pub(crate) fn add(&mut self, project: &ProjectId, event: Event, anonymised: bool) {
        if let Some(last) = self.groups.last_mut()
            && last.visitor == event.visitor
        {
            last.events.push(event);
            last.anonymised |= anonymised;
            return;
        }
        let key = event.visitor.key(project);
        if self.places.is_empty()
            && let Some(first) = self.groups.first()
        {
            self.places.insert(first.key, 0);
        }
        match self.places.get(&key) {
            Some(&place) => {
                self.groups[place].events.push(event);
                self.groups[place].anonymised |= anonymised;
            }
            None => {
                // Most requests are one visitor's, so the first has room for all: events are large, and moving them as the
                // list grows costs more.
                let mut events = Vec::with_capacity(if self.groups.is_empty() { self.events_max } else { 1 });
                if !self.groups.is_empty() {
                    self.places.insert(key, self.groups.len());
                }
                let visitor = event.visitor.clone();
                events.push(event);
                self.groups.push(Group { key, visitor, events, anonymised });
            }
        }
    }

    /// All groups.
    pub(crate) fn into_groups(self) -> Vec<Group> {
        self.groups
    }
}
