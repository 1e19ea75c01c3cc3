//! What every tracker's protocol has in common: how it claims a request, reads it, and answers.
//!
//! A protocol is one file with one type that implements [`Protocol`], and one line in [`ALL`]. Everything that its tracker
//! is particular about stands there: paths, where the write key is, how its events read, and which answer it takes as
//! success, as "drop it" or as "send it again".

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Rejection, Understood};

/// Every protocol that is understood. Where several claim a path, the first that recognises the request has it, so those
/// that are told by a mark of their own stand before those that take what is left.
pub static ALL: &[&dyn Protocol] = &[
    &crate::rudderstack::RudderStack,
    &crate::segment::Segment,
    &crate::ingest::Ingest,
    &crate::pixel::Pixel,
    &crate::ga4_web::Ga4Web,
    &crate::ga4_mp::Ga4Mp,
    &crate::universal_analytics::UniversalAnalytics,
    &crate::posthog::PostHog,
    &crate::amplitude::Amplitude,
    &crate::openpanel::OpenPanel,
    &crate::mixpanel::Mixpanel,
    &crate::snowplow::Snowplow,
    &crate::countly::Countly,
    &crate::matomo::Matomo,
    &crate::plausible::Plausible,
    &crate::umami::Umami,
    &crate::jitsu::Jitsu,
];

/// The protocols that may have a request, as far as its head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimants {
    /// A bit for each, by its place in [`ALL`].
    places: u64,
}

impl Claimants {
    /// Asks every protocol.
    #[must_use]
    pub fn of(head: &Head<'_>) -> Self {
        assert!(ALL.len() <= 64, "a bit for each");
        let bit = |(place, protocol): (usize, &&dyn Protocol)| u64::from(protocol.claims(head)) << place;
        Self { places: ALL.iter().enumerate().map(bit).sum() }
    }

    /// All of them, in their order.
    pub fn iter(self) -> impl Iterator<Item = &'static dyn Protocol> {
        ALL.iter().enumerate().filter(move |(place, _)| self.places >> place & 1 == 1).map(|(_, protocol)| *protocol)
    }

    /// The first of them.
    #[must_use]
    pub fn first(self) -> Option<&'static dyn Protocol> {
        ALL.get(self.places.trailing_zeros() as usize).copied()
    }

    /// Whether there is one, and no other.
    #[must_use]
    pub fn is_one(self) -> bool {
        self.places.is_power_of_two()
    }

    /// The protocol of a request that these claim: the first that recognises it, else the last.
    #[must_use]
    pub fn recognise(mut self, request: &Request<'_>) -> Option<&'static dyn Protocol> {
        loop {
            let protocol = self.first()?;
            // A claimant that stands alone is not asked: most paths have one.
            if self.is_one() || protocol.recognises(request) {
                return Some(protocol);
            }
            // Takes the lowest bit away.
            self.places &= self.places - 1;
        }
    }
}

/// The protocol of a request.
#[must_use]
pub fn of(request: &Request<'_>) -> Option<&'static dyn Protocol> {
    Claimants::of(&request.head).recognise(request)
}

/// Methods that carry events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
}

/// A request's head, as much of it as protocols read.
pub struct Head<'a> {
    /// Method.
    pub method: Method,
    /// Path as sent (percent-encoded), without its last slash: trackers disagree about that.
    pub path: &'a str,
    /// What stands after the `?`, still encoded; empty if there is none.
    pub query: &'a str,
    /// Value of a header by its name in lower case, if it is text.
    pub headers: &'a dyn Fn(&str) -> Option<&'a str>,
    /// A random id, the same at every call for this request: for the cookies that some trackers expect to be set.
    pub fresh_id: &'a dyn Fn() -> &'a str,
}

impl<'a> Head<'a> {
    /// A header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        (self.headers)(name)
    }

    /// A cookie's value as it stands.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let pairs = self.header("cookie")?.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(other, _)| *other == name).map(|(_, value)| value).next()
    }

    /// The first value of a parameter of the query that is not empty, decoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        let pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.filter(|(other, value)| other == name && !value.is_empty()).map(|(_, value)| value).next()
    }

    /// User name and password of Basic authorization.
    #[must_use]
    pub fn basic(&self) -> Option<(String, String)> {
        let text = self.credentials()?;
        let (user, password) = text.split_once(':').unwrap_or((&text, ""));
        Some((user.to_owned(), password.to_owned()))
    }

    fn credentials(&self) -> Option<String> {
        let (scheme, credentials) = self.header("authorization")?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()
    }

    /// The user name of Basic authorization, if it is not empty: where Segment's kin put the write key.
    #[must_use]
    pub fn basic_user(&self) -> Option<String> {
        let mut user = self.credentials()?;
        user.truncate(user.find(':').unwrap_or(user.len()));
        Some(user).filter(|user| !user.is_empty())
    }
}

