//! Audiences: a rule, and the stays of persons in it.
//!
//! A *stay* is a stretch of event time during which the rule holds for a person. Its end is known with its last event: the
//! window runs out then, unless a further event extends it. So stays are a function of the events alone, whatever order
//! they arrived in; a timer is needed only to tell subscribers that somebody has left.

use std::borrow::Cow;
use std::time::Duration;

use hashbrown::HashSet;

use crate::id::{EventKey, PersonKey};
use crate::time::{EventTime, ReceivedAt, Watermark};

/// Who belongs to an audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudienceRule {
    /// At least `count_min` events named `event` within the last `window`: at time T those with `T - window < time <= T`
    /// count.
    EventCount {
        /// Name of the event.
        event: String,
        /// How many, 1 to [`COUNT_MAX`].
        count_min: u32,
        /// Within which time, 1 min to 400 days.
        window: Duration,
    },
}

/// Largest count in a rule: a person's state holds at least so many times.
pub const COUNT_MAX: u32 = 1_000;

/// Times held for one person and audience at most; above it the oldest half leaves.
const TIMES_MAX: usize = 8 * COUNT_MAX as usize;

/// One stay: from `entered` on, until just before `left`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stay {
    /// When the rule began to hold.
    pub entered: EventTime,
    /// When it stops to hold if nothing extends it.
    pub left: EventTime,
}

/// One event that an audience looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// When it happened.
    pub time: EventTime,
    /// Which it is.
    pub key: EventKey,
    /// From whom it is known: the key itself, or one that is the same person and hands on what it has.
    pub via: PersonKey,
    /// Received time of the log when it was added; from it on it is held.
    pub received: ReceivedAt,
}

impl Seen {
    /// Which event it is, whoever it is known from.
    fn event(&self) -> (EventTime, EventKey) {
        (self.time, self.key)
    }
}

/// What one key has done that one audience looks at, and those keys that are the same person and hand on to it.
///
/// A key that is part of another's person is *hidden*: it holds what it has, hands it on, and is in no audience by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// In order of time, event and whom it is known from. An event that is known from several counts once.
    seen: Vec<Seen>,
    /// The first stay began then already, by events that are no longer held.
    floor: Option<EventTime>,
    /// Stays as told, if they may have changed since.
    told: Option<Vec<Stay>>,
    /// It is part of another person.
    hidden: bool,
    /// Whether subscribers were told that the person is in.
    pub is_in: bool,
}

/// What subscribers are to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The person is in, since then.
    Entered(EventTime),
    /// The person is out, since then.
    Left(EventTime),
}

impl Membership {
    /// Adds one event, unless it is held from the same key already. Order of arrival does not matter. Returns whether it was
    /// held from nobody.
    pub fn on_event(&mut self, event: Seen, rule: &AudienceRule) -> bool {
        let place = self.seen.partition_point(|seen| (seen.event(), seen.via) < (event.event(), event.via));
        if self.seen.get(place).is_some_and(|seen| (seen.event(), seen.via) == (event.event(), event.via)) {
            return false;
        }
        let known = |place: Option<&Seen>| place.is_some_and(|seen| seen.event() == event.event());
        let is_new = !known(self.seen.get(place)) && !known(place.checked_sub(1).and_then(|n| self.seen.get(n)));
        self.remember(rule);
        self.seen.insert(place, event);
        is_new
    }

    /// Takes over what another key has, or what the store knows of this one's past. Returns those that were held from
    /// nobody.
    pub fn merge(&mut self, other: impl IntoIterator<Item = Seen>, rule: &AudienceRule) -> Vec<Seen> {
        self.remember(rule);
        let held: HashSet<_> = self.seen.iter().map(Seen::event).collect();
        let mut other: Vec<Seen> = other.into_iter().collect();
        self.seen.extend(other.iter().copied());
        self.seen.sort_unstable();
        self.seen.dedup_by_key(|seen| (seen.event(), seen.via));
        other.sort_unstable();
        other.dedup_by_key(|seen| seen.event());
        other.retain(|seen| !held.contains(&seen.event()));
        other
    }

    /// Lets go of what is known from `via`: of all of it, or of these events. Returns what is held from nobody any longer.
    pub fn withdraw(
        &mut self,
        via: PersonKey,
        events: Option<&HashSet<(EventTime, EventKey)>>,
        rule: &AudienceRule,
    ) -> Vec<Seen> {
        self.remember(rule);
        let goes = |seen: &Seen| seen.via == via && events.is_none_or(|events| events.contains(&seen.event()));
        let (mut gone, left): (Vec<Seen>, Vec<Seen>) = self.seen.iter().partition(|seen| goes(seen));
        self.seen = left;
        if !gone.is_empty() {
            // It may have begun by what is gone.
            self.floor = None;
        }
        let left = |seen: &Seen| self.seen.binary_search_by_key(&seen.event(), Seen::event).is_ok();
        gone.retain(|seen| !left(seen));
        gone
    }

