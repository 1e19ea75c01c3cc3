//! What a page's address says of the way to it: a campaign's names, and the marks that advertisers' clicks leave.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use trackway_domain::event::Campaign;

/// A campaign's names, without copies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tags<'a> {
    /// `utm_source`
    pub source: Cow<'a, str>,
    /// `utm_medium`
    pub medium: Cow<'a, str>,
    /// `utm_campaign`
    pub name: Cow<'a, str>,
}

impl<'a> From<&'a Campaign> for Tags<'a> {
    fn from(campaign: &'a Campaign) -> Self {
        Self {
            source: Cow::Borrowed(&campaign.source),
            medium: Cow::Borrowed(&campaign.medium),
            name: Cow::Borrowed(&campaign.name),
        }
    }
}

impl Tags<'_> {
    /// Whether nothing is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.source.is_empty() && self.medium.is_empty() && self.name.is_empty()
    }
}

/// Marks of clicks, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Clicks(u32);

/// Marks: parameter, its place in the set, the source that it stands for, and whether it is only on advertisements.
const MARKS: [(&str, Clicks, &str, bool); 19] = [
    ("gclid", Clicks::GCLID, "google", true),
    ("gbraid", Clicks(1 << 1), "google", true),
    ("wbraid", Clicks(1 << 2), "google", true),
    ("dclid", Clicks(1 << 3), "google", true),
    ("gad_source", Clicks::GAD_SOURCE, "google", true),
    ("gad_campaignid", Clicks(1 << 5), "google", true),
    ("msclkid", Clicks::MSCLKID, "bing", true),
    ("ttclid", Clicks(1 << 7), "tiktok", true),
    ("twclid", Clicks(1 << 8), "twitter", true),
    ("li_fat_id", Clicks(1 << 9), "linkedin", true),
    ("rdt_cid", Clicks(1 << 10), "reddit", true),
    ("yclid", Clicks(1 << 11), "yandex", true),
    ("ScCid", Clicks(1 << 12), "snapchat", true),
    ("epik", Clicks(1 << 13), "pinterest", true),
    ("qclid", Clicks(1 << 14), "quora", true),
    // These are on every link out of the network, paid or not.
    ("fbclid", Clicks::FBCLID, "facebook", false),
    ("igshid", Clicks(1 << 16), "instagram", false),
    ("igsh", Clicks(1 << 17), "instagram", false),
    ("vkclid", Clicks(1 << 18), "vk", false),
];

impl Clicks {
    /// None.
    pub const NONE: Self = Self(0);
    /// Google Ads.
    pub const GCLID: Self = Self(1);
    /// Google Ads, where the click came from.
    pub const GAD_SOURCE: Self = Self(1 << 4);
    /// Microsoft Advertising.
    pub const MSCLKID: Self = Self(1 << 6);
    /// Facebook, paid or not.
    pub const FBCLID: Self = Self(1 << 15);
    /// `gad_source=1`: from Google's search.
    pub const GAD_SEARCH: Self = Self(1 << 31);

    /// The mark that a parameter is. None for any other parameter.
    #[must_use]
    pub fn of(parameter: &str, value: &str) -> Self {
        let Some((_, mark, ..)) = MARKS.iter().find(|(name, ..)| *name == parameter) else { return Self::NONE };
        match (*mark, value) {
            (_, "") => Self::NONE,
            (Self::GAD_SOURCE, "1") => Self::GAD_SOURCE.and(Self::GAD_SEARCH),
            (mark, _) => mark,
        }
    }

    /// All of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of these is among them.
    #[must_use]
    pub fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// The source that the first of them stands for, and whether it is paid for.
    #[must_use]
    pub fn source(self) -> Option<(&'static str, bool)> {
        MARKS.iter().find(|(_, mark, ..)| self.has(*mark)).map(|(.., source, paid)| (*source, *paid))
    }
}

