//! Both stages over scripted records, with crashes anywhere: no broker, no ClickHouse, no clock.
//!
//! What is held to: the tables are what the oracles say of all events, in whatever order these arrived; a replay makes the
//! same blocks under the same names and the same derived records under the same origins.

mod kept;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use trackway_domain::audience::{self, AudienceRule};
use trackway_domain::event::{Context, Event, EventKind, KeySource, OrderKey, ReceivedEvent, TimeSource};
use trackway_domain::id::{EventKey, PersonKey, ProjectId, Visitor};
use trackway_domain::rules::{PartitionRules, ProjectRules, SessionRules};
use trackway_domain::session::{self, SessionEvent};
use trackway_domain::time::EventTime;
use trackway_eventlog::Record;
use trackway_store::rows::{EventRow, MemberRow};
use trackway_wire::log::{self, pb};
use trackway_wire::rules::{audience_rule_to_pb, rules_to_pb};
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::{EventsRows, EventsStage};
use trackway_worker::journeys::JourneysStage;
use trackway_worker::snapshots::Content;
use trackway_worker::stage::{Core, Derived, Effect, SnapshotPace, Stage, Target};

const JOURNEYS: u32 = 2;
const PACE: SnapshotPace = SnapshotPace { time_ms: 15, records: 3 };
/// 2020-01-01: event times are this plus a tiny number.
const BASE: i64 = 1_577_836_800_000;

/// One scripted event.
#[derive(Debug, Clone)]
struct Script {
    visitor: u8,
    user: Option<u8>,
    time: i64,
    /// Events with one id are duplicates; a third of the ids stand for content of events that have none.
    id: u8,
    buys: bool,
    /// A machine does it.
    bot: bool,
    /// Received time that passes before it, in ms; negative: another gateway's clock is behind.
    pause: i64,
    tick_after: bool,
}

fn scripts() -> impl Strategy<Value = Vec<Script>> {
    let user = prop::option::weighted(0.2, 0..2_u8);
    let bot = prop::bool::weighted(0.2);
    let script = (0..3_u8, user, 0..24_i64, 0..40_u8, any::<bool>(), bot, -5..25_i64, any::<bool>());
    prop::collection::vec(script, 0..24).prop_map(|scripts| {
        scripts
            .into_iter()
            .map(|(visitor, user, time, id, buys, bot, pause, tick_after)| Script {
                visitor,
                user,
                time,
                id,
                buys,
                bot,
                pause,
                tick_after,
            })
            .collect()
    })
}

fn shop() -> ProjectId {
    ProjectId::parse("shop").expect("a project id")
}

fn session_rules() -> SessionRules {
    SessionRules { gap: Duration::from_millis(3), length_max: Duration::from_millis(9), ..SessionRules::USUAL }
}

fn rules() -> PartitionRules {
    PartitionRules {
        lateness: Duration::from_millis(2),
        hold: Duration::from_hours(24),
        block_rows_max: 5,
        block_time: Duration::from_millis(40),
        flush_time: Duration::from_millis(15),
        projects: vec![(shop(), ProjectRules { session: session_rules(), ..ProjectRules::USUAL })],
    }
}

fn buyers() -> AudienceRule {
    AudienceRule::EventCount { event: "buy".into(), count_min: 2, window: Duration::from_millis(6) }
}

const REQUEST: log::RequestContext<'_> =
    log::RequestContext { project: "shop", user_agent: "", protocol: "test", ip: "", bot: "" };

