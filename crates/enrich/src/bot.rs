//! Machines that run our trackers as people's browsers do: crawlers, headless browsers, monitors, AI agents.
//!
//! A word list finds what says its name, and most do; who pretends to be a browser is not found here. Not here either, and
//! on purpose: HTTP libraries and command-line clients (`python-requests`, `axios`, `okhttp`, `curl`, the trackers' own
//! server libraries). A server that reports what a customer did is no bot, and a crawler runs no such library's calls.

use std::fmt;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// What kind of machine sent an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bot {
    /// Reads pages: search engines, link previews, archives, scanners, scrapers.
    Crawler,
    /// A browser without a screen, or one that a program drives.
    Headless,
    /// Looks whether and how fast a site answers.
    Monitor,
    /// Reads pages for a language model, or acts for somebody who talks to one.
    AiAgent,
}

impl Bot {
    /// As tables and answers say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crawler => "crawler",
            Self::Headless => "headless",
            Self::Monitor => "monitor",
            Self::AiAgent => "ai_agent",
        }
    }
}

impl fmt::Display for Bot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Beginnings of words, in lower case. The special ones come first: a monitor drives a headless browser, and an agent of a
/// language model is a crawler by its name.
#[rustfmt::skip] // a line for each word would be a page for each list
const LISTS: [(Bot, &[&str]); 4] = [
    (
        Bot::AiAgent,
        &[
            "ai2bot", "amazonbot", "andibot", "anthropic-ai", "applebot-extended", "bytespider", "ccbot",
            "chatgpt-user", "claude-searchbot", "claude-user", "claude-web", "claudebot", "cohere-ai",
            "cohere-training", "crawl4ai", "deepseekbot", "diffbot", "duckassistbot", "firecrawl",
            "gemini-deep-research", "google-cloudvertexbot", "google-extended", "google-notebooklm", "gptbot",
            "grokbot", "iaskbot", "imagesiftbot", "linerbot", "manus-user", "meta-externalagent",
            "meta-externalfetcher", "mistralai-user", "novaact", "oai-searchbot", "omgili", "pangubot",
            "perplexity-user", "perplexitybot", "phindbot", "timpibot", "webzio-extended", "youbot",
        ],
    ),
    (
        Bot::Monitor,
        &[
            "alertsite", "amazon-route53-health-check", "better stack", "better uptime", "blackbox exporter",
            "blackbox-exporter", "catchpoint", "check_http", "checkly", "chrome-lighthouse", "cloudwatchsynthetics",
            "datadogsynthetics", "elb-healthchecker", "freshping", "google page speed", "google-pagespeed",
            "gomezagent", "googlehc", "googlestackdrivermonitoring", "gtmetrix", "hetrixtools", "k6/", "kube-probe", "lighthouse",
            "monit/", "montastic", "nagios", "newrelicpinger", "newrelicsynthetics", "pagespeed", "pingdom", "ptst/",
            "ruxitsynthetic", "site24x7", "speedcurve", "statuscake", "thousandeyes", "updown.io", "uptime",
            "webpagetest", "zabbix",
        ],
    ),
    (
        Bot::Headless,
        &[
            "chromedriver", "cypress", "geckodriver", "headless", "htmlunit", "jsdom", "nightmare", "phantomjs",
            "playwright", "puppeteer", "selenium", "slimerjs", "testcafe", "webdriver", "zombie.js",
        ],
    ),
    (
        Bot::Crawler,
        &[
            "acunetix", "admantx", "adsbot", "ahrefs", "apis-google", "arachni", "archive.org", "ask jeeves",
            "bingpreview", "botseer", "brandwatch", "bubing", "builtwith", "censysinspect", "crawl", "datanyze",
            "dataprovider", "daum/", "daumoa", "dirbuster", "embedly", "expanse", "ezooms", "facebookcatalog",
            "facebookexternalhit", "facebot", "feedbin", "feedburner", "feedfetcher", "feedly", "ffuf", "findlinks",
            "flipboardproxy", "genieo", "gigablast", "go-colly", "gobuster", "google (+http", "google favicon",
            "google web preview", "google wireless transcoder", "google-adwords", "google-amphtml",
            "google-inspectiontool", "google-read-aloud", "google-safety", "google-site-verification",
            "google-structured-data", "googleother", "googlesecurityscanner", "grapeshot", "heritrix", "holmes/",
            "htdig", "httrack", "ia_archiver", "ichiro", "iframely", "internetmeasurement", "l9explore", "larbin",
            "leakix", "ltx71", "masscan", "mediapartners-google", "nessus", "netcraft", "netsystemsresearch",
            "netvibes", "newsblur", "newsgator", "nikto", "nmap", "nuclei", "nutch", "ogscrper", "openvas", "outbrain",
            "pagepeeker", "panscient", "proximic", "qualys", "quora link preview", "qwantify", "scrapy",
            "screaming frog", "semrush", "seokicks", "shodan", "sitebulb", "siteimprove", "skypeuripreview", "slurp",
            "sogou web", "spiderman", "sqlmap", "teoma", "tineye", "tiny tiny rss", "tlsprober", "trendiction",
            "turnitin", "vkshare", "w3af", "w3c-checklink", "w3c_validator", "webthumbnail", "webzip", "wfuzz",
            "whatsapp/", "whatweb", "wpscan", "xenu", "yacy", "yahoocachesystem", "yahoomailproxy", "yahooseeker",
            "yeti/", "zgrab", "zyborg",
        ],
    ),
];

