//! What an event, a person's update and a group's update mean.

use serde_json::value::RawValue;
use trackway_domain::event::{Campaign, Context, EventKind};
use trackway_domain::revenue::Revenue;

use super::Call;
use crate::draft::{Draft, Nobody};
use crate::json::{self, Members, ObjectText};
use crate::{Item, client_time, revenue};

/// Where an item stood in its request, and what the request says for all its items.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub index: usize,
    pub sent_at_ms: Option<i64>,
    /// The item as it came.
    pub raw: &'a str,
}

/// The item's token, and the item.
pub(super) fn understand(call: Call, members: Members<'_>, place: Place<'_>) -> (Option<String>, Item) {
    match call {
        Call::Track | Call::Import => event(members, place),
        Call::Engage => update(EventKind::Identify, members, place),
        Call::Groups => update(EventKind::Group, members, place),
    }
}

/// Marks the id of a browser where an id may be a user's too.
const DEVICE: &str = "$device:";

fn event(mut item: Members<'_>, place: Place<'_>) -> (Option<String>, Item) {
    let name = item.take_text("event").unwrap_or_default();
    let mut of = item.take_members("properties");
    let token = of.take_text("token");
    let mut draft = Draft::new(EventKind::Track, place.index);
    let distinct_id = of.take_text("distinct_id");
    draft.id = of.take_text("$insert_id").map(|id| {
        // Names may hold anything, so the one that cannot stands between.
        format!("{}\n{id}\n{name}", distinct_id.as_deref().unwrap_or_default())
    });
    take_ids(&mut draft, distinct_id, of.take_text("$device_id"), of.take_text("$user_id"));
    let mut said_as = None;
    match &*name {
        "$mp_web_page_view" | "mp_page_view" => {
            draft.kind = EventKind::Page;
            draft.context.title = of.take_text("current_page_title").unwrap_or_default();
            said_as = Some(&*name);
        }
        "$identify" => {
            draft.kind = EventKind::Identify;
            if draft.device.is_none() {
                draft.device = of.take_text("$anon_distinct_id").map(without_mark);
            } else if of.text("$anon_distinct_id").map(|id| without_mark(id.into())) == draft.device {
                of.take("$anon_distinct_id");
            }
        }
        "$create_alias" => {
            draft.kind = EventKind::Alias;
            draft.other = draft.user.take().or_else(|| draft.device.clone());
            draft.user = of.take_text("alias");
        }
        "$merge" => {
            draft.kind = EventKind::Alias;
            (draft.user, draft.other) = merged(of.take("$distinct_ids"));
        }
        _ => {}
    }
    draft.client_time_ms = of.take("time").and_then(client_time::of_value);
    draft.sent_at_ms = place.sent_at_ms;
    take_context(&mut draft.context, &mut of);
    let mut properties = ObjectText::from("{}", place.raw.len());
    if let Some(name) = said_as {
        properties.text("$event_name", name);
    }
    write_all(&of, &mut properties);
    properties.nested("$context", |out| item.write(out));
    draft.properties = properties.finish();
    draft.name = name;
    if draft.kind == EventKind::Track {
        draft.revenue = revenue::of_properties(&draft.name, &draft.properties);
    }
    (token, draft.finish(Nobody::IsDerived, place.raw.as_bytes()))
}

