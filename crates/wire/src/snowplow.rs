//! Snowplow's tracker protocol: POST of `payload_data` to its own path or to one of the site's choosing, and the pixel
//! `GET /i`. The app id (`aid`) is the write key.
//!
//! - An event is a flat map of text under short names. Those that have no field are kept in `$context`, and what belongs
//!   to the event (self-describing data, category and label, scroll offsets, an order's fields) is its properties.
//! - Self-describing data keeps its schema as `$schema`, contexts (entities) are kept in `$context.contexts`; those of
//!   a shop stand as `products`, `transaction`, `refund` and `cart` in the properties.
//! - The cookie `sp` is a browser's network id. It is set as a collector does, and is the visitor only where the tracker
//!   itself names none. With `SP-Anonymous` there is neither cookie nor address.
//!
//! # Source
//! <https://docs.snowplow.io/docs/events/going-deeper/event-parameters>, the sources of the browser tracker 4.10 and the
//! Python tracker 1.1 (which answers are final), and captured requests (`tests/captures/snowplow`).

mod event;
mod self_describing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;
use trackway_domain::limits::EVENT_BYTES_MAX;

use crate::draft::within;
use crate::json::{self, Object};
use crate::params::Params;
use crate::protocol::{ALL, Answer, Head, Method, Protocol, Request, Verdict, plain_answer};
use crate::{Item, Rejection, Understood, json_marks, pixel};

/// Snowplow's trackers.
pub struct Snowplow;

const POST_PATH: &str = "/com.snowplowanalytics.snowplow/tp2";
const GET_PATH: &str = "/i";
const PAYLOAD: &str = "iglu:com.snowplowanalytics.snowplow/payload_data/";

impl Protocol for Snowplow {
    fn name(&self) -> &'static str {
        "snowplow"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        match head.method {
            Method::Get => head.path == GET_PATH,
            Method::Post => head.path == POST_PATH || is_own_path(head),
        }
    }

    fn recognises(&self, request: &Request<'_>) -> bool {
        // Countly's trackers send to `/i` too, and always name their app.
        request.head.method == Method::Post
            || request.head.parameter("e").is_some() && request.head.parameter("app_key").is_none()
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let aid = if head.method == Method::Get { head.parameter("aid") } else { None };
        let general = || head.basic_user().or_else(|| head.parameter("writeKey").map(Cow::into_owned));
        aid.map(Cow::into_owned).or_else(general).or_else(|| head.header("x-write-key").map(str::to_owned))
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let sender = Sender::of(&request.head);
        let mut understood = Understood { anonymous: sender.is_anonymous(), ..Understood::default() };
        if request.head.method == Method::Get {
            let query = request.head.query.as_bytes();
            let params = within(|| "event".to_owned(), query.len(), "bytes", EVENT_BYTES_MAX);
            let item = params.and_then(|()| Params::of_form(query)).map(|mut params| {
                params.drop("aid");
                event::understand(params, 0, &sender, query)
            });
            understood.items.push(item.unwrap_or_else(|reason| Item::Rejected { reason, content: query.to_vec() }));
            return Ok(understood);
        }
        let text = json::body_text(request.body);
        let repaired;
        let payload: Payload<'_> = match json::object(&text) {
            Ok(payload) => payload,
            Err(error) => {
                repaired = json_marks::without_nan(&text).ok_or_else(|| json::not_json(&error))?;
                json::object(&repaired).map_err(|error| json::not_json(&error))?
            }
        };
        let is_payload = payload.schema.and_then(json::text).is_some_and(|schema| schema.starts_with(PAYLOAD));
        if request.head.path != POST_PATH && !is_payload {
            let what = "body at a path of no known tracker".into();
            return Err(Rejection::Malformed { what, expected: "Snowplow's payload_data" });
        }
        let data = payload.data.ok_or(Rejection::Missing { field: "data", hint: "Send a list of events in it" })?;
        let items = json::list(data.get(), request.items_max);
        let items = items.ok_or(Rejection::Malformed { what: "`data`".into(), expected: "a list of events" })?;
        within(|| "payload".to_owned(), items.len(), "events", request.items_max)?;
        let head_key = self.write_key(&request.head);
        for (index, raw) in items.into_iter().enumerate() {
            let item = params_of(raw).map(|mut params| {
                if let Some(key) = params.take_key("aid", head_key.as_deref(), &mut understood.write_key) {
                    understood.own_keys.push((index, key));
                }
                event::understand(params, index, &sender, raw.get().as_bytes())
            });
            let content = || raw.get().as_bytes().to_vec();
            understood.items.push(item.unwrap_or_else(|reason| Item::Rejected { reason, content: content() }));
        }
        Ok(understood)
    }

    /// Of the refusals 400, 401, 403, 410 and 422 are final to the trackers; all others they try again.
    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let head = &request.head;
        let answer = match (head.method, verdict) {
            (Method::Get, _) => pixel::image_answer(verdict),
            (Method::Post, Verdict::Taken(tally)) if tally.rejected.is_empty() => {
                Answer::of(200, "text/plain; charset=utf-8", b"ok")
            }
            (Method::Post, Verdict::Taken(_)) => plain_answer(verdict),
            (Method::Post, Verdict::Refused(refused)) => {
                let is_final = matches!(refused.status, 400 | 401 | 403 | 410 | 422);
                let mut answer = plain_answer(verdict);
                if refused.retry_after_seconds.is_none() && !is_final {
                    answer.status = 400;
                }
                answer
            }
        };
        match (verdict, Sender::of(head).network_id()) {
            (Verdict::Taken(_), Some(id)) => {
                answer.with("set-cookie", format!("sp={id}; Max-Age=31536000; Path=/; SameSite=None; Secure"))
            }
            (Verdict::Taken(_) | Verdict::Refused(_), _) => answer,
        }
    }
}

