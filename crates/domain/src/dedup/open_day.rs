//! The places of one day in memory: a table in order, in parts that grow one by one.

/// Parts, by the highest bits of a place. One grows at a time, so the table never needs twice its memory, and a claim
/// waits for the copy of one part at most: some 50 µs at 10 million keys.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 8;

/// Places in a part at most, in eighths of its homes. A new one looks at nine slots in a row then, on average; at seven
/// eighths it would be 32.
const FULL_EIGHTHS: usize = 6;

/// Slots of the smallest part.
const SLOTS_MIN: usize = 8;

/// Slots behind the last that a key may want, for those that find it taken.
const SPARE_SLOTS: usize = 64;

/// A set of places. Between 10.7 and 13.4 bytes each, once there are some thousands.
#[derive(Debug)]
pub(super) struct OpenDay {
    parts: Vec<Part>,
    len: usize,
}

/// Where a walk through the places has got to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walk {
    part: usize,
    slot: usize,
}

impl OpenDay {
    pub fn new() -> Self {
        Self { parts: vec![Part::default(); PARTS], len: 0 }
    }

    /// Of these places, in any order; one may stand there twice.
    pub fn of(places: impl IntoIterator<Item = u64>) -> Self {
        let mut values = vec![Vec::new(); PARTS];
        for place in places {
            let (part, value) = Part::of(place);
            values[part].push(value);
        }
        let parts: Vec<Part> = values
            .into_iter()
            .map(|mut values| {
                values.sort_unstable();
                values.dedup();
                Part::laid_out(values.len(), values.len() * 8 / FULL_EIGHTHS, &values)
            })
            .collect();
        let len = parts.iter().map(|part| part.len).sum();
        Self { parts, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts a place in; false if it is there.
    pub fn insert(&mut self, place: u64) -> bool {
        let (part, value) = Part::of(place);
        let is_new = self.parts[part].insert(value);
        self.len += usize::from(is_new);
        is_new
    }

    pub fn contains(&self, place: u64) -> bool {
        let (part, value) = Part::of(place);
        self.parts[part].find(value).is_ok()
    }

    /// The next place, in order.
    pub fn next(&self, walk: &mut Walk) -> Option<u64> {
        while let Some(part) = self.parts.get(walk.part) {
            while let Some(&value) = part.slots.get(walk.slot) {
                walk.slot += 1;
                if value != EMPTY {
                    return Some(place(walk.part, value));
                }
            }
            *walk = Walk { part: walk.part + 1, slot: 0 };
        }
        None
    }

    /// Its memory, in pieces that can be let go of one by one.
    pub fn into_pieces(self) -> Vec<Box<[u64]>> {
        self.parts.into_iter().map(|part| part.slots).collect()
    }
}

/// What no value is.
const EMPTY: u64 = 0;

/// Values in ascending order with gaps. A value stands at its [`Part::home`] or, if that is taken, behind it, with no gap
/// between; so a search ends at the first gap or larger value.
#[derive(Debug, Clone, Default)]
struct Part {
    slots: Box<[u64]>,
    /// How many slots can be a home; the others are spare.
    homes: usize,
    len: usize,
}

/// The place that a part's value stands for.
fn place(part: usize, value: u64) -> u64 {
    (part as u64) << (64 - PART_BITS) | value >> PART_BITS
}

impl Part {
    /// The part of a place, and its value there: what the part does not say, and a mark that it is not [`EMPTY`].
    fn of(place: u64) -> (usize, u64) {
        ((place >> (64 - PART_BITS)) as usize, place << PART_BITS | 1)
    }

    /// Where it wants to stand. Larger values never want to stand before smaller ones.
    fn home(&self, value: u64) -> usize {
        ((u128::from(value) * self.homes as u128) >> 64) as usize
    }

    /// Where it stands, or else where it would.
    fn find(&self, value: u64) -> Result<usize, usize> {
        let home = self.home(value);
        for (slot, &there) in self.slots.iter().enumerate().skip(home) {
            if there == value {
                return Ok(slot);
            }
            if there == EMPTY || there > value {
                return Err(slot);
            }
        }
        Err(self.slots.len())
    }

    fn insert(&mut self, value: u64) -> bool {
        let Err(mut slot) = self.find(value) else { return false };
        if self.len >= self.homes * FULL_EIGHTHS / 8 {
            self.grow();
            slot = self.vacant(value);
        }
        let gap = loop {
            match self.slots[slot..].iter().position(|&there| there == EMPTY) {
                Some(after) => break slot + after,
                // The spare slots are taken: rare, and only more room helps.
                None => {
                    self.grow();
                    slot = self.vacant(value);
                }
            }
        };
        self.slots.copy_within(slot..gap, slot + 1);
        self.slots[slot] = value;
        self.len += 1;
        true
    }

    fn vacant(&self, value: u64) -> usize {
        match self.find(value) {
            Err(slot) => slot,
            Ok(slot) => unreachable!("it stands at {slot}, and did not before"),
        }
    }

    /// A quarter more room.
    fn grow(&mut self) {
        let values: Vec<u64> = self.slots.iter().copied().filter(|&value| value != EMPTY).collect();
        *self = Self::laid_out(values.len(), self.homes + self.homes / 4, &values);
    }

    /// With room for `homes` values or more.
    fn laid_out(len: usize, homes: usize, values: &[u64]) -> Self {
        let mut homes = homes.max(SLOTS_MIN);
        loop {
            let slots = vec![EMPTY; homes + homes.min(SPARE_SLOTS)].into_boxed_slice();
            let mut part = Self { slots, homes, len };
            let mut next = 0;
            let fits = values.iter().all(|&value| {
                let slot = part.home(value).max(next);
                next = slot + 1;
                part.slots.get_mut(slot).map(|there| *there = value).is_some()
            });
            if fits {
                return part;
            }
            homes += homes / 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn places(day: &OpenDay) -> Vec<u64> {
        let mut walk = Walk::default();
        std::iter::from_fn(|| day.next(&mut walk)).collect()
    }

    /// Places that stand close together, at both ends and in the middle of parts, so that runs are long and meet the end.
    fn crowded() -> impl Strategy<Value = Vec<u64>> {
        let near = prop_oneof![
            0..70_u64,
            (0..70_u64).prop_map(|n| u64::MAX - n),
            (0..70_u64).prop_map(|n| (3 << 56) - 35 + n),
            (0..16_u64).prop_map(|n| n << 52),
        ];
        prop::collection::vec(near, 0..300)
    }

    proptest! {
        #[test]
        fn a_day_is_a_set_in_order(crowded in crowded(), asked in crowded()) {
            let (mut day, mut set) = (OpenDay::new(), BTreeSet::new());
            for &place in &crowded {
                prop_assert_eq!(day.insert(place), set.insert(place));
            }
            let all: Vec<u64> = set.iter().copied().collect();
            for day in [day, OpenDay::of(crowded.iter().copied())] {
                prop_assert_eq!(day.len(), all.len());
                prop_assert_eq!(places(&day), all.clone());
                prop_assert!(asked.iter().all(|place| day.contains(*place) == set.contains(place)));
            }
        }
    }

    #[test]
    fn growth_costs_less_than_fourteen_bytes_a_place() {
        let mut day = OpenDay::new();
        let mut place = 0_u64;
        for n in 1..=600_000_usize {
            place = place.wrapping_add(0x9E37_79B9_7F4A_7C15);
            day.insert(place);
            if n >= 100_000 && n.is_multiple_of(10_000) {
                let slots: usize = day.parts.iter().map(|part| part.slots.len()).sum();
                assert!(slots * 8 < n * 27 / 2 + PARTS * SPARE_SLOTS * 8, "{slots} slots for {n} places");
            }
        }
    }
}
