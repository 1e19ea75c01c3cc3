//! A secret order of keys.

use std::hash::{BuildHasher, RandomState};

/// Turns keys into places, one to one, in a way that nobody outside can know.
///
/// Keys are hashes without a secret, so a stranger with time can make ids whose keys have any 40 bits that they like. In a
/// table ordered by the keys themselves such ids would crowd one spot, and each would cost as much as all before it. Places
/// stay uniform whatever the keys are. They differ from process to process and decide nothing but where a key stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shuffle {
    mask: u64,
    first: Step,
    second: Step,
}

/// Multiplication by an odd number, and back.
#[derive(Debug, Clone, Copy)]
struct Step {
    by: u64,
    back: u64,
}

impl Step {
    fn new(by: u64) -> Self {
        let by = by | 1;
        // Newton: each round doubles the number of right bits, and an odd number is its own inverse in the lowest three.
        let back = (0..5).fold(by, |back, _| back.wrapping_mul(2_u64.wrapping_sub(by.wrapping_mul(back))));
        Self { by, back }
    }
}

impl Shuffle {
    /// One that nobody knows.
    pub fn secret() -> Self {
        let secret = RandomState::new();
        Self::new([secret.hash_one(0), secret.hash_one(1), secret.hash_one(2)])
    }

    fn new([mask, first, second]: [u64; 3]) -> Self {
        Self { mask, first: Step::new(first), second: Step::new(second) }
    }

    pub fn place(&self, key: u64) -> u64 {
        let half = (key ^ self.mask).wrapping_mul(self.first.by);
        let whole = (half ^ (half >> 32)).wrapping_mul(self.second.by);
        whole ^ (whole >> 32)
    }

    pub fn key(&self, place: u64) -> u64 {
        let whole = (place ^ (place >> 32)).wrapping_mul(self.second.back);
        (whole ^ (whole >> 32)).wrapping_mul(self.first.back) ^ self.mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_leads_back_to_its_key(secret in any::<[u64; 3]>(), key in any::<u64>()) {
            let shuffle = Shuffle::new(secret);
            prop_assert_eq!(shuffle.key(shuffle.place(key)), key);
        }
    }

    #[test]
    fn keys_that_share_what_bits_they_may_are_spread() {
        // As somebody might make them: one after the other, with the high bits in common, with the low ones.
        let families: [fn(u64) -> u64; 3] = [|n| n, |n| (7 << 40) | (n << 3), |n| n << 48];
        for family in families {
            let shuffle = Shuffle::secret();
            let mut counts = [0_u32; 256];
            (0..65_536).for_each(|n| counts[(shuffle.place(family(n)) >> 56) as usize] += 1);
            assert!(counts.iter().all(|count| (100..500).contains(count)), "{counts:?}");
        }
    }
}
