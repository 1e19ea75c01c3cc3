//! A block that we encoded, as text.

use super::decode::{Column, Input, NativeError, Stop};

/// Values of one column of one block, row by row: numbers in decimal, amounts in millionths, `NULL`.
///
/// # Panics
/// If the block has no such column.
pub(crate) fn texts(block: &[u8], column: &str) -> Result<Vec<String>, NativeError> {
    let values = values(block, column).map_err(|stop| match stop {
        Stop::More => NativeError::Truncated,
        Stop::Wrong(error) => error,
    })?;
    Ok(values.unwrap_or_else(|| panic!("the block has no column `{column}`")))
}

fn values(block: &[u8], column: &str) -> Result<Option<Vec<String>>, Stop> {
    let mut input = Input { rest: block };
    let (columns, rows) = input.head()?;
    for _ in 0..columns {
        let (name, type_name) = (input.text()?, input.text()?);
        let values = match type_name.as_str() {
            // No answer of the server has these two.
            "Int8" => spell(input.numbers(rows, i8::from_le_bytes)?),
            "Nullable(Decimal(18, 6))" => {
                let nulls = input.numbers(rows, u8::from_le_bytes)?;
                let values = nulls.into_iter().zip(input.numbers(rows, i64::from_le_bytes)?);
                values.map(|(null, value)| if null == 1 { "NULL".to_owned() } else { value.to_string() }).collect()
            }
            _ => match input.values(&name, type_name, rows)? {
                Column::U8(values) => spell(values),
                Column::U32(values) => spell(values),
                Column::U64(values) => spell(values),
                Column::U128(values) => spell(values),
                Column::I64(values) => spell(values),
                Column::F64(values) => spell(values),
                Column::Text(values) => values,
                Column::Names { names, indexes } => {
                    indexes.into_iter().map(|index| names[index as usize].clone()).collect()
                }
            },
        };
        if name == column {
            return Ok(Some(values));
        }
    }
    Ok(None)
}

fn spell(values: Vec<impl ToString>) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
