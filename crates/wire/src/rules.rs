//! Rules on their way through the log.

mod channels;

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use trackway_domain::audience::{AudienceRule, COUNT_MAX};
use trackway_domain::feedback::{FeedbackKind, FeedbackRule};
use trackway_domain::id::ProjectId;
use trackway_domain::property::{PropertyCondition, PropertyTest};
use trackway_domain::rules::{PartitionRules, ProjectRules, SessionRules};
use trackway_domain::session::zone::Zone;
use trackway_domain::time::{EventTime, millis};
use trackway_domain::touchpoint::TouchpointRule;

use crate::log::{DecodeError, pb};

/// As a message.
#[must_use]
pub fn rules_to_pb(rules: &PartitionRules) -> pb::PartitionRules {
    pb::PartitionRules {
        lateness_ms: millis(rules.lateness),
        hold_ms: millis(rules.hold),
        block_rows_max: rules.block_rows_max,
        block_ms: millis(rules.block_time),
        flush_ms: millis(rules.flush_time),
        projects: rules
            .projects
            .iter()
            .map(|(project, rules)| pb::ProjectRules {
                project: project.as_str().to_owned(),
                session_gap_ms: millis(rules.session.gap),
                session_length_max_ms: millis(rules.session.length_max),
                touchpoints: rules
                    .touchpoints
                    .iter()
                    .map(|rule| pb::TouchpointRule {
                        name: rule.name.clone(),
                        stage: rule.stage.clone(),
                        event: rule.event.clone(),
                        page: rule.page.clone(),
                        channel: rule.channel.clone(),
                        properties: rule.properties.iter().map(condition_to_pb).collect(),
                    })
                    .collect(),
                feedback: rules.feedback.iter().map(feedback_to_pb).collect(),
                channels: channels::to_pb(&rules.channels),
                session_midnight: rules.session.midnight.as_ref().map(zone_to_pb),
                session_split_campaign: rules.session.split_campaign,
                session_split_referral: rules.session.split_referral,
                session_split_user: rules.session.split_user,
                session_passive_extends: Some(rules.session.passive_extends),
                session_bounce_ms: Some(millis(rules.session.bounce_below)),
            })
            .collect(),
    }
}

/// From a message.
///
/// # Errors
/// [`DecodeError::Field`] for a negative time or a project id that is none.
pub fn rules_from_pb(rules: &pb::PartitionRules) -> Result<PartitionRules, DecodeError> {
    let project = |project: &pb::ProjectRules| {
        let id = ProjectId::parse(&project.project).ok_or(DecodeError::Field { field: "project" })?;
        let session = SessionRules {
            gap: duration(project.session_gap_ms, "session_gap_ms")?,
            length_max: duration(project.session_length_max_ms, "session_length_max_ms")?,
            events_max: SessionRules::USUAL.events_max,
            midnight: project.session_midnight.as_ref().map(zone_from_pb).transpose()?,
            split_campaign: project.session_split_campaign,
            split_referral: project.session_split_referral,
            split_user: project.session_split_user,
            passive_extends: project.session_passive_extends.unwrap_or(SessionRules::USUAL.passive_extends),
            bounce_below: match project.session_bounce_ms {
                Some(ms) => duration(ms, "session_bounce_ms")?,
                None => SessionRules::USUAL.bounce_below,
            },
        };
        let touchpoint = |rule: &pb::TouchpointRule| {
            Ok(TouchpointRule {
                name: rule.name.clone(),
                stage: rule.stage.clone(),
                event: rule.event.clone(),
                page: rule.page.clone(),
                channel: rule.channel.clone(),
                properties: rule.properties.iter().map(condition_from_pb).collect::<Result<_, _>>()?,
            })
        };
        let touchpoints = project.touchpoints.iter().map(touchpoint).collect::<Result<_, _>>()?;
        let feedback = project.feedback.iter().map(feedback_from_pb).collect::<Result<_, _>>()?;
        let channels = channels::from_pb(project.channels.as_ref())?;
        Ok((id, ProjectRules { session, touchpoints, feedback, channels }))
    };
    Ok(PartitionRules {
        lateness: duration(rules.lateness_ms, "lateness_ms")?,
        hold: duration(rules.hold_ms, "hold_ms")?,
        block_rows_max: rules.block_rows_max,
        block_time: duration(rules.block_ms, "block_ms")?,
        flush_time: duration(rules.flush_ms, "flush_ms")?,
        projects: rules.projects.iter().map(project).collect::<Result<_, _>>()?,
    })
}

