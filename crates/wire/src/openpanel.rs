//! OpenPanel: one call a request at `/track`, as `{type, payload}`.
//!
//! - Types are `track`, `identify`, `group`, `assign_group`, `increment`, `decrement` and `alias`; recordings (`replay`) are
//!   taken and dropped, since they are no events.
//! - Nobody is named until there is a `profileId`, so the gateway derives a visitor. Nothing has an id, so whatever is sent
//!   again counts again: only 200 and 202 are taken as success, and only 401 as never.
//! - What the tracker itself adds to the properties begins with `__`.
//!
//! # Source
//! `@openpanel/sdk` 1.3, `@openpanel/web` 1.4, and captured requests (`tests/captures/openpanel`).

use serde_json::value::RawValue;
use trackway_domain::event::{Context, EventKind};
use trackway_domain::revenue::Revenue;

use crate::draft::{Draft, Nobody};
use crate::json::{self, Members, ObjectText};
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, json_text, plain_answer};
use crate::{Item, Rejection, Understood, client_time, json_union, mended, shown};

/// OpenPanel's trackers.
pub struct OpenPanel;

impl Protocol for OpenPanel {
    fn name(&self) -> &'static str {
        "openpanel"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        // Who runs OpenPanel alone has it below `/api`.
        head.method == Method::Post && matches!(head.path, "/track" | "/api/track")
    }

    fn recognises(&self, request: &Request<'_>) -> bool {
        request.head.header(CLIENT_ID).is_some()
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let general = || head.basic_user().or_else(|| head.parameter("writeKey").map(Into::into));
        head.header(CLIENT_ID).map(Into::into).or_else(general)
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        mended::parse(&json::body_text(request.body), |text| parse(text, request))
    }

    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let head = &request.head;
        let refused = match verdict {
            Verdict::Taken(_) => {
                // The tracker shows both to the app; it never sends them by itself.
                let id = json_text((head.fresh_id)());
                return Answer::json(200, format!(r#"{{"deviceId":{id},"sessionId":{id}}}"#));
            }
            Verdict::Refused(refused) => refused,
        };
        let status = if refused.retry_after_seconds.is_some() { 503 } else { 401 };
        Answer { status, ..plain_answer(verdict) }
    }
}

const CLIENT_ID: &str = "openpanel-client-id";

/// Groups that one call can join a profile to. Each is an event that carries the whole call, so it must not be many; real
/// profiles belong to a handful.
const GROUPS_MAX: usize = 100;

fn parse(text: &str, request: &Request<'_>) -> Result<Understood, Rejection> {
    if !text.starts_with('{') {
        return Err(Rejection::Malformed { what: "body".into(), expected: "a JSON object" });
    }
    let mut body: Members<'_> = json::object(text).map_err(|error| json::not_json(&error))?;
    let call = Call {
        context: Context {
            library: request.head.header("openpanel-sdk-name").unwrap_or_default().to_owned(),
            library_version: request.head.header("openpanel-sdk-version").unwrap_or_default().to_owned(),
            ..Context::default()
        },
        what: body.take_text("type").unwrap_or_default(),
        payload: body.take_members("payload"),
        text,
    };
    Ok(Understood { items: call.items()?, ..Understood::default() })
}

/// One call of the tracker.
struct Call<'a> {
    /// What the head says of the tracker.
    context: Context,
    what: String,
    payload: Members<'a>,
    /// The whole body.
    text: &'a str,
}

impl<'a> Call<'a> {
    fn items(self) -> Result<Vec<Item>, Rejection> {
        let text = self.text;
        let draft = match &*self.what {
            "track" => self.track(),
            "identify" => self.identify(),
            "group" => self.group(),
            "alias" => self.alias(),
            "increment" | "decrement" => self.count(),
            "assign_group" => return self.groups(),
            "replay" => return Ok(vec![Item::Nothing]),
            other => {
                let what = format!("type {}", shown(other));
                let expected = "track, identify, group, assign_group, increment, decrement or alias";
                let reason = Rejection::Malformed { what, expected };
                return Ok(vec![Item::Rejected { reason, content: text.as_bytes().to_vec() }]);
            }
        };
        Ok(vec![draft.finish(Nobody::IsDerived, text.as_bytes())])
    }

    fn draft(&mut self, kind: EventKind, index: usize) -> Draft {
        let mut draft = Draft::new(kind, index);
        draft.context = self.context.clone();
        draft.user = self.payload.take_text("profileId");
        draft
    }

