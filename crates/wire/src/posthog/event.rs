//! One event of PostHog.

use trackway_domain::event::{Campaign, Context, EventKind};
use trackway_domain::revenue::Revenue;

use super::{Item, Rejection, client_time};
use crate::draft::{Draft, Nobody};
use crate::json::{self, Members, ObjectText};
use crate::json_union;

/// What a request says for all its items.
pub(super) struct Outside<'a> {
    pub sent_at_ms: Option<i64>,
    /// Name and version.
    pub tracker: (&'a str, &'a str),
}

/// What an item says beside its event.
#[derive(Default)]
pub(super) struct Own {
    pub write_key: Option<String>,
    /// The visitor agreed to no cookie.
    pub is_cookieless: bool,
}

/// Understands one item.
pub(super) fn understand(raw: &str, index: usize, outside: &Outside<'_>) -> (Item, Own) {
    let parsed = if raw.starts_with('{') { json::object(raw).ok() } else { None };
    let Some(mut item): Option<Members<'_>> = parsed else {
        let reason = Rejection::Malformed { what: "item of the batch".into(), expected: "a JSON object" };
        return (Item::Rejected { reason, content: raw.as_bytes().to_vec() }, Own::default());
    };
    let mut properties = match item.get("properties") {
        Some(value) if value.get().starts_with('{') => item.take_members("properties"),
        _ => Members::default(),
    };
    let own_key = item.take_text("api_key").or_else(|| item.take_text("token"));
    let write_key = properties.take_text("token").or(own_key);
    let ids = Ids::take(&mut item, &mut properties);
    let name = item.take_text("event").unwrap_or_default();
    let kind = kind(&name);

    let mut draft = Draft::new(kind, index);
    draft.id = item.take_text("uuid").or_else(|| properties.text("$insert_id").map(Into::into));
    (draft.client_time_ms, draft.sent_at_ms) = times(&mut item, &mut properties, outside);
    draft.revenue = revenue(&properties);
    draft.context = context(kind, &mut item, &mut properties, outside);
    draft.traits = match kind {
        EventKind::Group => properties.take_members("$group_set").object_text(),
        _ => traits(&mut item, &mut properties),
    };
    let is_cookieless = ids.is_cookieless();
    match kind {
        EventKind::Alias => {
            let alias = properties.take_text("alias");
            draft.device = ids.device_id;
            // `$merge_dangerously` keeps the id that speaks, `$create_alias` goes over to the other.
            let merges = name == "$merge_dangerously";
            (draft.user, draft.other) = if merges { (ids.distinct_id, alias) } else { (alias, ids.distinct_id) };
        }
        EventKind::Group => {
            draft.other = properties.take_text("$group_key");
            let group_type = properties.text("$group_type").unwrap_or_default();
            (draft.device, draft.user) = ids.of_group(&group_type, draft.other.as_deref().unwrap_or_default());
        }
        EventKind::Track | EventKind::Page | EventKind::Screen | EventKind::Identify => {
            (draft.device, draft.user) = ids.visitor_and_user(name == "$identify");
        }
    }
    draft.name = name;
    for noise in ["$lib_rate_limit_remaining_tokens", "$sdk_debug_retry_queue_size"] {
        properties.take(noise);
    }
    if item.text("type").as_deref() == Some("capture") {
        item.take("type");
    }
    let rest = if properties.get("$context").is_some() { "$context_of_event" } else { "$context" };
    let mut out = ObjectText::from("{}", raw.len());
    properties.write(&mut out);
    out.nested(rest, |out| item.write(out));
    draft.properties = out.finish();

    let nobody = match is_cookieless {
        true => Nobody::IsDerived,
        false => {
            Nobody::IsMissing("distinct_id", "Send it with every event; placeholders such as `null` count as absent")
        }
    };
    (draft.finish(nobody, raw.as_bytes()), Own { write_key, is_cookieless })
}

fn kind(name: &str) -> EventKind {
    match name {
        "$pageview" => EventKind::Page,
        "$screen" => EventKind::Screen,
        "$identify" | "$set" | "$set_once" | "$unset" => EventKind::Identify,
        "$groupidentify" => EventKind::Group,
        "$create_alias" | "$merge_dangerously" => EventKind::Alias,
        _ => EventKind::Track,
    }
}

/// Who it was, in PostHog's words.
struct Ids {
    /// Who speaks: a user, or the anonymous id of a browser.
    distinct_id: Option<String>,
    /// Of the browser, for good: a reset changes `distinct_id` only.
    device_id: Option<String>,
    /// With `$identify`: who the browser was until now.
    anonymous_id: Option<String>,
    /// Whether `distinct_id` is a user; browsers say it, servers do not.
    is_identified: Option<bool>,
    /// The event is nobody's profile.
    is_personless: bool,
    /// The server says that the visitor agreed to no cookie.
    is_cookieless: bool,
}

/// Stands for the id of a visitor who agreed to no cookie.
const COOKIELESS: &str = "$posthog_cookieless";

impl Ids {
    fn take(item: &mut Members<'_>, properties: &mut Members<'_>) -> Self {
        // What servers say with a `$` within the properties stands without one in `options` of `/i/v1/analytics/events`.
        let options = item.get("options").map(Members::of).unwrap_or_default();
        if options.is_empty() {
            item.take("options");
        }
        let is_identified = flag(properties, "$is_identified");
        let makes_person = flag(properties, "$process_person_profile").or(flag(&options, "process_person_profile"));
        let inner = properties.take_text("distinct_id");
        Self {
            distinct_id: item.take_text("distinct_id").or_else(|| item.take_text("$distinct_id")).or(inner),
            device_id: properties.take_text("$device_id"),
            anonymous_id: properties.take_text("$anon_distinct_id"),
            is_identified,
            is_personless: makes_person == Some(false),
            is_cookieless: flag(&options, "cookieless_mode") == Some(true),
        }
    }

