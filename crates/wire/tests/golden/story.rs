//! What a recorded script did and what arrived of it, over one scenario group of a capture.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trackway_domain::event::ReceivedEvent;
use trackway_wire::Item;
use trackway_wire::protocol::{Tally, Verdict};

use crate::capture::{self, Entry};

/// One thing that the script did.
pub(crate) struct Action {
    /// As recorded.
    pub said: Value,
    /// The ids that held then.
    pub ids: Value,
    /// The user that was known when it was done.
    pub user: Option<String>,
}

/// One event that arrived.
pub(crate) struct Arrived {
    pub event: ReceivedEvent,
    /// By the recorder's clock.
    pub received_ms: i64,
}

/// What one scenario group did and sent.
#[derive(Default)]
pub(crate) struct Story {
    pub actions: Vec<Action>,
    pub events: Vec<Arrived>,
    /// Items with nothing to record.
    pub nothing: usize,
}

/// The stories of a capture by their group. Every request is the protocol's, names the write key, is understood as a
/// whole, and is answered as it was when it was recorded.
pub(crate) fn stories(capture: &str, protocol: &str, write_key: &str) -> BTreeMap<String, Story> {
    let mut stories: BTreeMap<String, Story> = BTreeMap::new();
    for entry in capture::entries(capture).iter().filter(|entry| entry.kind == "event") {
        let story = stories.entry(entry.group().to_owned()).or_default();
        story.add_actions(entry);
        let (name, understood) = entry.understood();
        assert_eq!(name, protocol, "{}", entry.line);
        let in_head = entry.with_request(|request| {
            trackway_wire::protocol::of(request).expect("it was claimed").write_key(&request.head)
        });
        assert_eq!(in_head.or(understood.write_key).as_deref(), Some(write_key), "{}", entry.line);
        assert_eq!(understood.own_keys, [], "{}", entry.line);
        let mut tally = Tally::default();
        for item in understood.items {
            match item {
                Item::Event { event, .. } => {
                    tally.accepted += 1;
                    story.events.push(Arrived { event, received_ms: entry.received_ms });
                }
                Item::Nothing => tally.nothing += 1,
                Item::Rejected { reason, .. } => panic!("{reason}: {}", entry.line),
            }
        }
        story.nothing += tally.nothing;
        is_answered(entry, &tally);
    }
    stories
}

fn is_answered(entry: &Entry, tally: &Tally) {
    let (answer, expected) = (entry.answer(&Verdict::Taken(tally)), &entry.expected_answer);
    assert_eq!(u64::from(answer.status), expected["status"], "{}", entry.line);
    assert_eq!(answer.content_type, expected["headers"]["content-type"].as_str().unwrap_or(""), "{}", entry.line);
    // Which pixel it is nobody reads.
    if answer.content_type != "image/gif" {
        let body = STANDARD.decode(expected["body_b64"].as_str().expect("a body")).expect("base64");
        assert_eq!(answer.body, body, "{}", entry.line);
    }
}

impl Story {
    /// Every request of a step repeats the step's actions.
    fn add_actions(&mut self, entry: &Entry) {
        for said in &entry.actions {
            if self.actions.iter().any(|known| known.said == *said) {
                continue;
            }
            let user = match said["type"].as_str() {
                Some("identify") => said["user_id"].as_str().map(str::to_owned),
                Some("reset") => None,
                _ => self.actions.last().and_then(|action| action.user.clone()),
            };
            self.actions.push(Action { said: said.clone(), ids: entry.ids.clone(), user });
        }
    }

    /// Takes out the one event that is this.
    pub(crate) fn take(&mut self, action: &Value, is: impl Fn(&Arrived) -> bool) -> Arrived {
        let found: Vec<_> = (0..self.events.len()).filter(|&at| is(&self.events[at])).collect();
        assert_eq!(found.len(), 1, "events for {action}: {:#?}", self.names());
        self.events.remove(found[0])
    }

    /// Name and time of the events that are left.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.events.iter().map(|arrived| &*arrived.event.name).collect()
    }

    /// How often each name is left.
    pub(crate) fn left(&self) -> Vec<(&str, usize)> {
        let mut left = BTreeMap::new();
        for name in self.names() {
            *left.entry(name).or_default() += 1;
        }
        left.into_iter().collect()
    }
}

/// Whether a time is the action's. A tracker stamps an event a little after the script noted the time, Python's rounds it.
/// What was done in the same task as leaving the page the script could note only once the page was gone.
pub(crate) fn is_time_of(action: &Value, time_ms: i64) -> bool {
    let noted = action["event_ts"].as_str().or(action["ts"].as_str()).expect("a time");
    let noted = noted.parse::<jiff::Timestamp>().expect("a time").as_millisecond();
    let before = if action["note"] == "navigates away in the same task" { 400 } else { 15 };
    (-before..=15).contains(&(time_ms - noted))
}

/// JSON that must be some.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
