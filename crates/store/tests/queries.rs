//! Every question on a small set of rows whose answers were worked out by hand.

mod common;

use std::time::Duration;

use common::{ALL, Harness, LIMITS, eventually, project};
use trackway_domain::feedback::FeedbackKind;
use trackway_store::queries::{
    AudienceTotals, Bots, Interval, QueryError, QueryLimits, Scope, SessionSummaryRow, StepFilter, TimeRange,
    TouchpointRow, TrendRow,
};
use trackway_store::rows::{AudienceDefinition, EventRow, IdentityRow, MemberRow, ProgressRow, SessionRow};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Thursday, 2026-01-01.
const T: i64 = 1_767_225_600_000;

/// Visitors 1 to 5, users 11 to 14. Visitors 1 and 2 are user 11; 3 is user 12; 11 was aliased to 13, and 13 to 14.
/// So 1, 2, 11, 13, 14 are one person, 3 and 12 another, 4 and 5 are themselves.
const PAIRS: [(u128, u128); 5] = [(1, 11), (2, 11), (3, 12), (11, 13), (13, 14)];

fn event(person: u128, time_ms: i64, event: &str) -> EventRow {
    EventRow {
        project: project(),
        person,
        visitor: person,
        visitor_id: format!("v{person}"),
        time_ms,
        event_key: person as u64 * 1000 + (time_ms - T) as u64,
        kind: "track",
        event: event.to_owned(),
        time_source: "client",
        ..EventRow::default()
    }
}

fn identity((key, person): (u128, u128)) -> IdentityRow {
    IdentityRow {
        project: project(),
        key,
        person,
        visitor_id: format!("v{key}"),
        user_id: format!("u{person}"),
        at_ms: T,
        ..IdentityRow::default()
    }
}

async fn with_events() -> Harness {
    let harness = Harness::start().await;
    let events = [
        event(1, T, "view"),
        event(2, T + 1, "buy"),
        event(14, T + HOUR_MS, "view"),
        event(3, T + DAY_MS, "view"),
        event(12, T + 4 * DAY_MS, "buy"),
        event(4, T + 31 * DAY_MS, "view"),
        event(5, T + 31 * DAY_MS, "tab\t'quote' \\ line\n"),
    ];
    // Two blocks, so that answers come from several parts.
    harness.store.insert(&events[..4], "1").await.unwrap();
    harness.store.insert(&events[4..], "2").await.unwrap();
    harness.store.insert(&[EventRow { project: "other".into(), ..event(1, T, "view") }], "3").await.unwrap();
    harness.store.insert(&PAIRS.map(identity), "1").await.unwrap();
    harness
}

fn trend(bucket_ms: i64, event: &str, events: u64, persons: u64) -> TrendRow {
    TrendRow { bucket_ms, event: event.to_owned(), events, persons }
}

#[tokio::test]
async fn trends_count_persons_after_merges() {
    let harness = with_events().await;
    let get = async |range, interval, events: &[&str], by_event| {
        let events: Vec<String> = events.iter().map(|&event| event.to_owned()).collect();
        harness.store.trend("shop", range, interval, &events, by_event, LIMITS).await.unwrap()
    };
    // Persons: {1, 2, 14}, {3, 12}, 4, 5.
    assert_eq!(get(ALL, Interval::All, &[], false).await, [trend(0, "", 7, 4)]);
    assert_eq!(get(ALL, Interval::All, &["view"], false).await, [trend(0, "", 4, 3)]);
    let odd = "tab\t'quote' \\ line\n";
    assert_eq!(get(ALL, Interval::All, &["view", odd], true).await, [trend(0, odd, 1, 1), trend(0, "view", 4, 3)]);
    assert_eq!(
        get(TimeRange { from_ms: T + 1, to_ms: T + 31 * DAY_MS }, Interval::Hour, &[], false).await,
        [
            trend(T, "", 1, 1),
            trend(T + HOUR_MS, "", 1, 1),
            trend(T + DAY_MS, "", 1, 1),
            trend(T + 4 * DAY_MS, "", 1, 1)
        ]
    );
    assert_eq!(
        get(ALL, Interval::Day, &["view"], true).await,
        [trend(T, "view", 2, 1), trend(T + DAY_MS, "view", 1, 1), trend(T + 31 * DAY_MS, "view", 1, 1)]
    );
    // Weeks begin on Mondays: 2025-12-29, 2026-01-05, 2026-01-26 (1 February is a Sunday).
    assert_eq!(
        get(ALL, Interval::Week, &[], false).await,
        [trend(T - 3 * DAY_MS, "", 4, 2), trend(T + 4 * DAY_MS, "", 1, 1), trend(T + 25 * DAY_MS, "", 2, 2)]
    );
    assert_eq!(get(ALL, Interval::Month, &[], false).await, [trend(T, "", 5, 2), trend(T + 31 * DAY_MS, "", 2, 2)]);
    assert_eq!(get(TimeRange { from_ms: T, to_ms: T }, Interval::All, &[], false).await, []);
    harness.engine.stop().await;
}

