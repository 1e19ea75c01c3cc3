//! One person: which keys are theirs, and what they did.

use std::sync::Arc;

use super::run::{Question, unexpected};
use super::{QueryError, QueryLimits, Scope};
use crate::Store;
use crate::native::Column;
use crate::rows::IdentityRow;

/// One event of a journey.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JourneyRow {
    /// Key of the visitor.
    pub visitor: u128,
    /// The visitor's id as the tracker sent it.
    pub visitor_id: String,
    /// The user's id that this event named, or empty.
    pub user_id: String,
    /// Event time, ms.
    pub time_ms: i64,
    /// Key of the event id.
    pub event_key: u64,
    /// `track`, `page`, …
    pub kind: String,
    /// Name.
    pub event: String,
    /// Full address of the page.
    pub url: String,
    /// Path of the page.
    pub path: String,
    /// Title of the page.
    pub title: String,
    /// Full address of the page before.
    pub referrer: String,
    /// Channel of the landing, or empty.
    pub channel: String,
    /// Source of the landing.
    pub source: String,
    /// Medium of the landing.
    pub medium: String,
    /// Campaign of the landing.
    pub campaign: String,
    /// Name of the touchpoint, or empty.
    pub touchpoint: String,
    /// Stage of the touchpoint, or empty.
    pub stage: String,
    /// `desktop`, `mobile`, … or empty.
    pub device: String,
    /// JSON object.
    pub properties: String,
    /// Why the sender is taken for a machine, or empty.
    pub bot: String,
}

impl Store {
    /// All (key, person) pairs of a project, each once, in their order. They may form chains: see
    /// [`trackway_domain::identity::PersonMap`].
    ///
    /// # Errors
    /// [`QueryError::AnswerLimit`] if there are more than `pairs_max`.
    pub async fn identities(&self, project: &str, pairs_max: usize) -> Result<Vec<(u128, u128)>, QueryError> {
        const QUERY: &str = "identities";
        let question = Question::new(self, QUERY, after_parted!("identities"), self.lookup_limits);
        // One more than wanted tells "as many" from "more".
        let question = question.with("project", project).with("rows_max", (pairs_max as u64).saturating_add(1));
        let mut pairs = Vec::new();
        for block in question.fetch().await? {
            let [Column::U128(keys), Column::U128(persons)] = &block.columns[..] else {
                return Err(unexpected(QUERY));
            };
            pairs.extend(keys.iter().copied().zip(persons.iter().copied()));
        }
        if pairs.len() > pairs_max {
            return Err(QueryError::AnswerLimit { query: QUERY, limit: pairs_max as u64 });
        }
        Ok(pairs)
    }

    /// The identity rows that name one of these keys on either side: one step on the way from a user to its visitors.
    ///
    /// - `keys`: at most 3000, or ClickHouse refuses the parameter's length.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn identities_of(&self, project: &str, keys: &[u128]) -> Result<Vec<IdentityRow>, QueryError> {
        const QUERY: &str = "identities_of";
        let question = Question::new(self, QUERY, include_str!("../sql/identities_of.sql"), self.lookup_limits);
        let project: Arc<str> = project.into();
        let mut rows = Vec::new();
        for block in question.with("project", &*project).with("keys", keys).fetch().await? {
            let [
                Column::U128(keys),
                Column::U128(persons),
                Column::Text(visitor_ids),
                Column::Text(user_ids),
                Column::I64(times),
            ] = &block.columns[..]
            else {
                return Err(unexpected(QUERY));
            };
            rows.extend((0..keys.len()).map(|n| IdentityRow {
                project: project.clone(),
                key: keys[n],
                person: persons[n],
                visitor_id: visitor_ids[n].clone(),
                user_id: user_ids[n].clone(),
                at_ms: times[n],
                ..IdentityRow::default()
            }));
        }
        Ok(rows)
    }

    /// Events of these keys, the newest `rows_max`, oldest first.
    ///
    /// - `keys`: as in [`Store::identities_of`].
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn journey(
        &self,
        project: &str,
        keys: &[u128],
        scope: impl Into<Scope>,
        touchpoints_only: bool,
        rows_max: u32,
        limits: QueryLimits,
    ) -> Result<Vec<JourneyRow>, QueryError> {
        const QUERY: &str = "journey";
        let question = Question::new(self, QUERY, include_str!("../sql/journey.sql"), limits);
        let question = question.with("project", project).with("keys", keys).within(scope.into());
        let question = question.with("touchpoints_only", touchpoints_only).with("rows_max", rows_max);
        let mut rows = Vec::new();
        for block in question.fetch().await? {
            let mut columns = block.columns.into_iter();
            let (Some(Column::U128(visitors)), Some(visitor_ids), Some(user_ids), Some(Column::I64(times))) =
                (columns.next(), texts(&mut columns), texts(&mut columns), columns.next())
            else {
                return Err(unexpected(QUERY));
            };
            let Some(Column::U64(event_keys)) = columns.next() else { return Err(unexpected(QUERY)) };
            let Some(mut rest) = columns.map(into_texts).collect::<Option<Vec<_>>>().filter(|rest| rest.len() == 15)
            else {
                return Err(unexpected(QUERY));
            };
            let mut ids = visitor_ids.into_iter().zip(user_ids);
            for n in 0..visitors.len() {
                let (visitor_id, user_id) = ids.next().unwrap_or_default();
                let mut text = rest.iter_mut().map(|column| std::mem::take(&mut column[n]));
                let mut next = || text.next().expect("fifteen columns, counted above");
                rows.push(JourneyRow {
                    visitor: visitors[n],
                    visitor_id,
                    user_id,
                    time_ms: times[n],
                    event_key: event_keys[n],
                    // In the order of journey.sql.
                    kind: next(),
                    event: next(),
                    url: next(),
                    path: next(),
                    title: next(),
                    referrer: next(),
                    channel: next(),
                    source: next(),
                    medium: next(),
                    campaign: next(),
                    touchpoint: next(),
                    stage: next(),
                    device: next(),
                    properties: next(),
                    bot: next(),
                });
            }
        }
        rows.reverse();
        Ok(rows)
    }
}

fn into_texts(column: Column) -> Option<Vec<String>> {
    match column {
        Column::Text(values) => Some(values),
        _ => None,
    }
}

fn texts(columns: &mut impl Iterator<Item = Column>) -> Option<Vec<String>> {
    columns.next().and_then(into_texts)
}
