//! How a project groups visits into channels: which published rules it takes, and its own before them. What the rules say
//! of a visit is worked out in `enrich`.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take: a rule is looked at for every visit.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What a project decides about where its visitors came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelRules {
    /// Whose published rules apply where no own rule matches.
    pub preset: ChannelPreset,
    /// Own rules; the first that matches wins.
    pub own: Vec<ChannelRule>,
    /// Addresses of the project itself: who comes from there came from nowhere else. Empty: the host of the page, with what
    /// lies below and above it.
    pub own_sites: Vec<SiteAddress>,
    /// Addresses of other projects of the installation: who comes from there was referred, also within one host.
    pub other_sites: Vec<SiteAddress>,
    /// Referrers that say nothing: a payment's page, a sign-in.
    pub ignored_referrers: Vec<SiteAddress>,
}

impl ChannelRules {
    /// Of a project that decided nothing.
    pub const USUAL: Self = Self {
        preset: ChannelPreset::Ga4,
        own: Vec::new(),
        own_sites: Vec::new(),
        other_sites: Vec::new(),
        ignored_referrers: Vec::new(),
    };
}

/// Published rules by which visits are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelPreset {
    /// Google's default channel group for GA4.
    #[default]
    Ga4,
    /// As Plausible Analytics documents its channels.
    Plausible,
    /// As PostHog documents its channel types.
    PostHog,
}

impl ChannelPreset {
    /// As settings say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ga4 => "ga4",
            Self::Plausible => "plausible",
            Self::PostHog => "posthog",
        }
    }

    /// The preset of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Ga4, Self::Plausible, Self::PostHog].into_iter().find(|preset| preset.as_str() == name)
    }
}

/// Names a channel for visits that fulfil its conditions. Without conditions it fits every visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRule {
    /// The channel's name.
    pub channel: String,
    /// Whether one of the conditions is enough.
    pub any: bool,
    /// The conditions.
    pub conditions: Vec<ChannelCondition>,
}

/// Looks at one thing that is known of a visit. Letters of either case are equal, in all tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelCondition {
    /// What it looks at.
    pub field: ChannelField,
    /// What must hold.
    pub test: ChannelTest,
    /// Whether it must not hold.
    pub negated: bool,
}

/// What is known of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelField {
    /// `utm_source`
    UtmSource,
    /// `utm_medium`
    UtmMedium,
    /// `utm_campaign`
    UtmCampaign,
    /// Host of the referrer, without `www.`
    ReferringDomain,
    /// Address of the page.
    Url,
    /// Host of the page, without `www.`
    Hostname,
    /// Path of the page.
    Pathname,
}

impl ChannelField {
    /// All, with the names that settings and records have for them.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::UtmSource, "utm_source"),
        (Self::UtmMedium, "utm_medium"),
        (Self::UtmCampaign, "utm_campaign"),
        (Self::ReferringDomain, "referring_domain"),
        (Self::Url, "url"),
        (Self::Hostname, "hostname"),
        (Self::Pathname, "pathname"),
    ];

    /// The field of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(field, _)| *field)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }
}

/// What must hold of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelTest {
    /// It is not empty.
    IsSet,
    /// It is one of these.
    Is(Vec<String>),
    /// It contains one of these.
    Contains(Vec<String>),
    /// One of these fits somewhere in it.
    Matches(Vec<Pattern>),
}

impl ChannelCondition {
    /// Takes a condition as settings have it; `None` if it is none.
    ///
    /// `utm_source` (it is not empty), `!utm_source` (it is), `utm_source = a | b` (one of these), `utm_source ~ a | b`
    /// (contains one of these), `pathname =~ ^/p[0-9]+$` (a regular expression fits); `!=`, `!~` and `!=~` turn these around.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (text, is_unset) = text.strip_prefix('!').map_or((text, false), |rest| (rest.trim_start(), true));
        let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
        let field = ChannelField::parse(&text[..end])?;
        let rest = text[end..].trim_start();
        if rest.is_empty() {
            return Some(Self { field, test: ChannelTest::IsSet, negated: is_unset });
        }
        let (rest, negated) = rest.strip_prefix('!').map_or((rest, false), |rest| (rest, true));
        let values = |rest: &str| {
            let values: Vec<String> = rest.split('|').map(|value| value.trim().to_owned()).collect();
            values.iter().all(|value| !value.is_empty()).then_some(values)
        };
        let test = if let Some(pattern) = rest.strip_prefix("=~") {
            ChannelTest::Matches(vec![Pattern::parse(pattern.trim()).filter(|_| !pattern.trim().is_empty())?])
        } else if let Some(rest) = rest.strip_prefix('=') {
            ChannelTest::Is(values(rest)?)
        } else {
            ChannelTest::Contains(values(rest.strip_prefix('~')?)?)
        };
        (!is_unset).then_some(Self { field, test, negated })
    }

    /// Whether it holds of this text.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        let holds = match &self.test {
            ChannelTest::IsSet => !text.is_empty(),
            ChannelTest::Is(values) => values.iter().any(|value| value.eq_ignore_ascii_case(text)),
            ChannelTest::Contains(values) => {
                let text = text.to_lowercase();
                values.iter().any(|value| text.contains(&value.to_lowercase()))
            }
            ChannelTest::Matches(patterns) => patterns.iter().any(|pattern| pattern.0.is_match(text)),
        };
        holds != self.negated
    }
}

