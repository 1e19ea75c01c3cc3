//! PostHog: browsers at `/e/` and `/i/v0/e/`, servers at `/batch/`, `/capture/` and, where they are told to, at
//! `/i/v1/analytics/events`, whose head says key and tracker; and the calls beside them.
//!
//! - A body is a batch, a list or one event, as JSON or as the form field `data`, which may be base64. Browsers do it all
//!   in one visit: before and after the settings have come, and when a page unloads.
//! - The settings (`/array/<key>/config`, `/flags/`) say: no flags, no recording, events to `/i/v0/e/`. Recordings that are
//!   sent all the same (`/s/`) are taken and dropped: they are no events.
//! - What PostHog's people know by a `$` name (`$browser`, `$elements_chain`) keeps it, at the top of the properties.
//! - `utm_*` stick to all later events of a PostHog session, so they are a campaign only where no address says better.
//!
//! # Source
//! posthog-js 1.449, posthog-node 5.70, posthog-python 7.91, and captured requests (`tests/captures/posthog`).

mod event;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use self::event::Outside;
use crate::json::{self, Members};
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, json_text, plain_answer};
use crate::{Item, Rejection, Understood, client_time, mended};

/// PostHog's trackers.
pub struct PostHog;

impl Protocol for PostHog {
    fn name(&self) -> &'static str {
        "posthog"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        match head.path {
            // Old browser trackers can put the event into the query of a GET.
            "/e" | "/i/v0/e" | "/capture" | "/s" | "/flags" | "/decide" => true,
            "/batch" | "/i/v1/analytics/events" => head.method == Method::Post,
            path => head.method == Method::Get && Settings::of_path(path).is_some(),
        }
    }

    fn recognises(&self, request: &Request<'_>) -> bool {
        // Only `/batch` has other claimants; their bodies have `events`, or lines of a form.
        if request.head.path != "/batch" {
            return true;
        }
        let text = json::body_text(request.body);
        text.starts_with('{') && json::object::<Members<'_>>(&text).is_ok_and(|outside| outside.get("batch").is_some())
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let general = || head.basic_user().or_else(|| head.parameter("writeKey").map(Cow::into_owned));
        let bearer = head.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        bearer.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).or_else(general)
    }

    fn aside(&self, request: &Request<'_>) -> Option<Answer> {
        match request.head.path {
            "/s" => Some(success()),
            "/flags" | "/decide" => Some(flags((request.head.fresh_id)())),
            path => Settings::of_path(path).map(Settings::answer),
        }
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let text = body(request);
        mended::parse(&text, |text| parse(request, text))
    }

    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        match verdict {
            Verdict::Taken(tally) if tally.rejected.is_empty() => success(),
            // Anything but exactly 200 is sent again by browsers and Python.
            Verdict::Taken(_) => Answer { status: 200, ..plain_answer(verdict) },
            // Browsers give up at every 4xx, 429 too; servers at every 4xx but 404 and 429. At 413 they try smaller batches.
            Verdict::Refused(refused) => {
                let status = match (refused.retry_after_seconds, refused.status) {
                    (Some(_), _) => 503,
                    (None, status @ (401 | 403 | 413)) => status,
                    (None, _) => 400,
                };
                Answer { status, ..plain_answer(verdict) }
            }
        }
    }
}

