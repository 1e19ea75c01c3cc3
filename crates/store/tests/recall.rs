//! A visitor's past as it stands in the tables.

mod common;

use common::{Harness, project};
use trackway_store::queries::{TimeRange, VisitorEventRow};
use trackway_store::rows::{EventRow, SessionRow};

const T: i64 = 1_767_225_600_000;
const VISITOR: u128 = u128::MAX - 7;

fn event(visitor: u128, time_ms: i64, key: u64) -> EventRow {
    EventRow {
        project: project(),
        // Kept under a user.
        person: 5,
        visitor,
        visitor_id: "v".to_owned(),
        user_id: "u".to_owned(),
        time_ms,
        sequence: 3,
        event_key: key,
        kind: "screen",
        event: "screen".to_owned(),
        page_name: "Cart".to_owned(),
        channel: "Email".to_owned(),
        landing: "campaign",
        campaign: "may".to_owned(),
        protocol: "segment".to_owned(),
        properties: "{}".to_owned(),
        revenue_micros: Some(-129_900_001),
        currency: "EUR".to_owned(),
        time_source: "client",
        ..EventRow::default()
    }
}

#[tokio::test]
async fn a_visitors_activity_comes_back_in_order_and_within_the_range() {
    let harness = Harness::start().await;
    let rows = [
        event(VISITOR, T + 2, 2),
        event(VISITOR, T, u64::MAX),
        event(VISITOR, T - 1, 3),
        event(VISITOR, T + 3, 4),
        event(1, T + 1, 5),
        EventRow { kind: "identify", ..event(VISITOR, T + 1, 6) },
        EventRow { bot: "crawler".to_owned(), ..event(VISITOR, T + 1, 7) },
    ];
    harness.store.insert(&rows, "events").await.unwrap();
    let range = TimeRange { from_ms: T, to_ms: T + 3 };
    let read = async |rows_max| harness.store.visitor_events("shop", VISITOR, range, rows_max).await.unwrap();
    let found = read(10).await;
    let expected = |row: &EventRow| VisitorEventRow {
        time_ms: row.time_ms,
        sequence: 3,
        event_key: row.event_key,
        visitor_id: "v".to_owned(),
        user_id: "u".to_owned(),
        kind: "screen".to_owned(),
        event: "screen".to_owned(),
        protocol: "segment".to_owned(),
        properties: "{}".to_owned(),
        page_name: "Cart".to_owned(),
        channel: "Email".to_owned(),
        campaign: "may".to_owned(),
        landing: "campaign".to_owned(),
        revenue_micros: Some(-129_900_001),
        currency: "EUR".to_owned(),
        ..VisitorEventRow::default()
    };
    assert_eq!(found, [expected(&rows[1]), expected(&rows[0])]);
    assert_eq!(read(1).await.len(), 1);
}

#[tokio::test]
async fn a_visitors_sessions_come_back_as_they_stand() {
    let harness = Harness::start().await;
    let session = |start_ms: i64, sign: i8| SessionRow {
        project: project(),
        visitor: VISITOR,
        session_key: 9,
        start_ms,
        end_ms: T + 50,
        events: 4,
        page_views: 3,
        entry_page: "/a".to_owned(),
        exit_page: "/b".to_owned(),
        entry_host: "a.example".to_owned(),
        exit_host: "b.example".to_owned(),
        channel: "Direct".to_owned(),
        source: "s".to_owned(),
        medium: "m".to_owned(),
        campaign: "c".to_owned(),
        engaged_ms: u64::MAX,
        is_bounce: true,
        revenue_micros: Some(1),
        currency: "EUR".to_owned(),
        sign,
    };
    let other = SessionRow { revenue_micros: None, is_bounce: false, session_key: 0, ..session(T + 2, 1) };
    let rows = [session(T, 1), session(T + 1, 1), session(T + 1, -1), other.clone(), other.clone(), session(T + 3, 1)];
    harness.store.insert(&rows, "sessions").await.unwrap();
    let range = TimeRange { from_ms: T, to_ms: T + 3 };
    let found = harness.store.visitor_sessions("shop", VISITOR, range).await.unwrap();
    assert_eq!(found, [(session(T, 1), 1), (other, 2)]);
}