    /// The key is part of another person from now on, or a person by itself again.
    pub fn hide(&mut self, hidden: bool, rule: &AudienceRule) {
        if self.hidden != hidden {
            self.remember(rule);
            self.hidden = hidden;
        }
    }

    /// Whether the key is part of another person.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// Stays to take back and to put in since this was last asked.
    pub fn changes(&mut self, rule: &AudienceRule) -> (Vec<Stay>, Vec<Stay>) {
        let Some(mut back) = self.told.take() else { return (Vec::new(), Vec::new()) };
        let mut put = self.stays(rule);
        // Both are sorted and without repetitions.
        let same: Vec<Stay> = back.iter().copied().filter(|stay| put.binary_search(stay).is_ok()).collect();
        back.retain(|stay| same.binary_search(stay).is_err());
        put.retain(|stay| same.binary_search(stay).is_err());
        self.stay_bounded(rule);
        (back, put)
    }

    /// What subscribers are to be told now that `watermark` is reached, and when to ask again although nothing arrives.
    pub fn on_time(&mut self, rule: &AudienceRule, watermark: Watermark) -> (Option<Change>, Option<EventTime>) {
        let last = self.stays(rule).last().copied();
        let current = last.filter(|stay| stay.left.0 > watermark.0);
        let change = match (self.is_in, current, last) {
            (false, Some(stay), _) => Some(Change::Entered(stay.entered)),
            (true, None, Some(stay)) => Some(Change::Left(stay.left)),
            // All that made the person a member is gone (it moved to another person).
            (true, None, None) => Some(Change::Left(EventTime(watermark.0))),
            (false, None, _) | (true, Some(_), _) => None,
        };
        self.is_in = current.is_some();
        (change, current.map(|stay| stay.left))
    }

    /// Lets go of events whose stays are over, by the watermark, and that came longer than `hold` ago. Nothing may wait to
    /// be told.
    pub fn evict(&mut self, rule: &AudienceRule, watermark: Watermark, now: ReceivedAt, hold: Duration) {
        let AudienceRule::EventCount { window, .. } = rule;
        let over = |seen: &Seen| seen.time.plus(*window).0 < watermark.0 && seen.received.plus(hold) < now;
        let leading = self.seen.iter().take_while(|seen| over(seen)).count();
        // Cut only where no window reaches or touches the next event (a stay that ends where another begins is one with
        // it), so that the stays of what is left do not change.
        let apart = |n: &usize| *n == self.seen.len() || self.seen[*n - 1].time.plus(*window) < self.seen[*n].time;
        if let Some(n) = (1..=leading).rev().find(apart) {
            self.seen.drain(..n);
            self.floor = None;
        }
    }

    /// What is held, for a snapshot or for the key that this one hands on to.
    #[must_use]
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// See [`Self::restore`].
    #[must_use]
    pub fn floor(&self) -> Option<EventTime> {
        self.floor
    }

    /// Whether nothing is held and nothing to be told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.told.is_none() && !self.is_in
    }

    /// From a snapshot.
    #[must_use]
    pub fn restore(seen: Vec<Seen>, floor: Option<EventTime>, hidden: bool, is_in: bool) -> Self {
        Self { seen, floor, told: None, hidden, is_in }
    }

    /// The stays, in order.
    #[must_use]
    pub fn stays(&self, rule: &AudienceRule) -> Vec<Stay> {
        if self.hidden {
            return Vec::new();
        }
        let AudienceRule::EventCount { count_min, window, .. } = rule;
        let behind = *count_min as usize - 1;
        let mut stays: Vec<Stay> = Vec::new();
        let once = self.once();
        for (last, first) in once.iter().skip(behind).zip(&*once) {
            let (entered, left) = (last.time, first.time.plus(*window));
            if left <= entered {
                continue;
            }
            match stays.last_mut() {
                Some(stay) if stay.left >= entered => stay.left = stay.left.max(left),
                _ => stays.push(Stay { entered, left }),
            }
        }
        if let (Some(floor), Some(first)) = (self.floor, stays.first_mut()) {
            first.entered = first.entered.min(floor);
        }
        stays
    }

    /// Each event once.
    fn once(&self) -> Cow<'_, [Seen]> {
        if self.seen.windows(2).all(|pair| pair[0].event() != pair[1].event()) {
            return Cow::Borrowed(&self.seen);
        }
        let mut once = self.seen.clone();
        once.dedup_by_key(|seen| seen.event());
        Cow::Owned(once)
    }

    fn remember(&mut self, rule: &AudienceRule) {
        if self.told.is_none() {
            self.told = Some(self.stays(rule));
        }
    }

    fn stay_bounded(&mut self, rule: &AudienceRule) {
        if self.seen.len() <= TIMES_MAX {
            return;
        }
        let AudienceRule::EventCount { count_min, .. } = rule;
        let leaving = self.seen.len() / 2;
        // The first event for which a full count is still held afterwards.
        let first_full = self.seen[leaving + *count_min as usize - 1].time;
        let running = self.stays(rule).into_iter().find(|stay| stay.entered < first_full && first_full <= stay.left);
        self.floor = running.map(|stay| stay.entered);
        self.seen.drain(..leaving);
    }
}

