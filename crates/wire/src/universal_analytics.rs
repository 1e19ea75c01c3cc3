//! Universal Analytics (the Measurement Protocol before GA4): hits as forms, to `/collect` and its kin, and lines of hits
//! to `/batch`.
//!
//! - A hit's fields become properties under the names that analytics.js gives them (`ec` → `eventCategory`, `cd3` →
//!   `dimension3`); an event is named by its action. Codes without such a name are kept in `$context` under their own.
//! - Hits have no ids, and no time but `qt`, how long ago they happened when they were sent.
//! - `aip` asks that the address be made anonymous: it is not kept.
//!
//! # Source
//! <https://developers.google.com/analytics/devguides/collection/protocol/v1/parameters>, and universal-analytics 0.5.

use std::borrow::Cow;
use std::collections::BTreeMap;

use trackway_domain::event::{Campaign, Context, EventKind};
use trackway_domain::limits::OLDEST_EVENT_MS;

use crate::draft::{Draft, Nobody};
use crate::form::{self, Form};
use crate::google::Distinct;
use crate::json::ObjectText;
use crate::pixel::image_answer;
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict};
use crate::{Item, Rejection, Understood, google};

/// Universal Analytics.
pub struct UniversalAnalytics;

impl Protocol for UniversalAnalytics {
    fn name(&self) -> &'static str {
        "universal_analytics"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        match head.path {
            "/collect" | "/r/collect" | SCRIPT_PATH => true,
            BATCH_PATH => head.method == Method::Post,
            _ => false,
        }
    }

    /// `/batch` is PostHog's and Amplitude's too, whose bodies are JSON or compressed.
    fn recognises(&self, request: &Request<'_>) -> bool {
        let Some(first) = form::lines(request.body).next() else { return has_head(request.head.query.as_bytes()) };
        // The fields that are looked for stand among the first, and a stranger's body may be long.
        !first.starts_with(b"{") && !first.starts_with(b"[") && has_head(&first[..first.len().min(HIT_BYTES_MAX)])
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let own = head.parameter("tid").or_else(|| head.parameter("writeKey"));
        own.map(Cow::into_owned).or_else(|| head.basic_user())
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let query = request.head.query.as_bytes();
        // Google takes 20 lines; what a tracker sends beyond is no worse.
        let lines_max = if request.head.path == BATCH_PATH { request.items_max } else { 1 };
        let mut lines: Vec<_> = form::lines(request.body).take(lines_max.saturating_add(1)).collect();
        if lines.len() > lines_max {
            let (value, limit) = (lines.len(), lines_max);
            return Err(Rejection::TooLarge { what: "body".into(), value, unit: "lines at least", limit });
        }
        if lines.is_empty() {
            lines.push(b"");
        }
        google::within_sharing(query.len(), lines.len())?;
        let mut anonymous = false;
        let hits = lines.iter().enumerate().map(|(index, line)| {
            let mut form = Form::of(&[query, line]);
            anonymous |= form.get("aip").is_some_and(|aip| aip != "0");
            let raw = if line.is_empty() { query.to_vec() } else { [query, b"\n", line].concat() };
            (form.take("tid"), hit(form, index, &raw))
        });
        let understood = google::keyed(hits);
        Ok(Understood { anonymous, ..understood })
    }

    fn answer(&self, request: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        let head = &request.head;
        let image = image_answer(verdict);
        if head.path == SCRIPT_PATH {
            // analytics.js reads what to do next; this says nothing.
            return Answer { content_type: "text/plain", body: Cow::Borrowed(b"1"), ..image };
        }
        image
    }
}

const BATCH_PATH: &str = "/batch";
const SCRIPT_PATH: &str = "/j/collect";

/// Google's limit of a hit.
const HIT_BYTES_MAX: usize = 8192;

fn has_head(form: &[u8]) -> bool {
    let (mut version, mut key) = (false, false);
    for (name, value) in form_urlencoded::parse(form) {
        version |= name == "v" && value == "1";
        key |= name == "tid" && !value.is_empty();
    }
    version && key
}

