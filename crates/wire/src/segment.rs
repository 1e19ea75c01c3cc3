//! Segment's HTTP tracking API: `/v1/track` and its sisters, `/v1/batch`, the short names of the browser tracker, and
//! `/v1/pixel/track` and its sisters for images.
//!
//! RudderStack's trackers speak it too (`originalTimestamp`, traits within the context; [`crate::rudderstack`]). What we
//! add and document is `context.sequence`: a counter that orders events of one visitor at one time, for back-fills.
//!
//! - An item loses nothing: members without a field of their own go into properties as `$context`, those beside the
//!   context as `$context.$event`. Only `integrations` and `_metadata` (how Segment routes) and write keys are dropped.
//! - Text that is not UTF-8, half an emoji and Python's `NaN` cost a character or a value, never the batch.
//! - Bodies are read borrowed and without recursion; properties keep their text, so numbers keep their digits.
//!
//! # Source
//! <https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/>, and captured requests
//! (`tests/captures/segment`).

mod consent;
mod event;
mod fields;
mod settings;
#[cfg(test)]
mod tests;

use serde_json::value::RawValue;
use trackway_domain::event::EventKind;
use trackway_domain::limits::EVENT_BYTES_MAX;

use self::event::Place;
use self::fields::{ContextFields, Fields};
use crate::draft::within;
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, plain_answer};
use crate::{Grouped, Item, Rejection, Understood, base64_loose, client_time, json, json_items, mended, pixel};

/// Segment's trackers.
pub struct Segment;

impl Protocol for Segment {
    fn name(&self) -> &'static str {
        "segment"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        let takes_events = match head.method {
            Method::Get => pixel_call(head.path).is_some(),
            Method::Post => Call::of_path(head.path).is_some(),
        };
        takes_events || settings::claims(head)
    }

    fn aside(&self, request: &Request<'_>) -> Option<Answer> {
        settings::answer(&request.head)
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let head = &request.head;
        if let Some(call) = pixel_call(head.path) {
            let hint = "Put the call into it, as base64 of JSON";
            let data = head.parameter("data").ok_or(Rejection::Missing { field: "data", hint })?;
            let expected = "base64 of JSON";
            let body = base64_loose::decode(&data).ok_or(Rejection::Malformed { what: "`data`".into(), expected })?;
            return parse(call, &body, request.items_max);
        }
        match Call::of_path(head.path) {
            Some(call) => parse(call, request.body, request.items_max),
            None => Ok(Understood::default()),
        }
    }

    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let head = &request.head;
        if pixel_call(head.path).is_some() { pixel::image_answer(verdict) } else { plain_answer(verdict) }
    }
}

/// The call of a pixel, whose `data` is the body: `/v1/pixel/track`.
fn pixel_call(path: &str) -> Option<Call> {
    let call = path.strip_prefix("/v1/pixel/")?;
    Call::of_name(call).filter(|call| *call != Call::Batch)
}

/// What a path of the API takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// One event of this kind.
    One(EventKind),
    /// Any number of events of any kind.
    Batch,
}

impl Call {
    /// The call that `path` names, if it is one of Segment's.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::of_name(path.strip_prefix("/v1/")?)
    }

    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "track" | "t" => Self::One(EventKind::Track),
            "page" | "p" => Self::One(EventKind::Page),
            "screen" | "s" => Self::One(EventKind::Screen),
            "identify" | "i" => Self::One(EventKind::Identify),
            "group" | "g" => Self::One(EventKind::Group),
            "alias" | "a" => Self::One(EventKind::Alias),
            "batch" | "b" | "import" => Self::Batch,
            _ => return None,
        })
    }
}

/// Understands a body.
///
/// - `body`: JSON, decompressed; its content type says nothing (browsers send `text/plain`).
/// - `events_max`: items of a batch at most, from the gateway's config.
///
/// # Errors
/// [`Rejection`] if the body as a whole is not understood; then none of its events is.
pub fn parse(call: Call, body: &[u8], events_max: usize) -> Result<Understood, Rejection> {
    // A broken character is not worth a batch.
    let text = json::body_text(body);
    mended::parse(&text, |text| parse_text(call, text, events_max))
}

