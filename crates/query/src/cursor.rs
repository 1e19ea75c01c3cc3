//! Where a subscriber is: text that a client keeps and sends back, and that nobody else needs to understand.
//!
//! Base64 (URL-safe) of: version byte; 8 bytes that belong to the audience alone, so that another audience's cursor is
//! refused; then LEB128 numbers: count and next offsets of `audience-changes` by partition, count and floors of `journeys`
//! by partition. The floor is where the snapshot stood: changes that come from before it were in the snapshot. Then, since
//! version 2, count and entries of the highest origins sent: a worker that crashes appends its last changes once more, and
//! a client that comes back just then must not be told them twice. A person has one place in each topic, and both topics
//! are parted by the same bits, so there are fewer such entries than partitions of both topics together.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 2;

/// Without origins; clients may have kept such cursors.
const VERSION_WITHOUT_ORIGINS: u8 = 1;

/// Partitions of a topic; more is no cursor of ours.
const PARTITIONS_MAX: u64 = 1024;

/// A cursor that was taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Which audience it belongs to.
    pub audience: u64,
    /// Next record to read of each partition of `audience-changes`.
    pub next: Vec<u64>,
    /// First record of each partition of `journeys` whose changes are not in the snapshot.
    pub floor: Vec<u64>,
    /// Highest origin (offset, index) of the changes sent, by (partition here, partition of `journeys`).
    pub seen: BTreeMap<(u32, u32), (u64, u32)>,
}

impl Cursor {
    pub(crate) fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(16 + 4 * (self.next.len() + self.floor.len()));
        bytes.push(VERSION);
        bytes.extend(self.audience.to_be_bytes());
        for list in [&self.next, &self.floor] {
            put(&mut bytes, list.len() as u64);
            for &offset in list {
                put(&mut bytes, offset);
            }
        }
        put(&mut bytes, self.seen.len() as u64);
        for (&(partition, source), &(offset, index)) in &self.seen {
            for number in [u64::from(partition), u64::from(source), offset, u64::from(index)] {
                put(&mut bytes, number);
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None`: this is no cursor.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&version, rest) = bytes.split_first()?;
        let has_origins = match version {
            VERSION => true,
            VERSION_WITHOUT_ORIGINS => false,
            _ => return None,
        };
        let (audience, mut rest) = rest.split_first_chunk::<8>()?;
        let mut list = || -> Option<Vec<u64>> {
            let count = take(&mut rest).filter(|&count| count <= PARTITIONS_MAX)?;
            (0..count).map(|_| take(&mut rest)).collect()
        };
        let (next, floor) = (list()?, list()?);
        let mut seen = BTreeMap::new();
        let count = if has_origins { take(&mut rest).filter(|&count| count <= 2 * PARTITIONS_MAX)? } else { 0 };
        for _ in 0..count {
            let mut number = || take(&mut rest);
            let (partition, source, offset, index) = (number()?, number()?, number()?, number()?);
            let place = (u32::try_from(partition).ok()?, u32::try_from(source).ok()?);
            seen.insert(place, (offset, u32::try_from(index).ok()?));
        }
        rest.is_empty().then(|| Self { audience: u64::from_be_bytes(*audience), next, floor, seen })
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back(
            audience: u64,
            next in prop::collection::vec(prop_oneof![0..300_u64, any::<u64>()], 0..4),
            floor in prop::collection::vec(prop_oneof![0..300_u64, any::<u64>()], 0..4),
            seen in prop::collection::btree_map((0..3_u32, 0..3_u32), (any::<u64>(), any::<u32>()), 0..4),
        ) {
            let cursor = Cursor { audience, next, floor, seen };
            prop_assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
        }

        #[test]
        fn garbage_is_no_cursor_or_a_whole_one(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            for first in [VERSION, VERSION_WITHOUT_ORIGINS, bytes.first().copied().unwrap_or(0)] {
                let mut bytes = bytes.clone();
                if let Some(byte) = bytes.first_mut() {
                    *byte = first;
                }
                if let Some(cursor) = Cursor::parse(&URL_SAFE_NO_PAD.encode(&bytes)) {
                    prop_assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
                }
            }
        }

        #[test]
        fn text_that_nobody_encoded_does_no_harm(text in "\\PC{0,40}") {
            let _ = Cursor::parse(&text);
        }

        #[test]
        fn a_cut_cursor_is_none(next in prop::collection::vec(0..300_u64, 1..3), cut in 1..6_usize) {
            let seen = BTreeMap::from([((0, 0), (next[0], 1))]);
            let text = Cursor { audience: 7, next: next.clone(), floor: next, seen }.to_text();
            prop_assert_eq!(Cursor::parse(&text[..text.len() - cut]), None);
        }
    }
    #[test]
    fn a_cursor_of_the_first_version_has_no_origins() {
        // Version 1, audience 7, next [5, 300], floor [9].
        let text = URL_SAFE_NO_PAD.encode([1, 0, 0, 0, 0, 0, 0, 0, 7, 2, 5, 0xac, 2, 1, 9]);
        let cursor = Cursor { audience: 7, next: vec![5, 300], floor: vec![9], seen: BTreeMap::new() };
        assert_eq!(Cursor::parse(&text), Some(cursor));
    }
}
