use std::time::Duration;

use proptest::prelude::*;

use super::cut::cut;
use super::zone::Zone;
use super::*;
use crate::time::{ReceivedAt, Watermark};

fn rules(gap: u64, length: u64, events: usize) -> SessionRules {
    SessionRules {
        gap: Duration::from_millis(gap),
        length_max: Duration::from_millis(length),
        events_max: events,
        ..SessionRules::USUAL
    }
}

fn order(time: i64, sequence: u32, key: u64) -> OrderKey {
    OrderKey { time: EventTime(time), sequence, key: EventKey(key) }
}

fn event(time: i64, key: u64) -> SessionEvent {
    SessionEvent::at(order(time, 0, key))
}

/// Applies what was told, as the tables do: nothing may be taken back that is not there.
fn apply(table: &mut Vec<Session>, (back, put): (Vec<Session>, Vec<Session>)) {
    for session in back {
        let at = table.iter().position(|row| *row == session).expect("only what was put in is taken back");
        table.swap_remove(at);
    }
    table.extend(put);
}

fn check(gap: u64, times: &[i64], expected: &[(i64, i64, u32)]) {
    let rules = rules(gap, 1_000, 100);
    let mut visitor = VisitorSessions::default();
    for (key, &time) in (0..).zip(times) {
        visitor.on_event(&event(time, key), &rules, ReceivedAt(0));
    }
    let (back, mut put) = visitor.changes(&rules);
    put.sort_by_key(|session| session.start);
    assert!(back.is_empty());
    assert_eq!(put.iter().map(|s| (s.start.0, s.end.0, s.events)).collect::<Vec<_>>(), expected);
}

#[test]
fn event_exactly_one_gap_later_extends_the_session() {
    check(5, &[0, 5, 10], &[(0, 10, 3)]);
    check(5, &[0, 6], &[(0, 0, 1), (6, 6, 1)]);
}

#[test]
fn late_event_bridges_two_sessions() {
    check(5, &[0, 10, 5], &[(0, 10, 3)]);
}

#[test]
fn session_ends_after_its_length_and_number_of_events() {
    let events: Vec<_> = (0..6).map(|n| event(n * 2, n as u64)).collect();
    let starts = |rules: SessionRules| {
        let mut sessions = Vec::new();
        let held = events.iter().map(|event| (event.order, event.engaged_ms, &*event.facts));
        cut(held, &rules, |session, _| sessions.push(session));
        sessions.iter().map(|s| s.start.0).collect::<Vec<_>>()
    };
    assert_eq!(starts(rules(5, 4, 100)), [0, 6]);
    assert_eq!(starts(rules(5, 3, 100)), [0, 4, 8]);
    assert_eq!(starts(rules(5, 100, 4)), [0, 8]);
}

#[test]
fn what_did_not_change_is_not_told_again() {
    let rules = rules(5, 1_000, 3);
    let mut visitor = VisitorSessions::default();
    for n in 0..3 {
        visitor.on_event(&event(n, n as u64), &rules, ReceivedAt(0));
    }
    assert_eq!(visitor.changes(&rules).1.len(), 1);
    // The first session is full, so the next event begins another in the same run.
    visitor.on_event(&event(3, 3), &rules, ReceivedAt(0));
    let (back, put) = visitor.changes(&rules);
    assert_eq!((back.len(), put.len()), (0, 1));
    assert_eq!(visitor.changes(&rules), (vec![], vec![]));
}

#[test]
fn state_is_held_until_both_times_have_passed() {
    let rules = rules(5, 1_000, 100);
    let hold = Duration::from_millis(10);
    let held = |watermark: i64, now: i64| {
        let mut visitor = VisitorSessions::default();
        visitor.on_event(&event(20, 0), &rules, ReceivedAt(100));
        visitor.changes(&rules);
        visitor.evict(&rules, Watermark(watermark), ReceivedAt(now), hold);
        !visitor.is_empty()
    };
    assert!(held(25, 111), "an event at 25 would still extend it");
    assert!(held(26, 110), "touched 10 ms ago");
    assert!(!held(26, 111));
}

