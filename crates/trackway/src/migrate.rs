//! `migrate`: creates and upgrades tables and topics, and writes the rules into new partitions.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::time::Instant;
use tracing::{info, warn};
use trackway_domain::rules::PartitionRules;
use trackway_eventlog::{EventLog, NewRecord};
use trackway_store::Store;
use trackway_wire::log::{encode, pb};
use trackway_wire::rules::rules_to_pb;

use crate::config::Settings;
use crate::parts::{self, TopicNames};

/// Time for ClickHouse to answer: in a cluster everything starts at one time.
const STORE_WAIT_MAX: Duration = Duration::from_secs(30);

/// The role `migrate`.
///
/// # Errors
/// If a server cannot be reached or refuses.
pub async fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let log = parts::log(settings).await?;
    let store = parts::store(settings, None)?;
    await_store(&store).await?;
    let migrated = tables_and_topics(settings, &*log, &store).await;
    log.close().await;
    migrated.map(|()| ExitCode::SUCCESS)
}

/// Brings tables and topics to what these settings want.
///
/// # Errors
/// If ClickHouse or the log refuses.
pub async fn tables_and_topics(settings: &Settings, log: &dyn EventLog, store: &Store) -> anyhow::Result<()> {
    let applied = store.migrate().await?;
    topics(settings, log).await?;
    info!(migrations = applied.len(), "tables and topics are up to date");
    Ok(())
}

/// Creates topics. Rules become the first record of each new partition: a worker would append them as well, but events
/// that came before it started would have been read without, and be no touchpoints for ever.
async fn topics(settings: &Settings, log: &dyn EventLog) -> anyhow::Result<()> {
    let names = TopicNames::new(settings);
    log.create_topics(&names.specs(settings)).await?;
    let rules = parts::worker(settings).rules;
    for (topic, record) in [(&names.events, events_record(&rules)), (&names.journeys, journeys_record(&rules))] {
        let empty = log.bounds(topic).await?.into_iter().filter(|(_, bounds)| bounds.end == 0);
        let records =
            empty.map(|(partition, _)| NewRecord { partition, timestamp_ms: parts::clock().0, value: record.clone() });
        let records: Vec<_> = records.collect();
        if !records.is_empty() {
            log.append(topic, records).await?;
        }
    }
    Ok(())
}

fn events_record(rules: &PartitionRules) -> Bytes {
    encode(&pb::EventsRecord { body: Some(pb::events_record::Body::Rules(rules_to_pb(rules))) })
}

fn journeys_record(rules: &PartitionRules) -> Bytes {
    encode(&pb::JourneysRecord { body: Some(pb::journeys_record::Body::Rules(rules_to_pb(rules))) })
}

/// Waits for ClickHouse.
///
/// # Errors
/// Its last words, if it does not answer for long.
pub async fn await_store(store: &Store) -> anyhow::Result<()> {
    let deadline = Instant::now() + STORE_WAIT_MAX;
    loop {
        match store.ping().await {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() >= deadline => {
                return Err(e).with_context(|| format!("waited for {} s", STORE_WAIT_MAX.as_secs()));
            }
            Err(e) => {
                warn!(error = format!("{:#}", anyhow::Error::from(e)), "waiting for clickhouse");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackway_eventlog::TopicPartition;

    #[tokio::test]
    async fn rules_are_the_first_record_of_each_partition_and_come_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::default();
        settings.storage.folder = folder.path().to_owned();
        settings.log.events_partitions = 3;
        let log = parts::log(&settings).await.expect("a log");
        for _ in 0..2 {
            topics(&settings, &*log).await.expect("topics");
        }
        let rules = parts::worker(&settings).rules;
        for (topic, partitions, record) in
            [("events", 3, events_record(&rules)), ("journeys", 2, journeys_record(&rules))]
        {
            for partition in 0..partitions {
                let at = TopicPartition { topic: topic.into(), partition };
                let records = log.read(&at, 0, 10, Duration::ZERO).await.expect("readable");
                let values: Vec<_> = records.into_iter().map(|record| record.value).collect();
                assert_eq!(values, std::slice::from_ref(&record), "{at}");
            }
        }
        log.close().await;
    }
}
