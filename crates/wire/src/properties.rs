//! One property out of an event's properties, for rules that look at it.

use std::borrow::Cow;

use crate::json::{self, Members};

/// The value of a property at the top level, as [`trackway_domain::property`] looks at it: a string without its quotes,
/// anything else as it is written. `None`: the event does not have it, or it is `null`.
///
/// It reads the object each time; call it for events only that a rule looks at.
///
/// - `properties`: the text of one JSON object.
#[must_use]
pub fn property<'a>(properties: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let members: Members<'a> = json::object(properties).ok()?;
    let value = members.get(name)?;
    Some(json::text(value).unwrap_or(Cow::Borrowed(value.get())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_text_or_as_it_is_written() {
        let object = r#"{"a":"x \"y\"","n":4.50,"b":true,"o":{"a":[1]},"z":null,"a2":""}"#;
        for (name, expected) in [
            ("a", Some("x \"y\"")),
            ("n", Some("4.50")),
            ("b", Some("true")),
            ("o", Some(r#"{"a":[1]}"#)),
            ("z", None),
            ("a2", Some("")),
            ("missing", None),
        ] {
            assert_eq!(property(object, name).as_deref(), expected, "{name}");
        }
        assert_eq!(property("not an object", "a"), None);
    }
}