#[tokio::test]
async fn bots_are_in_no_answer_unless_it_is_asked_for_them() {
    let harness = Harness::start().await;
    let bot = |person, time_ms, name: &str| EventRow {
        bot: "crawler".to_owned(),
        touchpoint: "ad".to_owned(),
        stage: "awareness".to_owned(),
        ..event(person, time_ms, name)
    };
    let rows = [event(1, T, "view"), bot(1, T + 1, "buy"), bot(2, T + 2, "view"), bot(2, T + DAY_MS, "crawl")];
    harness.store.insert(&rows, "1").await.unwrap();
    let store = &harness.store;
    let steps = [StepFilter { events: vec!["view".to_owned()] }, StepFilter { events: vec!["buy".to_owned()] }];
    for (bots, expected) in [(Bots::LeftOut, 1), (Bots::Included, 4)] {
        let scope = Scope { range: ALL, bots };
        let persons = if bots == Bots::LeftOut { 1 } else { 2 };
        let trend = store.trend("shop", scope, Interval::All, &[], false, LIMITS).await.unwrap();
        assert_eq!((trend[0].events, trend[0].persons), (expected, persons));
        let touchpoints = store.touchpoints("shop", scope, LIMITS).await.unwrap();
        assert_eq!(touchpoints.iter().map(|row| row.events).sum::<u64>(), expected - 1);
        let journey = store.journey("shop", &[1, 2], scope, false, 9, LIMITS).await.unwrap();
        assert_eq!(journey.len() as u64, expected);
        assert_eq!(journey.iter().filter(|row| row.bot == "crawler").count() as u64, expected - 1);
        let (mut names, mut met) = (0, 0);
        let mut stream = store.names("shop", scope, LIMITS).await.unwrap();
        while let Some(block) = stream.next().await.unwrap() {
            names += block.persons.len() as u64;
        }
        let mut stream = store.steps("shop", scope, &steps, LIMITS).await.unwrap();
        while let Some(block) = stream.next().await.unwrap() {
            met += block.persons.len() as u64;
        }
        assert_eq!((names, met), (expected, expected.min(3)));
    }
    // Where nobody can ask for them they are not.
    for (event, expected) in [("view", 1), ("buy", 0)] {
        let mut past = store.past("shop", event, LIMITS).await.unwrap();
        let mut found = 0;
        while let Some(block) = past.next().await.unwrap() {
            found += block.persons.len();
        }
        assert_eq!(found, expected, "{event}");
    }
    assert_eq!(harness.number("SELECT sum(events) FROM event_counts_daily").await, 1);
    assert_eq!(store.latest_event_ms("shop").await.unwrap(), Some(T));
    harness.engine.stop().await;
}

