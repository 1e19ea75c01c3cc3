//! How many sessions there were, and how long. ClickHouse sums over signed rows.

use tokio::time::Instant;

use crate::service::{Desk, cost};
use crate::status::Fault;
use crate::{check, pb};

pub(crate) async fn answer(
    desk: &Desk,
    request: pb::SessionSummaryRequest,
) -> Result<pb::SessionSummaryResponse, Fault> {
    let begin = Instant::now();
    let (project, range) = (check::project(&request.project)?, check::range(request.range)?);
    let freshness = desk.events_freshness().await?;
    let store = desk.store.metered();
    let rows = store.session_summary(project.as_str(), range, request.by_channel, desk.config.limits).await?;
    let rows = rows.into_iter().map(|row| pb::SessionSummary {
        channel: row.channel,
        sessions: row.sessions,
        sessions_single_event: row.single_event_sessions,
        persons: row.persons,
        events: row.events,
        page_views: row.page_views,
        seconds_mean: row.mean_seconds,
        seconds_median: row.median_seconds,
        seconds_p95: row.p95_seconds,
        seconds_max: row.max_seconds,
        sessions_bounced: row.bounces,
        engaged_seconds_mean: row.mean_engaged_seconds,
    });
    Ok(pb::SessionSummaryResponse { rows: rows.collect(), freshness: Some(freshness), cost: Some(cost(&store, begin)) })
}
