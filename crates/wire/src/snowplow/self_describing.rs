//! Data that names its schema, `iglu:vendor/name/format/version`: an event's own, and the entities that were there when it
//! happened (its contexts).

use serde_json::value::RawValue;
use trackway_domain::revenue::Revenue;

use crate::Rejection;
use crate::json::{self, Members, ObjectText};

/// Data with its schema.
pub(super) struct SelfDescribing<'a> {
    schema: String,
    /// The name within the schema.
    pub(super) name: String,
    data: Option<&'a RawValue>,
}

impl<'a> SelfDescribing<'a> {
    /// The event within the envelope `unstruct_event`.
    pub(super) fn within(envelope: Option<&'a str>) -> Result<Self, Rejection> {
        let envelope = envelope.and_then(|text| json::object::<Members<'a>>(text).ok());
        let event = envelope.and_then(|mut envelope| Self::of(envelope.take_members("data")));
        let what = || "`ue_pr` or `ue_px`".to_owned();
        event.ok_or_else(|| Rejection::Malformed { what: what(), expected: "a self-describing event" })
    }

    fn of(mut members: Members<'a>) -> Option<Self> {
        let schema = members.take_text("schema")?;
        let name = schema.strip_prefix("iglu:")?.split('/').nth(1).filter(|name| !name.is_empty())?.to_owned();
        Some(Self { name, data: members.take("data"), schema })
    }

    /// Whether it is Snowplow's own event of a screen of an app.
    pub(super) fn is_screen(&self) -> bool {
        self.name == "screen_view" && self.schema.starts_with("iglu:com.snowplowanalytics.")
    }

    fn is_shops(&self) -> bool {
        self.schema.starts_with("iglu:com.snowplowanalytics.snowplow.ecommerce/")
    }

    /// A member of the data, if it is text or a number.
    pub(super) fn text(&self, name: &str) -> String {
        self.data.and_then(|data| Members::of(data).text(name)).unwrap_or_default().into_owned()
    }

    /// The data as an event's properties, with its schema.
    pub(super) fn properties(&self) -> ObjectText {
        let size = self.data.map_or(0, |data| data.get().len()) + self.schema.len();
        let mut out = ObjectText::from("{}", size);
        match self.data {
            // Null is what the event's author said here, and so it stays.
            Some(data) if data.get().starts_with('{') => {
                Members::of(data).iter().for_each(|(name, value)| out.raw(name, value.get()));
            }
            Some(data) => out.raw("data", data.get()),
            None => {}
        }
        out.text("$schema", &self.schema);
        out
    }
}

/// The entities of an event, in their order; those without a schema are kept as they came.
pub(super) struct Entities<'a>(Vec<(&'a RawValue, Option<SelfDescribing<'a>>)>);

/// More entities than the keys that properties may have are rejected anyway.
const ENTITIES_MAX: usize = 1024;

/// Entities of a shop that come once, by name, and stand in the properties under it.
const SHOPS_OWN: [&str; 3] = ["transaction", "refund", "cart"];

impl<'a> Entities<'a> {
    /// Those within the envelope `contexts`.
    pub(super) fn within(envelope: Option<&'a str>) -> Self {
        let envelope = envelope.and_then(|text| json::object::<Members<'a>>(text).ok()).unwrap_or_default();
        let list = envelope.get("data").and_then(|data| json::list(data.get(), ENTITIES_MAX)).unwrap_or_default();
        Self(list.into_iter().map(|raw| (raw, SelfDescribing::of(Members::of(raw)))).collect())
    }

    /// The data of the tracker's own session.
    pub(super) fn session(&self) -> Members<'a> {
        let session = self.known().find(|entity| entity.name == "client_session");
        session.and_then(|entity| entity.data).map(Members::of).unwrap_or_default()
    }

    /// What a shop's event earned: a transaction's revenue, or less a refund.
    pub(super) fn revenue(&self, event: &SelfDescribing<'_>) -> Option<Revenue> {
        if !event.is_shops() {
            return None;
        }
        match &*event.text("type") {
            "transaction" => {
                let order = self.shops("transaction").next()?;
                Revenue::parse(&order.text("revenue"), &order.text("currency"))
            }
            "refund" => {
                let refund = self.shops("refund").next()?;
                let back = Revenue::parse(&refund.text("refund_amount"), &refund.text("currency"))?;
                Some(Revenue { micros: -back.micros.abs(), ..back })
            }
            _ => None,
        }
    }

    /// Writes a shop's entities into the properties of its event.
    pub(super) fn write_shops(&self, out: &mut ObjectText) {
        let products = self.shops("product").filter_map(|entity| entity.data).map(RawValue::get);
        let products = products.collect::<Vec<_>>().join(",");
        if !products.is_empty() {
            out.raw("products", &format!("[{products}]"));
        }
        for name in SHOPS_OWN {
            if let Some(data) = self.shops(name).next().and_then(|entity| entity.data) {
                out.raw(name, data.get());
            }
        }
    }

    /// Writes those that stand nowhere else, as they came.
    pub(super) fn write_others(&self, out: &mut ObjectText) {
        let stands = |entity: &SelfDescribing<'_>| {
            entity.is_shops() && (entity.name == "product" || SHOPS_OWN.contains(&&*entity.name))
        };
        let others = self.0.iter().filter(|(_, entity)| !entity.as_ref().is_some_and(stands)).map(|(raw, _)| raw.get());
        let others = others.collect::<Vec<_>>().join(",");
        if !others.is_empty() {
            out.raw("contexts", &format!("[{others}]"));
        }
    }

    fn known(&self) -> impl Iterator<Item = &SelfDescribing<'a>> {
        self.0.iter().filter_map(|(_, entity)| entity.as_ref())
    }

    fn shops(&self, name: &str) -> impl Iterator<Item = &SelfDescribing<'a>> {
        self.known().filter(move |entity| entity.is_shops() && entity.name == name)
    }
}
