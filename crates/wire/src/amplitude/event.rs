//! What an event's fields mean.

use serde_json::value::RawValue;
use trackway_domain::event::{Campaign, EventKind};
use trackway_domain::revenue::Revenue;

use crate::draft::{Draft, Nobody};
use crate::json::{self, Members, ObjectText};
use crate::{Item, client_time, revenue};

/// Reads one event, but for when it was sent.
///
/// - `raw`: the text that it came as.
pub(super) fn understand(mut of: Members<'_>, raw: &str, index: usize) -> Item {
    let name = of.take_text("event_type").unwrap_or_default();
    let mut own = of.take_members("event_properties");
    let mut draft = Draft::new(kind(&name), index);
    draft.device = of.take_text("device_id");
    draft.user = of.take_text("user_id");
    // As documented an insert id counts beside the device; where there is none, beside the user.
    let visitor = draft.device.as_ref().or(draft.user.as_ref());
    draft.id = of.take_text("insert_id").map(|id| format!("{}\n{id}", visitor.map_or("", |id| id)));
    draft.client_time_ms = of.take("time").and_then(client_time::of_value);
    // A counter of the device, which orders events of one millisecond.
    if let Some(counter) = of.text("event_id").and_then(|text| text.parse().ok()) {
        draft.sequence = counter;
        of.take("event_id");
    }
    draft.revenue = earned(&of, &own);
    take_context(&mut draft, &mut of, &mut own);

    let mut traits = ObjectText::from("{}", raw.len());
    let (person, group) = (of.take("user_properties"), of.take("group_properties"));
    if draft.kind == EventKind::Group {
        draft.other = of.get("groups").and_then(first_group);
        write_traits(group, &mut traits);
    } else {
        write_traits(person, &mut traits);
    }
    draft.traits = traits.finish();

    let mut properties = ObjectText::from("{}", raw.len());
    if matches!(draft.kind, EventKind::Page | EventKind::Screen) {
        properties.text("$event_name", &name);
    }
    own.iter().for_each(|(name, value)| properties.raw(name, value.get()));
    properties.nested("$context", |out| {
        of.write(out);
        let unused =
            if draft.kind == EventKind::Group { ("user_properties", person) } else { ("group_properties", group) };
        if let (name, Some(value)) = unused {
            out.raw(name, value.get());
        }
    });
    draft.properties = properties.finish();
    if draft.revenue.is_none() && draft.kind == EventKind::Track {
        draft.revenue = revenue::of_properties(&name, &draft.properties);
    }
    draft.name = name;
    draft.finish(Nobody::IsMissing("device_id", "Send it or `user_id`"), raw.as_bytes())
}

fn kind(name: &str) -> EventKind {
    match name {
        "$identify" => EventKind::Identify,
        "$groupidentify" => EventKind::Group,
        "[Amplitude] Page Viewed" => EventKind::Page,
        "[Amplitude] Screen Viewed" => EventKind::Screen,
        _ => EventKind::Track,
    }
}

fn take_context(draft: &mut Draft, of: &mut Members<'_>, own: &mut Members<'_>) {
    let context = &mut draft.context;
    let mut text = |name| own.take_text(name).unwrap_or_default();
    context.url = text("[Amplitude] Page Location");
    context.title = text("[Amplitude] Page Title");
    context.referrer = text("[Amplitude] Previous Page Location");
    context.page_name = text("[Amplitude] Screen Name");
    context.campaign = Campaign {
        source: text("utm_source"),
        medium: text("utm_medium"),
        name: text("utm_campaign"),
        term: text("utm_term"),
        content: text("utm_content"),
    };
    let mut text = |name| of.take_text(name).unwrap_or_default();
    context.user_agent = text("user_agent");
    context.locale = text("language");
    // -1: outside of any session. `$remote`: the sender's own address.
    context.session = Some(text("session_id")).filter(|id| id != "-1" && id != "0").unwrap_or_default();
    context.ip = Some(text("ip")).filter(|ip| ip != "$remote").unwrap_or_default();
    let library = text("library");
    let (name, version) = library.split_once('/').unwrap_or((&library, ""));
    (context.library, context.library_version) = (name.to_owned(), version.to_owned());
}

/// What is set, or stands beside the operations, is what the person or group has; every other operation keeps its name.
fn write_traits(given: Option<&RawValue>, out: &mut ObjectText) {
    let Some(given) = given else { return };
    let mut given = Members::of(given);
    if given.get("$set").is_some_and(|set| set.get().starts_with('{')) {
        given.take_members("$set").iter().for_each(|(name, value)| out.raw(name, value.get()));
    }
    given.iter().for_each(|(name, value)| out.raw(name, value.get()));
}

/// The id of the first group of `{"company": "acct_7"}`, or of `{"company": ["acct_7"]}`.
fn first_group(groups: &RawValue) -> Option<String> {
    let groups = Members::of(groups);
    let (_, id) = groups.iter().next()?;
    let text = match json::list(id.get(), 1).as_deref() {
        Some([first, ..]) => json::text(first),
        _ => json::text(id),
    };
    text.map(String::from)
}

/// `revenue`, else `price` times `quantity` (1 if it is not there): beside the event, or by `$` in its properties.
fn earned(of: &Members<'_>, own: &Members<'_>) -> Option<Revenue> {
    let said = |name: &str, own_name: &str| of.text(name).or_else(|| own.text(own_name));
    let currency = said("currency", "$currency").or_else(|| own.text("currency")).unwrap_or_default();
    if let Some(revenue) = said("revenue", "$revenue").and_then(|revenue| Revenue::parse(&revenue, &currency)) {
        return Some(revenue);
    }
    let price = Revenue::parse(&said("price", "$price")?, &currency)?;
    let Some(quantity) = said("quantity", "$quantity").and_then(|quantity| Revenue::parse(&quantity, "")) else {
        return Some(price);
    };
    // Both count millionths, so their product counts millionths of millionths.
    let micros = i128::from(price.micros) * i128::from(quantity.micros) / 1_000_000;
    Some(Revenue { micros: i64::try_from(micros).ok()?, currency: price.currency })
}
