//! How far the tables are.

use super::QueryError;
use super::run::{Question, unexpected};
use crate::Store;
use crate::native::Column;
use crate::rows::ProgressRow;

impl Store {
    /// Time of a project's latest event, or `None` if it has none.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn latest_event_ms(&self, project: &str) -> Result<Option<i64>, QueryError> {
        const QUERY: &str = "latest_event";
        let question = Question::new(self, QUERY, include_str!("../sql/latest_event.sql"), self.lookup_limits);
        let blocks = question.with("project", project).fetch().await?;
        match blocks.first().map(|block| &block.columns[..]) {
            None => Ok(None),
            Some([Column::I64(latest)]) => Ok(latest.first().copied()),
            Some(_) => Err(unexpected(QUERY)),
        }
    }

    /// How far each partition of a topic is in the tables, by partition; those that never wrote are left out.
    ///
    /// # Errors
    /// [`QueryError`]
    pub async fn progress(&self, topic: &str) -> Result<Vec<ProgressRow>, QueryError> {
        const QUERY: &str = "progress";
        let question = Question::new(self, QUERY, include_str!("../sql/progress.sql"), self.lookup_limits);
        let mut rows = Vec::new();
        for block in question.with("topic", topic).fetch().await? {
            let [
                Column::Text(topics),
                Column::U32(partitions),
                Column::U64(offsets),
                Column::I64(watermarks),
                Column::I64(log_times),
            ] = &block.columns[..]
            else {
                return Err(unexpected(QUERY));
            };
            rows.extend((0..topics.len()).map(|n| ProgressRow {
                topic: topics[n].as_str().into(),
                partition: partitions[n],
                offset: offsets[n],
                watermark_ms: watermarks[n],
                log_time_ms: log_times[n],
            }));
        }
        Ok(rows)
    }
}
