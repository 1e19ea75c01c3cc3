//! Google Analytics 4, Measurement Protocol: events from servers and apps as JSON, to `/mp/collect`.
//!
//! - An event's `params` are its properties, as they stand; the context is read from those that have a meaning there.
//! - `user_properties` are traits of the person, and ride on each event of the request.
//! - `/debug/mp/collect` is Google's validation: it says what is wrong, needs no key, and records nothing.
//! - Consent to ads (`ad_user_data`, `ad_personalization`) is kept, but it is no consent to analytics.
//!
//! # Source
//! <https://developers.google.com/analytics/devguides/collection/protocol/ga4/reference>, and ga4mp 2.0 (Python).

use std::borrow::Cow;

use serde_json::value::RawValue;
use trackway_domain::event::{Campaign, Consent, Context, EventKind};

use crate::draft::{Draft, Nobody};
use crate::json::{self, Members, ObjectText, body_text, not_json};
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict, json_text};
use crate::{Item, Rejection, Understood, google, mended};

/// GA4's Measurement Protocol.
pub struct Ga4Mp;

impl Protocol for Ga4Mp {
    fn name(&self) -> &'static str {
        "ga4_mp"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        head.method == Method::Post && matches!(head.path, "/mp/collect" | DEBUG_PATH)
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let own = head.parameter("measurement_id").or_else(|| head.parameter("firebase_app_id"));
        own.or_else(|| head.parameter("writeKey")).map(Cow::into_owned).or_else(|| head.basic_user())
    }

    fn aside(&self, request: &Request<'_>) -> Option<Answer> {
        (request.head.path == DEBUG_PATH).then(|| validation(self.parse(request)))
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        mended::parse(&body_text(request.body), |text| parse_text(text, request.items_max))
    }

    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        google::answer(verdict)
    }
}

const DEBUG_PATH: &str = "/debug/mp/collect";

fn parse_text(text: &str, items_max: usize) -> Result<Understood, Rejection> {
    if !text.starts_with('{') {
        return Err(Rejection::Malformed { what: "body".into(), expected: "a JSON object" });
    }
    let mut body: Members<'_> = json::object(text).map_err(|error| not_json(&error))?;
    let events = body.take("events").ok_or(Rejection::Missing { field: "events", hint: "Send a list of events" })?;
    let events = match events.get().as_bytes()[0] {
        b'[' => json::list(events.get(), items_max).expect("serde_json took it for a list"),
        // What ga4mp sends when it was asked to send later.
        b'{' => vec![events],
        _ => return Err(Rejection::Malformed { what: "`events`".into(), expected: "a list of events" }),
    };
    if events.len() > items_max {
        let what = "`events`".to_owned();
        return Err(Rejection::TooLarge { what, value: events.len(), unit: "events at least", limit: items_max });
    }
    google::within_sharing(text.len() - events.iter().map(|event| event.get().len()).sum::<usize>(), events.len())?;
    let sender = Sender::of(body);
    let items = events.iter().enumerate().map(|(index, event)| sender.item(event.get(), index)).collect();
    Ok(Understood { items, ..Understood::default() })
}

/// What a request says for all its events.
struct Sender<'a> {
    device: Option<String>,
    user: Option<String>,
    time_ms: Option<i64>,
    consent: Consent,
    context: Context,
    traits: String,
    /// Members without a field.
    rest: Members<'a>,
}

impl<'a> Sender<'a> {
    fn of(mut body: Members<'a>) -> Self {
        let consent = match body.get("consent").map(Members::of).and_then(|consent| consent.text("analytics_storage")) {
            Some(word) if word.eq_ignore_ascii_case("granted") => Consent::Granted,
            Some(word) if word.eq_ignore_ascii_case("denied") => Consent::Denied,
            _ => Consent::Unknown,
        };
        let device = body.get("device").map(Members::of).unwrap_or_default();
        let said = |name| device.text(name).map(Cow::into_owned).unwrap_or_default();
        let context = Context {
            ip: body.take_text("ip_override").unwrap_or_default(),
            user_agent: body.take_text("user_agent").unwrap_or_default(),
            locale: said("language"),
            screen: google::size(&said("screen_resolution")).unwrap_or_default(),
            ..Context::default()
        };
        for noise in ["validation_behavior", "api_secret"] {
            body.take(noise);
        }
        Self {
            device: body.take_text("client_id").or_else(|| body.take_text("app_instance_id")),
            user: body.take_text("user_id"),
            time_ms: take_time(&mut body),
            consent,
            context,
            traits: traits(body.take_members("user_properties")),
            rest: body,
        }
    }