/// The body of a POST.
#[derive(Default)]
struct Payload<'a> {
    schema: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
}

impl<'a> Object<'a> for Payload<'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        match &*name {
            "schema" => self.schema = Some(map.next_value()?),
            "data" => self.data = Some(map.next_value()?),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

fn params_of(item: &RawValue) -> Result<Params<'_>, Rejection> {
    if !item.get().starts_with('{') {
        return Err(Rejection::Malformed { what: "item of the payload".into(), expected: "a JSON object" });
    }
    within(|| "event".to_owned(), item.get().len(), "bytes", EVENT_BYTES_MAX)?;
    Params::of_object(item.get())
}

/// Who sent a request, by its head.
enum Sender<'a> {
    /// Somebody who asks not to be known.
    Anonymous,
    /// A browser with the id in its cookie `sp`.
    Known(&'a str),
    /// One without, and the id that it gets.
    New(&'a str),
}

impl<'a> Sender<'a> {
    fn of(head: &Head<'a>) -> Self {
        if head.header("sp-anonymous").is_some() {
            return Self::Anonymous;
        }
        // It goes into a header of ours, so it must look like an id of ours.
        let is_id =
            |id: &&str| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        head.cookie("sp").filter(is_id).map_or_else(|| Self::New((head.fresh_id)()), Self::Known)
    }

    fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }

    /// The browser's id, if it is known from before: a new one may never come back.
    fn known_id(&self) -> Option<&'a str> {
        match self {
            Self::Known(id) => Some(id),
            Self::New(_) | Self::Anonymous => None,
        }
    }

    fn network_id(&self) -> Option<&'a str> {
        match self {
            Self::Known(id) | Self::New(id) => Some(id),
            Self::Anonymous => None,
        }
    }
}

/// Whether a site may have chosen this path for its trackers: two segments, vendor and version, that no other protocol
/// claims. What is sent there shows by its schema whether it is Snowplow's.
fn is_own_path(head: &Head<'_>) -> bool {
    let mut segments = head.path.split('/');
    let (first, vendor, version) = (segments.next(), segments.next(), segments.next());
    let is_version = |text: &str| text.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    first == Some("")
        && vendor.is_some_and(|vendor| !vendor.is_empty() && !is_version(vendor))
        && version.is_some_and(|version| !version.is_empty())
        && segments.next().is_none()
        && !ALL.iter().any(|other| other.name() != Snowplow.name() && other.claims(head))
}