/// Ends of words by which most crawlers can be known.
const CRAWLER_ENDS: [&str; 7] = ["bot", "bots", "spider", "crawl", "crawler", "indexer", "scraper"];

/// Words that end like a crawler's and are none: a maker of phones.
const NO_CRAWLERS: [&str; 1] = ["cubot"];

/// Finds all words of [`LISTS`] at once, in any case of letters; a pattern's number is its place in [`LISTED`].
static WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = LISTS.iter().flat_map(|(_, words)| *words);
    AhoCorasick::builder().ascii_case_insensitive(true).build(words).expect("the words are few")
});

/// By word: its kind.
static LISTED: LazyLock<Vec<Bot>> =
    LazyLock::new(|| LISTS.iter().flat_map(|(bot, words)| words.iter().map(|_| *bot)).collect());

/// What kind of machine this user agent names, if it names one.
#[must_use]
pub fn kind(user_agent: &str) -> Option<Bot> {
    // Servers on Google's App Engine have this appended to whatever they say, with an address.
    if has(user_agent, "appengine-google") {
        return None;
    }
    let begins_a_word = |at: usize| !user_agent[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
    let named = WORDS.find_overlapping_iter(user_agent).filter(|word| begins_a_word(word.start()));
    // The first in the order of the lists.
    if let Some(word) = named.map(|word| word.pattern().as_usize()).min() {
        return Some(LISTED[word]);
    }
    let is_crawler = |word: &str| {
        CRAWLER_ENDS.iter().any(|end| ends_with(word, end))
            && !NO_CRAWLERS.iter().any(|not| word.eq_ignore_ascii_case(not))
    };
    // `Mozilla/5.0 (compatible; Name/1.0; +https://…)`: by convention the address of who wants to be asked about it.
    let signed = || user_agent.len() > 8 && user_agent.as_bytes()[..8].eq_ignore_ascii_case(b"mozilla/");
    (words(user_agent).any(is_crawler) || (signed() && has(user_agent, "+http"))).then_some(Bot::Crawler)
}

/// Whether it stands anywhere, in any case of letters.
fn has(user_agent: &str, word: &str) -> bool {
    user_agent.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

fn ends_with(word: &str, end: &str) -> bool {
    word.len() >= end.len() && word.as_bytes()[word.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
}

/// Runs of letters. Digits end a word, since names carry versions.
fn words(agent: &str) -> impl Iterator<Item = &str> {
    agent.split(|c: char| !c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use crate::user_agent::parse;

    fn check(user_agent: &str, expected: Option<&str>) {
        assert_eq!(parse(user_agent).bot.map(super::Bot::as_str), expected, "{user_agent}");
    }

    #[test]
    fn machines_that_say_their_name_are_known_by_kind() {
        for (user_agent, kind) in [
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "crawler"),
            (
                "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                "crawler",
            ),
            ("Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)", "crawler"),
            ("Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)", "crawler"),
            ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "crawler"),
            ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "crawler"),
            ("WhatsApp/2.23.20.0", "crawler"),
            ("SONY/Ericsson (compatible; ichiro/mobile goo; http://help.goo.ne.jp/help/article/1142)", "crawler"),
            ("Google (+https://developers.google.com/+/web/snippet/)", "crawler"),
            ("A6-Indexer/1.0 (http://www.a6corp.com/a6-web-scraping-policy/)", "crawler"),
            ("Xenu Link Sleuth/1.3.8", "crawler"),
            ("BAIDUSPIDER", "crawler"),
            ("Scrapy/2.11 (+https://scrapy.org)", "crawler"),
            ("Mozilla/5.0 (compatible; Some-Thing/1.0; +https://thing.example/about)", "crawler"),
            ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) somecrawler3000/1.0", "crawler"),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36",
                "headless",
            ),
            (
                "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 Safari/538.1",
                "headless",
            ),
            ("Mozilla/5.0 (linux) AppleWebKit/537.36 (KHTML, like Gecko) jsdom/24.0.0", "headless"),
            (
                "Mozilla/5.0 (Linux; Android 11; moto g power) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Mobile Safari/537.36 Chrome-Lighthouse",
                "monitor",
            ),
            ("Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "monitor"),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/537.36 DatadogSynthetics",
                "monitor",
            ),
            ("Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)", "monitor"),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; +https://openai.com/gptbot",
                "ai_agent",
            ),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
                "ai_agent",
            ),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
                "ai_agent",
            ),
            ("meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)", "ai_agent"),
        ] {
            check(user_agent, Some(kind));
        }
    }

    #[test]
    fn servers_that_report_what_customers_did_are_no_bots() {
        for user_agent in [
            "",
            "-",
            "python-requests/2.32.3",
            "Python/3.12 aiohttp/3.9.5",
            "analytics-python/2.3.2",
            "analytics-node/2.1.0",
            "analytics.go (version: 3.0.0)",
            "posthog-python/3.5.0",
            "mixpanel-python",
            "axios/1.7.2",
            "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
            "node",
            "undici",
            "Go-http-client/2.0",
            "okhttp/4.12.0",
            "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UQ1A.240205.002)",
            "Shop/12 CFNetwork/1494.0.7 Darwin/23.4.0",
            "Apache-HttpClient/4.5.14 (Java/17.0.9)",
            "Java/17.0.9",
            "Boto3/1.6.2 Python/3.4.3 Linux/4.4.35 Botocore/1.9.2 Resource",
            "WordPress/6.5; https://blog.example",
            "Ruby",
            "Faraday v2.9.0",
            "GuzzleHttp/7",
            "PHP/8.3.4",
            "curl/8.5.0",
            "Wget/1.21.4",
            "MyServer/1.0 AppEngine-Google; (+http://code.google.com/appengine; appid: s~shop)",
        ] {
            check(user_agent, None);
        }
    }

    #[test]
    fn peoples_browsers_are_no_bots() {
        for user_agent in [
            // A maker of phones; a desktop program of web pages; browsers within programs.
            "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 10; CUBOT_X30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Slack/4.38 Chrome/124.0 Electron/30.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/455.0.0.40.106;FBDV/iPhone15,3]",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [Pinterest/iOS]",
            "Mozilla/5.0 (Linux; Android 13; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/24.0 Chrome/117.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 12; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/97.0 Mobile Safari/537.36 baiduboxapp/13.10.0.10",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) coc_coc_browser/123.0 Chrome/117.0.0.0 Safari/537.36",
            "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2; Trident/6.0)",
            // From uap-core's tests/test_ua.yaml and test_device.yaml (Apache-2.0).
            "Mozilla/5.0 (Linux; Android 4.2; Galaxy Nexus Build/JOP40C) AppleWebKit/535.19 (KHTML, like Gecko) Chrome/18.0.1025.166 Mobile Safari/535.19",
            "Mozilla/5.0 (Linux; Android 9; Pixel 2 XL Build/PPP5.180610.010; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/68.0.3440.85 Mobile Safari/537.36",
            "Mozilla/5.0 (Mobile; rv:15.0) Gecko/15.0 Firefox/15.0",
        ] {
            check(user_agent, None);
        }
    }
}
