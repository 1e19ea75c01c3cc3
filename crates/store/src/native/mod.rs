//! ClickHouse's Native format, columns in blocks: what we send ([`encode`]) and what we read ([`decode`]).
//!
//! Native, because it is the server's own memory layout: it was measured at 2 to 5 times the insert rate of the
//! row-oriented formats and half the CPU of reading them. As sent over HTTP (protocol revision 0) a block is:
//! - varint number of columns, varint number of rows;
//! - each column: name and type as strings (varint length, bytes), then the rows' values one after the other, little
//!   endian; nothing if there are no rows;
//! - `LowCardinality(String)`: UInt64 version 1; UInt64 flags, whose low byte says the width of indexes (0, 1, 2, 3 for 1,
//!   2, 4, 8 bytes); UInt64 number of keys, the keys; UInt64 number of rows, an index into the keys for each.

mod decode;
mod encode;
mod names;
mod texts;

pub(crate) use decode::{Block, Column, Decoder, NativeError, decode_all};
pub(crate) use encode::{Bool, ColumnBuffer, I8, I64, Money, Name, Text, Time, U32, U64, U128, Value, block};
pub(crate) use texts::texts;

/// Version of the serialization of `LowCardinality`: keys stand in each block.
const LOW_CARDINALITY_VERSION: u64 = 1;

#[cfg(test)]
mod tests;