#[tokio::test]
async fn persons_are_joined_through_circles_and_several_aliases_of_one_user() {
    let harness = Harness::start().await;
    let events: Vec<EventRow> = (1..=9).map(|person| event(person, T, "view")).collect();
    harness.store.insert(&events, "1").await.unwrap();
    // 1 and 2 in a circle; 3 aliased to both 4 and 5; 6 alone; 7 to 8 to 9 and 9 to 7.
    let pairs = [(1, 2), (2, 1), (3, 4), (3, 5), (7, 8), (8, 9), (9, 7)];
    harness.store.insert(&pairs.map(identity), "1").await.unwrap();
    let got = harness.store.trend("shop", ALL, Interval::All, &[], false, LIMITS).await.unwrap();
    assert_eq!(got, [trend(0, "", 9, 4)]);
    harness.engine.stop().await;
}

fn session(visitor: u128, start_ms: i64, seconds: i64, events: u32, channel: &str, sign: i8) -> SessionRow {
    SessionRow {
        project: project(),
        visitor,
        start_ms,
        end_ms: start_ms + seconds * 1000,
        events,
        page_views: events / 2,
        entry_page: "/".to_owned(),
        exit_page: format!("/{events}"),
        channel: channel.to_owned(),
        engaged_ms: u64::from(events * events) * 500,
        is_bounce: events == 1,
        sign,
        ..SessionRow::default()
    }
}

#[tokio::test]
async fn sessions_of_one_visitor_that_begin_and_end_together_all_count() {
    let harness = Harness::start().await;
    let alike = |session_key, sign| SessionRow { session_key, ..session(1, T, 0, 1, "Direct", sign) };
    harness.store.insert(&[alike(7, 1), alike(8, 1)], "1").await.unwrap();
    harness.store.insert(&[alike(9, 1)], "2").await.unwrap();
    harness.store.insert(&[alike(8, -1)], "3").await.unwrap();
    for _ in 0..2 {
        let summary = harness.store.session_summary("shop", ALL, false, LIMITS).await.unwrap();
        assert_eq!((summary[0].sessions, summary[0].events, summary[0].bounces), (2, 2, 2));
        harness.client.query("OPTIMIZE TABLE sessions FINAL").execute().await.unwrap();
    }
    harness.engine.stop().await;
}

#[tokio::test]
async fn sessions_that_were_taken_back_do_not_count_merged_or_not() {
    let harness = Harness::start().await;
    harness.client.query("SYSTEM STOP MERGES sessions").execute().await.unwrap();
    harness.store.insert(&PAIRS.map(identity), "1").await.unwrap();
    harness.store.insert(&[session(1, T, 10, 1, "Direct", 1), session(2, T, 20, 2, "Direct", 1)], "1").await.unwrap();
    // 1's session grew; then a late event joined two of 3's into one.
    harness.store.insert(&[session(1, T, 10, 1, "Direct", -1), session(1, T, 40, 3, "Direct", 1)], "2").await.unwrap();
    harness
        .store
        .insert(&[session(3, T, 5, 1, "Email", 1), session(3, T + HOUR_MS, 7, 1, "Direct", 1)], "3")
        .await
        .unwrap();
    harness
        .store
        .insert(
            &[
                session(3, T, 5, 1, "Email", -1),
                session(3, T + HOUR_MS, 7, 1, "Direct", -1),
                session(3, T, 3607, 4, "Email", 1),
            ],
            "4",
        )
        .await
        .unwrap();
    harness.store.insert(&[session(4, T + DAY_MS, 0, 1, "Email", 1)], "5").await.unwrap();

    // Lengths: Direct 20, 40 (one person); Email 0, 3607 (two).
    let direct = SessionSummaryRow {
        channel: "Direct".to_owned(),
        sessions: 2,
        single_event_sessions: 0,
        events: 5,
        page_views: 2,
        persons: 1,
        mean_seconds: 30.0,
        median_seconds: 30.0,
        p95_seconds: 39.0,
        max_seconds: 40.0,
        bounces: 0,
        mean_engaged_seconds: 3.25,
    };
    let email = SessionSummaryRow {
        channel: "Email".to_owned(),
        sessions: 2,
        single_event_sessions: 1,
        events: 5,
        page_views: 2,
        persons: 2,
        mean_seconds: 1803.5,
        median_seconds: 1803.5,
        p95_seconds: 0.95 * 3607.0,
        max_seconds: 3607.0,
        bounces: 1,
        mean_engaged_seconds: 4.25,
    };
    for _ in 0..2 {
        let by_channel = harness.store.session_summary("shop", ALL, true, LIMITS).await.unwrap();
        assert_eq!(by_channel, [direct.clone(), email.clone()]);
        let all = harness.store.session_summary("shop", ALL, false, LIMITS).await.unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].sessions, all[0].persons, all[0].median_seconds, all[0].mean_seconds), (4, 3, 30.0, 916.75));
        let day = TimeRange { from_ms: T + DAY_MS, to_ms: T + 2 * DAY_MS };
        assert_eq!(harness.store.session_summary("shop", day, false, LIMITS).await.unwrap()[0].sessions, 1);
        let none = TimeRange { from_ms: T + 2 * DAY_MS, to_ms: T + 3 * DAY_MS };
        assert_eq!(harness.store.session_summary("shop", none, false, LIMITS).await.unwrap(), []);
        // The second time with everything merged.
        harness.client.query("SYSTEM START MERGES sessions").execute().await.unwrap();
        harness.client.query("OPTIMIZE TABLE sessions FINAL").execute().await.unwrap();
    }
    harness.engine.stop().await;
}

