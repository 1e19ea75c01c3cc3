//! kill -9 of the server in the middle of inserts, with every unanswered block sent again.

mod common;

use std::cell::Cell;
use std::time::Duration;

use common::{Harness, kill_9, project};
use trackway_store::rows::EventRow;

const ROWS: u64 = 3_000;
const KILLS: u64 = 10;

/// 2026-01-01.
const BEGIN_MS: i64 = 1_767_225_600_000;
const MONTH_MS: i64 = 31 * 86_400_000;

/// Each block spans three months, so three parts of the table and three of the view.
fn block(number: u64) -> Vec<EventRow> {
    (0..ROWS)
        .map(|n| EventRow {
            project: project(),
            person: u128::from(n % 50),
            time_ms: BEGIN_MS + (n as i64 % 3) * MONTH_MS + n as i64,
            event_key: number * ROWS + n,
            kind: "track",
            event: format!("event {}", n % 5),
            properties: "x".repeat(n as usize % 200),
            time_source: "client",
            ..EventRow::default()
        })
        .collect()
}

#[tokio::test]
async fn table_and_view_are_exact_after_kills_in_mid_insert() {
    let harness = Harness::start().await;
    let mut resent = 0;
    let killed = Cell::new(false);
    let killer = async {
        for n in 0..KILLS {
            // Uneven, so that kills fall into every phase of an insert.
            tokio::time::sleep(Duration::from_millis(150 + n * 37 % 100)).await;
            let process = loop {
                match harness.engine.process_id() {
                    0 => tokio::time::sleep(Duration::from_millis(10)).await,
                    process => break process,
                }
            };
            kill_9(process);
            common::eventually("another process", async || ![0, process].contains(&harness.engine.process_id())).await;
        }
        killed.set(true);
    };
    let writer = async {
        let mut number = 0;
        while !killed.get() {
            let rows = block(number);
            while let Err(error) = harness.store.insert(&rows, &format!("events-3-{number}")).await {
                assert!(error.is_retryable(), "{error:?}");
                resent += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            number += 1;
        }
        number
    };
    let ((), blocks) = tokio::join!(killer, writer);
    assert!(resent >= KILLS / 2, "only {resent} inserts were interrupted: the test tests nothing");

    let expected = blocks * ROWS;
    assert_eq!(harness.number("SELECT count() FROM events").await, expected);
    assert_eq!(harness.number("SELECT uniqExact(event_key) FROM events").await, expected);
    assert_eq!(harness.number("SELECT sum(events) FROM event_counts_daily").await, expected);
    let differing = "SELECT count() FROM
        (SELECT project, toDate(time) AS day, event, count() AS n FROM events GROUP BY project, day, event) AS t
        FULL JOIN (SELECT project, day, event, sum(events) AS n FROM event_counts_daily GROUP BY project, day, event) AS v
        USING (project, day, event) WHERE t.n != v.n";
    assert_eq!(harness.number(differing).await, 0);
    harness.engine.stop().await;
}
