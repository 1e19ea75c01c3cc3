//! What an item's fields mean.

use std::borrow::Cow;

use serde_json::value::RawValue;
use trackway_domain::event::{Campaign, Context, EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_domain::limits::{EVENT_BYTES_MAX, EVENT_NAME_BYTES_MAX};

use super::consent;
use super::fields::{ContextFields, Fields, PageProperties, Value};
use crate::draft::{self, object_within_limits};
use crate::json::{self, ObjectText, Rest};
use crate::{Rejection, client_time, revenue, shown};

/// Where an item stood in its request, and what the request says for all its items.
pub(super) struct Place<'a> {
    /// From the path; `None`: the item says it.
    pub kind: Option<EventKind>,
    /// Position in the request.
    pub index: u32,
    /// Context of the batch.
    pub outer: Option<&'a ContextFields<'a>>,
    /// Length of the item.
    pub bytes: usize,
}

/// The event that the fields make, or `None` if there is nothing to record.
pub(super) fn understand<'a>(mut fields: Fields<'a>, place: &Place<'a>) -> Result<Option<ReceivedEvent>, Rejection> {
    if let Some(outer) = place.outer {
        fields.context.inherit(outer);
    }
    let kind = place.kind.map_or_else(|| kind_of(fields.kind), Ok)?;
    let name = name_of(kind, &mut fields)?;
    if place.bytes > EVENT_BYTES_MAX {
        let what = format!("event {}", shown(&name));
        return Err(Rejection::TooLarge { what, value: place.bytes, unit: "bytes", limit: EVENT_BYTES_MAX });
    }
    let user_id = id("userId", fields.user_id)?;
    let other_id = match kind {
        EventKind::Alias => Some(needed("previousId", fields.previous_id, "Name the id that was used before")?),
        EventKind::Group => Some(needed("groupId", fields.group_id, "Name the group that the user belongs to")?),
        EventKind::Track | EventKind::Page | EventKind::Screen | EventKind::Identify => None,
    };
    if kind == EventKind::Alias {
        match &user_id {
            None => return Err(Rejection::Missing { field: "userId", hint: "Name the id that is used from now on" }),
            // Segment's browser tracker sends this when `alias` is called after `identify`.
            Some(user_id) if Some(user_id) == other_id.as_ref() => return Ok(None),
            Some(_) => {}
        }
    }
    let (visitor, user_id) = match (id("anonymousId", fields.anonymous_id)?, user_id) {
        (Some(device), user_id) => (Visitor::Device(device), user_id),
        (None, Some(user)) => (Visitor::User(user.clone()), Some(user)),
        (None, None) => {
            let hint = "Send it or `userId`; placeholders such as `null` or `undefined` count as absent";
            return Err(Rejection::Missing { field: "anonymousId", hint });
        }
    };
    let message_id = id("messageId", fields.message_id)?;
    keep_what_is_unused(kind, &mut fields);
    let traits = traits(kind, &name, &mut fields)?;
    let client_time_ms = client_time(&mut fields);
    let sent_at_ms = fields.sent_at.and_then(client_time::of_value);
    let sequence = sequence(&mut fields).unwrap_or(place.index);
    let mut context = context(&mut fields.context);
    let properties = properties(kind, &name, &fields, &mut context)?;
    let revenue = if kind == EventKind::Track { revenue::of_properties(&name, &properties) } else { None };
    Ok(Some(ReceivedEvent {
        kind,
        name: name.into_owned(),
        id: message_id,
        visitor: Some(visitor),
        user_id,
        other_id,
        client_time_ms,
        sent_at_ms,
        sequence,
        context,
        revenue,
        properties,
        traits,
    }))
}

fn kind_of(value: Value<'_>) -> Result<EventKind, Rejection> {
    const HINT: &str = "Each item of a batch says what call it is";
    let text = value.and_then(json::text).ok_or(Rejection::Missing { field: "type", hint: HINT })?;
    Ok(match &*text {
        "track" => EventKind::Track,
        "page" => EventKind::Page,
        "screen" => EventKind::Screen,
        "identify" => EventKind::Identify,
        "group" => EventKind::Group,
        "alias" => EventKind::Alias,
        other => {
            let what = format!("type {}", shown(other));
            return Err(Rejection::Malformed { what, expected: "track, page, screen, identify, group or alias" });
        }
    })
}

