//! Sites that send visitors: what they are called, of which kind they are, and how a search engine's address says what was
//! searched for. The list is `data/sites.txt`; it is read once.

use std::sync::LazyLock;

use hashbrown::HashMap;

/// What kind of site a visitor came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A search engine.
    Search,
    /// A social network, a forum, a messenger.
    Social,
    /// A video site.
    Video,
    /// A shop or price comparison.
    Shopping,
    /// An assistant that answers with links.
    Ai,
    /// Mail in the browser.
    Mail,
    /// A network that shows advertisements.
    Ads,
}

/// One site.
#[derive(Debug, PartialEq, Eq)]
pub struct Site {
    /// For people: `Yahoo! Images`.
    pub name: &'static str,
    /// As tables say it, in lower case: `yahoo images`.
    pub source: String,
    /// What it is.
    pub kind: Kind,
    /// Parameters of its addresses that hold the search term.
    pub terms: Vec<&'static str>,
}

/// The site that a host belongs to, by the host and what its path begins with. The longest that is known wins, so that
/// `mail.google.com` is no search engine.
///
/// - `host`: with or without `www.`, letters of either case.
#[must_use]
pub fn of_host(host: &str, path: &str) -> Option<&'static Site> {
    let mut lower = [0; HOST_BYTES_MAX];
    let host = lowercase(host, &mut lower)?;
    let sites = &*SITES;
    let country = country_at(host);
    let mut at = 0;
    loop {
        if let Some(found) = sites.exact.get(&host[at..]).and_then(|places| longest(places, path)) {
            return Some(&sites.sites[found]);
        }
        let before_country = if country > at { &host[at..country] } else { "" };
        if let Some(found) = sites.any_country.get(before_country).and_then(|places| longest(places, path)) {
            return Some(&sites.sites[found]);
        }
        at += host[at..].find('.')? + 1;
    }
}

/// The site that a campaign's source names, and whether it names its advertisements: `google`, `fb`, `youtube.com`; `fb-ads`.
#[must_use]
pub fn of_source(source: &str) -> Option<(&'static Site, bool)> {
    let mut lower = [0; HOST_BYTES_MAX];
    let source = lowercase(source.trim(), &mut lower)?;
    let mut name = [0; HOST_BYTES_MAX];
    let name = &mut name[..source.len()];
    for (to, from) in name.iter_mut().zip(source.bytes()) {
        *to = if matches!(from, b'_' | b'-') { b' ' } else { from };
    }
    let name = std::str::from_utf8(name).unwrap_or_default();
    let stem = name.strip_suffix("ads").or_else(|| name.strip_suffix("ad")).map(str::trim_end);
    let known = |name: &str| SITES.sources.get(name).map(|&at| &SITES.sites[at]);
    if let Some(site) = known(name) {
        return Some((site, name == "adwords" || stem.is_some_and(|stem| known(stem) == Some(site))));
    }
    if let Some(site) = stem.and_then(known) {
        return Some((site, true));
    }
    if source.contains('.') { of_host(source, "/").map(|site| (site, false)) } else { None }
}

/// A host name has 253 bytes at most.
const HOST_BYTES_MAX: usize = 253;

static SITES: LazyLock<Sites> = LazyLock::new(|| Sites::read(include_str!("../data/sites.txt")));

/// Path (or an empty one) and place in the list.
type Places = Vec<(&'static str, usize)>;

#[derive(Default)]
struct Sites {
    sites: Vec<Site>,
    /// By host.
    exact: HashMap<&'static str, Places>,
    /// By what stands before the country.
    any_country: HashMap<&'static str, Places>,
    /// By name.
    sources: HashMap<String, usize>,
}

impl Sites {
    /// Reads the list. It ships with the program, so whatever is wrong with it is a bug, found by any test.
    fn read(text: &'static str) -> Self {
        let mut sites = Self::default();
        let mut kind = Kind::Search;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            kind = match line {
                "[search]" => Kind::Search,
                "[social]" => Kind::Social,
                "[video]" => Kind::Video,
                "[shopping]" => Kind::Shopping,
                "[ai]" => Kind::Ai,
                "[mail]" => Kind::Mail,
                "[ads]" => Kind::Ads,
                line => {
                    sites.add(kind, line);
                    continue;
                }
            };
        }
        sites
    }

    fn add(&mut self, kind: Kind, line: &'static str) {
        let (title, rest) = line.split_once(": ").unwrap_or_else(|| panic!("no hosts in the line `{line}`"));
        let (title, is_word) = title.strip_prefix('~').map_or((title, false), |title| (title, true));
        let (rest, names) = rest.split_once('@').unwrap_or((rest, ""));
        let (hosts, terms) = rest.split_once('?').unwrap_or((rest, ""));
        let (name, source) = match title.split_once(" = ") {
            Some((name, source)) => (name, source.to_owned()),
            None => (title, title.to_lowercase()),
        };
        let at = self.sites.len();
        for host in hosts.split_whitespace() {
            let (host, path) = host.find('/').map_or((host, ""), |slash| host.split_at(slash));
            let places = match host.strip_suffix(".*") {
                Some(name) => self.any_country.entry(name).or_default(),
                None => self.exact.entry(host).or_default(),
            };
            // The same host twice, of which one never counts.
            assert!(places.iter().all(|(known, _)| *known != path), "`{host}{path}` again in the line `{line}`");
            places.push((path, at));
            places.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        }
        let own = [name, source.as_str()].into_iter().filter(|_| !is_word);
        for name in names.split_whitespace().chain(own) {
            let name = name.to_lowercase().replace(['_', '-'], " ");
            // `google ads` is the site that shows them, and its advertisements: see `of_source`.
            if kind != Kind::Ads || !name.ends_with("ads") {
                self.sources.entry(name).or_insert(at);
            }
        }
        self.sites.push(Site { name, source, kind, terms: terms.split_whitespace().collect() });
    }
}

