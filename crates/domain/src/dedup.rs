//! Which events are known already.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use crate::event::KeySource;
use crate::id::EventKey;
use crate::limits::{CONTENT_DEDUP_MEMORY, CONTENT_DEDUP_WINDOW, DEDUP_WINDOW};
use crate::time::{ReceivedAt, millis};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Two events of one key in one slot of received time are never further apart than [`CONTENT_DEDUP_WINDOW`], so a slot
/// has at most one of them, and all that can be near a time lies in its slot and the two beside it.
const SLOT_MS: i64 = CONTENT_DEDUP_WINDOW.as_millis() as i64 + 1;

/// Event keys seen.
///
/// Those by id are one set a day of the log's time. A set leaves whole when its day is over by [`DEDUP_WINDOW`], so a
/// key is known for at least that and up to a day more. Those by content are known with the received time of the event
/// that counted, for [`CONTENT_DEDUP_MEMORY`] of the log's time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownEvents {
    /// Newest day first.
    days: VecDeque<(i64, HashSet<u64>)>,
    /// By key and slot, the received time of the event that counted.
    content: HashMap<(u64, i64), ReceivedAt>,
    /// The same, in the order in which they were claimed.
    content_order: VecDeque<ContentClaim>,
    /// What was claimed since it was last asked for.
    since: Claimed,
}

/// Keys claimed since the last snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// By id, with their day; oldest day first.
    pub ids: Vec<(i64, Vec<u64>)>,
    /// By content, in the order in which they were claimed.
    pub content: Vec<ContentClaim>,
}

/// An event without an id that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentClaim {
    /// Its key.
    pub key: u64,
    /// When it was received.
    pub received: ReceivedAt,
    /// The log's time when it was claimed; not before `received`.
    pub claimed: ReceivedAt,
}

impl ContentClaim {
    fn slot(&self) -> (u64, i64) {
        (self.key, self.received.0.div_euclid(SLOT_MS))
    }
}

impl KnownEvents {
    /// Claims a key: true if it was not known, and from now on it is. Call it only for an event that counts if this says
    /// so: an id is never claimed by an event that does not count.
    ///
    /// An event by content is known if one of its key has counted that was received within [`CONTENT_DEDUP_WINDOW`]
    /// before or after it. Copies of one record carry one received time, however late and in whatever order they come;
    /// two real events further apart both count, even when an outage brings them into the log together.
    ///
    /// - `received`: of the event's own record.
    /// - `now`: received time of the log so far; never goes back, and is not before `received`.
    pub fn claim(&mut self, key: EventKey, source: KeySource, received: ReceivedAt, now: ReceivedAt) -> bool {
        match source {
            KeySource::Id => self.claim_id(key.0, now),
            KeySource::Content => self.claim_content(ContentClaim { key: key.0, received, claimed: now }),
        }
    }

    fn claim_id(&mut self, key: u64, now: ReceivedAt) -> bool {
        let today = now.0.div_euclid(DAY_MS);
        if self.days.front().is_none_or(|(day, _)| *day < today) {
            self.days.push_front((today, HashSet::new()));
            let oldest = today - millis(DEDUP_WINDOW) / DAY_MS;
            while self.days.back().is_some_and(|(day, _)| *day < oldest) {
                self.days.pop_back();
            }
        }
        if self.days.iter().skip(1).any(|(_, keys)| keys.contains(&key)) {
            return false;
        }
        let is_new = self.days[0].1.insert(key);
        if is_new {
            let day = self.days[0].0;
            match self.since.ids.last_mut() {
                Some((last, keys)) if *last == day => keys.push(key),
                _ => self.since.ids.push((day, vec![key])),
            }
        }
        is_new
    }

    fn claim_content(&mut self, claim: ContentClaim) -> bool {
        while let Some(old) = self.content_order.front() {
            if old.claimed.plus(CONTENT_DEDUP_MEMORY) >= claim.claimed {
                break;
            }
            self.content.remove(&old.slot());
            self.content_order.pop_front();
        }
        let (key, slot) = claim.slot();
        let near = |slot: i64| {
            let counted = self.content.get(&(key, slot));
            counted.is_some_and(|counted| counted.0.abs_diff(claim.received.0) < SLOT_MS as u64)
        };
        if near(slot - 1) || near(slot) || near(slot + 1) {
            return false;
        }
        self.content.insert((key, slot), claim.received);
        self.content_order.push_back(claim);
        self.since.content.push(claim);
        true
    }

    /// Keys known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.days.iter().map(|(_, keys)| keys.len()).sum::<usize>() + self.content.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key by id with its day, for a snapshot; newest day first.
    pub fn days(&self) -> impl Iterator<Item = (i64, &HashSet<u64>)> {
        self.days.iter().map(|(day, keys)| (*day, keys))
    }

