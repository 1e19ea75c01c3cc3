//! Matomo's tracking API: `matomo.php` (once `piwik.php`) in any folder, with parameters in the query, in a form, in both,
//! or many hits as JSON in `{"requests":[…]}`. The site's id (`idsite`) is the write key.
//!
//! - A hit has neither an id nor, as a rule, a time: hour, minute and second of a clock without a date or zone are none. So
//!   equal hits are known by their text, of which `r` makes nearly every one unlike the next.
//! - `token_auth` is dropped wherever it stands, also from what is kept of a rejected hit.
//!
//! # Source
//! <https://developer.matomo.org/api-reference/tracking-api>, Matomo's plugin `BulkTracking` (the answer to many hits), and
//! captured requests (`tests/captures/matomo`).

mod hit;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;
use trackway_domain::limits::EVENT_BYTES_MAX;

use crate::draft::within;
use crate::json::{self, Object};
use crate::params::Params;
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, json_text, plain_answer};
use crate::{Item, Rejection, Understood, pixel};

/// Matomo's trackers.
pub struct Matomo;

impl Protocol for Matomo {
    fn name(&self) -> &'static str {
        "matomo"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        ["/matomo.php", "/piwik.php"].iter().any(|end| head.path.ends_with(end)) || head.path == "/matomo"
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let own = head.parameter("idsite").or_else(|| head.parameter("writeKey")).map(Cow::into_owned);
        own.or_else(|| head.basic_user()).or_else(|| head.header("x-write-key").map(str::to_owned))
    }

    /// Without any parameters somebody looks whether Matomo is there.
    fn aside(&self, request: &Request<'_>) -> Option<Answer> {
        let is_empty = request.head.query.is_empty() && request.body.is_empty();
        is_empty.then(|| Answer::of(200, "text/plain; charset=utf-8", b"This is the tracking API."))
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let mut understood = Understood::default();
        let head_key = self.write_key(&request.head);
        let body = json::body_text(request.body);
        if !body.starts_with('{') {
            let hit = [request.head.query, &body].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            add(&mut understood, 0, head_key.as_deref(), &hit.join("&"));
            return Ok(understood);
        }
        let many: Many<'_> = json::object(&body).map_err(|error| json::not_json(&error))?;
        let hint = "Send a list of hits in it, each as a query";
        let requests = many.requests.ok_or(Rejection::Missing { field: "requests", hint })?;
        let requests = json::list(requests.get(), request.items_max);
        let requests =
            requests.ok_or(Rejection::Malformed { what: "`requests`".into(), expected: "a list of hits" })?;
        within(|| "request".to_owned(), requests.len(), "hits", request.items_max)?;
        for (index, raw) in requests.into_iter().enumerate() {
            add(&mut understood, index, head_key.as_deref(), &query_of(raw));
        }
        Ok(understood)
    }

    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let head = &request.head;
        // The trackers' own forms say `send_image=0` in the body, and so do browsers with many hits at once.
        let is_form = head.header("content-type").is_some_and(|kind| kind.contains("form-urlencoded"));
        let is_many = head.method == Method::Post && head.parameter("idsite").is_none() && !is_form;
        let wants_image = head.method == Method::Get || head.parameter("idsite").is_some();
        let wants_image = wants_image && head.parameter("send_image").as_deref() != Some("0");
        match verdict {
            Verdict::Taken(tally) if is_many => {
                let (tracked, invalid) = (tally.accepted + tally.nothing, tally.rejected.len());
                let indices = tally.rejected.iter().map(|(index, _)| index.to_string()).collect::<Vec<_>>().join(",");
                let indices = if indices.is_empty() { indices } else { format!(r#","invalid_indices":[{indices}]"#) };
                Answer::json(200, format!(r#"{{"status":"success","tracked":{tracked},"invalid":{invalid}{indices}}}"#))
            }
            Verdict::Refused(refused) if is_many => {
                let message = json_text(&refused.message);
                let body = format!(r#"{{"status":"error","tracked":0,"invalid":0,"message":{message}}}"#);
                Answer::json(refused.status, body)
            }
            _ if wants_image => pixel::image_answer(verdict),
            Verdict::Taken(_) => Answer::of(204, "", b""),
            Verdict::Refused(_) => plain_answer(verdict),
        }
    }
}

/// Adds what a hit says.
///
/// - `head_key`: the write key that the request's head names, if it does.
fn add(understood: &mut Understood, index: usize, head_key: Option<&str>, hit: &str) {
    let hit = without_token(hit);
    let raw = hit.as_bytes();
    let params = within(|| "hit".to_owned(), raw.len(), "bytes", EVENT_BYTES_MAX).and_then(|()| Params::of_form(raw));
    let item = params.map(|mut params| {
        if let Some(key) = params.take_key("idsite", head_key, &mut understood.write_key) {
            understood.own_keys.push((index, key));
        }
        hit::understand(params, index, raw)
    });
    understood.items.push(item.unwrap_or_else(|reason| Item::Rejected { reason, content: raw.to_vec() }));
}

/// The body of many hits.
#[derive(Default)]
struct Many<'a> {
    requests: Option<&'a RawValue>,
}

impl<'a> Object<'a> for Many<'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        match &*name {
            "requests" => self.requests = Some(map.next_value()?),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// One of many hits as a query: it comes as one, as an address with one, or as an object.
fn query_of(raw: &RawValue) -> Cow<'_, str> {
    if raw.get().starts_with('{') {
        // Parameters that are too many stay as they are, and are rejected as no hit.
        return Params::of_object(raw.get()).map_or(Cow::Borrowed(raw.get()), |params| {
            Cow::Owned(form_urlencoded::Serializer::new(String::new()).extend_pairs(params.iter()).finish())
        });
    }
    let cut = |text: &str| text.find('?').map_or(0, |at| at + 1);
    match json::text(raw) {
        Some(Cow::Borrowed(text)) => Cow::Borrowed(&text[cut(text)..]),
        Some(Cow::Owned(mut text)) => {
            text.drain(..cut(&text));
            Cow::Owned(text)
        }
        None => Cow::Borrowed(raw.get()),
    }
}

/// A hit without the secret that lets its sender speak for others.
fn without_token(hit: &str) -> Cow<'_, str> {
    let is_token = |pair: &&str| form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == "token_auth");
    if !hit.split('&').any(|pair| is_token(&pair)) {
        return Cow::Borrowed(hit);
    }
    Cow::Owned(hit.split('&').filter(|pair| !is_token(pair)).collect::<Vec<_>>().join("&"))
}