/// A zone's days from 2000 to 2060; before and after it stays as it was then.
///
/// # Errors
/// There is no zone of this name.
pub fn zone_by_name(name: &str) -> Result<Zone, jiff::Error> {
    const FIRST: i64 = 946_684_800;
    const LAST: i64 = 2_840_140_800;
    let zone = TimeZone::get(name)?;
    let ms = |offset: Offset| i64::from(offset.seconds()) * 1000;
    let first = Timestamp::from_second(FIRST)?;
    let changes = zone
        .following(first)
        .take_while(|change| change.timestamp().as_second() < LAST)
        .map(|change| (EventTime(change.timestamp().as_millisecond()), ms(change.offset())));
    let zone = Zone::new(ms(zone.to_offset(first)), changes.collect());
    Ok(zone.expect("zones' changes ascend, and are less than a day"))
}

fn zone_to_pb(zone: &Zone) -> pb::TimeZone {
    pb::TimeZone {
        first_ms: zone.first_ms(),
        at_ms: zone.changes().iter().map(|(at, _)| at.0).collect(),
        ahead_ms: zone.changes().iter().map(|(_, ahead)| *ahead).collect(),
    }
}

fn zone_from_pb(zone: &pb::TimeZone) -> Result<Zone, DecodeError> {
    const ZONE: DecodeError = DecodeError::Field { field: "session_midnight" };
    if zone.at_ms.len() != zone.ahead_ms.len() {
        return Err(ZONE);
    }
    let changes = zone.at_ms.iter().zip(&zone.ahead_ms).map(|(&at, &ahead)| (EventTime(at), ahead)).collect();
    Zone::new(zone.first_ms, changes).ok_or(ZONE)
}

fn condition_to_pb(condition: &PropertyCondition) -> pb::PropertyCondition {
    use pb::property_condition::Test;
    let test = match &condition.test {
        PropertyTest::Set => Test::Set(true),
        PropertyTest::Is(text) => Test::Is(text.clone()),
        PropertyTest::IsNot(text) => Test::IsNot(text.clone()),
        PropertyTest::Contains(text) => Test::Contains(text.clone()),
        PropertyTest::AtLeast(least) => Test::AtLeastMicros(*least),
        PropertyTest::AtMost(most) => Test::AtMostMicros(*most),
    };
    pb::PropertyCondition { name: condition.name.clone(), test: Some(test) }
}

fn condition_from_pb(condition: &pb::PropertyCondition) -> Result<PropertyCondition, DecodeError> {
    use pb::property_condition::Test;
    let test = match condition.test.as_ref().ok_or(DecodeError::Field { field: "properties.test" })? {
        Test::Set(_) => PropertyTest::Set,
        Test::Is(text) => PropertyTest::Is(text.clone()),
        Test::IsNot(text) => PropertyTest::IsNot(text.clone()),
        Test::Contains(text) => PropertyTest::Contains(text.clone()),
        Test::AtLeastMicros(least) => PropertyTest::AtLeast(*least),
        Test::AtMostMicros(most) => PropertyTest::AtMost(*most),
    };
    Ok(PropertyCondition { name: condition.name.clone(), test })
}

fn feedback_to_pb(rule: &FeedbackRule) -> pb::FeedbackRule {
    let FeedbackRule { event, kind, score, text } = rule.clone();
    pb::FeedbackRule { event, kind: kind.as_str().to_owned(), score, text }
}

