//! The users of one project whom aliases joined: an undirected graph, and the person that each of its users is.
//!
//! Only users stand here: a device hangs below a user ([`super::place`]), so the graph has as many keys as there were
//! aliases, not as there are visitors. Each person has one name, the least key among its users, whatever order the aliases
//! came in.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};

use crate::id::{PersonKey, ProjectId};
use crate::limits::{ALIAS_CAUSES_MAX, ALIASED_USERS_MAX, ALIASES_OF_PROJECT_MAX};

/// Why two users are one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// An alias said so of these two.
    Alias,
    /// A device that is the one's was said by an alias to be the other's.
    Device(PersonKey),
}

/// What became of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It holds from now on, or did already.
    Holds,
    /// The person would have more users, the project more aliases, or the two more causes, than the limits allow: nothing
    /// was changed.
    Refused,
}

/// Users whose person changed, each with its person from now on (itself: it stands alone).
pub type Moves = BTreeMap<PersonKey, PersonKey>;

/// The key whose partition holds a project's graph. No user has an empty id.
#[must_use]
pub fn home(project: &ProjectId) -> PersonKey {
    PersonKey::of_user(project, "")
}

/// The graph of one project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AliasGraph {
    neighbours: HashMap<PersonKey, BTreeMap<PersonKey, BTreeSet<Cause>>>,
    persons: HashMap<PersonKey, PersonKey>,
    edges: usize,
}

impl AliasGraph {
    /// Two users are one person. Saying it again, or of a user and itself, changes nothing.
    pub fn join(&mut self, a: PersonKey, b: PersonKey, cause: Cause, moves: &mut Moves) -> Joined {
        if a == b {
            return Joined::Holds;
        }
        let causes = self.neighbours.get(&a).and_then(|of| of.get(&b));
        if causes.is_some_and(|causes| causes.contains(&cause)) {
            return Joined::Holds;
        }
        if causes.is_some_and(|causes| causes.len() >= ALIAS_CAUSES_MAX) || self.edges >= ALIASES_OF_PROJECT_MAX {
            return Joined::Refused;
        }
        if self.person(a) != self.person(b) {
            let (mut all, more) = (self.reached(a), self.reached(b));
            if all.len() + more.len() > ALIASED_USERS_MAX {
                return Joined::Refused;
            }
            all.extend(more);
            self.name(&all, moves);
        }
        for (from, to) in [(a, b), (b, a)] {
            self.neighbours.entry(from).or_default().entry(to).or_default().insert(cause);
        }
        self.edges += 1;
        Joined::Holds
    }

    /// One cause is gone: two users are one person no longer, unless another cause or a way round joins them still.
    pub fn part(&mut self, a: PersonKey, b: PersonKey, cause: Cause, moves: &mut Moves) {
        self.drop_causes(a, b, |known| known == cause, moves);
    }

    /// Nothing joins these two directly any longer. Returns how many causes there were.
    pub fn part_wholly(&mut self, a: PersonKey, b: PersonKey, moves: &mut Moves) -> usize {
        self.drop_causes(a, b, |_| true, moves)
    }

    fn drop_causes(&mut self, a: PersonKey, b: PersonKey, gone: impl Fn(Cause) -> bool, moves: &mut Moves) -> usize {
        let mut dropped = 0;
        let mut cut = false;
        for (from, to) in [(a, b), (b, a)] {
            let Some(of) = self.neighbours.get_mut(&from) else { return 0 };
            let Some(causes) = of.get_mut(&to) else { return 0 };
            let before = causes.len();
            causes.retain(|cause| !gone(*cause));
            dropped = before - causes.len();
            if causes.is_empty() {
                cut = true;
                of.remove(&to);
                if of.is_empty() {
                    self.neighbours.remove(&from);
                }
            }
        }
        self.edges -= dropped;
        if cut {
            for side in [a, b] {
                let all = self.reached(side);
                self.name(&all, moves);
            }
        }
        dropped
    }

    /// The person of a user: itself, if no alias names it.
    #[must_use]
    pub fn person(&self, user: PersonKey) -> PersonKey {
        self.persons.get(&user).copied().unwrap_or(user)
    }

    /// Whether an alias that holds names the user.
    #[must_use]
    pub fn has(&self, user: PersonKey) -> bool {
        self.neighbours.contains_key(&user)
    }

