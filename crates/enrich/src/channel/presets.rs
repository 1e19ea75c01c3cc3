//! Published rules, as data, in the order of their sources.
//!
//! The lists of sites are our own (`data/sites.txt`). Where a source has another view of a well-known site, its preset says so.

use super::{Clicks, Kind, Preset, Reads, Rule, Text, When};
use When::{All, Any, Campaign, Clicked, Direct, Medium, Not, Referred, ReferrerIs, Source, SourceIs, SourceIsAds};
use trackway_domain::channel::ChannelPreset;

pub(super) fn of(preset: ChannelPreset) -> &'static Preset {
    match preset {
        ChannelPreset::Ga4 => &GA4,
        ChannelPreset::Plausible => &PLAUSIBLE,
        ChannelPreset::PostHog => &POSTHOG,
    }
}

const fn rule(channel: &'static str, all: &'static [When]) -> Rule {
    Rule { channel, all }
}

/// `^(.*cp.*|ppc|retargeting|paid.*)$`
const PAID_MEDIUM: When =
    Any(&[Medium(Text::Contains("cp")), Medium(Text::Is(&["ppc", "retargeting"])), Medium(Text::Begins("paid"))]);
const CROSS_NETWORK: When = Any(&[Campaign(Text::Contains("cross-network")), Medium(Text::Contains("cross-network"))]);
const SHOPPING: When = Any(&[SourceIs(Kind::Shopping), Campaign(Text::NamesShop)]);
const DISPLAY: When = Medium(Text::Is(&["display", "banner", "expandable", "interstitial", "cpm"]));
const SOCIAL_MEDIUM: When =
    Medium(Text::Is(&["social", "social-network", "social-media", "sm", "social network", "social media"]));
const EMAIL_NAMES: Text = Text::Is(&["email", "e-mail", "e_mail", "e mail"]);
const EMAIL: When = Any(&[Source(EMAIL_NAMES), Medium(EMAIL_NAMES)]);
const SMS: When = Any(&[Source(Text::Is(&["sms"])), Medium(Text::Is(&["sms"]))]);
const PUSH: When = Any(&[
    Medium(Text::Ends("push")),
    Medium(Text::Contains("mobile")),
    Medium(Text::Contains("notification")),
    Source(Text::Is(&["firebase"])),
]);
const NO_SOURCE: When = Source(Text::Is(&["", "(direct)", "direct", "$direct"]));
const NO_MEDIUM: When = Medium(Text::Is(&["", "(none)", "(not set)"]));

/// # Source
/// The definition that Google publishes for GA4's default channel group (help page 9756891), with its channel for AI
/// assistants; a visit without any source is direct, and a source named `fb-ads` is paid, as a click's mark would be.
const GA4: Preset = Preset {
    reads: Reads::Stored,
    kinds: &[],
    rules: &[
        rule("Cross-network", &[CROSS_NETWORK]),
        rule("Direct", &[NO_SOURCE, NO_MEDIUM]),
        rule("Paid Shopping", &[SHOPPING, PAID_MEDIUM]),
        rule("Paid Search", &[SourceIs(Kind::Search), PAID_MEDIUM]),
        rule("Paid Social", &[SourceIs(Kind::Social), PAID_MEDIUM]),
        rule("Paid Video", &[SourceIs(Kind::Video), PAID_MEDIUM]),
        rule("Display", &[DISPLAY]),
        rule("Paid Other", &[PAID_MEDIUM]),
        rule("AI Assistant", &[Any(&[SourceIs(Kind::Ai), Medium(Text::Is(&["ai-assistant", "ai assistant", "ai"]))])]),
        rule("Organic Shopping", &[SHOPPING]),
        rule("Organic Social", &[Any(&[SourceIs(Kind::Social), SOCIAL_MEDIUM])]),
        rule("Organic Video", &[Any(&[SourceIs(Kind::Video), Medium(Text::Contains("video"))])]),
        rule("Organic Search", &[Any(&[SourceIs(Kind::Search), Medium(Text::Is(&["organic"]))])]),
        rule("Referral", &[Medium(Text::Is(&["referral", "app", "link"]))]),
        rule("Email", &[EMAIL]),
        rule("Affiliates", &[Medium(Text::Is(&["affiliate"]))]),
        rule("Audio", &[Medium(Text::Is(&["audio"]))]),
        rule("SMS", &[SMS]),
        rule("Mobile Push Notifications", &[PUSH]),
    ],
    otherwise: "Unassigned",
};

