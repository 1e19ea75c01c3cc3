//! Where customers go from each touchpoint, and what it costs them. ClickHouse streams touchpoints and feedback; `domain`
//! sums over persons.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tokio::time::Instant;
use trackway_domain::feedback::FeedbackKind;
use trackway_domain::id::ProjectId;
use trackway_domain::journey::{FeedbackSums, JourneyCounts, JourneyEvent};
use trackway_domain::time::EventTime;
use trackway_store::queries::ContactBlock;

use crate::check::TouchpointFlow;
use crate::evaluate::Numbers;
use crate::persons::{MergedKeys, Persons, Timed};
use crate::service::{Desk, cost};
use crate::status::Fault;
use crate::{evaluate, pb};

impl Timed for JourneyEvent {
    fn time(&self) -> EventTime {
        self.time
    }
}

pub(crate) async fn answer(desk: &Desk, asked: TouchpointFlow) -> Result<pb::TouchpointFlowResponse, Fault> {
    let begin = Instant::now();
    let freshness = desk.events_freshness().await?;
    let project = asked.project.as_str();
    let store = desk.store.metered();
    let identities = store.identities(project, desk.config.identity_pairs_max).await?;
    let stream = store.contacts(project, asked.scope, desk.config.limits).await?;

    let limits = Limits { held_events: desk.config.merged_events_max, names: desk.config.names_max };
    let counts = JourneyCounts::new(asked.gap);
    let evaluate = move |blocks| evaluate(blocks, &identities, counts, limits);
    let (counts, touchpoints) = evaluate::in_thread(stream, evaluate).await?;
    let stages = Stages::of(&desk.config.stages, &asked.project);
    Ok(pb::TouchpointFlowResponse {
        persons: counts.persons(),
        touchpoints: rows(&counts, &touchpoints, &stages),
        transitions: transitions(&counts, &touchpoints, &stages, asked.transitions_max),
        freshness: Some(freshness),
        cost: Some(cost(&store, begin)),
    })
}

#[derive(Clone, Copy)]
struct Limits {
    held_events: usize,
    names: usize,
}

/// Stage and name.
type Touchpoint = (String, String);

fn evaluate(
    mut blocks: tokio::sync::mpsc::Receiver<ContactBlock>,
    identities: &[(u128, u128)],
    mut counts: JourneyCounts,
    limits: Limits,
) -> Result<(JourneyCounts, Vec<Touchpoint>), Fault> {
    let mut persons = Persons::new(MergedKeys::new(identities), limits.held_events);
    let mut touchpoints = Numbers::new(limits.names);
    let mut add = |events: &[JourneyEvent]| counts.person(events);
    while let Some(block) = blocks.blocking_recv() {
        // Of this block's pairs to ours.
        let mut ours: HashMap<(u32, u32), u32> = HashMap::new();
        for row in 0..block.persons.len() {
            let (stage, name) = (block.stage_indexes[row], block.touchpoint_indexes[row]);
            let text = &block.touchpoints[name as usize];
            let touchpoint = match ours.entry((stage, name)) {
                _ if text.is_empty() => None,
                Entry::Occupied(known) => Some(*known.get()),
                Entry::Vacant(new) => {
                    let touchpoint = (block.stages[stage as usize].clone(), text.clone());
                    Some(*new.insert(touchpoints.number(touchpoint)?))
                }
            };
            let event =
                JourneyEvent { time: EventTime(block.times_ms[row]), touchpoint, feedback: block.feedback[row] };
            persons.event(block.persons[row], event, &mut add)?;
        }
    }
    persons.finish(&mut add)?;
    Ok((counts, touchpoints.into_all()))
}

/// A project's stages, in their order.
struct Stages<'a>(&'a [String]);

impl<'a> Stages<'a> {
    fn of(all: &'a [(ProjectId, Vec<String>)], project: &ProjectId) -> Self {
        Self(all.iter().find(|(id, _)| id == project).map_or(&[], |(_, stages)| stages))
    }

    /// Place of a stage; those that the project does not name come last.
    fn place(&self, stage: &str) -> usize {
        self.0.iter().position(|known| known == stage).unwrap_or(self.0.len())
    }

    fn progress(&self, from: &str, to: &str) -> pb::StageProgress {
        let (before, after) = (self.place(from), self.place(to));
        if from == to {
            pb::StageProgress::Same
        } else if before == self.0.len() || after == self.0.len() {
            pb::StageProgress::Unspecified
        } else if after > before {
            pb::StageProgress::Forward
        } else {
            pb::StageProgress::Back
        }
    }
}

/// Touchpoints in the order of their stages, then by name.
fn rows(counts: &JourneyCounts, touchpoints: &[Touchpoint], stages: &Stages<'_>) -> Vec<pb::TouchpointFlow> {
    let mut rows: Vec<_> = counts
        .touchpoints()
        .iter()
        .zip(touchpoints)
        .map(|(sums, (stage, touchpoint))| pb::TouchpointFlow {
            stage: stage.clone(),
            touchpoint: touchpoint.clone(),
            contacts: sums.contacts,
            persons: sums.persons,
            repeats: sums.repeats,
            ends: sums.ends,
            dwell_seconds_mean: mean_seconds(sums.dwell_ms, sums.contacts),
            next_seconds_mean: mean_seconds(sums.wait_ms, sums.contacts - sums.ends),
            feedback: FeedbackKind::ALL
                .into_iter()
                .zip(sums.feedback)
                .filter(|(_, sums)| sums.answers > 0)
                .map(|(kind, sums)| feedback(kind, sums))
                .collect(),
        })
        .collect();
    rows.sort_by(|a, b| {
        let place = |row: &pb::TouchpointFlow| (stages.place(&row.stage), row.stage.clone(), row.touchpoint.clone());
        place(a).cmp(&place(b))
    });
    rows
}

