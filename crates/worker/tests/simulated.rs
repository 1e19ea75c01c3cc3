//! Both stages over scripted records, with crashes anywhere: no broker, no ClickHouse, no clock.
//!
//! What is held to: the tables are what the oracles say of all events, in whatever order these arrived; a replay makes the
//! same blocks under the same names and the same derived records under the same origins.

mod common;
mod kept;
mod made;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use common::{Blocks, Cluster, PACE, Tries};
use made::{shop, track};
use proptest::prelude::*;
use trackway_domain::audience::{self, AudienceRule};
use trackway_domain::event::{Event, EventKind, KeySource, OrderKey};
use trackway_domain::id::PersonKey;
use trackway_domain::identity::{aliases, oracle};
use trackway_domain::rules::{PartitionRules, ProjectRules, SessionRules};
use trackway_domain::session::{self, SessionEvent};
use trackway_eventlog::Record;
use trackway_store::rows::IdentityRow;
use trackway_wire::log::{self, Arrival, pb};
use trackway_wire::rules::{audience_rule_to_pb, rules_to_pb};
use trackway_worker::clock::PartitionClock;
use trackway_worker::events::{EventsRows, EventsStage};
use trackway_worker::snapshots::Content;
use trackway_worker::stage::{Core, Derived, Effect, Stage, Target};

const JOURNEYS: u32 = 3;
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
    /// It says instead that another id is its user too.
    alias: Option<u8>,
    /// After it comes a command that makes a visitor a person of its own.
    unmerge: Option<u8>,
    /// A machine does it.
    bot: bool,
    /// Received time that passes before it, in ms; negative: another gateway's clock is behind.
    pause: i64,
    tick_after: bool,
}

fn scripts() -> impl Strategy<Value = Vec<Script>> {
    let user = prop::option::weighted(0.2, 0..3_u8);
    let alias = prop::option::weighted(0.1, 0..4_u8);
    let unmerge = prop::option::weighted(0.1, 0..3_u8);
    let bot = prop::bool::weighted(0.2);
    let what = (0..3_u8, user, alias, unmerge, any::<bool>(), bot);
    let script = (what, 0..24_i64, 0..40_u8, -5..25_i64, any::<bool>());
    prop::collection::vec(script, 0..24).prop_map(|scripts| {
        scripts
            .into_iter()
            .map(|((visitor, user, alias, unmerge, buys, bot), time, id, pause, tick_after)| Script {
                visitor,
                user: if alias.is_some() { user.or(Some(0)) } else { user },
                time,
                id,
                buys,
                alias,
                unmerge,
                bot,
                pause,
                tick_after,
            })
            .collect()
    })
}

/// Of a visitor or a user. (A bare `0` is a placeholder.)
fn name(n: u8) -> String {
    format!("n{n}")
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
    let what = if script.buys { "buy" } else { "look" };
    let mut event = track(&name(script.visitor), what, BASE + script.time, &script.id.to_string());
    if script.id.is_multiple_of(3) {
        event.key_source = KeySource::Content;
    }
    if script.alias.is_some() {
        event.received.kind = EventKind::Alias;
    }
    event.received.user_id = script.user.map(name);
    event.received.other_id = script.alias.map(name);
    event
}

