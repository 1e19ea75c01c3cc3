//! What an event earned, by the properties that shops use where their tracker has no field for it.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;
use trackway_domain::revenue::Revenue;

use crate::json::{self, Object};

/// `revenue` with `currency`, as Segment's e-commerce events name them and others copied. A completed or refunded order
/// may say its `total` instead; a refund is negative, whichever sign it came with.
///
/// - `properties`: text of a JSON object.
pub(crate) fn of_properties(name: &str, properties: &str) -> Option<Revenue> {
    let is_refund = name == "Order Refunded";
    let may_say_total = is_refund || name == "Order Completed";
    // Looking for the name first is ten times faster, and most events earn nothing.
    let may_earn = properties.contains("\"revenue\"") || may_say_total && properties.contains("\"total\"");
    if !may_earn {
        return None;
    }
    let said: Said<'_> = json::object(properties).ok()?;
    let amount = said.revenue.filter(|value| value.get() != "null").or(said.total.filter(|_| may_say_total))?;
    let currency = said.currency.and_then(json::text).unwrap_or_default();
    let mut revenue = Revenue::parse(&json::text(amount)?, &currency)?;
    if is_refund {
        revenue.micros = -revenue.micros.abs();
    }
    Some(revenue)
}

#[derive(Default)]
struct Said<'a> {
    revenue: Option<&'a RawValue>,
    total: Option<&'a RawValue>,
    currency: Option<&'a RawValue>,
}

impl<'a> Object<'a> for Said<'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        let slot = match &*name {
            "revenue" => &mut self.revenue,
            "total" => &mut self.total,
            "currency" => &mut self.currency,
            _ => return map.next_value::<IgnoredAny>().map(drop),
        };
        *slot = Some(map.next_value()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, properties: &str, expected: Option<(i64, &str)>) {
        let found = of_properties(name, properties);
        let found = found.as_ref().map(|revenue| (revenue.micros, &*revenue.currency));
        assert_eq!(found, expected, "{name} {properties}");
    }

    #[test]
    fn revenue_counts_wherever_it_stands_and_total_for_an_order_only() {
        check("Purchase", r#"{"revenue":46.48,"total":59.97,"currency":"eur"}"#, Some((46_480_000, "EUR")));
        check("Purchase", r#"{"revenue":"46.48"}"#, Some((46_480_000, "")));
        check("Order Completed", r#"{"total":59.97,"revenue":null}"#, Some((59_970_000, "")));
        check("Product Viewed", r#"{"total":59.97,"currency":"EUR"}"#, None);
        check("Purchase", r#"{"revenue":null,"nested":{"revenue":1}}"#, None);
        check("Purchase", r#"{"revenue":[1]}"#, None);
        check("Purchase", r#"{"revenue":null,"total":59.97}"#, None);
        check("Purchase", r#"{"items":[{"revenue":1}]}"#, None);
    }

    #[test]
    fn a_refund_is_negative_whichever_sign_it_came_with() {
        check("Order Refunded", r#"{"total":5,"currency":"EUR"}"#, Some((-5_000_000, "EUR")));
        check("Order Refunded", r#"{"revenue":-5}"#, Some((-5_000_000, "")));
        // The number nearest to none that has no positive sister.
        check("Order Refunded", r#"{"revenue":-9223372036854.775808}"#, None);
    }
}