fn feedback(kind: FeedbackKind, sums: FeedbackSums) -> pb::FeedbackScore {
    let of_scores = |sum: f64| (sums.scores > 0).then(|| sum / sums.scores as f64);
    pb::FeedbackScore {
        kind: kind.as_str().to_owned(),
        answers: sums.answers,
        scores: sums.scores,
        mean: of_scores(sums.sum_micros as f64 / 1e6),
        nps: match kind {
            FeedbackKind::Nps => of_scores((sums.promoters as f64 - sums.detractors as f64) * 100.0),
            FeedbackKind::Csat | FeedbackKind::Text => None,
        },
    }
}

/// The most frequent ones, equal ones by name.
fn transitions(
    counts: &JourneyCounts,
    touchpoints: &[Touchpoint],
    stages: &Stages<'_>,
    max: usize,
) -> Vec<pb::TouchpointTransition> {
    let mut all: Vec<_> = counts
        .transitions()
        .map(|((from, to), sums)| (&touchpoints[from as usize], &touchpoints[to as usize], sums))
        .collect();
    all.sort_by(|a, b| b.2.count.cmp(&a.2.count).then_with(|| (a.0, a.1).cmp(&(b.0, b.1))));
    all.truncate(max);
    let row = |(from, to, sums): (&Touchpoint, &Touchpoint, trackway_domain::journey::TransitionSums)| {
        pb::TouchpointTransition {
            from_stage: from.0.clone(),
            from: from.1.clone(),
            to_stage: to.0.clone(),
            to: to.1.clone(),
            progress: stages.progress(&from.0, &to.0).into(),
            count: sums.count,
            seconds_mean: mean_seconds(sums.wait_ms, sums.count),
        }
    };
    all.into_iter().map(row).collect()
}

fn mean_seconds(sum_ms: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum_ms as f64 / 1000.0 / count as f64 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Key, seconds, stage and touchpoint, feedback.
    type Row = (u128, i64, u32, Option<(FeedbackKind, Option<i64>)>);

    fn block(rows: &[Row]) -> ContactBlock {
        // Stage and touchpoint have one index here: 0 is none.
        ContactBlock {
            persons: rows.iter().map(|row| row.0).collect(),
            times_ms: rows.iter().map(|row| row.1 * 1_000).collect(),
            stages: ["", "purchase", "awareness"].map(String::from).into(),
            stage_indexes: rows.iter().map(|row| row.2).collect(),
            touchpoints: ["", "checkout", "ad"].map(String::from).into(),
            touchpoint_indexes: rows.iter().map(|row| row.2).collect(),
            feedback: rows.iter().map(|row| row.3).collect(),
        }
    }

    #[test]
    fn a_journey_goes_across_merged_keys_and_blocks() {
        let nps = |score: i64| Some((FeedbackKind::Nps, Some(score * 1_000_000)));
        let (send, receive) = tokio::sync::mpsc::channel(2);
        send.try_send(block(&[(1, 0, 2, None), (1, 90, 2, None), (2, 5, 2, None)])).expect("room");
        // Key 3 is the same person as key 1.
        send.try_send(block(&[(2, 7, 0, nps(3)), (3, 30, 1, None), (3, 50, 0, nps(10))])).expect("room");
        drop(send);
        let limits = Limits { held_events: 10, names: 2 };
        let counts = JourneyCounts::new(Duration::from_secs(1800));
        let (counts, names) = evaluate(receive, &[(3, 1)], counts, limits).expect("within limits");
        let order = [(ProjectId::parse("shop").expect("an id"), vec!["awareness".to_owned(), "purchase".to_owned()])];
        let stages = Stages::of(&order, &order[0].0);
        let rows = rows(&counts, &names, &stages);
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.touchpoint.as_str(), row.contacts, row.persons, row.repeats, row.ends))
            .collect();
        assert_eq!(seen, [("ad", 3, 2, 1, 2), ("checkout", 1, 1, 0, 0)]);
        assert_eq!(rows[0].feedback[0].nps, Some(-100.0));
        assert_eq!((rows[1].feedback[0].nps, rows[1].feedback[0].mean), (Some(100.0), Some(10.0)));
        let steps = transitions(&counts, &names, &stages, 9);
        let seen: Vec<_> =
            steps.iter().map(|s| (s.from.as_str(), s.to.as_str(), s.count, s.seconds_mean, s.progress())).collect();
        let (forward, back) = (pb::StageProgress::Forward, pb::StageProgress::Back);
        assert_eq!(seen, [("ad", "checkout", 1, 30.0, forward), ("checkout", "ad", 1, 60.0, back)]);
        assert_eq!(stages.progress("purchase", "elsewhere"), pb::StageProgress::Unspecified);
    }

    #[test]
    fn the_limit_of_names_is_named() {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        send.try_send(block(&[(1, 0, 2, None), (1, 1, 1, None)])).expect("room");
        drop(send);
        let limits = Limits { held_events: 10, names: 1 };
        let fault = evaluate(receive, &[], JourneyCounts::new(Duration::ZERO), limits).expect_err("two names");
        assert!(fault.to_string().contains("more than 1 different names"), "{fault}");
    }
}
