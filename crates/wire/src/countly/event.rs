//! The items of one request: what the session, the user and the app did, each with what the request says of its sender.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use trackway_domain::event::{Campaign, Consent, Context, EventKind};
use trackway_domain::limits::EVENT_BYTES_MAX;
use trackway_domain::revenue::Revenue;

use super::with_json;
use crate::draft::{Draft, Nobody, within};
use crate::json::{self, Members, ObjectText};
use crate::params::Params;
use crate::{Item, Rejection, client_time};

/// Transport's own: how many requests wait, sums over the body, how the SDK fares, the question that `/o` would answer.
const NOISE: [&str; 6] = ["rr", "checksum", "checksum256", "hc", "method", "rtt"];

/// What a request says of its sender is said of each of its events: so it must be short. Real ones have below 1 KiB.
const SENDER_BYTES_MAX: usize = 8192;

/// Understands one request and appends its items.
///
/// - `raw`: the bytes it was read from.
///
/// # Errors
/// If it has more than `items_max` events; then nothing of it counts.
pub(super) fn understand(
    mut params: Params<'_>,
    raw: &[u8],
    items: &mut Vec<Item>,
    items_max: usize,
) -> Result<(), Rejection> {
    let first = items.len();
    NOISE.iter().for_each(|name| params.drop(name));
    let old_id = params.take("old_device_id").map(Cow::into_owned);
    let details = params.take("user_details");
    let events = params.take("events");
    // In the order in which they happen when a request holds several.
    let session = ["begin_session", "session_duration", "end_session"];
    let session = session.map(|name| (name, params.take(name).filter(|value| value != "0")));
    let others = ["crash", "apm", "consent"].map(|name| (name, params.take(name)));
    let bytes = params.iter().map(|(name, value)| name.len() + value.len()).sum();
    if let Err(reason) = within(|| "what the request says of its sender".to_owned(), bytes, "bytes", SENDER_BYTES_MAX) {
        items.push(Item::Rejected { reason, content: raw.to_vec() });
        return Ok(());
    }
    let sender = Sender::of(params);

    if let Some(old) = old_id {
        sender.merge(&old, items);
    }
    let [begin, duration, end] = session;
    if let (name, Some(flag)) = begin {
        items.push(sender.session(name, &flag, items.len()));
    }
    if let Some(details) = details {
        items.push(if_it_fits(&details, || sender.details(&details, items.len())));
    }
    if let Some(text) = events {
        let read = |text: &str| {
            let list = json::list(text, items_max)?;
            let count = list.len();
            let item = |(at, raw): (usize, &RawValue)| if_it_fits(raw.get(), || sender.event(raw, items.len() + at));
            Some((count, list.into_iter().take(items_max).enumerate().map(item).collect::<Vec<_>>()))
        };
        match with_json(&text, read) {
            Some((count, events)) => {
                within(|| "request".to_owned(), count, "events", items_max)?;
                items.extend(events);
            }
            None => {
                let reason = Rejection::Malformed { what: "`events`".into(), expected: "a list of events" };
                items.push(Item::Rejected { reason, content: text.into_owned().into_bytes() });
            }
        }
    }
    for (name, value) in others {
        if let Some(value) = value {
            items.push(if_it_fits(&value, || sender.other(name, &value, items.len())));
        }
    }
    for (name, value) in [duration, end] {
        if let Some(value) = value {
            items.push(sender.session(name, &value, items.len()));
        }
    }
    if items.len() == first {
        // A sign of life, a place, a push token: nothing happened.
        items.push(Item::Nothing);
    }
    Ok(())
}

/// An item, unless its text is too long to be taken apart at all.
fn if_it_fits(text: &str, item: impl FnOnce() -> Item) -> Item {
    match within(|| "event".to_owned(), text.len(), "bytes", EVENT_BYTES_MAX) {
        Ok(()) => item(),
        Err(reason) => Item::Rejected { reason, content: text.as_bytes().to_vec() },
    }
}

/// Who sent a request, and what all of its items share.
struct Sender<'a> {
    id: String,
    /// The app has set the id itself.
    is_user: bool,
    made_ms: Option<i64>,
    context: Context,
    /// What browsers see is pages, what apps see screens.
    is_app: bool,
    rest: Params<'a>,
}

