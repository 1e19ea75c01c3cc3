//! An event as a protocol has it in hand, before limits: the one place where they are checked for all protocols.

use std::borrow::Cow;

use trackway_domain::event::{Context, EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_domain::identity::is_refused;
use trackway_domain::limits::{
    EVENT_BYTES_MAX, EVENT_NAME_BYTES_MAX, ID_BYTES_MAX, PROPERTIES_MAX, PROPERTY_DEPTH_MAX,
};
use trackway_domain::revenue::Revenue;

use crate::{Item, Rejection, json_marks, shown};

/// Whether an event needs an id of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nobody {
    /// The protocol has no ids (cookieless trackers): the gateway derives one.
    IsDerived,
    /// An event without one is rejected, with this field's name and hint.
    IsMissing(&'static str, &'static str),
}

/// What a protocol found out about one event. Placeholder ids count as absent.
#[derive(Debug)]
pub(crate) struct Draft {
    pub kind: EventKind,
    /// Of a track event; the other kinds are named by [`Draft::finish`].
    pub name: String,
    /// The tracker's id of the event.
    pub id: Option<String>,
    /// The browser or device.
    pub device: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The other id of an alias, the group of a group call.
    pub other: Option<String>,
    pub client_time_ms: Option<i64>,
    pub sent_at_ms: Option<i64>,
    pub sequence: u32,
    pub context: Context,
    pub revenue: Option<Revenue>,
    /// Text of a JSON object.
    pub properties: String,
    /// Text of a JSON object.
    pub traits: String,
}

impl Draft {
    /// A draft of `kind` that says nothing yet, at place `index` of its request.
    pub(crate) fn new(kind: EventKind, index: usize) -> Self {
        Self {
            kind,
            name: String::new(),
            id: None,
            device: None,
            user: None,
            other: None,
            client_time_ms: None,
            sent_at_ms: None,
            sequence: u32::try_from(index).unwrap_or(u32::MAX),
            context: Context::default(),
            revenue: None,
            properties: "{}".to_owned(),
            traits: "{}".to_owned(),
        }
    }

    /// The item that this makes: an event, a rejection, or nothing (an alias of an id to itself).
    ///
    /// - `raw`: the bytes it was read from.
    pub(crate) fn finish(self, nobody: Nobody, raw: &[u8]) -> Item {
        match self.event(nobody, raw.len()) {
            Ok(Some(event)) => {
                let content = if event.id.is_none() { raw.to_vec() } else { Vec::new() };
                Item::Event { event, content }
            }
            Ok(None) => Item::Nothing,
            Err(reason) => Item::Rejected { reason, content: raw.to_vec() },
        }
    }

    fn event(mut self, nobody: Nobody, bytes: usize) -> Result<Option<ReceivedEvent>, Rejection> {
        let name = match self.kind {
            EventKind::Track if self.name.is_empty() => {
                return Err(Rejection::Missing { field: "event", hint: "Name what the visitor did" });
            }
            EventKind::Track => std::mem::take(&mut self.name),
            EventKind::Page => "page".to_owned(),
            EventKind::Screen => "screen".to_owned(),
            EventKind::Identify => "identify".to_owned(),
            EventKind::Group => "group".to_owned(),
            EventKind::Alias => "alias".to_owned(),
        };
        within(|| format!("name of event {}", shown(&name)), name.len(), "bytes", EVENT_NAME_BYTES_MAX)?;
        within(|| format!("event {}", shown(&name)), bytes, "bytes", EVENT_BYTES_MAX)?;
        let user_id = own_id("user id", self.user)?;
        let device = own_id("visitor id", self.device)?;
        let other_id = match self.kind {
            EventKind::Alias => {
                let other = own_id("other id", self.other)?;
                Some(other.ok_or(Rejection::Missing { field: "alias", hint: "Name the other id" })?)
            }
            EventKind::Group => {
                let other = own_id("group id", self.other)?;
                Some(other.ok_or(Rejection::Missing { field: "group", hint: "Name the group" })?)
            }
            EventKind::Track | EventKind::Page | EventKind::Screen | EventKind::Identify => None,
        };
        if self.kind == EventKind::Alias && other_id == user_id {
            return Ok(None);
        }
        let (visitor, user_id) = match (device, user_id) {
            (Some(device), user_id) => (Some(Visitor::Device(device)), user_id),
            (None, Some(user)) => (Some(Visitor::User(user.clone())), Some(user)),
            (None, None) => match nobody {
                Nobody::IsDerived => (None, None),
                Nobody::IsMissing(field, hint) => return Err(Rejection::Missing { field, hint }),
            },
        };
        Ok(Some(ReceivedEvent {
            kind: self.kind,
            id: own_id("event id", self.id)?,
            visitor,
            user_id,
            other_id,
            client_time_ms: self.client_time_ms,
            sent_at_ms: self.sent_at_ms,
            sequence: self.sequence,
            context: self.context,
            revenue: self.revenue,
            properties: object_within_limits("properties", &name, Cow::Owned(self.properties))?,
            traits: object_within_limits("traits", &name, Cow::Owned(self.traits))?,
            name,
        }))
    }
}

fn own_id(what: &'static str, value: Option<String>) -> Result<Option<String>, Rejection> {
    id(|| what.to_owned(), value.map(Cow::Owned))
}

/// An id that stands for somebody; a placeholder is no id.
///
/// - `what`: its name in a message.
pub(crate) fn id(what: impl FnOnce() -> String, value: Option<Cow<'_, str>>) -> Result<Option<String>, Rejection> {
    let Some(id) = value.filter(|id| !is_refused(id)) else { return Ok(None) };
    within(what, id.len(), "bytes", ID_BYTES_MAX)?;
    Ok(Some(id.into_owned()))
}

/// An object's text, if it is within the limits of properties; half an emoji is mended.
pub(crate) fn object_within_limits(field: &str, name: &str, text: Cow<'_, str>) -> Result<String, Rejection> {
    if json_marks::is_small(&text, PROPERTIES_MAX, PROPERTY_DEPTH_MAX) {
        return Ok(text.into_owned());
    }
    let shape = json_marks::measure(&text);
    let what = |what: &str| format!("{what} of the {field} of event {}", shown(name));
    within(|| what("size"), shape.keys, "keys", PROPERTIES_MAX)?;
    within(|| what("nesting"), shape.depth, "levels", PROPERTY_DEPTH_MAX)?;
    Ok(if shape.broken_escape { json_marks::repaired(&text) } else { text.into_owned() })
}

pub(crate) fn within(
    what: impl FnOnce() -> String,
    value: usize,
    unit: &'static str,
    limit: usize,
) -> Result<(), Rejection> {
    if value > limit { Err(Rejection::TooLarge { what: what(), value, unit, limit }) } else { Ok(()) }
}
