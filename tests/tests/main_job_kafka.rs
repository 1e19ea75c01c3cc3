//! The main job over a real Kafka, each role a process: crashes of everything there is, and the same answers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use trackway_eventlog::kafka::{self, Compression, KafkaLog};
use trackway_eventlog::{EventLog as _, TopicPartition};
use trackway_tests::kafka::KafkaBroker;
use trackway_tests::roles::{Installation, about};
use trackway_tests::sample;

const REPLAY_MAX: Duration = Duration::from_secs(180);

/// A member that was killed is missed after its session of 10 s.
const TAKEOVER_MAX: Duration = Duration::from_secs(60);

const PROJECT: &str = "kafka";
const WORKERS: [&str; 2] = ["worker-1", "worker-2"];
const GATEWAYS: [&str; 2] = ["gateway-1", "gateway-2"];

/// Events that gateways have accepted in all.
async fn accepted(installation: &Installation) -> Result<u64> {
    let mut accepted = 0;
    for gateway in GATEWAYS {
        accepted += installation.metrics(gateway).await?.gateway_events(PROJECT, "accepted");
    }
    Ok(accepted)
}

async fn until_accepted(installation: &Installation, events: u64) -> Result<()> {
    installation
        .eventually("more events to be accepted", REPLAY_MAX, async || {
            let accepted = accepted(installation).await?;
            ensure!(accepted >= events, "{accepted} of {events} were accepted");
            Ok(())
        })
        .await
}

