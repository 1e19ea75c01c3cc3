//! One hit: what happened shows by which parameters it has.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use trackway_domain::event::EventKind;
use trackway_domain::revenue::Revenue;

use crate::draft::{Draft, Nobody};
use crate::json::{self, Members, ObjectText};
use crate::params::Params;
use crate::{Item, Rejection};

/// The protocol's own noise: version, flags for the server, what keeps caches out.
const NOISE: [&str; 8] = ["rec", "apiv", "r", "rand", "send_image", "ca", "bots", "queuedtracking"];

/// Parameters of what happened, and under which name they stand in its properties. The same names are used for an order
/// that other trackers send.
const ORDER: [(&str, &str); 6] = [
    ("ec_id", "order_id"),
    ("revenue", "revenue"),
    ("ec_st", "subtotal"),
    ("ec_tx", "tax"),
    ("ec_sh", "shipping"),
    ("ec_dt", "discount"),
];
const EVENT: [(&str, &str); 4] = [("e_c", "category"), ("e_a", "action"), ("e_n", "name"), ("e_v", "value")];
const GOAL: [(&str, &str); 2] = [("idgoal", "goal_id"), ("revenue", "revenue")];
const SEARCH: [(&str, &str); 3] = [("search", "keyword"), ("search_cat", "category"), ("search_count", "count")];
const DOWNLOAD: [(&str, &str); 1] = [("download", "url")];
const OUTLINK: [(&str, &str); 1] = [("link", "url")];
const CONTENT: [(&str, &str); 4] =
    [("c_n", "content_name"), ("c_p", "content_piece"), ("c_t", "content_target"), ("c_i", "interaction")];

/// Parameters that are numbers; all others are text, even if they look like numbers.
const NUMBERS: [&str; 9] = ["revenue", "ec_st", "ec_tx", "ec_sh", "ec_dt", "e_v", "idgoal", "search_count", "_pkp"];

/// Understands a hit.
///
/// - `raw`: the bytes it was read from.
pub(super) fn understand(params: Params<'_>, index: usize, raw: &[u8]) -> Item {
    match draft(params, index, raw.len()) {
        Ok(draft) => draft.finish(Nobody::IsDerived, raw),
        Err(reason) => Item::Rejected { reason, content: raw.to_vec() },
    }
}

/// What a hit tells of, and the parameters that belong to it.
fn action<'a>(params: &'a Params<'_>) -> Option<(&'a str, &'static [(&'static str, &'static str)])> {
    let given = |name: &str| params.get(name).is_some();
    Some(if params.get("ping") == Some("1") {
        ("ping", &[])
    } else if params.get("idgoal") == Some("0") {
        (if given("ec_id") { "ecommerce_order" } else { "ecommerce_cart_update" }, &ORDER)
    } else if given("idgoal") {
        ("goal", &GOAL)
    } else if given("e_c") && given("e_a") {
        (params.get("e_a")?, &EVENT)
    } else if given("search") {
        ("site_search", &SEARCH)
    } else if given("download") {
        ("download", &DOWNLOAD)
    } else if given("link") {
        ("outlink", &OUTLINK)
    } else if given("c_n") {
        (if given("c_i") { "content_interaction" } else { "content_impression" }, &CONTENT)
    } else if given("ca") {
        // Plugins' own: media, forms, crashes.
        ("custom_action", &[])
    } else {
        return None;
    })
}