/// Longest path that `path` begins with; they stand in this order.
fn longest(places: &Places, path: &str) -> Option<usize> {
    places.iter().find(|(begin, _)| path.starts_with(begin)).map(|(_, at)| *at)
}

/// Where the country of a host begins, at its dot: `google.de`, `google.com`, `google.co.uk`. 0 if it ends with no country.
fn country_at(host: &str) -> usize {
    let Some(last) = memchr::memrchr(b'.', host.as_bytes()) else { return 0 };
    let country = host.len() - last - 1;
    let before = memchr::memrchr(b'.', &host.as_bytes()[..last]);
    match before {
        Some(dot) if country == 2 && matches!(&host[dot + 1..last], "co" | "com" | "org" | "net" | "ne" | "or") => dot,
        _ if (2..=3).contains(&country) => last,
        _ => 0,
    }
}

fn lowercase<'a>(text: &str, buffer: &'a mut [u8; HOST_BYTES_MAX]) -> Option<&'a str> {
    let buffer = buffer.get_mut(..text.len())?;
    buffer.copy_from_slice(text.as_bytes());
    buffer.make_ascii_lowercase();
    std::str::from_utf8(buffer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, path: &str, expected: Option<(&str, Kind)>) {
        let found = of_host(host, path).map(|site| (site.name, site.kind));
        assert_eq!(found, expected, "{host}{path}");
    }

    #[test]
    fn a_host_is_known_with_its_parts_and_not_by_letters() {
        check("www.google.co.uk", "/", Some(("Google", Kind::Search)));
        check("GOOGLE.de", "/", Some(("Google", Kind::Search)));
        check("notgoogle.de", "/", None);
        check("google.evil.example", "/", None);
        check("google.com.evil.example", "/", None);
        check("google", "/", None);
        check("l.facebook.com", "/l.php", Some(("Facebook", Kind::Social)));
        check("xwayn.com", "/", None);
        check("bt.co", "/", None);
        check("", "", None);
        check(&"a.".repeat(200), "/", None);
    }

    #[test]
    fn the_longest_that_is_known_wins() {
        check("yahoo.co.jp", "/", Some(("Yahoo! Japan", Kind::Search)));
        check("shopping.yahoo.co.jp", "/", Some(("Yahoo! Shopping", Kind::Shopping)));
        check("mail.google.com", "/mail/u/0", Some(("Gmail", Kind::Mail)));
        check("www.google.fr", "/imgres", Some(("Google Images", Kind::Search)));
        check("www.bing.com", "/images/search", Some(("Bing Images", Kind::Search)));
        check("www.bing.com", "/search", Some(("Bing", Kind::Search)));
        check("gemini.google.com", "/app", Some(("Gemini", Kind::Ai)));
        check("tieba.baidu.com", "/", Some(("Tieba", Kind::Social)));
    }

    #[test]
    fn sources_are_known_by_name_alias_and_host() {
        let check = |source: &str, expected: Option<(&str, bool)>| {
            assert_eq!(of_source(source).map(|(site, ads)| (site.source.as_str(), ads)), expected, "{source}");
        };
        check("Facebook", Some(("facebook", false)));
        check("fb", Some(("facebook", false)));
        check("fb-ads", Some(("facebook", true)));
        check("fbad", Some(("facebook", true)));
        check("google_ads", Some(("google", true)));
        check("adwords", Some(("google", true)));
        check("Yahoo!", Some(("yahoo", false)));
        check("walmart.com", Some(("walmart", false)));
        check("youtube.com", Some(("youtube", false)));
        check("yt", Some(("youtube", false)));
        check("pinterest ads", Some(("pinterest", true)));
        check("newsletter", None);
        check("ads", None);
        check("", None);
    }
}
