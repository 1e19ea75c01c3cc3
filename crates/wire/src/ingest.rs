//! Our own way to send events: `POST /v1/events`, in JSON or protobuf. `proto/trackway/ingest/v1/ingest.proto` is the
//! contract, and says what every field means.
//!
//! - The content type decides between protobuf and JSON, and nothing else: browsers send JSON as plain text.
//! - A list of protobuf events is taken apart before any is decoded. So a bad one spoils no other, and a body of empty
//!   events takes a handle's memory for each rather than an event's.
//! - The answer names each event that was rejected, and is a success nonetheless: there is nothing to send again.

mod from_json;
mod from_protobuf;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;

use prost::Message as _;
use trackway_domain::event::EventKind;
use trackway_domain::revenue::Revenue;

use crate::draft::Draft;
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, json_text};
use crate::{Rejection, Understood, revenue};

/// The messages, generated.
#[expect(missing_docs, clippy::all, reason = "generated; the comments stand in proto/trackway/ingest")]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/trackway.ingest.v1.rs"));
}

/// Our own protocol.
pub struct Ingest;

impl Protocol for Ingest {
    fn name(&self) -> &'static str {
        "trackway"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        head.method == Method::Post && head.path == PATH
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let given = head.basic_user().or_else(|| head.parameter("writeKey").map(Cow::into_owned));
        given.or_else(|| head.header("x-write-key").filter(|key| !key.is_empty()).map(str::to_owned))
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        match Form::of(request.head.header("content-type")) {
            Some(Form::Protobuf) => from_protobuf::parse(request.body, request.items_max),
            Some(Form::Json) | None => from_json::parse(request.body, request.items_max),
        }
    }

    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let head = &request.head;
        let asked = Form::of(head.header("accept")).or_else(|| Form::of(head.header("content-type")));
        match asked {
            Some(Form::Protobuf) => protobuf_answer(verdict),
            Some(Form::Json) | None => json_answer(verdict),
        }
    }
}

/// Where events go.
pub const PATH: &str = "/v1/events";

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
}

impl Form {
    /// The first form that a header names.
    fn of(header: Option<&str>) -> Option<Self> {
        header?.split(',').find_map(|kind| match kind.split(';').next()?.trim() {
            "application/x-protobuf" | "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        })
    }
}

fn json_answer(verdict: &Verdict<'_>) -> Answer {
    let tally = match verdict {
        Verdict::Taken(tally) => tally,
        Verdict::Refused(refused) => {
            let (code, message) = (refused.code, json_text(&refused.message));
            return Answer::json(refused.status, format!(r#"{{"code":"{code}","message":{message}}}"#));
        }
    };
    let mut body = format!(r#"{{"accepted":{},"rejected":["#, tally.accepted + tally.nothing);
    for (nth, (index, reason)) in tally.rejected.iter().enumerate() {
        let comma = if nth == 0 { "" } else { "," };
        let (code, message) = (reason.code(), json_text(&reason.to_string()));
        write!(body, r#"{comma}{{"index":{index},"code":"{code}","message":{message}}}"#).expect("text grows");
    }
    body.push_str("]}");
    Answer::json(200, body)
}

fn protobuf_answer(verdict: &Verdict<'_>) -> Answer {
    let (status, body) = match verdict {
        Verdict::Taken(tally) => {
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let rejected = tally.rejected.iter().map(|(index, reason)| pb::Rejected {
                index: number(*index),
                code: reason.code().to_owned(),
                message: reason.to_string(),
            });
            let accepted = number(tally.accepted + tally.nothing);
            (200, pb::IngestResponse { accepted, rejected: rejected.collect() }.encode_to_vec())
        }
        Verdict::Refused(refused) => {
            let refusal = pb::Refusal { code: refused.code.to_owned(), message: refused.message.clone() };
            (refused.status, refusal.encode_to_vec())
        }
    };
    Answer { status, content_type: "application/x-protobuf", body: Cow::Owned(body), headers: Vec::new() }
}

/// `properties` and `traits` as text of a JSON object. Nothing stands for the empty one.
fn object_text(what: &'static str, text: Option<&str>) -> Result<String, Rejection> {
    match text {
        None => Ok("{}".to_owned()),
        Some(text) if text.starts_with('{') => Ok(text.to_owned()),
        Some(_) => Err(Rejection::Malformed { what: format!("`{what}`"), expected: "a JSON object" }),
    }
}

/// What an event says that it earned.
fn earned(amount: Option<&str>, currency: &str) -> Result<Revenue, Rejection> {
    let amount = amount.ok_or(Rejection::Missing { field: "revenue.amount", hint: "Say how much, as in `129.90`" })?;
    let expected = "a decimal number such as 129.90";
    Revenue::parse(amount, currency).ok_or(Rejection::Malformed { what: "`revenue.amount`".into(), expected })
}

/// Completes an event, whichever form it came in.
fn complete(draft: &mut Draft) -> Result<(), Rejection> {
    if draft.kind == EventKind::Alias && draft.user.is_none() {
        let hint = "Name the id that is used from now on; `other_id` is the one before";
        return Err(Rejection::Missing { field: "user_id", hint });
    }
    if draft.kind == EventKind::Track && draft.revenue.is_none() {
        draft.revenue = revenue::of_properties(&draft.name, &draft.properties);
    }
    Ok(())
}
