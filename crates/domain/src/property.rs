//! Conditions on an event's properties, for rules that look at them.

use std::borrow::Cow;

use crate::revenue::micros;

/// One property and what it must be. Its value is looked at as text: a string without its quotes, anything else as JSON
/// writes it (`4.5`, `true`, `null`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyCondition {
    /// Name of a property, at the top level.
    pub name: String,
    /// What it must be.
    pub test: PropertyTest,
}

/// What a property must be. One that an event does not have, or that is `null`, meets [`PropertyTest::IsNot`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyTest {
    /// There, and not `null`.
    Set,
    /// This text.
    Is(String),
    /// Not this text.
    IsNot(String),
    /// A text with this in it, without regard to case (of ASCII letters).
    Contains(String),
    /// A number of at least so many millionths.
    AtLeast(i64),
    /// A number of at most so many millionths.
    AtMost(i64),
}

impl PropertyCondition {
    /// Reads `name`, `name = text`, `name != text`, `name ~ text` (contains), `name >= number`, `name <= number`. Blanks
    /// around the parts do not count.
    ///
    /// `None`: it has no name, or no number where one must stand.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let operator = text.char_indices().find_map(|(at, _)| {
            let rest = &text[at..];
            ["!=", ">=", "<=", "=", "~"]
                .into_iter()
                .find(|operator| rest.starts_with(operator))
                .map(|found| (at, found))
        });
        let (name, test) = match operator {
            None => (text, PropertyTest::Set),
            Some((at, operator)) => {
                let value = text[at + operator.len()..].trim();
                let test = match operator {
                    "=" => PropertyTest::Is(value.to_owned()),
                    "!=" => PropertyTest::IsNot(value.to_owned()),
                    "~" => PropertyTest::Contains(value.to_owned()),
                    ">=" => PropertyTest::AtLeast(micros(value)?),
                    _ => PropertyTest::AtMost(micros(value)?),
                };
                (&text[..at], test)
            }
        };
        let name = name.trim();
        (!name.is_empty()).then(|| Self { name: name.to_owned(), test })
    }

    /// Whether an event meets it.
    ///
    /// - `properties`: the value of a property as text, if the event has it and it is not `null`.
    #[must_use]
    pub fn holds<'a>(&self, properties: impl Fn(&str) -> Option<Cow<'a, str>>) -> bool {
        let value = properties(&self.name);
        match &self.test {
            PropertyTest::Set => value.is_some(),
            PropertyTest::Is(text) => value.is_some_and(|value| value == *text),
            PropertyTest::IsNot(text) => value.is_none_or(|value| value != *text),
            PropertyTest::Contains(text) => {
                value.is_some_and(|value| value.to_ascii_lowercase().contains(&text.to_ascii_lowercase()))
            }
            PropertyTest::AtLeast(least) => number(value).is_some_and(|number| number >= *least),
            PropertyTest::AtMost(most) => number(value).is_some_and(|number| number <= *most),
        }
    }
}

fn number(value: Option<Cow<'_, str>>) -> Option<i64> {
    micros(value?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(condition: &str, value: Option<&str>, expected: bool) {
        let parsed = PropertyCondition::parse(condition).expect("a condition");
        let properties = |name: &str| value.filter(|_| name == "plan").map(|value| Cow::Owned(value.to_owned()));
        assert_eq!(parsed.holds(properties), expected, "{condition} of {value:?}");
    }

    #[test]
    fn a_property_is_looked_at_as_text_or_number() {
        for (condition, yes, no) in [
            ("plan", "x", None),
            ("plan = pro", "pro", Some("Pro")),
            (" plan!=pro ", "free", Some("pro")),
            ("plan ~ RO", "pro", Some("free")),
            ("plan >= 1.5", "1.5", Some("1.4")),
            ("plan <= 1.5", "-3", Some("1.500001")),
            ("plan >= 1", "1e3", Some("many")),
            ("plan = a=b", "a=b", Some("a")),
            ("plan =", "", Some("x")),
        ] {
            check(condition, Some(yes), true);
            check(condition, no, false);
        }
        check("plan != pro", None, true);
        check("plan <= 1", None, false);
    }

    #[test]
    fn what_is_no_condition_is_none() {
        for text in ["", "  ", "= x", "plan >= much", "plan <="] {
            assert_eq!(PropertyCondition::parse(text), None, "{text}");
        }
    }
}
