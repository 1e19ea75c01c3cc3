//! Channels: a grouping of visits by where they came from.
//!
//! Rules are data: an ordered list of conditions and channels ([`presets`]), before which a project may put its own. Here is
//! what a rule can ask of a visit, and the walk over the list.

mod presets;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use trackway_domain::channel::{ChannelField, ChannelPreset, ChannelRule, ChannelRules};

use crate::query::Clicks;
use crate::sites::{self, Kind, Site};

/// What is known of a visit.
#[derive(Debug, Clone, Default)]
pub struct Visit<'a> {
    /// `utm_source` as sent; empty: none.
    pub tagged_source: Cow<'a, str>,
    /// `utm_medium` as sent; empty: none.
    pub tagged_medium: Cow<'a, str>,
    /// The source as tables say it: of the campaign, of a click, or of the referrer.
    pub source: Cow<'a, str>,
    /// The medium as tables say it.
    pub medium: Cow<'a, str>,
    /// `utm_campaign`
    pub campaign: Cow<'a, str>,
    /// Host of the page that linked here, without `www.`; empty: none, or not known.
    pub referring_domain: &'a str,
    /// Whether the page is known to have been opened without a referrer.
    pub direct: bool,
    /// The site of that page.
    pub referring_site: Option<&'static Site>,
    /// Marks of clicks in the address.
    pub clicks: Clicks,
    /// Address of the page, its host (without `www.`) and its path.
    pub url: &'a str,
    /// Its host.
    pub hostname: &'a str,
    /// Its path.
    pub pathname: &'a str,
}

impl Visit<'_> {
    fn field(&self, field: ChannelField) -> &str {
        match field {
            ChannelField::UtmSource => &self.tagged_source,
            ChannelField::UtmMedium => &self.tagged_medium,
            ChannelField::UtmCampaign => &self.campaign,
            ChannelField::ReferringDomain => self.referring_domain,
            ChannelField::Url => self.url,
            ChannelField::Hostname => self.hostname,
            ChannelField::Pathname => self.pathname,
        }
    }
}

/// The channel of a visit: of the first own rule that matches, else by the preset.
#[must_use]
pub fn channel<'a>(visit: &Visit<'_>, rules: &'a ChannelRules) -> &'a str {
    own(visit, &rules.own).unwrap_or_else(|| preset(visit, rules.preset))
}

/// The channel of the first of a project's own rules that matches.
#[must_use]
pub fn own<'a>(visit: &Visit<'_>, rules: &'a [ChannelRule]) -> Option<&'a str> {
    let fits = |rule: &&ChannelRule| {
        let mut conditions = rule.conditions.iter().map(|condition| condition.holds(visit.field(condition.field)));
        if rule.any && !rule.conditions.is_empty() {
            conditions.any(|holds| holds)
        } else {
            conditions.all(|holds| holds)
        }
    };
    rules.iter().find(fits).map(|rule| rule.channel.as_str())
}

/// The channel of a visit by published rules.
#[must_use]
pub fn preset(visit: &Visit<'_>, preset: ChannelPreset) -> &'static str {
    let rules = presets::of(preset);
    let (source, medium) = match rules.reads {
        Reads::Stored => (lower(&visit.source), lower(&visit.medium)),
        Reads::Tagged => (lower(&visit.tagged_source), lower(&visit.tagged_medium)),
        Reads::TaggedOrReferrer => {
            let source = if visit.tagged_source.is_empty() { &visit.source } else { &visit.tagged_source };
            (lower(source), lower(&visit.tagged_medium))
        }
    };
    let found = if source.is_empty() { None } else { sites::of_source(&source) };
    let kind = |site: &Site| {
        let own = rules.kinds.iter().find(|(source, _)| *source == site.source);
        own.map_or(site.kind, |(_, kind)| *kind)
    };
    let facts = Facts {
        source_kind: found.map(|(site, _)| kind(site)),
        source_is_ads: found.is_some_and(|(_, ads)| ads),
        referrer_kind: visit.referring_site.map(kind),
        referred: !visit.referring_domain.is_empty(),
        direct: visit.direct,
        source,
        medium,
        campaign: lower(&visit.campaign),
        clicks: visit.clicks,
    };
    let fits = |rule: &&Rule| rule.all.iter().all(|when| facts.hold(when));
    rules.rules.iter().find(fits).map_or(rules.otherwise, |rule| rule.channel)
}

/// Published rules.
struct Preset {
    /// Which source and medium they read.
    reads: Reads,
    /// Sites, by source, that they take for another kind than we do.
    kinds: &'static [(&'static str, Kind)],
    /// In order.
    rules: &'static [Rule],
    /// The channel of what fits no rule.
    otherwise: &'static str,
}