fn update(kind: EventKind, mut item: Members<'_>, place: Place<'_>) -> (Option<String>, Item) {
    let token = item.take_text("$token");
    let mut draft = Draft::new(kind, place.index);
    let distinct_id = item.take_text("$distinct_id");
    take_ids(&mut draft, distinct_id, item.take_text("$device_id"), item.take_text("$user_id"));
    draft.other = item.take_text("$group_id");
    draft.client_time_ms = item.take("$time").and_then(client_time::of_value);
    draft.sent_at_ms = place.sent_at_ms;
    draft.context.ip = address(item.take_text("$ip"));
    draft.revenue = charge(&item);
    let mut properties = ObjectText::from("{}", 0);
    if let Some(key) = item.take("$group_key") {
        properties.raw("$group_key", key.get());
    }
    let mut traits = ObjectText::from("{}", place.raw.len());
    // What is set is what the person has; every other operation keeps its name.
    if let Some(set) = item.take("$set") {
        if set.get().starts_with('{') {
            write_all(&Members::of(set), &mut traits);
        } else {
            traits.raw("$set", set.get());
        }
    }
    properties.nested("$context", |rest| {
        for (name, value) in item.iter() {
            let is_operation = name.starts_with('$') && !name.starts_with("$ignore_");
            let out = if is_operation { &mut traits } else { &mut *rest };
            out.raw(name, value.get());
        }
    });
    draft.properties = properties.finish();
    draft.traits = traits.finish();
    (token, draft.finish(Nobody::IsDerived, place.raw.as_bytes()))
}

/// All that is left, nulls too: they are the app's.
fn write_all(members: &Members<'_>, out: &mut ObjectText) {
    for (name, value) in members.iter() {
        out.raw(name, value.get());
    }
}

/// Who it was. `distinct_id` is the user once there is one, and the browser before.
fn take_ids(draft: &mut Draft, distinct: Option<String>, device: Option<String>, user: Option<String>) {
    match distinct {
        Some(id) if id.starts_with(DEVICE) => {
            draft.device = device.or_else(|| Some(without_mark(id)));
            draft.user = user;
        }
        // As browsers named themselves before the mark.
        Some(id) if Some(&id) == device.as_ref() => (draft.device, draft.user) = (device, user),
        Some(id) => (draft.device, draft.user) = (device, Some(id)),
        None => (draft.device, draft.user) = (device, user),
    }
}

fn without_mark(id: String) -> String {
    id.strip_prefix(DEVICE).map(str::to_owned).unwrap_or(id)
}

/// The two ids of a merge: the one to stay, a user's rather than a browser's, and the other.
fn merged(ids: Option<&RawValue>) -> (Option<String>, Option<String>) {
    let ids = ids.and_then(|ids| json::list(ids.get(), 2)).unwrap_or_default();
    let mut ids = ids.into_iter().filter_map(json::text).map(String::from);
    match (ids.next(), ids.next()) {
        (Some(first), Some(second)) if first.starts_with(DEVICE) => (Some(second), Some(without_mark(first))),
        (first, second) => (first, second.map(without_mark)),
    }
}

fn take_context(context: &mut Context, of: &mut Members<'_>) {
    context.url = of.take_text("$current_url").unwrap_or_default();
    context.referrer = of.take_text("$referrer").unwrap_or_default();
    context.user_agent = of.take_text("$user_agent").unwrap_or_default();
    context.library = of.take_text("mp_lib").unwrap_or_default();
    context.library_version = of.take_text("$lib_version").unwrap_or_default();
    context.ip = address(of.take_text("ip").or_else(|| of.take_text("$ip")));
    let mut pixels = |name| of.take_text(name).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) as u32;
    context.screen = (pixels("$screen_width"), pixels("$screen_height"));
    // The browser repeats the campaign of the first landing on all later events; there the address says what is true.
    if context.url.is_empty() {
        let mut utm = |name| of.take_text(name).unwrap_or_default();
        context.campaign = Campaign {
            source: utm("utm_source"),
            medium: utm("utm_medium"),
            name: utm("utm_campaign"),
            term: utm("utm_term"),
            content: utm("utm_content"),
        };
    }
}

/// `0` and `1` are settings (keep no address, take the sender's), not addresses.
fn address(ip: Option<String>) -> String {
    ip.filter(|ip| ip != "0" && ip != "1").unwrap_or_default()
}

/// A charge: `$append: {$transactions: {$amount}}`.
fn charge(item: &Members<'_>) -> Option<Revenue> {
    let charge = Members::of(item.get("$append")?).take_members("$transactions");
    let currency = charge.text("$currency").or_else(|| charge.text("currency")).unwrap_or_default();
    Revenue::parse(&charge.text("$amount")?, &currency)
}
