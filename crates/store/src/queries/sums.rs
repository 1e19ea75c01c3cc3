//! Sums over signed rows: trends, sessions, touchpoints.

use super::run::{Question, unexpected};
use super::{QueryError, QueryLimits, Scope, TimeRange};
use crate::Store;
use crate::native::Column;

/// Width of a trend's buckets, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// One bucket for all.
    All,
    /// Full hours.
    Hour,
    /// Days.
    Day,
    /// Weeks from Monday.
    Week,
    /// Calendar months.
    Month,
}

/// One bucket of a trend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrendRow {
    /// Begin of the bucket, ms; 0 for [`Interval::All`].
    pub bucket_ms: i64,
    /// Name of the event, or empty if events are not told apart.
    pub event: String,
    /// Events.
    pub events: u64,
    /// Persons among whose events they are, after merges.
    pub persons: u64,
}

/// Sessions of a range, or of one channel in it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSummaryRow {
    /// Channel, or empty if channels are not told apart.
    pub channel: String,
    /// Sessions.
    pub sessions: u64,
    /// Sessions of one event.
    pub single_event_sessions: u64,
    /// Events.
    pub events: u64,
    /// Pages and screens.
    pub page_views: u64,
    /// Persons, after merges.
    pub persons: u64,
    /// Mean length.
    pub mean_seconds: f64,
    /// Median length.
    pub median_seconds: f64,
    /// 95th percentile of length.
    pub p95_seconds: f64,
    /// Longest.
    pub max_seconds: f64,
    /// Sessions whose visitor turned round at the door.
    pub bounces: u64,
    /// Mean engagement that trackers measured.
    pub mean_engaged_seconds: f64,
}

/// One touchpoint's sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchpointRow {
    /// Stage.
    pub stage: String,
    /// Name.
    pub touchpoint: String,
    /// Events.
    pub events: u64,
    /// Persons, after merges.
    pub persons: u64,
}

impl Interval {
    fn as_parameter(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

impl Store {
    /// How often events happened, by time.
    ///
    /// - `events`: only these names; empty: all events, those of identify, group and alias calls included.
    /// - `by_event`: a row for each name, instead of one for all.
    ///
    /// Ordered by bucket and name. Buckets without events are left out.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn trend(
        &self,
        project: &str,
        scope: impl Into<Scope>,
        interval: Interval,
        events: &[String],
        by_event: bool,
        limits: QueryLimits,
    ) -> Result<Vec<TrendRow>, QueryError> {
        const QUERY: &str = "trend";
        const SQL: &str = after_parted!("persons", "trend");
        let merged = self.merged(project, limits).await?;
        let question = Question::new(self, QUERY, SQL, limits).with("project", project).within(scope.into());
        let question =
            question.with("interval", interval.as_parameter()).with("events", events).with("by_event", by_event);
        let mut rows = Vec::new();
        for block in merged.give(question).fetch().await? {
            let Ok([Column::I64(buckets), Column::Text(names), Column::U64(events), Column::U64(persons)]) =
                <[Column; 4]>::try_from(block.columns)
            else {
                return Err(unexpected(QUERY));
            };
            rows.extend(
                buckets
                    .into_iter()
                    .zip(names)
                    .zip(events)
                    .zip(persons)
                    .map(|(((bucket_ms, event), events), persons)| TrendRow { bucket_ms, event, events, persons }),
            );
        }
        Ok(rows)
    }

    /// How many sessions there were that began in a range, and how long. None: no rows.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn session_summary(
        &self,
        project: &str,
        range: TimeRange,
        by_channel: bool,
        limits: QueryLimits,
    ) -> Result<Vec<SessionSummaryRow>, QueryError> {
        const QUERY: &str = "session_summary";
        const SQL: &str = after_parted!("persons", "session_summary");
        let merged = self.merged(project, limits).await?;
        let question = Question::new(self, QUERY, SQL, limits).with("project", project).over(range);
        let mut rows = Vec::new();
        for block in merged.give(question.with("by_channel", by_channel)).fetch().await? {
            let [
                Column::Text(channels),
                Column::U64(sessions),
                Column::U64(single),
                Column::U64(events),
                Column::U64(page_views),
                Column::U64(persons),
                Column::F64(mean),
                Column::F64(median),
                Column::F64(p95),
                Column::F64(max),
                Column::U64(bounces),
                Column::F64(engaged),
            ] = &block.columns[..]
            else {
                return Err(unexpected(QUERY));
            };
            rows.extend(channels.iter().enumerate().map(|(n, channel)| SessionSummaryRow {
                channel: channel.clone(),
                sessions: sessions[n],
                single_event_sessions: single[n],
                events: events[n],
                page_views: page_views[n],
                persons: persons[n],
                mean_seconds: mean[n],
                median_seconds: median[n],
                p95_seconds: p95[n],
                max_seconds: max[n],
                bounces: bounces[n],
                mean_engaged_seconds: engaged[n],
            }));
        }
        Ok(rows)
    }

    /// Touchpoints of a range, ordered by stage and name.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn touchpoints(
        &self,
        project: &str,
        scope: impl Into<Scope>,
        limits: QueryLimits,
    ) -> Result<Vec<TouchpointRow>, QueryError> {
        const QUERY: &str = "touchpoints";
        const SQL: &str = after_parted!("persons", "touchpoints");
        let merged = self.merged(project, limits).await?;
        let question = Question::new(self, QUERY, SQL, limits).with("project", project).within(scope.into());
        let mut rows = Vec::new();
        for block in merged.give(question).fetch().await? {
            let Ok([Column::Text(stages), Column::Text(names), Column::U64(events), Column::U64(persons)]) =
                <[Column; 4]>::try_from(block.columns)
            else {
                return Err(unexpected(QUERY));
            };
            rows.extend(
                stages.into_iter().zip(names).zip(events).zip(persons).map(
                    |(((stage, touchpoint), events), persons)| TouchpointRow { stage, touchpoint, events, persons },
                ),
            );
        }
        Ok(rows)
    }
}
