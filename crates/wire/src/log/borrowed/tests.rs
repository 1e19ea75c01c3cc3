//! Against prost, over records that are whole, spoiled, or made of fields in any order and of any kind.

use proptest::prelude::*;
use prost::encoding::encode_varint;

use super::*;
use crate::log::{self, encode};

/// What prost read, as this module has it.
fn by_prost_too(record: &pb::EventsRecord) -> Option<EventsRecord<'_>> {
    Some(match record.body.as_ref()? {
        pb::events_record::Body::Events(events) => EventsRecord::Events(VisitorEvents {
            project: &events.project,
            visitor_id: &events.visitor_id,
            visitor_is_user: events.visitor_is_user,
            user_agent: &events.user_agent,
            protocol: &events.protocol,
            events: events.events.iter().map(event_by_prost).collect(),
            ip: &events.ip,
            bot: &events.bot,
        }),
        pb::events_record::Body::Tick(pb::Tick {}) => EventsRecord::Tick,
        pb::events_record::Body::Rules(rules) => EventsRecord::Rules(rules.clone()),
        pb::events_record::Body::Unmerge(unmerge) => EventsRecord::Unmerge(unmerge.clone()),
    })
}

fn event_by_prost(event: &pb::Event) -> LoggedEvent<'_> {
    fn object(text: &str) -> &str {
        if text.is_empty() { "{}" } else { text }
    }
    LoggedEvent {
        kind: kind_from_pb(event.kind()),
        name: &event.name,
        id: &event.id,
        key: EventKey(event.key),
        time: EventTime(event.time_ms),
        time_source: time_source_from_pb(event.time_source()),
        user_id: &event.user_id,
        other_id: &event.other_id,
        sequence: event.sequence,
        url: &event.url,
        title: &event.title,
        referrer: &event.referrer,
        page_name: &event.page_name,
        user_agent: &event.user_agent,
        locale: &event.locale,
        screen: (event.screen_width, event.screen_height),
        library: &event.library,
        library_version: &event.library_version,
        utm_source: &event.utm_source,
        utm_medium: &event.utm_medium,
        utm_campaign: &event.utm_campaign,
        utm_term: &event.utm_term,
        utm_content: &event.utm_content,
        properties: object(&event.properties),
        traits: object(&event.traits),
        client_time_ms: event.client_time_ms,
        sent_at_ms: event.sent_at_ms,
        revenue_micros: event.revenue_micros,
        currency: &event.currency,
        session: &event.session,
        ip: &event.ip,
        consent: consent_from_pb(event.consent()),
    }
}

/// Reads a record both ways; says whether it was accepted.
fn check(record: &[u8]) -> bool {
    let here = read_events(record);
    let prost = log::decode::<pb::EventsRecord>(record.to_vec().into());
    match (&here, &prost) {
        (Ok(here), Ok(prost)) => assert_eq!(Some(here), by_prost_too(prost).as_ref(), "{record:?}"),
        (Err(DecodeError::Field { field: "body" }), Ok(pb::EventsRecord { body: None })) => {}
        (Err(here), Err(prost)) => assert_eq!(format!("{here:?}"), format!("{prost:?}"), "{record:?}"),
        _ => panic!("{here:?}, but prost: {prost:?}, of {record:?}"),
    }
    here.is_ok()
}

fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(value, &mut out);
    out
}

fn delimited(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A field: its head, and its value.
fn field((number, kind): (u64, u64), value: Vec<u8>) -> Vec<u8> {
    [varint(number << 3 | kind), value].concat()
}

/// Some with bytes too many, too few, or too large.
fn value_of_kind(kind: u64) -> BoxedStrategy<Vec<u8>> {
    match kind {
        0 => prop_oneof![
            8 => (0..8_u64).prop_map(varint),
            4 => any::<u64>().prop_map(varint),
            1 => Just(vec![0x80, 0]),
            1 => (0..4_u8).prop_map(|last| [vec![0xff; 9], vec![last]].concat()),
            1 => Just(vec![0x80; 11]),
        ]
        .boxed(),
        1 => prop::collection::vec(any::<u8>(), 8).boxed(),
        2 => prop_oneof![
            8 => "[a-zü]{0,3}".prop_map(|text| delimited(text.as_bytes())),
            1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| delimited(&bytes)),
            1 => Just(varint(200)),
            1 => Just(varint(u64::MAX)),
        ]
        .boxed(),
        3 => prop_oneof![
            // Ends where it should, as another field, or not at all.
            (1..36_u64, 1..36_u64)
                .prop_map(|(within, end)| [field((within, 0), vec![1]), varint(end << 3 | 4)].concat()),
            Just(Vec::new()),
        ]
        .boxed(),
        5 => prop::collection::vec(any::<u8>(), 4).boxed(),
        _ => Just(Vec::new()).boxed(),
    }
}

