use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::EventKey;
use crate::time::{ReceivedAt, Watermark};

fn rules(gap: u64, length: u64, events: usize) -> SessionRules {
    SessionRules { gap: Duration::from_millis(gap), length_max: Duration::from_millis(length), events_max: events }
}

fn event(time: i64, key: u64) -> SessionEvent {
    let order = OrderKey { time: EventTime(time), sequence: 0, key: EventKey(key) };
    SessionEvent { order, page: None, landing: None }
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
        visitor.on_event(event(time, key), &rules, ReceivedAt(0));
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
        cut(&events, &rules, &mut sessions);
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
        visitor.on_event(event(n, n as u64), &rules, ReceivedAt(0));
    }
    assert_eq!(visitor.changes(&rules).1.len(), 1);
    // The first session is full, so the next event begins another in the same run.
    visitor.on_event(event(3, 3), &rules, ReceivedAt(0));
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
        visitor.on_event(event(20, 0), &rules, ReceivedAt(100));
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
        visitor.on_event(event(n, n as u64), &rules, ReceivedAt(0));
    }
    let (_, put) = visitor.changes(&rules);
    assert_eq!(put.iter().map(|s| s.events).sum::<u32>(), 60_001);
    assert_eq!(visitor.held(), 40_001);
    // What is left is cut as before.
    visitor.on_event(event(60_001, 60_001), &rules, ReceivedAt(0));
    let (back, put) = visitor.changes(&rules);
    assert_eq!((back.len(), put.len(), put[0].events), (1, 1, 2));
}

fn arrivals() -> impl Strategy<Value = Vec<SessionEvent>> {
    prop::collection::vec((0..24_i64, 0..3_u32, prop::option::of(0..3_u8), prop::option::of(0..3_u8)), 0..14).prop_map(
        |events| {
            let build =
                |(key, (time, sequence, page, landing)): (u64, (i64, u32, Option<u8>, Option<u8>))| SessionEvent {
                    order: OrderKey { time: EventTime(time), sequence, key: EventKey(key) },
                    page: page.map(|p| p.to_string().into()),
                    landing: landing.map(|l| Arc::new(Landing { channel: l.to_string(), ..Landing::default() })),
                };
            (0..).zip(events).map(build).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Any order of arrival, told in any number of steps, with snapshots between, under changing rules: the table holds
    /// what the oracle says.
    #[test]
    fn table_equals_sort_then_cut(
        events in arrivals(),
        (gap, length, number) in (0..5_u64, 0..12_u64, 1..5_usize),
        change in prop::option::of((0..14_usize, 0..5_u64)),
        tell in prop::collection::vec(any::<bool>(), 14),
        restart in 0..14_usize,
    ) {
        let mut rules = rules(gap, length, number);
        let mut visitor = VisitorSessions::default();
        let mut table = Vec::new();
        for (n, event) in events.iter().enumerate() {
            if let Some((_, gap)) = change.filter(|&(at, _)| at == n) {
                let new = SessionRules { gap: Duration::from_millis(gap), ..rules };
                visitor.on_rules(&rules, &new);
                rules = new;
            }
            visitor.on_event(event.clone(), &rules, ReceivedAt(0));
            if tell[n] || restart == n {
                apply(&mut table, visitor.changes(&rules));
            }
            if restart == n {
                visitor = VisitorSessions::restore(visitor.runs().map(|(at, events)| (at, events.to_vec())).collect::<Vec<_>>());
            }
        }
        apply(&mut table, visitor.changes(&rules));
        table.sort_by_key(|session| format!("{session:?}"));
        let mut expected = oracle::sessions(&events, &rules);
        expected.sort_by_key(|session| format!("{session:?}"));
        prop_assert_eq!(table, expected);
    }
}
