//! Channels: a grouping of sources and mediums.
//!
//! # Source
//! The definition that Google publishes for GA4's default channel group (help page 9756891), rules in its order, with
//! its channel for AI assistants. The lists of sites are our own and short: well-known names, by the host's parts.

/// What kind of site a visitor came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// A search engine.
    Search,
    /// A social network.
    Social,
    /// A video site.
    Video,
    /// A shop or price comparison.
    Shopping,
    /// An assistant that answers with links.
    Ai,
    /// Mail in the browser.
    Mail,
}

/// Hosts (or the end of hosts), the name as a source, and the kind. A name that ends with a dot stands for any country.
/// The first that fits wins, so the more special stand first.
const SITES: [(&str, &str, Site); 62] = [
    ("mail.google.com", "gmail", Site::Mail),
    ("outlook.live.com", "outlook", Site::Mail),
    ("outlook.office.com", "outlook", Site::Mail),
    ("mail.yahoo.com", "yahoo mail", Site::Mail),
    ("mail.proton.me", "proton mail", Site::Mail),
    ("gemini.google.com", "gemini", Site::Ai),
    ("chatgpt.com", "chatgpt", Site::Ai),
    ("chat.openai.com", "chatgpt", Site::Ai),
    ("perplexity.ai", "perplexity", Site::Ai),
    ("claude.ai", "claude", Site::Ai),
    ("copilot.microsoft.com", "copilot", Site::Ai),
    ("deepseek.com", "deepseek", Site::Ai),
    ("meta.ai", "meta ai", Site::Ai),
    ("chat.mistral.ai", "mistral", Site::Ai),
    ("grok.com", "grok", Site::Ai),
    ("you.com", "you", Site::Ai),
    ("phind.com", "phind", Site::Ai),
    ("shopping.google.", "google shopping", Site::Shopping),
    ("amazon.", "amazon", Site::Shopping),
    ("ebay.", "ebay", Site::Shopping),
    ("etsy.com", "etsy", Site::Shopping),
    ("idealo.", "idealo", Site::Shopping),
    ("alibaba.com", "alibaba", Site::Shopping),
    ("walmart.com", "walmart", Site::Shopping),
    ("youtube.com", "youtube", Site::Video),
    ("youtu.be", "youtube", Site::Video),
    ("vimeo.com", "vimeo", Site::Video),
    ("twitch.tv", "twitch", Site::Video),
    ("dailymotion.com", "dailymotion", Site::Video),
    ("netflix.com", "netflix", Site::Video),
    ("facebook.com", "facebook", Site::Social),
    ("instagram.com", "instagram", Site::Social),
    ("threads.net", "threads", Site::Social),
    ("t.co", "twitter", Site::Social),
    ("twitter.com", "twitter", Site::Social),
    ("x.com", "twitter", Site::Social),
    ("linkedin.com", "linkedin", Site::Social),
    ("lnkd.in", "linkedin", Site::Social),
    ("reddit.com", "reddit", Site::Social),
    ("pinterest.", "pinterest", Site::Social),
    ("tiktok.com", "tiktok", Site::Social),
    ("snapchat.com", "snapchat", Site::Social),
    ("tumblr.com", "tumblr", Site::Social),
    ("vk.com", "vk", Site::Social),
    ("weibo.com", "weibo", Site::Social),
    ("mastodon.social", "mastodon", Site::Social),
    ("bsky.app", "bluesky", Site::Social),
    ("news.ycombinator.com", "hacker news", Site::Social),
    ("quora.com", "quora", Site::Social),
    ("google.", "google", Site::Search),
    ("bing.com", "bing", Site::Search),
    ("duckduckgo.com", "duckduckgo", Site::Search),
    ("search.yahoo.", "yahoo", Site::Search),
    ("yahoo.", "yahoo", Site::Search),
    ("ecosia.org", "ecosia", Site::Search),
    ("qwant.com", "qwant", Site::Search),
    ("startpage.com", "startpage", Site::Search),
    ("search.brave.com", "brave", Site::Search),
    ("baidu.com", "baidu", Site::Search),
    ("yandex.", "yandex", Site::Search),
    ("naver.com", "naver", Site::Search),
    ("seznam.cz", "seznam", Site::Search),
];

/// Name and kind of a site, by its host.
#[must_use]
pub fn site(host: &str) -> Option<(&'static str, Site)> {
    let host = host.to_ascii_lowercase();
    SITES.iter().find(|(pattern, _, _)| host_fits(&host, pattern)).map(|(_, name, kind)| (*name, *kind))
}