/// The log of topic `events`, one partition.
fn events_log(scripts: &[Script]) -> Vec<Record> {
    let rules = pb::EventsRecord { body: Some(pb::events_record::Body::Rules(rules_to_pb(&rules()))) };
    let mut log = vec![log::encode(&rules)];
    let mut times = vec![BASE];
    // No event is later than its record, however far behind clocks are.
    let mut now = BASE + 200;
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
        if let Some(visitor) = script.unmerge {
            let visitor_id = name(visitor);
            let unmerge = pb::VisitorUnmerge { project: "shop".to_owned(), visitor_id, command: None };
            log.push(log::encode(&pb::EventsRecord { body: Some(pb::events_record::Body::Unmerge(unmerge)) }));
            times.push(now);
        }
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
    blocks: Blocks,
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
    let mut world = World { blocks: Blocks::default(), rows: Vec::new(), derived: Vec::new() };
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
                    if world.blocks.is_new(&block) {
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

fn audience(name: &str, rule: &AudienceRule) -> pb::JourneysRecord {
    let audience = pb::AudienceChange {
        project: "shop".to_owned(),
        audience: name.to_owned(),
        rule: Some(audience_rule_to_pb(rule)),
        created_ms: 0,
    };
    pb::JourneysRecord { body: Some(pb::journeys_record::Body::Audience(audience)) }
}

/// - `harms`: as in [`run`].
fn cluster(crashes: &BTreeSet<usize>, harms: &[usize], tries: &Tries) -> Cluster {
    let mut cluster = Cluster::new(JOURNEYS, BASE, crashes, harms, tries.clone());
    cluster.append_to_all(&pb::JourneysRecord { body: Some(pb::journeys_record::Body::Rules(rules_to_pb(&rules()))) });
    cluster
}

fn no_tries() -> Tries {
    Tries(Vec::new())
}

fn tries() -> impl Strategy<Value = Tries> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Tries)
}

/// Stays in the audience of [`buyers`].
fn buyers_stays(cluster: &Cluster) -> Vec<(u128, i64, i64)> {
    let rows = cluster.rows.iter().flat_map(|rows| &rows.members).filter(|row| &*row.audience == "buyers");
    live(rows.map(|row| ((row.person, row.entered_ms, row.left_ms), row.sign)))
}

/// The scripted events that count, in order of arrival: the first of each id.
fn counted(scripts: &[Script]) -> Vec<Script> {
    let mut seen = BTreeSet::new();
    scripts.iter().filter(|script| seen.insert(script.id)).cloned().collect()
}

fn user_key(user: u8) -> PersonKey {
    PersonKey::of_user(&shop(), &name(user))
}

fn device_key(visitor: u8) -> PersonKey {
    PersonKey::of_device(&shop(), &name(visitor))
}

/// The key that an event is kept under.
fn kept_under(script: &Script) -> PersonKey {
    script.user.map_or(device_key(script.visitor), user_key)
}

/// Two keys that are one person.
type Pair = (PersonKey, PersonKey);

/// All that makes two keys one person, by rescanning: a visitor's user is the one that its earliest event names, of those
/// that came after the last command; aliases join, of devices those after the last command. First all pairs, then those
/// of visitors and their users, which come first there.
fn pairs(scripts: &[Script]) -> (Vec<Pair>, Vec<Pair>) {
    let mut seen = BTreeSet::new();
    let mut named: BTreeMap<u8, Vec<(OrderKey, PersonKey)>> = BTreeMap::new();
    let mut devices: Vec<(PersonKey, PersonKey)> = Vec::new();
    let mut users = Vec::new();
    for script in scripts {
        if seen.insert(script.id)
            && let Some(user) = script.user
        {
            named.entry(script.visitor).or_default().push((event(script).order(), user_key(user)));
            if let Some(other) = script.alias {
                devices.push((device_key(other), user_key(user)));
                if other != script.visitor {
                    users.push((user_key(other), user_key(user)));
                }
            }
        }
        if let Some(visitor) = script.unmerge {
            named.remove(&visitor);
            devices.retain(|(device, _)| *device != device_key(visitor));
        }
    }
    let links = named.iter().filter_map(|(visitor, named)| Some((device_key(*visitor), oracle::user(named)?)));
    let links: Vec<_> = links.collect();
    (links.iter().copied().chain(devices).chain(users).collect(), links)
}

/// The key that a person is told by: the least of its users, or the device that is nobody's.
fn person_of(key: PersonKey, pairs: &[(PersonKey, PersonKey)]) -> PersonKey {
    let same = oracle::person(key, pairs);
    let users = (0..4).map(user_key).filter(|user| oracle::person(*user, pairs) == same);
    users.min().unwrap_or(key)
}

