//! Both event logs with the settings that are `trackway`'s defaults, and a real Kafka broker where its jars are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use trackway_eventlog::embedded::{self, EmbeddedLog, Fsync};
use trackway_eventlog::kafka::{self, Compression, KafkaLog};
use trackway_eventlog::{EventLog, TopicSpec};
use trackway_tests::kafka::KafkaBroker;

/// Partitions of a topic, as `log.events_partitions`.
pub const PARTITIONS: u32 = 2;

/// The embedded log in a folder, fsync before every acknowledgement.
///
/// # Errors
/// What the log says.
pub fn embedded(folder: &Path) -> Result<Arc<dyn EventLog>> {
    Ok(Arc::new(EmbeddedLog::open(embedded::Config {
        folder: folder.to_owned(),
        fsync: Fsync::EveryGroup,
        group_delay: Duration::ZERO,
        group_bytes_max: 16 << 20,
        batch_bytes_max: 1 << 20,
        queue_bytes_max: 64 << 20,
        cache_bytes: 32 << 20,
        memtable_bytes: 32 << 20,
        journal_bytes_max: 256 << 20,
        compress: true,
        retention_every: Duration::from_secs(60),
        clock: embedded::system_clock,
    })?))
}

/// The log in a Kafka.
///
/// # Errors
/// What the log says.
pub async fn kafka(brokers: &str) -> Result<Arc<dyn EventLog>> {
    let config = kafka::Config {
        brokers: brokers.to_owned(),
        compression: Compression::Lz4,
        linger: Duration::from_millis(5),
        delivery_timeout: Duration::from_secs(6),
        queue_bytes_max: 128 << 20,
        session_timeout: Duration::from_secs(10),
        readers_max: 8,
        properties: BTreeMap::new(),
    };
    Ok(Arc::new(KafkaLog::connect(config).await?))
}

/// A topic that exists from now on.
///
/// # Errors
/// What the log says.
pub async fn create_topic(log: &dyn EventLog, name: &str) -> Result<()> {
    let spec = TopicSpec { name: name.to_owned(), partitions: PARTITIONS, retention: None, replicas: 1 };
    Ok(log.create_topics(&[spec]).await?)
}

/// A broker of its own for a bench, with its data, on this machine. It ends when this is dropped.
pub struct Broker {
    /// The broker.
    pub kafka: KafkaBroker,
    _folder: TempDir,
}

impl Broker {
    /// Starts it; `None`, said aloud, where it cannot be: mostly for want of its jars.
    #[must_use]
    pub fn start() -> Option<Self> {
        let start = || -> Result<Self> {
            let folder = tempfile::tempdir()?;
            Ok(Self { kafka: KafkaBroker::start(folder.path())?, _folder: folder })
        };
        start().inspect_err(|error| println!("without Kafka: {error:#}")).ok()
    }
}