fn draft(mut params: Params<'_>, index: usize, bytes: usize) -> Result<Draft, Rejection> {
    let mut draft = Draft::new(EventKind::Track, index);
    let mut own: &[_] = &[];
    match action(&params) {
        Some((name, parameters)) => {
            name.clone_into(&mut draft.name);
            own = parameters;
        }
        None if params.get("url").is_some() || params.get("action_name").is_some() => draft.kind = EventKind::Page,
        None => {
            return Err(Rejection::Missing { field: "url", hint: "Say which page was seen, or what else happened" });
        }
    }
    let mut properties = ObjectText::from("{}", bytes);
    let is_cart = draft.name == "ecommerce_cart_update";
    if own.iter().any(|(code, _)| *code == "revenue") && !is_cart {
        draft.revenue = params.get("revenue").and_then(|amount| Revenue::parse(amount, ""));
    }
    for (code, name) in own {
        match params.take(code) {
            Some(value) if NUMBERS.contains(code) => properties.number(name, &value),
            Some(value) => properties.text(name, &value),
            None => {}
        }
    }
    params.take_if("idgoal", "0");
    params.take_if("ping", "1");
    NOISE.iter().for_each(|name| params.drop(name));
    if let Some(products) = params.get("ec_items").and_then(items) {
        properties.raw("products", &products);
        params.drop("ec_items");
    }
    // A product that was looked at sticks to all later hits of the page; only the view of the page is the view of it.
    if draft.kind == EventKind::Page
        && let Some(product) = product(&mut params)
    {
        properties.raw("products", &format!("[{product}]"));
    }
    let dimensions = params.take_all(|name| name.strip_prefix("dimension").is_some_and(|n| n.parse::<u32>().is_ok()));
    dimensions.iter().for_each(|(name, value)| properties.text(name, value));
    custom_variables(&mut params, "cvar", &mut properties);

    draft.device = params.take("cid").or_else(|| params.take("_id")).map(Into::into);
    draft.user = params.take("uid").map(Into::into);
    draft.client_time_ms = params.take_time("cdt");
    let context = &mut draft.context;
    context.url = params.take_text("url");
    context.title = params.take_text("action_name");
    context.referrer = params.take_text("urlref");
    context.user_agent = params.take_text("ua");
    context.screen = params.take_screen("res").unwrap_or_default();
    context.ip = params.take_text("cip");
    // As in `Accept-Language`: the first is the best.
    context.locale = params.take_text("lang").split([',', ';']).next().unwrap_or_default().to_owned();
    "matomo".clone_into(&mut context.library);
    properties.nested("$context", |out| {
        custom_variables(&mut params, "_cvar", out);
        params.iter().for_each(|(name, value)| out.structure(name, value));
    });
    draft.properties = properties.finish();
    Ok(draft)
}

/// An order's or cart's items, `[[sku, name, category or categories, price, quantity], …]`, as products.
fn items(text: &str) -> Option<String> {
    const NAMES: [&str; 5] = ["product_id", "name", "category", "price", "quantity"];
    let products = list(text)?.into_iter().map(|item| {
        let mut product = ObjectText::from("{}", item.get().len() + 64);
        for (name, value) in NAMES.iter().zip(list(item.get())?) {
            write_value(&mut product, name, value);
        }
        Some(product.finish())
    });
    Some(format!("[{}]", products.collect::<Option<Vec<_>>>()?.join(",")))
}

/// The product that a page shows, taken out of the parameters.
fn product(params: &mut Params<'_>) -> Option<String> {
    params.get("_pks").or_else(|| params.get("_pkn"))?;
    let mut product = ObjectText::from("{}", 128);
    for (code, name) in [("_pks", "product_id"), ("_pkn", "name"), ("_pkc", "category"), ("_pkp", "price")] {
        let Some(value) = params.take(code) else { continue };
        match serde_json::from_str::<&RawValue>(&value) {
            Ok(list) if list.get().starts_with('[') => write_value(&mut product, name, list),
            Ok(_) if NUMBERS.contains(&code) => product.number(name, &value),
            Ok(_) | Err(_) => product.text(name, &value),
        }
    }
    Some(product.finish())
}

/// Writes a value; a list of one is that one.
fn write_value(out: &mut ObjectText, name: &str, value: &RawValue) {
    let value = match list(value.get()).as_deref() {
        Some([only]) => only.get(),
        Some(_) | None => value.get(),
    };
    if value != "null" {
        out.raw(name, value);
    }
}

/// Custom variables, `{"1":["name","value"],…}`, as an object of their own; whatever else stays as it is.
fn custom_variables(params: &mut Params<'_>, code: &str, out: &mut ObjectText) {
    let Some(text) = params.get(code) else { return };
    let Ok(slots) = json::object::<Members<'_>>(text) else { return };
    let variable = |slot: &RawValue| match list(slot.get())?[..] {
        [name, value] => Some((json::text(name)?.into_owned(), value.get().to_owned())),
        _ => None,
    };
    // By name: of two slots with one name the last counts.
    let Some(variables) = slots.iter().map(|(_, slot)| variable(slot)).collect::<Option<BTreeMap<_, _>>>() else {
        return;
    };
    params.drop(code);
    out.nested("custom_variables", |out| variables.iter().for_each(|(name, value)| out.raw(name, value)));
}

/// A list that is no longer than properties may be.
fn list(text: &str) -> Option<Vec<&RawValue>> {
    json::list(text, trackway_domain::limits::PROPERTIES_MAX)
}