const PLAUSIBLE_PAID: When = Any(&[PAID_MEDIUM, SourceIsAds]);

/// # Source
/// The channels of Plausible Analytics' documentation ("Acquisition channels"): GA4's with sources that say "ads" as paid,
/// clicks of Google and Bing as paid only where they are the source, and mail services as sources of e-mail.
const PLAUSIBLE: Preset = Preset {
    reads: Reads::TaggedOrReferrer,
    kinds: &[],
    rules: &[
        rule("Cross-network", &[CROSS_NETWORK]),
        rule("Paid Shopping", &[SHOPPING, PLAUSIBLE_PAID]),
        rule(
            "Paid Search",
            &[
                SourceIs(Kind::Search),
                Any(&[
                    PLAUSIBLE_PAID,
                    All(&[Source(Text::Is(&["google", "adwords"])), Clicked(Clicks::GCLID)]),
                    All(&[Source(Text::Is(&["bing"])), Clicked(Clicks::MSCLKID)]),
                ]),
            ],
        ),
        rule("Paid Social", &[SourceIs(Kind::Social), PLAUSIBLE_PAID]),
        rule("Paid Video", &[SourceIs(Kind::Video), PLAUSIBLE_PAID]),
        rule("Display", &[DISPLAY]),
        rule("Paid Other", &[PLAUSIBLE_PAID]),
        rule("AI Assistants", &[SourceIs(Kind::Ai)]),
        rule("Organic Shopping", &[SHOPPING]),
        rule("Organic Social", &[Any(&[SourceIs(Kind::Social), SOCIAL_MEDIUM])]),
        rule("Organic Video", &[Any(&[SourceIs(Kind::Video), Medium(Text::Contains("video"))])]),
        rule("Organic Search", &[Any(&[SourceIs(Kind::Search), Medium(Text::Is(&["organic"]))])]),
        rule("Email", &[Any(&[EMAIL, SourceIs(Kind::Mail), Source(Text::Contains("newsletter"))])]),
        rule("Affiliates", &[Medium(Text::Is(&["affiliate"]))]),
        rule("Audio", &[Medium(Text::Is(&["audio"]))]),
        rule("SMS", &[SMS]),
        rule("Mobile Push Notifications", &[PUSH]),
        rule("Referral", &[Medium(Text::Is(&["referral", "app", "link"]))]),
        rule("Direct", &[NO_SOURCE]),
    ],
    otherwise: "Referral",
};

const POSTHOG_PAID: When = Any(&[
    Medium(Text::Is(&["cpc", "cpm", "cpv", "cpa", "ppc", "retargeting"])),
    Medium(Text::Begins("paid")),
    Clicked(Clicks::GCLID),
    Clicked(Clicks::GAD_SOURCE),
]);

