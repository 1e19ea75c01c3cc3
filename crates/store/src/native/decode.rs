//! Native blocks as they arrive, in pieces of any size.

use bytes::Bytes;

use super::LOW_CARDINALITY_VERSION;

/// One block. Every column has the same number of rows, one or more.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Block {
    pub(crate) columns: Vec<Column>,
}

/// One column's values.
#[derive(Debug, PartialEq)]
pub(crate) enum Column {
    /// `UInt8`, `Bool`.
    U8(Vec<u8>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    U128(Vec<u128>),
    /// `Int64`, and `DateTime64(3)` in its unit, ms.
    I64(Vec<i64>),
    F64(Vec<f64>),
    Text(Vec<String>),
    /// `LowCardinality(String)`: this block's dictionary, and an index into it for each row.
    Names {
        names: Vec<String>,
        indexes: Vec<u32>,
    },
}

impl Column {
    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        let rows = match self {
            Self::U8(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::U128(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Names { indexes, .. } => indexes.len(),
        };
        rows as u64
    }

    /// Turns `LowCardinality(String)` into `String`.
    pub(crate) fn spell_out(&mut self) {
        if let Self::Names { names, indexes } = self {
            *self = Self::Text(indexes.iter().map(|&index| names[index as usize].clone()).collect());
        }
    }
}

/// Why bytes are no Native block that we can read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NativeError {
    /// A type that no question of ours selects.
    #[error("column `{column}` has type `{found}`, which is not decoded here")]
    Type {
        /// Name of the column.
        column: String,
        /// Its type.
        found: String,
    },
    /// The bytes contradict themselves.
    #[error("malformed Native block: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The answer ended within a block.
    #[error("the answer ends within a Native block")]
    Truncated,
}

/// Longer names and values are taken for a sign that the bytes are something else. Our longest strings are URLs and JSON of
/// 64 KiB.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// More rows or columns in one block are taken for the same; the server sends 65 536 rows at most.
const ROWS_MAX: usize = 1 << 24;
const COLUMNS_MAX: usize = 1 << 10;

/// Takes bytes, gives blocks. Columns of a block that is not complete yet are kept, so that a block in many pieces is read
/// once, not once for each piece.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// What of the buffer is decoded.
    consumed: usize,
    /// The block in the making: what its head announced, and the columns so far.
    head: Option<Head>,
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    columns: usize,
    rows: usize,
}

impl Decoder {
    /// Takes the next piece of the answer.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Move the rest to the front only when that is cheap against what was consumed.
        if self.consumed > self.buffer.len() / 2 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete block with rows, or `None` until more bytes come.
    pub(crate) fn next_block(&mut self) -> Result<Option<Block>, NativeError> {
        match self.advance() {
            Ok(block) => Ok(Some(block)),
            Err(Stop::More) => Ok(None),
            Err(Stop::Wrong(error)) => Err(error),
        }
    }

    /// Says whether the answer may end here.
    pub(crate) fn finish(&self) -> Result<(), NativeError> {
        let complete = self.head.is_none() && self.consumed == self.buffer.len();
        if complete { Ok(()) } else { Err(NativeError::Truncated) }
    }

    fn advance(&mut self) -> Result<Block, Stop> {
        loop {
            let head = match self.head {
                Some(head) => head,
                None => {
                    let mut input = Input { rest: &self.buffer[self.consumed..] };
                    let (columns, rows) = input.head()?;
                    self.consumed = self.buffer.len() - input.rest.len();
                    *self.head.insert(Head { columns, rows })
                }
            };
            while self.columns.len() < head.columns {
                let mut input = Input { rest: &self.buffer[self.consumed..] };
                let column = input.column(head.rows)?;
                self.consumed = self.buffer.len() - input.rest.len();
                self.columns.push(column);
            }
            self.head = None;
            let columns = std::mem::take(&mut self.columns);
            // The server announces the columns of an empty answer by a block without rows.
            if head.rows > 0 {
                return Ok(Block { columns });
            }
        }
    }
}

/// All blocks of a complete answer.
pub(crate) fn decode_all(bytes: Bytes) -> Result<Vec<Block>, NativeError> {
    let mut decoder = Decoder { buffer: bytes.into(), ..Decoder::default() };
    let mut blocks = Vec::new();
    while let Some(block) = decoder.next_block()? {
        blocks.push(block);
    }
    decoder.finish()?;
    Ok(blocks)
}