    fn item(&self, raw: &str, index: usize) -> Item {
        if !raw.starts_with('{') {
            let reason = Rejection::Malformed { what: "item of `events`".into(), expected: "a JSON object" };
            return Item::Rejected { reason, content: raw.as_bytes().to_vec() };
        }
        let mut event = json::object::<Members<'_>>(raw).unwrap_or_default();
        let name = event.take_text("name").unwrap_or_default();
        // What is not an object stays where it is.
        let is_object = event.get("params").is_some_and(|params| params.get().starts_with('{'));
        let params = if is_object { event.take_members("params") } else { Members::default() };
        let said = |name: &str| params.text(name).map(Cow::into_owned).unwrap_or_default();
        let kind = kind(&name);
        let mut draft = Draft::new(kind, index);
        draft.device.clone_from(&self.device);
        draft.user.clone_from(&self.user);
        draft.client_time_ms = take_time(&mut event).or(self.time_ms);
        draft.context = Context {
            url: said("page_location"),
            title: said("page_title"),
            referrer: said("page_referrer"),
            page_name: if kind == EventKind::Screen { screen_name(&params) } else { String::new() },
            session: said("session_id"),
            consent: self.consent,
            campaign: if name == "campaign_details" { campaign(&params) } else { Campaign::default() },
            ..self.context.clone()
        };
        if draft.context.locale.is_empty() {
            draft.context.locale = said("language");
        }
        if earns(&name) {
            draft.revenue = google::revenue(&said("value"), &said("currency"), name == "refund");
        }
        draft.properties = properties(&params, &event, &self.rest);
        draft.traits.clone_from(&self.traits);
        draft.name = name;
        let hint = "Send it, or `app_instance_id`, or `user_id`";
        match draft.finish(Nobody::IsMissing("client_id", hint), raw.as_bytes()) {
            // Two visitors may well send the same event; the bytes that tell them apart stand outside of it.
            Item::Event { event, content } if !content.is_empty() => {
                let ids = [&self.device, &self.user].map(|id| id.as_deref().unwrap_or_default());
                let content = format!("{}\n{}\n{:?}\n{raw}", ids[0], ids[1], event.client_time_ms).into_bytes();
                Item::Event { event, content }
            }
            other => other,
        }
    }
}

/// The kind of an event by GA4's name of it.
pub(crate) fn kind(name: &str) -> EventKind {
    match name {
        "page_view" => EventKind::Page,
        "screen_view" => EventKind::Screen,
        _ => EventKind::Track,
    }
}

/// Whether `value` of an event by this name is money that was paid. (In a cart it is not yet.)
pub(crate) fn earns(name: &str) -> bool {
    matches!(name, "purchase" | "refund" | "in_app_purchase" | "ecommerce_purchase")
}

/// Apps say it in the second way.
fn screen_name(params: &Members<'_>) -> String {
    let name = params.text("screen_name").or_else(|| params.text("firebase_screen"));
    name.map(Cow::into_owned).unwrap_or_default()
}

fn campaign(params: &Members<'_>) -> Campaign {
    let said = |name: &str| params.text(name).map(Cow::into_owned).unwrap_or_default();
    Campaign {
        source: said("source"),
        medium: said("medium"),
        name: said("campaign"),
        term: said("term"),
        content: said("content"),
    }
}

/// Takes `timestamp_micros`, in ms; what cannot be read stays.
fn take_time(members: &mut Members<'_>) -> Option<i64> {
    const NAME: &str = "timestamp_micros";
    let micros: f64 = members.text(NAME)?.trim().parse().ok()?;
    members.take(NAME);
    // Casting saturates, and no number becomes zero. An unset variable is no time.
    Some((micros / 1000.0).floor() as i64).filter(|&ms| ms != 0)
}

/// `{"plan":{"value":"pro"}}` says that the plan is pro. A value of null unsets it.
fn traits(properties: Members<'_>) -> String {
    let mut out = ObjectText::from("{}", 64);
    for (name, property) in properties.iter() {
        let value = if property.get().starts_with('{') { Members::of(property).get("value") } else { Some(property) };
        out.raw(name, value.map_or("null", RawValue::get));
    }
    out.finish()
}

fn properties(params: &Members<'_>, event: &Members<'_>, rest: &Members<'_>) -> String {
    let mut out = ObjectText::from("{}", 256);
    params.write(&mut out);
    out.nested(free(params, "$context", "$context_of_request"), |out| {
        rest.write(out);
        out.nested(free(rest, "$event", "$event_of_list"), |out| event.write(out));
    });
    out.finish()
}

/// `name`, unless it is taken: a name must not stand twice.
fn free(members: &Members<'_>, name: &'static str, other: &'static str) -> &'static str {
    if members.get(name).is_some() { other } else { name }
}

/// The answer of Google's validation server: an empty list is the praise.
fn validation(understood: Result<Understood, Rejection>) -> Answer {
    let reasons = match understood {
        Err(reason) => vec![("".to_owned(), reason)],
        Ok(understood) => {
            let items = understood.items.into_iter().enumerate();
            items
                .filter_map(|(index, item)| match item {
                    Item::Rejected { reason, .. } => Some((format!("events[{index}]"), reason)),
                    Item::Event { .. } | Item::Nothing => None,
                })
                .collect()
        }
    };
    let messages = reasons.iter().map(|(path, reason)| {
        let code = match reason {
            Rejection::Malformed { .. } | Rejection::Key { .. } => "VALUE_INVALID",
            Rejection::Missing { .. } => "VALUE_REQUIRED",
            Rejection::TooLarge { .. } => "VALUE_OUT_OF_BOUNDS",
        };
        let text = json_text(&reason.to_string());
        format!(r#"{{"fieldPath":"{path}","description":{text},"validationCode":"{code}"}}"#)
    });
    Answer::json(200, format!(r#"{{"validationMessages":[{}]}}"#, messages.collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests;
