//! Question: what does the whole worker cost per event, from a real log into the tables?
//!
//! Both stages as `trackway worker` runs them, over the embedded log and over a real Kafka, with records of one event and of
//! ten; into a ClickHouse, and into a server that swallows every block (inserts off). The stream is the synthetic one with
//! realistic events; it is in the log before the worker starts. CPU is that of this process (it does nothing else
//! meanwhile), of ClickHouse and of the broker, until every event's block is acknowledged.
//!
//! Baseline: Kafka Streams counting the sessions of the same stream over the same broker, 300 bytes an event, 4 partitions,
//! 2 threads, RocksDB with its change log (`benches/peers/kafka-streams`). It neither drops duplicates nor decodes nor writes
//! rows. Without Java's compiler and Maven there is no such line, and the first line is the baseline.
//!
//! Command: `cargo xtask bench worker_log [-- EVENTS]`, default 500,000.

#![expect(clippy::disallowed_methods, reason = "a bench is small, and its tasks end with it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use trackway_benches::logs::{self, Broker};
use trackway_benches::server::{ClickHouse, LIMITS, become_clickhouse_if_asked};
use trackway_benches::{Line, argument, cpu_time, measure, now, realistic, report, shop, user_agent};
use trackway_domain::rules::PartitionRules;
use trackway_eventlog::{EventLog, NewRecord};
use trackway_store::{Store, StoreConfig};
use trackway_wire::log;
use trackway_worker::{Config, Topics};

/// Records in one append.
const APPEND: u64 = 5_000;

fn main() -> Result<()> {
    become_clickhouse_if_asked();
    let events: u64 = argument(1, 500_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(ClickHouse::start())?;
    let swallower = runtime.block_on(swallower())?;
    let broker = Broker::start();
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let mut lines = Vec::new();
    if let Some(broker) = &broker {
        let peer = kafka_streams(broker, events).inspect_err(|error| println!("without Kafka Streams: {error:#}"));
        lines.extend(peer.ok());
    }
    for per_record in [1, 10] {
        let folder = tempfile::tempdir()?;
        let embedded = logs::embedded(folder.path())?;
        for (what, store, others) in
            [("inserts off", &swallower, vec![]), ("into ClickHouse", &server.store, vec![server.pid()])]
        {
            let what = format!("embedded log, {per_record} a record, {what}");
            lines.push(run(&runtime, &what, &embedded, store, &others, (events, per_record), &metrics)?);
        }
        let Some(broker) = &broker else { continue };
        let kafka = runtime.block_on(logs::kafka(&broker.kafka.brokers()))?;
        let java = broker.kafka.pid().context("the broker is gone")?;
        for (what, store, others) in
            [("inserts off", &swallower, vec![java]), ("into ClickHouse", &server.store, vec![java, server.pid()])]
        {
            let what = format!("Kafka, {per_record} a record, {what}");
            lines.push(run(&runtime, &what, &kafka, store, &others, (events, per_record), &metrics)?);
        }
    }
    report("What does the whole worker cost per event?", &lines);
    println!("peak memory of this process: {} MiB", peak_memory_mib()?);
    runtime.block_on(server.engine.stop());
    Ok(())
}

/// Fills a log under names of its own, and lets the worker take it all.
fn run(
    runtime: &Runtime,
    what: &str,
    log: &Arc<dyn EventLog>,
    store: &Store,
    others: &[u32],
    (events, per_record): (u64, u64),
    metrics: &PrometheusHandle,
) -> Result<Line> {
    let name = what.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let topics = Topics {
        events: format!("{name}-events"),
        journeys: format!("{name}-journeys"),
        audience_changes: format!("{name}-audience-changes"),
        rejected: format!("{name}-rejected"),
    };
    let snapshots = tempfile::tempdir()?;
    let config = Config {
        group: name,
        topics: topics.clone(),
        rules: PartitionRules::USUAL,
        places: None,
        snapshot_every: Duration::from_secs(30),
        snapshot_records: 500_000,
        ids_folder: None,
        buffer_bytes_max: 64 << 20,
        handover_timeout: Duration::from_secs(20),
    };
    runtime.block_on(async {
        for topic in [&topics.events, &topics.journeys, &topics.audience_changes, &topics.rejected] {
            logs::create_topic(&**log, topic).await?;
        }
        fill(&**log, &topics.events, events, per_record).await
    })?;
    let mut result = Ok(());
    let line = measure(what, events, others, || {
        result = runtime.block_on(async {
            let stop = CancellationToken::new();
            let object_store = object_store::local::LocalFileSystem::new_with_prefix(snapshots.path())?;
            let worker =
                trackway_worker::run(config, log.clone(), store.clone(), Arc::new(object_store), now, stop.clone());
            let worker = tokio::spawn(worker);
            while applied(metrics, &topics.events) < events / per_record {
                ensure!(!worker.is_finished(), "the worker ended: {:?}", worker.await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // It ends when the blocks that are open are acknowledged and the snapshots written.
            stop.cancel();
            Ok(worker.await??)
        });
    });
    result?;
    Ok(line)
}

/// Records of a topic that the worker has been given so far.
fn applied(metrics: &PrometheusHandle, topic: &str) -> u64 {
    let line = format!("worker_records_total{{topic=\"{topic}\"}} ");
    let text = metrics.render();
    text.lines().find_map(|text| text.strip_prefix(&line)).map_or(0, |number| number.parse().unwrap_or(0))
}

async fn fill(log: &dyn EventLog, topic: &str, events: u64, per_record: u64) -> Result<()> {
    // As if 100,000 events a second had come until now.
    let begin = now().0 - (events / 100) as i64;
    let project = shop();
    let mut records = Vec::new();
    for i in (0..events).step_by(per_record as usize) {
        let one: Vec<_> = (i..(i + per_record).min(events)).map(|i| realistic(i, events)).collect();
        let visitor = one[0].visitor.clone();
        let user_agent = user_agent(i);
        let request = log::RequestContext {
            project: project.as_str(),
            user_agent: &user_agent,
            protocol: "segment",
            ..Default::default()
        };
        let value: Bytes = log::encode_events(&request, &visitor, &one);
        let partition = visitor.key(&project).partition(logs::PARTITIONS);
        records.push(NewRecord { partition, timestamp_ms: begin + (i / 100) as i64, value });
        if records.len() as u64 >= APPEND {
            log.append(topic, std::mem::take(&mut records)).await?;
        }
    }
    log.append(topic, records).await?;
    Ok(())
}

/// A server that takes any block and says that it is written.
async fn swallower() -> Result<Store> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let swallow = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    frame?;
                }
                Ok::<_, hyper::Error>(hyper::Response::new(Full::new(Bytes::new())))
            });
            let connection = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                // A connection that ends early is the worker's concern.
                connection.serve_connection(TokioIo::new(stream), swallow).await.ok();
            });
        }
    });
    Ok(Store::connect(StoreConfig {
        url,
        user: "default".to_owned(),
        password: String::new(),
        database: "trackway".to_owned(),
        insert_time_max: Duration::from_secs(60),
        lookup_limits: LIMITS,
    })?)
}

