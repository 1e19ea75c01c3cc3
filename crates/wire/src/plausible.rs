//! Plausible: one event a request at `/api/event`, in the letters of its scripts or the words of its events API.
//!
//! - Nobody is named, so the gateway derives a visitor; nothing has an id or a time.
//! - Properties are an object, in old scripts the text of one.
//! - A site that reports to several domains (`a.example,b.example`) is one event for each, each with its own write key.
//!
//! # Source
//! npm packages `plausible-analytics-tracker` 0.4 and `plausible-tracker` 0.3, the events API's reference, and captured
//! requests (`tests/captures/plausible`).

use serde_json::value::RawValue;
use trackway_domain::event::{Context, EventKind};
use trackway_domain::revenue::Revenue;

use crate::draft::{Draft, Nobody};
use crate::json::{self, Members, ObjectText};
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, plain_answer};
use crate::{Item, Rejection, Understood, mended};

/// Plausible's scripts.
pub struct Plausible;

impl Protocol for Plausible {
    fn name(&self) -> &'static str {
        "plausible"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        head.method == Method::Post && head.path == "/api/event"
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        mended::parse(&json::body_text(request.body), parse)
    }

    /// The scripts send nothing twice, whatever the answer; the status is for people.
    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        match verdict {
            Verdict::Taken(tally) if tally.rejected.is_empty() => Answer::of(202, "text/plain", b"ok"),
            Verdict::Taken(_) | Verdict::Refused(_) => plain_answer(verdict),
        }
    }
}

/// Domains of one event. Each is an event that carries the whole request, so it must not be many; a site reports to itself
/// and to a roll-up.
const DOMAINS_MAX: usize = 10;

fn parse(text: &str) -> Result<Understood, Rejection> {
    if !text.starts_with('{') {
        return Err(Rejection::Malformed { what: "body".into(), expected: "a JSON object" });
    }
    let mut body: Members<'_> = json::object(text).map_err(|error| json::not_json(&error))?;
    let domains = either(&mut body, "d", "domain").unwrap_or_default();
    let domains: Vec<&str> = domains.split(',').map(str::trim).filter(|domain| !domain.is_empty()).collect();
    if domains.len() > DOMAINS_MAX {
        let (value, limit) = (domains.len(), DOMAINS_MAX);
        return Err(Rejection::TooLarge { what: "domain".into(), value, unit: "names", limit });
    }
    let count = domains.len().max(1);
    let mut domains = domains.into_iter().map(str::to_owned);
    let mut understood = Understood { write_key: domains.next(), ..Understood::default() };
    understood.own_keys = (1..).zip(domains).collect();
    let item = draft(body).finish(Nobody::IsDerived, text.as_bytes());
    understood.items = (1..count).map(|_| same(&item)).collect();
    understood.items.push(item);
    Ok(understood)
}

/// The same item for another domain.
fn same(item: &Item) -> Item {
    match item {
        Item::Event { event, content } => Item::Event { event: event.clone(), content: content.clone() },
        Item::Rejected { reason, content } => Item::Rejected { reason: reason.clone(), content: content.clone() },
        Item::Nothing => Item::Nothing,
    }
}

