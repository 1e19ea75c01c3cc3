//! A capture: one request a line, with what the script did and what its tracker takes as success.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trackway_wire::Understood;
use trackway_wire::protocol::{self, Answer, Head, Method, Protocol, Request, Verdict};

/// One recorded request.
pub(crate) struct Entry {
    /// The whole line, for messages.
    pub line: String,
    /// `group/step`.
    pub scenario: String,
    /// `event`, `preflight`, `config`, …
    pub kind: String,
    /// What the script did in this step. Every request of a step repeats the list.
    pub actions: Vec<Value>,
    /// The ids that held then.
    pub ids: Value,
    /// When the recorder received it, ms.
    pub received_ms: i64,
    /// The recorded answer, which the tracker took as success.
    pub expected_answer: Value,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The requests of a capture, in their order.
pub(crate) fn entries(capture: &str) -> Vec<Entry> {
    capture.lines().map(Entry::of_line).collect()
}

impl Entry {
    fn of_line(line: &str) -> Self {
        let entry: Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let request = &entry["request"];
        let received: jiff::Timestamp = text(&entry["received_at"]).parse().expect("a time");
        let headers = request["headers"].as_object().expect("headers");
        Self {
            line: line.to_owned(),
            scenario: text(&entry["scenario"]),
            kind: text(&entry["kind"]),
            actions: entry["expected"]["actions"].as_array().cloned().unwrap_or_default(),
            ids: entry["expected"]["ids"].clone(),
            received_ms: received.as_millisecond(),
            expected_answer: entry["response_expected"].clone(),
            method: text(&request["method"]),
            target: text(&request["target"]),
            headers: headers.iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect(),
            body: decompressed(STANDARD.decode(request["body_b64"].as_str().unwrap_or("")).expect("base64")),
        }
    }

    /// The part of the scenario before the slash.
    pub(crate) fn group(&self) -> &str {
        self.scenario.split('/').next().expect("there is one")
    }

    /// A header of the request, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Hands the request to `then`, as the gateway would.
    pub(crate) fn with_request<T>(&self, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let head = Head {
            method: if self.method == "GET" { Method::Get } else { Method::Post },
            path: path.strip_suffix('/').unwrap_or(path),
            query,
            headers: &|name| self.header(name),
            fresh_id: &|| "00000000-0000-4000-8000-000000000001",
        };
        then(&Request { head, body: &self.body, items_max: 1000 })
    }

    /// The protocol that takes the request, and what it understands.
    pub(crate) fn understood(&self) -> (&'static str, Understood) {
        self.with_request(|request| {
            let protocol = protocol_of(request, &self.line);
            let understood = protocol.parse(request).unwrap_or_else(|error| panic!("{error}: {}", self.line));
            (protocol.name(), understood)
        })
    }

    /// The answer to the request, be it a question for settings or events that met this verdict.
    pub(crate) fn answer(&self, verdict: &Verdict<'_>) -> Answer {
        self.with_request(|request| {
            let protocol = protocol_of(request, &self.line);
            protocol.aside(request).unwrap_or_else(|| protocol.answer(request, verdict))
        })
    }
}

fn protocol_of(request: &Request<'_>, line: &str) -> &'static dyn Protocol {
    protocol::of(request).unwrap_or_else(|| panic!("no protocol claims {line}"))
}

/// Whether `own` says all that `wanted` does; scripts and trackers add members.
pub(crate) fn holds(own: &Value, wanted: &Value) -> bool {
    match (own, wanted) {
        (Value::Object(own), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| own.get(name).is_some_and(|own| holds(own, value)))
        }
        (Value::Array(own), Value::Array(wanted)) => {
            own.len() == wanted.len() && own.iter().zip(wanted).all(|(own, wanted)| holds(own, wanted))
        }
        _ => own == wanted,
    }
}

fn decompressed(sent: Vec<u8>) -> Vec<u8> {
    if !sent.starts_with(&[0x1f, 0x8b]) {
        return sent;
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut plain).expect("gzip");
    plain
}