fn name_of<'a>(kind: EventKind, fields: &mut Fields<'a>) -> Result<Cow<'a, str>, Rejection> {
    let name = match kind {
        EventKind::Track => {
            let name = fields.event.take().and_then(json::text).filter(|name| !name.is_empty());
            name.ok_or(Rejection::Missing { field: "event", hint: "A track call names what the visitor did" })?
        }
        EventKind::Page => "page".into(),
        EventKind::Screen => "screen".into(),
        EventKind::Identify => "identify".into(),
        EventKind::Group => "group".into(),
        EventKind::Alias => "alias".into(),
    };
    if name.len() > EVENT_NAME_BYTES_MAX {
        let what = format!("name of event {}", shown(&name));
        return Err(Rejection::TooLarge { what, value: name.len(), unit: "bytes", limit: EVENT_NAME_BYTES_MAX });
    }
    Ok(name)
}

/// An id that stands for somebody; a placeholder is no id.
fn id(field: &'static str, value: Value<'_>) -> Result<Option<String>, Rejection> {
    draft::id(|| format!("`{field}`"), value.and_then(json::text))
}

fn needed(field: &'static str, value: Value<'_>, hint: &'static str) -> Result<String, Rejection> {
    id(field, value)?.ok_or(Rejection::Missing { field, hint })
}

/// Moves members that mean nothing for this kind of call to the rest, so that they are not lost.
fn keep_what_is_unused(kind: EventKind, fields: &mut Fields<'_>) {
    let page = matches!(kind, EventKind::Page | EventKind::Screen);
    let unused = [
        ("event", fields.event.take()),
        ("name", if page { None } else { fields.name.take() }),
        ("category", if page { None } else { fields.category.take() }),
        ("previousId", if kind == EventKind::Alias { None } else { fields.previous_id.take() }),
        ("groupId", if kind == EventKind::Group { None } else { fields.group_id.take() }),
    ];
    for (name, value) in unused {
        if let Some(value) = value {
            fields.rest.keep(name.into(), value);
        }
    }
}

/// When it happened. `originalTimestamp` is the client's word where a `timestamp` beside it was already corrected by
/// somebody; a time that cannot be read is kept as it is.
fn client_time(fields: &mut Fields<'_>) -> Option<i64> {
    let original = fields.original_timestamp.and_then(client_time::of_value);
    let time = fields.timestamp.and_then(client_time::of_value);
    if original.is_none()
        && let Some(value) = fields.original_timestamp
    {
        fields.rest.keep("originalTimestamp".into(), value);
    }
    let is_told = time.is_some() && original.is_none_or(|original| Some(original) == time);
    if !is_told && let Some(value) = fields.timestamp {
        fields.rest.keep("timestamp".into(), value);
    }
    original.or(time)
}

fn sequence(fields: &mut Fields<'_>) -> Option<u32> {
    let value = fields.context.sequence?;
    let sequence = json::text(value).and_then(|text| text.parse().ok());
    if sequence.is_none() {
        fields.context.rest.keep("sequence".into(), value);
    }
    sequence
}

fn context(fields: &mut ContextFields<'_>) -> Context {
    let page = &mut fields.page;
    let url = owned(page.url);
    // The address says both, unless the site gave them a meaning of their own.
    let address = url.split_once('#').map_or(&*url, |(address, _)| address);
    let search = address.find('?').unwrap_or(address.len());
    if let Some(path) = page.path.take()
        && json::text(path).is_none_or(|path| !address[..search].ends_with(&*path))
    {
        page.rest.keep("path".into(), path);
    }
    if let Some(value) = page.search.take()
        && json::text(value).is_none_or(|value| address[search..] != value)
    {
        page.rest.keep("search".into(), value);
    }
    // Segment's and RudderStack's. The categories are the site's own, so they are kept beside what they mean here.
    let (consent, management) = (fields.consent.take(), fields.consent_management.take());
    let agreed = consent.map(consent::of_context).or_else(|| management.map(consent::of_management));
    for (name, value) in [("consent", consent), ("consentManagement", management)] {
        if let Some(value) = value {
            fields.rest.keep(name.into(), value);
        }
    }
    let pixels = |value: Value<'_>| value.and_then(json::text).and_then(|text| text.parse::<f64>().ok());
    Context {
        url,
        title: owned(page.title),
        referrer: owned(page.referrer),
        page_name: String::new(),
        user_agent: owned(fields.user_agent),
        locale: owned(fields.locale),
        // Casting saturates: nonsense becomes 0 or the largest number.
        screen: (pixels(fields.screen.width).unwrap_or(0.0) as u32, pixels(fields.screen.height).unwrap_or(0.0) as u32),
        library: owned(fields.library.name),
        library_version: owned(fields.library.version),
        campaign: Campaign {
            source: owned(fields.campaign.source),
            medium: owned(fields.campaign.medium),
            name: owned(fields.campaign.name),
            term: owned(fields.campaign.term),
            content: owned(fields.campaign.content),
        },
        session: owned(fields.session_id),
        ip: owned(fields.ip),
        consent: agreed.unwrap_or_default(),
    }
}

