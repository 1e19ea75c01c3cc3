//! Exact inserts: a block with a token counts once, however often it is sent.
//!
//! - A block is one Native block in one request, which ends when ClickHouse has written the rows and those of the
//!   materialized views.
//! - After an error nobody knows what was written. The *same* block sent again with the same token completes it, in table
//!   and views, without counting any row twice. Other rows under a known token are dropped in silence: blocks must be cut
//!   at the same places on replay.
//! - Tokens are remembered for `non_replicated_deduplication_window` blocks of each table (`migrations/`).
//! - Not here: retries. The worker knows what can wait and what cannot.

mod columns;
mod encoded;

pub use encoded::{EncodedRows, EventColumns};

use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::error::Error;

use crate::Store;
use crate::server_error::{Failure, failure};

/// A row type of [`crate::rows`], with its table. Sealed: columns and migrations belong together.
pub trait Row: columns::Columns + Sync {}

impl<R: columns::Columns + Sync> Row for R {}

/// Table partitions (months) that one block may touch. ClickHouse refuses above 100 by default, which is to protect from
/// a bad PARTITION BY; a back-fill of many years is meant. 1200 months are a century.
const PARTITIONS_PER_BLOCK_MAX: &str = "1200";

/// Why a block may not be in its table.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The connection broke or was never made.
    #[error("lost ClickHouse while inserting {rows} rows into `{table}`")]
    Connection {
        /// The table.
        table: &'static str,
        /// Rows of the block.
        rows: usize,
        /// What happened.
        #[source]
        source: Error,
    },
    /// No answer in time.
    #[error("insert of {rows} rows into `{table}` took longer than {limit:?}")]
    Timeout {
        /// The table.
        table: &'static str,
        /// Rows of the block.
        rows: usize,
        /// The limit.
        limit: Duration,
    },
    /// The server cannot take it now: memory, disk, too many parts, too many queries, shutting down.
    #[error("ClickHouse is too busy to insert {rows} rows into `{table}`")]
    Busy {
        /// The table.
        table: &'static str,
        /// Rows of the block.
        rows: usize,
        /// What the server says.
        #[source]
        source: Error,
    },
    /// It will be refused again: other columns, missing rights, no such table.
    #[error("ClickHouse refuses {rows} rows for `{table}`. Are the tables migrated by this version of the program?")]
    Refused {
        /// The table.
        table: &'static str,
        /// Rows of the block.
        rows: usize,
        /// What the server says.
        #[source]
        source: Error,
    },
}

impl InsertError {
    /// Whether the same block may get in later, without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Timeout { .. } | Self::Busy { .. } => true,
            Self::Refused { .. } => false,
        }
    }

    /// Name for metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Connection { .. } => "connection",
            Self::Timeout { .. } => "timeout",
            Self::Busy { .. } => "busy",
            Self::Refused { .. } => "refused",
        }
    }
}

impl Store {
    /// Writes a block and waits until it is written. No rows: no request.
    ///
    /// - `token`: names these rows among all blocks of the table, for good.
    ///
    /// # Errors
    /// [`InsertError`]. The block may be in the table in part or in whole; if the error is retryable, send the same rows
    /// with the same token.
    pub async fn insert<R: Row>(&self, rows: &[R], token: &str) -> Result<(), InsertError> {
        self.insert_encoded(&EncodedRows::of(rows), token).await
    }

    /// [`Self::insert`] of rows that are encoded already.
    ///
    /// # Errors
    /// As there.
    pub async fn insert_encoded(&self, rows: &EncodedRows, token: &str) -> Result<(), InsertError> {
        if rows.is_empty() {
            return Ok(());
        }
        let table = rows.table();
        #[expect(clippy::disallowed_methods, reason = "an edge: measures how long the server took")]
        let begin = Instant::now();
        let sent = self.send_block(table, rows.bytes.clone(), token).await;
        metrics::histogram!("store_insert_seconds", "table" => table).record(begin.elapsed());
        match sent {
            Ok(()) => {
                metrics::counter!("store_insert_rows_total", "table" => table).increment(rows.len() as u64);
                Ok(())
            }
            Err(source) => {
                let error = self.insert_error(table, rows.len(), source);
                metrics::counter!("store_insert_errors_total", "table" => table, "kind" => error.kind()).increment(1);
                Err(error)
            }
        }
    }

    async fn send_block(&self, table: &'static str, block: Bytes, token: &str) -> Result<(), Error> {
        let mut insert = self
            .client
            .insert_formatted_with(format!("INSERT INTO {table} FORMAT Native"))
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", token)
            // The view's rows of this block carry the block's token too: a crash between table and view is made good.
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            // Answered only when written, and never merged with other writers' blocks.
            .with_setting("async_insert", "0")
            // By default a column that the table does not have is dropped in silence.
            .with_setting("input_format_skip_unknown_fields", "0")
            .with_setting("max_partitions_per_insert_block", PARTITIONS_PER_BLOCK_MAX)
            .with_timeouts(Some(self.insert_time_max), Some(self.insert_time_max));
        insert.send(block).await?;
        insert.end().await
    }

    fn insert_error(&self, table: &'static str, rows: usize, source: Error) -> InsertError {
        match failure(&source) {
            Failure::Connection => InsertError::Connection { table, rows, source },
            Failure::TimedOut => InsertError::Timeout { table, rows, limit: self.insert_time_max },
            // We send no limits with inserts: these are the server's own.
            Failure::Busy | Failure::MemoryLimit | Failure::RowsLimit | Failure::BytesLimit | Failure::TimeLimit => {
                InsertError::Busy { table, rows, source }
            }
            Failure::Refused => InsertError::Refused { table, rows, source },
        }
    }
}
