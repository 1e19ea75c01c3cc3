//! One visitor's past, for the worker that let go of it.

use trackway_domain::revenue::micros;

use super::journey::into_texts;
use super::run::{Question, unexpected};
use super::{QueryError, TimeRange};
use crate::Store;
use crate::native::{Block, Column};
use crate::rows::SessionRow;

/// One event of a visitor, as far as sessions are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisitorEventRow {
    /// Event time, ms.
    pub time_ms: i64,
    /// Tracker's order at equal times.
    pub sequence: u32,
    /// Key of the event id.
    pub event_key: u64,
    /// The visitor's id as the tracker sent it.
    pub visitor_id: String,
    /// The user's id that this event named, or empty.
    pub user_id: String,
    /// `track`, `page`, `screen`.
    pub kind: String,
    /// Name.
    pub event: String,
    /// Protocol that was understood.
    pub protocol: String,
    /// JSON object.
    pub properties: String,
    /// Host of the page.
    pub host: String,
    /// Path of the page.
    pub path: String,
    /// Name of a page or screen, where the tracker has one.
    pub page_name: String,
    /// Channel of the landing, or empty.
    pub channel: String,
    /// Source of the landing.
    pub source: String,
    /// Medium of the landing.
    pub medium: String,
    /// Campaign of the landing.
    pub campaign: String,
    /// `campaign`, `website`, `known`, or empty: no landing, or stored before this was known.
    pub landing: String,
    /// What it earned, in millionths of `currency`.
    pub revenue_micros: Option<i64>,
    /// Currency of the revenue, or empty.
    pub currency: String,
}

impl Store {
    /// Activity of a visitor, in order, the first `rows_max` events; bots' is left out.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn visitor_events(
        &self,
        project: &str,
        visitor: u128,
        range: TimeRange,
        rows_max: usize,
    ) -> Result<Vec<VisitorEventRow>, QueryError> {
        const QUERY: &str = "visitor_events";
        let question = Question::new(self, QUERY, include_str!("../sql/visitor_events.sql"), self.lookup_limits);
        let question = question.with("project", project).with("visitor", visitor.to_string()).over(range);
        let mut rows = Vec::new();
        for block in question.with("rows_max", rows_max as u64).fetch().await? {
            rows.extend(events(block).ok_or_else(|| unexpected(QUERY))?);
        }
        Ok(rows)
    }

    /// Sessions of a visitor that stand and begin in the range, each with how often it stands there (once, but for bugs).
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn visitor_sessions(
        &self,
        project: &str,
        visitor: u128,
        range: TimeRange,
    ) -> Result<Vec<(SessionRow, u64)>, QueryError> {
        const QUERY: &str = "visitor_sessions";
        let question = Question::new(self, QUERY, include_str!("../sql/visitor_sessions.sql"), self.lookup_limits);
        let question = question.with("project", project).with("visitor", visitor.to_string()).over(range);
        let mut rows = Vec::new();
        for block in question.fetch().await? {
            let of_block = sessions(project, visitor, block).ok_or_else(|| unexpected(QUERY))?;
            rows.extend(of_block);
        }
        Ok(rows)
    }
}

/// In the order of visitor_events.sql.
fn events(block: Block) -> Option<Vec<VisitorEventRow>> {
    let mut columns = block.columns.into_iter();
    let (Column::I64(times), Column::U32(sequences), Column::U64(keys)) =
        (columns.next()?, columns.next()?, columns.next()?)
    else {
        return None;
    };
    let mut texts: [Vec<String>; 16] = columns.map(into_texts).collect::<Option<Vec<_>>>()?.try_into().ok()?;
    let row = |n: usize| {
        let [
            visitor_id,
            user_id,
            kind,
            event,
            protocol,
            properties,
            host,
            path,
            page_name,
            channel,
            source,
            medium,
            campaign,
            landing,
            earned,
            currency,
        ] = texts.each_mut().map(|column| std::mem::take(&mut column[n]));
        VisitorEventRow {
            time_ms: times[n],
            sequence: sequences[n],
            event_key: keys[n],
            visitor_id,
            user_id,
            kind,
            event,
            protocol,
            properties,
            host,
            path,
            page_name,
            channel,
            source,
            medium,
            campaign,
            landing,
            revenue_micros: micros(&earned),
            currency,
        }
    };
    Some((0..times.len()).map(row).collect())
}

/// In the order of visitor_sessions.sql.
fn sessions(project: &str, visitor: u128, block: Block) -> Option<Vec<(SessionRow, u64)>> {
    let columns: [Column; 18] = block.columns.try_into().ok()?;
    let [
        Column::U64(keys),
        Column::I64(starts),
        Column::I64(ends),
        Column::U32(events),
        Column::U32(page_views),
        Column::Text(entry_pages),
        Column::Text(exit_pages),
        Column::Text(entry_hosts),
        Column::Text(exit_hosts),
        Column::Text(channels),
        Column::Text(sources),
        Column::Text(mediums),
        Column::Text(campaigns),
        Column::U64(engaged),
        Column::U8(bounces),
        Column::Text(earned),
        Column::Text(currencies),
        Column::U64(times),
    ] = &columns
    else {
        return None;
    };
    let row = |n: usize| SessionRow {
        project: project.into(),
        visitor,
        session_key: keys[n],
        start_ms: starts[n],
        end_ms: ends[n],
        events: events[n],
        page_views: page_views[n],
        entry_page: entry_pages[n].clone(),
        exit_page: exit_pages[n].clone(),
        entry_host: entry_hosts[n].clone(),
        exit_host: exit_hosts[n].clone(),
        channel: channels[n].clone(),
        source: sources[n].clone(),
        medium: mediums[n].clone(),
        campaign: campaigns[n].clone(),
        engaged_ms: engaged[n],
        is_bounce: bounces[n] != 0,
        revenue_micros: micros(&earned[n]),
        currency: currencies[n].clone(),
        sign: 1,
    };
    Some((0..keys.len()).map(|n| (row(n), times[n])).collect())
}
