//! Where a visitor came from: source, medium, campaign, channel.

use std::borrow::Cow;

use trackway_domain::channel::ChannelRules;
use trackway_domain::session::{Landing, LandingKind};

use crate::channel::{self, Visit, lower};
use crate::page::{self, Page};
use crate::query::{self, Clicks, Tags};
use crate::referrer;
use crate::sites::{self, Kind};

/// Where a visitor came from, as far as possible without copies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arrival<'a> {
    /// Channel, for example `Organic Search`.
    pub channel: &'a str,
    /// Source, in lower case, for example `google`.
    pub source: Cow<'a, str>,
    /// Medium, in lower case, for example `organic`.
    pub medium: Cow<'a, str>,
    /// Campaign's name, or empty.
    pub campaign: Cow<'a, str>,
    /// How that is known.
    pub kind: LandingKind,
}

impl From<Arrival<'_>> for Landing {
    fn from(arrival: Arrival<'_>) -> Self {
        Self {
            channel: arrival.channel.to_owned(),
            source: arrival.source.into_owned(),
            medium: arrival.medium.into_owned(),
            campaign: arrival.campaign.into_owned(),
            kind: arrival.kind,
        }
    }
}

/// Where this event says the visitor came from. `None`: it says nothing (no campaign, and a referrer that is missing or the
/// site itself), so the event is no landing, and a session that begins with it came directly.
///
/// - `tags`: what the tracker itself extracted; the page's own parameters fill what it leaves open.
#[must_use]
pub fn landing<'a>(url: &'a str, referrer: &'a str, tags: Tags<'a>, rules: &'a ChannelRules) -> Option<Arrival<'a>> {
    arrival(url, &page::parse(url), referrer, tags, rules)
}

/// [`landing`], for whoever has the page's parts already.
#[must_use]
pub fn arrival<'a>(
    url: &'a str,
    at: &Page<'a>,
    referrer: &'a str,
    mut tags: Tags<'a>,
    rules: &'a ChannelRules,
) -> Option<Arrival<'a>> {
    let from = page::parse(referrer);
    let foreign = !from.host.is_empty() && referrer::is_foreign(&from, at, rules);
    let clicks = if at.query.is_empty() { Clicks::NONE } else { query::read(at.query, &mut tags) };
    let said = foreign || clicks != Clicks::NONE || !tags.is_empty();
    // Most events are a step within the site. An own rule may still name those that come from nowhere.
    if !said && (rules.own.is_empty() || !from.host.is_empty()) {
        return None;
    }
    let site = if foreign { sites::of_host(from.host, from.path) } else { None };
    let click = clicks.source();
    let kind = match (tags.is_empty(), click) {
        (false, _) | (true, Some((_, true))) => LandingKind::Campaign,
        _ if foreign && site.is_none() => LandingKind::Website,
        _ => LandingKind::Known,
    };
    let (source, medium): (Cow<'a, str>, Cow<'a, str>) = match (tags.source.is_empty(), tags.medium.is_empty(), click) {
        // A paid click says what the campaign's maker left out.
        (_, true, Some((source, true))) => (either(&tags.source, source), Cow::Borrowed("cpc")),
        (true, true, Some((source, false))) if !foreign => (Cow::Borrowed(source), Cow::Borrowed("referral")),
        (true, true, _) if foreign => match site {
            Some(site) => (Cow::Borrowed(&site.source), Cow::Borrowed(medium(site.kind))),
            None => (lower(from.host), Cow::Borrowed("referral")),
        },
        _ => (owned_lower(&tags.source), owned_lower(&tags.medium)),
    };
    let visit = Visit {
        source,
        medium,
        tagged_source: tags.source,
        tagged_medium: tags.medium,
        campaign: tags.name,
        referring_domain: if foreign { from.host } else { "" },
        referring_site: site,
        direct: !foreign && !url.is_empty(),
        clicks,
        url,
        hostname: at.host,
        pathname: at.path,
    };
    let channel = match channel::own(&visit, &rules.own) {
        Some(own) => own,
        None if said => channel::preset(&visit, rules.preset),
        None => return None,
    };
    Some(Arrival { channel, source: visit.source, medium: visit.medium, campaign: visit.campaign, kind })
}

/// The medium of a visit that only has a referrer.
fn medium(kind: Kind) -> &'static str {
    match kind {
        Kind::Search => "organic",
        Kind::Social | Kind::Video | Kind::Shopping | Kind::Ai => "referral",
        Kind::Mail => "email",
        Kind::Ads => "display",
    }
}

fn either<'a>(tagged: &Cow<'a, str>, source: &'static str) -> Cow<'a, str> {
    if tagged.is_empty() { Cow::Borrowed(source) } else { owned_lower(tagged) }
}

