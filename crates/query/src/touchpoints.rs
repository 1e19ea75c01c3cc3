//! Touchpoints by stage. ClickHouse sums.

use tokio::time::Instant;

use crate::service::{Desk, cost};
use crate::status::Fault;
use crate::{check, pb};

pub(crate) async fn answer(desk: &Desk, request: pb::TouchpointsRequest) -> Result<pb::TouchpointsResponse, Fault> {
    let begin = Instant::now();
    let (project, scope) = (check::project(&request.project)?, check::scope(request.range, request.include_bots)?);
    let freshness = desk.events_freshness().await?;
    let store = desk.store.metered();
    let rows = store.touchpoints(project.as_str(), scope, desk.config.limits).await?;
    let rows = rows.into_iter().map(|row| pb::TouchpointCount {
        stage: row.stage,
        touchpoint: row.touchpoint,
        events: row.events,
        persons: row.persons,
    });
    Ok(pb::TouchpointsResponse { rows: rows.collect(), freshness: Some(freshness), cost: Some(cost(&store, begin)) })
}