fn feedback_from_pb(rule: &pb::FeedbackRule) -> Result<FeedbackRule, DecodeError> {
    let kind = FeedbackKind::parse(&rule.kind).ok_or(DecodeError::Field { field: "feedback.kind" })?;
    let pb::FeedbackRule { event, score, text, .. } = rule.clone();
    Ok(FeedbackRule { event, kind, score, text })
}

/// As a message.
#[must_use]
pub fn audience_rule_to_pb(rule: &AudienceRule) -> pb::AudienceRule {
    let AudienceRule::EventCount { event, count_min, window } = rule;
    pb::AudienceRule { event: event.clone(), count_min: *count_min, window_ms: millis(*window) }
}

/// From a message.
///
/// # Errors
/// [`DecodeError::Field`] for a count or window that no checked rule has.
pub fn audience_rule_from_pb(rule: &pb::AudienceRule) -> Result<AudienceRule, DecodeError> {
    if !(1..=COUNT_MAX).contains(&rule.count_min) {
        return Err(DecodeError::Field { field: "count_min" });
    }
    let window = duration(rule.window_ms, "window_ms")?;
    Ok(AudienceRule::EventCount { event: rule.event.clone(), count_min: rule.count_min, window })
}

fn duration(ms: i64, field: &'static str) -> Result<Duration, DecodeError> {
    u64::try_from(ms).map(Duration::from_millis).map_err(|_| DecodeError::Field { field })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_a_zone_follow_its_clocks() {
        let zone = zone_by_name("Europe/Berlin").expect("a zone");
        let day = |time: &str| {
            let time: Timestamp = time.parse().expect("a time");
            zone.day(EventTime(time.as_millisecond()))
        };
        // An hour ahead in winter, two in summer.
        assert_eq!(day("2026-01-01T22:59:59.999Z") + 1, day("2026-01-01T23:00:00Z"));
        assert_eq!(day("2026-07-01T21:59:59.999Z") + 1, day("2026-07-01T22:00:00Z"));
        assert_eq!(day("2026-07-01T22:00:00Z"), day("2026-07-02T21:59:59Z"));
        assert!(zone_by_name("Europe/Nowhere").is_err());
    }

    #[test]
    fn rules_come_back_as_they_went() {
        let touchpoint = TouchpointRule {
            name: "n".into(),
            stage: "s".into(),
            event: "e".into(),
            page: "p".into(),
            channel: "c".into(),
            properties: ["a", "a = b", "a != b", "a ~ b", "a >= 1.5", "a <= -2"]
                .map(|text| PropertyCondition::parse(text).expect("a condition"))
                .into(),
        };
        let session = SessionRules {
            gap: Duration::from_secs(7),
            length_max: Duration::from_secs(9),
            events_max: SessionRules::USUAL.events_max,
            midnight: Zone::new(-1, vec![(EventTime(-5), 2), (EventTime(7), 3)]),
            split_campaign: true,
            split_referral: true,
            split_user: true,
            passive_extends: false,
            bounce_below: Duration::from_millis(11),
        };
        let shop = ProjectId::parse("shop").expect("a project id");
        let rules = PartitionRules {
            projects: vec![(
                shop,
                ProjectRules {
                    session,
                    touchpoints: vec![touchpoint],
                    feedback: trackway_domain::feedback::usual(),
                    channels: channels::tests::each_once(),
                },
            )],
            lateness: Duration::from_secs(1),
            hold: Duration::from_secs(2),
            block_rows_max: 3,
            block_time: Duration::from_secs(4),
            flush_time: Duration::from_secs(5),
        };
        assert_eq!(rules_from_pb(&rules_to_pb(&rules)).ok(), Some(rules));
        let rule = AudienceRule::EventCount { event: "x".into(), count_min: 2, window: Duration::from_secs(60) };
        assert_eq!(audience_rule_from_pb(&audience_rule_to_pb(&rule)).ok(), Some(rule));
    }
}