fn owned(value: Value<'_>) -> String {
    value.and_then(json::text).map(Cow::into_owned).unwrap_or_default()
}

/// Traits of the call, else those that the context repeats. A group call's own traits are the group's; the context's
/// are the user's, and stay there.
fn traits(kind: EventKind, name: &str, fields: &mut Fields<'_>) -> Result<String, Rejection> {
    let own = object_text("traits", fields.traits)?;
    let text = match (own, fields.context.traits.take()) {
        ("{}", Some(outer)) if kind != EventKind::Group => object_text("context.traits", Some(outer))?,
        (own, Some(outer)) => {
            if outer.get() != own {
                fields.context.rest.keep("traits".into(), outer);
            }
            own
        }
        (own, None) => own,
    };
    object_within_limits("traits", name, Cow::Borrowed(text))
}

/// The properties, with all that has no field of its own as `$context`.
fn properties(kind: EventKind, name: &str, fields: &Fields<'_>, context: &mut Context) -> Result<String, Rejection> {
    let given = object_text("properties", fields.properties)?;
    let (page_name, category) = match kind {
        EventKind::Page | EventKind::Screen => page(given, fields, context),
        EventKind::Track | EventKind::Identify | EventKind::Group | EventKind::Alias => (None, None),
    };
    let of = &fields.context;
    let rests = [&of.rest, &of.page.rest, &of.campaign.rest, &of.screen.rest, &of.library.rest, &fields.rest];
    if page_name.is_none() && category.is_none() && rests.iter().all(|rest| rest.is_empty()) {
        return object_within_limits("properties", name, Cow::Borrowed(given));
    }
    // Room for the names that are added: `$context` and its five parts, `name`, `category`.
    let more = rests.iter().map(|rest| rest.bytes()).sum::<usize>() + 128;
    let mut out = ObjectText::from(given, more);
    for (name, value) in [("name", page_name), ("category", category)] {
        if let Some(value) = value {
            out.raw(name, value.get());
        }
    }
    // Properties that were exported from here and come in again have one already; a name must not stand twice.
    // (Looking for `$` first is ten times faster, and it is mostly not there.)
    let member = if given.contains('$') && given.contains("\"$context\"") { "$context_of_request" } else { "$context" };
    out.nested(member, |out| {
        of.rest.write(out);
        let nested: [(&str, &Rest<'_>); 5] = [
            ("page", &of.page.rest),
            ("campaign", &of.campaign.rest),
            ("screen", &of.screen.rest),
            ("library", &of.library.rest),
            ("$event", &fields.rest),
        ];
        for (name, rest) in nested {
            out.nested(name, |out| rest.write(out));
        }
    });
    object_within_limits("properties", name, Cow::Owned(out.finish()))
}

/// Fills the context of a page call from its properties, where servers say what browsers say in the context; returns
/// name and category where the properties lack them.
fn page<'a>(given: &str, fields: &Fields<'a>, context: &mut Context) -> (Value<'a>, Value<'a>) {
    let there: PageProperties<'_> = json::object(given).unwrap_or_default();
    for (field, value) in
        [(&mut context.url, there.url), (&mut context.title, there.title), (&mut context.referrer, there.referrer)]
    {
        if field.is_empty() {
            *field = owned(value);
        }
    }
    context.page_name = owned(fields.name.filter(|name| name.get() != "null").or(there.name));
    let missing =
        |value: Value<'a>, there: Value<'_>| value.filter(|value: &&RawValue| there.is_none() && value.get() != "null");
    (missing(fields.name, there.name), missing(fields.category, there.category))
}

/// The text of an object. Nothing, null and the empty list (PHP's empty map) are `{}`.
fn object_text<'a>(field: &'static str, value: Value<'a>) -> Result<&'a str, Rejection> {
    let text = value.map_or("{}", RawValue::get);
    match text.as_bytes() {
        [b'{', ..] => Ok(text),
        [b'[', inner @ .., b']'] if inner.iter().all(u8::is_ascii_whitespace) => Ok("{}"),
        b"null" => Ok("{}"),
        _ => Err(Rejection::Malformed { what: format!("`{field}`"), expected: "a JSON object" }),
    }
}
