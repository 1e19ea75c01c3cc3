//! What a project decides about sessions, touchpoints, feedback and channels: its settings as the worker's rules.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use trackway_domain::feedback::{FeedbackKind, FeedbackRule};
use trackway_domain::property::PropertyCondition;
use trackway_domain::rules::{ProjectRules, SessionRules};
use trackway_domain::session::zone::Zone;
use trackway_domain::time::EventTime;
use trackway_domain::touchpoint::TouchpointRule;

use super::channels;
use crate::config::settings::{Project, Touchpoint};

/// The rules of one project among all.
pub(super) fn of_project(project: &Project, all: &[Project]) -> ProjectRules {
    let touchpoints = project.touchpoints.iter().flat_map(|touchpoint| {
        // A rule of the domain has one event name or none.
        let events = if touchpoint.events.is_empty() { vec![String::new()] } else { touchpoint.events.clone() };
        events.into_iter().map(|event| TouchpointRule {
            name: touchpoint.name.clone(),
            stage: touchpoint.stage.clone(),
            event,
            page: touchpoint.page.clone(),
            channel: touchpoint.channel.clone(),
            properties: conditions(touchpoint),
        })
    });
    let feedback = project.feedback.iter().map(|feedback| FeedbackRule {
        event: feedback.event.clone(),
        kind: FeedbackKind::parse(&feedback.kind).expect("the config was checked"),
        score: feedback.score.clone(),
        text: feedback.text.clone(),
    });
    ProjectRules {
        session: SessionRules {
            gap: Duration::from_secs(u64::from(project.session_gap_seconds)),
            length_max: Duration::from_secs(u64::from(project.session_length_max_seconds)),
            events_max: SessionRules::USUAL.events_max,
            midnight: midnight(&project.session_midnight_zone).expect("the config was checked"),
            split_campaign: project.session_split_campaign,
            split_referral: project.session_split_referral,
            split_user: project.session_split_user,
            passive_extends: project.session_passive_extends,
            bounce_below: Duration::from_secs(u64::from(project.session_bounce_seconds)),
        },
        touchpoints: touchpoints.collect(),
        feedback: feedback.collect(),
        channels: channels::rules(project, all),
    }
}

/// A zone's days from 2000 to 2060; before and after it stays as it was then.
///
/// # Errors
/// There is no zone of this name.
pub(crate) fn midnight(zone: &str) -> Result<Option<Zone>, jiff::Error> {
    if zone.is_empty() {
        return Ok(None);
    }
    const FIRST: i64 = 946_684_800;
    const LAST: i64 = 2_840_140_800;
    let zone = TimeZone::get(zone)?;
    let ms = |offset: Offset| i64::from(offset.seconds()) * 1000;
    let first = Timestamp::from_second(FIRST)?;
    let changes = zone
        .following(first)
        .take_while(|change| change.timestamp().as_second() < LAST)
        .map(|change| (EventTime(change.timestamp().as_millisecond()), ms(change.offset())));
    let zone = Zone::new(ms(zone.to_offset(first)), changes.collect());
    Ok(Some(zone.expect("zones' changes ascend, and are less than a day")))
}

fn conditions(touchpoint: &Touchpoint) -> Vec<PropertyCondition> {
    let parse = |text: &String| PropertyCondition::parse(text).expect("the config was checked");
    touchpoint.properties.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackway_domain::touchpoint::find;

    #[test]
    fn days_of_a_zone_follow_its_clocks() {
        let zone = midnight("Europe/Berlin").expect("a zone").expect("a zone");
        let day = |time: &str| {
            let time: Timestamp = time.parse().expect("a time");
            zone.day(EventTime(time.as_millisecond()))
        };
        // An hour ahead in winter, two in summer.
        assert_eq!(day("2026-01-01T22:59:59.999Z") + 1, day("2026-01-01T23:00:00Z"));
        assert_eq!(day("2026-07-01T21:59:59.999Z") + 1, day("2026-07-01T22:00:00Z"));
        assert_eq!(day("2026-07-01T22:00:00Z"), day("2026-07-02T21:59:59Z"));
        assert!(midnight("Europe/Nowhere").is_err());
        assert_eq!(midnight("").expect("none"), None);
    }

    #[test]
    fn every_name_of_a_touchpoint_is_a_rule_and_the_first_wins() {
        let touchpoint = |name: &str, events: &[&str], page: &str| Touchpoint {
            name: name.into(),
            stage: "s".into(),
            events: events.iter().map(|&event| event.into()).collect(),
            page: page.into(),
            ..Default::default()
        };
        let touchpoints =
            vec![touchpoint("one", &["a", "b"], ""), touchpoint("two", &["b", "c"], ""), touchpoint("page", &[], "/x")];
        let rules = of_project(&Project { touchpoints, ..Project::stand_in() }, &[]);
        let name = |event, path| find(&rules.touchpoints, event, path, "", |_| None).map(|rule| rule.name.as_str());
        assert_eq!((name("a", ""), name("b", ""), name("c", "")), (Some("one"), Some("one"), Some("two")));
        assert_eq!((name("d", "/x"), name("d", "/y")), (Some("page"), None));
    }
}
