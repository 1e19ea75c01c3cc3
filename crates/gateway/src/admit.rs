//! Write key -> project. One look-up in a hash table, whatever the number of projects.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use trackway_domain::id::ProjectId;

use crate::ProjectKeys;
use crate::meters::ProjectMeters;
use crate::reply::Refusal;

/// A project that may be sent to.
pub(crate) struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its meters.
    pub meters: ProjectMeters,
}

/// Who may send, by write key.
pub(crate) struct Admissions {
    projects: Vec<Project>,
    by_key: HashMap<String, usize>,
}

impl Admissions {
    /// From the config; `Err` is a write key's project that another project has claimed before.
    pub(crate) fn new(configured: &[ProjectKeys]) -> Result<Self, (ProjectId, ProjectId)> {
        let mut projects: Vec<Project> = Vec::with_capacity(configured.len());
        let mut by_key = HashMap::new();
        for (at, ProjectKeys { id, write_keys }) in configured.iter().enumerate() {
            projects.push(Project { id: id.clone(), meters: ProjectMeters::new(Some(id)) });
            for key in write_keys {
                if let Some(other) = by_key.insert(key.clone(), at)
                    && other != at
                {
                    return Err((projects[other].id.clone(), id.clone()));
                }
            }
        }
        Ok(Self { projects, by_key })
    }

    /// The project that `key` lets into.
    pub(crate) fn admit(&self, key: Option<&str>) -> Result<&Project, Refusal> {
        let key = key.filter(|key| !key.is_empty()).ok_or(Refusal::NoKey)?;
        self.by_key.get(key).map(|&at| &self.projects[at]).ok_or(Refusal::UnknownKey)
    }
}

/// The write key of a request's head: user name of Basic auth, else `writeKey` of the query. The body's comes after it.
pub(crate) fn write_key<'a>(headers: &HeaderMap, query: Option<&'a str>) -> Option<Cow<'a, str>> {
    basic_user(headers).map(Cow::Owned).or_else(|| query_value(query?, "writeKey"))
}

fn basic_user(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut user = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    user.truncate(user.find(':').unwrap_or(user.len()));
    Some(user).filter(|user| !user.is_empty())
}

/// Keys are plain text, so nothing needs decoding.
fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let values = query.split('&').filter_map(|pair| pair.split_once('='));
    values.filter(|(other, value)| *other == name && !value.is_empty()).map(|(_, value)| Cow::Borrowed(value)).next()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn project(id: &str, keys: &[&str]) -> ProjectKeys {
        let id = ProjectId::parse(id).expect("a project id");
        ProjectKeys { id, write_keys: keys.iter().map(|&key| key.to_owned()).collect() }
    }

    fn check(authorization: &str, query: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).expect("a header"));
        assert_eq!(write_key(&headers, Some(query)).as_deref(), expected, "{authorization} {query}");
    }

    #[test]
    fn the_key_is_the_user_of_basic_auth_else_in_the_query() {
        check("Basic d2s6", "writeKey=other", Some("wk"));
        check("basic d2s6cGFzcw==", "", Some("wk"));
        check("Basic d2s=", "", Some("wk"));
        for no_user in ["Basic Og==", "Bearer d2s6", "Basic %", "Basic"] {
            check(no_user, "a=b&writeKey=wk", Some("wk"));
            check(no_user, "writeKey=&xwriteKey=a", None);
        }
    }

    #[test]
    fn each_key_lets_into_its_project() {
        let admissions = Admissions::new(&[project("a", &["k1", "k2"]), project("b", &["k3", "k3"])]);
        let admissions = admissions.unwrap_or_else(|(a, b)| panic!("{a} {b}"));
        let id = |key| admissions.admit(key).map(|project| project.id.as_str()).map_err(|refusal| refusal.to_string());
        assert_eq!(id(Some("k2")).as_deref(), Ok("a"));
        assert_eq!(id(Some("k3")).as_deref(), Ok("b"));
        assert_eq!(id(Some("k4")), Err("write key is not known".to_owned()));
        assert!(id(Some("")).is_err_and(|error| error.starts_with("write key is missing")));
        assert!(id(None).is_err_and(|error| error.starts_with("write key is missing")));
    }

    #[test]
    fn one_key_cannot_let_into_two_projects() {
        let Err((a, b)) = Admissions::new(&[project("a", &["k"]), project("b", &["k"])]) else {
            panic!("one key, two projects");
        };
        assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
    }
}
