//! What every value must be. The limits stand in the settings' documentation too; people read them there.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use trackway_domain::channel::{ChannelCondition, ChannelPreset, SiteAddress};
use trackway_domain::feedback::FeedbackKind;
use trackway_domain::id::ProjectId;
use trackway_domain::property::PropertyCondition;
use trackway_enrich::exclusion::{AgentRules, Pages};
use trackway_gateway::AddressRange;

use super::settings::{LogKind, Project, Settings, WriteKey};
use super::{ConfigError, Sources};

/// Checks all values.
///
/// # Errors
/// [`ConfigError::Value`] for the first that is not allowed.
pub(super) fn check(settings: &Settings, sources: &Sources) -> Result<(), ConfigError> {
    // Whether the database of places is one, is seen when it is read.
    let Settings { storage, log, clickhouse, gateway, worker, enrich: _, query, telemetry, projects } = settings;
    let at = Place { sources };

    at.that("storage.folder", storage.folder.display(), !storage.folder.as_os_str().is_empty(), "a folder")?;

    let brokers = log.kind == LogKind::Embedded || log.brokers.split(',').all(is_host_port);
    at.that("log.brokers", &log.brokers, brokers, "HOST:PORT, several separated by commas")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let prefix = log.topic_prefix.len() <= 100 && log.topic_prefix.bytes().all(plain);
    at.that("log.topic_prefix", &log.topic_prefix, prefix, "at most 100 of a-z A-Z 0-9 . _ -")?;
    at.range("log.replicas", log.replicas, 1..=100)?;
    at.range("log.append_seconds_max", log.append_seconds_max, 1..=60)?;
    at.range("log.spool_mib", log.spool_mib, 0..=1 << 20)?;
    at.range("log.events_partitions", log.events_partitions, 1..=1024)?;
    at.range("log.journeys_partitions", log.journeys_partitions, 1..=1024)?;
    at.range("log.audience_changes_partitions", log.audience_changes_partitions, 1..=1024)?;
    at.range("log.retention_hours", log.retention_hours, 24..=87_600)?;

    let url =
        clickhouse.url.is_empty() || ["http://", "https://"].iter().any(|scheme| clickhouse.url.starts_with(scheme));
    at.that("clickhouse.url", &clickhouse.url, url, "empty or start with http:// or https://")?;
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    // `default` is an overlay in the embedded server, in which our tables would not survive.
    let database = (1..=64).contains(&clickhouse.database.len())
        && clickhouse.database.bytes().all(word)
        && clickhouse.database != "default";
    at.that("clickhouse.database", &clickhouse.database, database, "1 to 64 of a-z 0-9 _, and not `default`")?;
    at.range("clickhouse.memory_mib", clickhouse.memory_mib, 600..=1_048_576)?;
    at.range("clickhouse.insert_seconds_max", clickhouse.insert_seconds_max, 1..=600)?;
    at.range("clickhouse.threads", clickhouse.threads, 1..=256)?;

    // All of a body may be one visitor's, and so one record: 16 MiB with its frame.
    at.range("gateway.body_bytes_max", gateway.body_bytes_max, 1024..=14 << 20)?;
    at.range("gateway.body_bytes_decoded_max", gateway.body_bytes_decoded_max, 1024..=14 << 20)?;
    at.range("gateway.batch_events_max", gateway.batch_events_max, 1..=100_000)?;
    at.range("gateway.idle_seconds_max", gateway.idle_seconds_max, 1..=3600)?;
    at.range("gateway.body_seconds_max", gateway.body_seconds_max, 1..=600)?;
    at.range("gateway.connections_max", gateway.connections_max, 1..=1_000_000)?;
    for range in &gateway.trusted_proxies {
        let fits = range.parse::<AddressRange>().is_ok();
        at.that("gateway.trusted_proxies", range, fits, "networks such as 10.0.0.0/8 or 2001:db8::/32")?;
    }
    let secret = gateway.secret.is_empty() || gateway.secret.len() >= 16;
    at.that("gateway.secret", "…", secret, "empty or 16 bytes or more")?;
    let one = u64::from(gateway.body_bytes_max) + u64::from(gateway.body_bytes_decoded_max);
    at.range("gateway.in_flight_bytes_max", gateway.in_flight_bytes_max, one..=1 << 32)?;

    at.range("worker.lateness_seconds", worker.lateness_seconds, 0..=86_400)?;
    at.range("worker.hold_hours", worker.hold_hours, 1..=720)?;
    at.range("worker.block_rows_max", worker.block_rows_max, 100..=1_000_000)?;
    at.range("worker.block_ms", worker.block_ms, 50..=60_000)?;
    at.range("worker.flush_ms", worker.flush_ms, 1..=10_000)?;
    at.range("worker.snapshot_seconds", worker.snapshot_seconds, 1..=3600)?;

    at.range("worker.snapshot_records_max", worker.snapshot_records_max, 1000..=1 << 50)?;
    at.range("worker.buffer_bytes_max", worker.buffer_bytes_max, 1 << 20..=u32::MAX)?;
    at.range("worker.handover_seconds_max", worker.handover_seconds_max, 1..=120)?;

    at.range("query.seconds_max", query.seconds_max, 1..=3600)?;
    at.range("query.rows_read_max", query.rows_read_max, 1000..=1 << 50)?;
    at.range("query.bytes_read_max", query.bytes_read_max, 1_000_000..=1 << 60)?;
    at.range("query.queries_max", query.queries_max, 1..=1000)?;
    at.range("query.queue_seconds_max", query.queue_seconds_max, 0..=600)?;
    at.range("query.identity_pairs_max", query.identity_pairs_max, 1000..=1_000_000_000)?;
    at.range("query.merged_events_max", query.merged_events_max, 1000..=1_000_000_000)?;
    at.range("query.names_max", query.names_max, 10..=1_000_000)?;
    at.range("query.person_keys_max", query.person_keys_max, 1..=1_000_000)?;
    at.range("query.subscribers_max", query.subscribers_max, 1..=100_000)?;
    at.range("query.recent_changes_max", query.recent_changes_max, 1..=10_000_000)?;
    // The process must have ended 10 s after the signal.
    at.range("query.drain_seconds_max", query.drain_seconds_max, 0..=8)?;

    let filter = telemetry.log.parse::<tracing_subscriber::EnvFilter>().is_ok();
    at.that(
        "telemetry.log",
        &telemetry.log,
        filter,
        "error, warn, info, debug, or a filter such as `info,trackway_worker=debug`",
    )?;

    check_projects(at, projects)?;
    // Whoever can reach it could write with a key that everybody knows.
    let private = !projects.is_empty() || gateway.listen.ip().is_loopback();
    at.that(
        "gateway.listen",
        gateway.listen,
        private,
        "127.0.0.1:PORT as long as no project is configured. Add [[projects]]",
    )
}

