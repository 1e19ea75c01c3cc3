//! A worker that is paused for a minute while the other takes its partitions over, and goes on as if nothing had been: each
//! effect happens once, and neither spoils the other's snapshots.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::sleep;
use trackway_tests::kafka::KafkaBroker;
use trackway_tests::roles::{Installation, about};

const PROJECT: &str = "zombie";

/// Long past the session timeout of 3 s, and past several snapshots of the new owner.
const PAUSE: Duration = Duration::from_secs(60);

/// Visitors, so that all partitions have some; each has one session, as the whole test takes less than a gap.
const VISITORS: usize = 60;

/// What was sent, and must be stored exactly so.
struct Sent {
    rounds: usize,
}

impl Sent {
    /// One event of each visitor, and every second one twice.
    async fn send(&mut self, installation: &Installation) -> Result<()> {
        let round = self.rounds;
        let event = |n: usize| json!({"type": "track", "anonymousId": format!("d{n}"), "event": "visit", "messageId": format!("{round}-{n}")});
        let events = (0..VISITORS).map(event).chain((0..VISITORS).step_by(2).map(event));
        installation.track(PROJECT, &events.collect::<Vec<_>>()).await?;
        self.rounds += 1;
        Ok(())
    }

    async fn assert_all_is_stored(&self, installation: &Installation, when: &str) -> Result<()> {
        let trend = installation.complete(async |client| client.trend(about::trend(PROJECT)).await).await?;
        let events = (VISITORS * self.rounds) as u64;
        let got = trend.buckets.first().map(|all| (all.events, all.persons));
        ensure!(got == Some((events, VISITORS as u64)), "{when}: {got:?} instead of {events}\n{}", installation.logs());
        // Without FINAL: rows that were put in twice would show.
        let queries = [
            format!("SELECT count(), uniqExact(event_key) FROM events WHERE project = '{PROJECT}'"),
            format!("SELECT sum(sign * events), sum(sign) FROM sessions WHERE project = '{PROJECT}'"),
            format!("SELECT sum(events) FROM event_counts_daily WHERE project = '{PROJECT}'"),
        ];
        let expected = [vec![events, events], vec![events, VISITORS as u64], vec![events]];
        for (query, expected) in queries.into_iter().zip(expected) {
            let rows = installation.sql(query.clone()).await?;
            let expected: Vec<Vec<String>> = vec![expected.iter().map(ToString::to_string).collect()];
            assert_eq!(rows, expected, "{when}: {query}\n{}", installation.logs());
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_paused_for_a_minute_changes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = KafkaBroker::start(folder.path())?;
    let settings =
        [("WORKER__SNAPSHOT_SECONDS", "1"), ("LOG__KAFKA_SETTINGS", "{ \"session.timeout.ms\" = \"3000\" }")];
    let installation = Installation::over_kafka(&broker, &[PROJECT], &settings).await?;
    let mut sent = Sent { rounds: 0 };
    sent.send(&installation).await?;
    sent.assert_all_is_stored(&installation, "before the pause").await?;

    // In the middle of its work: blocks are open, and on their way.
    for _ in 0..10 {
        sent.send(&installation).await?;
        sleep(Duration::from_millis(150)).await;
    }
    installation.pause("worker-1")?;
    let resumed = async {
        sleep(PAUSE).await;
        installation.resume("worker-1")
    };
    let going_on = async {
        // All of this the other worker counts, with the state that the paused one has left behind.
        for _ in 0..20 {
            sent.send(&installation).await?;
            sleep(Duration::from_secs(1)).await;
        }
        sent.assert_all_is_stored(&installation, "while one worker is paused").await?;
        anyhow::Ok(sent)
    };
    let (resumed, going_on) = tokio::join!(resumed, going_on);
    resumed?;
    let mut sent = going_on?;
    // It goes on where it was, until it hears that it is an owner no more.
    for _ in 0..10 {
        sent.send(&installation).await?;
        sleep(Duration::from_millis(300)).await;
    }
    sent.assert_all_is_stored(&installation, "after the pause").await?;

    // What both have written in the way of snapshots serves whoever comes next.
    for worker in ["worker-1", "worker-2"] {
        installation.kill9(worker)?;
    }
    for worker in ["worker-1", "worker-2"] {
        installation.start(worker)?;
    }
    sent.send(&installation).await?;
    sent.assert_all_is_stored(&installation, "after a restart of both").await
}
