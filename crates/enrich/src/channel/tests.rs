use trackway_domain::channel::{ChannelCondition, ChannelTest};

use super::*;

fn check(preset: ChannelPreset, source: &str, medium: &str, campaign: &str, expected: &str) {
    let visit = Visit {
        tagged_source: source.into(),
        tagged_medium: medium.into(),
        source: source.into(),
        medium: medium.into(),
        campaign: campaign.into(),
        ..Visit::default()
    };
    assert_eq!(super::preset(&visit, preset), expected, "{source} / {medium} / {campaign}");
}

#[test]
fn ga4s_channels_follow_the_published_rules() {
    for (source, medium, campaign, expected) in [
        ("", "", "", "Direct"),
        ("(direct)", "(none)", "", "Direct"),
        ("(direct)", "(none)", "x cross-network y", "Cross-network"),
        ("google", "organic", "", "Organic Search"),
        ("Google", "CPC", "", "Paid Search"),
        ("google", "cpm", "", "Paid Search"),
        ("facebook", "paid_social", "", "Paid Social"),
        ("youtube.com", "cpv", "", "Paid Video"),
        ("amazon.de", "ppc", "", "Paid Shopping"),
        ("x.example", "cpc", "spring shop", "Paid Shopping"),
        ("x.example", "cpc", "bishop", "Paid Other"),
        ("x.example", "", "eshop", "Organic Shopping"),
        ("x.example", "cpm", "", "Display"),
        ("x.example", "banner", "", "Display"),
        ("ebay", "referral", "", "Organic Shopping"),
        ("x.example", "sm", "", "Organic Social"),
        ("vimeo", "referral", "", "Organic Video"),
        ("x.example", "myvideos", "", "Organic Video"),
        ("x.example", "organic", "", "Organic Search"),
        ("news", "email", "", "Email"),
        ("e_mail", "x", "", "Email"),
        ("partner", "affiliate", "", "Affiliates"),
        ("blog.example", "referral", "", "Referral"),
        ("blog.example", "app", "", "Referral"),
        ("perplexity.ai", "referral", "", "AI Assistant"),
        ("chatgpt.com", "", "", "AI Assistant"),
        ("x.example", "audio", "", "Audio"),
        ("x.example", "sms", "", "SMS"),
        ("x.example", "web-push", "", "Mobile Push Notifications"),
        ("firebase", "y", "", "Mobile Push Notifications"),
        ("x.example", "y", "", "Unassigned"),
        ("x.example", "", "", "Unassigned"),
    ] {
        check(ChannelPreset::Ga4, source, medium, campaign, expected);
    }
}

#[test]
fn plausibles_channels_take_sources_that_say_ads_as_paid() {
    for (source, medium, campaign, expected) in [
        ("", "", "", "Direct"),
        ("", "", "cross-network", "Cross-network"),
        ("google_ads", "", "", "Paid Search"),
        ("adwords", "", "", "Paid Search"),
        ("fbad", "", "", "Paid Social"),
        ("yt-ads", "", "", "Paid Video"),
        ("", "cpc", "", "Paid Other"),
        ("", "paid", "shopping", "Paid Shopping"),
        ("Gmail", "", "", "Email"),
        ("Newsletter-UK", "", "", "Email"),
        ("ChatGPT", "", "", "AI Assistants"),
        ("wikipedia.org", "", "", "Referral"),
        ("", "referral", "", "Referral"),
        ("", "app-push", "", "Mobile Push Notifications"),
    ] {
        check(ChannelPreset::Plausible, source, medium, campaign, expected);
    }
    let click = |source: &str, clicks| {
        super::preset(&Visit { source: source.into(), clicks, ..Visit::default() }, ChannelPreset::Plausible)
    };
    assert_eq!(click("google", Clicks::GCLID), "Paid Search");
    assert_eq!(click("bing", Clicks::GCLID), "Organic Search");
    assert_eq!(click("duckduckgo", Clicks::MSCLKID), "Organic Search");
}

#[test]
fn posthogs_channels_ask_the_campaign_before_the_referrer() {
    let check = |source: &str, medium: &str, referrer: &str, clicks: Clicks, expected: &str| {
        let visit = Visit {
            tagged_source: source.into(),
            tagged_medium: medium.into(),
            referring_domain: referrer,
            referring_site: sites::of_host(referrer, "/"),
            clicks,
            ..Visit::default()
        };
        assert_eq!(super::preset(&visit, ChannelPreset::PostHog), expected, "{source} / {medium} / {referrer}");
    };
    check("", "", "", Clicks::NONE, "Unknown");
    check("", "", "google.com", Clicks::NONE, "Organic Search");
    check("", "", "google.com", Clicks::GCLID, "Paid Search");
    check("", "", "x.example", Clicks::GCLID, "Paid Unknown");
    check("", "", "x.example", Clicks::GAD_SOURCE.and(Clicks::GAD_SEARCH), "Paid Search");
    check("facebook", "cpc", "google.com", Clicks::NONE, "Paid Social");
    check("tiktok", "paid", "", Clicks::NONE, "Paid Video");
    check("x.example", "email", "facebook.com", Clicks::NONE, "Email");
    check("", "", "x.example", Clicks::FBCLID, "Organic Social");
    check("", "", "x.example", Clicks::NONE, "Referral");
    check("x", "web-push", "", Clicks::NONE, "Push");
    check("", "", "chatgpt.com", Clicks::NONE, "AI");
    let direct = |source: &str, medium: &str, campaign: &str| {
        let visit = Visit {
            tagged_source: source.into(),
            tagged_medium: medium.into(),
            campaign: campaign.into(),
            direct: true,
            ..Visit::default()
        };
        super::preset(&visit, ChannelPreset::PostHog)
    };
    assert_eq!(direct("", "", "shop"), "Direct");
    assert_eq!(direct("x.example", "", ""), "Direct");
    assert_eq!(direct("google", "", ""), "Organic Search");
}

#[test]
fn own_rules_need_all_or_any_of_their_conditions() {
    let condition = |field, values: &[&str], negated| ChannelCondition {
        field,
        test: ChannelTest::Is(values.iter().map(|&value| value.to_owned()).collect()),
        negated,
    };
    let conditions =
        vec![condition(ChannelField::UtmSource, &["a", "b"], false), condition(ChannelField::UtmMedium, &["x"], true)];
    let visit = |source: &'static str, medium: &'static str| Visit {
        tagged_source: source.into(),
        tagged_medium: medium.into(),
        ..Visit::default()
    };
    let all = [ChannelRule { channel: "Own".into(), any: false, conditions: conditions.clone() }];
    assert_eq!(own(&visit("B", "y"), &all), Some("Own"));
    assert_eq!(own(&visit("b", "x"), &all), None);
    assert_eq!(own(&visit("c", "y"), &all), None);
    let any = [ChannelRule { channel: "Own".into(), any: true, conditions }];
    assert_eq!(own(&visit("b", "x"), &any), Some("Own"));
    assert_eq!(own(&visit("c", "x"), &any), None);
    let without = [ChannelRule { channel: "All".into(), any: true, conditions: Vec::new() }];
    assert_eq!(own(&visit("c", "x"), &without), Some("All"));
}
