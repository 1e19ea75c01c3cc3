//! Rules of channels on their way through the log.

use trackway_domain::channel::{
    ChannelCondition, ChannelField, ChannelPreset, ChannelRule, ChannelRules, ChannelTest, Pattern, SiteAddress,
};

use crate::log::{DecodeError, pb};

/// As a message; a project that decided nothing has none.
pub(super) fn to_pb(rules: &ChannelRules) -> Option<pb::ChannelRules> {
    let texts = |addresses: &[SiteAddress]| addresses.iter().map(SiteAddress::to_string).collect();
    (*rules != ChannelRules::USUAL).then(|| pb::ChannelRules {
        preset: rules.preset.as_str().to_owned(),
        own: rules.own.iter().map(rule_to_pb).collect(),
        own_sites: texts(&rules.own_sites),
        other_sites: texts(&rules.other_sites),
        ignored_referrers: texts(&rules.ignored_referrers),
    })
}

/// From a message. Records of before there were such rules have none.
pub(super) fn from_pb(rules: Option<&pb::ChannelRules>) -> Result<ChannelRules, DecodeError> {
    let Some(rules) = rules else { return Ok(ChannelRules::USUAL) };
    let addresses = |texts: &[String], field| {
        let parse = |text: &String| SiteAddress::parse(text).ok_or(DecodeError::Field { field });
        texts.iter().map(parse).collect::<Result<Vec<_>, _>>()
    };
    let preset = match rules.preset.as_str() {
        "" => ChannelPreset::Ga4,
        name => ChannelPreset::parse(name).ok_or(DecodeError::Field { field: "channels.preset" })?,
    };
    Ok(ChannelRules {
        preset,
        own: rules.own.iter().map(rule_from_pb).collect::<Result<_, _>>()?,
        own_sites: addresses(&rules.own_sites, "channels.own_sites")?,
        other_sites: addresses(&rules.other_sites, "channels.other_sites")?,
        ignored_referrers: addresses(&rules.ignored_referrers, "channels.ignored_referrers")?,
    })
}

fn rule_to_pb(rule: &ChannelRule) -> pb::ChannelRule {
    use pb::channel_condition::Test;
    let condition = |condition: &ChannelCondition| {
        let texts = |values: &[String]| pb::Texts { values: values.to_vec() };
        let test = match &condition.test {
            ChannelTest::IsSet => Test::Set(true),
            ChannelTest::Is(values) => Test::Is(texts(values)),
            ChannelTest::Contains(values) => Test::Contains(texts(values)),
            ChannelTest::Matches(patterns) => {
                Test::Matches(pb::Texts { values: patterns.iter().map(|p| p.as_str().to_owned()).collect() })
            }
        };
        let field = condition.field.as_str().to_owned();
        pb::ChannelCondition { field, negated: condition.negated, test: Some(test) }
    };
    pb::ChannelRule {
        channel: rule.channel.clone(),
        any: rule.any,
        conditions: rule.conditions.iter().map(condition).collect(),
    }
}

fn rule_from_pb(rule: &pb::ChannelRule) -> Result<ChannelRule, DecodeError> {
    use pb::channel_condition::Test;
    let condition = |condition: &pb::ChannelCondition| {
        let wrong = |field| DecodeError::Field { field };
        let pattern = |text: &String| Pattern::parse(text).ok_or(wrong("channels.own.conditions.matches"));
        let test = match condition.test.as_ref().ok_or(wrong("channels.own.conditions.test"))? {
            Test::Set(_) => ChannelTest::IsSet,
            Test::Is(texts) => ChannelTest::Is(texts.values.clone()),
            Test::Contains(texts) => ChannelTest::Contains(texts.values.clone()),
            Test::Matches(texts) => ChannelTest::Matches(texts.values.iter().map(pattern).collect::<Result<_, _>>()?),
        };
        let field = ChannelField::parse(&condition.field).ok_or(wrong("channels.own.conditions.field"))?;
        Ok(ChannelCondition { field, test, negated: condition.negated })
    };
    let conditions = rule.conditions.iter().map(condition).collect::<Result<_, _>>()?;
    Ok(ChannelRule { channel: rule.channel.clone(), any: rule.any, conditions })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rules with each field, and each test, once.
    pub(in super::super) fn each_once() -> ChannelRules {
        let addresses = |text| vec![SiteAddress::parse(text).expect("an address")];
        let conditions =
            ["utm_source", "!utm_medium", "utm_campaign = a | b", "url != a", "hostname ~ a", "pathname =~ ^/(a|b)"];
        let conditions = conditions.map(|text| ChannelCondition::parse(text).expect("a condition"));
        ChannelRules {
            preset: ChannelPreset::PostHog,
            own: vec![ChannelRule { channel: "c".into(), any: true, conditions: conditions.into() }],
            own_sites: addresses("a.example"),
            other_sites: addresses("b.example/x"),
            ignored_referrers: addresses("c.example"),
        }
    }

    #[test]
    fn usual_rules_take_no_room_and_older_records_have_them() {
        assert_eq!(to_pb(&ChannelRules::USUAL), None);
        assert_eq!(from_pb(None).ok(), Some(ChannelRules::USUAL));
        assert_eq!(from_pb(Some(&pb::ChannelRules::default())).ok(), Some(ChannelRules::USUAL));
    }
}