#[tokio::test]
async fn touchpoints_and_journeys() {
    let harness = Harness::start().await;
    let at = |person, time_ms, touchpoint: &str, stage: &str| EventRow {
        touchpoint: touchpoint.to_owned(),
        stage: stage.to_owned(),
        url: format!("https://shop.example/{time_ms}"),
        properties: "{\"a\":1}".to_owned(),
        device: "mobile".to_owned(),
        ..event(person, time_ms, "page")
    };
    let rows = [
        at(1, T, "ad", "awareness"),
        at(2, T + 1, "ad", "awareness"),
        at(4, T + 2, "ad", "awareness"),
        at(1, T + 3, "", ""),
        at(1, T + 4, "checkout", "purchase"),
    ];
    harness.store.insert(&rows, "1").await.unwrap();
    // Said twice: a replay, or the same user on the next visit.
    harness.store.insert(&PAIRS.map(identity), "0").await.unwrap();
    harness.store.insert(&PAIRS.map(identity), "1").await.unwrap();
    let row = |stage: &str, touchpoint: &str, events, persons| TouchpointRow {
        stage: stage.to_owned(),
        touchpoint: touchpoint.to_owned(),
        events,
        persons,
    };
    assert_eq!(
        harness.store.touchpoints("shop", ALL, LIMITS).await.unwrap(),
        [row("awareness", "ad", 3, 2), row("purchase", "checkout", 1, 1)]
    );
    let says = |kind, score_micros| EventRow { feedback: kind, score_micros, ..event(4, T + 9, "survey") };
    let answers = [says("csat", Some(4_500_000)), EventRow { event_key: 77, ..says("text", None) }];
    harness.store.insert(&answers, "2").await.unwrap();
    let mut contacts = harness.store.contacts("shop", ALL, LIMITS).await.unwrap();
    let mut seen = Vec::new();
    while let Some(block) = contacts.next().await.unwrap() {
        for row in 0..block.persons.len() {
            let touchpoint = block.touchpoints[block.touchpoint_indexes[row] as usize].clone();
            let stage = block.stages[block.stage_indexes[row] as usize].clone();
            seen.push((block.persons[row], block.times_ms[row] - T, stage, touchpoint, block.feedback[row]));
        }
    }
    let contact =
        |person, at, stage: &str, touchpoint: &str| (person, at, stage.to_owned(), touchpoint.to_owned(), None);
    let mut expected = vec![
        contact(1, 0, "awareness", "ad"),
        contact(1, 4, "purchase", "checkout"),
        contact(2, 1, "awareness", "ad"),
        contact(4, 2, "awareness", "ad"),
    ];
    for said in [(FeedbackKind::Csat, Some(4_500_000)), (FeedbackKind::Text, None)] {
        expected.push((4, 9, String::new(), String::new(), Some(said)));
    }
    // The two answers have one time, and an order by their keys.
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);

    let from_1 = TimeRange { from_ms: T + 1, to_ms: T + 4 };
    assert_eq!(harness.store.touchpoints("shop", from_1, LIMITS).await.unwrap(), [row("awareness", "ad", 2, 2)]);

    let times = async |touchpoints_only, rows_max| -> Vec<i64> {
        let rows = harness.store.journey("shop", &[1, 2], ALL, touchpoints_only, rows_max, LIMITS).await.unwrap();
        rows.iter().map(|row| row.time_ms - T).collect()
    };
    assert_eq!(times(false, 100).await, [0, 1, 3, 4]);
    assert_eq!(times(false, 2).await, [3, 4]);
    assert_eq!(times(true, 100).await, [0, 1, 4]);
    let last = harness.store.journey("shop", &[1, 2], ALL, true, 1, LIMITS).await.unwrap().remove(0);
    let texts = [
        &last.visitor_id,
        &last.kind,
        &last.event,
        &last.url,
        &last.touchpoint,
        &last.stage,
        &last.device,
        &last.properties,
    ];
    let url = format!("https://shop.example/{}", T + 4);
    assert_eq!(texts, ["v1", "track", "page", &url, "checkout", "purchase", "mobile", "{\"a\":1}"]);
    assert_eq!((last.visitor, last.event_key), (1, 1004));

    let both_sides = harness.store.identities_of("shop", &[11]).await.unwrap();
    assert_eq!(both_sides, [identity((1, 11)), identity((2, 11)), identity((11, 13))]);
    assert_eq!(harness.store.identities("shop", 5).await.unwrap(), PAIRS);
    let too_many = harness.store.identities("shop", 4).await.unwrap_err();
    assert!(matches!(too_many, QueryError::AnswerLimit { limit: 4, .. }), "{too_many:?}");
    harness.engine.stop().await;
}

