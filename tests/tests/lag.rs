//! How far the tables are behind, as operators see it: while all is well, while no worker runs, and while ClickHouse is away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use trackway_tests::kafka::KafkaBroker;
use trackway_tests::roles::Installation;

const ASK_MAX: Duration = Duration::from_secs(30);

/// `trackway ask lag --json`.
async fn ask(installation: &Installation) -> Result<Value> {
    let output = installation.trackway(&["ask", "--server", "QUERY", "--json", "lag"], ASK_MAX).await?;
    ensure!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).context("an answer in JSON")
}

/// Sums and words over the partitions of `events`: records behind, longest wait, and how they are.
fn events(lag: &Value) -> (u64, i64, Vec<&str>) {
    let partitions = lag["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    let events: Vec<&Value> = partitions.iter().filter(|lag| lag["topic"] == "events").collect();
    let behind = events.iter().filter_map(|lag| lag["behind"].as_u64()).sum();
    let waiting = events.iter().filter_map(|lag| lag["behind_ms"].as_i64()).max().unwrap_or(0);
    (behind, waiting, events.iter().filter_map(|lag| lag["state"].as_str()).collect())
}

async fn send(installation: &Installation, from: u64) -> Result<()> {
    let visit = |n: u64| json!({"type": "track", "anonymousId": format!("d{n}"), "event": "visit"});
    installation.track("lag", &(from..from + 40).map(visit).collect::<Vec<_>>()).await
}

async fn until_complete(installation: &Installation) -> Result<Value> {
    installation
        .eventually("nothing to be behind", Duration::from_secs(60), async || {
            let lag = ask(installation).await?;
            ensure!(lag["freshness"]["pending_records"] == 0, "{lag}");
            Ok(lag)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_lag_grows_while_no_worker_runs_and_says_what_is_stuck() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = KafkaBroker::start(folder.path())?;
    let installation = Installation::over_kafka(&broker, &["lag"], &[]).await?;
    send(&installation, 0).await?;
    let lag = until_complete(&installation).await?;
    assert_eq!(events(&lag), (0, 0, vec!["fine"; 4]), "{lag}");
    let newest = lag["partitions"][0]["done_received_ms"].as_i64().context("a block came")?;
    assert!(newest > 1_700_000_000_000, "{lag}");

    for worker in ["worker-1", "worker-2"] {
        installation.stop(worker, Duration::from_secs(15)).await?;
    }
    send(&installation, 100).await?;
    let (first, ..) = events(&ask(&installation).await?);
    assert_eq!(first, 40, "a record for each visitor");
    send(&installation, 200).await?;
    // The first record waits for long enough, and then it is looked at twice.
    let lag = installation
        .eventually("the lag to be called stuck", Duration::from_secs(60), async || {
            let lag = ask(&installation).await?;
            ensure!(events(&lag).2.contains(&"stuck"), "{lag}");
            Ok(lag)
        })
        .await?;
    let (behind, waiting, states) = events(&lag);
    assert!(behind == 80 && waiting > 10_000 && states.iter().all(|state| *state == "stuck"), "{lag}");
    let output = installation.trackway(&["ask", "--server", "QUERY", "lag"], ASK_MAX).await?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains("4 partitions stuck: events/0, events/1, events/2, events/3"), "{text}");
    assert!(text.contains("no worker runs"), "{text}");
    let metrics = installation.metrics("query").await?;
    assert_eq!(metrics.sum("query_lag_records", &[("topic", "events")]), 80);
    assert!(metrics.sum("query_lag_seconds", &[("topic", "events"), ("partition", "0")]) >= 5);

    installation.start("worker-2")?;
    let lag = until_complete(&installation).await?;
    assert_eq!(events(&lag).0, 0, "{lag}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_machine_lag_is_known_too_and_says_when_clickhouse_is_away() -> Result<()> {
    let installation = Installation::up(&["lag"], &[]).await?;
    send(&installation, 0).await?;
    let lag = until_complete(&installation).await?;
    assert_eq!(events(&lag), (0, 0, vec!["fine"; 2]), "{lag}");
    let ends = lag["partitions"].as_array().context("partitions")?.iter().filter_map(|lag| lag["log_end"].as_u64());
    assert!(ends.sum::<u64>() >= 40, "{lag}");

    installation.pause_children("up")?;
    let output = installation.trackway(&["ask", "--server", "QUERY", "lag"], ASK_MAX).await?;
    installation.resume_children("up")?;
    let log = installation.logs();
    let said = log.lines().find(|line| line.starts_with("error: ")).context("an error")?;
    assert!(!output.status.success() && said.contains("ClickHouse did not say within 5 s"), "{said}");
    until_complete(&installation).await.map(drop)
}
