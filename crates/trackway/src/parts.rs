//! The crates' own `Config` structs, filled from the settings. What stands here as a constant is nobody's to change.

mod channels;
mod gateway;
pub(crate) mod rules;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tracing::info;
use trackway_domain::id::ProjectId;
use trackway_domain::rules::PartitionRules;
use trackway_domain::time::ReceivedAt;
use trackway_enrich::geo::Places;
use trackway_eventlog::embedded::{EmbeddedLog, Fsync, system_clock};
use trackway_eventlog::kafka::{Compression, KafkaLog};
use trackway_eventlog::spool::{self, Spool};
use trackway_eventlog::{EventLog, TopicSpec, embedded, kafka};
use trackway_store::engine::{Engine, EngineConfig};
use trackway_store::queries::QueryLimits;
use trackway_store::{Store, StoreConfig};

use crate::config::settings::{LogKind, Project, Settings};
pub use gateway::{gateway, gateway_projects};

/// Leads a child process of ours to become ClickHouse.
pub const ENGINE_COMMAND: &str = "__clickhouse";

/// Where `cargo xtask setup` puts ClickHouse's library, in the project's folder.
const LIBRARY_IN_PROJECT: &str = ".trackway/lib/libchdb.so";

/// What one look-up of ours (audiences, identities, progress) may cost: they read small tables, so one that reaches this
/// has gone wrong.
const LOOKUP_LIMITS: QueryLimits =
    QueryLimits { rows_read_max: 500_000_000, bytes_read_max: 100_000_000_000, time_max: Duration::from_secs(60) };

/// How long a gateway that could start without Kafka waits for it: senders wait meanwhile.
const REACH_TIME_MAX: Duration = Duration::from_secs(3);

/// Our clock: the one place of this process where time comes in for gateway, worker and query.
pub fn clock() -> ReceivedAt {
    ReceivedAt(system_clock())
}

/// Names of our topics, with the prefix.
#[derive(Debug, Clone)]
pub struct TopicNames {
    /// What visitors did.
    pub events: String,
    /// By person.
    pub journeys: String,
    /// Who enters and leaves.
    pub audience_changes: String,
    /// What never became an event.
    pub rejected: String,
}

impl TopicNames {
    /// As configured.
    pub fn new(settings: &Settings) -> Self {
        let name = |name: &str| format!("{}{name}", settings.log.topic_prefix);
        Self {
            events: name("events"),
            journeys: name("journeys"),
            audience_changes: name("audience-changes"),
            rejected: name("rejected"),
        }
    }

    /// What they must look like.
    pub fn specs(&self, settings: &Settings) -> [TopicSpec; 4] {
        let log = &settings.log;
        [
            (&self.events, log.events_partitions),
            (&self.journeys, log.journeys_partitions),
            (&self.audience_changes, log.audience_changes_partitions),
            // Rare, and read by people: one is enough.
            (&self.rejected, 1),
        ]
        .map(|(name, partitions)| TopicSpec {
            name: name.clone(),
            partitions,
            retention: Some(Duration::from_secs(u64::from(log.retention_hours) * 3600)),
            replicas: log.replicas,
        })
    }
}

/// Opens the event log.
pub async fn log(settings: &Settings) -> anyhow::Result<Arc<dyn EventLog>> {
    Ok(match settings.log.kind {
        LogKind::Embedded => {
            let config = embedded::Config {
                folder: settings.storage.folder.join("log"),
                fsync: if settings.log.fsync { Fsync::EveryGroup } else { Fsync::Never },
                group_delay: Duration::ZERO,
                group_bytes_max: 16 << 20,
                batch_bytes_max: 1 << 20,
                queue_bytes_max: 64 << 20,
                cache_bytes: 32 << 20,
                memtable_bytes: 32 << 20,
                journal_bytes_max: 256 << 20,
                compress: true,
                retention_every: Duration::from_secs(60),
                clock: system_clock,
            };
            // Opening reads what was written last, which blocks.
            Arc::new(
                tokio::task::spawn_blocking(|| EmbeddedLog::open(config))
                    .await
                    .context("opening the log crashed")??,
            )
        }
        LogKind::Kafka => Arc::new(KafkaLog::connect(kafka_config(settings)).await?),
    })
}

fn kafka_config(settings: &Settings) -> kafka::Config {
    kafka::Config {
        brokers: settings.log.brokers.clone(),
        compression: Compression::Lz4,
        // Half of what batches gain at 20 ms, for a quarter of the delay of each answer.
        linger: Duration::from_millis(5),
        delivery_timeout: Duration::from_secs(u64::from(settings.log.append_seconds_max)),
        queue_bytes_max: 128 << 20,
        session_timeout: Duration::from_secs(10),
        readers_max: 8,
        properties: settings.log.kafka_settings.clone(),
    }
}

