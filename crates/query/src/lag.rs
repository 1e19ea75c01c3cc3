//! How far the tables are behind the log.

use crate::freshness::{PartitionState, freshness};
use crate::pb;
use crate::service::Desk;
use crate::status::Fault;

pub(crate) async fn answer(desk: &Desk) -> Result<pb::LagResponse, Fault> {
    let events = desk.events_state().await?;
    let journeys = desk.journeys_state().await?;
    let lag = |topic: &str, states: &[PartitionState]| -> Vec<pb::PartitionLag> {
        states
            .iter()
            .map(|state| pb::PartitionLag {
                topic: topic.to_owned(),
                partition: state.partition,
                log_end: state.end,
                done: state.done.map_or(0, |done| done.offset),
                watermark_ms: state.watermark_ms(),
            })
            .collect()
    };
    let mut partitions = lag(&desk.config.topics.events, &events);
    partitions.extend(lag(&desk.config.topics.journeys, &journeys));
    // Of both stages: who waits for it wants every answer, audiences too. `events` was read first, so that what follows from
    // it is not overlooked.
    Ok(pb::LagResponse { partitions, freshness: Some(freshness(&[events, journeys].concat())) })
}
