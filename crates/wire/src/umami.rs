//! Umami: `{type, payload}` at `/api/send`, a list of them at `/api/batch`.
//!
//! - Types are `event` (a page view, unless it has a name), `identify` and `performance`.
//! - Nobody is named until `payload.id` is set, so the gateway derives a visitor; nothing has an id.
//! - Clients keep the answer's `cache` and send it back as `x-umami-cache`, sometimes empty. Umami finds its session
//!   faster by it; here it says nothing and is not read.
//!
//! # Source
//! Umami's script 3.1, `@umami/node` 0.4, and captured requests (`tests/captures/umami`).

use trackway_domain::event::{Context, EventKind};
use trackway_domain::revenue::Revenue;

use crate::draft::{Draft, Nobody};
use crate::json::{self, Members, ObjectText};
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, plain_answer};
use crate::{Item, Rejection, Understood, client_time, mended, shown};

/// Umami's trackers.
pub struct Umami;

impl Protocol for Umami {
    fn name(&self) -> &'static str {
        "umami"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        head.method == Method::Post && matches!(head.path, "/api/send" | "/api/batch")
    }

    fn recognises(&self, request: &Request<'_>) -> bool {
        request.head.path == "/api/send" || request.body.trim_ascii_start().starts_with(b"[")
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        mended::parse(&json::body_text(request.body), |text| parse(text, request.items_max))
    }

    /// Nothing is sent twice, whatever the answer; but it must be JSON.
    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let head = &request.head;
        match verdict {
            Verdict::Taken(tally) if tally.rejected.is_empty() => {
                let taken = tally.accepted + tally.nothing;
                let body = match head.path {
                    "/api/batch" => {
                        format!(r#"{{"size":{taken},"processed":{taken},"errors":0,"details":[],"cache":"{CACHE}"}}"#)
                    }
                    _ => format!(r#"{{"cache":"{CACHE}"}}"#),
                };
                Answer::json(200, body)
            }
            Verdict::Taken(_) | Verdict::Refused(_) => plain_answer(verdict),
        }
    }
}

/// What a JSON web token looks like: `{"alg":"none","typ":"JWT"}`, no claims, no signature.
const CACHE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.e30.";

fn parse(text: &str, items_max: usize) -> Result<Understood, Rejection> {
    let items = match text.as_bytes().first() {
        Some(b'[') => json::list(text, items_max)
            .ok_or(Rejection::Malformed { what: "body".into(), expected: "a JSON list of events" })?,
        Some(b'{') => vec![serde_json::from_str(text).map_err(|error| json::not_json(&error))?],
        _ => return Err(Rejection::Malformed { what: "body".into(), expected: "a JSON object or list" }),
    };
    if items.len() > items_max {
        let (value, limit) = (items.len(), items_max);
        return Err(Rejection::TooLarge { what: "batch".into(), value, unit: "events", limit });
    }
    let mut understood = Understood::default();
    for (index, raw) in items.into_iter().enumerate() {
        let (item, key) = item(raw.get(), index);
        if let Some(key) = key {
            let first = understood.write_key.get_or_insert_with(|| key.clone());
            if *first != key {
                understood.own_keys.push((index, key));
            }
        }
        understood.items.push(item);
    }
    Ok(understood)
}

/// The item of `raw`, and its write key.
fn item(raw: &str, index: usize) -> (Item, Option<String>) {
    let rejected = |what: String, expected| Item::Rejected {
        reason: Rejection::Malformed { what, expected },
        content: raw.as_bytes().to_vec(),
    };
    let mut item: Members<'_> =
        if raw.starts_with('{') { json::object(raw).unwrap_or_default() } else { Members::default() };
    let Some(payload) = item.take("payload").filter(|payload| payload.get().starts_with('{')) else {
        return (rejected("`payload`".into(), "a JSON object"), None);
    };
    let mut payload = Members::of(payload);
    // A link or a pixel of Umami's own stands for a website.
    let key = ["website", "link", "pixel"].into_iter().find_map(|name| payload.take_text(name));
    let what = item.take_text("type").unwrap_or_default();
    let name = payload.take_text("name").filter(|name| !name.is_empty());
    let kind = match &*what {
        "event" if name.is_none() => EventKind::Page,
        "event" | "performance" => EventKind::Track,
        "identify" => EventKind::Identify,
        other => {
            return (rejected(format!("type {}", shown(other)), "event, identify or performance"), key);
        }
    };
    let mut draft = Draft::new(kind, index);
    draft.name = name.unwrap_or(what);
    draft.user = payload.take_text("id");
    draft.client_time_ms = payload.get("timestamp").and_then(client_time::of_value);
    if draft.client_time_ms.is_some() {
        payload.take("timestamp");
    }
    draft.context = context(&mut payload);
    let data = payload.get("data").map(Members::of).unwrap_or_default();
    if payload.get("data").is_some_and(|data| data.get().starts_with('{')) {
        payload.take("data");
    }
    let mut out = ObjectText::from("{}", raw.len());
    if kind == EventKind::Identify {
        draft.traits = data.object_text();
    } else {
        let currency = data.text("currency").unwrap_or_default();
        draft.revenue = data.text("revenue").and_then(|amount| Revenue::parse(&amount, &currency));
        data.write(&mut out);
    }
    if draft.name == "performance" {
        let measures = ["ttfb", "fcp", "lcp", "cls", "inp", "duration"];
        // Its own data, if it has some, wins: a name must not stand twice.
        for name in measures.into_iter().filter(|name| data.get(name).is_none()) {
            if let Some(value) = payload.take(name) {
                out.raw(name, value.get());
            }
        }
    }
    let rest = if data.get("$context").is_some() { "$context_of_event" } else { "$context" };
    out.nested(rest, |out| {
        payload.write(out);
        out.nested("$event", |out| item.write(out));
    });
    draft.properties = out.finish();
    (draft.finish(Nobody::IsDerived, raw.as_bytes()), key)
}

