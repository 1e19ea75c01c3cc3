//! How far the tables are behind the log, and what is stuck: from two looks, since one alone cannot tell a partition that is
//! slow from one that stands still.

use std::time::Duration;

use serde_json::{Value, json};
use trackway_query::pb;

use super::json::{freshness as freshness_json, time};
use super::text::{Align, Look, Table, clean, count, counted, freshness, milliseconds, minute, second};

/// A record that waits for longer has missed several blocks. Then a second look is worth its time.
const SUSPICIOUS_MS: i64 = 10_000;

/// Between the two looks. A partition that moves has written a block meanwhile.
pub const BETWEEN: Duration = Duration::from_secs(3);

/// Whether a second look is needed to name what is stuck.
pub fn needs_second_look(first: &pb::LagResponse) -> bool {
    first.partitions.iter().any(|lag| lag.behind_ms.is_some_and(|ms| ms > SUSPICIOUS_MS))
}

/// One or two looks.
#[derive(Debug)]
pub struct Looks {
    /// The first one, if there were two.
    pub before: Option<pb::LagResponse>,
    /// The last one, which is shown.
    pub now: pb::LagResponse,
}

/// How a partition is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing waits, or not for long.
    Fine,
    /// Much waits, and it becomes less or at least other records: this many a second reach the tables.
    Moving { per_second: u64 },
    /// The same record waits as before.
    Stuck,
}

impl Looks {
    fn state(&self, now: &pb::PartitionLag) -> State {
        let is_now = |lag: &&pb::PartitionLag| (&lag.topic, lag.partition) == (&now.topic, now.partition);
        let before = self.before.as_ref().and_then(|before| before.partitions.iter().find(is_now));
        match before {
            Some(before) if now.behind_ms.is_some_and(|ms| ms > SUSPICIOUS_MS) => {
                let moved = now.done.max(now.log_start).saturating_sub(before.done.max(before.log_start));
                if moved == 0 { State::Stuck } else { State::Moving { per_second: moved.div_ceil(BETWEEN.as_secs()) } }
            }
            _ => State::Fine,
        }
    }

    fn stuck(&self) -> Vec<&pb::PartitionLag> {
        self.now.partitions.iter().filter(|lag| self.state(lag) == State::Stuck).collect()
    }
}

/// As a table, with a sentence about what is stuck.
pub fn text(looks: &Looks, look: Look) -> String {
    let mut table = Table::new(&[
        ("topic", Align::Left),
        ("partition", Align::Right),
        ("log end", Align::Right),
        ("in tables", Align::Right),
        ("behind", Align::Right),
        ("waiting", Align::Right),
        ("watermark", Align::Left),
        ("newest in tables", Align::Left),
        ("", Align::Left),
    ]);
    for lag in &looks.now.partitions {
        table.row(vec![
            clean(&lag.topic),
            lag.partition.to_string(),
            count(lag.log_end),
            count(lag.done),
            count(lag.behind),
            lag.behind_ms.map_or_else(|| "-".to_owned(), milliseconds),
            lag.watermark_ms.map_or_else(|| "-".to_owned(), minute),
            lag.done_received_ms.map_or_else(|| "-".to_owned(), second),
            match looks.state(lag) {
                State::Fine => String::new(),
                State::Moving { per_second } => format!("{}/s", count(per_second)),
                State::Stuck => look.strong("stuck"),
            },
        ]);
    }
    table.to_text(look) + &freshness(looks.now.freshness.as_ref(), look) + &hint(looks)
}

/// What stands still, and where to look.
fn hint(looks: &Looks) -> String {
    let stuck = looks.stuck();
    let Some(first) = stuck.first() else { return String::new() };
    let names: Vec<String> = stuck.iter().map(|lag| format!("{}/{}", clean(&lag.topic), lag.partition)).collect();
    let waiting = stuck.iter().filter_map(|lag| lag.behind_ms).max().map_or_else(String::new, milliseconds);
    let behind = looks.now.partitions.iter().filter(|lag| lag.behind > 0).count();
    let cause = if stuck.len() == behind && looks.now.partitions.len() > 1 {
        "Nothing moves at all: either no worker runs, or ClickHouse does not take its inserts."
    } else {
        "Other partitions move, so the owner of these is stuck, or they have none."
    };
    format!(
        "\n{} stuck: {}; the first record waits for {waiting} (offset {}). {cause} \
         The workers' logs and their metric `worker_retries_total` say why.\n",
        counted(stuck.len() as u64, "partition"),
        names.join(", "),
        count(first.done.max(first.log_start)),
    )
}

