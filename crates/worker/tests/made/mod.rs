//! Events for scripted records.

use trackway_domain::event::{Context, Event, EventKind, KeySource, ReceivedEvent, TimeSource};
use trackway_domain::id::{EventKey, ProjectId, Visitor};
use trackway_domain::time::EventTime;

pub fn shop() -> ProjectId {
    ProjectId::parse("shop").expect("a project id")
}

/// Something that a device of project `shop` did, with an id and nothing else.
pub fn track(device: &str, name: &str, time_ms: i64, id: &str) -> Event {
    Event {
        visitor: Visitor::Device(device.to_owned()),
        time: EventTime(time_ms),
        time_source: TimeSource::Client,
        key: EventKey::of_id(&shop(), id),
        key_source: KeySource::Id,
        received: ReceivedEvent {
            kind: EventKind::Track,
            name: name.to_owned(),
            id: Some(id.to_owned()),
            visitor: None,
            user_id: None,
            other_id: None,
            client_time_ms: None,
            sent_at_ms: None,
            sequence: 0,
            context: Context::default(),
            revenue: None,
            properties: "{}".to_owned(),
            traits: "{}".to_owned(),
        },
    }
}
