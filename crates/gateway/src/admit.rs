//! Write key -> project. One look-up in a hash table, whatever the number of projects.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{ORIGIN, REFERER};
use trackway_domain::id::ProjectId;
use trackway_domain::time::ReceivedAt;

use crate::meters::ProjectMeters;
use crate::rate::Taken;
use crate::reply::Refusal;
use crate::server::SharedKey;
use crate::{Exclusions, Privacy, Project, Quota, UseFrom};

/// A project that may be sent to.
pub(crate) struct Admitted {
    /// Its id.
    pub id: ProjectId,
    /// What it keeps.
    pub privacy: Privacy,
    /// Whom it does not want.
    pub exclusions: Exclusions,
    /// Its meters.
    pub meters: Arc<ProjectMeters>,
    quota: Quota,
    taken: Arc<Taken>,
}

struct Key {
    project: Arc<Admitted>,
    use_from: UseFrom,
    quota: Quota,
    taken: Arc<Taken>,
}

/// Who may send, by write key.
pub(crate) struct Admissions {
    projects: Vec<Arc<Admitted>>,
    by_key: HashMap<String, Key>,
}

/// What an admission is for: a project, by a key that has limits of its own.
#[derive(Clone)]
pub(crate) struct Admission {
    /// The project.
    pub project: Arc<Admitted>,
    key_quota: Quota,
    key_taken: Arc<Taken>,
}

impl Admissions {
    /// From the config. What the projects and keys of `before` have used up and counted goes on.
    pub(crate) fn new(configured: &[Project], before: Option<&Self>) -> Result<Self, SharedKey> {
        let mut admissions = Self { projects: Vec::with_capacity(configured.len()), by_key: HashMap::new() };
        for Project { id, write_keys, quota, privacy, exclusions } in configured {
            let old = before.and_then(|before| before.projects.iter().find(|project| project.id == *id));
            let project = Arc::new(Admitted {
                id: id.clone(),
                privacy: privacy.clone(),
                exclusions: exclusions.clone(),
                meters: old.map_or_else(|| Arc::new(ProjectMeters::new(Some(id))), |old| old.meters.clone()),
                quota: *quota,
                taken: old.map(|old| old.taken.clone()).unwrap_or_default(),
            });
            admissions.projects.push(project.clone());
            for write_key in write_keys {
                let old = before.and_then(|before| before.by_key.get(&write_key.key));
                let key = Key {
                    project: project.clone(),
                    use_from: write_key.use_from.clone(),
                    quota: write_key.quota,
                    taken: old.map(|old| old.taken.clone()).unwrap_or_default(),
                };
                if let Some(other) = admissions.by_key.insert(write_key.key.clone(), key)
                    && other.project.id != *id
                {
                    return Err(SharedKey { first: other.project.id.clone(), second: id.clone() });
                }
            }
        }
        Ok(admissions)
    }

    /// The project that `key` lets into, if it may be used by whoever sent `headers`, and neither project nor key has used
    /// up what they may send.
    pub(crate) fn admit(&self, key: Option<&str>, headers: &HeaderMap, now: ReceivedAt) -> Result<Admission, Refusal> {
        let text = key.filter(|key| !key.is_empty()).ok_or(Refusal::NoKey)?;
        let key = self.by_key.get(text);
        // Jitsu's keys are `id:secret`: a project may configure the whole or the id alone.
        let key = key.or_else(|| self.by_key.get(text.split_once(':')?.0)).ok_or(Refusal::UnknownKey)?;
        key.allows(headers)?;
        let admission = Admission { project: key.project.clone(), key_quota: key.quota, key_taken: key.taken.clone() };
        admission.check(now)?;
        Ok(admission)
    }
}

impl Admission {
    fn check(&self, now: ReceivedAt) -> Result<(), Refusal> {
        let of_project = self.project.taken.check(self.project.quota, now);
        of_project.map_err(|exceeded| Refusal::Quota { of: "project", exceeded })?;
        self.key_taken.check(self.key_quota, now).map_err(|exceeded| Refusal::Quota { of: "write key", exceeded })
    }

    /// Counts what was taken.
    pub(crate) fn add(&self, events: usize, now: ReceivedAt) {
        self.project.taken.add(events, self.project.quota, now);
        self.key_taken.add(events, self.key_quota, now);
    }
}

impl Key {
    fn allows(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match &self.use_from {
            UseFrom::Anywhere => Ok(()),
            UseFrom::Servers => match headers.get(ORIGIN).is_some() || headers.contains_key("sec-fetch-mode") {
                true => Err(Refusal::ServerKey),
                false => Ok(()),
            },
            UseFrom::Origins(origins) => {
                // An image has no `Origin`; its page's address begins with it.
                let origin = text(ORIGIN).or_else(|| text(REFERER).and_then(origin_of)).unwrap_or_default();
                match origins.iter().any(|allowed| is_within(origin, allowed)) {
                    true => Ok(()),
                    false => Err(Refusal::Origin { origin: origin.chars().take(100).collect() }),
                }
            }
        }
    }
}

/// Scheme, host and port of an address.
fn origin_of(address: &str) -> Option<&str> {
    let host = address.find("://")? + 3;
    let end = address[host..].find(['/', '?', '#']).map_or(address.len(), |at| host + at);
    Some(&address[..end])
}