#[tokio::test]
async fn streams_are_in_order_over_all_parts_and_carry_the_masks() {
    let harness = Harness::start().await;
    // Each block is a part of its own; their persons and times interleave, and so do two events at one time.
    harness.client.query("SYSTEM STOP MERGES events").execute().await.unwrap();
    let names = ["view", "cart", "buy", "noise"];
    let all: Vec<EventRow> = (0..40_000_u64)
        .map(|n| EventRow {
            event_key: n,
            sequence: (n % 2) as u32,
            user_id: format!("u{}", n % 3),
            received_ms: T + n as i64,
            kind: if n % 100 == 99 { "identify" } else { "page" },
            ..event(u128::from(n % 97) << 100, T + (n / 8) as i64, names[(n % 4) as usize])
        })
        .collect();
    for block in 0..4 {
        let rows: Vec<EventRow> = all.iter().filter(|row| row.event_key / 3 % 4 == block).cloned().collect();
        harness.store.insert(&rows, &block.to_string()).await.unwrap();
    }
    let mut sorted = all;
    sorted.sort_by_key(|row| (row.person, row.time_ms, row.sequence, row.event_key));

    let step = |events: &[&str]| StepFilter { events: events.iter().map(|&event| event.to_owned()).collect() };
    let steps = [step(&["view"]), step(&["buy", "cart"]), step(&["view", "absent"]), step(&[])];
    let mask_of = |event: &str| match event {
        "view" => 0b101,
        "cart" | "buy" => 0b010,
        _ => 0,
    };
    let range = TimeRange { from_ms: T + 10, to_ms: T + 4_000 };
    let store = harness.store.metered();
    let mut stream = store.steps("shop", range, &steps, LIMITS).await.unwrap();
    let mut got = Vec::new();
    while let Some(block) = stream.next().await.unwrap() {
        assert!(!block.persons.is_empty());
        got.extend(block.persons.iter().zip(&block.times_ms).zip(&block.masks).map(|((&p, &t), &m)| (p, t, m)));
    }
    let expected: Vec<(u128, i64, u64)> = sorted
        .iter()
        .map(|row| (row.person, row.time_ms, mask_of(&row.event)))
        .filter(|&(_, time, mask)| mask != 0 && (range.from_ms..range.to_ms).contains(&time))
        .collect();
    assert_eq!(got.len(), expected.len());
    assert!(got == expected, "order or masks differ");
    assert_eq!(stream.cost().rows, expected.len() as u64);
    assert_eq!(store.cost(), stream.cost());
    assert_eq!(harness.store.cost().rows, 0, "a metered clone counts by itself");

    let mut stream = harness.store.names("shop", ALL, LIMITS).await.unwrap();
    let mut got = Vec::new();
    while let Some(block) = stream.next().await.unwrap() {
        let names = block.name_indexes.iter().map(|&index| block.names[index as usize].clone());
        got.extend(block.persons.iter().copied().zip(block.times_ms.iter().copied()).zip(names));
    }
    let expected: Vec<((u128, i64), String)> = sorted
        .iter()
        .filter(|row| row.kind != "identify")
        .map(|row| ((row.person, row.time_ms), row.event.clone()))
        .collect();
    assert_eq!(got.len(), expected.len());
    assert!(got == expected, "order or names differ");

    let mut stream = harness.store.past("shop", "cart", LIMITS).await.unwrap();
    let mut got = Vec::new();
    while let Some(block) = stream.next().await.unwrap() {
        for n in 0..block.persons.len() {
            let (key, received) = (block.event_keys[n], block.received_ms[n]);
            got.push((
                block.persons[n],
                block.times_ms[n],
                key,
                received,
                block.visitor_ids[n].clone(),
                block.user_ids[n].clone(),
            ));
        }
    }
    let expected: Vec<_> = sorted
        .iter()
        .filter(|row| row.event == "cart" && row.kind != "identify")
        .map(|row| {
            let (visitor_id, user_id) = (row.visitor_id.clone(), row.user_id.clone());
            (row.person, row.time_ms, row.event_key, row.received_ms, visitor_id, user_id)
        })
        .collect();
    assert_eq!(got.len(), expected.len());
    assert!(got == expected, "order or columns differ");

    let mut none = harness.store.steps("shop", ALL, &[], LIMITS).await.unwrap();
    assert_eq!(none.next().await.unwrap(), None);
    harness.engine.stop().await;
}