/// Pairs as answers read them: of each the newest row.
fn pairs_of_rows<'a>(rows: impl Iterator<Item = &'a IdentityRow>) -> Vec<(PersonKey, PersonKey)> {
    let mut newest: BTreeMap<(u128, u128, bool), &IdentityRow> = BTreeMap::new();
    for row in rows {
        let known = newest.entry((row.key, row.person, row.by_alias)).or_insert(row);
        assert!(known.version < row.version || std::ptr::eq(*known, row), "a later row has a higher version");
        *known = row;
    }
    newest.values().filter(|row| !row.removed).map(|row| (PersonKey(row.key), PersonKey(row.person))).collect()
}

fn all_keys() -> impl Iterator<Item = PersonKey> {
    (0..4).flat_map(|n| [device_key(n), user_key(n)])
}

/// Two users are joined directly by an alias, or by a device that is the one's and was said to be the other's.
fn part(pairs: &mut Vec<(PersonKey, PersonKey)>, links: &[(PersonKey, PersonKey)], a: PersonKey, b: PersonKey) {
    pairs.retain(|pair| ![(a, b), (b, a)].contains(pair));
    for device in (0..4).map(device_key) {
        let of: Vec<PersonKey> = pairs.iter().filter(|(key, _)| *key == device).map(|(_, user)| *user).collect();
        // Links come first in the list; without one, the least user stands for it.
        let Some(&first) = of.first() else { continue };
        let base = if links.contains(&(device, first)) { first } else { *of.iter().min().expect("not empty") };
        for user in of {
            if user != base && [(a, b), (b, a)].contains(&(base, user)) {
                pairs.retain(|pair| *pair != (device, user));
            }
        }
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

/// One change of sessions: visitor, key, start, end, events, channel and sign.
type SessionChange = (u128, u64, i64, i64, u32, String, i8);

/// What a reader of topic `journeys` is told of sessions: of each partition what comes in turn.
fn sessions_in_stream(derived: &[Derived]) -> Vec<SessionChange> {
    use pb::journeys_record::Body;
    let mut last = BTreeMap::new();
    let mut told = Vec::new();
    for derived in derived {
        let record: pb::JourneysRecord = log::decode(derived.value.clone()).expect("our own record");
        let (origin, sessions) = match record.body.expect("a body") {
            Body::Entries(entries) => (entries.origin, None),
            Body::Sessions(changes) => (changes.origin.clone(), Some(changes)),
            other => panic!("{other:?} is not of the first stage"),
        };
        let origin = origin.expect("every derived record has one");
        if origin.arrival(last.get(&derived.partition).copied()) != Arrival::Next {
            continue;
        }
        last.insert(derived.partition, origin.place());
        let Some(pb::SessionChanges { projects, texts, changes, .. }) = sessions else { continue };
        told.extend(changes.into_iter().map(|change| {
            assert_eq!(projects[change.project as usize], "shop");
            let visitor = u128::from_be_bytes(change.visitor.as_ref().try_into().expect("16 bytes"));
            assert_eq!(PersonKey(visitor).partition(JOURNEYS), derived.partition);
            let (sign, channel) = (if change.taken_back { -1 } else { 1 }, texts[change.channel as usize].clone());
            (visitor, change.key, change.start_ms, change.end_ms, change.events, channel, sign)
        }));
    }
    told
}

#[test]
fn a_crawler_with_ever_new_visitors_leaves_nothing_to_hold() {
    let script = |n: u8, bot| Script {
        visitor: n,
        user: None,
        time: i64::from(n),
        id: n,
        buys: true,
        alias: None,
        unmerge: None,
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
        turns in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let log = events_log(&scripts);
        let straight = run_events(&log, &BTreeSet::new());
        let harmed = run_events_harmed(&log, &crashes, &harms);
        prop_assert_eq!(&straight.blocks, &harmed.blocks);
        let stays = |crashes: &BTreeSet<usize>, harms: &[usize]| {
            let mut cluster = cluster(crashes, harms, &no_tries());
            cluster.append_to_all(&audience("buyers", &buyers()));
            cluster.run(&straight.derived, &turns);
            buyers_stays(&cluster)
        };
        prop_assert_eq!(stays(&BTreeSet::new(), &[]), stays(&crashes, &harms));
    }

    #[test]
    fn tables_and_streams_equal_the_oracles_through_crashes(
        scripts in scripts(),
        crashes in prop::collection::btree_set(1..50_usize, 0..4),
        journeys_crashes in prop::collection::btree_set(1..40_usize, 0..6),
        turns in prop::collection::vec(any::<u8>(), 0..60),
        unmerge in prop::option::of((0..4_u8, 0..4_u8)),
        tries in tries(),
    ) {
        let world = run_events(&events_log(&scripts), &crashes);
        let counted = counted(&scripts);

        // Events: each once.
        let column = |name| world.rows.iter().flat_map(|rows| rows.events.texts(name)).collect::<Vec<_>>();
        let row_keys: Vec<u64> = column("event_key").iter().map(|key| key.parse().expect("a number")).collect();
        let mut keys = row_keys.clone();
        let mut expected: Vec<_> = counted.iter().map(|script| event(script).key.0).collect();
        keys.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(keys, expected);

        let (persons, bots, addresses) = (column("person"), column("bot"), column("ip"));
        for (n, key) in row_keys.into_iter().enumerate() {
            let script = counted.iter().find(|script| event(script).key.0 == key).expect("a counted event");
            prop_assert_eq!(&persons[n], &kept_under(script).0.to_string());
            let bot = match (script.bot, script.visitor) {
                (false, _) => "",
                (true, 0) => "hosting",
                (true, _) => "crawler",
            };
            prop_assert_eq!((bots[n].as_str(), addresses[n].as_str()), (bot, "192.0.2.0"));
        }

        // Sessions: sort the counted events but those of bots, then cut.
        let told = world.rows.iter().flat_map(|rows| &rows.sessions);
        let sessions = live(told.map(|row| ((row.visitor, row.start_ms, row.end_ms, row.events), row.sign)));
        let mut expected = Vec::new();
        for visitor in 0..3_u8 {
            let events: Vec<_> = counted.iter().filter(|script| script.visitor == visitor && !script.bot && script.alias.is_none()).map(|script| {
                let event = event(script);
                let order = OrderKey { time: event.time, sequence: 0, key: event.key };
                SessionEvent::at(order)
            }).collect();
            let key = PersonKey::of_device(&shop(), &name(visitor)).0;
            let cut = session::oracle::sessions(&events, &session_rules());
            expected.extend(cut.iter().map(|session| (key, session.start.0, session.end.0, session.events)));
        }
        expected.sort_unstable();
        prop_assert_eq!(sessions, expected);

        // The stream tells of the same changes, each once.
        let mut in_stream = sessions_in_stream(&world.derived);
        let rows = world.rows.iter().flat_map(|rows| &rows.sessions);
        let mut in_table: Vec<SessionChange> = rows.map(|row| {
            (row.visitor, row.session_key, row.start_ms, row.end_ms, row.events, row.channel.clone(), row.sign)
        }).collect();
        in_stream.sort_unstable();
        in_table.sort_unstable();
        prop_assert_eq!(in_stream, in_table);

        // Persons and audience: what the first stage derived, over partitions that tell each other. Replays have put some
        // records into the log twice, and so have appends that failed in part.
        let mut cluster = cluster(&journeys_crashes, &[], &tries);
        cluster.append_to_all(&audience("buyers", &buyers()));
        let lookers = AudienceRule::EventCount { event: "look".into(), count_min: 1, window: Duration::from_millis(6) };
        cluster.append_to_all(&audience("lookers", &lookers));
        cluster.run(&world.derived, &turns);
        let bought: Vec<_> = counted.iter().filter(|script| script.buys && !script.bot && script.alias.is_none()).collect();
        let expected = |pairs: &[(PersonKey, PersonKey)]| {
            let mut times: BTreeMap<PersonKey, Vec<i64>> = BTreeMap::new();
            for script in &bought {
                times.entry(person_of(kept_under(script), pairs)).or_default().push(BASE + script.time);
            }
            let stays = times.iter().flat_map(|(person, times)| {
                audience::oracle::stays(times, &buyers()).into_iter().map(|stay| (person.0, stay.entered.0, stay.left.0))
            });
            let mut stays: Vec<_> = stays.collect();
            stays.sort_unstable();
            stays
        };
        let persons_in_answers = |cluster: &Cluster| {
            let first = world.rows.iter().flat_map(|rows| &rows.identities);
            let pairs = pairs_of_rows(first.chain(cluster.rows.iter().flat_map(|rows| &rows.identities)));
            all_keys().map(|key| oracle::person(key, &pairs)).collect::<Vec<_>>()
        };
        let persons = |pairs: &[(PersonKey, PersonKey)]| all_keys().map(|key| oracle::person(key, pairs)).collect::<Vec<_>>();
        let (mut pairs, links) = pairs(&scripts);
        prop_assert_eq!(persons_in_answers(&cluster), persons(&pairs));
        prop_assert_eq!(buyers_stays(&cluster), expected(&pairs));

        // A command parts two users: nothing joins them directly any longer, be it a device that was said to be both's.
        if let Some((a, b)) = unmerge {
            let unmerge = pb::UserUnmerge {
                project: "shop".to_owned(),
                user_id: name(a),
                from_user_id: name(b),
                command: None,
            };
            let record = pb::JourneysRecord { body: Some(pb::journeys_record::Body::Unmerge(unmerge)) };
            cluster.append(aliases::home(&shop()).partition(JOURNEYS), log::encode(&record));
            cluster.drain();
            part(&mut pairs, &links, user_key(a), user_key(b));
            prop_assert_eq!(persons_in_answers(&cluster), persons(&pairs));
            prop_assert_eq!(buyers_stays(&cluster), expected(&pairs));
        }

        // Subscribers: enter and leave alternate, and at the end, long after, everybody has left.
        cluster.tick(100_000);
        cluster.drain();
        let mut inside: BTreeMap<(&str, &Bytes), bool> = BTreeMap::new();
        for change in cluster.heard() {
            let before = inside.insert((&change.audience, &change.person), change.entered).unwrap_or(false);
            prop_assert_ne!(before, change.entered, "enter and leave alternate");
        }
        prop_assert!(inside.values().all(|inside| !inside));
    }

    /// An audience that was made only now gets the past out of the store, addressed to the keys that it is kept under; some
    /// of it twice. It ends with the same stays.
    #[test]
    fn an_audience_made_later_has_the_same_stays(
        scripts in scripts(),
        journeys_crashes in prop::collection::btree_set(1..40_usize, 0..6),
        turns in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let world = run_events(&events_log(&scripts), &BTreeSet::new());
        let (pairs, _) = pairs(&scripts);
        let mut cluster = cluster(&journeys_crashes, &[], &no_tries());
        cluster.run(&world.derived, &[]);
        let bought: Vec<_> = counted(&scripts).into_iter().filter(|script| script.buys && !script.bot && script.alias.is_none()).collect();
        let store: Vec<Derived> = bought.iter().flat_map(|script| {
            let event = event(script);
            let state = pb::PersonState {
                origin: None,
                project: "shop".to_owned(),
                person: kept_under(script).0.to_be_bytes().to_vec().into(),
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
            let derived = Derived { target: Target::Journeys, partition: kept_under(script).partition(JOURNEYS), value };
            [derived.clone(), derived]
        }).collect();
        cluster.append_to_all(&audience("buyers", &buyers()));
        cluster.run(&store, &turns);
        let mut times: BTreeMap<PersonKey, Vec<i64>> = BTreeMap::new();
        for script in &bought {
            times.entry(person_of(kept_under(script), &pairs)).or_default().push(BASE + script.time);
        }
        let mut expected: Vec<_> = times.iter().flat_map(|(person, times)| {
            audience::oracle::stays(times, &buyers()).into_iter().map(|stay| (person.0, stay.entered.0, stay.left.0))
        }).collect();
        expected.sort_unstable();
        prop_assert_eq!(buyers_stays(&cluster), expected);
    }
}
