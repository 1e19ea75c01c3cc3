//! Question: what does a record cost in the log, durably, and how many a second does it take?
//!
//! Baseline: a plain file, one write and one fsync for each batch. Beside it the embedded log and, if `cargo xtask setup`
//! has fetched its jars, a real Kafka on the same machine with acks=all (whose broker leaves the fsync to the system, as
//! Kafka does: other machines are its durability, and here there are none). Each takes batches of 1, 50 and 1000 records of
//! 349 bytes, one batch at a time and 64 at a time; then all that was appended is read again through a consumer group.
//! The broker's CPU time is counted, and shown. Data lies in the system's temporary folder: what it costs is that disk's.
//!
//! Command: `cargo xtask bench eventlog`; by hand `target/release/eventlog [SECONDS [RECORDS]]`: SECONDS of each append line,
//! default 1; RECORDS to read again, default 300,000.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trackway_benches::logs::{self, Broker, PARTITIONS};
use trackway_benches::{Line, argument, measure, measure_counted, realistic, report, user_agent};
use trackway_eventlog::{ConsumerEvent, ConsumerOptions, EventLog, NewRecord};

/// As in the measurements of other clients.
const RECORD_BYTES: usize = 349;

/// Different records, used in turn.
const VALUES: usize = 10_000;

const BATCHES: [usize; 3] = [1, 50, 1000];

/// Batches at one time, like requests in a busy gateway.
const AT_ONCE: usize = 64;

const TOPIC: &str = "bench";

/// A log to measure.
struct Candidate {
    name: &'static str,
    log: Arc<dyn EventLog>,
    /// Its other processes.
    others: Vec<u32>,
}

fn main() -> Result<()> {
    let time = Duration::from_secs_f64(argument(1, 1.0));
    let to_read: u64 = argument(2, 300_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let values: Arc<[Bytes]> = (0..VALUES as u64).map(value).collect();
    let folder = tempfile::tempdir()?;
    let broker = Broker::start();
    let embedded = logs::embedded(&folder.path().join("log"))?;
    let mut candidates = vec![Candidate { name: "embedded", log: embedded, others: Vec::new() }];
    if let Some(broker) = &broker {
        let log = runtime.block_on(logs::kafka(&broker.kafka.brokers()))?;
        candidates.push(Candidate { name: "Kafka", log, others: broker.kafka.pid().into_iter().collect() });
    }
    for candidate in &candidates {
        runtime.block_on(logs::create_topic(&*candidate.log, TOPIC))?;
    }

    for batch in BATCHES {
        let path = folder.path().join("plain");
        let mut result = Ok(0);
        let mut lines = vec![measure_counted("baseline: a plain file, write + fsync, one at a time", &[], || {
            result = append_plain(File::create(&path), &values, batch, time);
            *result.as_ref().unwrap_or(&0)
        })];
        result?;
        for Candidate { name, log, others } in &candidates {
            for at_once in [1, AT_ONCE] {
                let mut result = Ok(0);
                lines.push(measure_counted(&format!("{name}, {at_once} at a time"), others, || {
                    result = runtime.block_on(append(log, &values, batch, at_once, time));
                    *result.as_ref().unwrap_or(&0)
                }));
                result?;
            }
        }
        report(&format!("What does a record cost to append in batches of {batch}, durably?"), &lines);
    }

    let mut lines = vec![read_plain(&folder.path().join("plain"), &values, to_read)?];
    for candidate in &candidates {
        lines.push(read_again(&runtime, candidate, &values, to_read)?);
    }
    report("What does a record cost to read again?", &lines);
    for candidate in candidates {
        runtime.block_on(candidate.log.close());
    }
    Ok(())
}

/// A record as long as wanted, which compresses as events do.
fn value(i: u64) -> Bytes {
    let event = realistic(i, VALUES as u64).received;
    let (id, context) = (event.id.unwrap_or_default(), event.context);
    let mut text = [id, event.properties, context.url, context.referrer, context.title, user_agent(i)].concat();
    assert!(text.is_ascii() && text.len() >= RECORD_BYTES, "{} bytes are too short", text.len());
    text.truncate(RECORD_BYTES);
    text.into()
}

fn append_plain(file: std::io::Result<File>, values: &[Bytes], batch: usize, time: Duration) -> Result<u64> {
    let (mut file, until) = (file?, Instant::now() + time);
    let (mut records, mut next, mut buffer) = (0, values.iter().cycle(), Vec::new());
    while Instant::now() < until {
        buffer.clear();
        next.by_ref().take(batch).for_each(|value| buffer.extend_from_slice(value));
        file.write_all(&buffer)?;
        file.sync_data()?;
        records += batch as u64;
    }
    Ok(records)
}

async fn append(
    log: &Arc<dyn EventLog>,
    values: &Arc<[Bytes]>,
    batch: usize,
    at_once: usize,
    time: Duration,
) -> Result<u64> {
    let until = Instant::now() + time;
    let mut appenders = JoinSet::new();
    for appender in 0..at_once {
        let (log, values) = (log.clone(), values.clone());
        appenders.spawn(async move {
            let mut next = values.iter().cycle().skip(appender * VALUES / at_once);
            let (mut records, mut partition) = (0, appender as u32 % PARTITIONS);
            while Instant::now() < until {
                // A request's records go to one partition or another, as its visitor's key falls.
                partition = (partition + 1) % PARTITIONS;
                log.append(TOPIC, batch_of(&mut next, batch, partition)).await?;
                records += batch as u64;
            }
            anyhow::Ok(records)
        });
    }
    let mut records = 0;
    while let Some(appended) = appenders.join_next().await {
        records += appended??;
    }
    Ok(records)
}

fn batch_of<'a>(values: &mut impl Iterator<Item = &'a Bytes>, batch: usize, partition: u32) -> Vec<NewRecord> {
    let record = |value: &Bytes| NewRecord { partition, timestamp_ms: 1_700_000_000_000, value: value.clone() };
    values.take(batch).map(record).collect()
}

