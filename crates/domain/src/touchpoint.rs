//! Touchpoints: contacts on the way that a project gives a name and a stage.

use std::borrow::Cow;

use crate::property::PropertyCondition;

/// Names a touchpoint and gives it a stage. All conditions that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TouchpointRule {
    /// Name of the touchpoint, for example `checkout`.
    pub name: String,
    /// Stage, for example `awareness`, `consideration`, `purchase`, `retention`, `advocacy`.
    pub stage: String,
    /// Exact name of the event; empty: any.
    pub event: String,
    /// Pattern of the page's path, `*` for any run of characters; empty: any.
    pub page: String,
    /// Exact channel, for example `Email`; empty: any.
    pub channel: String,
    /// Conditions on properties, all of which must hold.
    pub properties: Vec<PropertyCondition>,
}

impl TouchpointRule {
    /// Whether an event is this touchpoint.
    ///
    /// - `properties`: the value of a property as text, if the event has it and it is not `null`. Looked at last.
    #[must_use]
    pub fn matches<'a>(
        &self,
        event: &str,
        path: &str,
        channel: &str,
        properties: impl Fn(&str) -> Option<Cow<'a, str>>,
    ) -> bool {
        (self.event.is_empty() || self.event == event)
            && (self.channel.is_empty() || self.channel == channel)
            && (self.page.is_empty() || wildcard(self.page.as_bytes(), path.as_bytes()))
            && self.properties.iter().all(|condition| condition.holds(&properties))
    }
}

/// The first rule that matches.
#[must_use]
pub fn find<'r, 'a>(
    rules: &'r [TouchpointRule],
    event: &str,
    path: &str,
    channel: &str,
    properties: impl Fn(&str) -> Option<Cow<'a, str>>,
) -> Option<&'r TouchpointRule> {
    rules.iter().find(|rule| rule.matches(event, path, channel, &properties))
}

/// Whether `text` is `pattern`, in which `*` stands for any run of bytes. Takes at most pattern x text steps.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star stood, and how much of the text it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn none(_: &str) -> Option<Cow<'static, str>> {
        None
    }

    #[test]
    fn conditions_that_are_given_must_all_hold() {
        let rule = TouchpointRule {
            event: "page".into(),
            page: "/shop/*".into(),
            channel: "Email".into(),
            ..Default::default()
        };
        assert!(rule.matches("page", "/shop/a", "Email", none));
        assert!(!rule.matches("page", "/blog/a", "Email", none));
        assert!(!rule.matches("page", "/shop/a", "Direct", none));
        assert!(!rule.matches("track", "/shop/a", "Email", none));
        assert!(TouchpointRule::default().matches("anything", "", "", none));
        let properties = ["plan = pro", "seats >= 5"].map(|text| PropertyCondition::parse(text).expect("a condition"));
        let rule = TouchpointRule { properties: properties.to_vec(), ..Default::default() };
        let has = |plan: &'static str, seats: &'static str| {
            rule.matches("x", "", "", |name| Some(Cow::Borrowed(if name == "plan" { plan } else { seats })))
        };
        assert_eq!([has("pro", "5"), has("free", "5"), has("pro", "4")], [true, false, false]);
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let rules = ["a", "b"].map(|name| TouchpointRule { name: name.into(), ..Default::default() });
        assert_eq!(find(&rules, "x", "", "", none).map(|r| r.name.as_str()), Some("a"));
    }

    /// The meaning, by trying every split.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| oracle(rest, &text[n..])),
            Some((b, rest)) => text.first() == Some(b) && oracle(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_star_is_any_run(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            prop_assert_eq!(wildcard(pattern.as_bytes(), text.as_bytes()), oracle(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
