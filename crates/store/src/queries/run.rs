//! Sends one question and reads its answer.

use std::time::{Duration, Instant};

use clickhouse::error::Error;
use clickhouse::query::{BytesCursor, Query};
use serde::Serialize;

use super::{Bots, QueryLimits, Scope, TimeRange, time_parameter};
use crate::Store;
use crate::native::{Block, Column, Decoder, NativeError, decode_all};
use crate::server_error::{Failure, failure};

/// What questions did cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Rows read.
    pub rows: u64,
    /// Bytes read, uncompressed.
    pub bytes: u64,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It would have read too many rows.
    #[error(
        "query `{query}` reads more rows than the limit of {limit}. Narrow its time range, or raise `rows_read_max`"
    )]
    RowsLimit {
        /// Which question.
        query: &'static str,
        /// The limit.
        limit: u64,
    },
    /// It would have read too many bytes.
    #[error(
        "query `{query}` reads more bytes than the limit of {limit}. Narrow its time range, or raise `bytes_read_max`"
    )]
    BytesLimit {
        /// Which question.
        query: &'static str,
        /// The limit.
        limit: u64,
    },
    /// It took too long.
    #[error("query `{query}` took longer than the limit of {limit:?}. Narrow its time range, or raise `time_max`")]
    TimeLimit {
        /// Which question.
        query: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// It needed more memory than the server allows.
    #[error(
        "query `{query}` needs more memory than ClickHouse allows. Narrow its time range, or raise the server's limit"
    )]
    MemoryLimit {
        /// Which question.
        query: &'static str,
        /// What the server says, with its numbers.
        #[source]
        source: Error,
    },
    /// The answer has more rows than its reader takes.
    #[error("the answer of query `{query}` has more rows than the limit of {limit}")]
    AnswerLimit {
        /// Which question.
        query: &'static str,
        /// The limit.
        limit: u64,
    },
    /// ClickHouse did not answer, stopped in the middle, or is too busy. The same question may be asked again.
    #[error("query `{query}` got no answer from ClickHouse")]
    Connection {
        /// Which question.
        query: &'static str,
        /// What happened.
        #[source]
        source: Error,
    },
    /// ClickHouse refuses it: a bug here, tables of another version, or missing rights.
    #[error("query `{query}` was refused by ClickHouse. Are the tables migrated by this version of the program?")]
    Refused {
        /// Which question.
        query: &'static str,
        /// What the server says.
        #[source]
        source: Error,
    },
    /// The answer cannot be read: a bug here, or tables of another version.
    #[error("the answer of query `{query}` cannot be read. Are the tables migrated by this version of the program?")]
    Answer {
        /// Which question.
        query: &'static str,
        /// What is wrong with it.
        #[source]
        source: NativeError,
    },
}

impl QueryError {
    /// Whether the same question may be answered later, without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::MemoryLimit { .. } => true,
            Self::RowsLimit { .. }
            | Self::BytesLimit { .. }
            | Self::TimeLimit { .. }
            | Self::AnswerLimit { .. }
            | Self::Refused { .. }
            | Self::Answer { .. } => false,
        }
    }

    /// Name for metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::RowsLimit { .. } => "rows_limit",
            Self::BytesLimit { .. } => "bytes_limit",
            Self::TimeLimit { .. } => "time_limit",
            Self::MemoryLimit { .. } => "memory_limit",
            Self::AnswerLimit { .. } => "answer_limit",
            Self::Connection { .. } => "connection",
            Self::Refused { .. } => "refused",
            Self::Answer { .. } => "answer",
        }
    }
}

/// Time that the server gets beyond `time_max` to say that it has stopped, before we stop waiting.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// One question with its parameters.
#[must_use]
pub(super) struct Question {
    name: &'static str,
    limits: QueryLimits,
    query: Query,
    store: Store,
    begin: Instant,
}

impl Question {
    /// - `name`: for errors and metrics; the name of its SQL file.
    pub(super) fn new(store: &Store, name: &'static str, sql: &str, limits: QueryLimits) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an edge: measures how long the server took")]
        let begin = Instant::now();
        let seconds = limits.time_max.as_secs().max(1);
        let query = store
            .client
            .query_raw(sql)
            // Only under 2 may a query set limits and be cancelled by the end of its connection; nothing is written.
            .with_setting("readonly", "2")
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("max_rows_to_read", limits.rows_read_max.to_string())
            .with_setting("max_bytes_to_read", limits.bytes_read_max.to_string())
            .with_setting("max_execution_time", seconds.to_string());
        Self { name, limits, query, store: store.clone(), begin }
    }

