//! Which files make a state: by their names alone.
//!
//! A name says which state its file makes, and a delta's also which state it continues. Files of two owners of one
//! partition (one of them paused, and not knowing that it is none any more) may lie side by side: each chain is followed
//! by (offset, id), and any of them leads to the state of its offset.

use std::collections::HashSet;
use std::fmt;

use hashbrown::HashMap;

use super::file::Place;

/// Bases that are kept, each with what came after it: the newest may turn out to be damaged.
const BASES_KEPT: usize = 2;

/// Name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// A state in one message, as versions before deltas wrote it.
    Whole { offset: u64 },
    /// A state in entries.
    Base { place: Place },
    /// What changed since `parent`.
    Delta { place: Place, parent: Place },
}

impl Name {
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(offset) = name.strip_suffix(".snapshot") {
            return Some(Self::Whole { offset: offset.parse().ok()? });
        }
        if let Some(place) = name.strip_suffix(".base") {
            return Some(Self::Base { place: parse_place(place)? });
        }
        let (place, parent) = name.strip_suffix(".delta")?.split_once('_')?;
        let (place, parent) = (parse_place(place)?, parse_place(parent)?);
        // A chain leads down, so it ends.
        (parent.offset < place.offset).then_some(Self::Delta { place, parent })
    }

    pub fn offset(&self) -> u64 {
        match self {
            Self::Whole { offset } => *offset,
            Self::Base { place } | Self::Delta { place, .. } => place.offset,
        }
    }
}

fn parse_place(text: &str) -> Option<Place> {
    let (offset, id) = text.split_once('-')?;
    Some(Place { offset: offset.parse().ok()?, id: u128::from_str_radix(id, 16).ok()? })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:032x}", self.offset, self.id)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { offset } => write!(f, "{offset:020}.snapshot"),
            Self::Base { place } => write!(f, "{place}.base"),
            Self::Delta { place, parent } => write!(f, "{place}_{parent}.delta"),
        }
    }
}

/// The files that make the newest state that can be made of these, oldest first.
pub(super) fn newest(names: &[Name]) -> Option<Vec<Name>> {
    let mut bases: HashMap<Place, Name> = HashMap::new();
    let mut deltas: HashMap<Place, (Name, Place)> = HashMap::new();
    for name in names {
        match name {
            Name::Whole { .. } => {}
            Name::Base { place } => drop(bases.insert(*place, *name)),
            Name::Delta { place, parent } => drop(deltas.insert(*place, (*name, *parent))),
        }
    }
    let chain = |tip: Place| {
        let mut chain = Vec::new();
        let mut at = tip;
        while !bases.contains_key(&at) {
            let (name, parent) = deltas.get(&at)?;
            chain.push(*name);
            at = *parent;
        }
        chain.push(bases[&at]);
        chain.reverse();
        Some(chain)
    };
    let mut tips: Vec<Place> = bases.keys().chain(deltas.keys()).copied().collect();
    tips.sort_unstable();
    let chain = tips.into_iter().rev().find_map(chain);
    let whole = names.iter().filter(|name| matches!(name, Name::Whole { .. })).max_by_key(|name| name.offset());
    match (chain, whole) {
        (Some(chain), Some(whole)) if whole.offset() <= chain[chain.len() - 1].offset() => Some(chain),
        (_, Some(whole)) => Some(vec![*whole]),
        (chain, None) => chain,
    }
}

