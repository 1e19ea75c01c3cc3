//! Rows of one table on their way into a block.

use bytes::Bytes;

use super::Row;
use crate::native;
use crate::rows::EventRow;

/// Rows of one table, encoded. The same bytes are sent as often as it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows {
    table: &'static str,
    pub(super) bytes: Bytes,
    rows: usize,
}

impl EncodedRows {
    pub(super) fn of<R: Row>(rows: &[R]) -> Self {
        let mut columns = TableColumns::of::<R>();
        rows.iter().for_each(|row| columns.push(row));
        columns.take()
    }

    /// Their table; empty where there are no rows.
    #[must_use]
    pub fn table(&self) -> &'static str {
        self.table
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// One column's values as text, row by row: numbers in decimal, amounts in millionths, `NULL`. For tests, which look at
    /// what was made.
    ///
    /// # Panics
    /// If there are rows, and no such column.
    #[must_use]
    pub fn texts(&self, column: &str) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        native::texts(&self.bytes, column).unwrap_or_else(|error| panic!("{error}, in our own block"))
    }
}

/// Columns of one table in the making.
#[derive(Debug)]
struct TableColumns {
    table: &'static str,
    heads: Vec<(&'static str, &'static str)>,
    columns: Vec<native::ColumnBuffer>,
    rows: usize,
}

impl TableColumns {
    fn of<R: Row>() -> Self {
        let (heads, columns) = R::columns().into_iter().unzip();
        Self { table: R::TABLE, heads, columns, rows: 0 }
    }

    fn push<R: Row>(&mut self, row: &R) {
        row.put(&mut self.columns);
        self.rows += 1;
    }

    fn take(&mut self) -> EncodedRows {
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return EncodedRows::default();
        }
        let bytes = native::block(&self.heads, &self.columns, rows).into();
        self.columns.iter_mut().for_each(native::ColumnBuffer::clear);
        EncodedRows { table: self.table, bytes, rows }
    }
}

/// Events on their way into a block: each is encoded as it comes, and held nowhere as a row.
#[derive(Debug)]
pub struct EventColumns(TableColumns);

impl EventColumns {
    /// Without rows.
    #[must_use]
    pub fn new() -> Self {
        Self(TableColumns::of::<EventRow>())
    }

    /// Adds one.
    pub fn push<T: AsRef<str> + Sync>(&mut self, row: &EventRow<T>) {
        self.0.push(row);
    }

    /// Number of rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.rows == 0
    }

    /// The rows, encoded. There are none afterwards.
    pub fn take(&mut self) -> EncodedRows {
        self.0.take()
    }
}

impl Default for EventColumns {
    fn default() -> Self {
        Self::new()
    }
}
