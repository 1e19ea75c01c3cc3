//! Writes the events of a request field by field, straight from the domain's types: the very bytes that prost would write.
//!
//! prost wants a message of owned strings first, and goes over each event once for every level of nesting to learn its
//! length. This is the gateway's hot path, so it goes over them twice: once to count, once to write.

use bytes::Bytes;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};
use trackway_domain::event::{Event, KeySource};
use trackway_domain::id::Visitor;

use super::{RequestContext, VERSION, consent_to_pb, kind_to_pb, time_source_to_pb};

/// Version byte and `EventsRecord` of these events.
pub(super) fn record(request: &RequestContext<'_>, visitor: &Visitor, events: &[Event]) -> Bytes {
    let lengths: Vec<usize> = events.iter().map(|event| counted(|out| fields_of_event(out, event))).collect();
    let length = counted(|out| visitor_events(out, request, visitor, events, &lengths));
    let mut out = Vec::with_capacity(2 + encoded_len_varint(length as u64) + length);
    out.push(VERSION);
    out.head(1, WireType::LengthDelimited);
    out.varint(length as u64);
    visitor_events(&mut out, request, visitor, events, &lengths);
    out.into()
}

/// Fields of `VisitorEvents`. `lengths`: of the events.
fn visitor_events<O: Out>(
    out: &mut O,
    request: &RequestContext<'_>,
    visitor: &Visitor,
    events: &[Event],
    lengths: &[usize],
) {
    out.text(1, request.project);
    out.text(2, visitor.id());
    out.unsigned(3, u64::from(matches!(visitor, Visitor::User(_))));
    out.text(4, request.user_agent);
    out.text(5, request.protocol);
    for (event, length) in events.iter().zip(lengths) {
        out.head(6, WireType::LengthDelimited);
        out.varint(*length as u64);
        out.event(event, *length);
    }
    out.text(7, request.ip);
    out.text(8, request.bot);
}

/// Fields of `Event`.
fn fields_of_event<O: Out>(out: &mut O, event: &Event) {
    let received = &event.received;
    let context = &received.context;
    let object = |text: &'_ str| if text == "{}" { 0 } else { text.len() };
    out.unsigned(1, kind_to_pb(received.kind) as u64);
    out.text(2, &received.name);
    if event.key_source == KeySource::Id {
        out.text(3, received.id.as_deref().unwrap_or_default());
    }
    out.fixed(4, event.key.0);
    out.signed(5, event.time.0);
    out.unsigned(6, time_source_to_pb(event.time_source) as u64);
    out.text(7, received.user_id.as_deref().unwrap_or_default());
    out.text(8, received.other_id.as_deref().unwrap_or_default());
    out.unsigned(9, received.sequence.into());
    out.text(10, &context.url);
    out.text(11, &context.title);
    out.text(12, &context.referrer);
    out.text(13, &context.page_name);
    out.text(14, &context.user_agent);
    out.text(15, &context.locale);
    out.unsigned(16, context.screen.0.into());
    out.unsigned(17, context.screen.1.into());
    out.text(18, &context.library);
    out.text(19, &context.library_version);
    out.text(20, &context.campaign.source);
    out.text(21, &context.campaign.medium);
    out.text(22, &context.campaign.name);
    out.text(23, &context.campaign.term);
    out.text(24, &context.campaign.content);
    out.text(25, &received.properties[..object(&received.properties)]);
    out.text(26, &received.traits[..object(&received.traits)]);
    out.signed(27, received.client_time_ms.unwrap_or(0));
    out.signed(28, received.sent_at_ms.unwrap_or(0));
    if let Some(revenue) = &received.revenue {
        // Nothing earned is not the same as nothing said, so this one is written even if it is 0.
        out.head(29, WireType::Varint);
        out.varint(zigzag(revenue.micros));
        out.text(30, &revenue.currency);
    }
    out.text(31, &context.session);
    out.text(32, &context.ip);
    out.unsigned(33, consent_to_pb(context.consent) as u64);
}

/// Where fields go. Those that hold their type's default are left out, as proto3 wants it.
pub(super) trait Out: Sized {
    fn varint(&mut self, value: u64);

    fn bytes(&mut self, bytes: &[u8]);

    /// An event's fields, of this length.
    fn event(&mut self, event: &Event, length: usize);

    #[inline]
    fn head(&mut self, field: u32, kind: WireType) {
        self.varint((u64::from(field) << 3) | kind as u64);
    }

    #[inline]
    fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.head(field, WireType::LengthDelimited);
            self.varint(text.len() as u64);
            self.bytes(text.as_bytes());
        }
    }

    #[inline]
    fn unsigned(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.head(field, WireType::Varint);
            self.varint(value);
        }
    }

    #[inline]
    fn signed(&mut self, field: u32, value: i64) {
        self.unsigned(field, zigzag(value));
    }

    #[inline]
    fn fixed(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.head(field, WireType::SixtyFourBit);
            self.bytes(&value.to_le_bytes());
        }
    }
}

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Counts what would be written.
pub(super) struct Length(usize);

