//! The decoder on blocks written by hand, in pieces of every size; the encoder through the decoder. What the server itself
//! writes and reads is tested in `tests/`.

use super::{
    Block, Column, ColumnBuffer, Decoder, Money, Name, NativeError, Text, Time, U32, Value, block, decode_all, texts,
};

/// One column with its name and type; `data` follows.
fn column(type_name: &str, data: &[u8]) -> Vec<u8> {
    let mut out = vec![1, b'c', u8::try_from(type_name.len()).unwrap()];
    out.extend_from_slice(type_name.as_bytes());
    out.extend_from_slice(data);
    out
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Two rows of every type that is decoded, an empty block, and two rows again with another dictionary.
fn answer() -> (Vec<u8>, Vec<Block>) {
    let mut bytes = Vec::new();
    let mut blocks = Vec::new();
    for (rows, names) in [(2, ["", "é"]), (0, ["", ""]), (2, ["x", "yy"])] {
        let some = |data: &[u8]| if rows == 0 { Vec::new() } else { data.to_vec() };
        let mut dictionary = words(&[1, 0x600, 2]);
        for name in names {
            dictionary.push(name.len() as u8);
            dictionary.extend_from_slice(name.as_bytes());
        }
        dictionary.extend(words(&[2]));
        dictionary.extend([1, 0]);
        let mut wide = words(&[1, 1, 1]);
        wide.extend([1, b'w']);
        wide.extend(words(&[2]));
        wide.extend([0, 0, 0, 0]);

        bytes.extend([11, rows]);
        bytes.extend(column("UInt8", &some(&[7, 255])));
        bytes.extend(column("Bool", &some(&[1, 0])));
        bytes.extend(column("UInt32", &some(&[1, 0, 0, 0, 255, 255, 255, 255])));
        bytes.extend(column("UInt64", &some(&words(&[1, u64::MAX]))));
        bytes.extend(column("UInt128", &some(&words(&[1, 2, u64::MAX, u64::MAX]))));
        bytes.extend(column("Int64", &some(&words(&[i64::MIN as u64, 5]))));
        bytes.extend(column("DateTime64(3, 'UTC')", &some(&words(&[6, 7]))));
        bytes.extend(column("Float64", &some(&words(&[1.5_f64.to_bits(), (-0.25_f64).to_bits()]))));
        let long = "l".repeat(200);
        let mut texts = vec![2, 0xc3, 0xa9, 0xc8, 1];
        texts.extend_from_slice(long.as_bytes());
        bytes.extend(column("String", &some(&texts)));
        bytes.extend(column("LowCardinality(String)", &some(&dictionary)));
        bytes.extend(column("LowCardinality(String)", &some(&wide)));
        if rows > 0 {
            let names = names.map(str::to_owned).to_vec();
            blocks.push(Block {
                columns: vec![
                    Column::U8(vec![7, 255]),
                    Column::U8(vec![1, 0]),
                    Column::U32(vec![1, u32::MAX]),
                    Column::U64(vec![1, u64::MAX]),
                    Column::U128(vec![1 | 2 << 64, u128::MAX]),
                    Column::I64(vec![i64::MIN, 5]),
                    Column::I64(vec![6, 7]),
                    Column::F64(vec![1.5, -0.25]),
                    Column::Text(vec!["é".to_owned(), long]),
                    Column::Names { names, indexes: vec![1, 0] },
                    Column::Names { names: vec!["w".to_owned()], indexes: vec![0, 0] },
                ],
            });
        }
    }
    (bytes, blocks)
}

fn decode_in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Block>, NativeError> {
    let mut decoder = Decoder::default();
    let mut blocks = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(block) = decoder.next_block()? {
            blocks.push(block);
        }
    }
    decoder.finish().map(|()| blocks)
}

#[test]
fn an_answer_split_at_any_byte_reads_the_same() {
    let (bytes, blocks) = answer();
    for at in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(decode_in_pieces([head, tail]).as_ref(), Ok(&blocks), "split at {at}");
    }
    for size in 1..20 {
        assert_eq!(decode_in_pieces(bytes.chunks(size)).as_ref(), Ok(&blocks), "pieces of {size}");
    }
    assert_eq!(decode_all(bytes.into()), Ok(blocks));
}

#[test]
fn an_answer_cut_short_is_no_answer() {
    let (bytes, _) = answer();
    let (mut complete, mut cut) = (0, 0);
    for end in 0..bytes.len() {
        match decode_in_pieces([&bytes[..end]]) {
            Ok(_) => complete += 1,
            Err(NativeError::Truncated) => cut += 1,
            Err(other) => panic!("cut at {end}: {other}"),
        }
    }
    // At the beginning, and after each of the first two blocks.
    assert_eq!((complete, cut), (3, bytes.len() - 3));
}

