//! How far the tables are behind the log, partition by partition. Asked of the log and the tables alone, so that it is known
//! while no worker runs.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use trackway_eventlog::TopicPartition;

use crate::freshness::{PartitionState, freshness};
use crate::pb;
use crate::service::Desk;
use crate::status::Fault;

/// How long the log may take to give the record that waits longest. It is there already; a broker needs some time
/// nonetheless, and all partitions are asked at one time.
const RECORD_WAIT: Duration = Duration::from_secs(2);

/// How long the log, and then the tables, may take to say how far they are. Whoever asks for lag often has trouble already,
/// and wants to know which.
const STATES_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn answer(desk: &Desk) -> Result<pb::LagResponse, Fault> {
    // Asked alone first, so that it is known which of the two is silent.
    let ends = desk.log.bounds(&desk.config.topics.journeys);
    tokio::time::timeout(STATES_MAX, ends).await.map_err(|_| Fault::TailBegin { limit: STATES_MAX })??;
    let states = async { Ok::<_, Fault>((desk.events_state().await?, desk.journeys_state().await?)) };
    let (events, journeys) =
        tokio::time::timeout(STATES_MAX, states).await.unwrap_or(Err(Fault::TablesSilent { limit: STATES_MAX }))?;
    let topics = &desk.config.topics;
    let of_events = events.iter().map(|state| partition_lag(desk, &topics.events, state));
    let of_journeys = journeys.iter().map(|state| partition_lag(desk, &topics.journeys, state));
    let (mut partitions, of_journeys) = futures_util::future::join(
        futures_util::future::join_all(of_events),
        futures_util::future::join_all(of_journeys),
    )
    .await;
    partitions.extend(of_journeys);
    // Of both stages: who waits for it wants every answer, audiences too. `events` was read first, so that what follows from
    // it is not overlooked.
    Ok(pb::LagResponse { partitions, freshness: Some(freshness(&[events, journeys].concat())) })
}

async fn partition_lag(desk: &Desk, topic: &str, state: &PartitionState) -> pb::PartitionLag {
    let behind = state.pending();
    pb::PartitionLag {
        topic: topic.to_owned(),
        partition: state.partition,
        log_end: state.end,
        done: state.done.map_or(0, |done| done.offset),
        watermark_ms: state.watermark_ms(),
        log_start: state.start,
        behind,
        behind_ms: if behind > 0 { waiting_ms(desk, topic, state).await } else { None },
        done_received_ms: state.done.map(|done| done.log_time_ms),
    }
}

/// Age of the first record that is not in the tables. Not the time since the last block: a partition may have been idle for
/// long before a record came.
async fn waiting_ms(desk: &Desk, topic: &str, state: &PartitionState) -> Option<i64> {
    let at = TopicPartition { topic: topic.into(), partition: state.partition };
    let read = desk.log.read(&at, state.next(), 1, RECORD_WAIT);
    match tokio::time::timeout(RECORD_WAIT, read).await {
        Ok(Ok(records)) => {
            let first = records.first()?;
            Some((desk.clock)().0.saturating_sub(first.timestamp_ms).max(0))
        }
        Ok(Err(error)) => {
            tracing::warn!(partition = %at, error = &error as &dyn std::error::Error, "the record that waits longest cannot be read");
            None
        }
        Err(_) => None,
    }
}

/// Keeps the gauges `query_lag_records`, `query_lag_seconds` and `query_watermark_seconds` of each partition, until the stop.
/// Workers have metrics of their own, but those end with the worker.
pub(crate) async fn gauge(desk: &Desk) {
    let mut period = tokio::time::interval(desk.config.health_period);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let follow = async {
        loop {
            period.tick().await;
            // ClickHouse or the log is away: their own metrics and the health service say so, and what was last known stays.
            let Ok(lag) = answer(desk).await else { continue };
            for lag in lag.partitions {
                let labels = [("topic", lag.topic), ("partition", lag.partition.to_string())];
                metrics::gauge!("query_lag_records", &labels).set(lag.behind as f64);
                metrics::gauge!("query_lag_seconds", &labels).set(lag.behind_ms.unwrap_or(0) as f64 / 1000.0);
                metrics::gauge!("query_watermark_seconds", &labels)
                    .set(lag.watermark_ms.unwrap_or(0).max(0) as f64 / 1000.0);
            }
        }
    };
    tokio::select! {
        () = desk.stopping.cancelled() => {}
        () = follow => {}
    }
}
