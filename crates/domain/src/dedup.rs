//! Which events are known already.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use crate::event::KeySource;
use crate::id::EventKey;
use crate::limits::{CONTENT_DEDUP_WINDOW, DEDUP_WINDOW};
use crate::time::{ReceivedAt, millis};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Event keys seen, one set a day of received time. A set leaves whole when its day is over by [`DEDUP_WINDOW`], so a key
/// is known for at least that and up to a day more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownEvents {
    /// Newest day first.
    days: VecDeque<(i64, HashSet<u64>)>,
    /// Keys made from content, with when they came.
    content: HashMap<u64, ReceivedAt>,
    content_order: VecDeque<(ReceivedAt, u64)>,
}

impl KnownEvents {
    /// Claims a key: true if it was not known, and from now on it is. Call it only for an event that counts if this says
    /// so: an id is never claimed by an event that does not count.
    ///
    /// - `now`: received time of the log so far; never goes back.
    pub fn claim(&mut self, key: EventKey, source: KeySource, now: ReceivedAt) -> bool {
        match source {
            KeySource::Id => self.claim_id(key.0, now),
            KeySource::Content => self.claim_content(key.0, now),
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
        self.days[0].1.insert(key)
    }

    fn claim_content(&mut self, key: u64, now: ReceivedAt) -> bool {
        while let Some(&(seen, old)) = self.content_order.front() {
            if seen.plus(CONTENT_DEDUP_WINDOW) >= now {
                break;
            }
            self.content_order.pop_front();
            self.content.remove(&old);
        }
        if self.content.contains_key(&key) {
            return false;
        }
        self.content.insert(key, now);
        self.content_order.push_back((now, key));
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

    /// Every key by content, oldest first, for a snapshot.
    pub fn content(&self) -> impl Iterator<Item = (ReceivedAt, u64)> + '_ {
        self.content_order.iter().copied()
    }

    /// From a snapshot, in the orders of [`Self::days`] and [`Self::content`].
    pub fn restore(
        days: impl IntoIterator<Item = (i64, HashSet<u64>)>,
        content: impl IntoIterator<Item = (ReceivedAt, u64)>,
    ) -> Self {
        let content_order: VecDeque<_> = content.into_iter().collect();
        let content = content_order.iter().map(|&(at, key)| (key, at)).collect();
        Self { days: days.into_iter().collect(), content, content_order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_known_for_a_week_and_forgotten_after_eight_days() {
        let mut known = KnownEvents::default();
        assert!(known.claim(EventKey(1), KeySource::Id, ReceivedAt(DAY_MS - 1)));
        assert!(!known.claim(EventKey(1), KeySource::Id, ReceivedAt(DAY_MS - 1 + 7 * DAY_MS)));
        assert!(known.claim(EventKey(1), KeySource::Id, ReceivedAt(8 * DAY_MS)));
    }

    #[test]
    fn equal_content_is_known_for_ten_seconds_from_its_first() {
        let mut known = KnownEvents::default();
        assert!(known.claim(EventKey(1), KeySource::Content, ReceivedAt(0)));
        assert!(!known.claim(EventKey(1), KeySource::Content, ReceivedAt(10_000)));
        assert!(known.claim(EventKey(1), KeySource::Content, ReceivedAt(10_001)));
        assert!(known.claim(EventKey(1), KeySource::Id, ReceivedAt(10_001)));
    }

    proptest! {
        /// Within a week, against remembering everything; restored at any moment.
        #[test]
        fn claims_equal_remembering_all(
            steps in prop::collection::vec((0..5_u64, any::<bool>(), 0..4_000_i64), 0..30),
            restart in 0..30_usize,
        ) {
            let mut known = KnownEvents::default();
            let mut all: Vec<(u64, KeySource, i64)> = Vec::new();
            let mut now = 0;
            for (n, (key, by_id, pause)) in steps.into_iter().enumerate() {
                now += pause;
                let source = if by_id { KeySource::Id } else { KeySource::Content };
                let window = if by_id { i64::MAX } else { 10_000 };
                let expected = !all.iter().any(|&(k, s, at)| k == key && s == source && now - at <= window);
                prop_assert_eq!(known.claim(EventKey(key), source, ReceivedAt(now)), expected);
                if expected {
                    all.push((key, source, now));
                }
                if n == restart {
                    let days: Vec<_> = known.days().map(|(day, keys)| (day, keys.clone())).collect();
                    let content: Vec<_> = known.content().collect();
                    known = KnownEvents::restore(days, content);
                }
            }
        }
    }
}