/// A whole request. Its body is decompressed, and its content type is nobody's word (browsers send JSON as plain text).
pub struct Request<'a> {
    /// Its head.
    pub head: Head<'a>,
    /// Its body.
    pub body: &'a [u8],
    /// Items that it may have at most.
    pub items_max: usize,
}

/// What became of a request as a whole.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// Every item is durable where it belongs: in the log, or among the rejected ones.
    Taken(&'a Tally),
    /// Nothing of it counts.
    Refused(&'a Refused),
}

/// What became of a request's items.
#[derive(Debug, Default)]
pub struct Tally {
    /// Events in the log.
    pub accepted: usize,
    /// Items with nothing to record.
    pub nothing: usize,
    /// Place in the request and reason of those that were rejected.
    pub rejected: Vec<(usize, Rejection)>,
}

/// Why nothing of a request counts.
#[derive(Debug)]
pub struct Refused {
    /// The status that says it to a client that knows HTTP and no more.
    pub status: u16,
    /// Short code.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// Send the same again after so many seconds: it may well be taken then. `None`: it never will.
    pub retry_after_seconds: Option<u32>,
}

/// An answer, without the headers that every answer has (length, CORS, `Retry-After`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Content type; empty: there is no body.
    pub content_type: &'static str,
    /// Body.
    pub body: Cow<'static, [u8]>,
    /// Further headers, names in lower case.
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// A body that is known beforehand.
    #[must_use]
    pub fn of(status: u16, content_type: &'static str, body: &'static [u8]) -> Self {
        Self { status, content_type, body: Cow::Borrowed(body), headers: Vec::new() }
    }

    /// A body of JSON.
    #[must_use]
    pub fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", body: Cow::Owned(body.into_bytes()), headers: Vec::new() }
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One tracker's protocol.
pub trait Protocol: Sync {
    /// Short name, as records and metrics say it: `a-z` and `_`.
    fn name(&self) -> &'static str;

    /// Whether a request with this head may be this protocol's.
    fn claims(&self, head: &Head<'_>) -> bool;

    /// Whether a request is this protocol's, asked only where several claim its path. The last that claims it gets what
    /// nobody recognises.
    fn recognises(&self, request: &Request<'_>) -> bool {
        let _ = request;
        true
    }

    /// The write key in the head, if it is there: a wrong one is then refused before the body is read.
    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        head.basic_user().or_else(|| head.parameter("writeKey").map(Cow::into_owned))
    }

    /// The answer to a call that carries no events, such as a tracker's question for its settings.
    fn aside(&self, request: &Request<'_>) -> Option<Answer> {
        let _ = request;
        None
    }

    /// Understands a request.
    ///
    /// # Errors
    /// [`Rejection`] if it is not understood as a whole; then none of its events is.
    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection>;

    /// The answer that this protocol's trackers understand.
    ///
    /// - `request`: its body is empty if the request was refused before it was read.
    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let _ = request;
        plain_answer(verdict)
    }
}

/// The answer of a protocol whose trackers look at the status only; people look at the rest.
#[must_use]
pub fn plain_answer(verdict: &Verdict<'_>) -> Answer {
    let tally = match verdict {
        Verdict::Taken(tally) => tally,
        Verdict::Refused(refused) => {
            let (code, message) = (refused.code, json_text(&refused.message));
            let body = format!(r#"{{"success":false,"code":"{code}","message":{message}}}"#);
            return Answer::json(refused.status, body);
        }
    };
    if tally.rejected.is_empty() {
        return Answer::of(200, "application/json", br#"{"success":true}"#);
    }
    // An item with nothing to record was understood, so it is no failure.
    let success = tally.accepted + tally.nothing > 0;
    let rejected = tally.rejected.iter().map(|(index, reason)| {
        let message = json_text(&reason.to_string());
        format!(r#"{{"index":{index},"code":"{}","message":{message}}}"#, reason.code())
    });
    let rejected = rejected.collect::<Vec<_>>().join(",");
    let accepted = tally.accepted;
    let body = format!(r#"{{"success":{success},"accepted":{accepted},"rejected":[{rejected}]}}"#);
    Answer::json(if success { 200 } else { 400 }, body)
}

/// Text as a JSON string.
#[must_use]
pub fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("text is always JSON")
}

/// Hands a request to a protocol as a test needs it.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Head, Method, Request};

    /// `target` is path and query; headers have names in lower case.
    pub(crate) fn with_request<T>(
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        then: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let find = |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let head = Head {
            method,
            path: path.strip_suffix('/').unwrap_or(path),
            query,
            headers: &find,
            fresh_id: &|| "00000000-0000-4000-8000-000000000001",
        };
        then(&Request { head, body, items_max: 1000 })
    }
}