/// The peer, compiled and run by Java; its broker's CPU is in the line.
fn kafka_streams(broker: &Broker, events: u64) -> Result<Line> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/kafka-streams");
    let folder = tempfile::tempdir()?;
    for file in ["pom.xml", "Sessions.java"] {
        std::fs::copy(sources.join(file), folder.path().join(file))?;
    }
    println!("fetching and compiling Kafka Streams (once for each run, some seconds)");
    let fetch = ["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"];
    done(Command::new("mvn").args(fetch).current_dir(folder.path()))?;
    done(Command::new("javac").args(["-cp", "libs/*", "Sessions.java"]).current_dir(folder.path()))?;
    println!("running Kafka Streams over {events} events");
    let state = folder.path().join("state");
    let java = broker.kafka.pid().context("the broker is gone")?;
    let before = cpu_time(Some(java));
    let output = done(
        Command::new("java")
            .args(["-cp", "libs/*:.", "Sessions", &broker.kafka.brokers(), &events.to_string()])
            .arg(PathBuf::from(&state))
            .current_dir(folder.path()),
    )?;
    let numbers: Vec<f64> = output.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [_, cpu, wall, sessions] = numbers[..] else { anyhow::bail!("it printed `{output}`") };
    println!("Kafka Streams: {sessions} sessions");
    let broker = cpu_time(Some(java)) - before;
    println!("the broker used {:.2} s for it, filling included (not in the line)", broker.as_secs_f64());
    let cpu = Duration::from_secs_f64(cpu);
    let what = "baseline: Kafka Streams, sessions only".to_owned();
    Ok(Line { what, cpu, others: Duration::ZERO, wall: Duration::from_secs_f64(wall), events })
}

fn done(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn peak_memory_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().next().context("no number")?.parse::<u64>()? / 1024)
}
