//! What changed between two snapshots, as entries; and how the entries of several add up.
//!
//! An entry is put, appended to, or removed, by its key. Entries stand in [`BUCKETS`] buckets, each key always in the same
//! one: a bucket can be merged, decoded and written without the others, so memory is bounded and cores share the work.
//! What keys and values mean is the stage's affair; adding up is a function of the bytes.

use std::borrow::Cow;

use bytes::{Buf, Bytes};
use hashbrown::HashMap;
use trackway_wire::log::DecodeError;

/// Buckets of a file. A bucket of a partition with 5M open sessions has some 20 MB.
pub const BUCKETS: usize = 64;

/// What an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Put = 0,
    /// The value goes to the end of what is there.
    Append = 1,
    Remove = 2,
}

/// Entries put, appended and removed since the snapshot before, in order; or since nothing, and then it is a base.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Whether there is nothing before them.
    pub is_base: bool,
    /// What is small, and whole in every snapshot.
    pub head: Bytes,
    buckets: Vec<Vec<u8>>,
    entries: u64,
}

impl Changes {
    /// None yet.
    #[must_use]
    pub fn new(is_base: bool, head: Bytes) -> Self {
        Self { is_base, head, buckets: vec![Vec::new(); BUCKETS], entries: 0 }
    }

    /// The entry's value is now what `write` writes.
    pub fn put(&mut self, bucket: usize, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.entry(bucket, Op::Put, key, write);
    }

    /// What `write` writes goes to the end of the entry's value.
    pub fn append(&mut self, bucket: usize, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.entry(bucket, Op::Append, key, write);
    }

    /// The entry is no more.
    pub fn remove(&mut self, bucket: usize, key: &[u8]) {
        self.entry(bucket, Op::Remove, key, |_| {});
    }

    fn entry(&mut self, bucket: usize, op: Op, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.buckets[bucket];
        out.push(op as u8);
        out.push(u8::try_from(key.len()).expect("a key of at most 255 bytes"));
        out.extend_from_slice(key);
        let place = out.len();
        out.extend_from_slice(&[0; 4]);
        write(out);
        let bytes = u32::try_from(out.len() - place - 4).expect("a value below 4 GiB");
        out[place..place + 4].copy_from_slice(&bytes.to_le_bytes());
        self.entries += 1;
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of all entries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum()
    }

    pub(crate) fn into_parts(self) -> (Bytes, Vec<Bytes>) {
        (self.head, self.buckets.into_iter().map(Bytes::from).collect())
    }
}

/// A value, in the pieces that it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<'a> {
    first: &'a [u8],
    more: Vec<&'a [u8]>,
}

impl<'a> Value<'a> {
    /// In one piece.
    #[must_use]
    pub fn whole(&self) -> Cow<'a, [u8]> {
        if self.more.is_empty() {
            return Cow::Borrowed(self.first);
        }
        let mut whole = self.first.to_vec();
        self.more.iter().for_each(|piece| whole.extend_from_slice(piece));
        Cow::Owned(whole)
    }
}

/// What a bucket holds after the changes of all these files, oldest first.
///
/// # Errors
/// [`DecodeError`] for bytes that nobody here wrote.
pub fn add_up<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Result<HashMap<&'a [u8], Value<'a>>, DecodeError> {
    let mut held: HashMap<&[u8], Value<'_>> = HashMap::new();
    for mut rest in files {
        while !rest.is_empty() {
            let (op, key, value) = entry(&mut rest)?;
            match op {
                Op::Put => {
                    held.insert(key, Value { first: value, more: Vec::new() });
                }
                Op::Append => match held.get_mut(key) {
                    Some(before) => before.more.push(value),
                    None => {
                        held.insert(key, Value { first: value, more: Vec::new() });
                    }
                },
                Op::Remove => {
                    held.remove(key);
                }
            }
        }
    }
    Ok(held)
}