fn draft(mut body: Members<'_>) -> Draft {
    let name = either(&mut body, "n", "name").unwrap_or_default();
    let kind = if name == "pageview" { EventKind::Page } else { EventKind::Track };
    let mut draft = Draft::new(kind, 0);
    draft.name = name;
    let version = body.take_text("v").unwrap_or_default();
    draft.context = Context {
        url: either(&mut body, "u", "url").unwrap_or_default(),
        referrer: either(&mut body, "r", "referrer").unwrap_or_default(),
        // Old scripts say how wide the window is, for the kind of device.
        screen: (body.take_text("w").and_then(|width| width.parse().ok()).unwrap_or(0), 0),
        library: if version.is_empty() { String::new() } else { "plausible".to_owned() },
        library_version: version,
        ..Context::default()
    };
    let revenue = ["$", "revenue"].into_iter().find_map(|name| body.get(name));
    draft.revenue = revenue.and_then(|value| {
        let text = object_text(value)?;
        let members: Members<'_> = json::object(&text).ok()?;
        let currency = members.text("currency").unwrap_or_default();
        Revenue::parse(&members.text("amount")?, &currency)
    });
    let properties = ["p", "props", "m", "meta"].into_iter().find_map(|name| {
        let text = object_text(body.get(name)?)?;
        // Old scripts' text is not yet known to be JSON.
        let text = json::object::<Members<'_>>(&text).ok()?.object_text();
        body.take(name);
        Some(text)
    });
    let mut out = ObjectText::from(properties.as_deref().unwrap_or("{}"), 256);
    let is_taken = properties.is_some_and(|properties| properties.contains(r#""$context":"#));
    out.nested(if is_taken { "$context_of_event" } else { "$context" }, |out| body.write(out));
    draft.properties = out.finish();
    draft
}

/// A member by its letter or its word.
fn either(body: &mut Members<'_>, letter: &str, word: &str) -> Option<String> {
    body.take_text(letter).or_else(|| body.take_text(word))
}

/// The text of an object, given as such or within a string.
fn object_text(value: &RawValue) -> Option<String> {
    if value.get().starts_with('{') {
        return Some(value.get().to_owned());
    }
    let text = json::text(value)?;
    let text = text.trim();
    text.starts_with('{').then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use trackway_domain::event::ReceivedEvent;

    use super::*;
    use crate::protocol::testing::with_request;
    use crate::protocol::{Refused, Tally};

    fn understood(body: &str) -> Understood {
        with_request(Method::Post, "/api/event", &[], body.as_bytes(), |request| Plausible.parse(request))
            .unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    fn event(body: &str) -> ReceivedEvent {
        match understood(body).items.remove(0) {
            Item::Event { event, content } => {
                assert_eq!(content, body.as_bytes());
                event
            }
            other => panic!("{other:?}: {body}"),
        }
    }

    #[test]
    fn letters_words_and_old_scripts_say_the_same() {
        let check = |body: &str, context: &str| {
            let event = event(body);
            assert_eq!((event.kind, &*event.name, &event.visitor), (EventKind::Track, "Buy", &None));
            assert_eq!((&*event.context.url, &*event.context.referrer), ("https://x.example/", "https://y.example/"));
            assert_eq!(event.revenue, Revenue::parse("129.90", "EUR"));
            assert_eq!(event.properties, format!(r#"{{"big":9007199254740993,"$context":{{{context}}}}}"#));
            event.context
        };
        let letters = r#"{"n":"Buy","d":"a","u":"https://x.example/","r":"https://y.example/","v":36,"i":false,
            "p":{"big":9007199254740993,"none":null},"$":{"amount":129.90,"currency":"EUR"}}"#;
        let context = check(letters, r#""i":false,"$":{"amount":129.90,"currency":"EUR"}"#);
        assert_eq!((&*context.library, &*context.library_version), ("plausible", "36"));
        let words = r#"{"name":"Buy","domain":"a","url":"https://x.example/","referrer":"https://y.example/",
            "props":{"big":9007199254740993},"revenue":{"amount":"129.90","currency":"EUR"}}"#;
        let context = check(words, r#""revenue":{"amount":"129.90","currency":"EUR"}"#);
        assert_eq!(context.library, "", "a server's call is no script's");
        let old = r#"{"n":"Buy","d":"a","u":"https://x.example/","r":"https://y.example/","w":1280,
            "p":"{\"big\":9007199254740993}","$":"{\"amount\":129.90,\"currency\":\"EUR\"}"}"#;
        let context = check(old, r#""$":"{\"amount\":129.90,\"currency\":\"EUR\"}""#);
        assert_eq!(context.screen, (1280, 0));
    }

    #[test]
    fn a_page_view_is_a_page_and_engagement_keeps_its_name() {
        let event_of = |name: &str| event(&format!(r#"{{"n":"{name}","d":"a","sd":100,"e":4354}}"#));
        assert_eq!((event_of("pageview").kind, &*event_of("pageview").name), (EventKind::Page, "page"));
        let engagement = event_of("engagement");
        assert_eq!((engagement.kind, &*engagement.name), (EventKind::Track, "engagement"));
        assert_eq!(engagement.properties, r#"{"$context":{"sd":100,"e":4354}}"#);
    }

    #[test]
    fn several_domains_get_an_event_each() {
        let understood = understood(r#"{"n":"x","d":"a.example, b.example,c.example"}"#);
        assert_eq!((understood.items.len(), understood.write_key.as_deref()), (3, Some("a.example")));
        assert_eq!(understood.own_keys, [(1, "b.example".to_owned()), (2, "c.example".to_owned())]);
        let many = format!(r#"{{"n":"x","d":"{}"}}"#, "a,".repeat(11));
        let refused =
            with_request(Method::Post, "/api/event", &[], many.as_bytes(), |request| Plausible.parse(request));
        assert_eq!(refused.expect_err("too many").to_string(), "domain is 11 names, limit is 10");
    }

    #[test]
    fn what_is_no_object_is_kept_as_it_is() {
        assert_eq!(event(r#"{"n":"x","p":"{broken"}"#).properties, r#"{"$context":{"p":"{broken"}}"#);
        assert_eq!(event(r#"{"n":"x","p":[1],"$":7}"#).properties, r#"{"$context":{"p":[1],"$":7}}"#);
        let twice = event(r#"{"n":"x","p":{"$context":1},"h":1}"#);
        assert_eq!(twice.properties, r#"{"$context":1,"$context_of_event":{"h":1}}"#);
        assert!(matches!(&understood(r#"{"d":"a"}"#).items[..], [Item::Rejected { .. }]));
    }

    #[test]
    fn bodies_that_are_no_object_are_refused() {
        for (body, expected) in [
            ("", "body is not a JSON object"),
            ("[]", "body is not a JSON object"),
            ("{", "body at line 1 column 1 is not valid JSON"),
        ] {
            let parse = |request: &Request<'_>| Plausible.parse(request).expect_err("a refusal").to_string();
            assert_eq!(with_request(Method::Post, "/api/event", &[], body.as_bytes(), parse), expected);
        }
    }

    #[test]
    fn what_was_taken_is_202_and_the_rest_says_what_it_is() {
        let status = |verdict: &Verdict<'_>| {
            with_request(Method::Post, "/api/event", &[], b"", |request| Plausible.answer(request, verdict).status)
        };
        let rejected = vec![(0, Rejection::Missing { field: "event", hint: "" })];
        assert_eq!(status(&Verdict::Taken(&Tally { accepted: 1, ..Tally::default() })), 202);
        assert_eq!(status(&Verdict::Taken(&Tally { rejected, ..Tally::default() })), 400);
        let refused = Refused { status: 503, code: "c", message: String::new(), retry_after_seconds: Some(1) };
        assert_eq!(status(&Verdict::Refused(&refused)), 503);
    }
}
