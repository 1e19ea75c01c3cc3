//! RudderStack: Segment's calls under long names, and beacons.
//!
//! Its trackers speak what [`crate::segment`] understands, and are told apart by their headers, their beacon's path or
//! their library's name, so that records say whose they are. What is different here:
//!
//! - Beacons name the write key in the query.
//! - `/sourceConfig` is the browser's question for its settings; it does nothing before the answer.
//! - An answer that says "rejected" is a 200 nonetheless: Python's tracker sends again after any other status whose body
//!   lacks `code` and `message`, which only a refusal has.
//!
//! # Source
//! Captured requests (`tests/captures/rudderstack`), and what rudder-sdk-python 2.1 and analytics-js 3.34 do with an answer.

use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, plain_answer};
use crate::segment::{self, Call};
use crate::{Rejection, Understood};

/// RudderStack's trackers.
pub struct RudderStack;

impl Protocol for RudderStack {
    fn name(&self) -> &'static str {
        "rudderstack"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        match head.method {
            Method::Get => head.path == SETTINGS,
            Method::Post => call(head.path).is_some(),
        }
    }

    fn recognises(&self, request: &Request<'_>) -> bool {
        let head = &request.head;
        head.method == Method::Get
            || head.path == BEACON
            || head.header("anonymousid").is_some()
            || head.header("sentat").is_some()
            || names_its_library(request.body)
    }

    fn aside(&self, request: &Request<'_>) -> Option<Answer> {
        let is_question = request.head.path == SETTINGS;
        is_question.then(|| Answer::of(200, "application/json", SETTINGS_ANSWER.as_bytes()))
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        match call(request.head.path) {
            Some(call) => segment::parse(call, request.body, request.items_max),
            None => Ok(Understood::default()),
        }
    }

    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let mut answer = plain_answer(verdict);
        if let Verdict::Taken(_) = verdict {
            answer.status = 200;
        }
        answer
    }
}

const BEACON: &str = "/beacon/v1/batch";

const SETTINGS: &str = "/sourceConfig";

/// No destinations beside us, and no reports about the tracker itself.
const SETTINGS_ANSWER: &str = concat!(
    r#"{"source":{"id":"trackway","name":"trackway","enabled":true,"connections":[],"destinations":[],"dataplanes":{},"#,
    r#""config":{"statsCollection":{"errors":{"enabled":false},"metrics":{"enabled":false}}}}}"#
);

fn call(path: &str) -> Option<Call> {
    if path == BEACON { Some(Call::Batch) } else { Call::of_path(path) }
}

/// Whether the first `"library"` says RudderLabs or rudder-…, as all of its trackers' do.
///
/// A stranger's property may say so too. That costs nothing but the name: both protocols read the same.
fn names_its_library(body: &[u8]) -> bool {
    // Trackers put the context first or after one event's properties; no need to search a large batch.
    const SEARCHED: usize = 16_384;
    const NAME_WITHIN: usize = 96;
    let head = &body[..body.len().min(SEARCHED)];
    let head = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).expect("it is valid up to there"),
    };
    // Hardly any body has the rarer word at all, and looking for that is many times faster.
    if !head.contains("udder") {
        return false;
    }
    let Some(at) = head.find("\"library\"") else { return false };
    let after = &head.as_bytes()[at..];
    after[..after.len().min(NAME_WITHIN)].windows(5).any(|name| name == b"udder")
}

#[cfg(test)]
mod tests {
    use trackway_domain::event::EventKind;

    use super::*;
    use crate::protocol::testing::with_request;
    use crate::protocol::{self, Refused, Tally};
    use crate::{Item, shown};

    const TRACK: &str = r#"{"event":"e","userId":"u","context":{"sessionId":1795360879787}}"#;

