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
}

/// Groups, as they grow.
#[derive(Default)]
pub(crate) struct Visitors {
    groups: Vec<Group>,
    /// Place of each key in `groups`; filled from the second visitor on, since most requests have only one.
    places: HashMap<PersonKey, usize>,
}

impl Visitors {
    /// Adds one event of `project`.
    pub(crate) fn add(&mut self, project: &ProjectId, event: Event) {
        if let Some(last) = self.groups.last_mut()
            && last.visitor == event.visitor
        {
            last.events.push(event);
            return;
        }
        let key = event.visitor.key(project);
        if self.places.is_empty()
            && let Some(first) = self.groups.first()
        {
            self.places.insert(first.key, 0);
        }
        match self.places.get(&key) {
            Some(&place) => self.groups[place].events.push(event),
            None => {
                if !self.groups.is_empty() {
                    self.places.insert(key, self.groups.len());
                }
                self.groups.push(Group { key, visitor: event.visitor.clone(), events: vec![event] });
            }
        }
    }

    /// All groups.
    pub(crate) fn into_groups(self) -> Vec<Group> {
        self.groups
    }
}
