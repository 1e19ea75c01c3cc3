//! How often events happened, over time. ClickHouse sums.

use tokio::time::Instant;
use trackway_store::queries::Interval;

use crate::check::Trend;
use crate::pb;
use crate::service::{Desk, cost};
use crate::status::Fault;

pub(crate) async fn answer(desk: &Desk, asked: Trend) -> Result<pb::TrendResponse, Fault> {
    let begin = Instant::now();
    let freshness = desk.events_freshness().await?;
    let Trend { project, scope, interval, events, by_event } = asked;
    let store = desk.store.metered();
    let rows = store.trend(project.as_str(), scope, interval, &events, by_event, desk.config.limits).await?;
    let one_bucket = match interval {
        Interval::All => true,
        Interval::Hour | Interval::Day | Interval::Week | Interval::Month => false,
    };
    let buckets = rows.into_iter().map(|row| pb::TrendBucket {
        begin_ms: (!one_bucket).then_some(row.bucket_ms),
        event: row.event,
        events: row.events,
        persons: row.persons,
    });
    Ok(pb::TrendResponse { buckets: buckets.collect(), freshness: Some(freshness), cost: Some(cost(&store, begin)) })
}