/// Whether `host` is the pattern or lies below it; a pattern that ends with a dot is followed by one or two parts of a
/// country or company (`google.` fits `www.google.co.uk`, not `google.evil.example`).
fn host_fits(host: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('.') {
        None => host == pattern || host.strip_suffix(pattern).is_some_and(|rest| rest.ends_with('.')),
        Some(name) => {
            let mut places = host.match_indices(pattern).map(|(at, _)| at);
            places.any(|at| {
                let begins = at == 0 || host.as_bytes()[at - 1] == b'.';
                let mut tail = host[at + name.len() + 1..].split('.');
                let ends = match (tail.next(), tail.next(), tail.next()) {
                    (Some(top), None, _) => (2..=3).contains(&top.len()),
                    (Some("co" | "com" | "org" | "net"), Some(country), None) => country.len() == 2,
                    _ => false,
                };
                begins && ends
            })
        }
    }
}

/// Kind of a source, which is a site's name or host.
fn kind(source: &str) -> Option<Site> {
    site(source)
        .or_else(|| SITES.iter().find(|(_, name, _)| *name == source).map(|(_, name, kind)| (*name, *kind)))
        .map(|(_, kind)| kind)
}

/// The channel of a source and medium, both in lower case.
#[must_use]
pub fn channel(source: &str, medium: &str, campaign: &str) -> &'static str {
    let kind = kind(source);
    let campaign = campaign.to_lowercase();
    let paid = medium.contains("cp") || medium == "ppc" || medium == "retargeting" || medium.starts_with("paid");
    let shopping = kind == Some(Site::Shopping) || is_shopping(&campaign);
    let is = |names: &[&str]| names.contains(&medium);
    if campaign.contains("cross-network") {
        "Cross-network"
    } else if (source.is_empty() || source == "direct" || source == "(direct)") && is(&["", "(none)", "(not set)"]) {
        "Direct"
    } else if shopping && paid {
        "Paid Shopping"
    } else if kind == Some(Site::Search) && paid {
        "Paid Search"
    } else if kind == Some(Site::Social) && paid {
        "Paid Social"
    } else if kind == Some(Site::Video) && paid {
        "Paid Video"
    } else if is(&["display", "banner", "expandable", "interstitial", "cpm"]) {
        "Display"
    } else if paid {
        "Paid Other"
    } else if kind == Some(Site::Ai) {
        "AI Assistant"
    } else if shopping {
        "Organic Shopping"
    } else if kind == Some(Site::Social)
        || is(&["social", "social-network", "social-media", "sm", "social network", "social media"])
    {
        "Organic Social"
    } else if kind == Some(Site::Video) || medium.contains("video") {
        "Organic Video"
    } else if kind == Some(Site::Search) || medium == "organic" {
        "Organic Search"
    } else if is_email(source) || is_email(medium) {
        "Email"
    } else if medium == "affiliate" {
        "Affiliates"
    } else if is(&["referral", "app", "link"]) {
        "Referral"
    } else if medium == "audio" {
        "Audio"
    } else if source == "sms" || medium == "sms" {
        "SMS"
    } else if medium.ends_with("push")
        || medium.contains("mobile")
        || medium.contains("notification")
        || source == "firebase"
    {
        "Mobile Push Notifications"
    } else {
        "Unassigned"
    }
}

fn is_email(name: &str) -> bool {
    matches!(name, "email" | "e-mail" | "e_mail" | "e mail")
}

/// `^(.*(([^a-df-z]|^)shop|shopping).*)$`: "shop" at a word's begin or after an e ("eshop"), or "shopping" anywhere.
fn is_shopping(campaign: &str) -> bool {
    let before_fits = |at: usize| {
        let before = campaign[..at].chars().next_back();
        before.is_none_or(|c| c == 'e' || !c.is_ascii_lowercase())
    };
    campaign.contains("shopping") || campaign.match_indices("shop").any(|(at, _)| before_fits(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_follow_the_published_rules() {
        for (source, medium, campaign, expected) in [
            ("", "", "", "Direct"),
            ("google", "organic", "", "Organic Search"),
            ("google", "cpc", "", "Paid Search"),
            ("facebook", "paid_social", "", "Paid Social"),
            ("youtube.com", "cpv", "", "Paid Video"),
            ("x", "cpc", "spring shop", "Paid Shopping"),
            ("x", "cpc", "bishop", "Paid Other"),
            ("x", "cpm", "", "Display"),
            ("news", "email", "", "Email"),
            ("partner", "affiliate", "", "Affiliates"),
            ("blog.example", "referral", "", "Referral"),
            ("perplexity.ai", "referral", "", "AI Assistant"),
            ("x", "sms", "", "SMS"),
            ("x", "web-push", "", "Mobile Push Notifications"),
            ("x", "y", "", "Unassigned"),
        ] {
            assert_eq!(channel(source, medium, campaign), expected, "{source} / {medium} / {campaign}");
        }
    }

    #[test]
    fn a_host_is_known_with_its_parts_and_not_by_letters() {
        assert_eq!(site("news.google.co.uk"), Some(("google", Site::Search)));
        assert_eq!(site("google.de"), Some(("google", Site::Search)));
        assert_eq!(site("notgoogle.de"), None);
        assert_eq!(site("google.evil.example"), None);
        assert_eq!(site("netflix.com"), Some(("netflix", Site::Video)));
        assert_eq!(site("bt.co"), None);
    }
}