fn is_within(origin: &str, allowed: &str) -> bool {
    match allowed.split_once("*.") {
        Some((scheme, domain)) => origin
            .strip_prefix(scheme)
            .and_then(|host| host.strip_suffix(domain))
            .is_some_and(|below| below.ends_with('.') && below.len() > 1),
        None => origin == allowed,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::WriteKey;

    const NOW: ReceivedAt = ReceivedAt(1_800_000_000_000);

    fn project(id: &str, keys: &[(&str, UseFrom)]) -> Project {
        let keys = keys.iter().map(|(key, use_from)| WriteKey {
            key: (*key).to_owned(),
            use_from: use_from.clone(),
            quota: Quota::default(),
        });
        let id = ProjectId::parse(id).expect("a project id");
        let (privacy, exclusions) = (Privacy::USUAL, Exclusions::NONE);
        Project { id, write_keys: keys.collect(), quota: Quota::default(), privacy, exclusions }
    }

    fn admit(admissions: &Admissions, key: Option<&str>, headers: &[(&'static str, &str)]) -> Result<String, String> {
        let headers = headers.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header"))
        });
        let admission = admissions.admit(key, &headers.collect(), NOW);
        admission.map(|admission| admission.project.id.to_string()).map_err(|refusal| refusal.to_string())
    }

    fn anywhere(key: &str) -> (&str, UseFrom) {
        (key, UseFrom::Anywhere)
    }

    #[test]
    fn each_key_lets_into_its_project() {
        let projects = [
            project("a", &[anywhere("k1"), anywhere("k2")]),
            project("b", &[anywhere("k3"), anywhere("k3"), anywhere("id:secret")]),
        ];
        let admissions = Admissions::new(&projects, None).unwrap_or_else(|shared| panic!("{shared}"));
        let check = |key| admit(&admissions, key, &[]);
        assert_eq!(check(Some("k2")).as_deref(), Ok("a"));
        assert_eq!(check(Some("k3")).as_deref(), Ok("b"));
        assert_eq!(check(Some("k3:its-secret")).as_deref(), Ok("b"));
        assert_eq!(check(Some("id:secret")).as_deref(), Ok("b"));
        for wrong in ["k4", "id", "id:other", ":k1", "k1 "] {
            assert_eq!(check(Some(wrong)), Err("write key is not known".to_owned()), "{wrong}");
        }
        assert!(check(Some("")).is_err_and(|error| error.starts_with("write key is missing")));
        assert!(check(None).is_err_and(|error| error.starts_with("write key is missing")));
    }

    #[test]
    fn one_key_cannot_let_into_two_projects() {
        let Err(shared) = Admissions::new(&[project("a", &[anywhere("k")]), project("b", &[anywhere("k")])], None)
        else {
            panic!("one key, two projects");
        };
        assert_eq!((shared.first.as_str(), shared.second.as_str()), ("a", "b"));
    }

    #[test]
    fn a_key_of_some_origins_is_refused_on_others() {
        let origins = vec!["https://shop.example".to_owned(), "https://*.blog.example".to_owned()];
        let admissions = Admissions::new(&[project("a", &[("k", UseFrom::Origins(origins))])], None);
        let admissions = admissions.unwrap_or_else(|shared| panic!("{shared}"));
        let check = |headers: &[(&'static str, &str)]| admit(&admissions, Some("k"), headers);
        for good in ["https://shop.example", "https://x.blog.example", "https://x.y.blog.example"] {
            assert!(check(&[("origin", good)]).is_ok(), "{good}");
        }
        for bad in [
            "http://shop.example",
            "https://shop.example:444",
            "https://blog.example",
            "https://evilblog.example",
            "https://.blog.example",
            "null",
        ] {
            let error = check(&[("origin", bad)]).expect_err(bad);
            assert!(error.contains(&format!("origin `{bad}`")), "{error}");
        }
        assert!(check(&[("referer", "https://shop.example/page?q")]).is_ok());
        assert!(check(&[("referer", "https://shop.example.evil/")]).is_err());
        assert!(check(&[("origin", "https://evil"), ("referer", "https://shop.example/")]).is_err());
        assert!(check(&[]).is_err());
    }

    #[test]
    fn a_server_key_is_refused_in_a_browser() {
        let admissions = Admissions::new(&[project("a", &[("k", UseFrom::Servers)])], None);
        let admissions = admissions.unwrap_or_else(|shared| panic!("{shared}"));
        assert!(admit(&admissions, Some("k"), &[]).is_ok());
        for header in [("origin", "https://x"), ("sec-fetch-mode", "no-cors")] {
            assert!(admit(&admissions, Some("k"), &[header]).is_err_and(|error| error.contains("servers only")));
        }
    }

    #[test]
    fn what_was_used_up_stays_used_up_over_a_reload() {
        let quota = Quota { events_per_second: Some(1), events_per_day: None };
        let limited = |id| Project { quota, ..project(id, &[anywhere("k")]) };
        let first = Admissions::new(&[limited("a")], None).unwrap_or_else(|shared| panic!("{shared}"));
        let admission = first.admit(Some("k"), &HeaderMap::new(), NOW).unwrap_or_else(|refusal| panic!("{refusal}"));
        admission.add(100, NOW);
        let second = Admissions::new(&[limited("a")], Some(&first)).unwrap_or_else(|shared| panic!("{shared}"));
        let error = admit(&second, Some("k"), &[]).expect_err("it is used up");
        assert_eq!(error, "project has sent more than its limit of 1 events a second. Send again in 98 s");
        let renamed = Admissions::new(&[limited("b")], Some(&first)).unwrap_or_else(|shared| panic!("{shared}"));
        assert!(admit(&renamed, Some("k"), &[]).is_ok());
    }
}
