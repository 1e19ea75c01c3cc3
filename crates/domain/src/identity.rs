//! Who a visitor is: alone a person of its own, identified the user's person.
//!
//! - The first user that a visitor is seen with is the visitor's user for good: all its events without a user, past and
//!   later, are that user's.
//! - An event of the same visitor that names another user belongs to that other user alone. Two known users never
//!   become one because they share a device; only an explicit alias does that.

use crate::id::PersonKey;

/// Ids that say nobody: a variable that was not filled in. Compared without case and surrounding blanks.
///
/// # Source
/// What PostHog and others refuse, and what the captured trackers were seen to send when called without an id.
const REFUSED: [&str; 24] = [
    "",
    "0",
    "-1",
    "anonymous",
    "anonymous_id",
    "anonymousid",
    "distinct_id",
    "distinctid",
    "email",
    "false",
    "guest",
    "id",
    "nan",
    "nil",
    "none",
    "not_authenticated",
    "null",
    "true",
    "undefined",
    "unknown",
    "user",
    "user_id",
    "userid",
    "[object object]",
];

/// Whether an id is a placeholder that would make strangers one person. The event is kept, without that id.
#[must_use]
pub fn is_refused(id: &str) -> bool {
    let id = id.trim().trim_matches(['"', '\'']);
    id.len() <= 20 && REFUSED.iter().any(|refused| refused.eq_ignore_ascii_case(id))
        || id == "00000000-0000-0000-0000-000000000000"
}

/// What an event tells about its visitor's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identified {
    /// Nothing new. The event belongs to this person (merges elsewhere may carry it on).
    Known {
        /// Whose event it is.
        person: PersonKey,
    },
    /// The visitor's first user: everything of the visitor moves there, the past included.
    Joined {
        /// The user's person, whose the event is too.
        person: PersonKey,
    },
}

/// Settles whose an event is, and learns the visitor's user from it.
///
/// - `visitor`: key of the event's visitor.
/// - `user`: key of the user that the event names, if any.
/// - `link`: the visitor's user so far; set by the first event that names one.
pub fn on_event(visitor: PersonKey, user: Option<PersonKey>, link: &mut Option<PersonKey>) -> Identified {
    match (user, *link) {
        (None, None) => Identified::Known { person: visitor },
        (None, Some(linked)) => Identified::Known { person: linked },
        // A server-side visitor is its user: there is nothing to join.
        (Some(user), _) if user == visitor => Identified::Known { person: user },
        (Some(user), None) => {
            *link = Some(user);
            Identified::Joined { person: user }
        }
        (Some(user), Some(_)) => Identified::Known { person: user },
    }
}

/// The key that an event's row is stored under: its visitor's, so that a later identification moves it without a rewrite;
/// or its user's, when that is not the visitor's own user, since it must not move with the visitor.
#[must_use]
pub fn stored_under(visitor: PersonKey, person: PersonKey, link: Option<PersonKey>) -> PersonKey {
    if person == visitor || link == Some(person) { visitor } else { person }
}

/// Which keys are one person, from pairs "this key's person is that key's", with any number of hops.
#[derive(Debug, Clone, Default)]
pub struct PersonMap {
    parents: hashbrown::HashMap<PersonKey, PersonKey>,
}

impl PersonMap {
    /// Adds one pair. Cycles and repetitions change nothing.
    pub fn join(&mut self, from: PersonKey, to: PersonKey) {
        let (from, to) = (self.person(from), self.person(to));
        if from != to {
            self.parents.insert(from, to);
        }
    }

    /// The person of a key: the key itself, unless it was joined to another.
    #[must_use]
    pub fn person(&self, key: PersonKey) -> PersonKey {
        let mut at = key;
        while let Some(&next) = self.parents.get(&at) {
            at = next;
        }
        at
    }

    /// Points every key straight at its person, so that later look-ups take one step.
    pub fn flatten(&mut self) {
        let keys: Vec<_> = self.parents.keys().copied().collect();
        for key in keys {
            let person = self.person(key);
            self.parents.insert(key, person);
        }
    }

    /// Every key that was joined to another, with its person.
    pub fn iter(&self) -> impl Iterator<Item = (PersonKey, PersonKey)> + '_ {
        self.parents.keys().map(|&key| (key, self.person(key)))
    }

    /// How many keys were joined to others.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether nobody was joined to anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V: PersonKey = PersonKey(1);
    const A: PersonKey = PersonKey(10);
    const B: PersonKey = PersonKey(11);

    #[test]
    fn placeholders_are_refused_and_real_ids_are_not() {
        for id in ["", "  ", "NULL", "undefined", "NaN", "[object Object]", "\"\"", "Guest", "0"] {
            assert!(is_refused(id), "{id}");
        }
        for id in ["7", "00", "nully", "a@b.example", "user_0001"] {
            assert!(!is_refused(id), "{id}");
        }
    }

    #[test]
    fn the_first_user_takes_the_visitor_and_a_second_only_its_own_events() {
        let mut link = None;
        assert_eq!(on_event(V, None, &mut link), Identified::Known { person: V });
        assert_eq!(on_event(V, Some(A), &mut link), Identified::Joined { person: A });
        assert_eq!(on_event(V, Some(A), &mut link), Identified::Known { person: A });
        assert_eq!(on_event(V, Some(B), &mut link), Identified::Known { person: B });
        assert_eq!(on_event(V, None, &mut link), Identified::Known { person: A });
        assert_eq!(stored_under(V, A, link), V);
        assert_eq!(stored_under(V, B, link), B);
        assert_eq!(stored_under(V, V, None), V);
    }

    #[test]
    fn a_user_without_a_device_has_nothing_to_join() {
        let mut link = None;
        assert_eq!(on_event(A, Some(A), &mut link), Identified::Known { person: A });
        assert_eq!(link, None);
    }

    /// Persons as connected components, by searching again until nothing changes.
    fn components(pairs: &[(u128, u128)]) -> Vec<u128> {
        let mut label: Vec<u128> = (0..6).collect();
        loop {
            let before = label.clone();
            for &(a, b) in pairs {
                let low = label[a as usize].min(label[b as usize]);
                label[a as usize] = low;
                label[b as usize] = low;
            }
            if label == before {
                return label;
            }
        }
    }

    proptest! {
        #[test]
        fn persons_are_the_connected_components(pairs in prop::collection::vec((0..6_u128, 0..6_u128), 0..12), flat: bool) {
            let mut map = PersonMap::default();
            for &(a, b) in &pairs {
                map.join(PersonKey(a), PersonKey(b));
            }
            if flat {
                map.flatten();
            }
            let expected = components(&pairs);
            for a in 0..6 {
                for b in 0..6 {
                    let same = map.person(PersonKey(a)) == map.person(PersonKey(b));
                    prop_assert_eq!(same, expected[a as usize] == expected[b as usize]);
                }
            }
        }
    }
}
