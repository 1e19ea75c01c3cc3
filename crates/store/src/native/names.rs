//! A column of few different texts: a dictionary, and an index into it for each row.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::LOW_CARDINALITY_VERSION;
use super::encode::{clear, text};

/// Set beside the width of indexes in what is sent: the keys stand in this block, and replace all earlier ones.
const OWN_KEYS: u64 = 0x200 | 0x400;

/// Keys in the order in which they came first, so that equal rows make equal bytes.
#[derive(Debug)]
pub(crate) struct Names {
    /// As they are sent, one after the other.
    keys: Vec<u8>,
    /// Where the text of each begins and ends in `keys`.
    places: Vec<(usize, usize)>,
    /// Numbers of keys, by their texts.
    known: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Key of the last row.
    last: u32,
    /// Key of each row.
    indexes: Vec<u32>,
}

impl Names {
    pub fn new() -> Self {
        let mut names = Self {
            keys: Vec::new(),
            places: Vec::new(),
            known: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            last: 0,
            indexes: Vec::new(),
        };
        names.clear();
        names
    }

    #[inline]
    pub fn push(&mut self, name: &str) {
        // Many are empty or equal to the one before, and then need no hash.
        let index = if name.is_empty() {
            0
        } else if self.key(self.last) == name.as_bytes() {
            self.last
        } else {
            self.number(name)
        };
        self.last = index;
        self.indexes.push(index);
    }

    #[inline]
    fn key(&self, number: u32) -> &[u8] {
        let (begin, end) = self.places[number as usize];
        &self.keys[begin..end]
    }

    fn number(&mut self, name: &str) -> u32 {
        let hash = self.hasher.hash_one(name.as_bytes());
        if let Some(&number) = self.known.find(hash, |&number| self.key(number) == name.as_bytes()) {
            return number;
        }
        let number = self.add(name);
        let Self { known, hasher, keys, places, .. } = self;
        known.insert_unique(hash, number, |&number| {
            let (begin, end) = places[number as usize];
            hasher.hash_one(&keys[begin..end])
        });
        number
    }

    fn add(&mut self, name: &str) -> u32 {
        let number = u32::try_from(self.places.len()).expect("a block has fewer than 2^32 rows");
        text(name, &mut self.keys);
        self.places.push((self.keys.len() - name.len(), self.keys.len()));
        number
    }

    /// Bytes that an index takes, as a power of two.
    fn width(&self) -> u64 {
        match self.places.len() {
            ..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        }
    }

    /// Bytes that [`Self::write`] writes.
    pub fn len(&self) -> usize {
        4 * 8 + self.keys.len() + (self.indexes.len() << self.width())
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let width = self.width();
        for number in [LOW_CARDINALITY_VERSION, OWN_KEYS | width, self.places.len() as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&(self.indexes.len() as u64).to_le_bytes());
        match width {
            0 => out.extend(self.indexes.iter().map(|&index| index as u8)),
            1 => self.indexes.iter().for_each(|&index| out.extend_from_slice(&(index as u16).to_le_bytes())),
            _ => self.indexes.iter().for_each(|&index| out.extend_from_slice(&index.to_le_bytes())),
        }
    }

    pub fn clear(&mut self) {
        clear(&mut self.keys);
        clear(&mut self.places);
        clear(&mut self.indexes);
        // Larger ones are rare: the table is cleared by going over it.
        if self.known.capacity() > 1024 {
            self.known = HashTable::new();
        }
        self.known.clear();
        self.last = 0;
        // The empty string is key 0, as the server itself always has it.
        self.add("");
    }
}
