//! The gateway under test: the real one, over the real embedded log, whose records are read back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trackway_domain::id::ProjectId;
use trackway_domain::time::ReceivedAt;
use trackway_eventlog::embedded::{self, EmbeddedLog, Fsync};
use trackway_eventlog::{EventLog, TopicPartition, TopicSpec};
use trackway_gateway::{
    AddressRanges, Bound, Config, Exclusions, Limits, Privacy, Project, Quota, Secret, Topics, UseFrom, WriteKey, bind,
};
use trackway_wire::log::{self, pb};

/// Bytes of a body as sent, and as decompressed. Small, so that a body of the limit takes no time.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
pub(crate) const DECODED_BYTES_MAX: usize = 1 << 20;
/// What one such body needs and hardly more, so that any of it that is not given back is missed; an eighth is for small ones.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = (BODY_BYTES_MAX + DECODED_BYTES_MAX + (64 << 10)) / 7 * 8;
/// As in production.
pub(crate) const BATCH_EVENTS_MAX: usize = 10_000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(2);

const EVENTS_PARTITIONS: u32 = 2;

/// A running gateway.
pub(crate) struct Gateway {
    pub address: SocketAddr,
    log: Arc<dyn EventLog>,
    shutdown: CancellationToken,
    serving: JoinSet<()>,
    read: Vec<(TopicPartition, u64)>,
    _folder: TempDir,
}

/// What came into the log.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub events: Vec<(pb::VisitorEvents, pb::Event)>,
    pub rejected: Vec<pb::RejectedRecord>,
}

fn project(id: &str, key: &str, use_from: UseFrom) -> Project {
    let key = WriteKey { key: key.to_owned(), use_from, quota: Quota::default() };
    let id = ProjectId::parse(id).expect("a project id");
    Project {
        id,
        write_keys: vec![key],
        quota: Quota::default(),
        privacy: Privacy::USUAL,
        exclusions: Exclusions::NONE,
    }
}

fn config(limits: Limits) -> Config {
    let origins = UseFrom::Origins(vec!["https://shop.example".into()]);
    let cookie = Project {
        privacy: Privacy { id_cookie: true, ..Privacy::USUAL },
        ..project("cookie", "wk-cookie", UseFrom::Anywhere)
    };
    Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        projects: vec![
            project("shop", "wk", UseFrom::Anywhere),
            project("blog", "wk-blog", UseFrom::Anywhere),
            project("backend", "wk-servers", UseFrom::Servers),
            project("pages", "wk-pages", origins),
            cookie,
        ],
        limits,
        topics: Topics { events: "events".into(), rejected: "rejected".into() },
        trusted_proxies: AddressRanges::new(vec!["127.0.0.0/8".parse().expect("a network")]),
        hosting: Arc::default(),
        secret: Secret::Shared("a secret of the tests".into()),
    }
}

/// The limits of most tests.
pub(crate) fn limits() -> Limits {
    Limits {
        body_bytes_max: BODY_BYTES_MAX,
        body_bytes_decoded_max: DECODED_BYTES_MAX,
        batch_events_max: BATCH_EVENTS_MAX,
        header_timeout: HEADER_TIMEOUT,
        body_timeout: BODY_TIMEOUT,
        append_timeout: Duration::from_secs(10),
        connections_max: 1000,
        in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
    }
}

fn now() -> ReceivedAt {
    ReceivedAt(embedded::system_clock())
}

impl Gateway {
    pub(crate) async fn start(limits: Limits) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = embedded::Config {
            folder: folder.path().join("log"),
            fsync: Fsync::Never,
            group_delay: Duration::ZERO,
            group_bytes_max: 16 << 20,
            batch_bytes_max: 1 << 20,
            queue_bytes_max: 64 << 20,
            cache_bytes: 8 << 20,
            memtable_bytes: 8 << 20,
            journal_bytes_max: 64 << 20,
            compress: true,
            retention_every: Duration::from_secs(60),
            clock: embedded::system_clock,
        };
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(log)?);
        let topic = |name: &str, partitions| TopicSpec { name: name.into(), partitions, retention: None, replicas: 1 };
        log.create_topics(&[topic("events", EVENTS_PARTITIONS), topic("rejected", 1)]).await?;
        let bound = bind(config(limits), log.clone(), now).await?;
        let (address, shutdown, mut serving) = (bound.address(), CancellationToken::new(), JoinSet::new());
        serving.spawn(Bound::serve(bound, shutdown.clone()));
        let of = |topic: &str, partition| (TopicPartition { topic: topic.into(), partition }, 0);
        let read = (0..EVENTS_PARTITIONS).map(|partition| of("events", partition)).chain([of("rejected", 0)]).collect();
        Ok(Self { address, log, shutdown, serving, read, _folder: folder })
    }

    /// What came into the log since the last call.
    pub(crate) async fn kept(&mut self) -> Result<Kept> {
        let mut kept = Kept::default();
        for (at, next) in &mut self.read {
            loop {
                let records = self.log.read(at, *next, 1000, Duration::ZERO).await?;
                let Some(last) = records.last() else { break };
                *next = last.offset + 1;
                for record in records {
                    if &*at.topic == "rejected" {
                        kept.rejected.push(log::decode(record.value)?);
                        continue;
                    }
                    let pb::EventsRecord { body } = log::decode(record.value)?;
                    let Some(pb::events_record::Body::Events(mut visitor)) = body else {
                        bail!("a record of no events")
                    };
                    let events = std::mem::take(&mut visitor.events);
                    kept.events.extend(events.into_iter().map(|event| (visitor.clone(), event)));
                }
            }
        }
        Ok(kept)
    }

    /// Reads the log from its begin again.
    pub(crate) fn rewind(&mut self) {
        self.read.iter_mut().for_each(|(_, next)| *next = 0);
    }

    /// Drains; everything must have ended by then, even for those who never end anything.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.serving.join_next()).await;
        ended.context("the gateway did not drain")?.context("it was served")??;
        self.log.close().await;
        Ok(())
    }
}