    fn is_cookieless(&self) -> bool {
        self.is_cookieless || self.distinct_id.as_deref() == Some(COOKIELESS)
    }

    /// - `is_identify`: the event says who the visitor is.
    fn visitor_and_user(self, is_identify: bool) -> (Option<String>, Option<String>) {
        if self.is_cookieless() {
            return (None, None);
        }
        let Self { distinct_id, device_id, anonymous_id, is_identified, is_personless, .. } = self;
        let device = anonymous_id.or(device_id);
        let is_user = is_identify
            || match is_identified {
                Some(is_identified) => is_identified,
                None => !is_personless && distinct_id != device,
            };
        // After a reset an anonymous visitor is somebody new, although the device id stays.
        if is_user { (device, distinct_id) } else { (distinct_id.or(device), None) }
    }

    /// Servers make an id up where they are told of a group only: it is no user's.
    fn of_group(self, group_type: &str, key: &str) -> (Option<String>, Option<String>) {
        let is_made_up = self.device_id.is_none()
            && self.distinct_id.as_deref().is_some_and(|id| is_uuid(id) || id == format!("${group_type}_{key}"));
        if is_made_up { (self.distinct_id, None) } else { self.visitor_and_user(false) }
    }
}

fn flag(members: &Members<'_>, name: &str) -> Option<bool> {
    match members.get(name)?.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn is_uuid(id: &str) -> bool {
    let hyphens = [8, 13, 18, 23];
    id.len() == 36
        && id.bytes().enumerate().all(|(at, b)| if hyphens.contains(&at) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// When it happened and when it was sent.
fn times(item: &mut Members<'_>, properties: &mut Members<'_>, outside: &Outside<'_>) -> (Option<i64>, Option<i64>) {
    let sent_at = item.get("sent_at").and_then(client_time::of_value).or(outside.sent_at_ms);
    let timestamp = take_time(item, "timestamp");
    // Beside a `timestamp` it says the same once more.
    let told = timestamp.or(take_time(properties, "$time"));
    // Old browser trackers say how many milliseconds ago it happened instead of when it was sent.
    let offset = item.take_text("offset").and_then(|text| text.parse::<i64>().ok());
    match (told, sent_at, offset) {
        (Some(told), None, Some(offset)) => (Some(told), Some(told.saturating_add(offset))),
        (None, Some(sent_at), Some(offset)) => (Some(sent_at.saturating_sub(offset)), Some(sent_at)),
        (told, sent_at, _) => (told, sent_at),
    }
}

/// Takes a time out; what cannot be read as one stays where it is.
fn take_time(members: &mut Members<'_>, name: &str) -> Option<i64> {
    let time = members.get(name).and_then(client_time::of_value)?;
    members.take(name);
    Some(time)
}

fn revenue(properties: &Members<'_>) -> Option<Revenue> {
    let currency = properties.text("currency").or_else(|| properties.text("$currency")).unwrap_or_default();
    let amount = properties.text("$revenue").or_else(|| properties.text("revenue"))?;
    Revenue::parse(&amount, &currency)
}

fn context(kind: EventKind, item: &mut Members<'_>, properties: &mut Members<'_>, outside: &Outside<'_>) -> Context {
    let mut take = |name: &str| properties.take_text(name).unwrap_or_default();
    let mut context = Context {
        url: take("$current_url"),
        referrer: take("$referrer"),
        page_name: take("$screen_name"),
        user_agent: take("$raw_user_agent"),
        locale: take("$browser_language"),
        session: take("$session_id"),
        ip: take("$ip"),
        // The app may have a title of its own on its own events.
        title: if kind == EventKind::Page { take("title") } else { String::new() },
        // Casting saturates: nonsense becomes 0 or the largest number.
        screen: [take("$screen_width"), take("$screen_height")]
            .map(|text| text.parse::<f64>().unwrap_or(0.0) as u32)
            .into(),
        library: take("$lib"),
        library_version: take("$lib_version"),
        ..Context::default()
    };
    // What the tracker says where there was none.
    if context.referrer == "$direct" {
        context.referrer.clear();
    }
    if context.url.is_empty() {
        context.campaign = Campaign {
            source: take("utm_source"),
            medium: take("utm_medium"),
            name: take("utm_campaign"),
            term: take("utm_term"),
            content: take("utm_content"),
        };
    }
    if context.session.is_empty() {
        context.session = item.take_text("session_id").unwrap_or_default();
    }
    let (library, version) = (item.take_text("library"), item.take_text("library_version"));
    if context.library.is_empty() {
        context.library = library.unwrap_or_else(|| outside.tracker.0.to_owned());
        context.library_version = version.unwrap_or_else(|| outside.tracker.1.to_owned());
    }
    context
}

/// What the event changes in its person: members of `$set` are traits, the other operations stay under their own names.
/// They stand beside the properties or within them; beside them wins.
fn traits(item: &mut Members<'_>, properties: &mut Members<'_>) -> String {
    let mut out = ObjectText::from("{}", 256);
    let (mut set, mut set_within) = (item.take_members("$set"), properties.take_members("$set"));
    for operation in ["$set_once", "$unset"] {
        // A trait of such a name would stand twice.
        set.take(operation);
        set_within.take(operation);
    }
    json_union::write(&set, &set_within, &mut out);
    let (once, once_within) = (item.take_members("$set_once"), properties.take_members("$set_once"));
    out.nested("$set_once", |out| json_union::write(&once, &once_within, out));
    if let Some(unset) = item.take("$unset").or_else(|| properties.take("$unset")) {
        out.raw("$unset", unset.get());
    }
    out.finish()
}