/// A regular expression, as the `regex` crate has them (no look-around, linear time); letters of either case are equal.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Takes a text as a pattern. `None` if it is none, or too large.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        RegexBuilder::new(text).case_insensitive(true).size_limit(PATTERN_BYTES_MAX).build().ok().map(Self)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

/// A site, or a part of one: a host with all below it, and the beginning of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteAddress {
    host: String,
    path: String,
}

impl SiteAddress {
    /// Takes an address, with or without scheme and `www.`: `shop.example`, `https://shop.example/de/`, `.pay.example`.
    /// `None` without a host.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let rest = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = host.split(':').next().unwrap_or_default().trim_start_matches('.');
        let host = host.strip_prefix("www.").unwrap_or(host);
        if host.is_empty() || host.contains([' ', '@', '*']) {
            return None;
        }
        Some(Self { host: host.to_owned(), path: path.trim_end_matches('/').to_owned() })
    }

    /// Whether a page lies within, by its host (without `www.`) and its path.
    #[must_use]
    pub fn holds(&self, host: &str, path: &str) -> bool {
        if !self.holds_host(host) {
            return false;
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        match path.get(..self.path.len()) {
            Some(begin) if begin.eq_ignore_ascii_case(&self.path) => {
                self.path.is_empty() || matches!(path.as_bytes().get(self.path.len()), None | Some(b'/'))
            }
            _ => false,
        }
    }

    /// Whether some page of this host (without `www.`) may lie within.
    #[must_use]
    pub fn holds_host(&self, host: &str) -> bool {
        let Some(end) = host.len().checked_sub(self.host.len()) else { return false };
        host.as_bytes()[end..].eq_ignore_ascii_case(self.host.as_bytes())
            && (end == 0 || host.as_bytes()[end - 1] == b'.')
    }

    /// How exact it is: of several that hold a page, the one with the greatest says whose it is.
    #[must_use]
    pub fn exactness(&self) -> (usize, usize) {
        (self.host.len(), self.path.len())
    }
}

impl fmt::Display for SiteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_its_host_what_lies_below_and_its_path() {
        let check = |address: &str, host: &str, path: &str, expected: bool| {
            let address = SiteAddress::parse(address).expect("an address");
            assert_eq!(address.holds(host, path), expected, "{address} {host}{path}");
        };
        check("https://www.Shop.example/", "shop.example", "/a", true);
        check("shop.example", "pay.shop.example", "/", true);
        check("shop.example", "notshop.example", "/", false);
        check("shop.example", "example", "/", false);
        check(".pay.example", "x.pay.example", "/", true);
        check("shop.example/de", "SHOP.example", "/de", true);
        check("shop.example/de/", "shop.example", "/DE/x", true);
        check("shop.example/de", "shop.example", "/demo", false);
        check("shop.example/de", "shop.example", "/", false);
        for none in ["", "https://", "/path", "*.x", "a b"] {
            assert_eq!(SiteAddress::parse(none), None, "{none}");
        }
    }

    #[test]
    fn conditions_are_taken_from_settings() {
        let check = |text: &str, field: ChannelField, test: ChannelTest, negated: bool| {
            assert_eq!(ChannelCondition::parse(text), Some(ChannelCondition { field, test, negated }), "{text}");
        };
        let list = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        check("utm_source", ChannelField::UtmSource, ChannelTest::IsSet, false);
        check(" ! utm_source ", ChannelField::UtmSource, ChannelTest::IsSet, true);
        check("url = a b | c", ChannelField::Url, ChannelTest::Is(list(&["a b", "c"])), false);
        check("url!=a", ChannelField::Url, ChannelTest::Is(list(&["a"])), true);
        check("hostname ~ x=y", ChannelField::Hostname, ChannelTest::Contains(list(&["x=y"])), false);
        check("hostname !~ x", ChannelField::Hostname, ChannelTest::Contains(list(&["x"])), true);
        let pattern = ChannelTest::Matches(vec![Pattern::parse("^/(a|b)").expect("a pattern")]);
        check("pathname =~ ^/(a|b)", ChannelField::Pathname, pattern.clone(), false);
        check("pathname !=~ ^/(a|b)", ChannelField::Pathname, pattern, true);
        for none in ["", "!", "colour = a", "url =", "url = a |", "url a", "url =~ (", "url =~", "!url = a", "url > 1"]
        {
            assert_eq!(ChannelCondition::parse(none), None, "{none}");
        }
    }

    #[test]
    fn conditions_ignore_case_and_can_be_turned_around() {
        let check = |test: ChannelTest, text: &str, expected: bool| {
            let condition = ChannelCondition { field: ChannelField::UtmSource, test, negated: false };
            assert_eq!(condition.holds(text), expected, "{condition:?} {text}");
            let condition = ChannelCondition { negated: true, ..condition };
            assert_eq!(condition.holds(text), !expected, "{condition:?} {text}");
        };
        check(ChannelTest::IsSet, "x", true);
        check(ChannelTest::IsSet, "", false);
        check(ChannelTest::Is(vec!["a".into(), "News".into()]), "nEWS", true);
        check(ChannelTest::Is(vec!["news".into()]), "newsletter", false);
        check(ChannelTest::Contains(vec!["Ä".into()]), "xä", true);
        check(ChannelTest::Matches(vec![Pattern::parse("^n.*r$").expect("a pattern")]), "NewsletteR", true);
        check(ChannelTest::Matches(vec![Pattern::parse("^n.*r$").expect("a pattern")]), "a newsletter", false);
        assert_eq!(Pattern::parse("("), None);
        assert_eq!(Pattern::parse("(a{1000}){1000}"), None);
    }
}