/// The kind that each field of an event has; texts for those it does not have.
fn own_kind(number: u64) -> u64 {
    match number {
        1 | 5 | 6 | 9 | 16 | 17 | 27..=29 | 33 => 0,
        4 => 1,
        _ => 2,
    }
}

fn any_field(numbers: std::ops::Range<u64>, own_kind: fn(u64) -> u64) -> BoxedStrategy<Vec<u8>> {
    let kind = move |number| prop_oneof![30 => Just(own_kind(number)), 1 => 0..8_u64];
    numbers
        .prop_flat_map(move |number| (Just(number), kind(number)))
        .prop_flat_map(|(number, kind)| (Just((number, kind)), value_of_kind(kind)))
        .prop_map(|(head, value)| field(head, value))
        .boxed()
}

fn fields(one: impl Strategy<Value = Vec<u8>>, max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(one, 0..=max).prop_map(|fields| fields.concat())
}

fn event_bytes() -> impl Strategy<Value = Vec<u8>> {
    fields(any_field(1..36, own_kind), 6)
}

fn visitor_events_bytes() -> impl Strategy<Value = Vec<u8>> {
    let shared = any_field(1..10, |number| if number == 3 { 0 } else { 2 });
    fields(prop_oneof![1 => shared, 1 => event_bytes().prop_map(|event| field((6, 2), delimited(&event)))], 5)
}

fn record_bytes() -> impl Strategy<Value = Vec<u8>> {
    let body = |number: u64| move |bytes: Vec<u8>| field((number, 2), delimited(&bytes));
    let one = prop_oneof![
        12 => visitor_events_bytes().prop_map(body(1)),
        1 => Just(body(2)(Vec::new())),
        1 => fields(any_field(1..5, |number| if number < 6 { 0 } else { 2 }), 2).prop_map(body(3)),
        1 => fields(any_field(1..4, |_| 2), 2).prop_map(body(5)),
        1 => any_field(0..8, |_| 2),
    ];
    fields(one, 3).prop_map(|message| [vec![VERSION], message].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_record_is_read_as_prost_reads_it(record in record_bytes()) {
        check(&record);
    }

    #[test]
    fn a_spoiled_record_is_read_as_prost_reads_it(
        record in record_bytes(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        end in any::<prop::sample::Index>(),
    ) {
        let mut spoiled = record.clone();
        spoiled[place.index(record.len())] = byte;
        check(&spoiled);
        check(&record[..end.index(record.len())]);
    }
}

#[test]
fn groups_may_lie_as_deep_in_each_other_as_prost_lets_them() {
    for (levels, outside) in [(0, 100), (1, 99), (2, 98)] {
        for (depth, accepted) in [(outside, true), (outside + 1, false)] {
            let groups = [[0x93, 0x03].repeat(depth), [0x94, 0x03].repeat(depth)].concat();
            let message = match levels {
                0 => [field((1, 2), delimited(&[])), groups].concat(),
                1 => field((1, 2), delimited(&groups)),
                _ => field((1, 2), delimited(&field((6, 2), delimited(&groups)))),
            };
            assert_eq!(check(&[vec![VERSION], message].concat()), accepted, "{depth} groups, {levels} messages around");
        }
    }
}

#[test]
fn a_body_that_comes_in_pieces_is_the_sum_of_them() {
    let event = |name: &str| pb::Event { name: name.into(), ..Default::default() };
    let piece = |project: &str, name: &str| {
        let events = pb::VisitorEvents { project: project.into(), events: vec![event(name)], ..Default::default() };
        encode(&pb::EventsRecord { body: Some(pb::events_record::Body::Events(events)) })[1..].to_vec()
    };
    let tick = log::encode_events_tick()[1..].to_vec();
    let read = |pieces: &[Vec<u8>]| {
        let record = [vec![VERSION], pieces.concat()].concat();
        assert!(check(&record));
        match read_events(&record) {
            Ok(EventsRecord::Events(events)) => {
                events.events.iter().map(|event| format!("{}/{}", events.project, event.name)).collect()
            }
            other => vec![format!("{other:?}")],
        }
    };
    assert_eq!(read(&[piece("a", "1"), piece("b", "2")]), ["b/1", "b/2"]);
    assert_eq!(read(&[piece("a", "1"), tick.clone(), piece("", "2")]), ["/2"]);
    assert_eq!(read(&[piece("a", "1"), tick]), ["Ok(Tick)"]);
}

#[test]
fn what_is_no_record_is_refused_with_the_same_words() {
    for record in [&[][..], &[2], &[VERSION], &[VERSION, 0x0a, 5], &[VERSION, 0x0a, 4, 0x0a, 2, 0xc3, 0x28]] {
        assert!(!check(record));
    }
}
