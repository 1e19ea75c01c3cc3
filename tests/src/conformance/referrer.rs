//! Cases of referrers: an address to the site it stands for, and whether a visitor came from there.

use trackway_domain::channel::{ChannelRules, SiteAddress};
use trackway_enrich::query::Tags;
use trackway_enrich::sites::{self, Kind, Site};
use trackway_enrich::{exclusion, landing, page, referrer};

use super::case::{Case, Fields, Outcome};

/// What Matomo's cases say in their note of the sites that are known beside the case's own.
const OTHER_SITES: &str = "other sites of the same installation: ";

/// Runs one case.
pub fn run(case: &Case) -> Outcome {
    let query = case.query();
    let address = query.text("referrer").unwrap_or_default();
    match query.text("report") {
        Some("referrer_type_new_visit") => Outcome::of("referrer_type", case, |rules| kind_of_visit(case, rules)),
        Some("referrer_type_existing_visit") => existing_visit(case),
        Some("social_network") => {
            let site = referrer::parse(address).site.filter(|site| site.kind == Kind::Social);
            same_site(case.expected().text("source"), site)
        }
        Some("referrer_spam") => {
            Outcome::equal("spam", &case.expected().flag("spam"), &Some(exclusion::is_known_spam(address)))
        }
        Some(other) => Outcome::failed(format!("a report `{other}` is not known")),
        None if query.has("referring_domain") => {
            let found = query.text("referring_domain").and_then(|domain| referrer::parse(domain).site);
            let found = found.and_then(|site| domain_type(site.kind));
            Outcome::equal("domain_type", &case.expected().text("domain_type"), &found)
        }
        None => parsed(case, address),
    }
}

/// Medium, site and search term, as referer-parser has them.
fn parsed(case: &Case, address: &str) -> Outcome {
    let found = referrer::parse(address);
    let medium = match found.site.map(|site| site.kind) {
        Some(Kind::Search) => "search",
        Some(Kind::Social | Kind::Video) => "social",
        Some(Kind::Mail) => "email",
        Some(Kind::Ads) => "paid",
        Some(Kind::Ai) => "chatbot",
        // That parser takes shops that compare prices for search engines.
        Some(Kind::Shopping) => "search",
        None => "unknown",
    };
    let expected = case.expected();
    let expected_medium = expected.text("medium").unwrap_or("unknown");
    let site = found.site.filter(|_| medium != "unknown");
    Outcome::all([
        Outcome::equal("medium", &expected_medium, &medium),
        same_site(expected.text("source"), site),
        Outcome::equal("search_term", &expected.text("search_term"), &found.term.as_deref()),
    ])
}

/// Other lists have other names for a site (`Vkontakte`, `VK`): what counts is that both mean the same.
fn same_site(expected: Option<&str>, found: Option<&'static Site>) -> Outcome {
    let same = match (expected, found) {
        (Some(expected), Some(found)) => {
            expected == found.name
                || sites::of_source(expected).is_some_and(|(site, _)| site == found)
                || sites::of_host(expected, "/") == Some(found)
        }
        (expected, found) => expected.is_none() && found.is_none(),
    };
    if same { Outcome::Passed } else { Outcome::equal("source", &expected, &found.map(|site| site.name)) }
}

/// PostHog's name of a kind of domain.
fn domain_type(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Search => Some("Search"),
        Kind::Social => Some("Social"),
        Kind::Video => Some("Video"),
        Kind::Shopping => Some("Shopping"),
        Kind::Ai => Some("AI"),
        Kind::Mail => Some("Email"),
        Kind::Ads => None,
    }
}

/// A session's source is the first that one of its events says.
fn existing_visit(case: &Case) -> Outcome {
    let so_far = case.query().text("referrer_type_so_far").unwrap_or_default();
    Outcome::of("referrer_type", case, |rules| {
        let now = kind_of_visit(case, rules)?;
        Ok(if so_far == "direct" { now } else { so_far.to_owned() })
    })
}

/// Matomo's name for where a visit came from.
fn kind_of_visit(case: &Case, rules: &ChannelRules) -> Result<String, Outcome> {
    let query = case.query();
    let (url, address) = (query.text("page_url").unwrap_or_default(), query.text("referrer").unwrap_or_default());
    let mut tags = Tags::default();
    if let Some(params) = query.inner("tracking_params") {
        for key in params.keys() {
            let pair = format!("{key}={}", params.text(key).unwrap_or_default());
            let mut found = Tags::default();
            trackway_enrich::query::read(&pair, &mut found);
            for (to, from) in
                [(&mut tags.source, found.source), (&mut tags.medium, found.medium), (&mut tags.name, found.name)]
            {
                if to.is_empty() {
                    *to = from.into_owned().into();
                }
            }
        }
    }
    let mut read = tags.clone();
    trackway_enrich::query::read(page::parse(url).query, &mut read);
    let campaign = !read.is_empty();
    let from = page::parse(address);
    let Some(_) = landing::landing(url, address, tags, rules) else { return Ok("direct".into()) };
    if campaign {
        return Ok("campaign".into());
    }
    Ok(match sites::of_host(from.host, from.path).map(|site| site.kind) {
        Some(Kind::Search) => "search",
        Some(Kind::Social | Kind::Video) => "social",
        Some(Kind::Ai) => "ai",
        _ => "website",
    }
    .into())
}

impl Outcome {
    fn of(key: &str, case: &Case, found: impl Fn(&ChannelRules) -> Result<String, Self>) -> Self {
        let rules = match site_rules(case) {
            Ok(rules) => rules,
            Err(why) => return Self::Failed { why },
        };
        match found(&rules) {
            Ok(found) => Self::equal(key, &case.expected().text(key), &Some(found.as_str())),
            Err(other) => {
                let _ = case.expected().text(key);
                other
            }
        }
    }
}

/// The site of a case: its addresses, and what else is known.
pub(super) fn site_rules(case: &Case) -> Result<ChannelRules, String> {
    let mut rules = ChannelRules::USUAL;
    let addresses = |list: Vec<&str>| {
        let parse = |text: &str| SiteAddress::parse(text).ok_or_else(|| format!("`{text}` is no address"));
        list.into_iter().map(parse).collect::<Result<Vec<_>, _>>()
    };
    let site: Option<Fields<'_>> = case.query().inner("site");
    if let Some(site) = &site {
        rules.own_sites = addresses(site.texts("urls").unwrap_or_default())?;
        rules.ignored_referrers = addresses(site.texts("excluded_referrers").unwrap_or_default())?;
        // Then a page of the same host is not the site's own unless its addresses say so, which is our rule where they do.
        let _ = site.flag("only_known_urls");
    }
    if let Some((_, list)) = case.note.split_once(OTHER_SITES) {
        let list = list.split(',').filter_map(|entry| entry.split_whitespace().nth(1)).collect();
        rules.other_sites = addresses(list)?;
        rules.other_sites.retain(|other| !rules.own_sites.contains(other));
    }
    Ok(rules)
}
