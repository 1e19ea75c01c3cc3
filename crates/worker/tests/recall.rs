//! Events later than the state that is held: what was let go of comes back, through crashes anywhere.
//!
//! Blocks wait to be carried out, and a crash loses those that wait, or leaves half of one in the tables. Replays ask again, so
//! some questions are answered twice. In the end sessions are what the oracle says of all events.

mod kept;
mod made;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use made::{shop, track};
use proptest::prelude::*;
use trackway_domain::event::{EventKind, OrderKey};
use trackway_domain::id::{PersonKey, Visitor};
use trackway_domain::rules::{PartitionRules, ProjectRules, SessionRules};
use trackway_domain::session::{Facts, Role, SessionEvent, oracle};
use trackway_eventlog::Record;
use trackway_store::queries::{QueryError, TimeRange, VisitorEventRow};
use trackway_store::rows::SessionRow;
use trackway_wire::log::{self, pb};
use trackway_wire::rules::rules_to_pb;
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::{EventsRows, EventsStage};
use trackway_worker::past::Past;
use trackway_worker::stage::{Block, Core, Effect, SnapshotPace, Target};

const BASE: i64 = 1_577_836_800_000;
/// The unit of event times: some of them lie further from each other than it is looked at first.
const UNIT: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

const PACE: SnapshotPace = SnapshotPace { time_ms: 15, records: 3 };

#[derive(Debug, Clone)]
struct Script {
    visitor: u8,
    /// In units.
    time: i64,
    /// The page that is viewed, or nothing is.
    page: Option<u8>,
    /// Received time before it, in minutes.
    pause: i64,
    tick_after: bool,
}

fn session_rules() -> SessionRules {
    let hours = |n| Duration::from_hours(n);
    SessionRules { gap: hours(5), length_max: hours(24), ..SessionRules::USUAL }
}

fn rules() -> PartitionRules {
    PartitionRules {
        lateness: Duration::from_hours(1),
        hold: Duration::from_mins(1),
        block_rows_max: 5,
        block_time: Duration::from_secs(30),
        flush_time: Duration::from_millis(15),
        projects: vec![(shop(), ProjectRules { session: session_rules(), ..ProjectRules::USUAL })],
    }
}

fn scripts() -> impl Strategy<Value = Vec<Script>> {
    let pause = prop_oneof![0..4_i64, Just(90)];
    let script = (0..2_u8, 0..60_i64, prop::option::of(0..3_u8), pause, any::<bool>());
    let script =
        script.prop_map(|(visitor, time, page, pause, tick_after)| Script { visitor, time, page, pause, tick_after });
    prop::collection::vec(script, 0..24)
}

fn order(n: usize, script: &Script) -> OrderKey {
    let event = event(n, script);
    OrderKey { time: event.time, sequence: 0, key: event.key }
}

fn event(n: usize, script: &Script) -> trackway_domain::event::Event {
    let mut event = track(&format!("n{}", script.visitor), "look", BASE + script.time * UNIT, &format!("e{n}"));
    if let Some(page) = script.page {
        event.received.kind = EventKind::Page;
        event.received.context.url = format!("https://shop.example/{page}");
    }
    event
}

/// What blocks put in.
#[derive(Default)]
struct Tables {
    events: Vec<(u128, VisitorEventRow)>,
    sessions: Vec<SessionRow>,
    /// Blocks whose events, and whose sessions, are in.
    events_of: BTreeSet<(u64, i64)>,
    sessions_of: BTreeSet<(u64, i64)>,
}

impl Tables {
    fn insert_events(&mut self, block: &Block<EventsRows>) {
        if !self.events_of.insert(block.first) {
            return;
        }
        let column = |name| block.rows.events.texts(name);
        let visitors = column("visitor");
        let all = ["event_key", "kind", "event", "protocol", "properties", "host", "path", "visitor_id"].map(column);
        let times = column("time");
        for (n, visitor) in visitors.iter().enumerate() {
            let [key, kind, event, protocol, properties, host, path, visitor_id] =
                all.each_ref().map(|all| all[n].clone());
            let row = VisitorEventRow {
                time_ms: times[n].parse().expect("a time in ms"),
                event_key: key.parse().expect("a key"),
                kind,
                event,
                protocol,
                properties,
                host,
                path,
                visitor_id,
                ..VisitorEventRow::default()
            };
            self.events.push((visitor.parse().expect("a key"), row));
        }
    }

    fn insert_sessions(&mut self, block: &Block<EventsRows>) {
        if self.sessions_of.insert(block.first) {
            self.sessions.extend(block.rows.sessions.iter().cloned());
        }
    }

