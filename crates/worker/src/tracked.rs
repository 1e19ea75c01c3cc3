//! A table that knows what changed since the last snapshot, and gives it out bit by bit while it goes on changing.
//!
//! A snapshot begins in no time: what changed is noted already. Its entries are then put some at a time; one that is about
//! to change before its turn comes is put first, as it was. So the snapshot is of the moment when it began, however long
//! it takes.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;

use trackway_wire::log::DecodeError;

use crate::snapshots::changes::Changes;

/// A value that snapshots keep, each by itself.
pub(crate) trait Kept: Sized {
    /// What it is found by.
    type Key: Copy + Eq + Hash + Debug;
    /// A key in bytes.
    type Name: AsRef<[u8]>;

    /// Its bucket (below [`BUCKETS`](crate::snapshots::changes::BUCKETS)) and its name among all entries of the stage.
    fn name(key: &Self::Key) -> (usize, Self::Name);

    /// Its bytes.
    fn encode(&self, key: &Self::Key, out: &mut Vec<u8>);

    /// From its bytes.
    fn decode(key: &Self::Key, bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// A table whose changes are noted.
#[derive(Debug)]
pub(crate) struct Tracked<V: Kept> {
    slots: HashMap<V::Key, Slot<V>>,
    /// Number of the snapshot that is yet to begin, from 1.
    generation: u32,
    /// Keys whose slots are marked with `generation`, each at least once.
    changed: Vec<V::Key>,
    /// Keys removed in this generation.
    removed: Vec<V::Key>,
    /// Of the snapshot that has begun: keys removed,
    removed_before: Vec<V::Key>,
    /// values that were about to change before their turn came,
    early: Vec<(V::Key, Box<[u8]>)>,
    /// and keys that changed, still to be put where their slots say so.
    pending: Vec<V::Key>,
}

#[derive(Debug)]
struct Slot<V> {
    /// The generation in which it last changed, 0 once that was put. One less than the table's: its turn is still to come.
    changed_in: u32,
    held: Held<V>,
}

/// A value as it is used, or as it stood in the snapshot: most are not looked at for long after a restart, if ever.
#[derive(Debug)]
pub(crate) enum Held<V> {
    Live(V),
    Packed(Box<[u8]>),
}

impl<V: Kept> Held<V> {
    fn live(&mut self, key: &V::Key) -> &mut V {
        if let Self::Packed(bytes) = self {
            // The file's checksum was right, so these are bytes that we wrote.
            let value = V::decode(key, bytes).unwrap_or_else(|error| panic!("entry {key:?} of a snapshot: {error}"));
            *self = Self::Live(value);
        }
        match self {
            Self::Live(value) => value,
            Self::Packed(_) => unreachable!("just unpacked"),
        }
    }

    fn write(&self, key: &V::Key, out: &mut Vec<u8>) {
        match self {
            Self::Live(value) => value.encode(key, out),
            Self::Packed(bytes) => out.extend_from_slice(bytes),
        }
    }
}

impl<V: Kept> Tracked<V> {
    pub fn new() -> Self {
        Self {
            slots: HashMap::new(),
            generation: 1,
            changed: Vec::new(),
            removed: Vec::new(),
            removed_before: Vec::new(),
            early: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// From a snapshot. Nothing has changed yet.
    pub fn restore(values: impl ExactSizeIterator<Item = (V::Key, Held<V>)>) -> Self {
        let mut table = Self::new();
        table.slots.reserve(values.len());
        table.slots.extend(values.map(|(key, held)| (key, Slot { changed_in: 0, held })));
        table
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn contains_key(&self, key: &V::Key) -> bool {
        self.slots.contains_key(key)
    }

    /// To look at.
    pub fn peek(&mut self, key: &V::Key) -> Option<&V> {
        self.slots.get_mut(key).map(|slot| &*slot.held.live(key))
    }

    /// To change.
    pub fn get_mut(&mut self, key: &V::Key) -> Option<&mut V> {
        let slot = self.slots.get_mut(key)?;
        Self::note(key, slot, self.generation, &mut self.changed, &mut self.early);
        Some(slot.held.live(key))
    }

    /// To change; made first if it is not there.
    pub fn get_or_insert_with(&mut self, key: V::Key, new: impl FnOnce() -> V) -> &mut V {
        let slot = match self.slots.entry(key) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => free.insert(Slot { changed_in: 0, held: Held::Live(new()) }),
        };
        Self::note(&key, slot, self.generation, &mut self.changed, &mut self.early);
        slot.held.live(&key)
    }

    pub fn insert(&mut self, key: V::Key, value: V) {
        let mut value = Some(value);
        let there = self.get_or_insert_with(key, || value.take().expect("asked for once"));
        if let Some(value) = value {
            *there = value;
        }
    }

    pub fn remove(&mut self, key: &V::Key) {
        let Some(mut slot) = self.slots.remove(key) else { return };
        Self::note(key, &mut slot, self.generation, &mut self.changed, &mut self.early);
        self.removed.push(*key);
    }

    /// Changes the values for which `which` says so.
    pub fn change_where(&mut self, which: impl Fn(&V) -> bool, mut change: impl FnMut(&V::Key, &mut V)) {
        for (key, slot) in &mut self.slots {
            if which(slot.held.live(key)) {
                Self::note(key, slot, self.generation, &mut self.changed, &mut self.early);
                change(key, slot.held.live(key));
            }
        }
    }

    /// Notes that a slot is about to change.
    fn note(
        key: &V::Key,
        slot: &mut Slot<V>,
        generation: u32,
        changed: &mut Vec<V::Key>,
        early: &mut Vec<(V::Key, Box<[u8]>)>,
    ) {
        if slot.changed_in == generation {
            return;
        }
        if slot.changed_in != 0 {
            let mut bytes = Vec::new();
            slot.held.write(key, &mut bytes);
            early.push((*key, bytes.into()));
        }
        slot.changed_in = generation;
        changed.push(*key);
    }

    /// Everything counts as changed: the next snapshot is a base.
    pub fn start_over(&mut self) {
        assert!(!self.is_putting(), "a snapshot is not yet complete");
        self.changed.clear();
        self.removed.clear();
        for (key, slot) in &mut self.slots {
            slot.changed_in = self.generation;
            self.changed.push(*key);
        }
    }

    fn is_putting(&self) -> bool {
        !(self.removed_before.is_empty() && self.early.is_empty() && self.pending.is_empty())
    }

    /// A snapshot of the table as it is now begins.
    pub fn begin(&mut self) {
        assert!(!self.is_putting(), "a snapshot is not yet complete");
        self.generation += 1;
        self.pending = std::mem::take(&mut self.changed);
        self.removed_before = std::mem::take(&mut self.removed);
    }

    /// Puts some more entries of the snapshot that has begun, `max` at most, and counts them down. True: that was all.
    pub fn put_some(&mut self, max: &mut usize, changes: &mut Changes) -> bool {
        // Removals come first: a key that was removed and made again is there.
        while *max > 0 {
            if let Some(key) = self.removed_before.pop() {
                if !changes.is_base {
                    let (bucket, name) = V::name(&key);
                    changes.remove(bucket, name.as_ref());
                }
            } else if let Some((key, bytes)) = self.early.pop() {
                let (bucket, name) = V::name(&key);
                changes.put(bucket, name.as_ref(), |out| out.extend_from_slice(&bytes));
            } else if let Some(key) = self.pending.pop() {
                if let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.changed_in == self.generation - 1) {
                    let (bucket, name) = V::name(&key);
                    changes.put(bucket, name.as_ref(), |out| slot.held.write(&key, out));
                    slot.changed_in = 0;
                }
            } else {
                return true;
            }
            *max -= 1;
        }
        !self.is_putting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Kept for u8 {
        type Key = u8;
        type Name = [u8; 1];

        fn name(key: &u8) -> (usize, [u8; 1]) {
            (usize::from(*key), [*key])
        }

        fn encode(&self, _key: &u8, out: &mut Vec<u8>) {
            out.push(*self);
        }

        fn decode(_key: &u8, bytes: &[u8]) -> Result<u8, DecodeError> {
            Ok(bytes[0])
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(u8, u8),
        /// Changes by looking first, as most do.
        Add(u8),
        Remove(u8),
        AddWhereEven,
        Put(usize),
        /// A snapshot begins, where none has begun; after it all that is not in it may be lost.
        Begin,
        Restart,
        StartOver,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..4_u8, any::<u8>()).prop_map(|(key, value)| Step::Set(key, value)),
            (0..4_u8).prop_map(Step::Add),
            (0..4_u8).prop_map(Step::Remove),
            Just(Step::AddWhereEven),
            (0..3_usize).prop_map(Step::Put),
            Just(Step::Begin),
            Just(Step::Restart),
            Just(Step::StartOver),
        ];
        prop::collection::vec(step, 0..40)
    }

    fn restored(files: &[Changes]) -> Tracked<u8> {
        let files: Vec<Vec<Bytes>> = files.iter().map(|file| file.clone().into_parts().1).collect();
        let mut values = Vec::new();
        for bucket in 0..4 {
            let parts = files.iter().map(|file| file[bucket].as_ref());
            let held = crate::snapshots::changes::add_up(parts).expect("our own entries");
            values.extend(held.into_iter().map(|(key, value)| (key[0], Held::Packed(value.whole().into()))));
        }
        Tracked::restore(values.into_iter())
    }

    fn all(table: &mut Tracked<u8>) -> BTreeMap<u8, u8> {
        (0..4).filter_map(|key| table.peek(&key).copied().map(|value| (key, value))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Whatever happens between, what a chain of snapshots adds up to is the table as it was when the last complete
        /// one began.
        #[test]
        fn a_snapshot_is_of_the_moment_when_it_began(steps in steps()) {
            let mut table = Tracked::<u8>::new();
            let mut files: Vec<Changes> = Vec::new();
            let mut is_base = true;
            // The state that the complete snapshots make, and the one that is being taken.
            let mut saved: BTreeMap<u8, u8> = BTreeMap::new();
            let mut taking: Option<(Changes, BTreeMap<u8, u8>)> = None;
            for step in steps {
                match step {
                    Step::Set(key, value) => table.insert(key, value),
                    Step::Add(key) => if let Some(value) = table.get_mut(&key) {
                        *value = value.wrapping_add(1);
                    },
                    Step::Remove(key) => table.remove(&key),
                    Step::AddWhereEven => table.change_where(|value| value % 2 == 0, |_, value| *value += 1),
                    Step::Begin if taking.is_none() => {
                        table.begin();
                        taking = Some((Changes::new(std::mem::take(&mut is_base), Bytes::new()), all(&mut table)));
                    }
                    Step::Begin => {}
                    Step::Put(mut max) => if let Some((mut changes, state)) = taking.take() {
                        if table.put_some(&mut max, &mut changes) {
                            if changes.is_base {
                                files.clear();
                            }
                            files.push(changes);
                            saved = state;
                        } else {
                            taking = Some((changes, state));
                        }
                    },
                    Step::Restart => {
                        taking = None;
                        is_base = files.is_empty();
                        table = restored(&files);
                        prop_assert_eq!(all(&mut table), saved.clone());
                    }
                    Step::StartOver => if taking.is_none() {
                        table.start_over();
                        is_base = true;
                    },
                }
            }
            prop_assert_eq!(all(&mut restored(&files)), saved);
        }
    }
}