    /// Every key by content, in the order in which they were claimed, for a snapshot.
    pub fn content(&self) -> impl Iterator<Item = ContentClaim> + '_ {
        self.content_order.iter().copied()
    }

    /// What was claimed since this was last called, or since the snapshot that it came from. Some of it may be forgotten
    /// already.
    pub fn take_claimed(&mut self) -> Claimed {
        std::mem::take(&mut self.since)
    }

    /// All that is known counts as claimed just now.
    pub fn start_over(&mut self) {
        let ids = self.days.iter().rev().map(|(day, keys)| (*day, keys.iter().copied().collect())).collect();
        self.since = Claimed { ids, content: self.content().collect() };
    }

    /// How many keys by content are known.
    #[must_use]
    pub fn content_len(&self) -> usize {
        self.content_order.len()
    }

    /// From a snapshot, in the orders of [`Self::days`] and [`Self::content`].
    pub fn restore(
        days: impl IntoIterator<Item = (i64, HashSet<u64>)>,
        content: impl IntoIterator<Item = ContentClaim>,
    ) -> Self {
        let content_order: VecDeque<_> = content.into_iter().collect();
        let content = content_order.iter().map(|claim| (claim.slot(), claim.received)).collect();
        Self { days: days.into_iter().collect(), content, content_order, since: Claimed::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A log's time, and a claim at it of a record that came without delay.
    fn claim(known: &mut KnownEvents, key: u64, source: KeySource, at: i64) -> bool {
        known.claim(EventKey(key), source, ReceivedAt(at), ReceivedAt(at))
    }

    #[test]
    fn an_id_is_known_for_a_week_and_forgotten_after_eight_days() {
        let mut known = KnownEvents::default();
        assert!(claim(&mut known, 1, KeySource::Id, DAY_MS - 1));
        assert!(!claim(&mut known, 1, KeySource::Id, DAY_MS - 1 + 7 * DAY_MS));
        assert!(claim(&mut known, 1, KeySource::Id, 8 * DAY_MS));
    }

    #[test]
    fn equal_content_is_known_for_ten_seconds_from_its_first() {
        let mut known = KnownEvents::default();
        assert!(claim(&mut known, 1, KeySource::Content, 0));
        assert!(!claim(&mut known, 1, KeySource::Content, 10_000));
        assert!(claim(&mut known, 1, KeySource::Content, 10_001));
        assert!(claim(&mut known, 1, KeySource::Id, 10_001));
    }

    #[test]
    fn a_copy_that_an_outage_held_up_is_known_by_its_own_time() {
        let mut known = KnownEvents::default();
        let mut late =
            |received, now| known.claim(EventKey(1), KeySource::Content, ReceivedAt(received), ReceivedAt(now));
        assert!(late(0, 0));
        assert!(late(60_000, 60_000), "a minute later it is another event");
        assert!(!late(0, 61_000), "the first one's copy");
        assert!(!late(60_000, 61_000), "the second one's");
        // Both sides of the window, from a record that came before its time.
        assert!(late(40_000, 61_000) && !late(30_000, 61_000) && !late(50_000, 61_000) && late(29_999, 61_000));
    }

    #[test]
    fn equal_content_is_forgotten_a_day_after_it_was_claimed() {
        let mut known = KnownEvents::default();
        let mut claim = |now| known.claim(EventKey(1), KeySource::Content, ReceivedAt(0), ReceivedAt(now));
        assert!(claim(5_000));
        assert!(!claim(5_000 + DAY_MS));
        assert!(claim(5_001 + DAY_MS));
    }

    proptest! {
        /// Ids within a week, against remembering everything; restored at any moment.
        #[test]
        fn ids_claimed_equal_remembering_all(
            steps in prop::collection::vec((0..5_u64, 0..4_000_i64), 0..30),
            restart in 0..30_usize,
        ) {
            let mut known = KnownEvents::default();
            let mut all = Vec::new();
            let mut now = 0;
            for (n, (key, pause)) in steps.into_iter().enumerate() {
                now += pause;
                let expected = !all.contains(&key);
                prop_assert_eq!(claim(&mut known, key, KeySource::Id, now), expected);
                all.push(key);
                if n == restart {
                    known = restored(&known);
                }
            }
        }

        /// Content, against looking through all that counted: records that come up to a minute, or more than a day, after
        /// they were received, in any order. Times are whole seconds and their neighbours, so that both ends of the
        /// window and of the memory are met often.
        #[test]
        fn content_claimed_equals_looking_through_all_that_counted(
            steps in prop::collection::vec((0..2_u64, 0..15_i64, -1..=1_i64, 0..60_i64, 0..40_u8), 0..60),
            restart in 0..60_usize,
        ) {
            let mut known = KnownEvents::default();
            let mut counted: Vec<ContentClaim> = Vec::new();
            let mut now = 0;
            for (n, (key, pause, jitter, delay, day)) in steps.into_iter().enumerate() {
                now += pause * 1_000 + if day == 0 { DAY_MS - 20_000 } else { 0 };
                let claim = ContentClaim {
                    key,
                    received: ReceivedAt((now - delay * 1_000 + jitter).min(now)),
                    claimed: ReceivedAt(now),
                };
                let expected = !counted.iter().any(|old| {
                    old.key == key
                        && now - old.claimed.0 <= DAY_MS
                        && (old.received.0 - claim.received.0).abs() <= 10_000
                });
                let got = known.claim(EventKey(key), KeySource::Content, claim.received, claim.claimed);
                prop_assert_eq!(got, expected);
                if expected {
                    counted.push(claim);
                }
                if n == restart {
                    known = restored(&known);
                }
            }
            let remembered = counted.iter().filter(|old| now - old.claimed.0 <= DAY_MS).count();
            prop_assert!(known.len() <= counted.len() && known.len() >= remembered);
        }
    }

    fn restored(known: &KnownEvents) -> KnownEvents {
        let days: Vec<_> = known.days().map(|(day, keys)| (day, keys.clone())).collect();
        let content: Vec<_> = known.content().collect();
        KnownEvents::restore(days, content)
    }
}
