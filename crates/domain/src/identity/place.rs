//! Where one key stands in its person: below whom, and what that says about users.
//!
//! Persons are trees. A device hangs below its user, a user below the user that its person is named by; so a key's parent
//! is always of a higher kind or a lesser key, and no order of events can make a ring. Each key has one place where its
//! parent is decided, and it alone tells the parent: over a log that keeps order, a parent ends up with exactly what the
//! keys below it have, wherever each of them lives.

use std::collections::BTreeSet;

use super::aliases::Cause;
use crate::id::PersonKey;
use crate::limits::ALIASES_OF_DEVICE_MAX;

/// What is known of one key, at the place that owns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Of a device: its user, by what happened on it.
    pub link: Option<PersonKey>,
    /// Of a device: users that aliases say it is.
    pub aliases: BTreeSet<PersonKey>,
    /// Of a user: the person that the project's [`super::aliases::AliasGraph`] says it is.
    pub person: Option<PersonKey>,
}

/// What a device says about users, for the project's graph: in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Whether they are one person from now on, or no longer.
    pub holds: bool,
    /// The one.
    pub a: PersonKey,
    /// The other.
    pub b: PersonKey,
    /// Why.
    pub cause: Cause,
}

impl Place {
    /// Below whom the key is. `None`: it is a person by itself.
    #[must_use]
    pub fn parent(&self) -> Option<PersonKey> {
        self.link.or_else(|| self.aliases.first().copied()).or(self.person)
    }

    /// Whether nothing is known: such a place need not be kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The device's user is this one from now on; `None`: nobody.
    pub fn on_link(&mut self, device: PersonKey, user: Option<PersonKey>) -> Vec<Edge> {
        self.change(device, |place| place.link = user)
    }

    /// An alias says that the device is this user's. Said again, it mends what was parted since.
    ///
    /// `None`: more users are said to be this device than [`ALIASES_OF_DEVICE_MAX`]; nothing was changed.
    pub fn on_alias(&mut self, device: PersonKey, user: PersonKey) -> Option<Vec<Edge>> {
        if !self.aliases.contains(&user) && self.aliases.len() >= ALIASES_OF_DEVICE_MAX {
            return None;
        }
        let mut edges = self.change(device, |place| {
            place.aliases.insert(user);
        });
        let base = self.parent().expect("it has an alias at least");
        if edges.is_empty() && base != user {
            let (a, b) = (base.min(user), base.max(user));
            edges.push(Edge { holds: true, a, b, cause: Cause::Device(device) });
        }
        Some(edges)
    }

    /// The device is a person of its own from now on.
    pub fn on_parted(&mut self, device: PersonKey) -> Vec<Edge> {
        self.change(device, |place| {
            place.link = None;
            place.aliases.clear();
        })
    }

    /// The user is this person from now on (itself: it stands alone).
    pub fn on_person(&mut self, user: PersonKey, person: PersonKey) {
        assert!(person <= user, "a person is named by its least user, {person} is above {user}");
        self.person = (person != user).then_some(person);
    }

    fn change(&mut self, device: PersonKey, change: impl FnOnce(&mut Self)) -> Vec<Edge> {
        let before = self.edges();
        change(self);
        let after = self.edges();
        let edge = |holds| move |&(a, b): &(_, _)| Edge { holds, a, b, cause: Cause::Device(device) };
        // What holds comes first, so that users who stay one person are not parted for a moment.
        let new = after.difference(&before).map(edge(true));
        new.chain(before.difference(&after).map(edge(false))).collect()
    }

    /// As pairs without a direction: the same two users are the same edge, whichever of them is the device's.
    fn edges(&self) -> BTreeSet<(PersonKey, PersonKey)> {
        let Some(base) = self.link.or_else(|| self.aliases.first().copied()) else { return BTreeSet::new() };
        self.aliases.iter().filter(|&&user| user != base).map(|&user| (base.min(user), base.max(user))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: PersonKey = PersonKey(90);
    const A: PersonKey = PersonKey(1);
    const B: PersonKey = PersonKey(2);

    fn edge(holds: bool, a: PersonKey, b: PersonKey) -> Edge {
        Edge { holds, a, b, cause: Cause::Device(D) }
    }

    #[test]
    fn an_alias_of_an_unknown_device_links_it_and_of_a_known_one_joins_the_users() {
        let mut place = Place::default();
        assert_eq!(place.on_alias(D, B), Some(vec![]));
        assert_eq!(place.parent(), Some(B));
        assert_eq!(place.on_link(D, Some(A)), [edge(true, A, B)]);
        assert_eq!(place.parent(), Some(A));
        assert_eq!(place.on_parted(D), [edge(false, A, B)]);
        assert!(place.is_empty() && place.parent().is_none());
    }

    #[test]
    fn the_users_that_a_device_joins_follow_its_user() {
        let mut place = Place::default();
        assert_eq!(place.on_link(D, Some(A)), []);
        assert_eq!(place.on_alias(D, A), Some(vec![]));
        assert_eq!(place.on_link(D, Some(B)), [edge(true, A, B)]);
        assert_eq!(place.on_alias(D, A), Some(vec![edge(true, A, B)]), "said again, it is told again");
        assert_eq!(place.on_alias(D, B), Some(vec![]));
        assert_eq!(place.on_link(D, Some(A)), [], "the two are the same whichever is the device's");
        assert_eq!(place.on_parted(D), [edge(false, A, B)]);
        assert_eq!(place.on_link(D, Some(B)), []);
        assert_eq!(place.on_alias(D, A), Some(vec![edge(true, A, B)]));
        assert_eq!(place.on_link(D, None), [edge(false, A, B)]);
        assert_eq!(place.parent(), Some(A));
    }

    #[test]
    fn a_device_is_said_to_be_a_bounded_number_of_users() {
        let mut place = Place::default();
        for n in 0..ALIASES_OF_DEVICE_MAX as u128 {
            assert!(place.on_alias(D, PersonKey(n)).is_some());
        }
        let before = place.clone();
        assert_eq!(place.on_alias(D, PersonKey(1_000_000)), None);
        assert_eq!(place, before);
        assert!(place.on_alias(D, PersonKey(7)).is_some(), "one that is known may be said again");
    }
}
