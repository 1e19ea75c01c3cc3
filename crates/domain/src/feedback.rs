//! Feedback: what persons say of what they met, as a score or in words.
//!
//! An event is feedback by a rule of the project. It joins the touchpoint that it follows ([`crate::journey`]).

use std::borrow::Cow;

use crate::revenue::micros;

/// What kind of feedback it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FeedbackKind {
    /// Net promoter score: "would you recommend us", 0 to 10. 9 and 10 are promoters, 0 to 6 detractors.
    Nps,
    /// Customer satisfaction, 1 to 5.
    Csat,
    /// Words without a score.
    Text,
}

impl FeedbackKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nps, Self::Csat, Self::Text];

    /// As config, tables and answers say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nps => "nps",
            Self::Csat => "csat",
            Self::Text => "text",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Lowest and highest score, in millionths.
    fn scale(self) -> Option<(i64, i64)> {
        match self {
            Self::Nps => Some((0, 10_000_000)),
            Self::Csat => Some((1_000_000, 5_000_000)),
            Self::Text => None,
        }
    }
}

/// Makes an event feedback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackRule {
    /// Exact name of the event.
    pub event: String,
    /// Which kind it is.
    pub kind: FeedbackKind,
    /// Name of the property with the score.
    pub score: String,
    /// Name of the property with the words.
    pub text: String,
}

/// What one event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback<'a> {
    /// Kind.
    pub kind: FeedbackKind,
    /// The score in millionths. `None`: none was given, or it is not on the kind's scale (4 of 3 stars is no answer).
    pub score_micros: Option<i64>,
    /// The words, or empty.
    pub text: Cow<'a, str>,
}

/// What holds in a project without rules of its own: events `nps`, `csat` and `feedback`, with `score` and `comment`.
#[must_use]
pub fn usual() -> Vec<FeedbackRule> {
    let rule = |event: &str, kind| FeedbackRule {
        event: event.to_owned(),
        kind,
        score: "score".to_owned(),
        text: "comment".to_owned(),
    };
    vec![rule("nps", FeedbackKind::Nps), rule("csat", FeedbackKind::Csat), rule("feedback", FeedbackKind::Text)]
}

/// What an event says, by the first rule of its name; `None`: it is no feedback.
///
/// - `properties`: the value of a property as text, if the event has it and it is not `null`.
#[must_use]
pub fn find<'a>(
    rules: &[FeedbackRule],
    event: &str,
    properties: impl Fn(&str) -> Option<Cow<'a, str>>,
) -> Option<Feedback<'a>> {
    let rule = rules.iter().find(|rule| rule.event == event)?;
    let score = rule.kind.scale().and_then(|(lowest, highest)| {
        let score = micros(properties(&rule.score)?.trim())?;
        (lowest..=highest).contains(&score).then_some(score)
    });
    Some(Feedback { kind: rule.kind, score_micros: score, text: properties(&rule.text).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &str, score: Option<&str>, expected: Option<(FeedbackKind, Option<i64>)>) {
        let properties = |name: &str| match name {
            "score" => score.map(|score| Cow::Owned(score.to_owned())),
            "comment" => Some(Cow::Borrowed("slow")),
            _ => None,
        };
        let found = find(&usual(), event, properties);
        assert_eq!(found.as_ref().map(|found| (found.kind, found.score_micros)), expected, "{event} {score:?}");
        assert!(found.is_none_or(|found| found.text == "slow"));
    }

    #[test]
    fn a_score_counts_on_its_scale_only() {
        use FeedbackKind::{Csat, Nps, Text};
        check("nps", Some("0"), Some((Nps, Some(0))));
        check("nps", Some(" 10 "), Some((Nps, Some(10_000_000))));
        check("nps", Some("11"), Some((Nps, None)));
        check("nps", Some("-1"), Some((Nps, None)));
        check("csat", Some("4.5"), Some((Csat, Some(4_500_000))));
        check("csat", Some("0"), Some((Csat, None)));
        check("csat", Some("good"), Some((Csat, None)));
        check("csat", None, Some((Csat, None)));
        check("feedback", Some("3"), Some((Text, None)));
        check("purchase", Some("3"), None);
    }

    #[test]
    fn a_kind_is_known_by_its_name() {
        assert_eq!(FeedbackKind::ALL.map(|kind| FeedbackKind::parse(kind.as_str())), FeedbackKind::ALL.map(Some));
        assert_eq!(FeedbackKind::parse("stars"), None);
    }
}
