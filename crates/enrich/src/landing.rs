//! Where a visitor came from: source, medium, campaign, channel.

use trackway_domain::event::Campaign;
use trackway_domain::session::Landing;

use crate::channel::{self, Site};
use crate::page::{self, Page};

/// Parameters that an advertiser's click adds, with the source that they stand for.
const CLICK_IDS: [(&str, &str); 10] = [
    ("gclid", "google"),
    ("gbraid", "google"),
    ("wbraid", "google"),
    ("dclid", "google"),
    ("msclkid", "bing"),
    ("ttclid", "tiktok"),
    ("twclid", "twitter"),
    ("li_fat_id", "linkedin"),
    ("rdt_cid", "reddit"),
    ("yclid", "yandex"),
];

/// Where this event says the visitor came from. `None`: it says nothing (no campaign, and a referrer that is missing or the
/// site itself), so the event is no landing, and a session that begins with it came directly.
///
/// - `campaign`: what the tracker itself extracted; the page's own parameters fill what it leaves open.
#[must_use]
pub fn landing(url: &str, referrer: &str, campaign: &Campaign) -> Option<Landing> {
    let at = page::parse(url);
    let from = page::parse(referrer);
    let (campaign, click) = with_parameters(campaign, &at);
    let foreign = !from.host.is_empty() && !same_site(from.host, at.host);
    if campaign == Campaign::default() && click.is_none() && !foreign {
        return None;
    }
    let site = if foreign { channel::site(from.host) } else { None };
    let (source, medium) = if !campaign.source.is_empty() || !campaign.medium.is_empty() {
        (lower(&campaign.source), lower(&campaign.medium))
    } else if let Some(source) = click {
        (source.to_owned(), "cpc".to_owned())
    } else {
        match site {
            Some((name, Site::Search)) => (name.to_owned(), "organic".to_owned()),
            Some((name, Site::Social | Site::Video | Site::Shopping | Site::Ai)) => {
                (name.to_owned(), "referral".to_owned())
            }
            Some((name, Site::Mail)) => (name.to_owned(), "email".to_owned()),
            None => (from.host.to_ascii_lowercase(), "referral".to_owned()),
        }
    };
    let channel = channel::channel(&source, &medium, &campaign.name).to_owned();
    Some(Landing { channel, source, medium, campaign: campaign.name })
}

fn with_parameters(campaign: &Campaign, at: &Page<'_>) -> (Campaign, Option<&'static str>) {
    let mut campaign = campaign.clone();
    let mut click = None;
    if at.query.is_empty() {
        return (campaign, click);
    }
    for (name, value) in form_urlencoded::parse(at.query.as_bytes()) {
        let field = match name.as_ref() {
            "utm_source" => &mut campaign.source,
            "utm_medium" => &mut campaign.medium,
            "utm_campaign" => &mut campaign.name,
            "utm_term" => &mut campaign.term,
            "utm_content" => &mut campaign.content,
            other => {
                click = click.or_else(|| CLICK_IDS.iter().find(|(id, _)| *id == other).map(|(_, source)| *source));
                continue;
            }
        };
        if field.is_empty() {
            *field = value.into_owned();
        }
    }
    (campaign, click)
}

/// Whether two hosts are one site: equal, or one below the other (`shop.example` and `pay.shop.example`).
fn same_site(a: &str, b: &str) -> bool {
    let below = |long: &str, short: &str| {
        !short.is_empty()
            && long.len() > short.len()
            && long.is_char_boundary(long.len() - short.len())
            && long[long.len() - short.len()..].eq_ignore_ascii_case(short)
            && long.as_bytes()[long.len() - short.len() - 1] == b'.'
    };
    a.eq_ignore_ascii_case(b) || below(a, b) || below(b, a)
}

fn lower(text: &str) -> String {
    text.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, referrer: &str, expected: Option<(&str, &str, &str)>) {
        let found = landing(url, referrer, &Campaign::default());
        let found = found.as_ref().map(|l| (l.channel.as_str(), l.source.as_str(), l.medium.as_str()));
        assert_eq!(found, expected, "{url} from {referrer}");
    }

    #[test]
    fn moving_within_the_site_is_no_landing() {
        check("https://shop.example/a", "https://shop.example/", None);
        check("https://shop.example/a", "https://www.shop.example/", None);
        check("https://pay.shop.example/a", "https://shop.example/", None);
        check("https://shop.example/a", "", None);
        check("https://shop.example/a", "https://notshop.example/", Some(("Referral", "notshop.example", "referral")));
    }

    #[test]
    fn referrers_are_known_by_their_site() {
        check("https://shop.example/", "https://www.google.co.uk/", Some(("Organic Search", "google", "organic")));
        check("https://shop.example/", "https://l.facebook.com/x", Some(("Organic Social", "facebook", "referral")));
        check("https://shop.example/", "https://chatgpt.com/", Some(("AI Assistant", "chatgpt", "referral")));
        check("https://shop.example/", "https://mail.google.com/", Some(("Email", "gmail", "email")));
    }

    #[test]
    fn campaign_wins_over_referrer_and_click_id() {
        let url = "https://shop.example/?utm_source=News&utm_medium=Email&gclid=x";
        check(url, "https://www.google.com/", Some(("Email", "news", "email")));
        check("https://shop.example/?gclid=x", "https://www.google.com/", Some(("Paid Search", "google", "cpc")));
    }

    #[test]
    fn what_the_tracker_extracted_wins_over_the_address() {
        let campaign = Campaign { source: "a".into(), ..Campaign::default() };
        let found = landing("https://x.example/?utm_source=b&utm_campaign=c%20d", "", &campaign).expect("a landing");
        assert_eq!((found.source.as_str(), found.campaign.as_str()), ("a", "c d"));
    }
}
