//! What happened, in two stages: as a tracker's protocol was understood ([`ReceivedEvent`]), and with our times on it
//! ([`Event`]).

use crate::id::{EventKey, Visitor};
use crate::revenue::Revenue;
use crate::time::EventTime;

/// What kind of call the tracker made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Something the visitor did, with a name.
    Track,
    /// A page was seen.
    Page,
    /// A screen of an app was seen.
    Screen,
    /// The visitor said who they are, or the user's traits changed.
    Identify,
    /// The user belongs to a group.
    Group,
    /// Two ids are one user.
    Alias,
}

impl EventKind {
    /// Whether the visitor was active: only then does it open or extend a session. Identify, group and alias calls are
    /// book-keeping, and come from servers too, when nobody is there.
    #[must_use]
    pub fn is_activity(self) -> bool {
        match self {
            Self::Track | Self::Page | Self::Screen => true,
            Self::Identify | Self::Group | Self::Alias => false,
        }
    }
}

/// One event as its protocol was understood, before any clock of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedEvent {
    /// Kind of call.
    pub kind: EventKind,
    /// Name; `page`, `screen`, `identify`, `group`, `alias` for calls of those kinds.
    pub name: String,
    /// The tracker's own id of this event, the same when it sends again.
    pub id: Option<String>,
    /// Who did it, as the tracker says. `None`: it names nobody (cookieless trackers), and the gateway derives somebody.
    pub visitor: Option<Visitor>,
    /// The user that this event names beside a device, if it names one that is not refused.
    pub user_id: Option<String>,
    /// The other id of an alias call, or the group of a group call.
    pub other_id: Option<String>,
    /// When it happened, by the client's clock, in ms since 1970 UTC.
    pub client_time_ms: Option<i64>,
    /// When it was sent, by the same clock.
    pub sent_at_ms: Option<i64>,
    /// Order among events of one visitor at one time: the tracker's own counter, else the place in the request.
    pub sequence: u32,
    /// Where it happened and what the client said of itself.
    pub context: Context,
    /// What it earned, if the tracker says so.
    pub revenue: Option<Revenue>,
    /// Properties: the text of one JSON object, `{}` if none. Numbers stand as they came.
    pub properties: String,
    /// Traits of the user or group: the text of one JSON object, `{}` if none.
    pub traits: String,
}

/// Where an event happened. Empty text means that the tracker did not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Full address of the page.
    pub url: String,
    /// Title of the page.
    pub title: String,
    /// Full address of the page before.
    pub referrer: String,
    /// Name of a page or screen, where the tracker has one.
    pub page_name: String,
    /// User agent, if another than the request's header (a server speaks for a browser).
    pub user_agent: String,
    /// Language of the client, as BCP 47.
    pub locale: String,
    /// Screen width and height in CSS pixels, 0 if unknown.
    pub screen: (u32, u32),
    /// Name of the tracker.
    pub library: String,
    /// Version of the tracker.
    pub library_version: String,
    /// Campaign that the tracker itself extracted; what the page's address says comes second.
    pub campaign: Campaign,
    /// The tracker's own session id: a hint, kept for comparison. Our sessions do not follow it.
    pub session: String,
    /// Address of the client where a server speaks for it; else the request's own counts.
    pub ip: String,
    /// What the visitor agreed to.
    pub consent: Consent,
}

/// What a visitor agreed to, as far as the tracker says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Consent {
    /// The tracker says nothing of it.
    #[default]
    Unknown,
    /// Analytics are agreed to.
    Granted,
    /// Analytics are refused.
    Denied,
}

/// A campaign's five names (the `utm_*` parameters).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Campaign {
    /// `utm_source`
    pub source: String,
    /// `utm_medium`
    pub medium: String,
    /// `utm_campaign`
    pub name: String,
    /// `utm_term`
    pub term: String,
    /// `utm_content`
    pub content: String,
}

/// One event with our times on it: what the log holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Who did it; [`ReceivedEvent::visitor`] has moved here.
    pub visitor: Visitor,
    /// When it happened.
    pub time: EventTime,
    /// How far `time` can be trusted.
    pub time_source: TimeSource,
    /// What duplicates are known by.
    pub key: EventKey,
    /// Whether `key` is the tracker's id or a hash of what was sent.
    pub key_source: KeySource,
    /// The rest, as received.
    pub received: ReceivedEvent,
}

/// Where an event's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeSource {
    /// The client's clock, as it was.
    Client,
    /// The client's clock, corrected by what it says of the time of sending.
    Corrected,
    /// Ours, because the tracker sends none.
    Received,
    /// Ours, because the client's lay in the future or was absurd.
    Replaced,
}

/// Where an event's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// The tracker's id: a duplicate for [`crate::limits::DEDUP_WINDOW`].
    Id,
    /// A hash of what was sent: a duplicate for [`crate::limits::CONTENT_DEDUP_WINDOW`] only, since a visitor may well do the
    /// same thing twice.
    Content,
}

/// The total order of one visitor's (and one person's) events: by time, then by the tracker's own order, then by key. It
/// depends on the events alone, not on how they arrived; so every arrival order gives the same sessions and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey {
    /// When it happened.
    pub time: EventTime,
    /// The tracker's own order.
    pub sequence: u32,
    /// The last word.
    pub key: EventKey,
}

impl Event {
    /// Its place among its visitor's events.
    #[must_use]
    pub fn order(&self) -> OrderKey {
        OrderKey { time: self.time, sequence: self.received.sequence, key: self.key }
    }
}
