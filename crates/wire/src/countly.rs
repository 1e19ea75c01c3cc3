//! Countly's SDK protocol: `/i` with one request of an app in a query or a form, `/i/bulk` with many of them as JSON, and
//! the questions under `/o`. The app's key (`app_key`) is the write key.
//!
//! - One request may hold a session's beginning, duration and end, details of the user, a change of the id, and events:
//!   each becomes an item.
//! - A request says when it was made, not when it was sent: it may have waited for the next visit. So there is nothing to
//!   correct a client's clock by.
//! - An id that the app itself has set (`t=0`) is a user, one of the SDK's making a device.
//!
//! # Source
//! <https://support.count.ly/hc/en-us/articles/360037753291-SDK-development-guide>, the sources of countly-sdk-web 26.1 and
//! countly-sdk-nodejs 24.10, and captured requests (`tests/captures/countly`).

mod event;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::draft::within;
use crate::json;
use crate::params::Params;
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, json_text, plain_answer};
use crate::{Item, Rejection, Understood, json_marks};

/// Countly's SDKs.
pub struct Countly;

const ONE: &str = "/i";
const MANY: &str = "/i/bulk";

impl Protocol for Countly {
    fn name(&self) -> &'static str {
        "countly"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        matches!(head.path, ONE | MANY | "/o") || head.path.starts_with("/o/")
    }

    fn recognises(&self, request: &Request<'_>) -> bool {
        // Snowplow's pixel is at the same place, and knows no such key.
        request.head.path != ONE || request.head.method == Method::Post || request.head.parameter("app_key").is_some()
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let own = head.parameter("app_key").or_else(|| head.parameter("writeKey")).map(Cow::into_owned);
        own.or_else(|| head.basic_user()).or_else(|| head.header("x-write-key").map(str::to_owned))
    }

    /// Settings, remote configuration, surveys: there are none, and SDKs go on with their own.
    fn aside(&self, request: &Request<'_>) -> Option<Answer> {
        (!matches!(request.head.path, ONE | MANY)).then(|| Answer::of(200, "application/json", b"{}"))
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let mut understood = Understood::default();
        let head_key = self.write_key(&request.head);
        let body = json::body_text(request.body);
        let form =
            [request.head.query, &body].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("&");
        let mut params =
            if body.starts_with('{') { Params::of_object(&body)? } else { Params::of_form(form.as_bytes())? };
        if request.head.path == ONE {
            add(&mut understood, params, form.as_bytes(), head_key.as_deref(), request.items_max)?;
            return Ok(understood);
        }
        let hint = "Send a list of requests in it";
        let requests = params.take("requests").ok_or(Rejection::Missing { field: "requests", hint })?;
        let requests = with_json(&requests, |text| {
            json::list(text, request.items_max)
                .map(|list| list.into_iter().map(|raw| raw.get().to_owned()).collect::<Vec<_>>())
        });
        let requests =
            requests.ok_or(Rejection::Malformed { what: "`requests`".into(), expected: "a list of requests" })?;
        within(|| "bulk".to_owned(), requests.len(), "requests", request.items_max)?;
        for raw in requests {
            let reject = |reason| Item::Rejected { reason, content: raw.clone().into_bytes() };
            if !raw.starts_with('{') {
                let what = "item of `requests`".into();
                understood.items.push(reject(Rejection::Malformed { what, expected: "a JSON object" }));
                continue;
            }
            match Params::of_object(&raw) {
                Ok(mut own) => {
                    own.inherit(&params, &["app_key", "device_id", "t"]);
                    add(&mut understood, own, raw.as_bytes(), head_key.as_deref(), request.items_max)?;
                }
                Err(reason) => understood.items.push(reject(reason)),
            }
        }
        Ok(understood)
    }

    /// Success is 2xx with an object that has a `result`. After any other answer the SDK waits and sends the same again,
    /// without end and before all else; so only what may be taken later is answered otherwise.
    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        match verdict {
            Verdict::Taken(tally) if tally.rejected.is_empty() => {
                Answer::of(200, "application/json", br#"{"result":"Success"}"#)
            }
            Verdict::Taken(tally) => {
                let reasons = tally.rejected.iter().map(|(_, reason)| json_text(&reason.to_string()));
                let reasons = reasons.collect::<Vec<_>>().join(",");
                Answer::json(200, format!(r#"{{"result":"Success","rejected":[{reasons}]}}"#))
            }
            Verdict::Refused(refused) if refused.retry_after_seconds.is_none() => {
                let (code, message) = (refused.code, json_text(&refused.message));
                Answer::json(200, format!(r#"{{"result":"Refused","code":"{code}","message":{message}}}"#))
            }
            Verdict::Refused(_) => plain_answer(verdict),
        }
    }
}

/// Adds what one request says.
fn add(
    understood: &mut Understood,
    mut params: Params<'_>,
    raw: &[u8],
    head_key: Option<&str>,
    items_max: usize,
) -> Result<(), Rejection> {
    let first = understood.items.len();
    let own_key = params.take_key("app_key", head_key, &mut understood.write_key);
    event::understand(params, raw, &mut understood.items, items_max)?;
    within(|| "request".to_owned(), understood.items.len(), "items", items_max)?;
    if let Some(key) = own_key {
        understood.own_keys.extend((first..understood.items.len()).map(|index| (index, key.clone())));
    }
    Ok(())
}

/// Reads JSON, and once more without what only Python takes for a number.
fn with_json<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    read(text).or_else(|| read(&json_marks::without_nan(text)?))
}