/// The meaning, without any thought of speed.
pub mod oracle {
    use super::{AudienceRule, EventTime, Stay};
    use crate::time::millis;

    /// Stays, by asking at every millisecond from the first event until all windows have run out.
    #[must_use]
    pub fn stays(times: &[i64], rule: &AudienceRule) -> Vec<Stay> {
        let AudienceRule::EventCount { count_min, window, .. } = rule;
        let window = millis(*window);
        let (Some(&first), Some(&last)) = (times.iter().min(), times.iter().max()) else { return Vec::new() };
        let holds =
            |at: i64| times.iter().filter(|&&time| at - window < time && time <= at).count() >= *count_min as usize;
        let mut stays = Vec::new();
        let mut entered = None;
        for at in first..=last + window {
            match (entered, holds(at)) {
                (None, true) => entered = Some(at),
                (Some(since), false) => {
                    stays.push(Stay { entered: EventTime(since), left: EventTime(at) });
                    entered = None;
                }
                (None, false) | (Some(_), true) => {}
            }
        }
        stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ME: PersonKey = PersonKey(7);
    const OTHER: PersonKey = PersonKey(8);

    fn rule(count_min: u32, window: u64) -> AudienceRule {
        AudienceRule::EventCount { event: "purchase".into(), count_min, window: Duration::from_millis(window) }
    }

    fn seen(time: i64, key: u64) -> Seen {
        Seen { time: EventTime(time), key: EventKey(key), via: ME, received: ReceivedAt(0) }
    }

    fn check(count: u32, window: u64, times: &[i64], expected: &[(i64, i64)]) {
        let rule = rule(count, window);
        let mut member = Membership::default();
        for (key, &time) in (0..).zip(times) {
            member.on_event(seen(time, key), &rule);
        }
        let stays: Vec<_> = member.stays(&rule).iter().map(|stay| (stay.entered.0, stay.left.0)).collect();
        assert_eq!(stays, expected);
        assert_eq!(oracle::stays(times, &rule).len(), expected.len());
    }

    #[test]
    fn one_event_stays_for_the_window() {
        check(1, 10, &[5], &[(5, 15)]);
        check(1, 10, &[5, 14], &[(5, 24)]);
        check(1, 10, &[5, 15], &[(5, 25)]);
        check(1, 10, &[5, 16], &[(5, 15), (16, 26)]);
    }

    #[test]
    fn two_events_must_lie_in_one_window() {
        check(2, 10, &[5, 14], &[(14, 15)]);
        check(2, 10, &[5, 15], &[]);
        check(2, 10, &[0, 4, 8], &[(4, 14)]);
    }

    #[test]
    fn an_event_counts_once_however_it_comes() {
        let rule = rule(2, 10);
        let mut member = Membership::default();
        assert!(member.on_event(seen(5, 0), &rule));
        assert!(!member.on_event(Seen { received: ReceivedAt(9), ..seen(5, 0) }, &rule));
        assert!(!member.on_event(Seen { via: OTHER, ..seen(5, 0) }, &rule));
        assert_eq!(member.merge([Seen { received: ReceivedAt(-9), ..seen(5, 0) }], &rule), []);
        assert_eq!(member.stays(&rule), []);
        assert_eq!(member.withdraw(ME, None, &rule), [], "the other knows it still");
        member.on_event(seen(5, 1), &rule);
        assert_eq!(member.stays(&rule).len(), 1);
    }

    #[test]
    fn subscribers_hear_of_entering_at_once_and_of_leaving_in_time() {
        let rule = rule(1, 10);
        let mut member = Membership::default();
        assert_eq!(member.on_time(&rule, Watermark(0)), (None, None));
        member.on_event(seen(5, 0), &rule);
        assert_eq!(member.on_time(&rule, Watermark(0)), (Some(Change::Entered(EventTime(5))), Some(EventTime(15))));
        assert_eq!(member.on_time(&rule, Watermark(14)), (None, Some(EventTime(15))));
        assert_eq!(member.on_time(&rule, Watermark(15)), (Some(Change::Left(EventTime(15))), None));
    }

    #[test]
    fn a_stay_that_was_over_before_it_was_known_is_not_told_to_subscribers() {
        let rule = rule(1, 10);
        let mut member = Membership::default();
        member.on_event(seen(5, 0), &rule);
        assert_eq!(member.on_time(&rule, Watermark(15)), (None, None));
        assert_eq!(member.changes(&rule).1.len(), 1);
    }

    #[test]
    fn a_busy_person_keeps_its_stay_when_the_oldest_times_leave() {
        let rule = rule(3, 10);
        let mut member = Membership::default();
        for n in 0..9_000 {
            member.on_event(seen(n, n as u64), &rule);
        }
        assert_eq!(member.changes(&rule).1, [Stay { entered: EventTime(2), left: EventTime(9_007) }]);
        assert!(member.seen().len() < 8_000);
        member.on_event(seen(9_000, 9_000), &rule);
        let (back, put) = member.changes(&rule);
        assert_eq!(back, [Stay { entered: EventTime(2), left: EventTime(9_007) }]);
        assert_eq!(put, [Stay { entered: EventTime(2), left: EventTime(9_008) }]);
    }

    #[test]
    fn times_are_held_until_their_window_and_the_hold_are_over() {
        let rule = rule(1, 10);
        let left = |watermark: i64, now: i64| {
            let mut member = Membership::default();
            member.on_event(seen(5, 0), &rule);
            member.changes(&rule);
            member.evict(&rule, Watermark(watermark), ReceivedAt(now), Duration::from_millis(7));
            member.seen().len()
        };
        assert_eq!((left(15, 8), left(16, 7), left(16, 8)), (1, 1, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        /// Any order, told in any steps, with eviction in between of what is over: the table holds the oracle's stays.
        #[test]
        fn table_equals_asking_at_every_moment(
            times in prop::collection::vec(0..24_i64, 0..9),
            count in 1..4_u32,
            window in 1..8_u64,
            tell in prop::collection::vec(any::<bool>(), 9),
            parted in 0..9_usize,
        ) {
            let rule = rule(count, window);
            let (mut member, mut other, mut table) = (Membership::default(), Membership::default(), Vec::new());
            let settle = |member: &mut Membership, table: &mut Vec<Stay>| {
                let (back, put) = member.changes(&rule);
                for stay in back {
                    let at = table.iter().position(|row| *row == stay).expect("only what was put in is taken back");
                    table.swap_remove(at);
                }
                table.extend(put);
            };
            for (n, &time) in times.iter().enumerate() {
                let target = if n < parted { &mut other } else { &mut member };
                target.on_event(seen(time, n as u64), &rule);
                if tell[n] {
                    settle(target, &mut table);
                }
            }
            // The other turns out to be part of the same person, then to be none, then again.
            for told in [false, true] {
                other.hide(true, &rule);
                if told {
                    settle(&mut other, &mut table);
                }
                let handed = other.seen().iter().map(|seen| Seen { via: OTHER, ..*seen }).collect::<Vec<_>>();
                prop_assert_eq!(member.merge(handed.iter().copied(), &rule), handed.clone());
                settle(&mut member, &mut table);
                if !told {
                    prop_assert_eq!(member.withdraw(OTHER, None, &rule), handed);
                    other.hide(false, &rule);
                    settle(&mut other, &mut table);
                    settle(&mut member, &mut table);
                    table.sort();
                    let mut apart = oracle::stays(&times[..parted.min(times.len())], &rule);
                    apart.extend(oracle::stays(&times[parted.min(times.len())..], &rule));
                    apart.sort();
                    prop_assert_eq!(&table, &apart);
                }
            }
            table.sort();
            prop_assert_eq!(&table, &oracle::stays(&times, &rule));
            // In order of time, what is over may leave at any moment and the rest is as before.
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let (mut member, mut table) = (Membership::default(), Vec::new());
            for (n, &time) in sorted.iter().enumerate() {
                member.on_event(seen(time, n as u64), &rule);
                if tell[n] {
                    settle(&mut member, &mut table);
                    member.evict(&rule, Watermark(time), ReceivedAt(1), Duration::ZERO);
                }
            }
            settle(&mut member, &mut table);
            table.sort();
            prop_assert_eq!(&table, &oracle::stays(&times, &rule));
        }
    }
}
