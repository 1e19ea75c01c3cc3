//! Touchpoints and the steps between them, as text.

use trackway_query::pb;

use super::answers::NAME_CHARS_MAX;
use super::json::progress;
use super::text::{Align, Look, Table, count, freshness, percent, seconds, short};

/// What each touchpoint costs, then where persons went from it.
pub fn touchpoint_flow(answer: &pb::TouchpointFlowResponse, look: Look) -> String {
    let mut touchpoints = Table::new(&[
        ("stage", Align::Left),
        ("touchpoint", Align::Left),
        ("contacts", Align::Right),
        ("persons", Align::Right),
        ("repeats", Align::Right),
        ("journey ends", Align::Right),
        ("stay", Align::Right),
        ("until next", Align::Right),
        ("feedback", Align::Left),
    ]);
    for row in &answer.touchpoints {
        touchpoints.row(vec![
            short(&row.stage, NAME_CHARS_MAX),
            short(&row.touchpoint, NAME_CHARS_MAX),
            count(row.contacts),
            count(row.persons),
            percent(row.repeats, row.contacts),
            percent(row.ends, row.persons),
            seconds(row.dwell_seconds_mean),
            seconds(row.next_seconds_mean),
            row.feedback.iter().map(feedback).collect::<Vec<_>>().join(", "),
        ]);
    }
    let mut steps = Table::new(&[
        ("from", Align::Left),
        ("to", Align::Left),
        ("stage", Align::Left),
        ("times", Align::Right),
        ("time between", Align::Right),
    ]);
    for row in &answer.transitions {
        steps.row(vec![
            short(&row.from, NAME_CHARS_MAX),
            short(&row.to, NAME_CHARS_MAX),
            progress(row.progress()).to_owned(),
            count(row.count),
            seconds(row.seconds_mean),
        ]);
    }
    format!("{}\n{}{}", touchpoints.to_text(look), steps.to_text(look), freshness(answer.freshness.as_ref(), look))
}

fn feedback(score: &pb::FeedbackScore) -> String {
    match (score.nps, score.mean) {
        (Some(nps), _) => format!("NPS {nps:+.0} of {}", score.scores),
        (None, Some(mean)) => format!("{} {mean:.2} of {}", score.kind, score.scores),
        (None, None) => format!("{} {}", score.answers, score.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_is_said_by_its_kind() {
        let score = |kind: &str, mean, nps| pb::FeedbackScore { kind: kind.into(), answers: 4, scores: 3, mean, nps };
        assert_eq!(feedback(&score("nps", Some(9.0), Some(33.3))), "NPS +33 of 3");
        assert_eq!(feedback(&score("csat", Some(4.256), None)), "csat 4.26 of 3");
        assert_eq!(feedback(&score("text", None, None)), "4 text");
    }
}
