//! Records of the event log: one version byte, then a protobuf message of `proto/trackway/log`.

mod borrowed;
mod encode;
mod entries;
mod origin;
mod scan;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use trackway_domain::event::{Consent, Event, EventKind, TimeSource};
use trackway_domain::id::Visitor;

pub use borrowed::{EventsRecord, LoggedEvent, VisitorEvents, read_events};
pub use entries::{Entry, encode_entries};
pub use origin::Arrival;

/// The messages, generated.
#[expect(missing_docs, clippy::all, reason = "generated; the comments stand in proto/trackway/log")]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/trackway.log.v1.rs"));
}

/// The version that is written. Every version from 1 on is read.
pub const VERSION: u8 = 1;

/// Why a record's bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("record is empty")]
    Empty,
    /// Written by a version that this program does not know.
    #[error("record has version {version}, this program reads 1 to {VERSION}. Upgrade it")]
    Version {
        /// What the record says.
        version: u8,
    },
    /// The bytes after the version are no such message.
    #[error("record is not a valid message")]
    Message {
        /// What prost says.
        #[source]
        source: prost::DecodeError,
    },
    /// A value that the message's type allows but its meaning does not.
    #[error("field `{field}` of a record has no meaning")]
    Field {
        /// Name of the field.
        field: &'static str,
    },
}

/// Version byte and message.
#[must_use]
pub fn encode(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + message.encoded_len());
    out.put_u8(VERSION);
    message.encode(&mut out).expect("the buffer was made for it");
    out.freeze()
}

/// The message of a record. Takes the record's bytes as [`Bytes`], so that byte fields are not copied.
///
/// # Errors
/// [`DecodeError`] for bytes that nobody here wrote.
pub fn decode<M: Message + Default>(mut record: Bytes) -> Result<M, DecodeError> {
    match record.first() {
        None => Err(DecodeError::Empty),
        Some(&VERSION) => M::decode(record.split_off(1)).map_err(|source| DecodeError::Message { source }),
        Some(&version) => Err(DecodeError::Version { version }),
    }
}

/// A tick: time has passed.
#[must_use]
pub fn encode_events_tick() -> Bytes {
    encode(&pb::EventsRecord { body: Some(pb::events_record::Body::Tick(pb::Tick {})) })
}

/// What the events of one request share.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestContext<'a> {
    /// Whose they are.
    pub project: &'a str,
    /// The request's header.
    pub user_agent: &'a str,
    /// Name of the protocol that was understood.
    pub protocol: &'a str,
    /// Address of the client, as far as it is kept.
    pub ip: &'a str,
    /// Why the sender is taken for a bot, or empty.
    pub bot: &'a str,
}

/// What one request has for one visitor.
#[must_use]
pub fn encode_events(request: &RequestContext<'_>, visitor: &Visitor, events: &[Event]) -> Bytes {
    encode::record(request, visitor, events)
}

fn kind_to_pb(kind: EventKind) -> pb::event::Kind {
    match kind {
        EventKind::Track => pb::event::Kind::Track,
        EventKind::Page => pb::event::Kind::Page,
        EventKind::Screen => pb::event::Kind::Screen,
        EventKind::Identify => pb::event::Kind::Identify,
        EventKind::Group => pb::event::Kind::Group,
        EventKind::Alias => pb::event::Kind::Alias,
    }
}

/// `None`: it has no meaning.
fn kind_from_pb(kind: pb::event::Kind) -> Option<EventKind> {
    match kind {
        pb::event::Kind::Unspecified => None,
        pb::event::Kind::Track => Some(EventKind::Track),
        pb::event::Kind::Page => Some(EventKind::Page),
        pb::event::Kind::Screen => Some(EventKind::Screen),
        pb::event::Kind::Identify => Some(EventKind::Identify),
        pb::event::Kind::Group => Some(EventKind::Group),
        pb::event::Kind::Alias => Some(EventKind::Alias),
    }
}

fn time_source_to_pb(source: TimeSource) -> pb::event::TimeSource {
    match source {
        TimeSource::Client => pb::event::TimeSource::Client,
        TimeSource::Corrected => pb::event::TimeSource::Corrected,
        TimeSource::Received => pb::event::TimeSource::Received,
        TimeSource::Replaced => pb::event::TimeSource::Replaced,
    }
}

/// `None`: it has no meaning.
fn time_source_from_pb(source: pb::event::TimeSource) -> Option<TimeSource> {
    match source {
        pb::event::TimeSource::Unspecified => None,
        pb::event::TimeSource::Client => Some(TimeSource::Client),
        pb::event::TimeSource::Corrected => Some(TimeSource::Corrected),
        pb::event::TimeSource::Received => Some(TimeSource::Received),
        pb::event::TimeSource::Replaced => Some(TimeSource::Replaced),
    }
}

fn consent_to_pb(consent: Consent) -> pb::event::Consent {
    match consent {
        Consent::Unknown => pb::event::Consent::Unknown,
        Consent::Granted => pb::event::Consent::Granted,
        Consent::Denied => pb::event::Consent::Denied,
    }
}

fn consent_from_pb(consent: pb::event::Consent) -> Consent {
    match consent {
        pb::event::Consent::Unknown => Consent::Unknown,
        pb::event::Consent::Granted => Consent::Granted,
        pb::event::Consent::Denied => Consent::Denied,
    }
}