/// # Source
/// PostHog's documentation of channel types: whether a visit is paid comes first; then the campaign's source, the campaign's
/// name, its medium and the referrer are asked in this order.
const POSTHOG: Preset = Preset {
    reads: Reads::Tagged,
    kinds: &[("tiktok", Kind::Video)],
    rules: &[
        rule("Cross Network", &[Campaign(Text::Contains("cross-network"))]),
        rule("Paid Shopping", &[POSTHOG_PAID, SourceIs(Kind::Shopping)]),
        rule("Paid Search", &[POSTHOG_PAID, SourceIs(Kind::Search)]),
        rule("Paid Social", &[POSTHOG_PAID, SourceIs(Kind::Social)]),
        rule("Paid Video", &[POSTHOG_PAID, SourceIs(Kind::Video)]),
        rule("Paid Shopping", &[POSTHOG_PAID, Campaign(Text::NamesShop)]),
        rule("Display", &[POSTHOG_PAID, DISPLAY]),
        rule("Paid Video", &[POSTHOG_PAID, Medium(Text::Contains("video"))]),
        rule("Paid Social", &[POSTHOG_PAID, Medium(Text::Contains("social"))]),
        rule("Paid Search", &[POSTHOG_PAID, Medium(Text::Contains("search"))]),
        rule("Paid Shopping", &[POSTHOG_PAID, ReferrerIs(Kind::Shopping)]),
        rule("Paid Search", &[POSTHOG_PAID, ReferrerIs(Kind::Search)]),
        rule("Paid Social", &[POSTHOG_PAID, ReferrerIs(Kind::Social)]),
        rule("Paid Video", &[POSTHOG_PAID, ReferrerIs(Kind::Video)]),
        rule("Paid Search", &[POSTHOG_PAID, Clicked(Clicks::GAD_SEARCH)]),
        rule("Paid Video", &[POSTHOG_PAID, Campaign(Text::Contains("video"))]),
        rule("Paid Social", &[POSTHOG_PAID, Clicked(Clicks::FBCLID)]),
        rule("Paid Unknown", &[POSTHOG_PAID]),
        rule("Direct", &[Direct, NO_SOURCE, Medium(Text::Is(&[""])), Not(&Clicked(Clicks::FBCLID))]),
        rule("AI", &[SourceIs(Kind::Ai)]),
        rule("Organic Shopping", &[SourceIs(Kind::Shopping)]),
        rule("Organic Search", &[SourceIs(Kind::Search)]),
        rule("Organic Social", &[SourceIs(Kind::Social)]),
        rule("Organic Video", &[SourceIs(Kind::Video)]),
        rule("Email", &[Any(&[Source(EMAIL_NAMES), SourceIs(Kind::Mail)])]),
        rule("SMS", &[Source(Text::Is(&["sms"]))]),
        rule("Push", &[Source(Text::Is(&["firebase"]))]),
        rule("Organic Shopping", &[Campaign(Text::NamesShop)]),
        rule("Organic Social", &[SOCIAL_MEDIUM]),
        rule("Organic Search", &[Medium(Text::Is(&["organic"]))]),
        rule("Organic Video", &[Medium(Text::Is(&["video"]))]),
        rule("Display", &[DISPLAY]),
        rule("Referral", &[Medium(Text::Is(&["referral", "app", "link"]))]),
        rule("Email", &[Medium(EMAIL_NAMES)]),
        rule("Affiliate", &[Medium(Text::Is(&["affiliate", "affiliates"]))]),
        rule("Audio", &[Medium(Text::Is(&["audio"]))]),
        rule("SMS", &[Medium(Text::Is(&["sms"]))]),
        rule("Push", &[Medium(Text::Is(&["push", "mobile", "notification"]))]),
        rule("AI", &[ReferrerIs(Kind::Ai)]),
        rule("Organic Shopping", &[ReferrerIs(Kind::Shopping)]),
        rule("Organic Search", &[ReferrerIs(Kind::Search)]),
        rule("Organic Social", &[ReferrerIs(Kind::Social)]),
        rule("Organic Video", &[ReferrerIs(Kind::Video)]),
        rule("Email", &[ReferrerIs(Kind::Mail)]),
        rule("Organic Video", &[Campaign(Text::Contains("video"))]),
        rule("Push", &[Medium(Text::Ends("push"))]),
        rule("Organic Social", &[Clicked(Clicks::FBCLID)]),
        rule("Referral", &[Referred]),
        rule("Direct", &[Direct]),
    ],
    otherwise: "Unknown",
};