#[test]
fn a_visitor_with_too_many_events_loses_its_oldest_sessions_first() {
    let rules = rules(1_000_000, 1_000_000_000, 10_000);
    let mut visitor = VisitorSessions::default();
    for n in 0..60_001 {
        visitor.on_event(&event(n, n as u64), &rules, ReceivedAt(0));
    }
    let (_, put) = visitor.changes(&rules);
    assert_eq!(put.iter().map(|s| s.events).sum::<u32>(), 60_001);
    assert_eq!(visitor.held(), 40_001);
    // What is left is cut as before.
    visitor.on_event(&event(60_001, 60_001), &rules, ReceivedAt(0));
    let (back, put) = visitor.changes(&rules);
    assert_eq!((back.len(), put.len(), put[0].events), (1, 1, 2));
}

fn facts() -> impl Strategy<Value = Facts> {
    let role = prop_oneof![Just(Role::Action), Just(Role::View), Just(Role::Passive)];
    let kind = prop_oneof![Just(LandingKind::Known), Just(LandingKind::Campaign), Just(LandingKind::Website)];
    let text = || prop::option::of((0..2_u8).prop_map(|n| n.to_string().into()));
    let landing = prop::option::weighted(0.3, (0..2_u8, kind)).prop_map(|landing| {
        landing.map(|(n, kind)| Arc::new(Landing { source: n.to_string(), kind, ..Landing::default() }))
    });
    let user = prop::option::weighted(0.3, 0..2_u128);
    let revenue = prop::option::weighted(0.3, (-2..3_i64, 0..2_u8));
    (role, text(), text(), landing, user, revenue).prop_map(|(role, page, host, landing, user, revenue)| Facts {
        role,
        page,
        host,
        landing,
        user: user.map(PersonKey),
        revenue: revenue.map(|(micros, currency)| Revenue { micros, currency: currency.to_string() }),
    })
}

/// Few facts, so that some are shared.
fn arrivals() -> impl Strategy<Value = Vec<SessionEvent>> {
    let shared = prop::collection::vec(facts().prop_map(Arc::new), 1..6);
    let events = prop::collection::vec((0..24_i64, 0..3_u32, any::<prop::sample::Index>(), 0..3_u32), 0..14);
    (shared, events).prop_map(|(shared, events)| {
        let build = |(key, (time, sequence, facts, engaged_ms)): (u64, (i64, u32, prop::sample::Index, u32))| {
            SessionEvent { order: order(time, sequence, key), engaged_ms, facts: facts.get(&shared).clone() }
        };
        (0..).zip(events).map(build).collect()
    })
}

