//! Audiences: their definitions, and who is in them.

use clickhouse::error::Error;

use super::run::{Question, unexpected};
use super::{QueryError, time_parameter};
use crate::Store;
use crate::insert::InsertError;
use crate::native::Column;
use crate::rows::{AudienceDefinition, MemberRow};

/// How an audience stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AudienceTotals {
    /// Stays that began.
    pub entered: u64,
    /// Stays that ended.
    pub left: u64,
    /// Persons in it.
    pub members: u64,
}

impl Store {
    /// All audiences of a project, the ended ones too, by name.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn audiences(&self, project: &str) -> Result<Vec<AudienceDefinition>, QueryError> {
        self.definitions(project, &[]).await
    }

    /// One audience, ended or not.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn audience(&self, project: &str, name: &str) -> Result<Option<AudienceDefinition>, QueryError> {
        Ok(self.definitions(project, &[name]).await?.pop())
    }

    /// Writes a definition. Of one name, the row with the highest `changed_ms` counts. Readable when this returns.
    ///
    /// # Errors
    /// [`QueryError::Connection`], after which the same call may be made again, or [`QueryError::Refused`].
    pub async fn put_audience(&self, definition: &AudienceDefinition) -> Result<(), QueryError> {
        const QUERY: &str = "put_audience";
        // The table keeps no tokens: a definition written twice is one after merges.
        match self.insert(std::slice::from_ref(definition), "").await {
            Ok(()) => Ok(()),
            Err(InsertError::Connection { source, .. } | InsertError::Busy { source, .. }) => {
                Err(QueryError::Connection { query: QUERY, source })
            }
            Err(InsertError::Timeout { .. }) => Err(QueryError::Connection { query: QUERY, source: Error::TimedOut }),
            Err(InsertError::Refused { source, .. }) => Err(QueryError::Refused { query: QUERY, source }),
        }
    }

    /// How an audience stood at `as_of_ms`: a stay counts from its first millisecond, and no longer at its end.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn audience_totals(
        &self,
        project: &str,
        audience: &str,
        as_of_ms: i64,
    ) -> Result<AudienceTotals, QueryError> {
        const QUERY: &str = "audience_totals";
        let question = Question::new(self, QUERY, include_str!("../sql/audience_totals.sql"), self.lookup_limits);
        let question =
            question.with("project", project).with("audience", audience).with("as_of", time_parameter(as_of_ms));
        let blocks = question.fetch().await?;
        match blocks.first().map(|block| &block.columns[..]) {
            Some([Column::U64(entered), Column::U64(left), Column::U64(members)]) => {
                Ok(AudienceTotals { entered: entered[0], left: left[0], members: members[0] })
            }
            _ => Err(unexpected(QUERY)),
        }
    }

    /// Members at `as_of_ms`, by person.
    ///
    /// - `after`: only persons above this key; 0 from the beginning, then the last person of the page before.
    /// - `rows_max`: length of the page.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn audience_members(
        &self,
        project: &str,
        audience: &str,
        as_of_ms: i64,
        after: u128,
        rows_max: u32,
    ) -> Result<Vec<MemberRow>, QueryError> {
        const QUERY: &str = "audience_members";
        let question = Question::new(self, QUERY, include_str!("../sql/audience_members.sql"), self.lookup_limits);
        let question =
            question.with("project", project).with("audience", audience).with("as_of", time_parameter(as_of_ms));
        members(QUERY, question.with("after", after).with("rows_max", rows_max)).await
    }

    /// All members whose stay ends after their partition's watermark. Partitions that are not given have none.
    ///
    /// - `watermarks_ms`: partition and watermark; `i64::MIN` for a partition before any event.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn audience_members_by_partition(
        &self,
        project: &str,
        audience: &str,
        watermarks_ms: &[(u32, i64)],
    ) -> Result<Vec<MemberRow>, QueryError> {
        const QUERY: &str = "audience_members_by_partition";
        const SQL: &str = include_str!("../sql/audience_members_by_partition.sql");
        let (partitions, watermarks): (Vec<u32>, Vec<i64>) = watermarks_ms.iter().copied().unzip();
        let question = Question::new(self, QUERY, SQL, self.lookup_limits);
        let question = question.with("project", project).with("audience", audience);
        members(QUERY, question.with("partitions", partitions).with("watermarks", watermarks)).await
    }

    async fn definitions(&self, project: &str, names: &[&str]) -> Result<Vec<AudienceDefinition>, QueryError> {
        const QUERY: &str = "audiences";
        let question = Question::new(self, QUERY, include_str!("../sql/audiences.sql"), self.lookup_limits);
        let mut rows = Vec::new();
        for block in question.with("project", project).with("names", names).fetch().await? {
            let [
                Column::Text(projects),
                Column::Text(audiences),
                Column::Text(events),
                Column::U32(counts_min),
                Column::I64(windows),
                Column::I64(created),
                Column::I64(changed),
                Column::U8(ended),
            ] = &block.columns[..]
            else {
                return Err(unexpected(QUERY));
            };
            rows.extend((0..projects.len()).map(|n| AudienceDefinition {
                project: projects[n].clone(),
                audience: audiences[n].clone(),
                event: events[n].clone(),
                count_min: counts_min[n],
                window_ms: windows[n],
                created_ms: created[n],
                changed_ms: changed[n],
                ended: ended[n] != 0,
            }));
        }
        Ok(rows)
    }
}

async fn members(query: &'static str, question: Question) -> Result<Vec<MemberRow>, QueryError> {
    let mut rows = Vec::new();
    for block in question.fetch().await? {
        let [
            Column::Text(projects),
            Column::Text(audiences),
            Column::U128(persons),
            Column::Text(user_ids),
            Column::Text(visitor_ids),
            Column::I64(entered),
            Column::I64(left),
            Column::U32(partitions),
        ] = &block.columns[..]
        else {
            return Err(unexpected(query));
        };
        rows.extend((0..projects.len()).map(|n| MemberRow {
            project: projects[n].as_str().into(),
            audience: audiences[n].as_str().into(),
            person: persons[n],
            user_id: user_ids[n].clone(),
            visitor_id: visitor_ids[n].clone(),
            entered_ms: entered[n],
            left_ms: left[n],
            partition: partitions[n],
            // Rows that were taken back are not here.
            sign: 1,
        }));
    }
    Ok(rows)
}