fn context(payload: &mut Members<'_>) -> Context {
    // An address says it too, or needs it.
    let has_address = payload.get("url").is_some();
    let mut take = |name: &str| payload.take_text(name).unwrap_or_default();
    let hostname = if has_address { take("hostname") } else { String::new() };
    let screen = take("screen");
    let (width, height) = screen.split_once('x').unwrap_or_default();
    // Servers and old scripts give paths. Nobody serves the web by another scheme, and what reads addresses needs one.
    let whole = |address: String| {
        if address.starts_with('/') && !hostname.is_empty() { format!("https://{hostname}{address}") } else { address }
    };
    Context {
        url: whole(take("url")),
        referrer: whole(take("referrer")),
        title: take("title"),
        locale: take("language"),
        screen: (width.parse().unwrap_or(0), height.parse().unwrap_or(0)),
        user_agent: take("userAgent"),
        ip: take("ip"),
        library: "umami".to_owned(),
        ..Context::default()
    }
}

#[cfg(test)]
mod tests {
    use trackway_domain::event::ReceivedEvent;
    use trackway_domain::id::Visitor;

    use super::*;
    use crate::protocol::testing::with_request;
    use crate::protocol::{Refused, Tally};

    fn understood(body: &str) -> Understood {
        with_request(Method::Post, "/api/send", &[], body.as_bytes(), |request| Umami.parse(request))
            .unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    fn event(what: &str, payload: &str) -> ReceivedEvent {
        let body = format!(r#"{{"type":"{what}","payload":{{"website":"w"{payload}}}}}"#);
        let understood = understood(&body);
        assert_eq!(understood.write_key.as_deref(), Some("w"));
        match understood.items.into_iter().next() {
            Some(Item::Event { event, content }) => {
                assert_eq!(content, body.as_bytes());
                event
            }
            other => panic!("{other:?}: {body}"),
        }
    }

    #[test]
    fn an_event_without_a_name_is_a_page_view() {
        assert_eq!((event("event", "").kind, &*event("event", r#","name":"""#).name), (EventKind::Page, "page"));
        let named = event("event", r#","name":"x","data":{"a":129.90,"none":null},"tag":"t""#);
        assert_eq!((named.kind, &*named.name), (EventKind::Track, "x"));
        assert_eq!(named.properties, r#"{"a":129.90,"$context":{"tag":"t"}}"#);
        assert_eq!(named.visitor, None);
    }

    #[test]
    fn identify_gives_the_user_traits_and_needs_no_id() {
        let known = event("identify", r#","id":"u","data":{"plan":"pro"}"#);
        assert_eq!((known.kind, &known.visitor), (EventKind::Identify, &Some(Visitor::User("u".into()))));
        assert_eq!((&*known.traits, &*known.properties), (r#"{"plan":"pro"}"#, "{}"));
        assert_eq!(event("identify", r#","data":{"plan":"pro"}"#).visitor, None);
    }

    #[test]
    fn measures_of_performance_are_its_properties() {
        let measured = event("performance", r#","ttfb":41.10000000009313,"fcp":116"#);
        assert_eq!(
            (&*measured.name, &*measured.properties),
            ("performance", r#"{"ttfb":41.10000000009313,"fcp":116}"#)
        );
    }

    #[test]
    fn no_name_stands_twice_and_nothing_is_lost() {
        let body = r#"{"type":"performance","x":1,"payload":{"link":"w","lcp":2,"tag":"t","timestamp":1795360810,"hostname":"h",
            "data":{"lcp":3,"$context":4}}}"#;
        let understood = understood(body);
        let [Item::Event { event, .. }] = &understood.items[..] else { panic!("{understood:?}") };
        let rest = r#""$context_of_event":{"lcp":2,"tag":"t","hostname":"h","$event":{"x":1}}"#;
        assert_eq!(event.properties, format!(r#"{{"lcp":3,"$context":4,{rest}}}"#));
        assert_eq!(understood.write_key.as_deref(), Some("w"));
    }

    #[test]
    fn a_batch_is_known_by_being_a_list() {
        let recognised = |target: &str, body: &[u8]| {
            with_request(Method::Post, target, &[], body, |request| {
                assert!(Umami.claims(&request.head));
                Umami.recognises(request)
            })
        };
        assert!(recognised("/api/batch", b" [") && recognised("/api/send", b"{"));
        assert!(!recognised("/api/batch", b"{"));
    }

    #[test]
    fn paths_become_addresses_and_addresses_stay() {
        let urls = |payload: &str| {
            let context = event("event", payload).context;
            (context.url, context.referrer)
        };
        let paths = r#","hostname":"x.example","url":"/a?b=1","referrer":"https://y.example/""#;
        assert_eq!(urls(paths), ("https://x.example/a?b=1".into(), "https://y.example/".into()));
        assert_eq!(urls(r#","url":"/a""#), ("/a".into(), String::new()));
    }

    #[test]
    fn what_a_server_says_of_a_browser_is_taken() {
        let context = event(
            "event",
            r#","ip":"192.0.2.1","userAgent":"UA","screen":"1280x720","language":"de","title":"t","timestamp":1795360810"#,
        );
        assert_eq!(context.client_time_ms, Some(1_795_360_810_000));
        let context = context.context;
        assert_eq!((&*context.ip, &*context.user_agent, context.screen), ("192.0.2.1", "UA", (1280, 720)));
        assert_eq!((&*context.locale, &*context.title), ("de", "t"));
        assert_eq!(event("event", r#","screen":"x9999999999999""#).context.screen, (0, 0));
    }

    #[test]
    fn an_explicit_revenue_is_one() {
        let bought = event("event", r#","name":"purchase","data":{"revenue":59.97,"currency":"EUR"}"#);
        assert_eq!(bought.revenue, Revenue::parse("59.97", "EUR"));
        assert_eq!(bought.properties, r#"{"revenue":59.97,"currency":"EUR"}"#);
    }

    #[test]
    fn a_batch_is_a_list_in_which_a_bad_item_spoils_no_other() {
        let body = r#"[{"type":"event","payload":{"website":"a"}},7,{"type":"x","payload":{"website":"b"}},
            {"type":"event","payload":{"website":"b","data":[1]}}]"#;
        let understood = understood(body);
        assert_eq!(understood.own_keys, [(2, "b".to_owned()), (3, "b".to_owned())]);
        let [_, Item::Rejected { content, .. }, Item::Rejected { reason, .. }, Item::Event { event, .. }] =
            &understood.items[..]
        else {
            panic!("{understood:?}")
        };
        assert_eq!((&**content, &*reason.to_string()), (&b"7"[..], "type `x` is not event, identify or performance"));
        assert_eq!((event.sequence, &*event.properties), (3, r#"{"$context":{"data":[1]}}"#));
        for (body, expected) in [
            ("x", "body is not a JSON object or list"),
            ("[", "body is not a JSON list of events"),
            (&*format!("[{}1]", "1,".repeat(1000)), "batch is 1 001 events, limit is 1 000"),
        ] {
            let parse = |request: &Request<'_>| Umami.parse(request).expect_err("a refusal").to_string();
            assert_eq!(with_request(Method::Post, "/api/batch", &[], body.as_bytes(), parse), expected);
        }
    }

    #[test]
    fn what_was_taken_is_json_with_a_cache_and_the_rest_says_what_it_is() {
        let answer = |target: &str, verdict: &Verdict<'_>| {
            let answer = |request: &Request<'_>| Umami.answer(request, verdict);
            let answer = with_request(Method::Post, target, &[("x-umami-cache", "")], b"", answer);
            (answer.status, String::from_utf8(answer.body.into_owned()).expect("text"))
        };
        let taken = Tally { accepted: 2, ..Tally::default() };
        let cache = format!(r#""cache":"{CACHE}"}}"#);
        assert_eq!(answer("/api/send", &Verdict::Taken(&taken)), (200, format!("{{{cache}")));
        let batch = format!(r#"{{"size":2,"processed":2,"errors":0,"details":[],{cache}"#);
        assert_eq!(answer("/api/batch", &Verdict::Taken(&taken)), (200, batch));
        let rejected = vec![(0, Rejection::Missing { field: "x", hint: "" })];
        assert_eq!(answer("/api/send", &Verdict::Taken(&Tally { rejected, ..Tally::default() })).0, 400);
        let refused = Refused { status: 503, code: "c", message: String::new(), retry_after_seconds: Some(1) };
        assert_eq!(answer("/api/send", &Verdict::Refused(&refused)).0, 503);
    }
}