fn member(person: u128, entered_ms: i64, left_ms: i64, sign: i8) -> MemberRow {
    MemberRow {
        project: project(),
        audience: "buyers".into(),
        person,
        user_id: format!("u{person}"),
        visitor_id: String::new(),
        entered_ms,
        left_ms,
        partition: person as u32 % 2,
        sign,
    }
}

#[tokio::test]
async fn audiences_and_their_members() {
    let harness = Harness::start().await;
    let store = &harness.store;
    // 1 stays [0, 10), later extended to [0, 30). 2 stays [5, 15). 3 stays [20, 40). 4's was taken back for good.
    store.insert(&[member(1, T, T + 10, 1), member(2, T + 5, T + 15, 1), member(4, T, T + 9, 1)], "1").await.unwrap();
    store.insert(&[member(1, T, T + 10, -1), member(1, T, T + 30, 1)], "2").await.unwrap();
    store.insert(&[member(3, T + 20, T + 40, 1), member(4, T, T + 9, -1)], "3").await.unwrap();

    let totals = async |at: i64| store.audience_totals("shop", "buyers", at).await.unwrap();
    assert_eq!(totals(T - 1).await, AudienceTotals::default());
    assert_eq!(totals(T).await, AudienceTotals { entered: 1, left: 0, members: 1 });
    assert_eq!(totals(T + 14).await, AudienceTotals { entered: 2, left: 0, members: 2 });
    assert_eq!(totals(T + 15).await, AudienceTotals { entered: 2, left: 1, members: 1 });
    assert_eq!(totals(i64::MAX).await, AudienceTotals { entered: 3, left: 3, members: 0 });

    let members = async |at: i64, after, rows_max| {
        let rows = store.audience_members("shop", "buyers", at, after, rows_max).await.unwrap();
        rows.iter().map(|row| row.person).collect::<Vec<_>>()
    };
    assert_eq!(members(T + 5, 0, 100).await, [1, 2]);
    assert_eq!(members(T + 5, 0, 1).await, [1]);
    assert_eq!(members(T + 5, 1, 100).await, [2]);
    assert_eq!(members(T + 15, 0, 100).await, [1]);
    let rows = store.audience_members("shop", "buyers", T + 25, 2, 9).await.unwrap();
    assert_eq!(rows, [member(3, T + 20, T + 40, 1)]);

    // Partition 0 holds 2; partition 1 holds 1 and 3.
    let by = async |watermarks: &[(u32, i64)]| {
        let rows = store.audience_members_by_partition("shop", "buyers", watermarks).await.unwrap();
        rows.iter().map(|row| row.person).collect::<Vec<_>>()
    };
    assert_eq!(by(&[(0, T + 14), (1, T + 30)]).await, [2, 3]);
    assert_eq!(by(&[(1, i64::MIN)]).await, [1, 3]);
    assert_eq!(by(&[(0, T + 15)]).await, Vec::<u128>::new());

    let definition = |audience: &str, changed_ms| AudienceDefinition {
        project: "shop".to_owned(),
        audience: audience.to_owned(),
        event: "buy".to_owned(),
        count_min: 2,
        window_ms: DAY_MS,
        created_ms: T,
        changed_ms,
        ended: changed_ms > T,
    };
    store.put_audience(&definition("buyers", T)).await.unwrap();
    store.put_audience(&definition("fans", T)).await.unwrap();
    store.put_audience(&definition("buyers", T + 1)).await.unwrap();
    assert_eq!(store.audiences("shop").await.unwrap(), [definition("buyers", T + 1), definition("fans", T)]);
    assert_eq!(store.audience("shop", "fans").await.unwrap(), Some(definition("fans", T)));
    assert_eq!(store.audience("shop", "nobody").await.unwrap(), None);
    assert_eq!(store.audiences("other").await.unwrap(), []);
    harness.engine.stop().await;
}

