//! Rows of ours as one Native block.

use std::collections::HashMap;

use super::LOW_CARDINALITY_VERSION;

/// How one column's values are taken from a row.
pub(crate) enum Values<R> {
    U128(fn(&R) -> u128),
    U64(fn(&R) -> u64),
    U32(fn(&R) -> u32),
    I64(fn(&R) -> i64),
    I8(fn(&R) -> i8),
    Bool(fn(&R) -> bool),
    /// `DateTime64(3, 'UTC')`, in ms.
    Time(fn(&R) -> i64),
    Text(fn(&R) -> &str),
    /// `Nullable(Decimal(18, 6))`, in millionths.
    Money(fn(&R) -> Option<i64>),
    /// `LowCardinality(String)`: few different values in a block. Sent as a dictionary, an event costs the server 9 CPU
    /// seconds a million; sent as strings, which it would convert, 13.
    Name(fn(&R) -> &str),
}

/// Set beside the width of indexes in what is sent: the keys stand in this block, and replace all earlier ones.
const OWN_KEYS: u64 = 0x200 | 0x400;

/// One block of all rows.
///
/// - `columns`: names as in the table, in any order.
pub(crate) fn encode<R>(columns: &[(&'static str, Values<R>)], rows: &[R]) -> Vec<u8> {
    // Most events are between 300 and 700 bytes; growing from there doubles once or twice.
    let mut out = Vec::with_capacity(64 * columns.len() + 16 * columns.len() * rows.len());
    varint(columns.len(), &mut out);
    varint(rows.len(), &mut out);
    for (name, values) in columns {
        text(name, &mut out);
        text(values.type_name(), &mut out);
        match values {
            Values::U128(of) => rows.iter().for_each(|row| out.extend_from_slice(&of(row).to_le_bytes())),
            Values::U64(of) => rows.iter().for_each(|row| out.extend_from_slice(&of(row).to_le_bytes())),
            Values::U32(of) => rows.iter().for_each(|row| out.extend_from_slice(&of(row).to_le_bytes())),
            Values::I64(of) | Values::Time(of) => {
                rows.iter().for_each(|row| out.extend_from_slice(&of(row).to_le_bytes()));
            }
            Values::I8(of) => rows.iter().for_each(|row| out.extend_from_slice(&of(row).to_le_bytes())),
            Values::Bool(of) => rows.iter().for_each(|row| out.push(u8::from(of(row)))),
            Values::Money(of) => {
                // Which are NULL, then a value for each, those included.
                rows.iter().for_each(|row| out.push(u8::from(of(row).is_none())));
                rows.iter().for_each(|row| out.extend_from_slice(&of(row).unwrap_or(0).to_le_bytes()));
            }
            Values::Text(of) => rows.iter().for_each(|row| text(of(row), &mut out)),
            Values::Name(of) => names(rows.iter().map(of), &mut out),
        }
    }
    out
}

impl<R> Values<R> {
    /// The column's type, exactly as in the table: then the server takes the values as they are.
    fn type_name(&self) -> &'static str {
        match self {
            Self::U128(_) => "UInt128",
            Self::U64(_) => "UInt64",
            Self::U32(_) => "UInt32",
            Self::I64(_) => "Int64",
            Self::I8(_) => "Int8",
            Self::Bool(_) => "Bool",
            Self::Time(_) => "DateTime64(3, 'UTC')",
            Self::Money(_) => "Nullable(Decimal(18, 6))",
            Self::Text(_) => "String",
            Self::Name(_) => "LowCardinality(String)",
        }
    }
}

/// A dictionary and indexes into it.
fn names<'a>(values: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    // The empty string is key 0, as the server itself always has it.
    let mut keys = vec![""];
    let mut known = HashMap::from([("", 0_u32)]);
    let mut indexes = Vec::with_capacity(values.size_hint().0);
    let mut last = ("", 0);
    for value in values {
        // Neighbours are often equal, and then need no hash.
        if last.0 != value {
            let next = u32::try_from(keys.len()).expect("a block has fewer than 2^32 rows");
            let index = *known.entry(value).or_insert_with(|| {
                keys.push(value);
                next
            });
            last = (value, index);
        }
        indexes.push(last.1);
    }

    let width = if keys.len() <= 1 << 8 {
        0
    } else if keys.len() <= 1 << 16 {
        1_u64
    } else {
        2
    };
    out.extend_from_slice(&LOW_CARDINALITY_VERSION.to_le_bytes());
    out.extend_from_slice(&(OWN_KEYS | width).to_le_bytes());
    out.extend_from_slice(&(keys.len() as u64).to_le_bytes());
    keys.iter().for_each(|key| text(key, out));
    out.extend_from_slice(&(indexes.len() as u64).to_le_bytes());
    let bytes = 1 << width;
    indexes.iter().for_each(|index| out.extend_from_slice(&index.to_le_bytes()[..bytes]));
}

fn text(value: &str, out: &mut Vec<u8>) {
    varint(value.len(), out);
    out.extend_from_slice(value.as_bytes());
}

/// LEB128, seven bits a byte, lowest first.
fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
