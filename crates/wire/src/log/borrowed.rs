//! Reads a record of topic `events` without copies: its texts are slices of the record's own bytes.
//!
//! Of any bytes it says what prost says of them: the same values, the same refusals. prost wants an owned string for each of
//! the two dozen texts of an event, most of which the worker only looks at and writes on.

use prost::Message;
use trackway_domain::event::{
    Campaign, Consent, Context, Event, EventKind, KeySource, OrderKey, ReceivedEvent, TimeSource,
};
use trackway_domain::id::{EventKey, Visitor};
use trackway_domain::revenue::Revenue;
use trackway_domain::time::EventTime;

use super::scan::{Input, Refused};
use super::{DecodeError, VERSION, consent_from_pb, kind_from_pb, pb, time_source_from_pb};

/// A record of topic `events`.
#[derive(Debug, Clone, PartialEq)]
pub enum EventsRecord<'a> {
    /// What one request had for one visitor.
    Events(VisitorEvents<'a>),
    /// Time has passed.
    Tick,
    /// Other rules hold from here on.
    Rules(pb::PartitionRules),
    /// A command parts a device from its user.
    Unmerge(pb::VisitorUnmerge),
}

/// What one request had for one visitor, in order. Fields as in `proto/trackway/log`; what is not there is empty.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the comments stand in proto/trackway/log")]
pub struct VisitorEvents<'a> {
    pub project: &'a str,
    pub visitor_id: &'a str,
    pub visitor_is_user: bool,
    pub user_agent: &'a str,
    pub protocol: &'a str,
    pub events: Vec<LoggedEvent<'a>>,
    pub ip: &'a str,
    pub bot: &'a str,
}

impl VisitorEvents<'_> {
    /// The visitor of a record.
    #[must_use]
    pub fn visitor(&self) -> Visitor {
        let id = self.visitor_id.to_owned();
        if self.visitor_is_user { Visitor::User(id) } else { Visitor::Device(id) }
    }
}

/// One event of a record. Fields as in `proto/trackway/log`; a text that is not there is empty.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the comments stand in proto/trackway/log")]
pub struct LoggedEvent<'a> {
    /// `None`: one that this program does not know.
    pub kind: Option<EventKind>,
    pub name: &'a str,
    pub id: &'a str,
    pub key: EventKey,
    pub time: EventTime,
    /// `None`: one that this program does not know.
    pub time_source: Option<TimeSource>,
    pub user_id: &'a str,
    pub other_id: &'a str,
    pub sequence: u32,
    pub url: &'a str,
    pub title: &'a str,
    pub referrer: &'a str,
    pub page_name: &'a str,
    pub user_agent: &'a str,
    pub locale: &'a str,
    pub screen: (u32, u32),
    pub library: &'a str,
    pub library_version: &'a str,
    pub utm_source: &'a str,
    pub utm_medium: &'a str,
    pub utm_campaign: &'a str,
    pub utm_term: &'a str,
    pub utm_content: &'a str,
    /// `{}` where the record has none.
    pub properties: &'a str,
    /// `{}` where the record has none.
    pub traits: &'a str,
    pub client_time_ms: i64,
    pub sent_at_ms: i64,
    pub revenue_micros: Option<i64>,
    pub currency: &'a str,
    pub session: &'a str,
    pub ip: &'a str,
    pub consent: Consent,
}