/// Reads what a query string says; what `tags` has already stays.
pub fn read<'a>(query: &'a str, tags: &mut Tags<'a>) -> Clicks {
    let mut clicks = Clicks::NONE;
    let mut rest = query;
    while !rest.is_empty() {
        let (pair, after) = match memchr(b'&', rest.as_bytes()) {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, ""),
        };
        rest = after;
        let (name, value) = memchr(b'=', pair.as_bytes()).map_or((pair, ""), |at| (&pair[..at], &pair[at + 1..]));
        // Most parameters are something else, which their first letters tell. `%` may hide any letter.
        let name = if memchr(b'%', name.as_bytes()).is_some() { decode(name) } else { Cow::Borrowed(name) };
        match field(&name) {
            Some(field) => {
                let to = match field {
                    Field::Source => &mut tags.source,
                    Field::Medium => &mut tags.medium,
                    Field::Name => &mut tags.name,
                };
                if to.is_empty() {
                    *to = decode(value);
                }
            }
            None => clicks = clicks.and(Clicks::of(&name, value)),
        }
    }
    clicks
}

enum Field {
    Source,
    Medium,
    Name,
}

/// `utm_…`, and what Matomo's users write instead.
fn field(name: &str) -> Option<Field> {
    let rest = match name.as_bytes().first()? {
        b'u' => name.strip_prefix("utm_")?,
        b'm' => name.strip_prefix("mtm_").or_else(|| name.strip_prefix("matomo_"))?,
        b'p' => name.strip_prefix("pk_").or_else(|| name.strip_prefix("piwik_"))?,
        _ => return None,
    };
    match rest {
        "source" => Some(Field::Source),
        "medium" => Some(Field::Medium),
        "campaign" | "cpn" => Some(Field::Name),
        _ => None,
    }
}

/// A part of a query string as text; borrowed where nothing is written in another way.
#[must_use]
pub fn decode(text: &str) -> Cow<'_, str> {
    if memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    // A pair without a name. `&` and `=` within cannot be taken for ends: there is no `&`, and the first `=` is ours.
    let pair = format!("={text}");
    let decoded = form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned());
    Cow::Owned(decoded.unwrap_or_default())
}

/// The first parameter of one of these names, by the order of the names.
#[must_use]
pub fn find<'a>(query: &'a str, names: &[&str]) -> Option<Cow<'a, str>> {
    let of = |name: &str| {
        let mut pairs = query.split(['&', ';']).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(found, value)| *found == name && !value.is_empty()).map(|(_, value)| decode(value))
    };
    names.iter().find_map(|name| of(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_read_whatever_else_stands_there() {
        let check = |query: &str, source: &str, medium: &str, name: &str| {
            let mut tags = Tags::default();
            read(query, &mut tags);
            assert_eq!((&*tags.source, &*tags.medium, &*tags.name), (source, medium, name), "{query}");
        };
        check("utm_source=a&utm_medium=b&utm_campaign=c", "a", "b", "c");
        check("x=1&&utm_source=a+b%20c&y", "a b c", "", "");
        check("utm%5Fsource=a&utm_source=b", "a", "", "");
        check("utm_source=&utm_source=b", "b", "", "");
        check("utm_campaign=a%26b=c", "", "", "a&b=c");
        check("mtm_campaign=c&mtm_source=s&pk_cpn=d", "s", "", "c");
        check("utm_sourcery=a&source=b&=c", "", "", "");
        check("", "", "", "");
    }

    #[test]
    fn marks_of_clicks_are_read() {
        let check = |query: &str, expected: Option<(&str, bool)>| {
            assert_eq!(read(query, &mut Tags::default()).source(), expected, "{query}");
        };
        check("a=1&gclid=x", Some(("google", true)));
        check("gclid=", None);
        check("fbclid=x&msclkid=y", Some(("bing", true)));
        check("fbclid=x", Some(("facebook", false)));
        check("GCLID=x", None);
        let clicks = read("gad_source=1", &mut Tags::default());
        assert!(clicks.has(Clicks::GAD_SEARCH));
        assert!(!read("gad_source=5", &mut Tags::default()).has(Clicks::GAD_SEARCH));
    }

    #[test]
    fn what_the_tracker_has_extracted_stays() {
        let campaign = Campaign { source: "a".into(), ..Campaign::default() };
        let mut tags = Tags::from(&campaign);
        read("utm_source=b&utm_medium=c", &mut tags);
        assert_eq!((&*tags.source, &*tags.medium), ("a", "c"));
    }
}
