//! Events in JSON.

use serde_json::value::RawValue;
use trackway_domain::event::{Campaign, Consent, Context, EventKind};

use super::{complete, earned, object_text};
use crate::draft::{Draft, Nobody, within};
use crate::json::{self, Members, ObjectText};
use crate::{Item, Rejection, Understood, client_time, json_items, mended, shown};

/// Understands a body: an object with `events`, or one event.
pub(super) fn parse(body: &[u8], items_max: usize) -> Result<Understood, Rejection> {
    mended::parse(&json::body_text(body), |text| parse_text(text, items_max))
}

fn parse_text(text: &str, items_max: usize) -> Result<Understood, Rejection> {
    if !text.starts_with('{') {
        return Err(Rejection::Malformed { what: "body".into(), expected: "a JSON object" });
    }
    let mut understood = Understood::default();
    let (mut count, mut sent_at_ms) = (0, None);
    let has_events = json_items::read(
        text,
        "events",
        |raw, event: Option<Members<'_>>| {
            count += 1;
            if count <= items_max {
                understood.items.push(item(event, count - 1, raw));
            }
        },
        |name, value| match name {
            "write_key" => understood.write_key = json::text(value).map(Into::into),
            "sent_at" => sent_at_ms = client_time::of_value(value),
            _ => {}
        },
    )?;
    if !has_events {
        let event = json::object(text).map_err(|error| json::not_json(&error))?;
        understood.items.push(item(Some(event), 0, text));
    }
    within(|| "`events`".to_owned(), count, "items", items_max)?;
    for item in &mut understood.items {
        if let Item::Event { event, .. } = item {
            event.sent_at_ms = sent_at_ms;
        }
    }
    Ok(understood)
}

fn item(event: Option<Members<'_>>, index: usize, raw: &str) -> Item {
    let not_an_object = Rejection::Malformed { what: "item of `events`".into(), expected: "a JSON object" };
    match event.ok_or(not_an_object).and_then(|event| draft(event, index)) {
        Ok(draft) => draft.finish(Nobody::IsDerived, raw.as_bytes()),
        Err(reason) => Item::Rejected { reason, content: raw.as_bytes().to_vec() },
    }
}

fn draft(mut event: Members<'_>, index: usize) -> Result<Draft, Rejection> {
    // The request's, where an event stands alone. A key is no property either way.
    event.take("write_key");
    event.take("sent_at");
    let mut draft = Draft::new(kind(event.take("type"))?, index);
    draft.name = event.take_text("event").unwrap_or_default();
    draft.id = event.take_text("id");
    draft.device = event.take_text("visitor_id");
    draft.user = event.take_text("user_id");
    draft.other = event.take_text("other_id");
    // What cannot be read stays among the rest, and costs no event.
    draft.client_time_ms = event.get("time").and_then(client_time::of_value);
    if draft.client_time_ms.is_some() {
        event.take("time");
    }
    if let Some(sequence) = event.text("sequence").and_then(|text| text.parse().ok()) {
        draft.sequence = sequence;
        event.take("sequence");
    }
    if let Some(revenue) = event.take("revenue").map(Members::of) {
        draft.revenue = Some(earned(revenue.text("amount").as_deref(), &revenue.text("currency").unwrap_or_default())?);
    }
    draft.traits = object_text("traits", event.take("traits").map(RawValue::get))?;
    let properties = object_text("properties", event.take("properties").map(RawValue::get))?;
    let mut rest = event.take_members("context");
    draft.context = context(&mut rest);
    draft.properties = if rest.is_empty() && event.is_empty() {
        properties
    } else {
        let mut out = ObjectText::from(&properties, 256);
        out.nested("$context", |out| {
            rest.write(out);
            out.nested("$event", |out| event.write(out));
        });
        out.finish()
    };
    complete(&mut draft)?;
    Ok(draft)
}

fn kind(value: Option<&RawValue>) -> Result<EventKind, Rejection> {
    let Some(value) = value else { return Ok(EventKind::Track) };
    Ok(match json::text(value).as_deref() {
        Some("track") => EventKind::Track,
        Some("page") => EventKind::Page,
        Some("screen") => EventKind::Screen,
        Some("identify") => EventKind::Identify,
        Some("group") => EventKind::Group,
        Some("alias") => EventKind::Alias,
        other => {
            let what = other.map_or_else(|| "`type`".to_owned(), |other| format!("type {}", shown(other)));
            return Err(Rejection::Malformed { what, expected: "track, page, screen, identify, group or alias" });
        }
    })
}

fn context(of: &mut Members<'_>) -> Context {
    let mut screen = of.take_members("screen");
    // Casting saturates: nonsense becomes 0 or the largest number.
    let mut pixels = |name| screen.take_text(name).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) as u32;
    let screen = (pixels("width"), pixels("height"));
    let mut library = of.take_members("library");
    let mut campaign = of.take_members("campaign");
    let mut utm = |name| campaign.take_text(name).unwrap_or_default();
    let campaign = Campaign {
        source: utm("source"),
        medium: utm("medium"),
        name: utm("name"),
        term: utm("term"),
        content: utm("content"),
    };
    let consent = match of.text("consent").as_deref() {
        Some("granted") => Consent::Granted,
        Some("denied") => Consent::Denied,
        _ => Consent::Unknown,
    };
    if consent != Consent::Unknown {
        of.take("consent");
    }
    let mut text = |name| of.take_text(name).unwrap_or_default();
    Context {
        url: text("url"),
        title: text("title"),
        referrer: text("referrer"),
        page_name: text("page_name"),
        user_agent: text("user_agent"),
        locale: text("locale"),
        session: text("session"),
        ip: text("ip"),
        screen,
        library: library.take_text("name").unwrap_or_default(),
        library_version: library.take_text("version").unwrap_or_default(),
        campaign,
        consent,
    }
}