fn hit(mut form: Form<'_>, index: usize, raw: &[u8]) -> Item {
    // The cache buster stays in `raw`, where it tells two equal hits apart; sent again it is the same.
    for noise in ["v", "z"] {
        form.take(noise);
    }
    let hit_type = form.take("t").unwrap_or_default();
    let (kind, name) = match &*hit_type {
        "pageview" => (EventKind::Page, String::new()),
        // Apps were told so first, sites later.
        "screenview" | "appview" => (EventKind::Screen, String::new()),
        "event" => (EventKind::Track, form.get("ea").unwrap_or_default().to_owned()),
        // What analytics.js tells DoubleClick beside the hit itself.
        "dc" => return Item::Nothing,
        "" => {
            let reason = Rejection::Missing { field: "t", hint: "Say the type of the hit, as in `t=pageview`" };
            return Item::Rejected { reason, content: raw.to_vec() };
        }
        _ => (EventKind::Track, hit_type),
    };
    let mut draft = Draft::new(kind, index);
    draft.name = name;
    draft.device = form.take("cid");
    draft.user = form.take("uid");
    if let Some(queued) = form.get("qt").and_then(|qt| qt.parse::<u32>().ok()) {
        form.take("qt");
        // There is no clock, only a distance from the time of sending. Of a clock that differs only the distance counts,
        // and this one stood at its first possible time when the hit happened.
        draft.client_time_ms = Some(OLDEST_EVENT_MS);
        draft.sent_at_ms = Some(OLDEST_EVENT_MS.saturating_add(queued.into()));
    }
    draft.context = context(&mut form, kind);
    if let Some(amount) = form.get("tr") {
        let is_refund = form.get("pa") == Some("refund");
        draft.revenue = google::revenue(amount, form.get("cu").unwrap_or_default(), is_refund);
    }
    draft.properties = properties(form);
    draft.finish(Nobody::IsMissing("cid", "Send the device's id, or `uid`"), raw)
}

fn context(form: &mut Form<'_>, kind: EventKind) -> Context {
    let screen = form.get("sr").and_then(google::size);
    if screen.is_some() {
        form.take("sr");
    }
    let consent = google::consent(form);
    let url = url(form);
    let mut said = |name| form.take(name).unwrap_or_default();
    let version = said("_v");
    Context {
        url,
        title: said("dt"),
        referrer: said("dr"),
        page_name: if kind == EventKind::Screen { said("cd") } else { String::new() },
        user_agent: said("ua"),
        locale: said("ul"),
        screen: screen.unwrap_or_default(),
        library: if version.is_empty() { String::new() } else { "analytics.js".to_owned() },
        library_version: version,
        campaign: Campaign {
            source: said("cs"),
            medium: said("cm"),
            name: said("cn"),
            term: said("ck"),
            content: said("cc"),
        },
        session: String::new(),
        ip: said("uip"),
        consent,
    }
}

/// The address `dl`, of which `dh` replaces the host, and `dp` what stands behind it.
fn url(form: &mut Form<'_>) -> String {
    let (location, host, path) = (form.take("dl"), form.take("dh"), form.take("dp"));
    if host.is_none() && path.is_none() {
        return location.unwrap_or_default();
    }
    let location = location.unwrap_or_default();
    let (scheme, rest) = location.split_once("://").unwrap_or(("https", ""));
    let (own_host, own_path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host.as_deref().unwrap_or(own_host);
    let path = path.as_deref().unwrap_or(own_path);
    if host.is_empty() { path.to_owned() } else { format!("{scheme}://{host}{path}") }
}

/// Codes with one meaning and analytics.js's names of them.
const NAMES: [(&str, &str, Value); 41] = {
    use Value::{Number, Text};
    [
        ("ec", "eventCategory", Text),
        ("ea", "eventAction", Text),
        ("el", "eventLabel", Text),
        ("ev", "eventValue", Number),
        ("ni", "nonInteraction", Number),
        ("ti", "transactionId", Text),
        ("ta", "affiliation", Text),
        ("tr", "revenue", Number),
        ("ts", "shipping", Number),
        ("tt", "tax", Number),
        ("tcc", "couponCode", Text),
        ("cu", "currency", Text),
        ("in", "itemName", Text),
        ("ip", "itemPrice", Number),
        ("iq", "itemQuantity", Number),
        ("ic", "itemCode", Text),
        ("iv", "itemCategory", Text),
        ("pa", "productAction", Text),
        ("pal", "productActionList", Text),
        ("cos", "checkoutStep", Number),
        ("col", "checkoutStepOption", Text),
        ("promoa", "promotionAction", Text),
        ("sn", "socialNetwork", Text),
        ("sa", "socialAction", Text),
        ("st", "socialTarget", Text),
        ("exd", "exDescription", Text),
        ("exf", "exFatal", Number),
        ("utc", "timingCategory", Text),
        ("utv", "timingVar", Text),
        ("utt", "timingValue", Number),
        ("utl", "timingLabel", Text),
        ("plt", "pageLoadTime", Number),
        ("dns", "dnsTime", Number),
        ("pdt", "pageDownloadTime", Number),
        ("rrt", "redirectTime", Number),
        ("tcp", "tcpConnectTime", Number),
        ("srt", "serverResponseTime", Number),
        ("dit", "domInteractiveTime", Number),
        ("clt", "contentLoadTime", Number),
        ("cd", "screenName", Text),
        ("linkid", "linkid", Text),
    ]
};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Text,
    Number,
}