impl<'a> Sender<'a> {
    fn of(mut params: Params<'a>) -> Self {
        let metrics = params.take_text("metrics");
        let mut metrics: Members<'_> = json::object(&metrics).unwrap_or_default();
        let mut metric = |name: &str| metrics.take_text(name).unwrap_or_default();
        let screen = metric("_resolution").split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        let context = Context {
            user_agent: metric("_ua"),
            // Phones write `de_DE`.
            locale: metric("_locale").replace('_', "-"),
            screen: screen.unwrap_or_default(),
            library: params.take_text("sdk_name"),
            library_version: params.take_text("sdk_version"),
            ip: params.take_text("ip_address"),
            ..Context::default()
        };
        let is_app =
            !context.library.is_empty() && !["web", "javascript"].iter().any(|kind| context.library.contains(kind));
        let is_user = params.take("t").as_deref() == Some("0");
        let (id, made_ms) = (params.take_text("device_id"), params.take_time("timestamp"));
        if !metrics.is_empty() {
            params.set("metrics", metrics.object_text());
        }
        Self { id, is_user, made_ms, context, is_app, rest: params }
    }

    fn draft(&self, kind: EventKind, index: usize) -> Draft {
        let mut draft = Draft::new(kind, index);
        let id = Some(self.id.clone());
        (draft.device, draft.user) = if self.is_user { (None, id) } else { (id, None) };
        draft.client_time_ms = self.made_ms;
        draft.context = self.context.clone();
        draft
    }

    /// - `what`: the parameter that the item was read from, with its place, since a request may say the same twice.
    fn finish(
        &self,
        mut draft: Draft,
        mut properties: ObjectText,
        own: &Members<'_>,
        what: (&str, &str, usize),
    ) -> Item {
        properties.nested("$context", |out| {
            self.rest.iter().for_each(|(name, value)| out.structure(name, value));
            out.nested("$event", |out| own.write(out));
        });
        draft.properties = properties.finish();
        // Neither the SDK's count of waiting requests nor its check sum, which a repetition has anew.
        let ((name, value, place), id) = (what, &self.id);
        let made = self.made_ms.unwrap_or_default();
        let raw = format!("device_id={id}&timestamp={made}&{name}[{place}]={value}");
        draft.finish(Nobody::IsMissing("device_id", "Say which device it was"), raw.as_bytes())
    }

    fn session(&self, name: &str, value: &str, index: usize) -> Item {
        let mut draft = self.draft(EventKind::Track, index);
        name.clone_into(&mut draft.name);
        let mut properties = ObjectText::from("{}", 32);
        if name == "session_duration" {
            properties.number("duration", value);
        }
        self.finish(draft, properties, &Members::default(), (name, value, index))
    }

    /// Crashes, performance and consent: an event of that name.
    fn other(&self, name: &str, value: &str, index: usize) -> Item {
        let mut draft = self.draft(EventKind::Track, index);
        name.clone_into(&mut draft.name);
        let members: Members<'_> = json::object(value).unwrap_or_default();
        if name == "consent" {
            draft.context.consent = match members.get("events").map(RawValue::get) {
                Some("true") => Consent::Granted,
                Some("false") => Consent::Denied,
                Some(_) | None => Consent::Unknown,
            };
        }
        let mut properties = ObjectText::from("{}", value.len());
        members.write(&mut properties);
        self.finish(draft, properties, &Members::default(), (name, value, index))
    }

    /// The id was another before, and both are one.
    fn merge(&self, old: &str, items: &mut Vec<Item>) {
        let mut push = |kind, device: Option<&str>, other: Option<&str>| {
            let mut draft = self.draft(kind, items.len());
            (draft.device, draft.user) = (device.map(str::to_owned), Some(self.id.clone()));
            draft.other = other.map(str::to_owned);
            let what = ("old_device_id", old, items.len());
            items.push(self.finish(draft, ObjectText::from("{}", 0), &Members::default(), what));
        };
        if is_made_by_sdk(old) {
            push(EventKind::Identify, Some(old), None);
        } else {
            push(EventKind::Alias, None, Some(old));
        }
        // Old SDKs do not say what kind of id it is. What comes under the new one is then a device's, which is joined too.
        if !self.is_user {
            push(EventKind::Identify, Some(&self.id), None);
        }
    }