#[tokio::test]
async fn progress_and_the_latest_event() {
    let harness = with_events().await;
    let store = &harness.store;
    assert_eq!(store.latest_event_ms("shop").await.unwrap(), Some(T + 31 * DAY_MS));
    assert_eq!(store.latest_event_ms("nobody").await.unwrap(), None);

    let row = |partition, offset, watermark_ms| ProgressRow {
        topic: "events".into(),
        partition,
        offset,
        watermark_ms,
        log_time_ms: T,
    };
    store.insert(&[row(1, 5, T), row(0, 1, i64::MIN)], "1").await.unwrap();
    store.insert(&[row(1, 7, T + 1)], "2").await.unwrap();
    store.insert(&[row(1, 6, T + 2)], "3").await.unwrap();
    assert_eq!(store.progress("events").await.unwrap(), [row(0, 1, i64::MIN), row(1, 7, T + 1)]);
    assert_eq!(store.progress("journeys").await.unwrap(), []);
    harness.engine.stop().await;
}

const NO_LIMITS: QueryLimits =
    QueryLimits { rows_read_max: 1 << 60, bytes_read_max: 1 << 60, time_max: Duration::from_secs(600) };

/// Puts a view in place of the table that computes for minutes before its first row.
async fn make_slow(harness: &Harness) {
    harness.client.query("RENAME TABLE events TO events_kept").execute().await.unwrap();
    let slow = "CREATE VIEW events AS SELECT * FROM events_kept WHERE person NOT IN
        (SELECT toUInt128(number) FROM numbers(1000000000000) WHERE sipHash64(number) % 1000000007 = 1)";
    harness.client.query(slow).execute().await.unwrap();
}