impl LoggedEvent<'_> {
    /// Its place among its visitor's events.
    #[must_use]
    pub fn order(&self) -> OrderKey {
        OrderKey { time: self.time, sequence: self.sequence, key: self.key }
    }

    /// Whether `key` is the tracker's id or a hash of what was sent.
    #[must_use]
    pub fn key_source(&self) -> KeySource {
        if self.id.is_empty() { KeySource::Content } else { KeySource::Id }
    }

    /// The event with copies of its texts.
    ///
    /// # Errors
    /// [`DecodeError::Field`] for a kind or time source that this program does not know.
    pub fn to_event(&self, visitor: Visitor) -> Result<Event, DecodeError> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let time = |ms: i64| (ms != 0).then_some(ms);
        let revenue = |micros| Revenue { micros, currency: self.currency.to_owned() };
        Ok(Event {
            visitor,
            time: self.time,
            time_source: self.time_source.ok_or(DecodeError::Field { field: "time_source" })?,
            key: self.key,
            key_source: self.key_source(),
            received: ReceivedEvent {
                kind: self.kind.ok_or(DecodeError::Field { field: "kind" })?,
                name: self.name.to_owned(),
                id: some(self.id),
                visitor: None,
                user_id: some(self.user_id),
                other_id: some(self.other_id),
                client_time_ms: time(self.client_time_ms),
                sent_at_ms: time(self.sent_at_ms),
                sequence: self.sequence,
                context: Context {
                    url: self.url.to_owned(),
                    title: self.title.to_owned(),
                    referrer: self.referrer.to_owned(),
                    page_name: self.page_name.to_owned(),
                    user_agent: self.user_agent.to_owned(),
                    locale: self.locale.to_owned(),
                    screen: self.screen,
                    library: self.library.to_owned(),
                    library_version: self.library_version.to_owned(),
                    campaign: Campaign {
                        source: self.utm_source.to_owned(),
                        medium: self.utm_medium.to_owned(),
                        name: self.utm_campaign.to_owned(),
                        term: self.utm_term.to_owned(),
                        content: self.utm_content.to_owned(),
                    },
                    session: self.session.to_owned(),
                    ip: self.ip.to_owned(),
                    consent: self.consent,
                },
                revenue: self.revenue_micros.map(revenue),
                properties: self.properties.to_owned(),
                traits: self.traits.to_owned(),
            },
        })
    }

    const EMPTY: Self = Self {
        kind: None,
        name: "",
        id: "",
        key: EventKey(0),
        time: EventTime(0),
        time_source: None,
        user_id: "",
        other_id: "",
        sequence: 0,
        url: "",
        title: "",
        referrer: "",
        page_name: "",
        user_agent: "",
        locale: "",
        screen: (0, 0),
        library: "",
        library_version: "",
        utm_source: "",
        utm_medium: "",
        utm_campaign: "",
        utm_term: "",
        utm_content: "",
        properties: "",
        traits: "",
        client_time_ms: 0,
        sent_at_ms: 0,
        revenue_micros: None,
        currency: "",
        session: "",
        ip: "",
        consent: Consent::Unknown,
    };
}

/// Reads a record of topic `events`.
///
/// # Errors
/// [`DecodeError`] for bytes that nobody here wrote, the same as [`decode`](super::decode) gives; and for a record without
/// a body.
pub fn read_events(record: &[u8]) -> Result<EventsRecord<'_>, DecodeError> {
    let message = match record.split_first() {
        None => return Err(DecodeError::Empty),
        Some((&VERSION, message)) => message,
        Some((&version, _)) => return Err(DecodeError::Version { version }),
    };
    let (events, mixed) = match events_record(message) {
        Ok(Scanned { events, others: false }) => (events, None),
        // Ticks and rules are few: prost reads them. It also puts a refusal into words.
        Ok(Scanned { events, others: true }) => (events, by_prost(message)?),
        Err(Refused) => (None, by_prost(message)?),
    };
    match (events, mixed) {
        (Some(events), None | Some(pb::events_record::Body::Events(_))) => Ok(EventsRecord::Events(events)),
        (_, Some(pb::events_record::Body::Tick(pb::Tick {}))) => Ok(EventsRecord::Tick),
        (_, Some(pb::events_record::Body::Rules(rules))) => Ok(EventsRecord::Rules(rules)),
        (_, Some(pb::events_record::Body::Unmerge(unmerge))) => Ok(EventsRecord::Unmerge(unmerge)),
        (None, None | Some(pb::events_record::Body::Events(_))) => Err(DecodeError::Field { field: "body" }),
    }
}