fn parse_text(call: Call, text: &str, events_max: usize) -> Result<Understood, Rejection> {
    if text.is_empty() {
        return Err(Rejection::Malformed { what: "empty body".into(), expected: "a JSON object" });
    }
    if !text.starts_with('{') {
        return Err(Rejection::Malformed { what: "body".into(), expected: "a JSON object" });
    }
    match call {
        Call::One(kind) => {
            let fields: Fields<'_> = json::object(text).map_err(|error| json::not_json(&error))?;
            let write_key = key(fields.write_key);
            let place = Place { kind: Some(kind), index: 0, outer: None, bytes: text.len() };
            Ok(Understood { write_key, items: vec![item(fields, &place, text)], ..Understood::default() })
        }
        Call::Batch => {
            let mut batch = batch(text, events_max, None)?;
            // Hardly any tracker sends one. It may stand behind the items, so they are read once more.
            if let Some(context) = batch.context {
                let (each, count) = (context.get().len(), batch.count.min(events_max));
                within(|| "context of the batch".to_owned(), each, "bytes", EVENT_BYTES_MAX)?;
                // Each event has a copy of it, so that a small body could become very large.
                let all = each.saturating_mul(count);
                within(
                    || format!("context of the batch, for {} events,", Grouped(count)),
                    all,
                    "bytes",
                    CONTEXTS_BYTES_MAX,
                )?;
                batch = self::batch(text, events_max, json::object(context.get()).ok().as_ref())?;
            }
            let hint = "Send a list of events in it";
            let mut items = batch.items.ok_or(Rejection::Missing { field: "batch", hint })?;
            within(|| "batch".to_owned(), batch.count, "events", events_max)?;
            let sent_at_ms = batch.sent_at.and_then(client_time::of_value);
            for item in &mut items {
                if let Item::Event { event, .. } = item {
                    event.sent_at_ms = event.sent_at_ms.or(sent_at_ms);
                }
            }
            Ok(Understood { write_key: key(batch.write_key), items, ..Understood::default() })
        }
    }
}

/// Bytes that the context of a batch takes at most in all its events together: what a record of the log takes.
const CONTEXTS_BYTES_MAX: usize = 16 << 20;

/// A batch, its items made into what they became.
#[derive(Default)]
struct Batch<'a> {
    /// The first ones, as many as were asked for; `None` if there is no list.
    items: Option<Vec<Item>>,
    /// How many there are in all.
    count: usize,
    write_key: Option<&'a RawValue>,
    sent_at: Option<&'a RawValue>,
    context: Option<&'a RawValue>,
}

/// - `outer`: stands for what an item's own context leaves out.
fn batch<'a>(text: &'a str, events_max: usize, outer: Option<&ContextFields<'a>>) -> Result<Batch<'a>, Rejection> {
    let mut batch = Batch::default();
    // Items are large, and moving them each time that there is no room for the next costs more than room for too many.
    let (mut items, mut count) = (Vec::with_capacity((text.len() / ITEM_BYTES).min(events_max)), 0);
    let has_list = json_items::read(
        text,
        "batch",
        |raw, fields| {
            count += 1;
            if count <= events_max {
                items.push(batch_item(raw, fields, items.len(), outer));
            }
        },
        |name, value| match name {
            "writeKey" => batch.write_key = Some(value),
            "sentAt" => batch.sent_at = Some(value),
            "context" => batch.context = Some(value),
            _ => {}
        },
    )?;
    Ok(Batch { items: has_list.then_some(items), count, ..batch })
}

/// Fewer than a tracker's item has.
const ITEM_BYTES: usize = 512;

fn batch_item<'a>(raw: &'a str, fields: Option<Fields<'a>>, index: usize, outer: Option<&ContextFields<'a>>) -> Item {
    let Some(fields) = fields else {
        let reason = Rejection::Malformed { what: "item of the batch".into(), expected: "a JSON object" };
        return Item::Rejected { reason, content: raw.as_bytes().to_vec() };
    };
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    item(fields, &Place { kind: None, index, outer, bytes: raw.len() }, raw)
}

fn item(fields: Fields<'_>, place: &Place<'_>, raw: &str) -> Item {
    match event::understand(fields, place) {
        Ok(Some(event)) => {
            let content = if event.id.is_none() { raw.as_bytes().to_vec() } else { Vec::new() };
            Item::Event { event, content }
        }
        Ok(None) => Item::Nothing,
        Err(reason) => Item::Rejected { reason, content: raw.as_bytes().to_vec() },
    }
}

fn key(value: Option<&RawValue>) -> Option<String> {
    json::text(value?).map(Into::into)
}
