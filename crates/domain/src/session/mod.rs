//! Sessions: one visitor's events with no gap above the limit.
//!
//! The meaning is [`oracle::sessions`]: sort the counted events, then cut. [`VisitorSessions`] gives the same for events that
//! arrive one by one in any order, and says which sessions to take back and which to put in their place.
//!
//! Deliberately not here: who the visitor's person is (sessions go by visitor), and when state is written down.

mod visitor;

use std::sync::Arc;

use crate::event::OrderKey;
use crate::rules::SessionRules;
use crate::time::{EventTime, millis};

pub use visitor::VisitorSessions;

/// What a session keeps of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvent {
    /// Its place among the visitor's events.
    pub order: OrderKey,
    /// The page or screen, if the event is a view of one.
    pub page: Option<Arc<str>>,
    /// Where the visitor came from, if the event says so.
    pub landing: Option<Arc<Landing>>,
}

/// Where a visitor came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Landing {
    /// Channel, for example `Organic Search`.
    pub channel: String,
    /// Source, for example `google`.
    pub source: String,
    /// Medium, for example `organic`.
    pub medium: String,
    /// Campaign's name, or empty.
    pub campaign: String,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Time of the first event.
    pub start: EventTime,
    /// Time of the last event.
    pub end: EventTime,
    /// Number of events.
    pub events: u32,
    /// Number of pages and screens among them.
    pub page_views: u32,
    /// The first page or screen.
    pub entry_page: Option<Arc<str>>,
    /// The last page or screen.
    pub exit_page: Option<Arc<str>>,
    /// Where the first event came from. `None`: directly.
    pub landing: Option<Arc<Landing>>,
}

impl Session {
    fn begin(event: &SessionEvent) -> Self {
        let mut session = Self {
            start: event.order.time,
            end: event.order.time,
            events: 0,
            page_views: 0,
            entry_page: None,
            exit_page: None,
            landing: event.landing.clone(),
        };
        session.add(event);
        session
    }

    fn add(&mut self, event: &SessionEvent) {
        self.end = event.order.time;
        self.events += 1;
        if let Some(page) = &event.page {
            self.page_views += 1;
            self.exit_page = Some(page.clone());
            if self.entry_page.is_none() {
                self.entry_page = Some(page.clone());
            }
        }
    }

    /// Whether `event`, the next in order, still belongs here.
    fn takes(&self, event: &SessionEvent, rules: &SessionRules) -> bool {
        event.order.time.since(self.end) <= millis(rules.gap)
            && event.order.time.since(self.start) <= millis(rules.length_max)
            && (self.events as usize) < rules.events_max
    }
}

/// Cuts events, in order, into sessions, and appends these to `sessions`.
pub fn cut(events: &[SessionEvent], rules: &SessionRules, sessions: &mut Vec<Session>) {
    let mut open: Option<Session> = None;
    for event in events {
        match &mut open {
            Some(session) if session.takes(event, rules) => session.add(event),
            _ => sessions.extend(open.replace(Session::begin(event))),
        }
    }
    sessions.extend(open);
}

/// The meaning, without any thought of speed or arrival.
pub mod oracle {
    use super::{Session, SessionEvent, SessionRules};
    use crate::time::millis;

    /// Sorts the events, then cuts: before an event more than `gap` after the one before it, more than `length_max` after
    /// its session's first, or where the session is full.
    #[must_use]
    pub fn sessions(events: &[SessionEvent], rules: &SessionRules) -> Vec<Session> {
        let mut sorted = events.to_vec();
        sorted.sort_by_key(|event| event.order);
        let mut groups: Vec<Vec<SessionEvent>> = Vec::new();
        for event in sorted {
            let joins = groups.last().is_some_and(|group| {
                let (first, last) = (&group[0], &group[group.len() - 1]);
                event.order.time.0 - last.order.time.0 <= millis(rules.gap)
                    && event.order.time.0 - first.order.time.0 <= millis(rules.length_max)
                    && group.len() < rules.events_max
            });
            if joins {
                groups.last_mut().expect("there is one").push(event);
            } else {
                groups.push(vec![event]);
            }
        }
        groups
            .iter()
            .map(|group| Session {
                start: group[0].order.time,
                end: group[group.len() - 1].order.time,
                events: u32::try_from(group.len()).expect("a small group"),
                page_views: u32::try_from(group.iter().filter(|event| event.page.is_some()).count())
                    .expect("a small group"),
                entry_page: group.iter().find_map(|event| event.page.clone()),
                exit_page: group.iter().rev().find_map(|event| event.page.clone()),
                landing: group[0].landing.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