/// The same as one file's bucket. Keys stand in order, so that whoever makes a base out of the same files makes the same
/// bytes.
pub(super) fn merge<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, DecodeError> {
    let held = add_up(files)?;
    let mut held: Vec<_> = held.into_iter().collect();
    held.sort_unstable_by_key(|(key, _)| *key);
    let mut one = Changes { is_base: true, head: Bytes::new(), buckets: vec![Vec::new()], entries: 0 };
    for (key, value) in held {
        one.put(0, key, |out| {
            out.extend_from_slice(value.first);
            value.more.iter().for_each(|piece| out.extend_from_slice(piece));
        });
    }
    Ok(one.buckets.swap_remove(0))
}

fn entry<'a>(rest: &mut &'a [u8]) -> Result<(Op, &'a [u8], &'a [u8]), DecodeError> {
    const ENTRY: DecodeError = DecodeError::Field { field: "entry" };
    let op = match rest.try_get_u8() {
        Ok(0) => Op::Put,
        Ok(1) => Op::Append,
        Ok(2) => Op::Remove,
        _ => return Err(ENTRY),
    };
    let bytes = usize::from(rest.try_get_u8().map_err(|_| ENTRY)?);
    let key = rest.split_off(..bytes).ok_or(ENTRY)?;
    let bytes = rest.try_get_u32_le().map_err(|_| ENTRY)? as usize;
    let value = rest.split_off(..bytes).ok_or(ENTRY)?;
    Ok((op, key, value))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What a script does to one bucket: which file, 0 puts, 1 appends, 2 removes, which key, what value.
    pub(in crate::snapshots) type Script = Vec<(usize, u8, u8, u8)>;

    pub(in crate::snapshots) fn scripts() -> impl Strategy<Value = Script> {
        prop::collection::vec((0..4_usize, 0..3_u8, 0..4_u8, any::<u8>()), 0..24)
    }

    /// The files of a script, and the entries that are there after each of them.
    pub(in crate::snapshots) fn play(script: &Script) -> Vec<(Changes, BTreeMap<u8, Vec<u8>>)> {
        let mut state: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let mut played = Vec::new();
        for file in 0..4 {
            let mut changes = Changes::new(file == 0, Bytes::from(vec![file as u8]));
            for &(_, op, key, value) in script.iter().filter(|(of, ..)| *of == file) {
                let (bucket, name) = (usize::from(key) * 21, [key]);
                match op {
                    0 => {
                        changes.put(bucket, &name, |out| out.push(value));
                        state.insert(key, vec![value]);
                    }
                    1 => {
                        changes.append(bucket, &name, |out| out.push(value));
                        state.entry(key).or_default().push(value);
                    }
                    _ => {
                        changes.remove(bucket, &name);
                        state.remove(&key);
                    }
                }
            }
            played.push((changes, state.clone()));
        }
        played
    }

    fn held<'a>(files: impl Iterator<Item = &'a [u8]>) -> BTreeMap<u8, Vec<u8>> {
        let held = add_up(files).expect("our own entries");
        held.into_iter().map(|(key, value)| (key[0], value.whole().into_owned())).collect()
    }

    proptest! {
        /// Files add up to what the operations make of a map, and a merge of any first of them changes nothing.
        #[test]
        fn files_add_up_to_the_map_that_the_operations_make(script in scripts(), merged in 0..5_usize) {
            let played = play(&script);
            for bucket in [0, 21, 42, 63] {
                let files: Vec<&[u8]> = played.iter().map(|(changes, _)| changes.buckets[bucket].as_slice()).collect();
                let expected: BTreeMap<u8, Vec<u8>> =
                    played[3].1.iter().filter(|(key, _)| usize::from(**key) * 21 == bucket).map(|(k, v)| (*k, v.clone())).collect();
                prop_assert_eq!(held(files.iter().copied()), expected.clone());
                let base = merge(files[..merged.min(4)].iter().copied()).expect("our own entries");
                let chain = std::iter::once(base.as_slice()).chain(files[merged.min(4)..].iter().copied());
                prop_assert_eq!(held(chain), expected);
            }
        }

        #[test]
        fn any_bytes_are_entries_or_an_error(bytes in prop::collection::vec(0..6_u8, 0..40)) {
            let _ = add_up([bytes.as_slice()]);
        }
    }
}
