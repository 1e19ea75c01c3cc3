//! The places of a day that is over: in blocks elsewhere, with a filter in memory.
//!
//! A filter line stands for a range of places. For all but one in a thousand places that are not there it says so from one line of the
//! processor's cache; otherwise one block is read, and only what stands in it counts.

use super::open_day::{OpenDay, Walk};

/// Blocks of places, in memory or on a disk. What is appended is read back as it was, or not at all.
pub trait Blocks: std::fmt::Debug {
    /// Why it could not be written or read.
    type Error;

    /// Appends a block; the first is number 0.
    ///
    /// # Errors
    /// The blocks cannot be used any more.
    fn append(&mut self, places: &[u64]) -> Result<(), Self::Error>;

    /// That was the last one.
    ///
    /// # Errors
    /// The blocks cannot be used any more.
    fn finish(&mut self) -> Result<(), Self::Error>;

    /// Puts the places of a block, in ascending order, in place of what is in `places`. Asked for after
    /// [`Blocks::finish`] only.
    ///
    /// # Errors
    /// The block cannot be read as it was written.
    fn read(&self, block: usize, places: &mut Vec<u64>) -> Result<(), Self::Error>;
}

/// Places that one filter line is made for on average: 16 bits each.
const LINE_PLACES: usize = 32;

/// Filter lines whose places stand in one block: 1 kB.
const BLOCK_LINES: usize = 4;

/// A line of the processor's cache with one bit in each word for each place.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

impl Line {
    /// Which bit of each word stands for a place. The line is chosen by its high bits; the product's high bits depend on all.
    #[inline]
    fn bits(place: u64) -> impl Iterator<Item = u64> {
        let mixed = place.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (0..8).map(move |word| mixed >> (16 + word * 6) & 63)
    }

    fn put(&mut self, place: u64) {
        self.0.iter_mut().zip(Self::bits(place)).for_each(|(word, bit)| *word |= 1 << bit);
    }

    /// Without a branch, which would go the wrong way every other time.
    #[inline]
    fn may_have(&self, place: u64) -> bool {
        self.0.iter().zip(Self::bits(place)).fold(1, |all, (word, bit)| all & word >> bit) == 1
    }
}

/// A set of places that does not change. 2 bytes each in memory, 8 in blocks.
#[derive(Debug)]
pub(super) struct SealedDay<B> {
    filter: Vec<Line>,
    blocks: B,
    len: usize,
}

impl<B: Blocks> SealedDay<B> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the filter does not rule a place out.
    #[inline]
    pub fn may_have(&self, place: u64) -> bool {
        self.filter[line(place, self.filter.len())].may_have(place)
    }

    /// Whether a place is there.
    ///
    /// # Errors
    /// Nobody can say: its block cannot be read.
    pub fn contains(&self, place: u64) -> Result<bool, B::Error> {
        if !self.may_have(place) {
            return Ok(false);
        }
        let mut places = Vec::new();
        self.blocks.read(line(place, self.filter.len()) / BLOCK_LINES, &mut places)?;
        Ok(places.binary_search(&place).is_ok())
    }

    /// Gives all places to `each`, in order.
    ///
    /// # Errors
    /// A block cannot be read; some places were given.
    pub fn for_each(&self, mut each: impl FnMut(u64)) -> Result<(), B::Error> {
        let mut places = Vec::new();
        for block in 0..self.filter.len().div_ceil(BLOCK_LINES) {
            self.blocks.read(block, &mut places)?;
            places.iter().copied().for_each(&mut each);
        }
        Ok(())
    }
}

/// Which of so many lines stands for a place. Larger places never have earlier lines.
fn line(place: u64, lines: usize) -> usize {
    ((u128::from(place) * lines as u128) >> 64) as usize
}

/// A day on its way into blocks, one at a time. The open day does not change meanwhile, and answers.
#[derive(Debug)]
pub(super) struct Sealing<B> {
    /// Its filter is as long as what was written so far.
    sealed: SealedDay<B>,
    /// How long it will be.
    lines: usize,
    walk: Walk,
    /// The first place that is in no block yet.
    next: Option<u64>,
    block: Vec<u64>,
}

impl<B: Blocks> Sealing<B> {
    pub fn begin(open: &OpenDay, blocks: B) -> Self {
        let lines = open.len().div_ceil(LINE_PLACES).max(1);
        let mut filter = Vec::new();
        // Exact: a vector that grows by itself ends up to half empty.
        filter.reserve_exact(lines);
        let mut walk = Walk::default();
        let next = open.next(&mut walk);
        Self { sealed: SealedDay { filter, blocks, len: open.len() }, lines, walk, next, block: Vec::new() }
    }

    /// Writes one more block. True: that was the last.
    ///
    /// # Errors
    /// The day stays where it is.
    pub fn go_on(&mut self, open: &OpenDay) -> Result<bool, B::Error> {
        let (filter, lines) = (&mut self.sealed.filter, self.lines);
        let end = (filter.len() + BLOCK_LINES).min(lines);
        filter.resize(end, Line::default());
        self.block.clear();
        while let Some(place) = self.next.filter(|&place| line(place, lines) < end) {
            filter[line(place, lines)].put(place);
            self.block.push(place);
            self.next = open.next(&mut self.walk);
        }
        self.sealed.blocks.append(&self.block)?;
        if end == lines {
            self.sealed.blocks.finish()?;
        }
        Ok(end == lines)
    }

    /// The day, once all its blocks are written.
    pub fn finish(self) -> SealedDay<B> {
        self.sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks that count how often they are read.
    #[derive(Debug, Default)]
    struct Counted(Vec<Vec<u64>>, std::cell::Cell<u32>);

    impl Blocks for Counted {
        type Error = std::convert::Infallible;

        fn append(&mut self, places: &[u64]) -> Result<(), Self::Error> {
            self.0.push(places.to_vec());
            Ok(())
        }

        fn finish(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }

        fn read(&self, block: usize, places: &mut Vec<u64>) -> Result<(), Self::Error> {
            self.1.set(self.1.get() + 1);
            places.clone_from(&self.0[block]);
            Ok(())
        }
    }

    #[test]
    fn the_filter_spares_all_but_one_read_in_a_thousand() {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let secret = super::super::shuffle::Shuffle::secret();
        let place = |n: u64| secret.place(n.wrapping_mul(STEP));
        let day = OpenDay::of((0..50_000).map(place));
        let mut sealing = Sealing::begin(&day, Counted::default());
        while !sealing.go_on(&day).expect("written") {}
        let sealed = sealing.finish();
        assert!((0..50_000).all(|n| sealed.contains(place(n)) == Ok(true)));
        sealed.blocks.1.set(0);
        assert!((50_000..250_000).all(|n| sealed.contains(place(n)) == Ok(false)));
        assert!(sealed.blocks.1.get() < 400, "{} reads for 200,000 places", sealed.blocks.1.get());
        // A block is 1 kB on average, and no block is much more.
        assert!(sealed.blocks.0.iter().all(|block| block.len() < 250));
    }
}