    fn protocol_of(target: &str, headers: &[(&str, &str)], body: &str) -> &'static str {
        with_request(Method::Post, target, headers, body.as_bytes(), |request| {
            protocol::of(request).unwrap_or_else(|| panic!("nobody takes {}", shown(target))).name()
        })
    }

    #[test]
    fn its_trackers_are_known_by_header_path_or_library() {
        assert_eq!(protocol_of("/v1/track", &[("anonymousid", "YQ==")], TRACK), "rudderstack");
        assert_eq!(protocol_of("/v1/batch", &[("sentat", "2026")], "{}"), "rudderstack");
        assert_eq!(protocol_of("/beacon/v1/batch?writeKey=k", &[], "{}"), "rudderstack");
        for library in
            [r#"{"name":"RudderLabs JavaScript SDK"}"#, r#"{"version": "2", "name": "rudder-analytics-python"}"#]
        {
            let body = format!(r#"{{"batch":[{{"context":{{"library": {library}}}}}]}}"#);
            assert_eq!(protocol_of("/v1/batch", &[], &body), "rudderstack");
        }
    }

    #[test]
    fn all_others_are_segments() {
        let far = format!(r#"{{"x":"{}","library":"rudder"}}"#, "ü".repeat(SEARCHED_BYTES));
        for body in [TRACK, "", "\"library\"", "\"library\":\"analytics.js\"", r#"{"event":"rudder bought"}"#, &far] {
            assert_eq!(protocol_of("/v1/track", &[], body), "segment", "{}", shown(body));
        }
    }

    const SEARCHED_BYTES: usize = 16_384;

    #[test]
    fn a_beacon_is_a_batch_with_its_key_in_the_query() {
        let body =
            r#"{"batch":[{"type":"track","event":"e","userId":"","anonymousId":"a","context":{"sessionId":7}}]}"#;
        let target = "/beacon/v1/batch?writeKey=wk";
        let mut items = with_request(Method::Post, target, &[], body.as_bytes(), |request| {
            assert_eq!(RudderStack.write_key(&request.head).as_deref(), Some("wk"));
            RudderStack.parse(request).expect("understood").items
        });
        let Some(Item::Event { event, .. }) = items.pop() else { panic!("an event") };
        assert_eq!((event.kind, &*event.context.session, event.user_id), (EventKind::Track, "7", None));
    }

    #[test]
    fn settings_are_what_the_browser_takes_for_valid() {
        let answer = with_request(Method::Get, "/sourceConfig/?p=npm&writeKey=wk", &[], b"", |request| {
            assert_eq!(protocol::of(request).expect("claimed").name(), "rudderstack");
            RudderStack.aside(request).expect("an answer")
        });
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let source = &body["source"];
        assert!(source["id"].is_string() && source["config"].is_object() && source["destinations"].is_array());
        assert_eq!(source["enabled"], true);
        with_request(Method::Post, "/v1/track", &[], b"", |request| assert_eq!(RudderStack.aside(request), None));
    }

    #[test]
    fn rejected_items_are_answered_with_200_and_refusals_with_code_and_message() {
        let answer = |verdict: &Verdict<'_>| {
            let answer = with_request(Method::Post, "/v1/batch", &[], b"", |it| RudderStack.answer(it, verdict));
            (answer.status, String::from_utf8(answer.body.into_owned()).expect("text"))
        };
        let reason = Rejection::Malformed { what: "item".into(), expected: "a JSON object" };
        let tally = Tally { rejected: vec![(0, reason)], ..Tally::default() };
        let (status, body) = answer(&Verdict::Taken(&tally));
        assert!(status == 200 && body.contains(r#""rejected":[{"index":0,"code":"malformed""#), "{body}");
        assert_eq!(answer(&Verdict::Taken(&Tally::default())), (200, r#"{"success":true}"#.to_owned()));
        for status in [400, 401, 413, 429, 503] {
            let refused = Refused { status, code: "x", message: "no".into(), retry_after_seconds: None };
            let body = r#"{"success":false,"code":"x","message":"no"}"#.to_owned();
            assert_eq!(answer(&Verdict::Refused(&refused)), (status, body));
        }
    }
}
