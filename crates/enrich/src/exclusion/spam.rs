//! Referrer spam: visits that nobody made, so that a site's owner sees the spammer's address in the reports.

use crate::page;

/// Hosts known for it for years, with all below them; our own list. New ones come weekly, so it is only a start:
/// projects name theirs.
#[rustfmt::skip] // a line for each would be two pages
const KNOWN: [&str; 88] = [
    "100dollars-seo.com", "4webmasters.org", "adf.ly.pw", "alibestsale.com", "anticrawler.org", "best-seo-offer.com",
    "best-seo-report.com", "best-seo-solution.com", "bestwebsitesawards.com", "blackhatworth.com", "buttons-for-website.com",
    "buttons-for-your-website.com", "buy-cheap-online.info", "cenokos.ru", "cenoval.ru", "cheap-traffic.xyz",
    "chinese-amezon.com", "copyrightclaims.org", "cyber-monday.ga", "dailyrank.net", "darodar.com",
    "descargar-musica-gratis.net", "econom.co", "edakgfvwql.ru", "erot.co", "event-tracking.com", "fbdownloader.com",
    "floating-share-buttons.com", "free-share-buttons.com", "free-social-buttons.com", "free-traffic.xyz",
    "generalporn.org", "get-free-social-traffic.com", "get-free-traffic-now.com", "get-seo-help.com", "googlsucks.com",
    "guardlink.org", "howtostopreferralspam.eu", "hulfingtonpost.com", "humanorightswatch.org", "hundejo.com",
    "ilovevitaly.co", "ilovevitaly.com", "ilovevitaly.ru", "iskalko.ru", "kambasoft.com",
    "keywords-monitoring-your-success.com", "law-enforcement-bot-ff.xyz", "lomb.co", "lombia.co", "lumb.co",
    "makemoneyonline.com", "monetizationking.net", "o-o-11-o-o.com", "o-o-6-o-o.com", "o-o-8-o-o.com",
    "offers.bycontext.com", "openmediasoft.com", "priceg.com", "rankings-analytics.com", "ranksonic.info",
    "ranksonic.org", "savetubevideo.com", "screentoolkit.com", "semalt.com", "semaltmedia.com", "seoanalyses.com",
    "share-buttons.xyz", "sharebutton.net", "sharebutton.org", "simple-share-buttons.com", "sitevaluation.org",
    "social-buttons.com", "soundfrost.org", "srecorder.com", "success-seo.com", "theguardlan.com", "timer4web.com",
    "torture.ml", "traffic2cash.xyz", "traffic2money.com", "trafficmonetize.org", "video--production.com",
    "videos-for-your-business.com", "vodkoved.ru", "webmonetizer.net", "xn--oogle-wmc.com", "youporn-forum.ga",
];

/// Sites from which nobody comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Referrers {
    known: bool,
    /// In lower case, sorted.
    hosts: Vec<String>,
}

impl Referrers {
    /// None.
    pub const NONE: Self = Self { known: false, hosts: Vec::new() };

    /// Of these hosts, each with all below it.
    ///
    /// - `known`: those of our own list, too.
    #[must_use]
    pub fn new<'a>(known: bool, hosts: impl IntoIterator<Item = &'a str>) -> Self {
        let host = |host: &str| host.trim().trim_matches('.').to_ascii_lowercase();
        let mut hosts: Vec<String> = hosts.into_iter().map(host).filter(|host| !host.is_empty()).collect();
        hosts.sort_unstable();
        Self { known, hosts }
    }

    /// Whether the page at this address is of one of them.
    #[must_use]
    pub fn has(&self, referrer: &str) -> bool {
        if referrer.is_empty() || (!self.known && self.hosts.is_empty()) {
            return false;
        }
        let own = |host: &str| self.hosts.binary_search_by(|own| own.as_str().cmp(host)).is_ok();
        is_listed(referrer, |host| own(host) || (self.known && is_known(host)))
    }
}

/// Whether the page at this address is of a site that is known for spam.
#[must_use]
pub fn is_known_spam(referrer: &str) -> bool {
    is_listed(referrer, is_known)
}

fn is_known(host: &str) -> bool {
    KNOWN.binary_search(&host).is_ok()
}

/// Whether the host of this address, or one above it, is listed.
fn is_listed(referrer: &str, listed: impl Fn(&str) -> bool) -> bool {
    let host = page::parse(referrer).host.to_ascii_lowercase();
    let mut rest = host.as_str();
    loop {
        if listed(rest) {
            return true;
        }
        match rest.split_once('.') {
            Some((_, above)) => rest = above,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_searched() {
        assert!(KNOWN.is_sorted());
        assert!(KNOWN.iter().all(|host| is_known_spam(&format!("http://{host}/x"))));
    }

    #[test]
    fn hosts_are_known_with_all_below_them_and_not_by_letters() {
        for spam in ["http://semalt.com", "https://www.SEMALT.com/out?mate", "//a.b.semalt.com", "http://semalt.com:80"]
        {
            assert!(is_known_spam(spam), "{spam}");
        }
        for other in
            ["", "http://notsemalt.com", "http://semalt.com.example", "http://x.example/semalt.com", "semalt.com"]
        {
            assert!(!is_known_spam(other), "{other}");
        }
    }

    #[test]
    fn own_hosts_come_beside_the_known_ones_or_instead() {
        let own = ["Spam.Example", " b.example", ""];
        for (known, spam) in [(false, false), (true, true)] {
            let referrers = Referrers::new(known, own);
            assert!(referrers.has("https://x.spam.example/") && referrers.has("https://b.example"));
            assert!(!referrers.has("https://example") && !referrers.has(""));
            assert_eq!(referrers.has("https://semalt.com"), spam);
        }
    }
}