/// Opens the event log for a gateway in a process of its own: with a spool for the time when Kafka is away.
pub async fn gateway_log(settings: &Settings) -> anyhow::Result<Arc<dyn EventLog>> {
    if settings.log.kind != LogKind::Kafka || settings.log.spool_mib == 0 {
        return log(settings).await;
    }
    let config = spool::Config {
        folder: settings.spool_folder(),
        bytes_max: u64::from(settings.log.spool_mib) << 20,
        patience: Duration::from_secs(u64::from(settings.log.append_seconds_max)),
        clock: system_clock,
    };
    let spool = tokio::task::spawn_blocking(|| Spool::open(config)).await.context("opening the spool crashed")??;
    let kafka = KafkaLog::open(kafka_config(settings)).await?;
    let reached = if spool.knows_topics() {
        // If it is there all the same, the spool notices and is through in a moment.
        matches!(tokio::time::timeout(REACH_TIME_MAX, kafka.reach()).await, Ok(Ok(())))
    } else {
        kafka.reach().await?;
        true
    };
    let patient = Arc::new(kafka.patient()?);
    Ok(Arc::new(spool.serve(Arc::new(kafka), patient, reached)?))
}

/// Starts the embedded ClickHouse.
pub async fn engine(settings: &Settings) -> anyhow::Result<Engine> {
    let clickhouse = &settings.clickhouse;
    let exe = std::env::current_exe().context("cannot find this program's own file")?;
    let library = library(settings, &exe);
    let config = EngineConfig {
        exe,
        exe_args: vec![ENGINE_COMMAND.into()],
        library,
        data_folder: absolute(&settings.storage.folder)?.join("clickhouse"),
        http_port: (clickhouse.port > 0).then_some(clickhouse.port),
        memory_bytes_max: u64::from(clickhouse.memory_mib) << 20,
        threads_max: clickhouse.threads,
        password: (!clickhouse.password.is_empty()).then(|| clickhouse.password.clone()),
    };
    Ok(Engine::start(config).await?)
}

/// The first place that has the library; if none has, the one where it should be, for the message.
fn library(settings: &Settings, exe: &Path) -> PathBuf {
    let configured = &settings.clickhouse.library;
    if !configured.as_os_str().is_empty() {
        return configured.clone();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let beside = exe.parent().map(|folder| folder.join("libchdb.so"));
    let above = here.ancestors().map(|folder| folder.join(LIBRARY_IN_PROJECT));
    beside.into_iter().chain(above).find(|path| path.is_file()).unwrap_or_else(|| here.join(LIBRARY_IN_PROJECT))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot resolve `{}`", path.display()))
}

/// Our tables: in the embedded ClickHouse if there is one, else in the server of the settings.
pub fn store(settings: &Settings, engine: Option<&Engine>) -> anyhow::Result<Store> {
    let clickhouse = &settings.clickhouse;
    let (url, user, password) = match engine {
        Some(engine) => (engine.url(), engine.user(), engine.password()),
        None => (clickhouse.url.as_str(), clickhouse.user.as_str(), clickhouse.password.as_str()),
    };
    Ok(Store::connect(StoreConfig {
        url: url.to_owned(),
        user: user.to_owned(),
        password: password.to_owned(),
        database: clickhouse.database.clone(),
        insert_time_max: Duration::from_secs(u64::from(clickhouse.insert_seconds_max)),
        lookup_limits: LOOKUP_LIMITS,
    })?)
}

/// Where workers keep snapshots.
pub fn snapshots(settings: &Settings) -> anyhow::Result<Arc<dyn object_store::ObjectStore>> {
    let folder = settings.snapshots_folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make folder `{}`", folder.display()))?;
    // Snapshots are durable before an offset is committed, so each is synced to the disk.
    Ok(Arc::new(object_store::local::LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true)))
}

/// The worker's config, but for [`places`].
pub fn worker(settings: &Settings) -> trackway_worker::Config {
    let worker = &settings.worker;
    let projects = settings.projects_or_default();
    let TopicNames { events, journeys, audience_changes, rejected } = TopicNames::new(settings);
    trackway_worker::Config {
        group: format!("{}trackway", settings.log.topic_prefix),
        topics: trackway_worker::Topics { events, journeys, audience_changes, rejected },
        rules: PartitionRules {
            lateness: Duration::from_secs(u64::from(worker.lateness_seconds)),
            hold: Duration::from_secs(u64::from(worker.hold_hours) * 3600),
            block_rows_max: worker.block_rows_max,
            block_time: Duration::from_millis(u64::from(worker.block_ms)),
            flush_time: Duration::from_millis(u64::from(worker.flush_ms)),
            projects: projects.iter().map(|p| (project_id(p), rules::of_project(p, &projects))).collect(),
        },
        snapshot_every: Duration::from_secs(u64::from(worker.snapshot_seconds)),
        snapshot_records: worker.snapshot_records_max,
        buffer_bytes_max: worker.buffer_bytes_max as usize,
        places: None,
        ids_folder: Some(settings.ids_folder()),
        handover_timeout: Duration::from_secs(u64::from(worker.handover_seconds_max)),
    }
}

