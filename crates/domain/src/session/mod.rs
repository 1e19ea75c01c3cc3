//! Sessions: one visitor's events with no gap above the limit.
//!
//! The meaning is [`oracle::sessions`]: sort the counted events, then cut. [`VisitorSessions`] gives the same for events that
//! arrive one by one in any order, and says which sessions to take back and which to put in their place.
//!
//! Deliberately not here: who the visitor's person is (sessions go by visitor), and when state is written down.

mod cut;
pub mod oracle;
mod visitor;
pub mod zone;

use std::sync::Arc;

use crate::event::OrderKey;
use crate::id::{EventKey, PersonKey};
use crate::revenue::Revenue;
use crate::rules::SessionRules;
use crate::time::EventTime;

pub use visitor::{HeldEvent, HeldRun, VisitorSessions};

/// What a session needs of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvent {
    /// Its place among the visitor's events.
    pub order: OrderKey,
    /// Milliseconds that the visitor was engaged since the event before, where the tracker measures it.
    pub engaged_ms: u32,
    /// What many events have in common.
    pub facts: Arc<Facts>,
}

impl SessionEvent {
    /// An event that says nothing but that it was.
    #[must_use]
    pub fn at(order: OrderKey) -> Self {
        Self { order, engaged_ms: 0, facts: Arc::default() }
    }
}

/// What a session needs of an event, other than when it was. Events of one page have the same, so it is shared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// What the event is for a session.
    pub role: Role,
    /// The page or screen that was viewed; empty: the tracker does not name it. Only of views.
    pub page: Option<Arc<str>>,
    /// Host of the page that was viewed. Only of views.
    pub host: Option<Arc<str>>,
    /// Where the visitor came from, if the event says so.
    pub landing: Option<Arc<Landing>>,
    /// The user that the event names. Needed only where rules split by it.
    pub user: Option<PersonKey>,
    /// What the event earned.
    pub revenue: Option<Revenue>,
}

/// What an event is for a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// The visitor did something.
    #[default]
    Action,
    /// The visitor looked at a page or screen.
    View,
    /// The tracker reports by itself (a heartbeat, that the page was left). It begins no session and is not counted in
    /// one; it may prolong one ([`SessionRules::passive_extends`]).
    Passive,
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
    /// How that is known.
    pub kind: LandingKind,
}

/// How it is known where a visitor came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LandingKind {
    /// By a referrer that is known for what it is: a search engine, a social network.
    #[default]
    Known,
    /// By the tags of a campaign (`utm_…`, or a paid click's id).
    Campaign,
    /// By a referrer that is just another site.
    Website,
}

impl LandingKind {
    /// As tables have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Campaign => "campaign",
            Self::Website => "website",
        }
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Key of the first event: with the visitor it tells sessions of one start apart.
    pub key: EventKey,
    /// Time of the first event.
    pub start: EventTime,
    /// Time of the last event, or of what prolonged the session after it.
    pub end: EventTime,
    /// Number of events.
    pub events: u32,
    /// Number of pages and screens among them.
    pub page_views: u32,
    /// The first page or screen.
    pub entry_page: Option<Arc<str>>,
    /// The last page or screen.
    pub exit_page: Option<Arc<str>>,
    /// Host of the first page.
    pub entry_host: Option<Arc<str>>,
    /// Host of the last page.
    pub exit_host: Option<Arc<str>>,
    /// Where the visitor came from: what the first event says that says anything. `None`: directly.
    pub landing: Option<Arc<Landing>>,
    /// Milliseconds of engagement that trackers measured.
    pub engaged_ms: u64,
    /// Whether the visitor turned round at the door: one event at most, and both shorter and less engaged than
    /// [`SessionRules::bounce_below`].
    pub is_bounce: bool,
    /// What it earned, in the currency of its first event that earned. What was earned in others is in the events alone,
    /// since amounts of two currencies have no sum.
    pub revenue: Option<Revenue>,
}

#[cfg(test)]
mod tests;