/// The files that no restore needs any more: those before the bases that are kept, unless the newest state is made of
/// them.
pub(super) fn unneeded(names: &[Name]) -> Vec<Name> {
    let mut bases: Vec<u64> =
        names.iter().filter(|name| !matches!(name, Name::Delta { .. })).map(Name::offset).collect();
    bases.sort_unstable();
    bases.dedup();
    let Some(&floor) = bases.iter().rev().nth(BASES_KEPT - 1) else { return Vec::new() };
    let needed: HashSet<Name> = newest(names).into_iter().flatten().collect();
    let passed = |name: &&Name| match name {
        Name::Whole { offset } => *offset < floor,
        Name::Base { place } => place.offset < floor,
        Name::Delta { place, .. } => place.offset <= floor,
    };
    names.iter().filter(passed).filter(|name| !needed.contains(*name)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(offset: u64, id: u128) -> Place {
        Place { offset, id }
    }

    fn base(offset: u64, id: u128) -> Name {
        Name::Base { place: place(offset, id) }
    }

    fn delta(offset: u64, id: u128, parent: (u64, u128)) -> Name {
        Name::Delta { place: place(offset, id), parent: place(parent.0, parent.1) }
    }

    #[test]
    fn a_name_says_all_of_its_file() {
        for name in [Name::Whole { offset: 7 }, base(8, 9), delta(u64::MAX, u128::MAX, (0, 1))] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        assert_eq!(Name::parse(&delta(5, 1, (5, 2)).to_string()), None, "a chain leads down");
        for foreign in ["", "x.snapshot", "1.base", "1-zz.base", "1-2.delta", "1-2_3.delta", "00000001-1.base#1"] {
            assert_eq!(Name::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_newest_whole_chain_is_used() {
        let names = [base(1, 1), delta(2, 2, (1, 1)), delta(3, 3, (2, 2)), delta(5, 5, (4, 4))];
        assert_eq!(newest(&names), Some(names[..3].to_vec()), "the parent of the last is missing");
        assert_eq!(newest(&names[1..]), None);
        let shorter = [names[0], names[1], names[2], base(2, 2)];
        assert_eq!(newest(&shorter), Some(vec![base(2, 2), names[2]]), "a base stands for its delta");
    }

    #[test]
    fn two_owners_of_one_parent_have_each_their_own_followers() {
        let names = [base(1, 1), delta(3, 30, (1, 1)), delta(3, 31, (1, 1)), delta(4, 4, (3, 30))];
        assert_eq!(newest(&names), Some(vec![names[0], names[1], names[3]]));
        let names = [base(1, 1), delta(3, 30, (1, 1)), delta(3, 31, (1, 1)), delta(4, 4, (3, 32))];
        assert_eq!(newest(&names), Some(vec![names[0], names[2]]), "no follower of another's state");
    }

    #[test]
    fn a_snapshot_in_one_message_is_used_until_there_is_a_newer_one() {
        let names = [Name::Whole { offset: 3 }, Name::Whole { offset: 9 }, base(8, 1)];
        assert_eq!(newest(&names), Some(vec![names[1]]));
        assert_eq!(newest(&[names[0], names[2]]), Some(vec![names[2]]));
    }

    #[test]
    fn two_bases_are_kept_with_what_came_after_them() {
        let names = [
            Name::Whole { offset: 1 },
            base(2, 2),
            delta(3, 3, (2, 2)),
            delta(4, 4, (3, 3)),
            base(4, 4),
            delta(5, 5, (4, 4)),
            base(5, 5),
        ];
        assert_eq!(unneeded(&names), names[..4]);
        assert_eq!(unneeded(&names[..2]), []);
        assert_eq!(unneeded(&names[..3]), []);
        // A paused owner made two bases of its own. What the other's newest state is made of stays.
        let zombie = [base(2, 2), delta(5, 5, (2, 2)), delta(8, 8, (5, 5)), base(6, 60), base(7, 70)];
        assert_eq!(unneeded(&zombie), []);
    }

    proptest! {
        /// Taking away what is not needed changes neither the newest state, nor the one that is left when its newest base
        /// is damaged.
        #[test]
        fn what_is_not_needed_changes_nothing(
            files in prop::collection::vec((0..3_u8, 0..8_u64, 0..2_u128, 0..8_u64, 0..2_u128), 0..12),
        ) {
            let names: Vec<Name> = files.into_iter().filter_map(|(kind, offset, id, below, parent)| match kind {
                0 => Some(base(offset, id)),
                1 => (below < offset).then(|| delta(offset, id, (below, parent))),
                _ => Some(Name::Whole { offset }),
            }).collect();
            let gone = unneeded(&names);
            let left: Vec<Name> = names.iter().filter(|name| !gone.contains(name)).copied().collect();
            prop_assert_eq!(newest(&names), newest(&left));
            let bases = |names: &[Name]| -> HashSet<u64> {
                names.iter().filter(|name| !matches!(name, Name::Delta { .. })).map(Name::offset).collect()
            };
            prop_assert!(bases(&left).len() >= bases(&names).len().min(BASES_KEPT));
        }
    }
}