#[tokio::test]
async fn an_exceeded_limit_is_named_with_its_value() {
    let harness = Harness::start().await;
    let rows: Vec<EventRow> = (0..20_000).map(|n| event(n % 50, T + n as i64, "view")).collect();
    harness.store.insert(&rows, "1").await.unwrap();
    let trend = async |limits| harness.store.trend("shop", ALL, Interval::All, &[], false, limits).await.unwrap_err();

    let rows = trend(QueryLimits { rows_read_max: 1000, ..LIMITS }).await;
    assert!(matches!(rows, QueryError::RowsLimit { query: "trend", limit: 1000 }), "{rows:?}");
    assert!(rows.to_string().contains("`trend`") && rows.to_string().contains("1000"), "{rows}");
    let bytes = trend(QueryLimits { bytes_read_max: 1000, ..LIMITS }).await;
    assert!(matches!(bytes, QueryError::BytesLimit { limit: 1000, .. }), "{bytes:?}");

    let steps = [StepFilter { events: vec!["view".to_owned()] }];
    let limits = QueryLimits { rows_read_max: 1000, ..LIMITS };
    let stopped = match harness.store.steps("shop", ALL, &steps, limits).await {
        Ok(mut stream) => stream.next().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(stopped, QueryError::RowsLimit { query: "steps", limit: 1000 }), "{stopped:?}");

    make_slow(&harness).await;
    let time = trend(QueryLimits { time_max: Duration::from_secs(1), ..NO_LIMITS }).await;
    assert!(matches!(time, QueryError::TimeLimit { limit, .. } if limit == Duration::from_secs(1)), "{time:?}");

    harness.client.query("DROP TABLE events").execute().await.unwrap();
    let refused = trend(LIMITS).await;
    assert!(matches!(refused, QueryError::Refused { query: "trend", .. }) && !refused.is_retryable(), "{refused:?}");
    let store = harness.store.clone();
    harness.engine.stop().await;
    let gone = store.latest_event_ms("shop").await.unwrap_err();
    assert!(matches!(gone, QueryError::Connection { .. }) && gone.is_retryable(), "{gone:?}");
}

#[tokio::test]
async fn a_dropped_stream_ends_the_query_at_the_server() {
    let harness = Harness::start().await;
    let rows: Vec<EventRow> = (0..50_000).map(|n| event(n % 50, T + n as i64, "view")).collect();
    harness.store.insert(&rows, "1").await.unwrap();
    make_slow(&harness).await;
    let mut stream = harness.store.names("shop", ALL, NO_LIMITS).await.unwrap();
    let running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT person, time, event FROM%'";
    {
        let first = stream.next();
        tokio::select! {
            block = first => panic!("{block:?}"),
            () = tokio::time::sleep(Duration::from_millis(1000)) => {}
        }
    }
    assert_eq!(harness.number(running).await, 1);
    drop(stream);
    eventually("the query to end", async || harness.number(running).await == 0).await;
    harness.engine.stop().await;
}

#[tokio::test]
async fn answers_say_what_they_read() {
    let harness = with_events().await;
    let store = harness.store.metered();
    store.latest_event_ms("shop").await.unwrap();
    let first = store.cost();
    assert!(first.rows >= 1 && first.bytes >= 8, "{first:?}");
    store.trend("shop", ALL, Interval::All, &[], false, LIMITS).await.unwrap();
    assert!(store.cost().rows >= first.rows + 7, "{:?}", store.cost());
    harness.engine.stop().await;
}