impl Value {
    fn writer(self) -> fn(&mut ObjectText, &str, &str) {
        match self {
            Self::Text => ObjectText::text,
            Self::Number => google::number,
        }
    }
}

fn properties(form: Form<'_>) -> String {
    let mut out = ObjectText::from("{}", 512);
    let (mut products, mut rest) = (BTreeMap::<u32, Vec<_>>::new(), Vec::new());
    for (code, value) in form.into_pairs() {
        if let Some((_, name, kind)) = NAMES.iter().find(|(known, ..)| *known == code) {
            kind.writer()(&mut out, name, &value);
        } else if let Some(place) = numbered(&code, "cd") {
            out.text(&format!("dimension{place}"), &value);
        } else if let Some(place) = numbered(&code, "cm") {
            google::number(&mut out, &format!("metric{place}"), &value);
        } else if let Some(place) = numbered(&code, "cg") {
            out.text(&format!("contentGroup{place}"), &value);
        } else if let Some((place, part)) = of_product(&code) {
            products.entry(place).or_default().push((part.to_owned(), value));
        } else {
            rest.push((code, value));
        }
    }
    if !products.is_empty() {
        let list = products.values().map(|parts| product(parts)).collect::<Vec<_>>().join(",");
        out.raw("products", &format!("[{list}]"));
    }
    out.nested("$context", |out| rest.iter().for_each(|(code, value)| out.text(code, value)));
    out.finish()
}

/// The number behind a code; written as Google writes it, so that two codes never become one name.
fn numbered(code: &str, prefix: &str) -> Option<u32> {
    let digits = code.strip_prefix(prefix)?;
    let canonical = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| canonical)
}

/// Place and part of `pr2nm`.
fn of_product(code: &str) -> Option<(u32, &str)> {
    let digits = code.strip_prefix("pr")?;
    let end = digits.find(|char: char| !char.is_ascii_digit())?;
    Some((numbered(&code[..2 + end], "pr")?, &digits[end..]))
}

fn product(parts: &[(String, Cow<'_, str>)]) -> String {
    let mut out = Distinct::new();
    for (part, value) in parts {
        let numbered = |prefix, name: &str| Some(format!("{name}{}", numbered(part, prefix)?));
        let (name, kind) = match &**part {
            "id" => ("product_id".to_owned(), Value::Text),
            "nm" => ("name".to_owned(), Value::Text),
            "br" => ("brand".to_owned(), Value::Text),
            "ca" => ("category".to_owned(), Value::Text),
            "va" => ("variant".to_owned(), Value::Text),
            "pr" => ("price".to_owned(), Value::Number),
            "qt" => ("quantity".to_owned(), Value::Number),
            "cc" => ("coupon".to_owned(), Value::Text),
            "ps" => ("position".to_owned(), Value::Number),
            _ => match (numbered("cd", "dimension"), numbered("cm", "metric")) {
                (Some(name), _) => (name, Value::Text),
                (None, Some(name)) => (name, Value::Number),
                (None, None) => (part.clone(), Value::Text),
            },
        };
        out.add(&name, &format!("pr{part}"), value, kind.writer());
    }
    out.finish()
}

#[cfg(test)]
mod tests;