pub(super) fn counted(fill: impl FnOnce(&mut Length)) -> usize {
    let mut length = Length(0);
    fill(&mut length);
    length.0
}

impl Out for Length {
    #[inline]
    fn varint(&mut self, value: u64) {
        self.0 += encoded_len_varint(value);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn event(&mut self, _: &Event, length: usize) {
        self.0 += length;
    }
}

impl Out for Vec<u8> {
    #[inline]
    fn varint(&mut self, value: u64) {
        // Nearly all are lengths and heads below 128.
        match u8::try_from(value) {
            Ok(byte @ ..0x80) => self.push(byte),
            _ => encode_varint(value, self),
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn event(&mut self, event: &Event, _: usize) {
        fields_of_event(self, event);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trackway_domain::event::{Campaign, Consent, Context, EventKind, ReceivedEvent, TimeSource};
    use trackway_domain::id::EventKey;
    use trackway_domain::revenue::Revenue;
    use trackway_domain::time::EventTime;

    use super::*;
    use crate::log::{self, pb};

    /// Lengths around those where a length takes one byte more.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            "[a-zü]{1,12}",
            (126_usize..130).prop_map(|n| "x".repeat(n)),
            Just("y".repeat(16_384))
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        let texts = proptest::collection::vec(text(), 21);
        let numbers = (any::<u64>(), any::<i64>(), any::<u32>(), any::<(u32, u32)>(), any::<[Option<i64>; 3]>());
        let choices = (0_usize..6, 0_usize..4, 0_usize..3, any::<[bool; 3]>());
        (texts, numbers, choices).prop_map(|(texts, (key, time, sequence, screen, times), choices)| {
            let (kind, source, consent, [has_id, has_properties, has_revenue]) = choices;
            let mut texts = texts.into_iter();
            let mut text = || texts.next().expect("there are enough");
            let some = |text: String| Some(text).filter(|text| !text.is_empty());
            let said = |ms: Option<i64>| ms.filter(|ms| *ms != 0);
            let id = some(text()).filter(|_| has_id);
            let [client_time_ms, sent_at_ms, micros] = times;
            let kinds = [
                EventKind::Track,
                EventKind::Page,
                EventKind::Screen,
                EventKind::Identify,
                EventKind::Group,
                EventKind::Alias,
            ];
            let sources = [TimeSource::Client, TimeSource::Corrected, TimeSource::Received, TimeSource::Replaced];
            Event {
                visitor: Visitor::Device("v".into()),
                time: EventTime(time),
                time_source: sources[source],
                key: EventKey(key),
                key_source: if id.is_some() { KeySource::Id } else { KeySource::Content },
                received: ReceivedEvent {
                    kind: kinds[kind],
                    name: text(),
                    id,
                    visitor: None,
                    user_id: some(text()),
                    other_id: some(text()),
                    client_time_ms: said(client_time_ms),
                    sent_at_ms: said(sent_at_ms),
                    sequence,
                    context: Context {
                        url: text(),
                        title: text(),
                        referrer: text(),
                        page_name: text(),
                        user_agent: text(),
                        locale: text(),
                        screen,
                        library: text(),
                        library_version: text(),
                        campaign: Campaign {
                            source: text(),
                            medium: text(),
                            name: text(),
                            term: text(),
                            content: text(),
                        },
                        session: text(),
                        ip: text(),
                        consent: [Consent::Unknown, Consent::Granted, Consent::Denied][consent],
                    },
                    revenue: has_revenue.then(|| Revenue { micros: micros.unwrap_or(0), currency: text() }),
                    properties: if has_properties { format!(r#"{{"a":"{}"}}"#, text()) } else { "{}".to_owned() },
                    traits: "{}".to_owned(),
                },
            }
        })
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_that_prost_writes(
            events in proptest::collection::vec(event(), 0..4),
            shared in proptest::collection::vec(text(), 6),
            is_user in any::<bool>(),
        ) {
            let [project, user_agent, protocol, ip, bot, visitor] = &shared[..] else { panic!("six") };
            let request = RequestContext { project, user_agent, protocol, ip, bot };
            let visitor = if is_user { Visitor::User(visitor.clone()) } else { Visitor::Device(visitor.clone()) };
            let bytes = record(&request, &visitor, &events);
            let message: pb::EventsRecord = log::decode(bytes.clone()).expect("a record");
            prop_assert!(log::encode(&message) == bytes);
            let log::EventsRecord::Events(read) = log::read_events(&bytes).expect("a record") else { panic!("events") };
            prop_assert_eq!(read.visitor(), visitor);
            let said = [read.project, read.user_agent, read.protocol, read.ip, read.bot];
            prop_assert_eq!(said, [project, user_agent, protocol, ip, bot]);
            let back = read.events.iter().map(|event| event.to_event(Visitor::Device("v".into())));
            prop_assert_eq!(back.collect::<Result<Vec<_>, _>>().expect("events"), events);
        }
    }
}