fn any_rules() -> impl Strategy<Value = SessionRules> {
    let caps = (0..5_u64, 0..12_u64, 1..5_usize);
    // Days begin at one or two of the times.
    let change =
        prop::option::of((0..24_i64, -16..-8_i64)).prop_map(|change| change.map(|(at, ahead)| (EventTime(at), ahead)));
    let zone = (-16..-8_i64, change).prop_map(|(first, change)| Zone::new(first, change.into_iter().collect()));
    let midnight = prop::option::weighted(0.2, zone).prop_map(|zone| zone.map(|zone| zone.expect("a zone")));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0..6_u64);
    (caps, midnight, flags).prop_map(
        |((gap, length, number), midnight, (campaign, referral, user, passive, bounce))| SessionRules {
            midnight,
            split_campaign: campaign,
            split_referral: referral,
            split_user: user,
            passive_extends: passive,
            bounce_below: Duration::from_millis(bounce),
            ..rules(gap, length, number)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    /// Any order of arrival, told in any number of steps, with snapshots between, under changing rules: the table holds
    /// what the oracle says.
    #[test]
    fn table_equals_sort_then_cut(
        events in arrivals(),
        first_rules in any_rules(),
        change in prop::option::of((0..14_usize, any_rules())),
        tell in prop::collection::vec(any::<bool>(), 14),
        restart in 0..14_usize,
    ) {
        let mut rules = first_rules;
        let mut visitor = VisitorSessions::default();
        let mut table = Vec::new();
        for (n, event) in events.iter().enumerate() {
            if let Some((_, new)) = change.as_ref().filter(|(at, _)| *at == n) {
                visitor.on_rules(&rules, new);
                rules = new.clone();
            }
            visitor.on_event(event, &rules, ReceivedAt(0));
            if tell[n] || restart == n {
                apply(&mut table, visitor.changes(&rules));
            }
            if restart == n {
                let runs = visitor.runs().cloned().collect();
                visitor = VisitorSessions::restore(visitor.facts().to_vec(), runs).expect("what was held");
            }
        }
        apply(&mut table, visitor.changes(&rules));
        table.sort_by_key(|session| format!("{session:?}"));
        let mut expected = oracle::sessions(&events, &rules);
        expected.sort_by_key(|session| format!("{session:?}"));
        prop_assert_eq!(table, expected);
    }
}

fn facts_of(visitor: &VisitorSessions) -> usize {
    visitor.facts().len()
}

#[test]
fn of_two_sessions_alike_one_is_told_when_the_second_comes() {
    let rules = rules(5, 1_000, 1);
    let mut visitor = VisitorSessions::default();
    for _ in 0..2 {
        visitor.on_event(&event(0, 7), &rules, ReceivedAt(0));
        let (back, put) = visitor.changes(&rules);
        assert_eq!((back.len(), put.len()), (0, 1));
    }
}

#[test]
fn a_visitor_of_many_short_sessions_keeps_its_newest() {
    // All in one run, since a campaign begins each.
    let rules = SessionRules { split_campaign: true, ..rules(5, i64::MAX as u64, 10_000) };
    let mut visitor = VisitorSessions::default();
    let mut put = 0;
    for n in 0..130_000 {
        let landing = Landing { campaign: (n % 2).to_string(), kind: LandingKind::Campaign, ..Landing::default() };
        let facts = Arc::new(Facts { landing: Some(Arc::new(landing)), ..Facts::default() });
        let event = SessionEvent { order: order(n, 0, n as u64), engaged_ms: 0, facts };
        visitor.on_event(&event, &rules, ReceivedAt(0));
        if n % 65_000 == 64_999 {
            put += visitor.changes(&rules).1.len();
            assert_eq!(visitor.held(), 50_000);
            assert!(facts_of(&visitor) <= 100_000, "{} facts of 50,000 events", facts_of(&visitor));
        }
    }
    assert_eq!(put, 130_000);
    assert_eq!(visitor.runs().map(|run| run.events[0].order().time.0).collect::<Vec<_>>(), [80_000]);
}

#[test]
fn facts_are_held_once_and_let_go_with_their_events() {
    let rules = rules(5, 1_000, 100);
    let mut visitor = VisitorSessions::default();
    let pages: Vec<_> =
        (0..3).map(|n| Arc::new(Facts { page: Some(n.to_string().into()), ..Facts::default() })).collect();
    for n in 0..60_u8 {
        let facts = pages[usize::from(n) % 3].clone();
        // All of one time but the last, which stays.
        let time = if n == 59 { 1_000 } else { 0 };
        visitor.on_event(
            &SessionEvent { order: order(time, 0, n.into()), engaged_ms: 0, facts },
            &rules,
            ReceivedAt(0),
        );
    }
    visitor.changes(&rules);
    assert_eq!((facts_of(&visitor), visitor.held()), (3, 60));
    visitor.evict(&rules, Watermark(500), ReceivedAt(100), Duration::from_millis(10));
    assert_eq!((facts_of(&visitor), visitor.held()), (1, 1));
    assert_eq!(visitor.facts()[0].0, pages[2]);
    assert_eq!(visitor.runs().map(|run| run.events[0].facts()).collect::<Vec<_>>(), [0]);
    visitor.evict(&rules, Watermark(5_000), ReceivedAt(100), Duration::from_millis(10));
    assert_eq!((facts_of(&visitor), visitor.held(), visitor.is_empty()), (0, 0, true));
}
