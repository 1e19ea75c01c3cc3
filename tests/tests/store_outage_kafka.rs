//! ClickHouse is away under load, for longer than anything buffers: progress stops, memory does not grow, nothing is lost, and
//! afterwards every event counts once. And one visitor with most of the traffic, whose partition lags, keeps nobody waiting.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_query::pb;
use trackway_tests::kafka::KafkaBroker;
use trackway_tests::roles::{Installation, about};

const PROJECT: &str = "load";
const WORKERS: [&str; 2] = ["worker-1", "worker-2"];
const STEP_MAX: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// Sends batches of visits, each event with so many bytes of properties.
///
/// - `visitor`: of an event by its number.
async fn send(
    installation: &Installation,
    numbers: std::ops::Range<usize>,
    bytes: usize,
    visitor: impl Fn(usize) -> String,
) -> Result<()> {
    const BATCH: usize = 500;
    let filling = "x".repeat(bytes);
    let numbers: Vec<usize> = numbers.collect();
    for (n, numbers) in numbers.chunks(BATCH).enumerate() {
        let event = |&n: &usize| {
            json!({"type": "track", "anonymousId": visitor(n), "event": "visit", "messageId": n.to_string(),
                "properties": {"filling": filling}})
        };
        let batch = json!({"batch": numbers.iter().map(event).collect::<Vec<Value>>()}).to_string();
        let reply = installation.send_to(n % 2, PROJECT, "/v1/batch", batch).await?;
        ensure!(reply.status == 200, "{reply:?}");
    }
    Ok(())
}

/// Records of `events` that workers have applied, in the tables or not.
async fn applied(installation: &Installation, workers: &[&str]) -> Result<u64> {
    let mut applied = 0;
    for worker in workers {
        applied += installation.metrics(worker).await?.sum("worker_records_total", &[("topic", "events")]);
    }
    Ok(applied)
}

/// Waits until workers take no more records.
async fn until_standing(installation: &Installation, workers: &[&str]) -> Result<u64> {
    let (mut last, mut looks) = (u64::MAX, 0);
    installation
        .eventually("workers to stand still", STEP_MAX, async || {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = applied(installation, workers).await?;
            looks = if now == last { looks + 1 } else { 0 };
            last = now;
            ensure!(looks >= 8, "{now} records are taken");
            Ok(now)
        })
        .await
}

async fn assert_counted(installation: &Installation, events: usize) -> Result<()> {
    installation.complete(async |client| client.trend(about::trend(PROJECT)).await).await?;
    let rows = installation.sql("SELECT count(), uniqExact(event_key) FROM events").await?;
    assert_eq!(rows, [[events.to_string(), events.to_string()]]);
    let rows = installation.sql("SELECT sum(sign * events) FROM sessions").await?;
    assert_eq!(rows, [[events.to_string()]]);
    let rows = installation.sql("SELECT sum(events) FROM event_counts_daily").await?;
    assert_eq!(rows, [[events.to_string()]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_clickhouse_is_away_progress_stops_and_memory_does_not_grow() -> Result<()> {
    /// In all, several times what the workers may hold: 150 MB of properties.
    const EVENTS: usize = 50_000;
    const BYTES: usize = 3_000;
    let folder = tempfile::tempdir()?;
    let broker = KafkaBroker::start(folder.path())?;
    let settings = [
        ("WORKER__BUFFER_BYTES_MAX", "4194304"),
        ("WORKER__BLOCK_ROWS_MAX", "500"),
        ("WORKER__SNAPSHOT_SECONDS", "2"),
        ("LOG__EVENTS_PARTITIONS", "4"),
    ];
    let installation = Installation::over_kafka(&broker, &[PROJECT], &settings).await?;
    let visitor = |n: usize| format!("visitor-{}", n % 400);
    send(&installation, 0..2_000, BYTES, visitor).await?;
    assert_counted(&installation, 2_000).await?;
    let before: u64 = WORKERS.iter().map(|worker| installation.memory(worker).unwrap_or_default()).sum();

    installation.stop("clickhouse", Duration::from_secs(15)).await?;
    send(&installation, 2_000..EVENTS, BYTES, visitor).await?;
    let taken = until_standing(&installation, &WORKERS).await?;
    let log = broker.log().await?;
    let bounds = trackway_eventlog::EventLog::bounds(&log, "events").await?;
    let records: u64 = bounds.values().map(|bounds| bounds.end).sum();
    assert!(taken < records / 2, "{taken} of {records} records are taken while nothing can be stored");
    let after: u64 = WORKERS.iter().map(|worker| installation.memory(worker).unwrap_or_default()).sum();
    println!(
        "two workers: {} MiB before, {} MiB in the outage; {taken} of {records} records taken",
        before / MIB,
        after / MIB
    );
    assert!(after < before + 100 * MIB, "{} MiB became {} MiB", before / MIB, after / MIB);
    // Retries are told, and one that is killed meanwhile begins where the tables are.
    let mut retries = 0;
    for worker in WORKERS {
        retries += installation.metrics(worker).await?.sum("worker_retries_total", &[]);
    }
    assert!(retries > 0);
    installation.kill9("worker-1")?;
    installation.start("worker-1")?;

    installation.start("clickhouse")?;
    assert_counted(&installation, EVENTS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_with_most_of_the_traffic_keeps_nobody_waiting() -> Result<()> {
    /// More than the sessions of one visitor may hold.
    const HOT: usize = 60_000;
    const CALM: usize = 400;
    let folder = tempfile::tempdir()?;
    let broker = KafkaBroker::start(folder.path())?;
    let settings = [("WORKER__SNAPSHOT_SECONDS", "1"), ("WORKER__BLOCK_ROWS_MAX", "2000")];
    let installation = Installation::over_kafka(&broker, &[PROJECT], &settings).await?;
    let hot = PersonKey::of_device(&ProjectId::parse(PROJECT).context("a project")?, "hot").partition(4);
    for worker in WORKERS {
        installation.stop(worker, Duration::from_secs(15)).await?;
    }
    // All of it waits, the hot visitor's first. Then one worker, which has all partitions.
    send(&installation, 0..HOT, 0, |_| "hot".to_owned()).await?;
    send(&installation, HOT..HOT + CALM, 0, |n| format!("calm-{n}")).await?;
    installation.start("worker-1")?;
    let behind = installation
        .eventually("all other partitions to be in step", STEP_MAX, async || {
            let lag = installation.client().lag().await?;
            let events = lag.partitions.iter().filter(|lag| lag.topic == "events");
            let (hot, others): (Vec<_>, Vec<&pb::PartitionLag>) = events.partition(|lag| lag.partition == hot);
            ensure!(others.iter().all(|lag| lag.behind == 0 && lag.done > 0), "{others:?}");
            Ok(hot.first().context("the hot partition")?.behind)
        })
        .await?;
    println!("{behind} records of the hot partition were behind when the others were in step");
    assert!(behind > 0, "the hot partition was done before the others, whose few records came after");
    assert_counted(&installation, HOT + CALM).await
}
