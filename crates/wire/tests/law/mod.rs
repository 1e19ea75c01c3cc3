//! What holds for foreign bytes, whatever they are. Checked here for random ones, and by `cargo xtask fuzz` for those that a
//! fuzzer finds.

pub mod known;

use std::fmt::Debug;

use prost::Message;
use serde_json::value::RawValue;
use trackway_domain::event::{Event, ReceivedEvent};
use trackway_domain::id::{ProjectId, Visitor};
use trackway_domain::limits::{EVENT_NAME_BYTES_MAX, ID_BYTES_MAX};
use trackway_domain::stamp::stamp;
use trackway_domain::time::ReceivedAt;
use trackway_wire::log::{self, pb};
use trackway_wire::protocol::{self, Answer, Head, Method, Protocol, Refused, Request, Tally, Verdict};
use trackway_wire::{Item, Rejection, Understood, rules};

/// Items of a request at most. Few, so that the limit is met.
const ITEMS_MAX: usize = 10;

/// Bytes that may come out for each that went in. An event's bytes count some times: as content, as properties, with
/// every blank or mark escaped; and what a request's events share counts for each.
const GROWTH_MAX: usize = 256;

/// A request as text, nearly as HTTP has it: `POST /path?query`, a line for each header, an empty line, and the body.
pub struct Given<'a> {
    method: Method,
    /// Without its last slash.
    pub path: &'a str,
    query: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

impl<'a> Given<'a> {
    /// The request in these bytes, if they have that form.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.windows(2).position(|two| two == b"\n\n")?;
        let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Self {
            method: match method {
                "GET" => Method::Get,
                "POST" => Method::Post,
                _ => return None,
            },
            path: path.strip_suffix('/').unwrap_or(path),
            query,
            headers: lines.filter_map(|line| line.split_once(": ")).collect(),
            body: &bytes[end + 2..],
        })
    }

    /// Hands it over as the gateway does.
    fn with<T>(&self, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let header = |name: &str| self.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let head = Head {
            method: self.method,
            path: self.path,
            query: self.query,
            headers: &header,
            fresh_id: &|| "00000000-0000-4000-8000-000000000001",
        };
        then(&Request { head, body: self.body, items_max: ITEMS_MAX })
    }

    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.path.len() + self.query.len() + self.body.len() + headers.sum::<usize>()
    }
}

/// Checks that every protocol that claims the request obeys the laws; returns how many events they saw in it, or `None` if
/// nobody claims it.
pub fn request(bytes: &[u8]) -> Option<usize> {
    let given = Given::of(bytes)?;
    given.with(|request| {
        let claimants: Vec<_> = protocol::Claimants::of(&request.head).iter().collect();
        assert_eq!(protocol::of(request).is_some(), !claimants.is_empty());
        let events = claimants.iter().map(|protocol| obeys(*protocol, request, &given)).sum();
        (!claimants.is_empty()).then_some(events)
    })
}

/// Returns how many events it saw.
fn obeys(protocol: &dyn Protocol, request: &Request<'_>, given: &Given<'_>) -> usize {
    assert_eq!(protocol.recognises(request), protocol.recognises(request));
    let _ = protocol.write_key(&request.head);
    if let Some(answer) = protocol.aside(request) {
        is_an_answer(&answer);
    }
    for retry_after_seconds in [None, Some(1)] {
        let refused = Refused { status: 503, code: "busy", message: "\u{e9}\n\"".into(), retry_after_seconds };
        is_an_answer(&protocol.answer(request, &Verdict::Refused(&refused)));
    }
    let (understood, again) = (protocol.parse(request), protocol.parse(request));
    assert_eq!(format!("{understood:?}"), format!("{again:?}"), "a request that is sent again is the same");
    match understood {
        Ok(understood) => {
            let bytes = format!("{:?}", understood.write_key).len() + understood.items.iter().map(size).sum::<usize>();
            assert!(bytes <= 65_536 + GROWTH_MAX * given.bytes(), "{bytes} bytes of {}", given.bytes());
            let tally = tally(&understood);
            is_an_answer(&protocol.answer(request, &Verdict::Taken(&tally)));
            is_understood(understood);
            tally.accepted
        }
        Err(reason) => {
            is_a_reason(&reason);
            0
        }
    }
}

fn tally(understood: &Understood) -> Tally {
    let mut tally = Tally::default();
    for (index, item) in understood.items.iter().enumerate() {
        match item {
            Item::Event { .. } => tally.accepted += 1,
            Item::Nothing => tally.nothing += 1,
            Item::Rejected { reason, .. } => tally.rejected.push((index, reason.clone())),
        }
    }
    tally
}

fn size(item: &Item) -> usize {
    match item {
        Item::Event { event, content } => {
            let context = &event.context;
            let texts =
                [&event.name, &event.properties, &event.traits, &context.url, &context.title, &context.referrer];
            content.len() + texts.map(String::len).iter().sum::<usize>()
        }
        Item::Rejected { content, .. } => content.len(),
        Item::Nothing => 0,
    }
}

fn is_an_answer(answer: &Answer) {
    assert!((200..600).contains(&answer.status), "{answer:?}");
    assert_eq!(answer.content_type.is_empty(), answer.body.is_empty(), "{answer:?}");
    for (name, value) in &answer.headers {
        let visible = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        assert!(visible(name) && visible(value), "{answer:?}");
    }
    if answer.content_type == "application/json" {
        let text = std::str::from_utf8(&answer.body).expect("JSON is text");
        serde_json::from_str::<&RawValue>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    }
}

fn is_a_reason(reason: &Rejection) {
    let text = reason.to_string();
    assert!(text.len() <= 1024, "{text}");
}

