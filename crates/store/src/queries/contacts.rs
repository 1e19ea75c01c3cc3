//! Touchpoints and feedback, person by person, for `domain::journey` to evaluate.

use trackway_domain::feedback::FeedbackKind;

use super::ordered::in_order;
use super::run::{BlockStream, Question};
use super::{QueryError, QueryLimits, Scope};
use crate::Store;
use crate::native::Column;

/// Events that are a touchpoint or feedback, in the order (person, time, sequence, event key); columns of one Native block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContactBlock {
    /// Keys that the events are stored under.
    pub persons: Vec<u128>,
    /// Event times.
    pub times_ms: Vec<i64>,
    /// This block's dictionary of stages; it may hold some that no row here uses.
    pub stages: Vec<String>,
    /// Index into `stages`, for each event.
    pub stage_indexes: Vec<u32>,
    /// The same of touchpoints. An event that is none has the empty name.
    pub touchpoints: Vec<String>,
    /// Index into `touchpoints`, for each event.
    pub touchpoint_indexes: Vec<u32>,
    /// What was said: kind, and score in millionths.
    pub feedback: Vec<Option<(FeedbackKind, Option<i64>)>>,
}

/// Blocks of [`Store::contacts`]. Dropping it ends the query at the server.
pub struct ContactStream(BlockStream);

impl ContactStream {
    /// The next block, never an empty one; `None` after the last.
    ///
    /// # Errors
    /// [`QueryError`]. The blocks so far are then a beginning, not an answer.
    pub async fn next(&mut self) -> Result<Option<ContactBlock>, QueryError> {
        let Some(block) = self.0.next().await? else { return Ok(None) };
        match <[Column; 6]>::try_from(block.columns) {
            Ok(
                [
                    Column::U128(persons),
                    Column::I64(times_ms),
                    Column::Names { names: stages, indexes: stage_indexes },
                    Column::Names { names: touchpoints, indexes: touchpoint_indexes },
                    Column::U64(kinds),
                    Column::I64(scores),
                ],
            ) => {
                let said = |(kind, score): (u64, i64)| {
                    let kind = *FeedbackKind::ALL.get(usize::try_from(kind).ok()?.checked_sub(1)?)?;
                    Some((kind, (score != i64::MIN).then_some(score)))
                };
                let feedback = kinds.into_iter().zip(scores).map(said).collect();
                Ok(Some(ContactBlock {
                    persons,
                    times_ms,
                    stages,
                    stage_indexes,
                    touchpoints,
                    touchpoint_indexes,
                    feedback,
                }))
            }
            _ => Err(self.0.unexpected()),
        }
    }
}

impl Store {
    /// Touchpoints and feedback, in the order of [`Store::steps`].
    ///
    /// # Errors
    /// [`QueryError`], also from each block.
    pub async fn contacts(
        &self,
        project: &str,
        scope: impl Into<Scope>,
        limits: QueryLimits,
    ) -> Result<ContactStream, QueryError> {
        let question = Question::new(self, "contacts", include_str!("../sql/contacts.sql"), limits);
        Ok(ContactStream(in_order(question.with("project", project).within(scope.into())).stream()?))
    }
}