fn by_prost(message: &[u8]) -> Result<Option<pb::events_record::Body>, DecodeError> {
    let record = pb::EventsRecord::decode(message).map_err(|source| DecodeError::Message { source })?;
    Ok(record.body)
}

/// What a record has at its top.
struct Scanned<'a> {
    /// The events, unless another body follows them.
    events: Option<VisitorEvents<'a>>,
    /// Whether there is another body.
    others: bool,
}

fn events_record(message: &[u8]) -> Result<Scanned<'_>, Refused> {
    let mut scanned = Scanned { events: None, others: false };
    let mut input = Input::new(message);
    while let Some((field, kind)) = input.key()? {
        match field {
            // A body that comes in pieces is the sum of them.
            1 => visitor_events(input.message(kind)?, scanned.events.get_or_insert_default())?,
            2 | 3 | 5 => {
                input.skip(field, kind)?;
                scanned = Scanned { events: None, others: true };
            }
            _ => input.skip(field, kind)?,
        }
    }
    Ok(scanned)
}

fn visitor_events<'a>(mut input: Input<'a>, to: &mut VisitorEvents<'a>) -> Result<(), Refused> {
    while let Some((field, kind)) = input.key()? {
        match field {
            1 => to.project = input.text(kind)?,
            2 => to.visitor_id = input.text(kind)?,
            3 => to.visitor_is_user = input.varint_of(kind)? != 0,
            4 => to.user_agent = input.text(kind)?,
            5 => to.protocol = input.text(kind)?,
            6 => to.events.push(event(input.message(kind)?)?),
            7 => to.ip = input.text(kind)?,
            8 => to.bot = input.text(kind)?,
            _ => input.skip(field, kind)?,
        }
    }
    Ok(())
}

fn event(mut input: Input<'_>) -> Result<LoggedEvent<'_>, Refused> {
    let mut event = LoggedEvent::EMPTY;
    while let Some((field, kind)) = input.key()? {
        match field {
            1 => event.kind = input.choice(kind)?.and_then(kind_from_pb),
            2 => event.name = input.text(kind)?,
            3 => event.id = input.text(kind)?,
            4 => event.key = EventKey(input.fixed(kind)?),
            5 => event.time = EventTime(input.signed(kind)?),
            6 => event.time_source = input.choice(kind)?.and_then(time_source_from_pb),
            7 => event.user_id = input.text(kind)?,
            8 => event.other_id = input.text(kind)?,
            9 => event.sequence = input.unsigned(kind)?,
            10 => event.url = input.text(kind)?,
            11 => event.title = input.text(kind)?,
            12 => event.referrer = input.text(kind)?,
            13 => event.page_name = input.text(kind)?,
            14 => event.user_agent = input.text(kind)?,
            15 => event.locale = input.text(kind)?,
            16 => event.screen.0 = input.unsigned(kind)?,
            17 => event.screen.1 = input.unsigned(kind)?,
            18 => event.library = input.text(kind)?,
            19 => event.library_version = input.text(kind)?,
            20 => event.utm_source = input.text(kind)?,
            21 => event.utm_medium = input.text(kind)?,
            22 => event.utm_campaign = input.text(kind)?,
            23 => event.utm_term = input.text(kind)?,
            24 => event.utm_content = input.text(kind)?,
            25 => event.properties = input.text(kind)?,
            26 => event.traits = input.text(kind)?,
            27 => event.client_time_ms = input.signed(kind)?,
            28 => event.sent_at_ms = input.signed(kind)?,
            29 => event.revenue_micros = Some(input.signed(kind)?),
            30 => event.currency = input.text(kind)?,
            31 => event.session = input.text(kind)?,
            32 => event.ip = input.text(kind)?,
            33 => event.consent = input.choice(kind)?.map(consent_from_pb).unwrap_or_default(),
            _ => input.skip(field, kind)?,
        }
    }
    for object in [&mut event.properties, &mut event.traits] {
        if object.is_empty() {
            *object = "{}";
        }
    }
    Ok(event)
}

#[cfg(test)]
mod tests;
