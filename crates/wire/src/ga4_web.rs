//! Google Analytics 4 in browsers (gtag.js and its small kin): events as forms, to `/g/collect`.
//!
//! - The query is one event, and its body empty; or the body has a line per event, and each shares the query's parameters.
//!   A line's own parameters count more.
//! - `ep.x` and `epn.x` are the event's properties (text and numbers), `up.x` and `upn.x` the person's traits, `cu` the
//!   currency, `pr1`, `pr2`, … the products. All else without a field is kept in `$context` under its short name.
//! - There are neither times nor ids of events.
//!
//! # Source
//! Captured requests (`tests/captures/ga4`); codes of products:
//! <https://promincproductions.com/blog/ga4-item-parameter-reference-chart/>.

use std::borrow::Cow;
use std::collections::HashMap;

use trackway_domain::event::{Campaign, Context, EventKind};

use crate::draft::{Draft, Nobody};
use crate::form::{self, Form};
use crate::google::Distinct;
use crate::json::ObjectText;
use crate::protocol::{Answer, Head, Protocol, Request, Verdict};
use crate::{Item, Rejection, Understood, ga4_mp, google};

/// GA4 in browsers.
pub struct Ga4Web;

impl Protocol for Ga4Web {
    fn name(&self) -> &'static str {
        "ga4_web"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        head.path == "/g/collect"
    }

    fn write_key(&self, head: &Head<'_>) -> Option<String> {
        let own = head.parameter("tid").or_else(|| head.parameter("writeKey"));
        own.map(Cow::into_owned).or_else(|| head.basic_user())
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        let query = request.head.query.as_bytes();
        let mut lines: Vec<_> = form::lines(request.body).take(request.items_max.saturating_add(1)).collect();
        if lines.len() > request.items_max {
            let (value, limit) = (lines.len(), request.items_max);
            return Err(Rejection::TooLarge { what: "body".into(), value, unit: "lines at least", limit });
        }
        if lines.is_empty() {
            lines.push(b"");
        }
        google::within_sharing(query.len(), lines.len())?;
        Ok(google::keyed(lines.iter().enumerate().map(|(index, line)| event(query, line, index))))
    }

    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        google::answer(verdict)
    }
}

/// Key and event of a line.
fn event(query: &[u8], line: &[u8], index: usize) -> (Option<String>, Item) {
    let mut form = Form::of(&[query, line]);
    let key = form.take("tid");
    for noise in ["v", "_z", "z", "api_secret"] {
        form.take(noise);
    }
    let name = form.take("en").unwrap_or_default();
    let kind = ga4_mp::kind(&name);
    let mut draft = Draft::new(kind, index);
    draft.device = form.take("cid");
    draft.user = form.take("uid");
    let screen = form.get("sr").and_then(google::size);
    if screen.is_some() {
        form.take("sr");
    }
    let consent = google::consent(&form);
    let mut said = |name| form.take(name).unwrap_or_default();
    draft.context = Context {
        url: said("dl"),
        title: said("dt"),
        referrer: said("dr"),
        locale: said("ul"),
        screen: screen.unwrap_or_default(),
        campaign: Campaign {
            source: said("cs"),
            medium: said("cm"),
            name: said("cn"),
            term: said("ck"),
            content: said("cc"),
        },
        session: said("sid"),
        ip: said("_uip"),
        consent,
        ..Context::default()
    };
    if kind == EventKind::Screen {
        draft.context.page_name = form.get("ep.screen_name").unwrap_or_default().to_owned();
    }
    if ga4_mp::earns(&name) {
        let amount = form.get("epn.value").or_else(|| form.get("ep.value")).unwrap_or_default();
        draft.revenue = google::revenue(amount, form.get("cu").unwrap_or_default(), name == "refund");
    }
    draft.name = name;
    (draft.properties, draft.traits) = properties_and_traits(form);
    let raw = if line.is_empty() { query.to_vec() } else { [query, b"\n", line].concat() };
    (key, draft.finish(Nobody::IsMissing("cid", "Send the browser's id, or `uid`"), &raw))
}

fn properties_and_traits(form: Form<'_>) -> (String, String) {
    let (mut properties, mut traits) = (Distinct::new(), Distinct::new());
    let (mut products, mut rest) = (Vec::new(), Vec::new());
    for (name, value) in form.into_pairs() {
        if let Some(own) = name.strip_prefix("ep.") {
            properties.add(own, &name, &value, ObjectText::text);
        } else if let Some(own) = name.strip_prefix("epn.") {
            properties.add(own, &name, &value, google::number);
        } else if let Some(own) = name.strip_prefix("up.") {
            traits.add(own, &name, &value, ObjectText::text);
        } else if let Some(own) = name.strip_prefix("upn.") {
            traits.add(own, &name, &value, google::number);
        } else if name == "cu" {
            properties.add("currency", &name, &value, ObjectText::text);
        } else if let Some(place) = name.strip_prefix("pr").and_then(|place| place.parse::<u32>().ok()) {
            products.push((place, product(&value)));
        } else {
            rest.push((name, value));
        }
    }
    products.sort_by_key(|(place, _)| *place);
    if !products.is_empty() {
        let list = products.into_iter().map(|(_, product)| product).collect::<Vec<_>>().join(",");
        properties.add("products", "pr", &format!("[{list}]"), ObjectText::raw);
    }
    if !rest.is_empty() {
        let mut context = ObjectText::from("{}", 256);
        rest.iter().for_each(|(name, value)| context.text(name, value));
        properties.add("$context", "$context_of_request", &context.finish(), ObjectText::raw);
    }
    (properties.finish(), traits.finish())
}

/// A product, of `idSKU-1~nmTea~pr19.99~qt2~k0colour~v0green`. A `~` within a value is doubled.
fn product(text: &str) -> String {
    let mut out = Distinct::new();
    let mut keys = HashMap::new();
    for field in fields(text) {
        let (code, value) = match field.char_indices().nth(2) {
            Some((at, _)) => field.split_at(at),
            None => (&*field, ""),
        };
        let name = match code {
            "id" => "product_id",
            "nm" => "name",
            "ca" => "category",
            "c2" => "category2",
            "c3" => "category3",
            "c4" => "category4",
            "c5" => "category5",
            "br" => "brand",
            "va" => "variant",
            "pr" => "price",
            "qt" => "quantity",
            "cp" => "coupon",
            "ds" => "discount",
            "lp" => "position",
            "af" => "affiliation",
            "li" => "item_list_id",
            "ln" => "item_list_name",
            "lo" => "location_id",
            "pi" => "promotion_id",
            "pn" => "promotion_name",
            "cn" => "creative_name",
            "cs" => "creative_slot",
            _ if code.starts_with('k') => {
                keys.insert(code[1..].to_owned(), value.to_owned());
                continue;
            }
            // A custom parameter, named just before.
            _ => match code.strip_prefix('v').and_then(|place| keys.get(place)) {
                Some(name) => {
                    out.add(name, &field, value, ObjectText::text);
                    continue;
                }
                None => code,
            },
        };
        let is_number = matches!(name, "price" | "quantity" | "discount" | "position");
        out.add(name, &field, value, if is_number { google::number } else { ObjectText::text });
    }
    out.finish()
}

/// The fields between single `~`.
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let is_end = char == '~' && chars.next_if_eq(&'~').is_none();
        match fields.last_mut() {
            Some(field) if !is_end => field.push(char),
            _ => fields.push(String::new()),
        }
    }
    fields.retain(|field| !field.is_empty());
    fields
}

#[cfg(test)]
mod tests;
