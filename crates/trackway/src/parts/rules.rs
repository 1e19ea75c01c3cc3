//! What a project decides about sessions, touchpoints, feedback and channels: its settings as the worker's rules.

use std::time::Duration;

use trackway_domain::feedback::{FeedbackKind, FeedbackRule};
use trackway_domain::property::PropertyCondition;
use trackway_domain::rules::{ProjectRules, SessionRules};
use trackway_domain::session::zone::Zone;
use trackway_domain::touchpoint::TouchpointRule;
use trackway_wire::rules::zone_by_name;

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

/// The zone whose midnight ends sessions; of an empty name, none.
///
/// # Errors
/// There is no zone of this name.
pub(crate) fn midnight(zone: &str) -> Result<Option<Zone>, jiff::Error> {
    if zone.is_empty() { Ok(None) } else { zone_by_name(zone).map(Some) }
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
    fn midnight_is_of_a_zone_that_is_named() {
        assert_eq!(midnight("").expect("none"), None);
        assert!(midnight("Europe/Berlin").is_ok_and(|zone| zone.is_some()));
        assert!(midnight("Europe/Nowhere").is_err());
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