enum Reads {
    /// Those that the tables have: a search engine's visitor has the medium `organic`.
    Stored,
    /// Those of the campaign only.
    Tagged,
    /// The campaign's medium, and its source or else the referrer's.
    TaggedOrReferrer,
}

/// A channel, for visits of which all of this holds.
struct Rule {
    channel: &'static str,
    all: &'static [When],
}

/// What a rule asks. Texts are compared in lower case.
enum When {
    Source(Text),
    Medium(Text),
    Campaign(Text),
    /// The source is a site of this kind.
    SourceIs(Kind),
    /// The source's name says that it is an advertisement.
    SourceIsAds,
    /// The referrer is a site of this kind.
    ReferrerIs(Kind),
    /// There is a referrer.
    Referred,
    /// There is none, for sure.
    Direct,
    /// The address has one of these marks.
    Clicked(Clicks),
    Any(&'static [Self]),
    All(&'static [Self]),
    Not(&'static Self),
}

enum Text {
    Is(&'static [&'static str]),
    Begins(&'static str),
    Ends(&'static str),
    Contains(&'static str),
    /// `^(.*(([^a-df-z]|^)shop|shopping).*)$`: "shop" at a word's begin or after an e ("eshop"), or "shopping" anywhere.
    NamesShop,
}

struct Facts<'a> {
    source: Cow<'a, str>,
    medium: Cow<'a, str>,
    campaign: Cow<'a, str>,
    source_kind: Option<Kind>,
    source_is_ads: bool,
    referrer_kind: Option<Kind>,
    referred: bool,
    direct: bool,
    clicks: Clicks,
}

impl Facts<'_> {
    fn hold(&self, when: &When) -> bool {
        match when {
            When::Source(text) => text.fits(&self.source),
            When::Medium(text) => text.fits(&self.medium),
            When::Campaign(text) => text.fits(&self.campaign),
            When::SourceIs(kind) => self.source_kind == Some(*kind),
            When::SourceIsAds => self.source_is_ads,
            When::ReferrerIs(kind) => self.referrer_kind == Some(*kind),
            When::Referred => self.referred,
            When::Direct => self.direct,
            When::Clicked(clicks) => self.clicks.has(*clicks),
            When::Any(any) => any.iter().any(|when| self.hold(when)),
            When::All(all) => all.iter().all(|when| self.hold(when)),
            When::Not(not) => !self.hold(not),
        }
    }
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Is(names) => names.contains(&text),
            Self::Begins(begin) => text.starts_with(begin),
            Self::Ends(end) => text.ends_with(end),
            Self::Contains(part) => text.contains(part),
            Self::NamesShop => {
                let before_fits = |at: usize| {
                    let before = text[..at].chars().next_back();
                    before.is_none_or(|c| c == 'e' || !c.is_ascii_lowercase())
                };
                text.contains("shopping") || text.match_indices("shop").any(|(at, _)| before_fits(at))
            }
        }
    }
}

/// In lower case and without space around it; copied only if it is not yet so.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if text.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii()) {
        Cow::Owned(text.to_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}