    fn track(mut self) -> Draft {
        let name = self.payload.take_text("name").unwrap_or_default();
        let mut properties = properties(&mut self.payload);
        let place = properties.take_text("__path").unwrap_or_default();
        let kind = match &*name {
            // Browsers name a page by its address, apps a screen by its route.
            "screen_view" if place.contains("://") => EventKind::Page,
            "screen_view" => EventKind::Screen,
            _ => EventKind::Track,
        };
        let mut draft = self.draft(kind, 0);
        draft.name = name;
        if kind == EventKind::Screen {
            draft.context.page_name = place;
        } else {
            draft.context.url = place;
        }
        if let Some(amount) = properties.text("__revenue") {
            draft.revenue = Revenue::parse(&amount, &properties.text("currency").unwrap_or_default());
        }
        draft.client_time_ms = properties.get("__timestamp").and_then(client_time::of_value);
        if draft.client_time_ms.is_some() {
            properties.take("__timestamp");
        }
        surroundings(&mut draft.context, &mut properties);
        draft.properties = self.with_rest(&properties);
        draft
    }

    fn identify(mut self) -> Draft {
        let mut draft = self.draft(EventKind::Identify, 0);
        let mut traits = properties(&mut self.payload);
        surroundings(&mut draft.context, &mut traits);
        // Name, address and picture stand beside the properties.
        draft.traits = union(&self.payload, &traits);
        draft
    }

    fn group(mut self) -> Draft {
        let mut draft = self.draft(EventKind::Group, 0);
        draft.other = self.payload.take_text("id");
        let traits = properties(&mut self.payload);
        draft.traits = union(&self.payload, &traits);
        draft
    }

    fn alias(mut self) -> Draft {
        let mut draft = self.draft(EventKind::Alias, 0);
        draft.other = self.payload.take_text("alias");
        draft.properties = self.with_rest(&Members::default());
        draft
    }

    /// A trait that is counted up or down.
    fn count(mut self) -> Draft {
        let mut draft = self.draft(EventKind::Identify, 0);
        let property = self.payload.take_text("property").unwrap_or_default();
        let value = self.payload.take("value").map_or("1", RawValue::get);
        let mut out = ObjectText::from("{}", 64);
        out.nested(&format!("${}", self.what), |out| out.raw(&property, value));
        draft.traits = out.finish();
        draft.properties = self.with_rest(&Members::default());
        draft
    }

    /// A profile that joins groups: an event for each.
    fn groups(mut self) -> Result<Vec<Item>, Rejection> {
        let ids = self.payload.take("groupIds").and_then(|ids| json::list(ids.get(), GROUPS_MAX)).unwrap_or_default();
        if ids.len() > GROUPS_MAX {
            let (value, limit) = (ids.len(), GROUPS_MAX);
            return Err(Rejection::TooLarge { what: "`groupIds`".into(), value, unit: "groups", limit });
        }
        let draft = self.draft(EventKind::Group, 0);
        let properties = self.with_rest(&Members::default());
        // A call without groups is one event without a group, which is rejected.
        let ids: Vec<_> = if ids.is_empty() { vec![None] } else { ids.into_iter().map(json::text).collect() };
        let count = ids.len();
        let items = ids.into_iter().enumerate().map(|(index, id)| {
            let mut one = Draft::new(EventKind::Group, index);
            one.context = draft.context.clone();
            one.user.clone_from(&draft.user);
            one.properties.clone_from(&properties);
            one.other = id.map(Into::into);
            // Several events of one body must not look like one that was sent several times.
            let mark = if count > 1 { format!("{index} ") } else { String::new() };
            one.finish(Nobody::IsDerived, format!("{mark}{}", self.text).as_bytes())
        });
        Ok(items.collect())
    }

    /// The properties, with what is left of the payload as `$context`.
    fn with_rest(&self, properties: &Members<'_>) -> String {
        let name = if properties.get("$context").is_some() { "$context_of_event" } else { "$context" };
        let mut out = ObjectText::from("{}", self.text.len());
        properties.write(&mut out);
        out.nested(name, |out| self.payload.write(out));
        out.finish()
    }
}

/// Takes the properties out of a payload; what is no object stays where it is.
fn properties<'a>(payload: &mut Members<'a>) -> Members<'a> {
    match payload.get("properties") {
        Some(value) if value.get().starts_with('{') => payload.take_members("properties"),
        _ => Members::default(),
    }
}

/// Takes what the tracker adds to the properties of every call.
fn surroundings(context: &mut Context, properties: &mut Members<'_>) {
    context.referrer = properties.take_text("__referrer").unwrap_or_default();
    context.title = properties.take_text("__title").unwrap_or_default();
}

/// The members of both; the properties' win.
fn union(beside: &Members<'_>, properties: &Members<'_>) -> String {
    let mut out = ObjectText::from("{}", 256);
    json_union::write(properties, beside, &mut out);
    out.finish()
}

#[cfg(test)]
mod tests;
