//! Events in protobuf.

use bytes::Bytes;
use prost::Message as _;
use serde_json::value::RawValue;
use trackway_domain::event::{Campaign, Consent, Context, EventKind};

use super::{complete, earned, object_text, pb};
use crate::draft::{Draft, Nobody, within};
use crate::{Item, Rejection, Understood};

/// `IngestRequest` as it stands on the wire, where an event is bytes as good as any.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(string, tag = "1")]
    write_key: String,
    #[prost(int64, optional, tag = "2")]
    sent_at_ms: Option<i64>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    events: Vec<Bytes>,
}

/// Understands an `IngestRequest`.
pub(super) fn parse(body: &[u8], items_max: usize) -> Result<Understood, Rejection> {
    let request = Envelope::decode(Bytes::copy_from_slice(body));
    let request = request.map_err(|_| Rejection::Malformed {
        what: "body".into(),
        expected: "a message trackway.ingest.v1.IngestRequest",
    })?;
    within(|| "`events`".to_owned(), request.events.len(), "items", items_max)?;
    let items = request.events.into_iter().enumerate().map(|(index, raw)| {
        let event = pb::Event::decode(raw.clone());
        let event = event.map_err(|_| Rejection::Malformed {
            what: "item of `events`".into(),
            expected: "a message trackway.ingest.v1.Event",
        });
        match event.and_then(|event| draft(event, index, request.sent_at_ms)) {
            Ok(draft) => draft.finish(Nobody::IsDerived, &raw),
            Err(reason) => Item::Rejected { reason, content: raw.to_vec() },
        }
    });
    let items = items.collect();
    Ok(Understood { items, write_key: said(request.write_key), ..Understood::default() })
}

fn draft(event: pb::Event, index: usize, sent_at_ms: Option<i64>) -> Result<Draft, Rejection> {
    let mut draft = Draft::new(kind(event.r#type)?, index);
    draft.name = event.event;
    draft.id = said(event.id);
    draft.device = said(event.visitor_id);
    draft.user = said(event.user_id);
    draft.other = said(event.other_id);
    // Zero is what an unset variable holds, not a time.
    draft.client_time_ms = event.time_ms.filter(|&ms| ms != 0);
    draft.sent_at_ms = sent_at_ms.filter(|&ms| ms != 0);
    draft.sequence = event.sequence.unwrap_or(draft.sequence);
    draft.revenue = match event.revenue {
        Some(revenue) => Some(earned(said(revenue.amount).as_deref(), &revenue.currency)?),
        None => None,
    };
    draft.properties = json_object("properties_json", &event.properties_json)?;
    draft.traits = json_object("traits_json", &event.traits_json)?;
    draft.context = event.context.map(context).unwrap_or_default();
    complete(&mut draft)?;
    Ok(draft)
}

fn kind(number: i32) -> Result<EventKind, Rejection> {
    use pb::event::Type;
    Ok(match Type::try_from(number) {
        Ok(Type::Unspecified | Type::Track) => EventKind::Track,
        Ok(Type::Page) => EventKind::Page,
        Ok(Type::Screen) => EventKind::Screen,
        Ok(Type::Identify) => EventKind::Identify,
        Ok(Type::Group) => EventKind::Group,
        Ok(Type::Alias) => EventKind::Alias,
        Err(_) => {
            let expected = "a type of trackway.ingest.v1.Event that this gateway knows";
            return Err(Rejection::Malformed { what: format!("type {number}"), expected });
        }
    })
}

fn context(of: pb::Context) -> Context {
    let campaign = of.campaign.unwrap_or_default();
    let library = of.library.unwrap_or_default();
    let screen = of.screen.unwrap_or_default();
    Context {
        url: of.url,
        title: of.title,
        referrer: of.referrer,
        page_name: of.page_name,
        user_agent: of.user_agent,
        locale: of.locale,
        screen: (screen.width, screen.height),
        library: library.name,
        library_version: library.version,
        campaign: Campaign {
            source: campaign.source,
            medium: campaign.medium,
            name: campaign.name,
            term: campaign.term,
            content: campaign.content,
        },
        session: of.session,
        ip: of.ip,
        // What a later contract may add says nothing here.
        consent: match pb::context::Consent::try_from(of.consent) {
            Ok(pb::context::Consent::Granted) => Consent::Granted,
            Ok(pb::context::Consent::Denied) => Consent::Denied,
            Ok(pb::context::Consent::Unspecified) | Err(_) => Consent::Unknown,
        },
    }
}

/// Text that is there; protobuf does not tell the empty one from none.
fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Text of a JSON object, checked.
fn json_object(what: &'static str, text: &str) -> Result<String, Rejection> {
    if text.is_empty() {
        return object_text(what, None);
    }
    let value = serde_json::from_str::<&RawValue>(text);
    let value = value.map_err(|_| Rejection::Malformed { what: format!("`{what}`"), expected: "a JSON object" })?;
    object_text(what, Some(value.get()))
}
