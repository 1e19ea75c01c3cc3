//! Question: what does the worker's first stage cost per event, without log and tables?
//!
//! Baseline: a plain map from visitor to (start, last time, count) over the same stream, which knows neither late events nor
//! duplicates nor restarts. Command: `cargo xtask bench worker [-- EVENTS]` (default 2,000,000; with 20,000,000 the number
//! of sessions is checked against the stream's known 3,018,775).

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use trackway_benches::{measure, realistic, report, shop, synthetic, user_agent};
use trackway_domain::dedup::KnownEvents;
use trackway_domain::event::{KeySource, OrderKey};
use trackway_domain::id::EventKey;
use trackway_domain::rules::{PartitionRules, SessionRules};
use trackway_domain::session::{Facts, SessionEvent, VisitorSessions};
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_eventlog::Record;
use trackway_wire::log::{self, pb};
use trackway_wire::rules::rules_to_pb;
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::EventsStage;
use trackway_worker::stage::{Core, Effect, SnapshotPace};

/// Events in the log at a time, so that the stream need not fit into memory.
const CHUNK: u64 = 100_000;
/// When records begin to come: at the end of the stream's day, so that no event is later than its record.
const RECEIVED_MS: i64 = 1_700_086_400_000;
const PACE: SnapshotPace = SnapshotPace { time_ms: i64::MAX, records: u64::MAX };

fn main() {
    let n: u64 = std::env::args().nth(1).map_or(2_000_000, |n| n.parse().expect("a number of events"));
    let mut lines = Vec::new();

    let mut plain_sessions = 0_u64;
    lines.push(measure("baseline: a plain map, sessions only", n, &[], || {
        let mut open: HashMap<u64, (i64, i64, u32)> = HashMap::new();
        for i in 0..n {
            let (visitor, time) = synthetic(i, n);
            let session = open.entry(visitor).or_insert((time, time, 0));
            if time - session.1 > 30 * 60_000 {
                plain_sessions += 1;
                *session = (time, time, 0);
            }
            session.1 = session.1.max(time);
            session.2 += 1;
        }
        plain_sessions += open.len() as u64;
    }));

    let mut sessions = 0_i64;
    lines.push(measure("domain: dedup + sessions, told once per second of stream", n, &[], || {
        let mut visitors: HashMap<u64, VisitorSessions> = HashMap::new();
        let mut known = KnownEvents::default();
        let mut dirty = Vec::new();
        let (rules, facts) = (SessionRules::USUAL, Arc::<Facts>::default());
        for i in 0..n {
            let (visitor, time) = synthetic(i, n);
            let now = ReceivedAt(1_700_000_000_000 + (i * 86_400_000 / n) as i64);
            let key = EventKey(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let Ok(is_new) = known.claim(key, KeySource::Id, now, now);
            if !is_new {
                continue;
            }
            let order = OrderKey { time: EventTime(time), sequence: 0, key: EventKey(i) };
            let event = SessionEvent { order, engaged_ms: 0, facts: facts.clone() };
            visitors.entry(visitor).or_default().on_event(&event, &rules, now);
            dirty.push(visitor);
            if dirty.len() >= 50_000 || i + 1 == n {
                dirty.sort_unstable();
                dirty.dedup();
                for visitor in dirty.drain(..) {
                    let (back, put) = visitors.get_mut(&visitor).expect("it is there").changes(&rules);
                    sessions += put.len() as i64 - back.len() as i64;
                }
            }
        }
    }));
    println!("sessions: {sessions} (plain map: {plain_sessions}, which is wrong where disorder crosses a gap)");
    if n == 20_000_000 {
        assert_eq!(sessions, 3_018_775, "the stream's sessions");
    }

    let mut stage = Stage::new();
    let mut encode = Duration::ZERO;
    let whole = measure("", n, &[], || {
        for begin in (0..n).step_by(CHUNK as usize) {
            let made = measure("", 1, &[], || stage.fill(begin, n, 1));
            encode += made.cpu;
            stage.drain();
        }
    });
    let mut line = whole;
    line.what = "worker: decode, dedup, identity, enrichment, sessions, rows".to_owned();
    line.cpu -= encode;
    lines.push(line);
    println!("rows of sessions: {}, blocks: {}", stage.session_rows, stage.blocks);

    let mut stage = Stage::new();
    let mut encode = Duration::ZERO;
    let mut line = measure("the same, ten events to a record", n, &[], || {
        for begin in (0..n).step_by(CHUNK as usize) {
            let made = measure("", 1, &[], || stage.fill(begin, n, 10));
            encode += made.cpu;
            stage.drain();
        }
    });
    line.cpu -= encode;
    lines.push(line);

    report("What does the worker's first stage cost per event? (events/s include making the stream)", &lines);
}

/// The real stage over records in memory.
struct Stage {
    core: Core<EventsStage>,
    records: Vec<Record>,
    next: u64,
    session_rows: usize,
    blocks: usize,
}

impl Stage {
    fn new() -> Self {
        let mut core = Core::new(EventsStage::new(0, 4), PartitionClock::new(), 0, PACE);
        let rules =
            pb::EventsRecord { body: Some(pb::events_record::Body::Rules(rules_to_pb(&PartitionRules::USUAL))) };
        let rules = Record { offset: 0, timestamp_ms: RECEIVED_MS, value: log::encode(&rules) };
        core.apply(rules, &mut Vec::new());
        Self { core, records: Vec::new(), next: 1, session_rows: 0, blocks: 0 }
    }

    fn fill(&mut self, begin: u64, n: u64, per_record: u64) {
        for i in (begin..(begin + CHUNK).min(n)).step_by(per_record as usize) {
            let events: Vec<_> = (i..(i + per_record).min(n)).map(|i| realistic(i, n)).collect();
            let visitor = events[0].visitor.clone();
            let value = {
                let (project, user_agent) = (shop(), user_agent(i));
                let request = log::RequestContext {
                    project: project.as_str(),
                    user_agent: &user_agent,
                    protocol: "segment",
                    ..Default::default()
                };
                log::encode_events(&request, &visitor, &events)
            };
            // As fast as 100,000 events a second would come.
            self.records.push(Record { offset: self.next, timestamp_ms: RECEIVED_MS + (i / 100) as i64, value });
            self.next += 1;
        }
    }

    fn drain(&mut self) {
        let mut effects = Vec::new();
        for record in self.records.drain(..) {
            self.core.apply(record, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append(derived) => drop(black_box(derived)),
                    Effect::Snapshot(snapshot) => drop(black_box(snapshot)),
                    Effect::Block(block) => {
                        self.session_rows += block.rows.sessions.len();
                        self.blocks += 1;
                        drop(black_box(block));
                    }
                }
            }
        }
    }
}