fn is_understood(understood: Understood) {
    assert!(understood.items.len() <= ITEMS_MAX, "{} items", understood.items.len());
    let places: Vec<_> = understood.own_keys.iter().map(|(index, _)| *index).collect();
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
    assert!(places.iter().all(|place| *place < understood.items.len()), "{places:?}");
    for item in understood.items {
        match item {
            Item::Event { event, content } => {
                assert_eq!(event.id.is_some(), content.is_empty(), "duplicates are known by id or by content");
                is_an_event(&event);
                survives_the_log(event, &content);
            }
            Item::Rejected { reason, .. } => is_a_reason(&reason),
            Item::Nothing => {}
        }
    }
}

fn is_an_event(event: &ReceivedEvent) {
    assert!((1..=EVENT_NAME_BYTES_MAX).contains(&event.name.len()), "{event:?}");
    let visitor = event.visitor.as_ref().map(Visitor::id);
    for id in [visitor, event.id.as_deref(), event.user_id.as_deref(), event.other_id.as_deref()].into_iter().flatten()
    {
        assert!((1..=ID_BYTES_MAX).contains(&id.len()), "{event:?}");
    }
    for object in [&event.properties, &event.traits] {
        let whole = serde_json::from_str::<&RawValue>(object);
        assert!(whole.is_ok_and(|whole| whole.get().starts_with('{')), "{object}");
    }
}

fn survives_the_log(event: ReceivedEvent, content: &[u8]) {
    let project = ProjectId::parse("shop").expect("a project id");
    let visitor = event.visitor.clone().unwrap_or_else(|| Visitor::Device("derived".into()));
    let event = stamp(event, visitor, &project, ReceivedAt(1_795_360_811_000), content);
    let bytes = written(&event);
    let (visitor, mut events) = read(bytes).expect("our own record");
    assert_eq!((events.pop(), visitor), (Some(event.clone()), event.visitor));
}

fn written(event: &Event) -> bytes::Bytes {
    let request = log::RequestContext { project: "shop", user_agent: "UA", ..log::RequestContext::default() };
    log::encode_events(&request, &event.visitor, std::slice::from_ref(event))
}

/// Visitor and events of a record, if it has any.
fn read(bytes: bytes::Bytes) -> Option<(Visitor, Vec<Event>)> {
    let log::EventsRecord::Events(record) = log::read_events(&bytes).ok()? else { return None };
    let visitor = record.visitor();
    let events = record.events.iter().map(|event| event.to_event(visitor.clone()));
    let events = events.collect::<Result<_, _>>().ok()?;
    Some((visitor, events))
}

/// Decodes bytes as a record or a snapshot. The first byte chooses which; if it is odd, a record is made of the request in the
/// bytes and spoiled at one place, else they are the record.
pub fn record(bytes: &[u8]) {
    let [kind, rest @ ..] = bytes else { return };
    if kind % 2 == 1 {
        spoiled_record(rest);
        return;
    }
    let record = bytes::Bytes::copy_from_slice(rest);
    match kind / 2 {
        0 => events_record(record),
        1 => comes_back::<pb::JourneysRecord>(record),
        2 => comes_back::<pb::RejectedRecord>(record),
        3 => comes_back::<pb::EventsSnapshot>(record),
        4 => comes_back::<pb::JourneysSnapshot>(record),
        5 => comes_back::<pb::MembershipChange>(record),
        _ => comes_back::<pb::PartitionClock>(record),
    }
}

fn spoiled_record(bytes: &[u8]) {
    let [place, place_2, value, request @ ..] = bytes else { return };
    let Some(given) = Given::of(request) else { return };
    let items = given.with(|request| Some(protocol::of(request)?.parse(request).ok()?.items)).unwrap_or_default();
    for item in items {
        let Item::Event { event, content } = item else { continue };
        let project = ProjectId::parse("shop").expect("a project id");
        let visitor = event.visitor.clone().unwrap_or_else(|| Visitor::Device("derived".into()));
        let event = stamp(event, visitor, &project, ReceivedAt(1_795_360_811_000), &content);
        let mut record = written(&event).to_vec();
        let place = usize::from(u16::from_le_bytes([*place, *place_2])) % record.len();
        record[place] = *value;
        events_record(record.into());
    }
}

fn events_record(record: bytes::Bytes) {
    let by_prost = log::decode::<pb::EventsRecord>(record.clone()).ok().and_then(|record| record.body);
    match (log::read_events(&record), &by_prost) {
        (Ok(log::EventsRecord::Events(events)), Some(pb::events_record::Body::Events(by_prost))) => {
            assert_eq!(events.events.len(), by_prost.events.len());
        }
        (read, by_prost) => assert_eq!(read.is_ok(), by_prost.is_some(), "{read:?}"),
    }
    if let Some((_, events)) = read(record.clone()) {
        for event in events {
            let (visitor, again) = read(written(&event)).expect("our own record");
            assert_eq!((again, visitor), (vec![event.clone()], event.visitor));
        }
    }
    if let Ok(pb::EventsRecord { body: Some(pb::events_record::Body::Rules(message)) }) = log::decode(record.clone())
        && let Ok(known) = rules::rules_from_pb(&message)
    {
        assert_eq!(rules::rules_from_pb(&rules::rules_to_pb(&known)).ok(), Some(known));
    }
    comes_back::<pb::EventsRecord>(record);
}

/// What is decoded is encoded to the same, whatever its bytes were.
fn comes_back<M: Message + Default + PartialEq + Debug>(record: bytes::Bytes) {
    let Ok(message) = log::decode::<M>(record) else { return };
    let bytes = log::encode(&message);
    let again: M = log::decode(bytes.clone()).expect("our own record");
    assert_eq!(again, message);
    assert_eq!(log::encode(&again), bytes);
}