/// The database of places, if one is configured.
pub fn places(settings: &Settings) -> anyhow::Result<Option<Arc<Places>>> {
    let file = &settings.enrich.geo_database;
    if file.as_os_str().is_empty() {
        info!("places of events are unknown: no database is configured (`enrich.geo_database`)");
        return Ok(None);
    }
    let problem = || format!("cannot read `{}`, the setting `enrich.geo_database`", file.display());
    let places = Places::read(std::fs::read(file).with_context(problem)?).with_context(problem)?;
    let (kind, made) = (places.kind().to_owned(), places.made_seconds());
    info!(file = %file.display(), kind, made_seconds = made, "places of events come from a database");
    Ok(Some(Arc::new(places)))
}

/// The query server's config.
pub fn query(settings: &Settings) -> trackway_query::Config {
    let query = &settings.query;
    let TopicNames { events, journeys, audience_changes, rejected } = TopicNames::new(settings);
    trackway_query::Config {
        listen: query.listen,
        topics: trackway_query::Topics { events, journeys, audience_changes, rejected },
        limits: QueryLimits {
            rows_read_max: query.rows_read_max,
            bytes_read_max: query.bytes_read_max,
            time_max: Duration::from_secs(u64::from(query.seconds_max)),
        },
        queries_max: query.queries_max as usize,
        queue_time_max: Duration::from_secs(u64::from(query.queue_seconds_max)),
        identity_pairs_max: query.identity_pairs_max as usize,
        merged_events_max: query.merged_events_max as usize,
        names_max: query.names_max as usize,
        stages: settings
            .projects_or_default()
            .iter()
            .map(|project| (project_id(project), project.stages.clone()))
            .collect(),
        person_keys_max: query.person_keys_max as usize,
        // The largest request is a funnel of 32 steps with 20 names each.
        request_bytes_max: 1 << 20,
        // A trend of 20,000 names over a year of days.
        response_bytes_max: 64 << 20,
        subscribers_max: query.subscribers_max as usize,
        recent_changes_max: query.recent_changes_max as usize,
        cursor_period: Duration::from_secs(60),
        health_period: Duration::from_secs(5),
        drain_max: Duration::from_secs(u64::from(query.drain_seconds_max)),
    }
}

fn project_id(project: &Project) -> ProjectId {
    ProjectId::parse(&project.id).expect("the config was checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_carry_the_prefix_and_their_partitions() {
        let mut settings = Settings::default();
        settings.log.topic_prefix = "test.".into();
        settings.log.events_partitions = 7;
        let specs = TopicNames::new(&settings).specs(&settings);
        assert_eq!((specs[0].name.as_str(), specs[0].partitions), ("test.events", 7));
        assert!(specs.iter().all(|spec| spec.name.starts_with("test.") && spec.retention.is_some()));
        let gateway = gateway(&settings).expect("no file to read");
        assert_eq!(gateway.topics.events, worker(&settings).topics.events);
    }

    #[test]
    fn a_database_of_places_is_read_and_anything_else_is_named() {
        let mut settings = Settings::default();
        assert!(places(&settings).expect("none is configured").is_none());
        settings.enrich.geo_database = concat!(env!("CARGO_MANIFEST_DIR"), "/../enrich/tests/places.mmdb").into();
        let found = places(&settings).expect("a database").expect("it is configured");
        assert_eq!(found.find("192.0.2.0".parse().expect("an address")).country, "AT");
        for wrong in [concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "/nowhere/places.mmdb"] {
            settings.enrich.geo_database = wrong.into();
            let error = format!("{:#}", places(&settings).expect_err("no database"));
            assert!(error.contains(wrong) && error.contains("enrich.geo_database"), "{error}");
        }
    }

    #[test]
    fn a_library_that_is_configured_is_taken_without_a_search() {
        let mut settings = Settings::default();
        settings.clickhouse.library = "/nowhere/libchdb.so".into();
        assert_eq!(library(&settings, Path::new("/bin/x")), Path::new("/nowhere/libchdb.so"));
    }

    #[test]
    fn a_library_beside_the_program_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let beside = folder.path().join("libchdb.so");
        std::fs::write(&beside, "").expect("written");
        assert_eq!(library(&Settings::default(), &folder.path().join("trackway")), beside);
    }
}