/// As JSON.
pub fn json(looks: &Looks) -> Value {
    let partition = |lag: &pb::PartitionLag| {
        let (state, per_second) = match looks.state(lag) {
            State::Fine => ("fine", None),
            State::Moving { per_second } => ("moving", Some(per_second)),
            State::Stuck => ("stuck", None),
        };
        json!({
            "topic": lag.topic,
            "partition": lag.partition,
            "log_start": lag.log_start,
            "log_end": lag.log_end,
            "done": lag.done,
            "behind": lag.behind,
            "behind_ms": lag.behind_ms,
            "watermark": lag.watermark_ms.map(time),
            "watermark_ms": lag.watermark_ms,
            "done_received": lag.done_received_ms.map(time),
            "done_received_ms": lag.done_received_ms,
            "state": state,
            "records_per_second": per_second,
        })
    };
    json!({
        "partitions": looks.now.partitions.iter().map(partition).collect::<Value>(),
        "freshness": freshness_json(looks.now.freshness.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: u32, log_end: u64, done: u64, behind_ms: Option<i64>) -> pb::PartitionLag {
        pb::PartitionLag {
            topic: "events".into(),
            partition,
            log_end,
            done,
            watermark_ms: Some(0),
            log_start: 0,
            behind: log_end - done,
            behind_ms,
            done_received_ms: Some(1_000),
        }
    }

    fn answer(partitions: Vec<pb::PartitionLag>) -> pb::LagResponse {
        pb::LagResponse { partitions, freshness: None }
    }

    fn lines(looks: &Looks) -> Vec<String> {
        text(looks, Look::PLAIN).lines().map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn one_look_shows_every_partition() {
        let never = pb::PartitionLag { watermark_ms: None, done_received_ms: None, ..partition(1, 0, 0, None) };
        let now = answer(vec![partition(0, 1_500, 1_400, Some(900)), never]);
        assert!(!needs_second_look(&now));
        assert_eq!(
            lines(&Looks { before: None, now })[..3],
            [
                "  topic   partition  log end  in tables  behind  waiting  watermark             newest in tables",
                "  events          0    1,500      1,400     100     0.9s  1970-01-01 00:00 UTC  1970-01-01 00:00:01",
                "  events          1        0          0       0        -  -                     -",
            ]
        );
    }

    #[test]
    fn what_moves_is_told_from_what_is_stuck() {
        let before = answer(vec![partition(0, 900, 100, Some(60_000)), partition(1, 90, 7, Some(70_000))]);
        assert!(needs_second_look(&before));
        let now = answer(vec![partition(0, 900, 400, Some(50_000)), partition(1, 90, 7, Some(73_000))]);
        let looks = Looks { before: Some(before), now };
        let lines = lines(&looks);
        assert!(lines[1].ends_with("  100/s") && lines[2].ends_with("  stuck"), "{lines:#?}");
        let hint = lines.last().expect("a hint");
        assert!(
            hint.starts_with("1 partition stuck: events/1; the first record waits for 1m 13s (offset 7). Other"),
            "{hint}"
        );
        let json = json(&looks);
        assert_eq!(
            (&json["partitions"][0]["state"], &json["partitions"][1]["state"]),
            (&"moving".into(), &"stuck".into())
        );
    }

    #[test]
    fn if_nothing_moves_the_worker_is_asked_for() {
        let look = || answer(vec![partition(0, 900, 100, Some(60_000)), partition(1, 7, 7, None)]);
        let hint = hint(&Looks { before: Some(look()), now: look() });
        assert!(hint.contains("Nothing moves at all: either no worker runs"), "{hint}");
    }
}
