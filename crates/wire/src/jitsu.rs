//! Jitsu: Segment's calls at `/api/s/<type>` from browsers and `/api/s/s2s/<type>` from servers.
//!
//! The write key is the whole of the header `X-Write-Key` (`id:secret`). The body repeats it masked (`id:***`), which is no
//! key.
//!
//! # Source
//! `@jitsu/js` 1.11, and captured requests (`tests/captures/jitsu`).

use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, plain_answer};
use crate::segment::{self, Call};
use crate::{Rejection, Understood};

/// Jitsu's trackers.
pub struct Jitsu;

impl Protocol for Jitsu {
    fn name(&self) -> &'static str {
        "jitsu"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        head.method == Method::Post && call(head.path).is_some()
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let general = || head.basic_user().or_else(|| head.parameter("writeKey").map(Into::into));
        head.header("x-write-key").map(str::trim).filter(|key| !key.is_empty()).map(Into::into).or_else(general)
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let call = call(request.head.path).expect("it was claimed");
        let mut understood = segment::parse(call, request.body, request.items_max)?;
        understood.write_key = understood.write_key.filter(|key| !key.ends_with(":***"));
        Ok(understood)
    }

    /// The tracker sends nothing twice, whatever the answer.
    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        match verdict {
            Verdict::Taken(tally) if tally.rejected.is_empty() => {
                Answer::of(200, "application/json", br#"{"ok":true}"#)
            }
            Verdict::Taken(_) | Verdict::Refused(_) => plain_answer(verdict),
        }
    }
}

/// The call that a path names.
fn call(path: &str) -> Option<Call> {
    let name = path.strip_prefix("/api/s/")?;
    let name = name.strip_prefix("s2s/").unwrap_or(name);
    Call::of_path(&format!("/v1/{name}"))
}

#[cfg(test)]
mod tests {
    use trackway_domain::event::EventKind;

    use super::*;
    use crate::Item;
    use crate::protocol::testing::with_request;
    use crate::protocol::{Refused, Tally};

    #[test]
    fn browsers_and_servers_make_segments_calls() {
        for path in ["/api/s/track", "/api/s/s2s/track"] {
            assert_eq!(call(path), Some(Call::One(EventKind::Track)), "{path}");
        }
        assert_eq!(call("/api/s/batch"), Some(Call::Batch));
        for path in ["/api/s/", "/api/s/x", "/api/s/s2s/s2s/track", "/v1/track"] {
            assert_eq!(call(path), None, "{path}");
        }
    }

    #[test]
    fn the_key_is_the_whole_header_and_never_the_masked_one() {
        let keys = |target: &str, headers: &[(&str, &str)], key: &str| {
            let body = format!(r#"{{"event":"e","userId":"u","writeKey":"{key}"}}"#);
            with_request(Method::Post, target, headers, body.as_bytes(), |request| {
                let understood = Jitsu.parse(request).expect("a call");
                assert!(matches!(&understood.items[..], [Item::Event { .. }]));
                (Jitsu.write_key(&request.head), understood.write_key)
            })
        };
        let both = keys("/api/s/track", &[("x-write-key", "id:secret")], "id:***");
        assert_eq!(both, (Some("id:secret".into()), None));
        assert_eq!(keys("/api/s/track?writeKey=q", &[], "id:***"), (Some("q".into()), None));
        assert_eq!(keys("/api/s/track", &[("x-write-key", " ")], "b"), (None, Some("b".into())));
    }

    #[test]
    fn what_was_taken_is_ok_and_the_rest_says_what_it_is() {
        let status = |verdict: &Verdict<'_>| {
            with_request(Method::Post, "/api/s/track", &[], b"", |request| Jitsu.answer(request, verdict).status)
        };
        let rejected = vec![(0, Rejection::Missing { field: "event", hint: "" })];
        assert_eq!(status(&Verdict::Taken(&Tally { accepted: 1, ..Tally::default() })), 200);
        assert_eq!(status(&Verdict::Taken(&Tally { rejected, ..Tally::default() })), 400);
        let refused = Refused { status: 503, code: "c", message: String::new(), retry_after_seconds: Some(1) };
        assert_eq!(status(&Verdict::Refused(&refused)), 503);
    }
}
