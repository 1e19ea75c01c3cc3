//! Touchpoints: contacts on the way that a project gives a name and a stage.

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
}

impl TouchpointRule {
    /// Whether an event is this touchpoint.
    #[must_use]
    pub fn matches(&self, event: &str, path: &str, channel: &str) -> bool {
        (self.event.is_empty() || self.event == event)
            && (self.channel.is_empty() || self.channel == channel)
            && (self.page.is_empty() || wildcard(self.page.as_bytes(), path.as_bytes()))
    }
}

/// The first rule that matches.
#[must_use]
pub fn find<'a>(rules: &'a [TouchpointRule], event: &str, path: &str, channel: &str) -> Option<&'a TouchpointRule> {
    rules.iter().find(|rule| rule.matches(event, path, channel))
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

    #[test]
    fn conditions_that_are_given_must_all_hold() {
        let rule = TouchpointRule {
            event: "page".into(),
            page: "/shop/*".into(),
            channel: "Email".into(),
            ..Default::default()
        };
        assert!(rule.matches("page", "/shop/a", "Email"));
        assert!(!rule.matches("page", "/blog/a", "Email"));
        assert!(!rule.matches("page", "/shop/a", "Direct"));
        assert!(!rule.matches("track", "/shop/a", "Email"));
        assert!(TouchpointRule::default().matches("anything", "", ""));
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let rules = ["a", "b"].map(|name| TouchpointRule { name: name.into(), ..Default::default() });
        assert_eq!(find(&rules, "x", "", "").map(|r| r.name.as_str()), Some("a"));
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
