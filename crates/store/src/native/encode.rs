//! Rows of ours as one Native block: each value goes to the end of its column as its row comes.

use super::names::Names;

/// A value, as its column's type wants it.
pub(crate) trait Value {
    /// The column's type, exactly as in the table: then the server takes the values as they are.
    const TYPE: &'static str;

    /// A column for such values.
    fn column() -> ColumnBuffer;

    /// Puts it at the end of such a column.
    fn put(self, column: &mut ColumnBuffer);
}

/// Values of one column, as they are sent.
#[derive(Debug)]
pub(crate) enum ColumnBuffer {
    Plain(Vec<u8>),
    /// Which are NULL, and a value for each, those included.
    Nullable {
        nulls: Vec<u8>,
        values: Vec<u8>,
    },
    Names(Names),
}

/// Buffers above this are not kept for the next block: with one busy minute, idle partitions would hold them for ever.
const KEPT_BYTES_MAX: usize = 64 << 10;

impl ColumnBuffer {
    fn plain(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Plain(values) => values,
            Self::Nullable { .. } | Self::Names(_) => unreachable!("a column is made by its values' type"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(values) => values.len(),
            Self::Nullable { nulls, values } => nulls.len() + values.len(),
            Self::Names(names) => names.len(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(values) => out.extend_from_slice(values),
            Self::Nullable { nulls, values } => {
                out.extend_from_slice(nulls);
                out.extend_from_slice(values);
            }
            Self::Names(names) => names.write(out),
        }
    }

    /// Makes it empty.
    pub(crate) fn clear(&mut self) {
        match self {
            Self::Plain(values) => clear(values),
            Self::Nullable { nulls, values } => {
                clear(nulls);
                clear(values);
            }
            Self::Names(names) => names.clear(),
        }
    }
}

pub(super) fn clear<T>(values: &mut Vec<T>) {
    values.clear();
    values.shrink_to(KEPT_BYTES_MAX / size_of::<T>());
}

/// One block.
///
/// - `heads`: name and type of each column; names as in the table, in any order.
pub(crate) fn block(heads: &[(&str, &str)], columns: &[ColumnBuffer], rows: usize) -> Vec<u8> {
    assert_eq!(heads.len(), columns.len(), "each column has a head");
    let of_heads: usize = heads.iter().map(|(name, type_name)| name.len() + type_name.len() + 4).sum();
    let mut out = Vec::with_capacity(20 + of_heads + columns.iter().map(ColumnBuffer::len).sum::<usize>());
    varint(columns.len(), &mut out);
    varint(rows, &mut out);
    for ((name, type_name), column) in heads.iter().zip(columns) {
        text(name, &mut out);
        text(type_name, &mut out);
        column.write(&mut out);
    }
    out
}

macro_rules! numbers {
    ($($name:ident($number:ty): $type_name:literal $(/ $doc:literal)?,)+) => {$(
        $(#[doc = $doc])?
        pub(crate) struct $name(pub $number);

        impl Value for $name {
            const TYPE: &'static str = $type_name;

            fn column() -> ColumnBuffer {
                ColumnBuffer::Plain(Vec::new())
            }

            #[inline]
            fn put(self, column: &mut ColumnBuffer) {
                column.plain().extend_from_slice(&self.0.to_le_bytes());
            }
        }
    )+};
}

numbers! {
    U128(u128): "UInt128",
    U64(u64): "UInt64",
    U32(u32): "UInt32",
    I64(i64): "Int64",
    I8(i8): "Int8",
    Time(i64): "DateTime64(3, 'UTC')" / "In ms.",
}

pub(crate) struct Bool(pub bool);

impl Value for Bool {
    const TYPE: &'static str = "Bool";

    fn column() -> ColumnBuffer {
        ColumnBuffer::Plain(Vec::new())
    }

    #[inline]
    fn put(self, column: &mut ColumnBuffer) {
        column.plain().push(u8::from(self.0));
    }
}

pub(crate) struct Text<'a>(pub &'a str);

impl Value for Text<'_> {
    const TYPE: &'static str = "String";

    fn column() -> ColumnBuffer {
        ColumnBuffer::Plain(Vec::new())
    }

    #[inline]
    fn put(self, column: &mut ColumnBuffer) {
        text(self.0, column.plain());
    }
}

/// In millionths.
pub(crate) struct Money(pub Option<i64>);

impl Value for Money {
    const TYPE: &'static str = "Nullable(Decimal(18, 6))";

    fn column() -> ColumnBuffer {
        ColumnBuffer::Nullable { nulls: Vec::new(), values: Vec::new() }
    }

    #[inline]
    fn put(self, column: &mut ColumnBuffer) {
        match column {
            ColumnBuffer::Nullable { nulls, values } => {
                nulls.push(u8::from(self.0.is_none()));
                values.extend_from_slice(&self.0.unwrap_or(0).to_le_bytes());
            }
            ColumnBuffer::Plain(_) | ColumnBuffer::Names(_) => unreachable!("a column is made by its values' type"),
        }
    }
}

/// One of few different values in a block. Sent as a dictionary, an event costs the server 9 CPU seconds a million; sent as
/// strings, which it would convert, 13.
pub(crate) struct Name<'a>(pub &'a str);

impl Value for Name<'_> {
    const TYPE: &'static str = "LowCardinality(String)";

    fn column() -> ColumnBuffer {
        ColumnBuffer::Names(Names::new())
    }

    #[inline]
    fn put(self, column: &mut ColumnBuffer) {
        match column {
            ColumnBuffer::Names(names) => names.push(self.0),
            ColumnBuffer::Plain(_) | ColumnBuffer::Nullable { .. } => {
                unreachable!("a column is made by its values' type")
            }
        }
    }
}

#[inline]
pub(super) fn text(value: &str, out: &mut Vec<u8>) {
    varint(value.len(), out);
    out.extend_from_slice(value.as_bytes());
}

/// LEB128, seven bits a byte, lowest first.
#[inline]
fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
