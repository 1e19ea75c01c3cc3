//! The page that linked here: whose it is, and what was searched for there.

use std::borrow::Cow;

use trackway_domain::channel::ChannelRules;

use crate::page::{self, Page};
use crate::query;
use crate::sites::{self, Kind, Site};

/// What a referrer's address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer<'a> {
    /// Its parts.
    pub page: Page<'a>,
    /// The site, if it is known.
    pub site: Option<&'static Site>,
    /// What was searched for, if it is a search engine that still says so.
    pub term: Option<Cow<'a, str>>,
}

/// Takes a referrer's address apart. An address without scheme is a host, as trackers send it in a field of its own.
#[must_use]
pub fn parse(address: &str) -> Referrer<'_> {
    let mut page = page::parse(address);
    if page.host.is_empty() && !address.starts_with(['/', '?', '#']) && !address.contains(char::is_whitespace) {
        let (host, path) = address.split_at(address.find(['/', '?', '#']).unwrap_or(address.len()));
        let bare = page::parse(path);
        let host = host.split(':').next().unwrap_or_default();
        page = Page { host: host.strip_prefix("www.").unwrap_or(host), path: bare.path, query: bare.query };
    }
    let site = if page.host.is_empty() { None } else { sites::of_host(page.host, page.path) };
    let term = site.filter(|site| site.kind == Kind::Search && !page.query.is_empty());
    let term = term.and_then(|site| query::find(page.query, &site.terms));
    Referrer { page, site, term }
}

/// Whether a page belongs to somebody else: its visitors came from there. A page without a host belongs to nobody.
///
/// What the project has named as its own, as another project's, or as a referrer that says nothing, is so; of several that
/// fit the most exact one decides. Of a host of which the project has named a part, the rest is not its own. Else a referrer is
/// the project's own if its host is the page's, or one lies below the other (`shop.example` and `pay.shop.example`).
#[must_use]
pub fn is_foreign(from: &Page<'_>, at: &Page<'_>, rules: &ChannelRules) -> bool {
    if from.host.is_empty() {
        return false;
    }
    let most_exact = |addresses: &[trackway_domain::channel::SiteAddress]| {
        let fits = addresses.iter().filter(|address| address.holds(from.host, from.path));
        fits.map(trackway_domain::channel::SiteAddress::exactness).max()
    };
    if most_exact(&rules.ignored_referrers).is_some() {
        return false;
    }
    match (most_exact(&rules.own_sites), most_exact(&rules.other_sites)) {
        (Some(own), other) => other.is_some_and(|other| other > own),
        (None, Some(_)) => true,
        (None, None) => rules.own_sites.iter().any(|own| own.holds_host(from.host)) || !same_site(from.host, at.host),
    }
}

/// Whether two hosts are one site: equal, or one below the other.
fn same_site(a: &str, b: &str) -> bool {
    let below = |long: &str, short: &str| {
        let Some(end) = long.len().checked_sub(short.len()).filter(|&end| end > 0 && !short.is_empty()) else {
            return false;
        };
        long.as_bytes()[end - 1] == b'.' && long.as_bytes()[end..].eq_ignore_ascii_case(short.as_bytes())
    };
    a.eq_ignore_ascii_case(b) || below(a, b) || below(b, a)
}

#[cfg(test)]
mod tests {
    use trackway_domain::channel::SiteAddress;

    use super::*;

    #[test]
    fn search_terms_are_found_by_each_engines_parameter() {
        let check = |address: &str, name: Option<&str>, term: Option<&str>| {
            let found = parse(address);
            assert_eq!((found.site.map(|site| site.name), found.term.as_deref()), (name, term), "{address}");
        };
        check("https://www.google.com/search?hl=de&q=a+b%20c", Some("Google"), Some("a b c"));
        check("https://www.google.com/", Some("Google"), None);
        check("https://www.google.com/search?q=", Some("Google"), None);
        check("http://www.google.fr/imgres?q=cat&imgurl=x", Some("Google Images"), Some("cat"));
        check("https://search.yahoo.com/search?p=x", Some("Yahoo!"), Some("x"));
        check("http://images.search.yahoo.com/images/view?p=x", Some("Yahoo! Images"), Some("x"));
        check("https://www.baidu.com/s?ie=utf8&wd=%E7%8C%AB", Some("Baidu"), Some("猫"));
        check("https://yandex.ru/yandsearch?text=x", Some("Yandex"), Some("x"));
        check("https://www.sogou.com/web?query=x", Some("Sogou"), Some("x"));
        check("https://x.com/?q=no", Some("Twitter"), None);
        check("m.facebook.com", Some("Facebook"), None);
        check("www.facebook.com:443/x", Some("Facebook"), None);
        check("not an address", None, None);
        check("/facebook.com", None, None);
    }

    fn check(from: &str, at: &str, rules: &ChannelRules, expected: bool) {
        assert_eq!(is_foreign(&page::parse(from), &page::parse(at), rules), expected, "{from} to {at}");
    }

    #[test]
    fn without_rules_the_pages_own_host_decides() {
        let at = "https://shop.example/x";
        for (from, foreign) in [
            ("https://shop.example/", false),
            ("https://SHOP.example/", false),
            ("https://pay.shop.example/", false),
            ("https://example/", false),
            ("https://notshop.example/", true),
            ("https://shop.example.evil.example/", true),
            ("https://ö.example/", true),
            ("", false),
            ("/path", false),
        ] {
            check(from, at, &ChannelRules::USUAL, foreign);
        }
        check("https://a.example/", "", &ChannelRules::USUAL, true);
    }

    #[test]
    fn the_most_exact_address_says_whose_a_referrer_is() {
        let addresses = |list: &[&str]| list.iter().filter_map(|text| SiteAddress::parse(text)).collect::<Vec<_>>();
        let rules = ChannelRules {
            own_sites: addresses(&["a.example", "portal.example/a"]),
            other_sites: addresses(&["portal.example", "a.example/b"]),
            ignored_referrers: addresses(&["pay.example/proceed", ".sign.example"]),
            ..ChannelRules::USUAL
        };
        let at = "https://portal.example/a/x";
        check("https://a.example/", at, &rules, false);
        check("https://a.example/b/c", at, &rules, true);
        check("https://portal.example/a/", at, &rules, false);
        check("https://portal.example/", at, &rules, true);
        check("https://pay.example/proceed/1", at, &rules, false);
        check("https://pay.example/", at, &rules, true);
        check("https://x.sign.example/", at, &rules, false);
        check("https://other.example/", at, &rules, true);
        let rules = ChannelRules { own_sites: addresses(&["portal.example/a"]), ..ChannelRules::USUAL };
        check("https://portal.example/a/y", at, &rules, false);
        check("https://portal.example/b", at, &rules, true);
        check("https://shop.example/b", "https://shop.example/c", &rules, false);
    }
}