fn owned_lower<'a>(text: &Cow<'a, str>) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => lower(text),
        Cow::Owned(text) => Cow::Owned(lower(text).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use trackway_domain::channel::{
        ChannelCondition, ChannelField, ChannelPreset, ChannelRule, ChannelTest, SiteAddress,
    };
    use trackway_domain::event::Campaign;

    use super::*;

    static USUAL: ChannelRules = ChannelRules::USUAL;

    fn check(url: &str, referrer: &str, expected: Option<(&str, &str, &str)>) {
        let found = landing(url, referrer, Tags::default(), &USUAL);
        let found = found.as_ref().map(|l| (l.channel, &*l.source, &*l.medium));
        assert_eq!(found, expected, "{url} from {referrer}");
    }

    #[test]
    fn moving_within_the_site_is_no_landing() {
        check("https://shop.example/a", "https://shop.example/", None);
        check("https://shop.example/a", "https://www.shop.example/", None);
        check("https://pay.shop.example/a", "https://shop.example/", None);
        check("https://shop.example/a?page=2&sort=up", "https://shop.example/", None);
        check("https://shop.example/a", "", None);
        check("https://shop.example/a", "https://notshop.example/", Some(("Referral", "notshop.example", "referral")));
    }

    #[test]
    fn referrers_are_known_by_their_site() {
        let at = "https://shop.example/";
        check(at, "https://www.google.co.uk/", Some(("Organic Search", "google", "organic")));
        check(at, "https://l.facebook.com/x", Some(("Organic Social", "facebook", "referral")));
        check(at, "https://chatgpt.com/", Some(("AI Assistant", "chatgpt", "referral")));
        check(at, "https://mail.google.com/", Some(("Email", "gmail", "email")));
        check(at, "https://youtu.be/x", Some(("Organic Video", "youtube", "referral")));
        check(at, "https://www.ebay.de/", Some(("Organic Shopping", "ebay", "referral")));
        check(at, "https://x.safeframe.googlesyndication.com/", Some(("Display", "google ads", "display")));
        check(at, "android-app://com.google.android.gm/", Some(("Email", "gmail", "email")));
    }

    #[test]
    fn campaign_wins_over_referrer_and_click() {
        let url = "https://shop.example/?utm_source=News&utm_medium=Email&gclid=x";
        check(url, "https://www.google.com/", Some(("Email", "news", "email")));
        check("https://shop.example/?gclid=x", "https://www.google.com/", Some(("Paid Search", "google", "cpc")));
        check("https://shop.example/?utm_source=Bing&msclkid=x", "", Some(("Paid Search", "bing", "cpc")));
        check(
            "https://shop.example/?utm_campaign=spring",
            "https://t.co/",
            Some(("Organic Social", "twitter", "referral")),
        );
    }

    #[test]
    fn a_mark_that_free_links_have_too_names_the_source_only_where_nothing_else_does() {
        check("https://shop.example/?fbclid=x", "", Some(("Organic Social", "facebook", "referral")));
        check(
            "https://shop.example/?fbclid=x",
            "https://www.google.com/",
            Some(("Organic Search", "google", "organic")),
        );
        check("https://shop.example/?fbclid=x&utm_source=fb&utm_medium=cpc", "", Some(("Paid Social", "fb", "cpc")));
    }

    #[test]
    fn what_the_tracker_extracted_wins_over_the_address() {
        let campaign = Campaign { source: "a".into(), ..Campaign::default() };
        let url = "https://x.example/?utm_source=b&utm_campaign=c%20d";
        let found = landing(url, "", Tags::from(&campaign), &USUAL).expect("a landing");
        assert_eq!((&*found.source, &*found.campaign), ("a", "c d"));
    }

    #[test]
    fn a_projects_rules_and_preset_decide() {
        let condition = |field, test| ChannelCondition { field, test, negated: false };
        let mut rules = ChannelRules {
            preset: ChannelPreset::PostHog,
            own: vec![ChannelRule {
                channel: "Partners".into(),
                any: false,
                conditions: vec![condition(ChannelField::Pathname, ChannelTest::Is(vec!["/partner".into()]))],
            }],
            ignored_referrers: vec![SiteAddress::parse("paypal.com").expect("an address")],
            ..ChannelRules::USUAL
        };
        let channel = |url, referrer, rules: &ChannelRules| {
            landing(url, referrer, Tags::default(), rules).map(|l| l.channel.to_owned())
        };
        assert_eq!(channel("https://s.example/?gclid=1", "", &rules).as_deref(), Some("Paid Unknown"));
        assert_eq!(channel("https://s.example/partner", "", &rules).as_deref(), Some("Partners"));
        assert_eq!(channel("https://s.example/partner", "https://g.example/", &rules).as_deref(), Some("Partners"));
        assert_eq!(channel("https://s.example/partner", "https://s.example/", &rules), None);
        assert_eq!(channel("https://s.example/", "", &rules), None);
        assert_eq!(channel("https://s.example/", "https://www.paypal.com/x", &rules), None);
        rules.preset = ChannelPreset::Plausible;
        assert_eq!(
            channel("https://s.example/?gclid=1", "https://www.google.com/", &rules).as_deref(),
            Some("Paid Search")
        );
    }
}
