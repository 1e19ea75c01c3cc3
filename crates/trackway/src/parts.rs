//! The crates' own `Config` structs, filled from the settings. What stands here as a constant is nobody's to change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use trackway_domain::feedback::{FeedbackKind, FeedbackRule};
use trackway_domain::id::ProjectId;
use trackway_domain::property::PropertyCondition;
use trackway_domain::rules::{PartitionRules, ProjectRules, SessionRules};
use trackway_domain::time::ReceivedAt;
use trackway_domain::touchpoint::TouchpointRule;
use trackway_enrich::exclusion::{AgentRules, Exclusions, Pages, Referrers};
use trackway_eventlog::embedded::{EmbeddedLog, Fsync, system_clock};
use trackway_eventlog::kafka::{Compression, KafkaLog};
use trackway_eventlog::spool::{self, Spool};
use trackway_eventlog::{EventLog, TopicSpec, embedded, kafka};
use trackway_gateway::{AddressRanges, Quota, UseFrom};
use trackway_store::engine::{Engine, EngineConfig};
use trackway_store::queries::QueryLimits;
use trackway_store::{Store, StoreConfig};
use trackway_wire::redact::PropertyLists;

use crate::config::settings::{IpPolicy, LogKind, Objection, Privacy, Project, Settings, WriteKey};

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

/// The gateway's config.
///
/// # Errors
/// If the file with networks of data centres cannot be read.
pub fn gateway(settings: &Settings) -> anyhow::Result<trackway_gateway::Config> {
    let gateway = &settings.gateway;
    let topics = TopicNames::new(settings);
    let proxies = gateway.trusted_proxies.iter().map(|range| range.parse().expect("the config was checked"));
    Ok(trackway_gateway::Config {
        listen: gateway.listen,
        projects: gateway_projects(settings),
        trusted_proxies: AddressRanges::new(proxies.collect()),
        hosting: Arc::new(hosting_ranges(&gateway.hosting_ranges_file)?),
        secret: match gateway.secret.is_empty() {
            true => trackway_gateway::Secret::File(settings.storage.folder.join("gateway-secret")),
            false => trackway_gateway::Secret::Shared(gateway.secret.clone()),
        },
        limits: trackway_gateway::Limits {
            body_bytes_max: gateway.body_bytes_max as usize,
            body_bytes_decoded_max: gateway.body_bytes_decoded_max as usize,
            batch_events_max: gateway.batch_events_max as usize,
            header_timeout: Duration::from_secs(u64::from(gateway.idle_seconds_max)),
            body_timeout: Duration::from_secs(u64::from(gateway.body_seconds_max)),
            // Longer than the log's own patience, so that its reason is heard first.
            append_timeout: Duration::from_secs(u64::from(settings.log.append_seconds_max) + 1),
            connections_max: gateway.connections_max as usize,
            in_flight_bytes_max: gateway.in_flight_bytes_max as usize,
        },
        topics: trackway_gateway::Topics { events: topics.events, rejected: topics.rejected },
    })
}

/// Who may write, how much, and what is kept: what a gateway takes over while it serves.
pub fn gateway_projects(settings: &Settings) -> Vec<trackway_gateway::Project> {
    let quota = |events_per_second: u32, events_per_day: u64| Quota {
        events_per_second: (events_per_second > 0).then_some(events_per_second),
        events_per_day: (events_per_day > 0).then_some(events_per_day),
    };
    let write_key = |key: &WriteKey| trackway_gateway::WriteKey {
        key: key.key.clone(),
        use_from: match (key.servers_only, key.origins.is_empty()) {
            (true, _) => UseFrom::Servers,
            (false, false) => UseFrom::Origins(key.origins.clone()),
            (false, true) => UseFrom::Anywhere,
        },
        quota: quota(key.events_per_second_max, key.events_per_day_max),
    };
    let project = |project: &Project| trackway_gateway::Project {
        id: project_id(project),
        write_keys: project.write_keys.iter().map(write_key).collect(),
        quota: quota(project.events_per_second_max, project.events_per_day_max),
        privacy: privacy(&project.privacy),
        exclusions: exclusions(project),
    };
    settings.projects_or_default().iter().map(project).collect()
}

fn privacy(privacy: &Privacy) -> trackway_gateway::Privacy {
    let objection = |objection| match objection {
        Objection::Ignore => trackway_gateway::Objection::Ignore,
        Objection::Anonymise => trackway_gateway::Objection::Anonymise,
        Objection::Refuse => trackway_gateway::Objection::Refuse,
    };
    trackway_gateway::Privacy {
        ip: match privacy.ip {
            IpPolicy::Keep => trackway_gateway::IpPolicy::Keep,
            IpPolicy::Truncate => trackway_gateway::IpPolicy::Truncate,
            IpPolicy::Drop => trackway_gateway::IpPolicy::Drop,
        },
        cookieless: privacy.cookieless,
        id_cookie: privacy.id_cookie,
        do_not_track: objection(privacy.do_not_track),
        consent_denied: objection(privacy.consent_denied),
        consent_required: privacy.consent_required,
        properties: PropertyLists {
            allow: privacy.properties_allow.clone(),
            deny: privacy.properties_deny.clone(),
            hash: privacy.properties_hash.clone(),
        },
    }
}

