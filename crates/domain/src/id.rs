//! Who and what: ids as they come from outside (strings), and the keys we compute from them (fixed size, uniform).
//!
//! Keys are BLAKE3, because ids come from strangers: nobody can make two visitors collide on purpose, nor fill one
//! partition by choosing ids. 128 bits for visitors and persons; 64 bits for event ids, where a collision by chance needs
//! 2^32 ids of one project within one partition and a week to become likely, and costs one event.
//!
//! On purpose, 2^32 tries find two event ids of one key. That gains nothing: the second of them is dropped, as if its
//! sender had sent the first one twice, and it takes no memory. To have somebody else's event dropped an id is needed that
//! has that event's key: 2^64 tries for a chosen one, and whoever knows its id can send that itself. Keys that only share
//! some bits are cheap to make; tables of them are therefore never ordered by the keys themselves
//! ([`crate::dedup`]).

use std::fmt;

/// A tenant. 1 to 64 of `a-z 0-9 _ -`, checked by [`ProjectId::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(std::sync::Arc<str>);

impl ProjectId {
    /// The id, if `text` is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_one(text).then(|| Self(text.into()))
    }

    /// Whether `text` is one.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who did it, as the tracker says: a browser or device by its own id, or, where a server sends only a user id, that
/// user as a visitor of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Visitor {
    /// A browser or device with its anonymous id.
    Device(String),
    /// No device is known: the user's server-side self.
    User(String),
}

impl Visitor {
    /// The key that sessions, ownership and order go by.
    #[must_use]
    pub fn key(&self, project: &ProjectId) -> PersonKey {
        match self {
            Self::Device(id) => PersonKey::of_device(project, id),
            Self::User(id) => PersonKey::of_user(project, id),
        }
    }

    /// The id as it came.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Device(id) | Self::User(id) => id,
        }
    }
}

/// Key of a visitor or a user: whoever can be a person. A visitor that nobody identified is a person by its own key; one
/// that was identified belongs to the user's key ([`crate::identity`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonKey(pub u128);

impl PersonKey {
    /// Key of a browser or device.
    #[must_use]
    pub fn of_device(project: &ProjectId, id: &str) -> Self {
        Self(hash(project, b'd', id.as_bytes()))
    }

    /// Key of a user, and of the user's server-side events.
    #[must_use]
    pub fn of_user(project: &ProjectId, id: &str) -> Self {
        Self(hash(project, b'u', id.as_bytes()))
    }

    /// The partition, of `partitions`, that owns this key.
    #[must_use]
    pub fn partition(self, partitions: u32) -> u32 {
        assert!(partitions > 0, "a topic has at least one partition");
        // Multiply-shift of the high bits: uniform, and without the cost of a division.
        let high = (self.0 >> 96) as u64;
        u32::try_from((high * u64::from(partitions)) >> 32).expect("less than `partitions`")
    }
}

impl fmt::Debug for PersonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for PersonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for PersonKey {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(s, 16).map(Self)
    }
}

/// Key of one event within its project: what duplicates are known by, and the last word in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(pub u64);

impl EventKey {
    /// From the id that the tracker gave.
    #[must_use]
    pub fn of_id(project: &ProjectId, id: &str) -> Self {
        Self((hash(project, b'e', id.as_bytes()) >> 64) as u64)
    }

    /// From what was sent, where the tracker gives no id.
    #[must_use]
    pub fn of_content(project: &ProjectId, content: &[u8]) -> Self {
        Self((hash(project, b'c', content) >> 64) as u64)
    }
}

fn hash(project: &ProjectId, kind: u8, id: &[u8]) -> u128 {
    let project = project.as_str().as_bytes();
    // A project id has no NUL, so (project, kind, id) can be read in one way only.
    let parts: [&[u8]; 3] = [project, &[0, kind], id];
    let length = parts.iter().map(|part| part.len()).sum();
    let mut together = [0; TOGETHER_BYTES];
    let hash = match together.get_mut(..length) {
        // Nearly every id is this short, and hashing it in one piece takes half the time of a hasher that is fed.
        Some(together) => {
            let mut rest = &mut *together;
            for part in parts {
                let (here, after) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = after;
            }
            blake3::hash(together)
        }
        None => {
            let mut hasher = blake3::Hasher::new();
            for part in parts {
                hasher.update(part);
            }
            hasher.finalize()
        }
    };
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(first)
}

/// Room for the longest project id and a UUID, twice over.
const TOGETHER_BYTES: usize = 192;

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> ProjectId {
        ProjectId::parse("shop").expect("a project id")
    }

    #[test]
    fn a_device_and_a_user_of_one_name_are_different_persons() {
        assert_ne!(PersonKey::of_device(&shop(), "7"), PersonKey::of_user(&shop(), "7"));
    }

    #[test]
    fn a_key_belongs_to_its_project() {
        let other = ProjectId::parse("sho").expect("a project id");
        assert_ne!(PersonKey::of_user(&shop(), "x"), PersonKey::of_user(&other, "px"));
    }

    #[test]
    fn long_ids_are_hashed_as_short_ones_are() {
        for length in 180..200 {
            let id = "i".repeat(length);
            let whole = [b"shop\0d", id.as_bytes()].concat();
            let expected = u128::from_be_bytes(blake3::hash(&whole).as_bytes()[..16].try_into().expect("16 bytes"));
            assert_eq!(PersonKey::of_device(&shop(), &id), PersonKey(expected), "{length}");
        }
    }

    #[test]
    fn event_keys_tell_projects_kinds_and_ends_of_ids_apart() {
        let other = ProjectId::parse("sho").expect("a project id");
        let keys = [
            EventKey::of_id(&shop(), "a"),
            EventKey::of_id(&shop(), "a\0"),
            EventKey::of_id(&shop(), "A"),
            EventKey::of_content(&shop(), b"a"),
            EventKey::of_id(&other, "a"),
            EventKey::of_id(&other, "p\0ea"),
            EventKey::of_id(&shop(), ""),
        ];
        assert_eq!(std::collections::BTreeSet::from(keys).len(), keys.len());
    }

    #[test]
    fn partitions_are_all_used_and_none_is_out_of_range() {
        let mut seen = [0_u32; 3];
        for n in 0..3000 {
            seen[PersonKey::of_device(&shop(), &n.to_string()).partition(3) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 850), "{seen:?}");
        assert_eq!(PersonKey(u128::MAX).partition(3), 2);
        assert_eq!(PersonKey(0).partition(3), 0);
    }

    #[test]
    fn a_key_reads_back_from_its_text() {
        let key = PersonKey::of_device(&shop(), "a");
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn project_ids_are_short_and_plain() {
        assert!(ProjectId::parse("").is_none());
        assert!(ProjectId::parse("Shop").is_none());
        assert!(ProjectId::parse("a/b").is_none());
        assert!(ProjectId::parse(&"a".repeat(64)).is_some());
        assert!(ProjectId::parse(&"a".repeat(65)).is_none());
    }
}
