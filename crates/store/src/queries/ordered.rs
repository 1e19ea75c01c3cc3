//! Streams for questions about order: what they need of each event, person by person, for `domain` to evaluate.

use std::collections::BTreeMap;

use super::run::{BlockStream, Question};
use super::{QueryError, QueryLimits, ReadCost, Scope};
use crate::Store;
use crate::native::Column;

/// Events of ordered questions, in the order (person, time, sequence, event key); columns of one Native block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepBlock {
    /// Keys that the events are stored under.
    pub persons: Vec<u128>,
    /// Event times.
    pub times_ms: Vec<i64>,
    /// Bit `n` is set where the event meets step `n`.
    pub masks: Vec<u64>,
}

/// One step's condition: any of these event names (a mask bit each step).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFilter {
    /// Names.
    pub events: Vec<String>,
}

/// Names in the order (person, time, sequence, event key); columns of one Native block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameBlock {
    /// Keys that the events are stored under.
    pub persons: Vec<u128>,
    /// Event times.
    pub times_ms: Vec<i64>,
    /// This block's dictionary of names. The next block has its own; it may hold names that no row here uses.
    pub names: Vec<String>,
    /// Index into `names`, for each event.
    pub name_indexes: Vec<u32>,
}

/// Occurrences of one event, in the order of [`Store::steps`]; columns of one Native block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastBlock {
    /// Keys that the events are stored under.
    pub persons: Vec<u128>,
    /// Event times.
    pub times_ms: Vec<i64>,
    /// Keys of the event ids.
    pub event_keys: Vec<u64>,
    /// When we received them.
    pub received_ms: Vec<i64>,
    /// The users that the events named, or empty.
    pub user_ids: Vec<String>,
    /// The visitors as the tracker sent them.
    pub visitor_ids: Vec<String>,
}

/// Blocks of [`Store::steps`]. Dropping it ends the query at the server.
pub struct StepStream(BlockStream);

impl StepStream {
    /// The next block, never an empty one; `None` after the last.
    ///
    /// # Errors
    /// [`QueryError`]. The blocks so far are then a beginning, not an answer.
    pub async fn next(&mut self) -> Result<Option<StepBlock>, QueryError> {
        let Some(block) = self.0.next().await? else { return Ok(None) };
        match <[Column; 3]>::try_from(block.columns) {
            Ok([Column::U128(persons), Column::I64(times_ms), Column::U64(masks)]) => {
                Ok(Some(StepBlock { persons, times_ms, masks }))
            }
            _ => Err(self.0.unexpected()),
        }
    }

    /// What was delivered so far: less than what the server read.
    #[must_use]
    pub fn cost(&self) -> ReadCost {
        self.0.cost()
    }
}

/// Blocks of [`Store::names`]. Dropping it ends the query at the server.
pub struct NameStream(BlockStream);

impl NameStream {
    /// The next block, never an empty one; `None` after the last.
    ///
    /// # Errors
    /// [`QueryError`]. The blocks so far are then a beginning, not an answer.
    pub async fn next(&mut self) -> Result<Option<NameBlock>, QueryError> {
        let Some(block) = self.0.next().await? else { return Ok(None) };
        match <[Column; 3]>::try_from(block.columns) {
            Ok([Column::U128(persons), Column::I64(times_ms), Column::Names { names, indexes }]) => {
                Ok(Some(NameBlock { persons, times_ms, names, name_indexes: indexes }))
            }
            _ => Err(self.0.unexpected()),
        }
    }

    /// What was delivered so far: less than what the server read.
    #[must_use]
    pub fn cost(&self) -> ReadCost {
        self.0.cost()
    }
}

/// Blocks of [`Store::past`]. Dropping it ends the query at the server.
pub struct PastStream(BlockStream);

impl PastStream {
    /// The next block, never an empty one; `None` after the last.
    ///
    /// # Errors
    /// [`QueryError`]. The blocks so far are then a beginning, not an answer.
    pub async fn next(&mut self) -> Result<Option<PastBlock>, QueryError> {
        let Some(block) = self.0.next().await? else { return Ok(None) };
        match <[Column; 6]>::try_from(block.columns) {
            Ok(
                [
                    Column::U128(persons),
                    Column::I64(times_ms),
                    Column::U64(event_keys),
                    Column::I64(received_ms),
                    Column::Text(user_ids),
                    Column::Text(visitor_ids),
                ],
            ) => Ok(Some(PastBlock { persons, times_ms, event_keys, received_ms, user_ids, visitor_ids })),
            _ => Err(self.0.unexpected()),
        }
    }
}

impl Store {
    /// Every occurrence of one activity's name but those of bots, in the order of [`Store::steps`].
    ///
    /// # Errors
    /// [`QueryError`], also from each block.
    pub async fn past(&self, project: &str, event: &str, limits: QueryLimits) -> Result<PastStream, QueryError> {
        let question = Question::new(self, "past", include_str!("../sql/past.sql"), limits);
        Ok(PastStream(in_order(question.with("project", project).with("event", event)).stream()?))
    }

    /// Events that meet at least one step, in the order (person, time, sequence, event key). `person` is the key that an
    /// event is stored under: [`Store::identities`] says who is one person.
    ///
    /// - `steps`: at most 64, the bits of a mask. An empty list of names is met by nothing.
    ///
    /// # Errors
    /// [`QueryError`], also from each block.
    /// # Panics
    /// If there are more than 64 steps.
    pub async fn steps(
        &self,
        project: &str,
        scope: impl Into<Scope>,
        steps: &[StepFilter],
        limits: QueryLimits,
    ) -> Result<StepStream, QueryError> {
        assert!(steps.len() <= 64, "{} steps have no room in a mask of 64 bits", steps.len());
        // One mask for each name: an event may meet several steps.
        let mut masks = BTreeMap::<&str, u64>::new();
        for (bit, step) in steps.iter().enumerate() {
            for event in &step.events {
                *masks.entry(event).or_default() |= 1 << bit;
            }
        }
        let (names, masks): (Vec<&str>, Vec<u64>) = masks.into_iter().unzip();
        let question = Question::new(self, "steps", include_str!("../sql/steps.sql"), limits);
        let question = question.with("project", project).within(scope.into()).with("names", names).with("masks", masks);
        Ok(StepStream(in_order(question).stream()?))
    }

    /// Name of every activity (track, page, screen), in the order of [`Store::steps`].
    ///
    /// # Errors
    /// [`QueryError`], also from each block.
    pub async fn names(
        &self,
        project: &str,
        scope: impl Into<Scope>,
        limits: QueryLimits,
    ) -> Result<NameStream, QueryError> {
        let question = Question::new(self, "names", include_str!("../sql/names.sql"), limits);
        Ok(NameStream(in_order(question.with("project", project).within(scope.into())).stream()?))
    }
}

/// One thread, reading in the table's order: rows leave as they are read, nothing is sorted or held. More threads would
/// each read another range, and the server would sort.
pub(super) fn in_order(question: Question) -> Question {
    question.setting("optimize_read_in_order", "1").setting("max_threads", "1")
}