fn read_plain(path: &std::path::Path, values: &[Bytes], records: u64) -> Result<Line> {
    let mut file = File::create(path)?;
    for value in values.iter().cycle().take(records as usize) {
        file.write_all(value)?;
    }
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut result = Ok(());
    let line = measure("baseline: a plain file, read and cut into records", records, &[], || {
        result = (0..records).try_for_each(|_| {
            let mut record = vec![0; RECORD_BYTES];
            file.read_exact(&mut record)?;
            drop(black_box(Bytes::from(record)));
            std::io::Result::Ok(())
        });
    });
    result?;
    Ok(line)
}

fn read_again(runtime: &Runtime, candidate: &Candidate, values: &[Bytes], records: u64) -> Result<Line> {
    // A topic of its own, in batches of a good size, as busy gateways leave them.
    const TOPIC: &str = "bench-read";
    let Candidate { name, log, others } = candidate;
    let (consumer, owned) = runtime.block_on(async {
        logs::create_topic(&**log, TOPIC).await?;
        let mut next = values.iter().cycle();
        for n in 0..records.div_ceil(1000) {
            log.append(TOPIC, batch_of(&mut next, 1000, n as u32 % PARTITIONS)).await?;
        }
        let options = ConsumerOptions {
            group: "bench".to_owned(),
            topics: vec![TOPIC.to_owned()],
            batch_records_max: 1000,
            batch_bytes_max: 1 << 20,
            buffer_bytes_max: 32 << 20,
            handover_timeout: Duration::from_secs(10),
        };
        let consumer = log.consume(options).await?;
        let mut owned = Vec::new();
        while owned.len() < PARTITIONS as usize {
            match consumer.next().await? {
                ConsumerEvent::Assigned { partitions } => owned.extend(partitions.into_iter().map(|(at, _)| at)),
                other => bail!("expected to be told what is ours, was told {other:?}"),
            }
        }
        anyhow::Ok((consumer, owned))
    })?;
    let mut result = Ok(());
    let line = measure(&format!("{name}, one consumer"), records, others, || {
        result = runtime.block_on(async {
            owned.iter().try_for_each(|at| consumer.start(at, 0))?;
            let mut read = 0;
            while read < records {
                let event = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await;
                match event.context("no record came for 30 s")?? {
                    ConsumerEvent::Batch { records, .. } => {
                        ensure!(
                            records.iter().all(|record| record.value.len() == RECORD_BYTES),
                            "a record is not as it was"
                        );
                        read += records.len() as u64;
                        drop(black_box(records));
                    }
                    other => bail!("expected records, was told {other:?}"),
                }
            }
            Ok(())
        });
    });
    result?;
    Ok(line)
}