    pub(super) fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.query = self.query.param(name, value);
        self
    }

    /// Parameters `from` and `to`.
    pub(super) fn over(self, range: TimeRange) -> Self {
        self.with("from", time_parameter(range.from_ms)).with("to", time_parameter(range.to_ms))
    }

    /// Parameters `from`, `to` and `include_bots`.
    pub(super) fn within(self, scope: Scope) -> Self {
        self.over(scope.range).with("include_bots", scope.bots == Bots::Included)
    }

    pub(super) fn setting(mut self, name: &str, value: &str) -> Self {
        self.query = self.query.with_setting(name, value);
        self
    }

    /// The whole answer at once.
    pub(super) async fn fetch(self) -> Result<Vec<Block>, QueryError> {
        // Held back at the server until it is complete: an error is then a status and no tail of bytes, and the summary
        // counts all that was read. Answers that are taken whole are small.
        let Self { name, limits, query, store, begin } = self.setting("wait_end_of_query", "1");
        let read = async {
            let mut cursor = query.fetch_bytes("Native")?;
            let bytes = cursor.collect().await?;
            let summary = cursor.summary();
            let cost = ReadCost {
                rows: summary.and_then(|summary| summary.read_rows()).unwrap_or(0),
                bytes: summary.and_then(|summary| summary.read_bytes()).unwrap_or(0),
            };
            Ok((bytes, cost))
        };
        // The server stops by itself; this is for a server that does not answer at all.
        let answer = match tokio::time::timeout(limits.time_max.max(Duration::from_secs(1)) + ANSWER_GRACE, read).await
        {
            Ok(answer) => answer.map_err(|error| query_error(name, limits, error)),
            Err(_) => Err(QueryError::TimeLimit { query: name, limit: limits.time_max }),
        };
        let answer = answer.and_then(|(bytes, cost)| {
            store.meter.add(cost);
            let mut blocks = decode_all(bytes).map_err(|source| QueryError::Answer { query: name, source })?;
            // Dictionaries are worth their while in streams. Here it would only matter which functions keep them.
            blocks.iter_mut().flat_map(|block| &mut block.columns).for_each(Column::spell_out);
            Ok(blocks)
        });
        metrics::histogram!("store_query_seconds", "query" => name).record(begin.elapsed());
        count_error(name, answer.as_ref().err());
        answer
    }

    /// The answer block by block.
    pub(super) fn stream(self) -> Result<BlockStream, QueryError> {
        let Self { name, limits, query, store, begin } = self;
        let cursor = query.fetch_bytes("Native").map_err(|error| query_error(name, limits, error))?;
        Ok(BlockStream { name, limits, cursor, decoder: Decoder::default(), cost: ReadCost::default(), store, begin })
    }
}

/// Blocks of an answer. Dropping it closes the connection, by which the server ends the query.
pub(super) struct BlockStream {
    name: &'static str,
    limits: QueryLimits,
    cursor: BytesCursor,
    decoder: Decoder,
    cost: ReadCost,
    store: Store,
    begin: Instant,
}

impl BlockStream {
    pub(super) async fn next(&mut self) -> Result<Option<Block>, QueryError> {
        let next = self.read().await;
        count_error(self.name, next.as_ref().err());
        next
    }

    async fn read(&mut self) -> Result<Option<Block>, QueryError> {
        let (name, limits) = (self.name, self.limits);
        let answer = |source| QueryError::Answer { query: name, source };
        loop {
            if let Some(block) = self.decoder.next_block().map_err(answer)? {
                self.add(ReadCost { rows: block.columns.first().map_or(0, Column::rows), bytes: 0 });
                return Ok(Some(block));
            }
            match self.cursor.next().await.map_err(|error| query_error(name, limits, error))? {
                Some(bytes) => {
                    self.add(ReadCost { rows: 0, bytes: bytes.len() as u64 });
                    self.decoder.push(&bytes);
                }
                None => return self.decoder.finish().map(|()| None).map_err(answer),
            }
        }
    }

    fn add(&mut self, cost: ReadCost) {
        self.cost.rows += cost.rows;
        self.cost.bytes += cost.bytes;
        self.store.meter.add(cost);
    }

    pub(super) fn cost(&self) -> ReadCost {
        self.cost
    }

    /// The error for a block of other columns than the SQL selects.
    pub(super) fn unexpected(&self) -> QueryError {
        unexpected(self.name)
    }
}

impl Drop for BlockStream {
    fn drop(&mut self) {
        metrics::histogram!("store_query_seconds", "query" => self.name).record(self.begin.elapsed());
    }
}

/// The error for columns of other types than the SQL selects.
pub(super) fn unexpected(query: &'static str) -> QueryError {
    QueryError::Answer { query, source: NativeError::Malformed { what: "columns of other types than were asked for" } }
}

fn count_error(query: &'static str, error: Option<&QueryError>) {
    if let Some(error) = error {
        metrics::counter!("store_query_errors_total", "query" => query, "kind" => error.kind()).increment(1);
    }
}

fn query_error(query: &'static str, limits: QueryLimits, source: Error) -> QueryError {
    match failure(&source) {
        Failure::RowsLimit => QueryError::RowsLimit { query, limit: limits.rows_read_max },
        Failure::BytesLimit => QueryError::BytesLimit { query, limit: limits.bytes_read_max },
        Failure::TimeLimit | Failure::TimedOut => QueryError::TimeLimit { query, limit: limits.time_max },
        Failure::MemoryLimit => QueryError::MemoryLimit { query, source },
        Failure::Connection | Failure::Busy => QueryError::Connection { query, source },
        Failure::Refused => QueryError::Refused { query, source },
    }
}
