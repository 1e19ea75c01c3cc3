//! How many persons went through steps. ClickHouse streams the events that meet a step; `domain` evaluates them.

use tokio::time::Instant;
use trackway_domain::funnel::{FunnelEvaluator, FunnelQuery, FunnelReport, StepEvent};
use trackway_domain::time::EventTime;
use trackway_store::queries::StepBlock;

use crate::check::Funnel;
use crate::persons::{MergedKeys, Persons};
use crate::service::{Desk, cost};
use crate::status::Fault;
use crate::{evaluate, pb};

pub(crate) async fn answer(desk: &Desk, asked: Funnel) -> Result<pb::FunnelResponse, Fault> {
    let begin = Instant::now();
    let freshness = desk.events_freshness().await?;
    let project = asked.project.as_str();
    let store = desk.store.metered();
    let identities = store.identities(project, desk.config.identity_pairs_max).await?;
    let stream = store.steps(project, asked.scope, &asked.steps, desk.config.limits).await?;

    let (query, held_max) = (asked.query, desk.config.merged_events_max);
    let evaluate = move |blocks| evaluate(blocks, &identities, &query, held_max);
    let mut report = evaluate::in_thread(stream, evaluate).await?;

    let median_seconds = report.median_seconds();
    Ok(pb::FunnelResponse {
        steps: asked
            .steps
            .into_iter()
            .zip(&report.persons)
            .map(|(step, &persons)| pb::FunnelStepResult { events: step.events, persons })
            .collect(),
        median_seconds,
        freshness: Some(freshness),
        cost: Some(cost(&store, begin)),
    })
}

/// Over all blocks until there are no more. If the asker went away there are no more either, and nobody reads the report.
fn evaluate(
    mut blocks: tokio::sync::mpsc::Receiver<StepBlock>,
    identities: &[(u128, u128)],
    query: &FunnelQuery,
    held_max: usize,
) -> Result<FunnelReport, Fault> {
    let mut persons = Persons::new(MergedKeys::new(identities), held_max);
    let mut evaluator = FunnelEvaluator::new(query);
    let mut report = FunnelReport::new(query);
    let mut add = |events: &[StepEvent]| report.add(evaluator.person(events.iter().copied()));
    while let Some(block) = blocks.blocking_recv() {
        let rows = block.persons.iter().zip(&block.times_ms).zip(&block.masks);
        for ((&key, &time_ms), &mask) in rows {
            persons.event(key, StepEvent { time: EventTime(time_ms), mask }, &mut add)?;
        }
    }
    persons.finish(&mut add)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_may_span_blocks_and_keys() {
        let block = |rows: &[(u128, i64, u64)]| StepBlock {
            persons: rows.iter().map(|row| row.0).collect(),
            times_ms: rows.iter().map(|row| row.1).collect(),
            masks: rows.iter().map(|row| row.2).collect(),
        };
        let (send, receive) = tokio::sync::mpsc::channel(3);
        for rows in [&[(1, 0, 0b01), (2, 5, 0b01)][..], &[(2, 9, 0b10)], &[(3, 4, 0b10), (4, 1, 0b10)]] {
            send.try_send(block(rows)).expect("room for three");
        }
        drop(send);
        let query = FunnelQuery { steps: 2, window: None };
        // Keys 1 and 3 are one person: enters at 0, buys at 4. Key 2 takes 4 ms too. Key 4 never enters.
        let mut report = evaluate(receive, &[(3, 1)], &query, 10).expect("within limits");
        assert_eq!((report.persons.clone(), report.median_seconds()), (vec![2, 2], Some(0.004)));
    }
}
