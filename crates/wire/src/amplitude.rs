//! Amplitude: HTTP API V2 (`/2/httpapi`) and its batch API (`/batch`).
//!
//! - `$identify` and `$groupidentify` are events whose properties of the person or group are operations (`$set`, `$add`, …);
//!   `[Amplitude] Page Viewed` and `[Amplitude] Screen Viewed` are views. All else keeps its name.
//! - What an event earned is `revenue`, or else price times quantity; never a float.
//! - Its trackers read `code` in the body of an answer, not the status. What they are to drop must say so in their words:
//!   node and Python send any other 4xx again, ten times and more.
//!
//! # Source
//! <https://amplitude.com/docs/apis/analytics/http-v2>, captured requests (`tests/captures/amplitude`), and what
//! analytics-core 2.61 (browser and node) and amplitude-analytics 1.3 (Python) do with an answer.

mod event;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use crate::draft::within;
use crate::json::{self, Members};
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, json_text};
use crate::{Item, Rejection, Understood, client_time, json_items, mended};

/// Amplitude's trackers.
pub struct Amplitude;

impl Protocol for Amplitude {
    fn name(&self) -> &'static str {
        "amplitude"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        head.method == Method::Post && matches!(head.path, "/2/httpapi" | "/batch")
    }

    /// `/batch` is PostHog's too, with `batch` where `events` stands here, and Universal Analytics', which sends no JSON.
    fn recognises(&self, request: &Request<'_>) -> bool {
        let body = json::body_text(request.body);
        match json::object::<Members<'_>>(&body) {
            Ok(body) => body.get("events").is_some(),
            // Python's NaN is no JSON, and mended only once it is clear whose it is.
            Err(_) => body.starts_with('{') && body.contains("\"events\""),
        }
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        mended::parse(&json::body_text(request.body), |text| parse(text, request.items_max))
    }

    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let tally = match verdict {
            Verdict::Taken(tally) => tally,
            Verdict::Refused(refused) => {
                let keep = refused.retry_after_seconds.is_some();
                return match refused.status {
                    // Sent again later; or in halves, until what is too large stands alone and is dropped.
                    code if keep || code == 413 => refusal(code, &refused.message, ""),
                    401 | 403 => refusal(400, &format!("Invalid API key: {}", refused.message), ""),
                    _ => refusal(400, &refused.message, r#","missing_field":"events""#),
                };
            }
        };
        let ingested = tally.accepted + tally.nothing;
        let mut body = format!(r#"{{"code":200,"events_ingested":{ingested}"#);
        for (nth, (index, reason)) in tally.rejected.iter().enumerate() {
            body.push_str(if nth == 0 { r#","rejected":["# } else { "," });
            let (code, message) = (reason.code(), json_text(&reason.to_string()));
            write!(body, r#"{{"index":{index},"code":"{code}","message":{message}}}"#).expect("text grows");
        }
        body.push_str(if tally.rejected.is_empty() { "}" } else { "]}" });
        Answer::json(200, body)
    }
}

/// The status is the code, since apps' trackers go by it.
fn refusal(code: u16, error: &str, more: &str) -> Answer {
    Answer::json(code, format!(r#"{{"code":{code},"error":{}{more}}}"#, json_text(error)))
}

fn parse(text: &str, items_max: usize) -> Result<Understood, Rejection> {
    if !text.starts_with('{') {
        return Err(Rejection::Malformed { what: "body".into(), expected: "a JSON object" });
    }
    let mut understood = Understood::default();
    let (mut count, mut sent_at_ms) = (0, None);
    let has_events = json_items::read(
        text,
        "events",
        |raw, event| {
            count += 1;
            if count <= items_max {
                understood.items.push(item(raw, event, count - 1));
            }
        },
        |name, value| match name {
            "api_key" => understood.write_key = json::text(value).map(Into::into),
            "client_upload_time" => sent_at_ms = client_time::of_value(value),
            _ => {}
        },
    )?;
    if !has_events {
        return Err(Rejection::Missing { field: "events", hint: "Send a list of events in it" });
    }
    within(|| "`events`".to_owned(), count, "items", items_max)?;
    for item in &mut understood.items {
        if let Item::Event { event, .. } = item {
            event.sent_at_ms = sent_at_ms;
        }
    }
    Ok(understood)
}

fn item(raw: &str, event: Option<Members<'_>>, index: usize) -> Item {
    match event {
        Some(event) => event::understand(event, raw, index),
        None => {
            let reason = Rejection::Malformed { what: "item of `events`".into(), expected: "a JSON object" };
            Item::Rejected { reason, content: raw.as_bytes().to_vec() }
        }
    }
}