fn success() -> Answer {
    Answer::of(200, "application/json", br#"{"status":1}"#)
}

/// A browser's question for its settings.
enum Settings<'a> {
    Json { key: &'a str },
    Script,
}

impl<'a> Settings<'a> {
    fn of_path(path: &'a str) -> Option<Self> {
        let (key, what) = path.strip_prefix("/array/")?.split_once('/')?;
        match what {
            "config" => Some(Self::Json { key }),
            "config.js" => Some(Self::Script),
            _ => None,
        }
    }

    fn answer(self) -> Answer {
        let key = match self {
            Self::Json { key } => json_text(key),
            // It defines nothing, so the tracker asks for the JSON next.
            Self::Script => {
                let script = b"(function(){window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};})();";
                return Answer::of(200, "application/javascript", script);
            }
        };
        // Nothing about `surveys`: a list, even an empty one, makes the browser fetch a script for them.
        Answer::json(
            200,
            format!(
                r#"{{"token":{key},"supportedCompression":["gzip","gzip-js"],"hasFeatureFlags":false,"captureDeadClicks":false,"capturePerformance":{{"web_vitals":false,"network_timing":true}},"autocapture_opt_out":false,"autocaptureExceptions":false,"analytics":{{"endpoint":"/i/v0/e/"}},"elementsChainAsString":true,"sessionRecording":false,"heatmaps":false,"defaultIdentifiedOnly":true,"siteApps":[]}}"#
            ),
        )
    }
}

fn flags(id: &str) -> Answer {
    let id = json_text(id);
    Answer::json(
        200,
        format!(
            r#"{{"config":{{"enable_collect_everything":true}},"supportedCompression":["gzip","gzip-js"],"featureFlags":{{}},"featureFlagPayloads":{{}},"flags":{{}},"errorsWhileComputingFlags":false,"sessionRecording":false,"toolbarParams":{{}},"isAuthenticated":false,"requestId":{id}}}"#
        ),
    )
}

/// The JSON of a request: its body, or the field `data` of a form in body or query, plain or base64.
fn body<'a>(request: &Request<'a>) -> Cow<'a, str> {
    let text = json::body_text(request.body);
    if text.starts_with(['{', '[']) {
        return text;
    }
    let data = |form: &[u8]| {
        let found = form_urlencoded::parse(form).find(|(name, _)| name == "data");
        found.map(|(_, value)| value.into_owned())
    };
    let Some(data) = data(text.as_bytes()).or_else(|| data(request.head.query.as_bytes())) else { return text };
    if data.trim_start().starts_with(['{', '[']) {
        return Cow::Owned(data);
    }
    // A `+` that was not percent-encoded has become a blank.
    match BASE64.decode(data.trim_end().replace([' ', '-'], "+").replace('_', "/")) {
        Ok(bytes) => Cow::Owned(json::body_text(&bytes).into_owned()),
        Err(_) => Cow::Owned(data),
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn parse(request: &Request<'_>, text: &str) -> Result<Understood, Rejection> {
    let mut outside = match text.as_bytes().first() {
        Some(b'[') => Members::default(),
        Some(b'{') => json::object(text).map_err(|error| json::not_json(&error))?,
        _ => return Err(Rejection::Malformed { what: "body".into(), expected: "a JSON object or list" }),
    };
    let list = match outside.take("batch") {
        Some(batch) => Some(batch.get()),
        None => text.starts_with('[').then_some(text),
    };
    let items = match list {
        Some(list) => json::list(list, request.items_max)
            .ok_or(Rejection::Malformed { what: "batch".into(), expected: "a JSON list of events" })?,
        None => vec![serde_json::from_str(text).map_err(|error| json::not_json(&error))?],
    };
    if items.len() > request.items_max {
        let (value, limit) = (items.len(), request.items_max);
        return Err(Rejection::TooLarge { what: "batch".into(), value, unit: "events", limit });
    }
    let is_import = outside.get("historical_migration").is_some_and(|value| value.get() == "true");
    let sent_at = outside.get("sent_at").and_then(client_time::of_value);
    let sent_at = sent_at.or_else(|| client_time::of_text(&request.head.parameter("_")?));
    let sent_at = sent_at.or_else(|| client_time::of_text(request.head.header("posthog-request-timestamp")?));
    let tracker = request.head.header("posthog-sdk-info").unwrap_or_default();
    let outside_of_items = Outside {
        // An import's times are what they are, whatever the importer's clock.
        sent_at_ms: sent_at.filter(|_| !is_import),
        tracker: tracker.split_once('/').unwrap_or((tracker, "")),
    };
    let mut understood = Understood {
        write_key: outside.take_text("api_key").or_else(|| outside.take_text("token")),
        ..Understood::default()
    };
    for (index, raw) in items.into_iter().enumerate() {
        let (item, own) = event::understand(raw.get(), index, &outside_of_items);
        understood.anonymous |= own.is_cookieless;
        if let Some(key) = own.write_key {
            let first = understood.write_key.get_or_insert_with(|| key.clone());
            if *first != key {
                understood.own_keys.push((index, key));
            }
        }
        understood.items.push(item);
    }
    Ok(understood)
}
