//! The gateway's config, and its projects: who may write, how much, what is kept, and who is not wanted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use trackway_enrich::exclusion::{AgentRules, Exclusions, Pages, Referrers};
use trackway_gateway::{AddressRanges, Quota, UseFrom};
use trackway_wire::redact::PropertyLists;

use super::{TopicNames, project_id};
use crate::config::settings::{IpPolicy, Objection, Privacy, Project, Settings, WriteKey};

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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn networks_of_data_centres_are_read_and_a_wrong_line_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# cloud\n192.0.2.0/24 # one\n\n2001:db8::/32\n").expect("written");
        let ranges = hosting_ranges(file.path()).expect("networks");
        assert!(ranges.contains("192.0.2.9".parse().expect("an address")) && ranges.len() == 2);
        std::fs::write(file.path(), "192.0.2.0/24\nhost\n").expect("written");
        let error = format!("{:#}", hosting_ranges(file.path()).expect_err("a wrong line"));
        assert!(error.contains("line 2") && error.contains("`host`"), "{error}");
    }
}