    /// What is known of the user. Operations, `{"logins":{"$inc":1}}`, stand in the traits under their own name.
    fn details(&self, text: &str, index: usize) -> Item {
        let mut members: Members<'_> = json::object(text).unwrap_or_default();
        let custom = members.take_members("custom");
        let mut traits = members.object_text();
        let mut out = ObjectText::from(&traits, text.len());
        let mut operations: BTreeMap<&str, Vec<(&str, &RawValue)>> = BTreeMap::new();
        let parts: Vec<_> = custom.iter().map(|(name, value)| (name, value, Members::of(value))).collect();
        for (name, value, parts) in &parts {
            if !parts.is_empty() && parts.iter().all(|(operation, _)| operation.starts_with('$')) {
                parts
                    .iter()
                    .for_each(|(operation, value)| operations.entry(operation).or_default().push((name, value)));
            } else if members.get(name).is_none() {
                out.raw(name, value.get());
            }
        }
        for (operation, fields) in operations {
            out.nested(operation, |out| fields.iter().for_each(|(name, value)| out.raw(name, value.get())));
        }
        traits = out.finish();
        let mut draft = self.draft(EventKind::Identify, index);
        draft.traits = traits;
        self.finish(draft, ObjectText::from("{}", 0), &Members::default(), ("user_details", text, index))
    }

    fn event(&self, raw: &RawValue, index: usize) -> Item {
        if !raw.get().starts_with('{') {
            let reason = Rejection::Malformed { what: "item of `events`".into(), expected: "a JSON object" };
            return Item::Rejected { reason, content: raw.get().as_bytes().to_vec() };
        }
        let mut own = Members::of(raw);
        let mut draft = self.draft(EventKind::Track, index);
        draft.name = own.take_text("key").unwrap_or_default();
        draft.client_time_ms = own.take("timestamp").and_then(client_time::of_value).or(draft.client_time_ms);
        let segmentation = own.take_members("segmentation");
        let text = |name: &str| segmentation.text(name).unwrap_or_default();
        let is_view = draft.name == "[CLY]_view";
        // A view that is left is told under the view's own id; it says how long it was, and is no view once more.
        let is_left = is_view && segmentation.get("visit").is_none();
        draft.id = own.take_text("id").map(|id| if is_left { format!("{id}:left") } else { id });
        if is_view && !is_left {
            draft.kind = if self.is_app { EventKind::Screen } else { EventKind::Page };
            draft.context.page_name = text("name").into_owned();
            draft.context.referrer = text("referrer").into_owned();
            // The scheme is not told; it is nearly always this one.
            if let Some(domain) = segmentation.text("domain") {
                draft.context.url = format!("https://{domain}{}", text("view"));
            }
            // As in the page's address: still encoded.
            let campaign = |name: &str| decoded(&text(name));
            draft.context.campaign = Campaign {
                source: campaign("utm_source"),
                medium: campaign("utm_medium"),
                name: campaign("utm_campaign"),
                term: campaign("utm_term"),
                content: campaign("utm_content"),
            };
        }
        // A sum may be of anything; with a currency it is money.
        if let (Some(sum), Some(currency)) = (own.text("sum"), segmentation.text("currency")) {
            draft.revenue = Revenue::parse(&sum, &currency);
        }
        let mut properties = ObjectText::from("{}", raw.get().len());
        segmentation.iter().for_each(|(name, value)| properties.raw(name, value.get()));
        for name in ["count", "sum", "dur"] {
            if segmentation.get(name).is_none()
                && let Some(value) = own.take(name)
            {
                properties.raw(name, value.get());
            }
        }
        self.finish(draft, properties, &own, ("events", raw.get(), index))
    }
}

/// Whether an id looks like those that SDKs make up: a UUID, or the 16 digits of Android.
fn is_made_by_sdk(id: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths: Vec<_> = id.split('-').map(str::len).collect();
    (lengths == [8, 4, 4, 4, 12] || lengths == [16]) && id.split('-').all(is_hex)
}

/// Text as it was before it was put into an address.
fn decoded(text: &str) -> String {
    let parameter = format!("x={}", text.replace('&', "%26"));
    form_urlencoded::parse(parameter.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}
