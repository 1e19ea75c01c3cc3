//! What an event says of a visitor's activity: whether somebody did it, and how long they were engaged.
//!
//! Trackers report things by themselves: a heartbeat, that a page was left, how fast it was. Who counts these as actions has
//! no bounces, and sessions of tabs that nobody looks at.

use std::borrow::Cow;

use trackway_domain::event::EventKind;
use trackway_domain::revenue::micros;
use trackway_domain::session::Role;

use crate::properties::property;

/// Longest engagement that one event reports: a day. More is a broken clock.
const ENGAGED_MS_MAX: i64 = 24 * 3600 * 1000;

/// What the event is for a session.
///
/// - `protocol`: [`crate::protocol::Protocol::name`] of what it came by.
/// - `properties`: the text of one JSON object.
#[must_use]
pub fn role(protocol: &str, kind: EventKind, name: &str, properties: &str) -> Role {
    let is_passive = match protocol {
        "posthog" => matches!(
            name,
            "$pageleave" | "$web_vitals" | "$$heatmap" | "$feature_flag_called" | "$performance_event" | "$snapshot"
        ),
        "snowplow" => name == "page_ping",
        "matomo" => name == "ping",
        "plausible" | "trackway" => name == "engagement",
        "ga4_web" | "ga4_mp" => name == "user_engagement",
        "countly" => matches!(name, "session_duration" | "end_session"),
        "universal_analytics" => {
            property(properties, "nonInteraction").is_some_and(|said| matches!(&*said, "1" | "true"))
        }
        _ => false,
    };
    match kind {
        _ if is_passive => Role::Passive,
        EventKind::Page | EventKind::Screen => Role::View,
        EventKind::Track | EventKind::Identify | EventKind::Group | EventKind::Alias => Role::Action,
    }
}

/// Milliseconds that the visitor was engaged since the event before, where the tracker measures it: our own, GA4, Plausible,
/// PostHog, Countly. 0 elsewhere, and for what is no length of a day at most.
///
/// - `protocol`, `properties`: as for [`role`].
#[must_use]
pub fn engaged_ms(protocol: &str, name: &str, properties: &str) -> u32 {
    const MS: i64 = 1_000_000;
    const SECOND: i64 = 1_000;
    let of_context = |member: &str| {
        let context = property(properties, "$context")?;
        property(&context, member).map(Cow::into_owned)
    };
    let said = match (protocol, name) {
        ("ga4_web", _) => of_context("_et").map(|ms| (ms, MS)),
        ("ga4_mp", _) => property(properties, "engagement_time_msec").map(|ms| (ms.into_owned(), MS)),
        ("trackway", "engagement") => property(properties, "engaged_ms").map(|ms| (ms.into_owned(), MS)),
        ("plausible", "engagement") => of_context("e").map(|ms| (ms, MS)),
        ("posthog", "$pageleave" | "$pageview") => {
            property(properties, "$prev_pageview_duration").map(|seconds| (seconds.into_owned(), SECOND))
        }
        ("countly", "session_duration") => {
            property(properties, "duration").map(|seconds| (seconds.into_owned(), SECOND))
        }
        _ => None,
    };
    let ms = said.and_then(|(text, unit)| Some(micros(&text)? / unit)).unwrap_or(0);
    if (0..=ENGAGED_MS_MAX).contains(&ms) { u32::try_from(ms).expect("a day at most") } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tracker_reports_by_itself_is_nobodys_action() {
        let role = |protocol, name| role(protocol, EventKind::Track, name, r#"{"nonInteraction":1}"#);
        for (protocol, name) in [
            ("posthog", "$pageleave"),
            ("snowplow", "page_ping"),
            ("matomo", "ping"),
            ("plausible", "engagement"),
            ("ga4_web", "user_engagement"),
            ("countly", "end_session"),
            ("universal_analytics", "Play"),
        ] {
            assert_eq!(role(protocol, name), Role::Passive, "{protocol} {name}");
            assert_eq!(role("segment", name), Role::Action, "{name} of another");
        }
        assert_eq!(super::role("universal_analytics", EventKind::Track, "Play", "{}"), Role::Action);
        assert_eq!(super::role("posthog", EventKind::Page, "$pageview", "{}"), Role::View);
        assert_eq!(super::role("segment", EventKind::Screen, "screen", "{}"), Role::View);
    }

    #[test]
    fn engagement_is_read_in_each_trackers_unit() {
        let check = |protocol: &str, name: &str, properties: &str, expected| {
            assert_eq!(engaged_ms(protocol, name, properties), expected, "{protocol} {properties}");
        };
        check("ga4_web", "scroll", r#"{"$context":{"_et":"2861"}}"#, 2861);
        check("ga4_mp", "purchase", r#"{"engagement_time_msec":"100"}"#, 100);
        check("ga4_mp", "purchase", r#"{"engagement_time_msec":100.9}"#, 100);
        check("trackway", "engagement", r#"{"engaged_ms":900,"scroll_percent":20}"#, 900);
        check("plausible", "engagement", r#"{"$context":{"sd":100,"e":4354}}"#, 4354);
        check("plausible", "pageview", r#"{"$context":{"e":4354}}"#, 0);
        check("posthog", "$pageleave", r#"{"$prev_pageview_duration":12.3456}"#, 12_345);
        check("countly", "session_duration", r#"{"duration":30}"#, 30_000);
        check("segment", "x", r#"{"duration":30,"$context":{"_et":"1"}}"#, 0);
        for absurd in ["-1", "86400001", "\"x\"", "1e300", "null"] {
            check("ga4_mp", "x", &format!(r#"{{"engagement_time_msec":{absurd}}}"#), 0);
        }
        check("ga4_mp", "x", r#"{"engagement_time_msec":86400000}"#, 86_400_000);
    }
}