#[test]
fn bytes_that_are_something_else_are_refused() {
    let check = |bytes: Vec<u8>| decode_all(bytes.into()).unwrap_err();
    let one = |type_name: &str, data: &[u8]| [vec![1, 1], column(type_name, data)].concat();
    assert!(matches!(check(one("Nullable(UInt8)", &[0, 0])), NativeError::Type { column, .. } if column == "c"));
    let malformed = [
        vec![0xff; 11],                                                              // a length without end
        vec![0xff, 0xff, 0x7f, 1],                                                   // two million columns
        one("LowCardinality(String)", &words(&[2, 0, 0, 1])),                        // another version
        one("LowCardinality(String)", &words(&[1, 0, 0, 2])),                        // two indexes for one row
        one("LowCardinality(String)", &[words(&[1, 0, 0, 1]), vec![0]].concat()),    // an index without key
        one("LowCardinality(String)", &[words(&[1, 3, 0, 1]), vec![0; 8]].concat()), // indexes of eight bytes
        one("LowCardinality(String)", &words(&[1, 0, u64::MAX, 1])),                 // more keys than can be
        one("String", &[0xff, 0xff, 0xff, 0xff, 0x7f]),                              // a string of 32 GiB
    ];
    for bytes in malformed {
        let error = check(bytes.clone());
        assert!(matches!(error, NativeError::Malformed { .. }), "{error}: {bytes:?}");
    }
}

fn column_of<V: Value>(values: impl Iterator<Item = V>) -> ColumnBuffer {
    let mut column = V::column();
    values.for_each(|value| value.put(&mut column));
    column
}

/// A block of `rows` names, of which `different` differ, through encoder and decoder.
fn names_survive(column: &mut ColumnBuffer, rows: u32, different: u32) {
    let values: Vec<String> = (0..rows).map(|row| format!("n{}", row * 7 % different)).collect();
    column.clear();
    values.iter().for_each(|value| Name(value).put(column));
    let bytes = block(&[("c", Name::TYPE)], std::slice::from_ref(column), rows as usize);
    let blocks = decode_all(bytes.into()).unwrap();
    let [Column::Names { names, indexes }] = &blocks[0].columns[..] else { panic!("{blocks:?}") };
    assert_eq!(names.len(), different as usize + 1, "each name once, and the empty one");
    let got: Vec<&String> = indexes.iter().map(|&index| &names[index as usize]).collect();
    assert_eq!(got, values.iter().collect::<Vec<_>>());
}

#[test]
fn indexes_are_as_wide_as_the_dictionary_needs() {
    // One buffer for all: nothing of the block before is left in it.
    let mut column = Name::column();
    for different in [1, 2, 255, 65_536, 256, 257, 65_535, 2] {
        names_survive(&mut column, different + 3, different);
    }
}

#[test]
fn a_dictionary_has_each_name_once_in_the_order_in_which_they_came() {
    let column = column_of(["b", "", "b", "a", "b", ""].into_iter().map(Name));
    let bytes = block(&[("c", Name::TYPE)], &[column], 6);
    let blocks = decode_all(bytes.into()).unwrap();
    let names = ["", "b", "a"].map(str::to_owned).to_vec();
    assert_eq!(blocks[0].columns, [Column::Names { names, indexes: vec![1, 0, 1, 2, 1, 0] }]);
}

#[test]
fn rows_are_encoded_column_by_column() {
    let columns = [column_of([1, 2].into_iter().map(U32)), column_of(["a", ""].into_iter().map(Text))];
    let bytes = block(&[("number", U32::TYPE), ("text", Text::TYPE)], &columns, 2);
    let expected = b"\x02\x02\x06number\x06UInt32\x01\0\0\0\x02\0\0\0\x04text\x06String\x01a\0";
    assert_eq!(bytes, expected);
}

#[test]
fn a_block_of_ours_is_read_as_text() {
    let columns = [
        column_of([None, Some(-5)].into_iter().map(Money)),
        column_of(["x", "y"].into_iter().map(Name)),
        column_of([7, -7].into_iter().map(Time)),
    ];
    let bytes = block(&[("money", Money::TYPE), ("name", Name::TYPE), ("time", Time::TYPE)], &columns, 2);
    let read = |column| texts(&bytes, column).unwrap();
    assert_eq!([read("money"), read("name"), read("time")], [["NULL", "-5"], ["x", "y"], ["7", "-7"]]);
}