fn check_projects(at: Place<'_>, projects: &[Project]) -> Result<(), ConfigError> {
    let (mut ids, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for (n, project) in projects.iter().enumerate() {
        let key = |field: &str| format!("projects[{n}].{field}");
        let id_fits = ProjectId::parse(&project.id).is_some();
        at.that(&key("id"), &project.id, id_fits, "1 to 64 of a-z 0-9 _ -")?;
        at.that(&key("id"), &project.id, ids.insert(&project.id), "the only project of this name")?;
        at.that(&key("write_keys"), "[]", !project.write_keys.is_empty(), "at least one key")?;
        for (k, write_key) in project.write_keys.iter().enumerate() {
            let key = format!("projects[{n}].write_keys[{k}]");
            check_write_key(at, &key, write_key)?;
            at.that(&key, "…", keys.insert(&write_key.key), "the key of one project only")?;
        }
        check_exclusions(at, &key, project)?;
        for (list, names) in [
            ("properties_allow", &project.privacy.properties_allow),
            ("properties_deny", &project.privacy.properties_deny),
            ("properties_hash", &project.privacy.properties_hash),
        ] {
            for name in names {
                let fits = (1..=200).contains(&name.len());
                at.that(&key(&format!("privacy.{list}")), name, fits, "names of 1 to 200 bytes")?;
            }
        }
        at.range(&key("session_gap_seconds"), project.session_gap_seconds, 1..=86_400)?;
        at.range(&key("session_length_max_seconds"), project.session_length_max_seconds, 60..=604_800)?;
        let zone = &project.session_midnight_zone;
        let known = crate::parts::rules::midnight(zone).is_ok();
        at.that(
            &key("session_midnight_zone"),
            zone,
            known,
            "a name of the time zone database, such as Europe/Berlin, or empty",
        )?;
        at.range(&key("session_bounce_seconds"), project.session_bounce_seconds, 0..=3600)?;
        check_channels(at, n, project)?;
        for (t, touchpoint) in project.touchpoints.iter().enumerate() {
            let key = |field: &str| format!("projects[{n}].touchpoints[{t}].{field}");
            at.that(&key("name"), &touchpoint.name, (1..=100).contains(&touchpoint.name.len()), "1 to 100 bytes")?;
            at.that(&key("stage"), &touchpoint.stage, (1..=100).contains(&touchpoint.stage.len()), "1 to 100 bytes")?;
            let conditions = !touchpoint.events.is_empty()
                || !touchpoint.page.is_empty()
                || !touchpoint.channel.is_empty()
                || !touchpoint.properties.is_empty();
            at.that(
                &key("events"),
                "[]",
                conditions,
                "at least one event name, if neither `page` nor `channel` nor `properties` is given",
            )?;
            for condition in &touchpoint.properties {
                let is_one = PropertyCondition::parse(condition).is_some();
                let allowed =
                    "`name`, `name = text`, `name != text`, `name ~ text`, `name >= number` or `name <= number`";
                at.that(&key("properties"), condition, is_one, allowed)?;
            }
        }
        for stage in &project.stages {
            at.that(&key("stages"), stage, (1..=100).contains(&stage.len()), "stages of 1 to 100 bytes")?;
        }
        for (f, feedback) in project.feedback.iter().enumerate() {
            let key = |field: &str| format!("projects[{n}].feedback[{f}].{field}");
            let names = [("event", &feedback.event), ("score", &feedback.score), ("text", &feedback.text)];
            for (field, name) in names {
                at.that(&key(field), name, (1..=200).contains(&name.len()), "1 to 200 bytes")?;
            }
            at.that(&key("kind"), &feedback.kind, FeedbackKind::parse(&feedback.kind).is_some(), "nps, csat or text")?;
        }
    }
    Ok(())
}

fn check_channels(at: Place<'_>, n: usize, project: &Project) -> Result<(), ConfigError> {
    let key = |field: &str| format!("projects[{n}].{field}");
    let known = ChannelPreset::parse(&project.channels).is_some();
    at.that(&key("channels"), &project.channels, known, "ga4, plausible or posthog")?;
    for (r, rule) in project.channel_rules.iter().enumerate() {
        let key = |field: &str| format!("projects[{n}].channel_rules[{r}].{field}");
        at.that(&key("channel"), &rule.channel, (1..=100).contains(&rule.channel.len()), "1 to 100 bytes")?;
        at.that(&key("conditions"), "[]", !rule.conditions.is_empty(), "at least one condition")?;
        for condition in &rule.conditions {
            let allowed =
                "a condition such as `utm_source = a | b`, `url ~ a`, `pathname =~ ^/p[0-9]+$` or `!utm_medium`";
            at.that(&key("conditions"), condition, ChannelCondition::parse(condition).is_some(), allowed)?;
        }
    }
    for (list, sites) in [("own_sites", &project.own_sites), ("ignored_referrers", &project.ignored_referrers)] {
        for site in sites {
            let fits = SiteAddress::parse(site).is_some();
            at.that(&key(list), site, fits, "sites such as shop.example or shop.example/part")?;
        }
    }
    Ok(())
}

fn check_exclusions(at: Place<'_>, key: &impl Fn(&str) -> String, project: &Project) -> Result<(), ConfigError> {
    for range in &project.exclude_addresses {
        let fits = range.parse::<AddressRange>().is_ok();
        at.that(&key("exclude_addresses"), range, fits, "networks such as 10.0.0.0/8, 10.1.2.* or 2001:db8::/32")?;
    }
    for agent in &project.exclude_user_agents {
        let problem = AgentRules::new([agent.as_str()]).err().map(|error| error.to_string());
        let allowed = format!("a text or a regular expression; {}", problem.as_deref().unwrap_or_default());
        at.that(&key("exclude_user_agents"), agent, problem.is_none(), &allowed)?;
    }
    for host in &project.exclude_referrers {
        let fits = !host.is_empty() && !host.contains(['/', '*', '?', '#', ' ', ':']);
        at.that(&key("exclude_referrers"), host, fits, "hosts such as spam.example")?;
    }
    for site in &project.only_pages_of {
        let fits = site.contains("://") && Pages::of([site.as_str()]).is_ok();
        at.that(
            &key("only_pages_of"),
            site,
            fits,
            "addresses such as https://shop.example or https://shop.example/part",
        )?;
    }
    Ok(())
}

fn check_write_key(at: Place<'_>, key: &str, write_key: &WriteKey) -> Result<(), ConfigError> {
    let text = &write_key.key;
    // Jitsu's keys are `id:secret`. Basic authorization ends the name at the colon, so it stands within or not at all.
    let fits = (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic())
        && !text.starts_with(':')
        && !text.ends_with(':');
    // A write key never stands in a message: messages end in logs.
    at.that(key, "…", fits, "1 to 128 visible ASCII characters, `:` neither first nor last")?;
    for origin in &write_key.origins {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let host = host.map(|host| host.strip_prefix("*.").unwrap_or(host));
        let fits = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', '?', '#', ' ']));
        let allowed = "origins such as https://shop.example or https://*.shop.example, without a path";
        at.that(&format!("{key}.origins"), origin, fits, allowed)?;
    }
    let both = write_key.servers_only && !write_key.origins.is_empty();
    at.that(&format!("{key}.servers_only"), "true", !both, "false where `origins` are given")
}

/// Makes the error out of what was asked.
#[derive(Clone, Copy)]
struct Place<'a> {
    sources: &'a Sources,
}

impl Place<'_> {
    fn that(self, key: &str, value: impl Display, holds: bool, allowed: &str) -> Result<(), ConfigError> {
        if holds {
            return Ok(());
        }
        let place = self.sources.of(key);
        Err(ConfigError::Value { place, key: key.to_owned(), value: value.to_string(), allowed: allowed.to_owned() })
    }

    fn range<T: PartialOrd + Display + Copy>(
        self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<(), ConfigError> {
        self.that(key, value, range.contains(&value), &format!("{} to {}", range.start(), range.end()))
    }
}

fn is_host_port(text: &str) -> bool {
    text.trim()
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}