    /// Every edge once, in order: for a snapshot. [`Self::join`] in this order makes the same graph.
    pub fn edges(&self) -> impl Iterator<Item = (PersonKey, PersonKey, Cause)> + '_ {
        let mut from: Vec<_> = self.neighbours.keys().copied().collect();
        from.sort_unstable();
        from.into_iter().flat_map(|a| {
            let above = self.neighbours[&a].range(a..);
            above.flat_map(move |(&b, causes)| causes.iter().map(move |&cause| (a, b, cause)))
        })
    }

    /// How many edges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edges
    }

    /// Whether no alias holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edges == 0
    }

    /// Whoever a user is joined with, itself included. At most [`ALIASED_USERS_MAX`].
    fn reached(&self, from: PersonKey) -> HashSet<PersonKey> {
        let (mut found, mut open) = (HashSet::from([from]), vec![from]);
        while let Some(key) = open.pop() {
            for &next in self.neighbours.get(&key).into_iter().flat_map(BTreeMap::keys) {
                if found.insert(next) {
                    open.push(next);
                }
            }
        }
        found
    }

    fn name(&mut self, all: &HashSet<PersonKey>, moves: &mut Moves) {
        let person = *all.iter().min().expect("a key reaches itself");
        for &key in all {
            if self.person(key) != person {
                moves.insert(key, person);
            }
            if key == person {
                self.persons.remove(&key);
            } else {
                self.persons.insert(key, person);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::oracle;
    use proptest::prelude::*;

    fn key(n: u128) -> PersonKey {
        PersonKey(n)
    }

    #[test]
    fn a_person_cannot_grow_past_its_limit_and_a_refusal_changes_nothing() {
        let mut graph = AliasGraph::default();
        let mut moves = Moves::new();
        let most = ALIASED_USERS_MAX as u128;
        for n in 1..most {
            assert_eq!(graph.join(key(0), key(n), Cause::Alias, &mut moves), Joined::Holds);
        }
        let before = graph.clone();
        moves.clear();
        assert_eq!(graph.join(key(5), key(most), Cause::Alias, &mut moves), Joined::Refused);
        assert_eq!((&graph, moves.len()), (&before, 0));
        // Within it there is room still, and elsewhere.
        assert_eq!(graph.join(key(5), key(6), Cause::Alias, &mut moves), Joined::Holds);
        assert_eq!(graph.join(key(most), key(most + 1), Cause::Alias, &mut moves), Joined::Holds);
    }

    #[test]
    fn two_users_share_a_bounded_number_of_devices_that_join_them() {
        let mut graph = AliasGraph::default();
        let mut moves = Moves::new();
        for n in 0..ALIAS_CAUSES_MAX as u128 {
            assert_eq!(graph.join(key(1), key(2), Cause::Device(key(100 + n)), &mut moves), Joined::Holds);
        }
        assert_eq!(graph.join(key(1), key(2), Cause::Alias, &mut moves), Joined::Refused);
        assert_eq!(graph.part_wholly(key(2), key(1), &mut moves), ALIAS_CAUSES_MAX);
        assert!(graph.is_empty() && graph.persons.is_empty() && graph.neighbours.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// After any joins and partings, by the moves told alone: persons are the components of the edges that are left.
        #[test]
        fn persons_are_the_components_of_what_is_left(
            steps in prop::collection::vec((0..6_u128, 0..6_u128, 0..3_u128, 0..4_u8), 0..24),
        ) {
            let mut graph = AliasGraph::default();
            let mut left: BTreeSet<(u128, u128, u128)> = BTreeSet::new();
            let mut told: BTreeMap<PersonKey, PersonKey> = BTreeMap::new();
            for (a, b, cause, what) in steps {
                let mut moves = Moves::new();
                let (low, high) = (a.min(b), a.max(b));
                let named = if cause == 0 { Cause::Alias } else { Cause::Device(key(100 + cause)) };
                match what {
                    0 => {
                        graph.part(key(a), key(b), named, &mut moves);
                        left.remove(&(low, high, cause));
                    }
                    1 => {
                        let dropped = graph.part_wholly(key(a), key(b), &mut moves);
                        let before = left.len();
                        left.retain(|&(x, y, _)| (x, y) != (low, high));
                        prop_assert_eq!(dropped, before - left.len());
                    }
                    _ => {
                        prop_assert_eq!(graph.join(key(a), key(b), named, &mut moves), Joined::Holds);
                        if a != b {
                            left.insert((low, high, cause));
                        }
                    }
                }
                for (user, person) in moves {
                    prop_assert!(told.insert(user, person) != Some(person), "only changes are told");
                }
                let pairs: Vec<_> = left.iter().map(|&(a, b, _)| (key(a), key(b))).collect();
                for n in 0..6 {
                    let expected = oracle::person(key(n), &pairs);
                    prop_assert_eq!(told.get(&key(n)).copied().unwrap_or(key(n)), expected);
                    prop_assert_eq!(graph.person(key(n)), expected);
                }
                prop_assert_eq!(graph.len(), left.len());
                let mut again = AliasGraph::default();
                for (a, b, cause) in graph.edges() {
                    again.join(a, b, cause, &mut Moves::new());
                }
                prop_assert_eq!(&again, &graph);
            }
        }
    }
}