    fn standing(&self) -> Vec<(SessionRow, u64)> {
        let mut sums: Vec<(SessionRow, i64)> = Vec::new();
        for row in &self.sessions {
            let plain = SessionRow { sign: 1, ..row.clone() };
            match sums.iter_mut().find(|(other, _)| *other == plain) {
                Some((_, sum)) => *sum += i64::from(row.sign),
                None => sums.push((plain, i64::from(row.sign))),
            }
        }
        sums.into_iter().filter(|(_, sum)| *sum > 0).map(|(row, sum)| (row, sum as u64)).collect()
    }
}

impl Past for Tables {
    async fn events(
        &self,
        project: &str,
        visitor: u128,
        range: TimeRange,
        rows_max: usize,
    ) -> Result<Vec<VisitorEventRow>, QueryError> {
        assert_eq!(project, "shop");
        let there = |(of, row): &&(u128, VisitorEventRow)| *of == visitor && is_in(row.time_ms, range);
        let mut rows: Vec<_> = self.events.iter().filter(there).map(|(_, row)| row.clone()).collect();
        rows.sort_by_key(|row| (row.time_ms, row.event_key));
        rows.truncate(rows_max);
        Ok(rows)
    }

    async fn sessions(
        &self,
        _project: &str,
        visitor: u128,
        range: TimeRange,
    ) -> Result<Vec<(SessionRow, u64)>, QueryError> {
        let mut rows = self.standing();
        rows.retain(|(row, _)| row.visitor == visitor && is_in(row.start_ms, range));
        Ok(rows)
    }
}

fn is_in(time: i64, range: TimeRange) -> bool {
    (range.from_ms..range.to_ms).contains(&time)
}

struct World {
    log: Vec<Record>,
    now: i64,
    core: Core<EventsStage>,
    at: usize,
    queue: VecDeque<Effect<EventsRows>>,
    /// Blocks that were made, by their names.
    blocks: HashMap<(u64, i64), String>,
    kept: kept::Kept,
    tables: Tables,
    asked: usize,
}

impl World {
    fn new() -> Self {
        let core = Core::new(EventsStage::new(0, 1), PartitionClock::new(), 0, PACE);
        let mut world = Self {
            log: Vec::new(),
            // An event is no later than it is received.
            now: BASE + 10 * 24 * UNIT,
            core,
            at: 0,
            queue: VecDeque::new(),
            blocks: HashMap::new(),
            kept: kept::Kept::new(),
            tables: Tables::default(),
            asked: 0,
        };
        let rules = pb::EventsRecord { body: Some(pb::events_record::Body::Rules(rules_to_pb(&rules()))) };
        world.append(log::encode(&rules));
        world
    }

    fn append(&mut self, value: bytes::Bytes) {
        let offset = self.log.len() as u64;
        self.log.push(Record { offset, timestamp_ms: self.now, value });
    }

    fn receive(&mut self, n: usize, script: &Script) {
        self.now += script.pause * MINUTE;
        let request = log::RequestContext { project: "shop", protocol: "test", ..log::RequestContext::default() };
        let visitor = Visitor::Device(format!("n{}", script.visitor));
        self.append(log::encode_events(&request, &visitor, &[event(n, script)]));
        if script.tick_after {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.now += MINUTE;
        self.append(log::encode_events_tick());
    }

    fn apply(&mut self) {
        let Some(record) = self.log.get(self.at).cloned() else { return };
        let mut effects = Vec::new();
        self.core.apply(record, &mut effects);
        self.core.go_on_saving(self.at % 3, &mut effects);
        self.at += 1;
        for effect in effects {
            if let Effect::Block(block) = &effect {
                let text = format!("{:?} {:?}", block.rows, block.end);
                let first = self.blocks.entry(block.first).or_insert_with(|| text.clone());
                assert_eq!(*first, text, "a replay makes the same block");
            }
            self.queue.push_back(effect);
        }
    }

    fn carry_out(&mut self) {
        match self.queue.pop_front() {
            Some(Effect::Block(block)) => {
                self.tables.insert_events(&block);
                self.tables.insert_sessions(&block);
                for question in &block.rows.questions {
                    self.asked += 1;
                    let answer = kept::wait(question.answer(&self.tables)).expect("an answer");
                    self.append(answer);
                }
            }
            Some(Effect::Snapshot(snapshot)) => {
                self.kept.write(snapshot);
                self.core.on_written(1);
            }
            Some(Effect::Append(derived)) => {
                assert!(derived.iter().all(|derived| derived.target != Target::Rejected), "a record could not be read");
            }
            None => {}
        }
    }

    /// All that is not in the tables, in a snapshot or in the log is gone. Of one block part may be in the tables.
    fn crash(&mut self, part: u8) {
        while let Some(effect) = self.queue.pop_front() {
            if let Effect::Block(block) = effect {
                match part % 3 {
                    0 => self.tables.insert_events(&block),
                    1 => self.tables.insert_sessions(&block),
                    _ => {}
                }
                break;
            }
        }
        self.queue.clear();
        if part.is_multiple_of(4) {
            // A longer replay, then.
            self.kept.harm(usize::from(part));
        }
        let (stage, clock, next) = match self.kept.restore() {
            Some((offset, content)) => {
                let (stage, clock) = EventsStage::restore(0, 1, &content).expect("our own snapshot");
                (stage, clock, offset)
            }
            None => (EventsStage::new(0, 1), PartitionClock::new(), 0),
        };
        self.core = Core::new(stage, clock, next, PACE);
        self.at = usize::try_from(next).expect("a small offset");
    }

    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 100, "questions without end");
            while self.at < self.log.len() || !self.queue.is_empty() {
                self.apply();
                self.carry_out();
            }
            if self.core.is_settled() {
                return;
            }
            self.tick();
        }
    }
}