fn exclusions(project: &Project) -> Exclusions {
    fn texts(list: &[String]) -> impl Iterator<Item = &str> {
        list.iter().map(String::as_str)
    }
    let networks = project.exclude_addresses.iter().map(|range| range.parse().expect("the config was checked"));
    Exclusions {
        addresses: AddressRanges::new(networks.collect()),
        user_agents: AgentRules::new(texts(&project.exclude_user_agents)).expect("the config was checked"),
        referrers: Referrers::new(project.exclude_known_spam, texts(&project.exclude_referrers)),
        pages: Pages::of(texts(&project.only_pages_of)).expect("the config was checked"),
    }
}

/// One network a line; blank lines and what follows a `#` say nothing.
fn hosting_ranges(file: &Path) -> anyhow::Result<AddressRanges> {
    if file.as_os_str().is_empty() {
        return Ok(AddressRanges::default());
    }
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read `{name}`, the setting `gateway.hosting_ranges_file`"))?;
    let mut ranges = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let range = line.split('#').next().unwrap_or_default().trim();
        if !range.is_empty() {
            ranges.push(range.parse().with_context(|| format!("file `{name}`, line {}", n + 1))?);
        }
    }
    Ok(AddressRanges::new(ranges))
}

/// The worker's config.
pub fn worker(settings: &Settings) -> trackway_worker::Config {
    let worker = &settings.worker;
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
            projects: settings.projects_or_default().iter().map(|p| (project_id(p), project_rules(p))).collect(),
        },
        snapshot_every: Duration::from_secs(u64::from(worker.snapshot_seconds)),
        snapshot_records: worker.snapshot_records_max,
        buffer_bytes_max: worker.buffer_bytes_max as usize,
        handover_timeout: Duration::from_secs(u64::from(worker.handover_seconds_max)),
    }
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
        stages: settings.projects.iter().map(|project| (project_id(project), project.stages.clone())).collect(),
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

fn project_rules(project: &Project) -> ProjectRules {
    let touchpoints = project.touchpoints.iter().flat_map(|touchpoint| {
        // A rule of the domain has one event name or none.
        let events = if touchpoint.events.is_empty() { vec![String::new()] } else { touchpoint.events.clone() };
        events.into_iter().map(|event| TouchpointRule {
            name: touchpoint.name.clone(),
            stage: touchpoint.stage.clone(),
            event,
            page: touchpoint.page.clone(),
            channel: touchpoint.channel.clone(),
            properties: touchpoint.properties.iter().filter_map(|text| PropertyCondition::parse(text)).collect(),
        })
    });
    let feedback = project.feedback.iter().map(|feedback| FeedbackRule {
        event: feedback.event.clone(),
        kind: FeedbackKind::parse(&feedback.kind).expect("the config was checked"),
        score: feedback.score.clone(),
        text: feedback.text.clone(),
    });
    ProjectRules {
        session: SessionRules {
            gap: Duration::from_secs(u64::from(project.session_gap_seconds)),
            length_max: Duration::from_secs(u64::from(project.session_length_max_seconds)),
            ..SessionRules::USUAL
        },
        touchpoints: touchpoints.collect(),
        feedback: feedback.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackway_domain::touchpoint::find;

    #[test]
    fn every_name_of_a_touchpoint_is_a_rule_and_the_first_wins() {
        let touchpoint = |name: &str, events: &[&str], page: &str| crate::config::settings::Touchpoint {
            name: name.into(),
            stage: "s".into(),
            events: events.iter().map(|&event| event.into()).collect(),
            page: page.into(),
            ..Default::default()
        };
        let touchpoints =
            vec![touchpoint("one", &["a", "b"], ""), touchpoint("two", &["b", "c"], ""), touchpoint("page", &[], "/x")];
        let rules = project_rules(&Project { touchpoints, ..Project::stand_in() });
        let name = |event, path| find(&rules.touchpoints, event, path, "", |_| None).map(|rule| rule.name.as_str());
        assert_eq!((name("a", ""), name("b", ""), name("c", "")), (Some("one"), Some("one"), Some("two")));
        assert_eq!((name("d", "/x"), name("d", "/y")), (Some("page"), None));
    }

    #[test]
    fn what_a_project_excludes_reaches_its_gateway() {
        let project = Project {
            exclude_addresses: vec!["192.0.2.*".into()],
            exclude_user_agents: vec!["/^Monitor/".into()],
            exclude_referrers: vec!["spam.example".into()],
            only_pages_of: vec!["https://shop.example".into()],
            ..Project::stand_in()
        };
        let found = exclusions(&project);
        assert!(
            found.of_sender("192.0.2.1".parse().ok(), "").is_some() && found.of_sender(None, "Monitor 1").is_some()
        );
        assert!(found.of_page("https://shop.example/", "https://spam.example/").is_some());
        assert!(found.of_page("https://shop.example/", "https://semalt.com/").is_some());
        assert!(found.of_page("https://other.example/", "").is_some());
        assert!(found.of_page("https://shop.example/", "").is_none());
        let none = exclusions(&Project { exclude_known_spam: false, ..Project::stand_in() });
        assert_eq!(none, Exclusions::NONE);
    }

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
    fn networks_of_data_centres_are_read_and_a_wrong_line_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# cloud\n192.0.2.0/24 # one\n\n2001:db8::/32\n").expect("written");
        let ranges = hosting_ranges(file.path()).expect("networks");
        assert!(ranges.contains("192.0.2.9".parse().expect("an address")) && ranges.len() == 2);
        std::fs::write(file.path(), "192.0.2.0/24\nhost\n").expect("written");
        let error = format!("{:#}", hosting_ranges(file.path()).expect_err("a wrong line"));
        assert!(error.contains("line 2") && error.contains("`host`"), "{error}");
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