fn event(script: &Script) -> Event {
    Event {
        visitor: Visitor::Device(script.visitor.to_string()),
        time: EventTime(BASE + script.time),
        time_source: TimeSource::Client,
        key: EventKey::of_id(&shop(), &script.id.to_string()),
        key_source: if script.id.is_multiple_of(3) { KeySource::Content } else { KeySource::Id },
        received: ReceivedEvent {
            kind: EventKind::Track,
            name: if script.buys { "buy" } else { "look" }.to_owned(),
            id: Some(script.id.to_string()),
            visitor: None,
            user_id: script.user.map(|user| user.to_string()),
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

/// The log of topic `events`, one partition.
fn events_log(scripts: &[Script]) -> Vec<Record> {
    let rules = pb::EventsRecord { body: Some(pb::events_record::Body::Rules(rules_to_pb(&rules()))) };
    let mut log = vec![log::encode(&rules)];
    let mut times = vec![BASE];
    let mut now = BASE;
    for script in scripts {
        now += script.pause;
        let event = event(script);
        let visitor = event.visitor.clone();
        // Some the gateway knows, of some the user agent tells.
        let (bot, user_agent) = match (script.bot, script.visitor) {
            (false, _) => ("", ""),
            (true, 0) => ("hosting", ""),
            (true, _) => ("", "Googlebot"),
        };
        let request = log::RequestContext { bot, user_agent, ip: "192.0.2.0", ..REQUEST };
        log.push(log::encode_events(&request, &visitor, &[event]));
        times.push(now);
        if script.tick_after {
            log.push(log::encode_events_tick());
            times.push(now + 20);
        }
    }
    log.push(log::encode_events_tick());
    times.push(now + 1_000);
    (0..).zip(times).zip(log).map(|((offset, timestamp_ms), value)| Record { offset, timestamp_ms, value }).collect()
}

/// Tables and topics, as far as one stage writes them.
struct World<R> {
    blocks: BTreeMap<(u64, i64), String>,
    rows: Vec<R>,
    derived: Vec<Derived>,
}

/// Runs a stage over a log; after each record it may crash, which loses all but the snapshots. These are put together some
/// entries at a time between records, as chains of deltas and bases.
///
/// - `harms`: what happens to the files of snapshots at a crash, each by a number; none if empty.
fn run<S: Stage>(
    log: &[Record],
    crashes: &BTreeSet<usize>,
    harms: &[usize],
    fresh: impl Fn() -> S,
    restore: impl Fn(&Content) -> (S, PartitionClock),
) -> World<S::Rows>
where
    S::Rows: std::fmt::Debug,
{
    let mut world = World { blocks: BTreeMap::new(), rows: Vec::new(), derived: Vec::new() };
    let mut kept = kept::Kept::new();
    let mut harms = harms.iter();
    let mut crashes = crashes.clone();
    let mut core = Core::new(fresh(), PartitionClock::new(), 0, PACE);
    let mut at = 0;
    while at < log.len() {
        let mut effects = Vec::new();
        core.apply(log[at].clone(), &mut effects);
        core.go_on_saving(at % 3, &mut effects);
        at += 1;
        for effect in effects {
            match effect {
                Effect::Append(derived) => world.derived.extend(derived),
                Effect::Block(block) => {
                    let rows = format!("{:?} {:?} {:?}", block.rows, block.end, block.watermark);
                    if let Some(before) = world.blocks.get(&block.first) {
                        assert_eq!(*before, rows, "a replay makes the same block");
                    } else {
                        world.blocks.insert(block.first, rows);
                        world.rows.push(block.rows);
                    }
                }
                Effect::Snapshot(snapshot) => {
                    kept.write(snapshot);
                    core.on_written(1);
                }
            }
        }
        if crashes.remove(&at) {
            harms.by_ref().take(2).for_each(|&number| kept.harm(number));
            let (stage, clock, next) = match kept.restore() {
                Some((offset, content)) => {
                    let (stage, clock) = restore(&content);
                    (stage, clock, offset)
                }
                None => (fresh(), PartitionClock::new(), 0),
            };
            core = Core::new(stage, clock, next, PACE);
            at = usize::try_from(next).expect("a small offset");
        }
    }
    assert!(core.is_settled(), "the last tick closes everything");
    world
}

fn run_events(log: &[Record], crashes: &BTreeSet<usize>) -> World<EventsRows> {
    run_events_harmed(log, crashes, &[])
}

fn run_events_harmed(log: &[Record], crashes: &BTreeSet<usize>, harms: &[usize]) -> World<EventsRows> {
    let restore = |content: &Content| EventsStage::restore(0, JOURNEYS, content).expect("our own snapshot");
    run(log, crashes, harms, || EventsStage::new(0, JOURNEYS), restore)
}

/// The log of one partition of `journeys`, out of what the first stage derived.
fn journeys_log(partition: u32, derived: &[Derived], more: &[Derived]) -> Vec<Record> {
    use pb::journeys_record::Body;
    let rules = pb::JourneysRecord { body: Some(Body::Rules(rules_to_pb(&rules()))) };
    let audience = pb::AudienceChange {
        project: "shop".to_owned(),
        audience: "buyers".to_owned(),
        rule: Some(audience_rule_to_pb(&buyers())),
        created_ms: 0,
    };
    let audience = pb::JourneysRecord { body: Some(Body::Audience(audience)) };
    let tick = pb::JourneysRecord { body: Some(Body::Tick(pb::Tick {})) };
    let of = |derived: &Derived| derived.target == Target::Journeys && derived.partition == partition;
    let mut values = vec![log::encode(&rules), log::encode(&audience)];
    values.extend(derived.iter().chain(more).filter(|derived| of(derived)).map(|derived| derived.value.clone()));
    let last = values.len();
    values.push(log::encode(&tick));
    let time = |n: usize| BASE + if n == last { 100_000 } else { n as i64 * 7 };
    let records = (0..).zip(values).enumerate();
    records.map(|(n, (offset, value))| Record { offset, timestamp_ms: time(n), value }).collect()
}

fn run_journeys(partition: u32, log: &[Record], crashes: &BTreeSet<usize>) -> World<Vec<MemberRow>> {
    run_journeys_harmed(partition, log, crashes, &[])
}

fn run_journeys_harmed(
    partition: u32,
    log: &[Record],
    crashes: &BTreeSet<usize>,
    harms: &[usize],
) -> World<Vec<MemberRow>> {
    let restore =
        |content: &Content| JourneysStage::restore(partition, JOURNEYS, 1, content).expect("our own snapshot");
    run(log, crashes, harms, || JourneysStage::new(partition, JOURNEYS, 1), restore)
}

/// The scripted events that count, in order of arrival: the first of each id.
fn counted(scripts: &[Script]) -> Vec<Script> {
    let mut seen = BTreeSet::new();
    scripts.iter().filter(|script| seen.insert(script.id)).cloned().collect()
}

/// Whose event each is, by rescanning: the user it names, else its visitor's first user, else the visitor.
fn person_of(script: &Script, counted: &[Script]) -> PersonKey {
    let first = counted.iter().find(|other| other.visitor == script.visitor && other.user.is_some());
    match script.user.or(first.and_then(|other| other.user)) {
        Some(user) => PersonKey::of_user(&shop(), &user.to_string()),
        None => PersonKey::of_device(&shop(), &script.visitor.to_string()),
    }
}

/// Rows with sign 1 that no row with sign -1 takes back.
fn live<T: Clone + Ord + std::hash::Hash>(rows: impl Iterator<Item = (T, i8)>) -> Vec<T> {
    let mut sums: HashMap<T, i64> = HashMap::new();
    for (row, sign) in rows {
        *sums.entry(row).or_default() += i64::from(sign);
    }
    assert!(sums.values().all(|&n| n >= 0), "nothing is taken back that is not there");
    let mut live: Vec<T> = sums.into_iter().flat_map(|(row, n)| std::iter::repeat_n(row, n as usize)).collect();
    live.sort();
    live
}

#[test]
fn a_crawler_with_ever_new_visitors_leaves_nothing_to_hold() {
    let script = |n: u8, bot| Script {
        visitor: n,
        user: None,
        time: i64::from(n),
        id: n,
        buys: true,
        bot,
        pause: 1,
        tick_after: false,
    };
    let held = |bot| {
        let scripts: Vec<_> = (0..100).map(|n| script(n, bot)).collect();
        let mut core = Core::new(EventsStage::new(0, JOURNEYS), PartitionClock::new(), 0, PACE);
        let mut effects = Vec::new();
        for record in events_log(&scripts) {
            core.apply(record, &mut effects);
        }
        assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Append(_))).count() == 0, bot);
        core.stage().sizes().into_iter().find(|(name, _)| *name == "visitors").map(|(_, size)| size)
    };
    assert_eq!((held(false), held(true)), (Some(100), Some(0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// State that is let go of in the first run is let go of at the same record in a replay: late events that come around
    /// then meet the same state. (`run` compares each block with the one that the first run made.)
    #[test]
    fn a_replay_lets_go_of_state_where_the_first_run_did(
        scripts in scripts(),
        hours in prop::collection::vec(0..20_i64, 24),
        crashes in prop::collection::btree_set(1..50_usize, 1..6),
    ) {
        let mut log = events_log(&scripts);
        for (n, record) in log.iter_mut().enumerate() {
            record.timestamp_ms += hours[..=n.min(23)].iter().sum::<i64>() * 3_600_000 / 2;
        }
        let straight = run_events(&log, &BTreeSet::new());
        let crashed = run_events(&log, &crashes);
        prop_assert_eq!(straight.blocks, crashed.blocks);
    }

    /// Files of snapshots that are spoilt, cut or gone cost a longer replay, and nothing else.
    #[test]
    fn damaged_snapshots_change_nothing(
        scripts in scripts(),
        crashes in prop::collection::btree_set(1..50_usize, 1..6),
        harms in prop::collection::vec(0..100_000_usize, 12),
    ) {
        let log = events_log(&scripts);
        let straight = run_events(&log, &BTreeSet::new());
        let harmed = run_events_harmed(&log, &crashes, &harms);
        prop_assert_eq!(&straight.blocks, &harmed.blocks);
        for partition in 0..JOURNEYS {
            let log = journeys_log(partition, &straight.derived, &[]);
            let straight = run_journeys(partition, &log, &BTreeSet::new());
            let harmed = run_journeys_harmed(partition, &log, &crashes, &harms);
            prop_assert_eq!(straight.blocks, harmed.blocks);
        }
    }

    #[test]
    fn tables_and_streams_equal_the_oracles_through_crashes(
        scripts in scripts(),
        crashes in prop::collection::btree_set(1..50_usize, 0..4),
        journeys_crashes in prop::collection::btree_set(1..30_usize, 0..4),
    ) {
        let world = run_events(&events_log(&scripts), &crashes);
        let counted = counted(&scripts);

        // Events: each once.
        let rows: Vec<&EventRow> = world.rows.iter().flat_map(|rows| &rows.events).collect();
        let mut keys: Vec<_> = rows.iter().map(|row| row.event_key).collect();
        let mut expected: Vec<_> = counted.iter().map(|script| event(script).key.0).collect();
        keys.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(keys, expected);

        // Persons: the stored key, followed through the identities, is the event's person.
        let identities: HashMap<u128, u128> =
            world.rows.iter().flat_map(|rows| &rows.identities).map(|row| (row.key, row.person)).collect();
        for row in &rows {
            let script = counted.iter().find(|script| event(script).key.0 == row.event_key).expect("a counted event");
            let person = identities.get(&row.person).copied().unwrap_or(row.person);
            prop_assert_eq!(PersonKey(person), person_of(script, &counted));
            let bot = match (script.bot, script.visitor) {
                (false, _) => "",
                (true, 0) => "hosting",
                (true, _) => "crawler",
            };
            prop_assert_eq!((row.bot.as_str(), row.ip.as_str()), (bot, "192.0.2.0"));
        }

        // Sessions: sort the counted events but those of bots, then cut.
        let told = world.rows.iter().flat_map(|rows| &rows.sessions);
        let sessions = live(told.map(|row| ((row.visitor, row.start_ms, row.end_ms, row.events), row.sign)));
        let mut expected = Vec::new();
        for visitor in 0..3_u8 {
            let events: Vec<_> = counted.iter().filter(|script| script.visitor == visitor && !script.bot).map(|script| {
                let event = event(script);
                let order = OrderKey { time: event.time, sequence: 0, key: event.key };
                SessionEvent { order, page: None, landing: None }
            }).collect();
            let key = PersonKey::of_device(&shop(), &visitor.to_string()).0;
            let cut = session::oracle::sessions(&events, &session_rules());
            expected.extend(cut.iter().map(|session| (key, session.start.0, session.end.0, session.events)));
        }
        expected.sort_unstable();
        prop_assert_eq!(sessions, expected);

        // Audience: first what the first stage derived; then, again, with what partitions sent each other. The first stage's
        // replays have put some records into the log twice.
        let moved: Vec<Derived> = (0..JOURNEYS)
            .flat_map(|partition| run_journeys(partition, &journeys_log(partition, &world.derived, &[]), &journeys_crashes).derived)
            .collect();
        let mut stays = Vec::new();
        let mut subscribers: BTreeMap<(u64, u32, u32), pb::MembershipChange> = BTreeMap::new();
        for partition in 0..JOURNEYS {
            let world = run_journeys(partition, &journeys_log(partition, &world.derived, &moved), &journeys_crashes);
            stays.extend(world.rows.into_iter().flatten().map(|row| ((row.person, row.entered_ms, row.left_ms), row.sign)));
            for derived in world.derived.iter().filter(|derived| derived.target == Target::AudienceChanges) {
                let change: pb::MembershipChange = log::decode(derived.value.clone()).expect("our own record");
                let origin = change.origin.clone().expect("every derived record has one");
                let same = subscribers.insert((origin.offset, origin.index, origin.partition), change.clone());
                prop_assert!(same.is_none_or(|before| before == change), "one origin, one record");
            }
        }
        let stays = live(stays.into_iter());
        let mut expected = Vec::new();
        let persons: BTreeSet<_> = counted.iter().map(|script| person_of(script, &counted)).collect();
        for person in persons {
            let bought = counted.iter().filter(|script| script.buys && !script.bot && person_of(script, &counted) == person);
            let times: Vec<i64> = bought.map(|script| BASE + script.time).collect();
            expected.extend(audience::oracle::stays(&times, &buyers()).iter().map(|stay| (person.0, stay.entered.0, stay.left.0)));
        }
        expected.sort_unstable();
        prop_assert_eq!(&stays, &expected);

        // An audience that was made only now gets the past out of the store, addressed to whoever the person was known as
        // when it was read; some of it twice. It ends with the same stays.
        let mut late_stays = Vec::new();
        let store: Vec<Derived> = counted.iter().filter(|script| script.buys && !script.bot).flat_map(|script| {
            let event = event(script);
            let as_device = PersonKey::of_device(&shop(), &script.visitor.to_string());
            let person = person_of(script, &counted);
            let device_moved = identities.get(&as_device.0) == Some(&person.0);
            let address = if device_moved { as_device } else { person };
            let state = pb::PersonState {
                origin: None,
                project: "shop".to_owned(),
                person: address.0.to_be_bytes().to_vec().into(),
                user_id: String::new(),
                visitor_id: String::new(),
                audiences: vec![pb::AudienceTimes {
                    audience: "buyers".to_owned(),
                    times_ms: vec![event.time.0],
                    keys: vec![event.key.0],
                    received_ms: vec![BASE],
                }],
            };
            let value = log::encode(&pb::JourneysRecord { body: Some(pb::journeys_record::Body::Moved(state)) });
            let derived = Derived { target: Target::Journeys, partition: address.partition(JOURNEYS), value };
            [derived.clone(), derived]
        }).collect();
        let late_log = |partition, more: &[Derived]| {
            let mut log = journeys_log(partition, &world.derived, more);
            // The audience comes after everything that the first stage derived.
            let audience = log.remove(1);
            let entries = world.derived.iter().filter(|d| d.target == Target::Journeys && d.partition == partition).count();
            log.insert(1 + entries, audience);
            for (offset, record) in (0..).zip(&mut log) {
                record.offset = offset;
                record.timestamp_ms = record.timestamp_ms.max(BASE);
            }
            log
        };
        let mut more = store;
        let forwarded: Vec<Derived> =
            (0..JOURNEYS).flat_map(|partition| run_journeys(partition, &late_log(partition, &more), &journeys_crashes).derived).collect();
        more.extend(forwarded);
        for partition in 0..JOURNEYS {
            let world = run_journeys(partition, &late_log(partition, &more), &journeys_crashes);
            late_stays.extend(world.rows.into_iter().flatten().map(|row| ((row.person, row.entered_ms, row.left_ms), row.sign)));
        }
        prop_assert_eq!(live(late_stays.into_iter()), expected);

        // Subscribers: enter and leave alternate, and at the end, long after, everybody has left.
        let mut inside: BTreeMap<Bytes, bool> = BTreeMap::new();
        let mut by_partition: Vec<_> = subscribers.into_iter().collect();
        by_partition.sort_by_key(|((offset, index, partition), _)| (*partition, *offset, *index));
        for (_, change) in by_partition {
            let before = inside.insert(change.person.clone(), change.entered).unwrap_or(false);
            prop_assert_ne!(before, change.entered, "enter and leave alternate");
        }
        prop_assert!(inside.values().all(|inside| !inside));
    }
}