type Told = (u128, i64, i64, u64, u32, u32, String, String);

/// Sessions that stand, and those that the oracle says.
fn sessions(world: &World, scripts: &[Script]) -> (Vec<Told>, Vec<Told>) {
    let mut sums: HashMap<Told, i64> = HashMap::new();
    for row in &world.tables.sessions {
        *sums.entry(told(row)).or_default() += i64::from(row.sign);
    }
    assert!(sums.values().all(|sum| (0..=1).contains(sum)), "each is put in once, and taken back as it was");
    let mut stand: Vec<Told> = sums.into_iter().filter(|(_, sum)| *sum == 1).map(|(row, _)| row).collect();
    stand.sort();
    let mut expected = Vec::new();
    for visitor in 0..2_u8 {
        let of = scripts.iter().enumerate().filter(|(_, script)| script.visitor == visitor);
        let events: Vec<SessionEvent> = of
            .map(|(n, script)| {
                let facts = match script.page {
                    Some(page) => Facts {
                        role: Role::View,
                        page: Some(format!("/{page}").into()),
                        host: Some("shop.example".into()),
                        ..Facts::default()
                    },
                    None => Facts::default(),
                };
                SessionEvent { order: order(n, script), engaged_ms: 0, facts: facts.into() }
            })
            .collect();
        let key = PersonKey::of_device(&shop(), &format!("n{visitor}")).0;
        expected.extend(oracle::sessions(&events, &session_rules()).into_iter().map(|session| {
            let text = |page: Option<std::sync::Arc<str>>| page.map(|page| page.to_string()).unwrap_or_default();
            let numbers = (session.events, session.page_views);
            let (entry, exit) = (text(session.entry_page), text(session.exit_page));
            (key, session.start.0, session.end.0, session.key.0, numbers.0, numbers.1, entry, exit)
        }));
    }
    expected.sort();
    (stand, expected)
}

fn told(row: &SessionRow) -> Told {
    let pages = (row.entry_page.clone(), row.exit_page.clone());
    (row.visitor, row.start_ms, row.end_ms, row.session_key, row.events, row.page_views, pages.0, pages.1)
}

fn run(scripts: &[Script], turns: &[u8]) -> World {
    let mut world = World::new();
    let mut coming = scripts.iter().enumerate();
    for &turn in turns {
        match turn {
            0..80 => {
                if let Some((n, script)) = coming.next() {
                    world.receive(n, script);
                }
            }
            80..160 => world.apply(),
            160..245 => world.carry_out(),
            245.. => world.crash(turn),
        }
    }
    for (n, script) in coming {
        world.receive(n, script);
        world.apply();
        world.carry_out();
    }
    world.drain();
    world
}

#[test]
fn a_late_event_joins_the_sessions_that_were_let_go_of() {
    let script = |visitor, time, pause| Script { visitor, time, page: Some(1), pause, tick_after: true };
    // Two sessions; others go on; then the event between them, and one that needs no question any more.
    let scripts =
        [script(0, 0, 0), script(0, 9, 0), script(1, 50, 0), script(1, 50, 90), script(0, 4, 90), script(0, 5, 2)];
    let mut world = World::new();
    for (n, script) in scripts.iter().enumerate() {
        world.receive(n, script);
        world.drain();
    }
    let (stand, expected) = sessions(&world, &scripts);
    assert_eq!(stand, expected);
    assert_eq!(world.asked, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn sessions_equal_the_oracles_however_late_events_are(
        scripts in scripts(),
        turns in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let world = run(&scripts, &turns);
        let (stand, expected) = sessions(&world, &scripts);
        prop_assert_eq!(stand, expected);
    }

    /// Events in time never ask, however much was let go of.
    #[test]
    fn events_in_time_ask_nothing(
        scripts in scripts(),
        turns in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut scripts = scripts;
        scripts.sort_by_key(|script| script.time);
        for (n, script) in (0..).zip(&mut scripts) {
            // Ticks move the watermark by the received time that has passed: half an hour is within the lateness.
            script.tick_after = false;
            script.time += 2 * n;
        }
        let world = run(&scripts, &turns);
        prop_assert_eq!(world.asked, 0);
    }
}