/// Sends an event of another person each time, until each of these workers has counted some.
async fn until_all_work(installation: &Installation, workers: &[&str], what: &str) -> Result<()> {
    let mut n = 0;
    installation
        .eventually(what, TAKEOVER_MAX, async || {
            n += 1;
            let visit = json!({"type": "track", "anonymousId": format!("{what}-{n}"), "event": "visit"});
            installation.track("probe", &[visit]).await?;
            for worker in workers {
                let metrics = installation.metrics(worker).await?;
                let done = metrics.worker_events("probe", "counted") + metrics.worker_events("probe", "late");
                ensure!(done > 0, "{worker} has counted nothing");
            }
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_crashes_of_worker_broker_and_clickhouse_change_no_answer() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = KafkaBroker::start(folder.path())?;
    // Without a spool senders are told to send again; `outage_kafka.rs` has the outages with one.
    let settings = [("WORKER__SNAPSHOT_SECONDS", "2"), ("LOG__SPOOL_MIB", "0")];
    let installation = Installation::over_kafka(&broker, &[PROJECT, "probe", "fates"], &settings).await?;
    until_all_work(&installation, &WORKERS, "both workers to own partitions").await?;
    sample::create_audience(&installation, PROJECT).await?;

    // In order of time: over two gateways and four connections that is disorder enough.
    let replay = installation.replay(PROJECT, &["--order", "time", "--rate", "3000"])?;
    until_accepted(&installation, 4_000).await?;
    for worker in WORKERS {
        let metrics = installation.metrics(worker).await?;
        let done = metrics.worker_events(PROJECT, "counted") + metrics.worker_events(PROJECT, "late");
        assert!(done > 0, "{worker} did nothing before the crash\n{}", installation.logs());
    }
    installation.kill9("worker-1")?;
    installation.start("worker-1")?;
    until_accepted(&installation, 10_000).await?;
    broker.kill9()?;
    fates_while_the_broker_is_down(&installation).await?;
    broker.restart()?;
    until_accepted(&installation, 20_000).await?;
    // Not its parent, which starts it again.
    installation.kill9_children("clickhouse")?;

    let summary = replay.finish(REPLAY_MAX).await?;
    assert_eq!((summary.answered, summary.rejected), (sample::ROWS, 0));
    assert!(summary.resent > 0, "the broker's crash was noticed");
    let answers = sample::answers(&installation, PROJECT).await?;
    sample::assert_same("after crashes over Kafka", &answers, &sample::expected()?);
    sample::assert_tables(&installation, PROJECT).await?;
    retried_events_count_once(&installation).await?;

    until_all_work(&installation, &WORKERS, "both workers to work after all crashes").await?;
    rejected_events_are_kept(&installation, &broker).await?;
    // One is gone for good: the other takes its partitions over, in order...
    let (status, took) = installation.stop("worker-2", Duration::from_secs(12)).await?;
    assert!(status.success() && took <= Duration::from_secs(10), "{status} after {took:?}\n{}", installation.logs());
    until_complete_with_more(&installation, "after one worker has left").await?;
    // ... and without any.
    installation.start("worker-2")?;
    until_all_work(&installation, &["worker-2"], "the worker that came back to own partitions").await?;
    installation.kill9("worker-1")?;
    until_complete_with_more(&installation, "after one worker was killed").await?;
    let again = sample::answers(&installation, PROJECT).await?;
    sample::assert_same("after all hand-overs", &again, &answers);
    sample::assert_tables(&installation, PROJECT).await
}

/// Sends for many visitors, so that every partition has something, and waits until all of it is in.
async fn until_complete_with_more(installation: &Installation, when: &str) -> Result<()> {
    let events: Vec<_> =
        (0..40).map(|n| json!({"type": "track", "anonymousId": format!("{when}-{n}"), "event": when})).collect();
    installation.track("probe", &events).await?;
    let ask = trackway_query::pb::TrendRequest { events: vec![when.to_owned()], ..about::trend("probe") };
    let trend = installation.complete(async |client| client.trend(ask.clone()).await).await.context(when.to_owned())?;
    assert_eq!(trend.buckets.first().map(|all| all.events), Some(40), "{when}");
    Ok(())
}

fn visits() -> String {
    let visit = |n: u64| json!({"type": "track", "anonymousId": format!("d{n}"), "event": "visit", "messageId": format!("m{n}")});
    json!({"batch": (0..30).map(visit).collect::<Vec<_>>()}).to_string()
}

/// Whoever sends now is told to send again, and every event is accounted for.
async fn fates_while_the_broker_is_down(installation: &Installation) -> Result<()> {
    let reply = installation.send("fates", "/v1/batch", visits()).await?;
    assert_eq!(reply.status, 503, "{reply:?}");
    let metrics = installation.metrics("gateway-1").await?;
    let fates = ["accepted", "rejected", "retry", "nothing"].map(|fate| metrics.gateway_events("fates", fate));
    assert_eq!(fates, [0, 0, 30, 0]);
    Ok(())
}

async fn retried_events_count_once(installation: &Installation) -> Result<()> {
    for gateway in 0..GATEWAYS.len() {
        let reply = installation.send_to(gateway, "fates", "/v1/batch", visits()).await?;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let trend = installation.complete(async |client| client.trend(about::trend("fates")).await).await?;
    assert_eq!(trend.buckets.first().map(|all| (all.events, all.persons)), Some((30, 30)));
    Ok(())
}

/// With their reason and their bytes, for whoever wants to know.
async fn rejected_events_are_kept(installation: &Installation, broker: &KafkaBroker) -> Result<()> {
    let bad = json!({"type": "track", "anonymousId": "d", "properties": {"what": "no name"}});
    let body = json!({"batch": [bad]}).to_string();
    let reply = installation.send("fates", "/v1/batch", body.clone()).await?;
    assert_eq!(reply.status, 400, "{reply:?}");
    let log = KafkaLog::connect(kafka::Config {
        brokers: broker.brokers(),
        compression: Compression::Lz4,
        linger: Duration::from_millis(2),
        delivery_timeout: Duration::from_secs(30),
        queue_bytes_max: 1 << 20,
        session_timeout: Duration::from_secs(10),
        readers_max: 1,
        properties: BTreeMap::new(),
    });
    let at = TopicPartition { topic: "rejected".into(), partition: 0 };
    let records = log.await?.read(&at, 0, 10, Duration::from_secs(10)).await?;
    let record = records.first().context("nothing in `rejected`")?;
    let record: trackway_wire::log::pb::RejectedRecord = trackway_wire::log::decode(record.value.clone())?;
    assert_eq!((record.project.as_str(), record.protocol.as_str()), ("fates", "segment"));
    assert!(record.message.contains("`event`") && record.body.as_ref() == body.as_bytes(), "{record:?}");
    assert_eq!(record.items.iter().map(|item| item.index).collect::<Vec<_>>(), [0]);
    Ok(())
}
