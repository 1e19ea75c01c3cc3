//! Mixpanel: `/track` and `/import` (events), `/engage` (persons), `/groups`.
//!
//! - What is sent is one JSON object or a list of them: as `data` of a form or of the query, in base64 or plain, or as the
//!   body itself (`/import` takes one object a line, too). The browser's base64 holds each half of an emoji as UTF-8 of
//!   its own (CESU-8); node's is not percent-encoded, so its `+` arrives as a blank.
//! - The project is each item's `token`: items of one request may differ.
//! - The tracker's `$insert_id` is unique only beside `distinct_id` and the event's name; the browser really sends a
//!   queue twice, at unload and at the next visit.
//! - `_` of the query is when the browser sent, by its own clock.
//!
//! # Source
//! <https://developer.mixpanel.com/reference/ingestion-api>, captured requests (`tests/captures/mixpanel`), and what
//! mixpanel-browser 2.83, mixpanel (node) 0.24 and mixpanel (Python) 5.4 do with an answer.

mod item;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;

use self::item::Place;
use crate::draft::within;
use crate::json::{self, Members};
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, json_text};
use crate::{Item, Rejection, Understood, base64_loose, client_time, json_marks, pixel};

/// Mixpanel's trackers.
pub struct Mixpanel;

impl Protocol for Mixpanel {
    fn name(&self) -> &'static str {
        "mixpanel"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        Call::of_path(head.path).is_some()
    }

    /// OpenPanel has `/track` too: one JSON object without `event`, and a header with its client's id.
    fn recognises(&self, request: &Request<'_>) -> bool {
        if request.head.header("openpanel-client-id").is_some() {
            return false;
        }
        let body = json::body_text(request.body);
        match body.as_bytes().first() {
            Some(b'{') => json::object::<Members<'_>>(&body).is_ok_and(|it| it.get("event").is_some()),
            Some(b'[') => true,
            _ => data(&request.head, &body).is_some(),
        }
    }

    /// Not the user of Basic authorization: for `/import` that is a secret or a service account, not the project.
    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        head.parameter("writeKey").map(Cow::into_owned)
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let head = &request.head;
        let call = Call::of_path(head.path).expect("it was claimed");
        let body = json::body_text(request.body);
        let text = match body.as_bytes().first() {
            Some(b'{' | b'[') => body,
            _ => data(head, &body).ok_or(Rejection::Missing { field: "data", hint: "Send events in it" })?,
        };
        let text = json_text_of(text)?;
        // Python's words that JSON lacks; looking for them first is far cheaper than mending.
        let is_python = text.contains("NaN") || text.contains("Infinity");
        let text = is_python.then(|| json_marks::without_nan(&text)).flatten().map_or(text, Cow::Owned);
        let lines = head.header("content-type").is_some_and(|kind| kind.contains("ndjson"));
        let sent_at_ms = head.parameter("_").and_then(|ms| client_time::of_text(&ms));
        let mut understood = understand(call, items(&text, lines, request.items_max)?, sent_at_ms);
        if understood.write_key.is_none() {
            understood.write_key = head.basic_user();
        }
        Ok(understood)
    }

    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let head = &request.head;
        if head.parameter("img").is_some_and(|img| img == "1") {
            return pixel::image_answer(verdict);
        }
        let is_json = head.header("content-type").is_some_and(|kind| kind.contains("json"));
        if is_json && Call::of_path(head.path) == Some(Call::Import) {
            return import_answer(head, verdict);
        }
        match verdict {
            // Success whatever was rejected: Python's buffer keeps what it takes for failed, and sends it for ever.
            Verdict::Taken(tally) if is_verbose(head) => {
                let rejected = failed_records(verdict);
                let count = tally.accepted + tally.nothing;
                let counted = format!(r#""status":1,"error":null,"code":200,"num_records_imported":{count}"#);
                Answer::json(200, format!("{{{counted}{rejected}}}"))
            }
            Verdict::Taken(_) => Answer::of(200, "text/plain", b"1"),
            // The browser sends again on 429 and 5xx, and halves its batch on 413; all else it drops.
            Verdict::Refused(refused) if is_verbose(head) => {
                let message = json_text(&refused.message);
                Answer::json(refused.status, format!(r#"{{"status":0,"error":{message}}}"#))
            }
            Verdict::Refused(refused) => Answer::of(refused.status, "text/plain", b"0"),
        }
    }
}

/// What a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Track,
    Import,
    Engage,
    Groups,
}

impl Call {
    fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "/track" => Self::Track,
            "/import" => Self::Import,
            "/engage" => Self::Engage,
            "/groups" => Self::Groups,
            _ => return None,
        })
    }
}

/// `data` of the form that the body is, else of the query.
fn data<'a>(head: &Head<'_>, body: &'a str) -> Option<Cow<'a, str>> {
    let mut pairs = form_urlencoded::parse(body.as_bytes());
    let in_body = pairs.find(|(name, value)| name == "data" && !value.is_empty()).map(|(_, value)| value);
    in_body.or_else(|| head.parameter("data").map(|data| Cow::Owned(data.into_owned())))
}

