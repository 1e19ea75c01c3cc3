//! One event of Snowplow's: a flat map of text, with JSON in some of it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::value::RawValue;
use trackway_domain::event::EventKind;
use trackway_domain::revenue::Revenue;

use super::Sender;
use super::self_describing::{Entities, SelfDescribing};
use crate::draft::{Draft, Nobody};
use crate::json::ObjectText;
use crate::params::Params;
use crate::{Item, Rejection, json_marks};

/// Understands one event.
///
/// - `raw`: the bytes it was read from.
pub(super) fn understand(params: Params<'_>, index: usize, sender: &Sender<'_>, raw: &[u8]) -> Item {
    match draft(params, index, sender) {
        Ok(draft) => draft.finish(Nobody::IsDerived, raw),
        Err(reason) => Item::Rejected { reason, content: raw.to_vec() },
    }
}

fn draft(mut params: Params<'_>, index: usize, sender: &Sender<'_>) -> Result<Draft, Rejection> {
    const HINT: &str = "Say what kind of event it is, as in `e=pv`";
    let code = params.take("e").ok_or(Rejection::Missing { field: "e", hint: HINT })?;
    let contexts = json_text(&mut params, "co", "cx");
    let entities = Entities::within(contexts.as_deref());
    let mut draft = Draft::new(EventKind::Track, index);
    let mut properties = ObjectText::from("{}", 256);
    match &*code {
        "pv" => draft.kind = EventKind::Page,
        "pp" => {
            "page_ping".clone_into(&mut draft.name);
            write(
                &params.take_all(|name| name.starts_with("pp_")),
                &["pp_mix", "pp_max", "pp_miy", "pp_may"],
                &mut properties,
            );
        }
        "se" => {
            draft.name = params.take_text("se_ac");
            for (code, name) in [("se_ca", "category"), ("se_la", "label"), ("se_pr", "property")] {
                if let Some(value) = params.take(code) {
                    properties.text(name, &value);
                }
            }
            if let Some(value) = params.take("se_va") {
                properties.number("value", &value);
            }
        }
        "ue" => {
            let text = json_text(&mut params, "ue_pr", "ue_px");
            let event = SelfDescribing::within(text.as_deref())?;
            event.name.clone_into(&mut draft.name);
            // Trackers for apps tell a screen with an event of Snowplow's own.
            if event.is_screen() {
                draft.kind = EventKind::Screen;
                draft.context.page_name = event.text("name");
            }
            draft.revenue = entities.revenue(&event);
            properties = event.properties();
        }
        "tr" => {
            "transaction".clone_into(&mut draft.name);
            let (total, currency) = (params.get("tr_tt").unwrap_or(""), params.get("tr_cu").unwrap_or(""));
            draft.revenue = Revenue::parse(total, currency);
            write(&params.take_all(|name| name.starts_with("tr_")), &["tr_tt", "tr_tx", "tr_sh"], &mut properties);
        }
        "ti" => {
            "transaction_item".clone_into(&mut draft.name);
            write(&params.take_all(|name| name.starts_with("ti_")), &["ti_pr", "ti_qu"], &mut properties);
        }
        // `ad` of old trackers, and whatever is still to come: nothing is lost.
        other => other.clone_into(&mut draft.name),
    }
    entities.write_shops(&mut properties);

    draft.id = params.take("eid").map(Into::into);
    // A session's entity is the only place where trackers for apps name their device.
    let session = entities.session();
    let device = params.take("duid").map(Into::into).or_else(|| session.text("userId").map(Into::into));
    draft.device = device.or_else(|| sender.known_id().map(str::to_owned));
    draft.user = params.take("uid").map(Into::into);
    if let Some(index) = session.text("eventIndex").and_then(|index| index.parse().ok()) {
        draft.sequence = index;
    }
    // The true time was set by hand and owes nothing to the client's clock; so it is not corrected by that.
    let sent = params.take_time("stm");
    match params.take_time("ttm") {
        Some(time) => draft.client_time_ms = Some(time),
        None => (draft.client_time_ms, draft.sent_at_ms) = (params.take_time("dtm"), sent),
    }
    let context = &mut draft.context;
    context.url = params.take_text("url");
    context.title = params.take_text("page");
    context.referrer = params.take_text("refr");
    context.user_agent = params.take_text("ua");
    context.locale = params.take_text("lang");
    context.screen = params.take_screen("res").unwrap_or_default();
    let ip = params.take_text("ip");
    context.ip = if sender.is_anonymous() { String::new() } else { ip };
    context.session = params.take_text("sid");
    if context.session.is_empty() {
        context.session = session.text("sessionId").unwrap_or_default().into_owned();
    }
    let tracker = params.take_text("tv");
    let is_end = |(at, _): &(usize, &str)| tracker[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    (context.library, context.library_version) = match tracker.match_indices('-').find(is_end) {
        Some((at, _)) => (format!("snowplow-{}", &tracker[..at]), tracker[at + 1..].to_owned()),
        None => ("snowplow".to_owned(), tracker),
    };

    properties.nested("$context", |out| {
        // A tracker on a server may speak for a browser and know its network id.
        let named = params.take("tnuid").or_else(|| params.take("nuid"));
        if let Some(id) = sender.network_id() {
            out.text("network_user_id", named.as_deref().unwrap_or(id));
        }
        write(&params, &[], out);
        entities.write_others(out);
    });
    draft.properties = properties.finish();
    Ok(draft)
}

/// Writes parameters as the text that they are, but `numbers` as numbers.
fn write(params: &Params<'_>, numbers: &[&str], out: &mut ObjectText) {
    for (name, value) in params.iter() {
        if numbers.contains(&name) {
            out.number(name, value);
        } else {
            out.text(name, value);
        }
    }
}

/// Takes out JSON that is sent either plain or in base64, each under its own name. What is no JSON stays.
fn json_text(params: &mut Params<'_>, plain: &str, encoded: &str) -> Option<String> {
    /// Trackers in browsers leave the padding out, Python's puts it in.
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let text = match (params.get(plain), params.get(encoded)) {
        (Some(text), _) => text.to_owned(),
        (None, Some(encoded)) => {
            // `+` of the standard alphabet is a blank once a form was decoded.
            let url_safe = |c| match c {
                '+' | ' ' => '-',
                '/' => '_',
                other => other,
            };
            let encoded: String = encoded.chars().map(url_safe).collect();
            String::from_utf8_lossy(&URL_SAFE.decode(encoded).ok()?).into_owned()
        }
        (None, None) => return None,
    };
    let is_json = |text: &str| serde_json::from_str::<&RawValue>(text).is_ok();
    let json = if is_json(&text) { text } else { json_marks::without_nan(&text).filter(|text| is_json(text))? };
    params.drop(plain);
    params.drop(encoded);
    Some(json)
}
