//! Who a visitor is: alone a person of its own, identified the user's person.
//!
//! - An event that names a user is that user's, for good, whatever becomes known later.
//! - A visitor's user is the one that its **earliest** event names (in the order of events, not of arrival): all its events
//!   without a user, past and later, are that user's. An earlier one that arrives later moves the visitor.
//! - Two known users never become one because they share a device; only an explicit alias does that ([`aliases`]). An alias
//!   that names a device makes it the user's ([`place`]).
//! - What was joined wrongly is parted by a command: a visitor is a person of its own then until an event that comes after
//!   the command names a user again; two users are parted until an alias joins them again.
//! - A person is what is connected by these links ([`oracle`]). Repeats, chains and rings are harmless.

pub mod aliases;
pub mod place;

use crate::event::OrderKey;
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

/// The user of a visitor, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whose the visitor is.
    pub user: PersonKey,
    /// The earliest event known that names a user.
    pub since: OrderKey,
}

/// What an event changes about its visitor's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identified {
    /// Nothing.
    Known,
    /// It is known now: everything of the visitor moves there, the past included.
    Joined,
    /// It is another than was thought, since this event is earlier than those that came before it.
    Moved {
        /// Whose the visitor was so far.
        from: PersonKey,
    },
}

/// Learns a device's user from an event that names one. The same events give the same user in any order.
///
/// - `link`: the device's user so far. (A user's server-side self is that user and has no link.)
pub fn on_event(user: PersonKey, order: OrderKey, link: &mut Option<Link>) -> Identified {
    let before = *link;
    if before.is_some_and(|link| link.since <= order) {
        return Identified::Known;
    }
    *link = Some(Link { user, since: order });
    match before {
        None => Identified::Joined,
        Some(link) if link.user == user => Identified::Known,
        Some(link) => Identified::Moved { from: link.user },
    }
}

/// The key that an event's row and all that follows from it are kept under: that of the user it names, or else of its
/// visitor. So what becomes known of the visitor later moves its events without a rewrite, and only those that are its.
#[must_use]
pub fn stored_under(visitor: PersonKey, user: Option<PersonKey>) -> PersonKey {
    user.unwrap_or(visitor)
}

/// The meaning, without any thought of speed.
pub mod oracle {
    use super::{OrderKey, PersonKey};

    /// The user of a device whose events named these, by looking at them all.
    #[must_use]
    pub fn user(named: &[(OrderKey, PersonKey)]) -> Option<PersonKey> {
        named.iter().min().map(|&(_, user)| user)
    }

    /// The least key that is connected with `key` by pairs, by searching again until nothing new is found.
    #[must_use]
    pub fn person(key: PersonKey, pairs: &[(PersonKey, PersonKey)]) -> PersonKey {
        let mut found = vec![key];
        loop {
            let next = pairs.iter().find_map(|&(a, b)| match (found.contains(&a), found.contains(&b)) {
                (true, false) => Some(b),
                (false, true) => Some(a),
                (true, true) | (false, false) => None,
            });
            match next {
                Some(key) => found.push(key),
                None => return *found.iter().min().expect("the key itself"),
            }
        }
    }
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
    use crate::id::EventKey;
    use crate::time::EventTime;
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

    fn order(time: i64, key: u64) -> OrderKey {
        OrderKey { time: EventTime(time), sequence: 0, key: EventKey(key) }
    }

    #[test]
    fn the_earliest_event_that_names_a_user_gives_the_visitor_away() {
        let mut link = None;
        assert_eq!(on_event(A, order(5, 0), &mut link), Identified::Joined);
        assert_eq!(on_event(B, order(6, 0), &mut link), Identified::Known);
        assert_eq!(on_event(B, order(5, 1), &mut link), Identified::Known);
        assert_eq!(on_event(B, order(4, 0), &mut link), Identified::Moved { from: A });
        assert_eq!(on_event(B, order(3, 0), &mut link), Identified::Known);
        assert_eq!(link, Some(Link { user: B, since: order(3, 0) }));
    }

    #[test]
    fn an_event_is_kept_under_the_user_it_names() {
        assert_eq!((stored_under(V, Some(A)), stored_under(V, None)), (A, V));
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
        fn a_visitors_user_does_not_depend_on_arrival(named in prop::collection::vec((0..4_i64, 0..3_u64, 1..4_u128), 0..8)) {
            let named: Vec<_> = named.into_iter().map(|(time, key, user)| (order(time, key), PersonKey(user))).collect();
            // Of two events with one key only one counts.
            let mut counted: Vec<(OrderKey, PersonKey)> = Vec::new();
            for (order, user) in named {
                if counted.iter().all(|(known, _)| *known != order) {
                    counted.push((order, user));
                }
            }
            let mut link = None;
            let mut told = None;
            for &(order, user) in &counted {
                match on_event(user, order, &mut link) {
                    Identified::Known => {}
                    Identified::Joined => prop_assert_eq!(told.replace(user), None),
                    Identified::Moved { from } => prop_assert_eq!(told.replace(user), Some(from)),
                }
            }
            prop_assert_eq!(told, oracle::user(&counted));
            prop_assert_eq!(link.map(|link| link.user), told);
        }

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