/// Why a column cannot be decoded now.
pub(super) enum Stop {
    /// Bytes are missing.
    More,
    Wrong(NativeError),
}

impl From<NativeError> for Stop {
    fn from(error: NativeError) -> Self {
        Self::Wrong(error)
    }
}

fn malformed(what: &'static str) -> Stop {
    Stop::Wrong(NativeError::Malformed { what })
}

pub(super) struct Input<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Stop::More)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<usize, Stop> {
        let mut value = 0_usize;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("a length of more than 64 bits"))
    }

    fn length(&mut self, max: usize, what: &'static str) -> Result<usize, Stop> {
        let length = self.varint()?;
        if length > max { Err(malformed(what)) } else { Ok(length) }
    }

    /// Number of columns, number of rows.
    pub(super) fn head(&mut self) -> Result<(usize, usize), Stop> {
        let columns = self.length(COLUMNS_MAX, "number of columns")?;
        Ok((columns, self.length(ROWS_MAX, "number of rows")?))
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }

    pub(super) fn text(&mut self) -> Result<String, Stop> {
        let length = self.length(TEXT_BYTES_MAX, "length of a string")?;
        let bytes = self.take(length)?;
        // We write valid UTF-8 only; others may write to the tables too, and their byte must not fail the whole answer.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn texts(&mut self, count: usize) -> Result<Vec<String>, Stop> {
        // Each takes a byte at least: what a hostile length could reserve is bounded by what was received.
        if self.rest.len() < count {
            return Err(Stop::More);
        }
        (0..count).map(|_| self.text()).collect()
    }

    pub(super) fn numbers<const N: usize, T>(&mut self, rows: usize, from: fn([u8; N]) -> T) -> Result<Vec<T>, Stop> {
        let bytes = self.take(rows * N)?;
        let (values, _) = bytes.as_chunks();
        Ok(values.iter().map(|&value| from(value)).collect())
    }

    fn column(&mut self, rows: usize) -> Result<Column, Stop> {
        let name = self.text()?;
        let type_name = self.text()?;
        self.values(&name, type_name, rows)
    }

    /// A column's values, which follow its name and type.
    pub(super) fn values(&mut self, name: &str, type_name: String, rows: usize) -> Result<Column, Stop> {
        Ok(match type_name.as_str() {
            "UInt8" | "Bool" => Column::U8(self.take(rows)?.to_vec()),
            "UInt32" => Column::U32(self.numbers(rows, u32::from_le_bytes)?),
            "UInt64" => Column::U64(self.numbers(rows, u64::from_le_bytes)?),
            "UInt128" => Column::U128(self.numbers(rows, u128::from_le_bytes)?),
            "Int64" | "DateTime64(3, 'UTC')" | "DateTime64(3)" => Column::I64(self.numbers(rows, i64::from_le_bytes)?),
            "Float64" => Column::F64(self.numbers(rows, f64::from_le_bytes)?),
            "String" => Column::Text(self.texts(rows)?),
            "LowCardinality(String)" if rows == 0 => Column::Names { names: Vec::new(), indexes: Vec::new() },
            "LowCardinality(String)" => self.names(rows)?,
            _ => return Err(NativeError::Type { column: name.to_owned(), found: type_name }.into()),
        })
    }

    fn names(&mut self, rows: usize) -> Result<Column, Stop> {
        if self.u64()? != LOW_CARDINALITY_VERSION {
            return Err(malformed("version of LowCardinality"));
        }
        let width = self.u64()? & 0xff;
        let keys = usize::try_from(self.u64()?).ok().filter(|&keys| keys <= ROWS_MAX);
        let names = self.texts(keys.ok_or_else(|| malformed("number of dictionary keys"))?)?;
        if self.u64()? != rows as u64 {
            return Err(malformed("number of dictionary indexes"));
        }
        let indexes: Vec<u32> = match width {
            0 => self.take(rows)?.iter().map(|&index| u32::from(index)).collect(),
            1 => self.numbers(rows, |bytes| u32::from(u16::from_le_bytes(bytes)))?,
            2 => self.numbers(rows, u32::from_le_bytes)?,
            // Eight bytes would mean more than 2^32 different names in one block.
            _ => return Err(malformed("width of dictionary indexes")),
        };
        if indexes.iter().any(|&index| index as usize >= names.len()) {
            return Err(malformed("a dictionary index without key"));
        }
        Ok(Column::Names { names, indexes })
    }
}