/// The JSON that `data` is, if it is not in base64.
fn json_text_of(data: Cow<'_, str>) -> Result<Cow<'_, str>, Rejection> {
    if data.trim_start().starts_with(['{', '[']) {
        return Ok(data);
    }
    let expected = "JSON or base64 of it";
    let bytes = base64_loose::decode(&data).ok_or(Rejection::Malformed { what: "`data`".into(), expected })?;
    let bytes = match std::str::from_utf8(&bytes) {
        Ok(_) => bytes,
        Err(_) => with_whole_surrogates(&bytes),
    };
    Ok(Cow::Owned(json::body_text(&bytes).into_owned()))
}

/// The same bytes with each surrogate pair that is UTF-8 by halves (`ed a0 bd ed ba 80`) as the character it stands for.
fn with_whole_surrogates(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    while let Some(&byte) = bytes.first() {
        let taken = match bytes {
            &[0xED, a @ 0xA0..=0xAF, b @ 0x80..=0xBF, 0xED, c @ 0xB0..=0xBF, d @ 0x80..=0xBF, ..] => {
                let bits = |high: u8, low: u8| u32::from(high & 0x0F) << 6 | u32::from(low & 0x3F);
                let code = 0x1_0000 + (bits(a, b) << 10) + (bits(c, d) & 0x3FF);
                let character = char::from_u32(code).expect("a surrogate pair is a character");
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                6
            }
            _ => {
                out.push(byte);
                1
            }
        };
        bytes = &bytes[taken..];
    }
    out
}

/// The texts of the items.
fn items(text: &str, lines: bool, items_max: usize) -> Result<Vec<&str>, Rejection> {
    let items: Vec<&str> = if lines {
        text.lines().filter(|line| !line.trim().is_empty()).take(items_max.saturating_add(1)).collect()
    } else if text.starts_with('[') {
        let list = json::list(text, items_max);
        let list = list.ok_or(Rejection::Malformed { what: "`data`".into(), expected: "a JSON list" })?;
        list.into_iter().map(serde_json::value::RawValue::get).collect()
    } else {
        vec![text]
    };
    within(|| "request".to_owned(), items.len(), "items", items_max)?;
    Ok(items)
}

fn understand(call: Call, items: Vec<&str>, sent_at_ms: Option<i64>) -> Understood {
    let mut understood = Understood::default();
    for (index, raw) in items.into_iter().enumerate() {
        let Some(members) = json::object::<Members<'_>>(raw).ok().filter(|_| raw.trim_start().starts_with('{')) else {
            let reason = Rejection::Malformed { what: "item".into(), expected: "a JSON object" };
            understood.items.push(Item::Rejected { reason, content: raw.as_bytes().to_vec() });
            continue;
        };
        let (token, item) = item::understand(call, members, Place { index, sent_at_ms, raw });
        match (token, &understood.write_key) {
            (Some(token), None) => understood.write_key = Some(token),
            (Some(token), Some(first)) if token != *first => understood.own_keys.push((index, token)),
            _ => {}
        }
        understood.items.push(item);
    }
    understood
}

/// Whether the sender expects JSON rather than `1`. It says so in the query, or (Python, Ruby) in its form; the form is
/// gone when the answer is made, so these two are known by name.
fn is_verbose(head: &Head<'_>) -> bool {
    match head.parameter("verbose") {
        Some(verbose) => verbose == "1",
        None => {
            let agent = head.header("user-agent").unwrap_or_default();
            head.method == Method::Post && (agent.starts_with("python-requests/") || agent.starts_with("Ruby"))
        }
    }
}

/// The documented answer to an import; with `strict=1` a rejected record makes it a 400, which is not sent again.
fn import_answer(head: &Head<'_>, verdict: &Verdict<'_>) -> Answer {
    match verdict {
        Verdict::Taken(tally) => {
            let failed = failed_records(verdict);
            let is_strict = head.parameter("strict").is_some_and(|strict| strict == "1");
            let imported = tally.accepted + tally.nothing;
            if failed.is_empty() || !is_strict {
                let body = format!(r#"{{"code":200,"num_records_imported":{imported},"status":"OK"{failed}}}"#);
                return Answer::json(200, body);
            }
            let error = "some data points in the request failed validation";
            let counted = format!(r#""code":400,"error":"{error}","num_records_imported":{imported}"#);
            Answer::json(400, format!(r#"{{{counted},"status":"Bad Request"{failed}}}"#))
        }
        Verdict::Refused(refused) => {
            let (code, message) = (refused.status, json_text(&refused.message));
            Answer::json(code, format!(r#"{{"code":{code},"error":{message},"status":"refused"}}"#))
        }
    }
}

/// `,"failed_records":[…]`, or nothing.
fn failed_records(verdict: &Verdict<'_>) -> String {
    let Verdict::Taken(tally) = verdict else { return String::new() };
    let mut out = String::new();
    for (index, reason) in &tally.rejected {
        out.push_str(if out.is_empty() { r#","failed_records":["# } else { "," });
        let (code, message) = (reason.code(), json_text(&reason.to_string()));
        write!(out, r#"{{"index":{index},"code":"{code}","message":{message}}}"#).expect("text grows");
    }
    if !out.is_empty() {
        out.push(']');
    }
    out
}
