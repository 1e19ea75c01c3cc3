//! Funnels: how many persons went through steps, in order, within a window.
//!
//! A person's best attempt counts: the one with most steps, whichever entry it began with. The window runs from the entry and
//! includes its end. One event serves one step only: a step that stands twice needs two occurrences. Equal times are
//! in the order of [`crate::event::OrderKey`].

use std::time::Duration;

use crate::limits::FUNNEL_STEPS_MAX;
use crate::time::{EventTime, millis};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunnelQuery {
    /// Number of steps, 1 to [`FUNNEL_STEPS_MAX`].
    pub steps: usize,
    /// From the entry to the last step, inclusive. `None`: no limit.
    pub window: Option<Duration>,
}

/// One event as a funnel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEvent {
    /// When.
    pub time: EventTime,
    /// Bit k is set if it meets step k's condition.
    pub mask: u64,
}

/// How far one person came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Number of steps.
    pub steps: usize,
    /// From entry to last step in ms, if all were reached: of the earliest entry from which all are reached, each step taken
    /// as soon as it happens.
    pub entry_to_last_ms: Option<i64>,
}

/// Evaluates persons one by one; holds nothing between them.
#[derive(Debug, Clone)]
pub struct FunnelEvaluator {
    steps: usize,
    window_ms: i64,
    /// For each step, the entry time of the attempt that has reached it and began last. A later entry leaves more of the
    /// window, so no other attempt needs to be kept.
    entries: [i64; FUNNEL_STEPS_MAX],
}

const NO_ENTRY: i64 = i64::MIN;

impl FunnelEvaluator {
    /// An evaluator for one query.
    ///
    /// # Panics
    /// If the number of steps is not 1 to [`FUNNEL_STEPS_MAX`]; requests are checked where they come in.
    #[must_use]
    pub fn new(query: &FunnelQuery) -> Self {
        assert!((1..=FUNNEL_STEPS_MAX).contains(&query.steps), "{} steps, limit is {FUNNEL_STEPS_MAX}", query.steps);
        Self {
            steps: query.steps,
            window_ms: query.window.map_or(i64::MAX, millis),
            entries: [NO_ENTRY; FUNNEL_STEPS_MAX],
        }
    }

    /// How far a person came whose events are given in order. Those who reach the last step are gone through twice.
    pub fn person<E: Iterator<Item = StepEvent> + Clone>(
        &mut self,
        events: impl IntoIterator<IntoIter = E>,
    ) -> Reached {
        let events = events.into_iter();
        self.entries[..self.steps].fill(NO_ENTRY);
        let mut reached = 0;
        for event in events.clone() {
            // Only the next step after the furthest is new; the mask leaves out what cannot be.
            let mut bits = event.mask & (u64::MAX >> (63 - reached.min(self.steps - 1)));
            // From the last step down, so that this event does not serve two.
            while bits != 0 {
                let step = 63 - bits.leading_zeros() as usize;
                bits ^= 1 << step;
                let entry = if step == 0 { event.time.0 } else { self.entries[step - 1] };
                if entry == NO_ENTRY || event.time.0.saturating_sub(entry) > self.window_ms {
                    continue;
                }
                self.entries[step] = entry;
                if step == reached {
                    reached += 1;
                    if reached == self.steps {
                        return Reached { steps: reached, entry_to_last_ms: Some(self.first_attempt_ms(events)) };
                    }
                }
            }
        }
        Reached { steps: reached, entry_to_last_ms: None }
    }

    /// Time of the earliest entry's attempt that reaches the last step, for a person of whom it is known that one does.
    ///
    /// Attempts that stand at one step go on together, so they are kept as one list of their entries, and every entry moves
    /// at most once per step.
    fn first_attempt_ms(&self, events: impl Iterator<Item = StepEvent>) -> i64 {
        let mut at_step: Vec<Vec<i64>> = vec![Vec::new(); self.steps];
        for event in events {
            let time = event.time.0;
            for step in (0..self.steps).rev().filter(|step| event.mask >> step & 1 == 1) {
                let mut arriving = match step {
                    0 => vec![time],
                    _ => std::mem::take(&mut at_step[step - 1]),
                };
                if step + 1 == self.steps {
                    if let Some(entry) = arriving.iter().find(|&&entry| time.saturating_sub(entry) <= self.window_ms) {
                        return time - entry;
                    }
                } else {
                    // Whoever was here already entered earlier.
                    at_step[step].append(&mut arriving);
                }
            }
        }
        unreachable!("the fast evaluation found an attempt that reaches the last of {} steps", self.steps)
    }
}

/// Sums over persons. Parts that were evaluated apart add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunnelReport {
    /// Persons who reached at least step k.
    pub persons: Vec<u64>,
    /// Times from entry to last step, in no order.
    entry_to_last_ms: Vec<i64>,
}

impl FunnelReport {
    /// Of nobody yet.
    #[must_use]
    pub fn new(query: &FunnelQuery) -> Self {
        Self { persons: vec![0; query.steps], entry_to_last_ms: Vec::new() }
    }

    /// Adds one person.
    pub fn add(&mut self, reached: Reached) {
        for persons in &mut self.persons[..reached.steps] {
            *persons += 1;
        }
        self.entry_to_last_ms.extend(reached.entry_to_last_ms);
    }

    /// Adds another part of the same query.
    pub fn merge(&mut self, other: &Self) {
        for (persons, more) in self.persons.iter_mut().zip(&other.persons) {
            *persons += more;
        }
        self.entry_to_last_ms.extend_from_slice(&other.entry_to_last_ms);
    }

    /// Median seconds from entry to last step over those who got there; between two middle ones their mean.
    pub fn median_seconds(&mut self) -> Option<f64> {
        let times = &mut self.entry_to_last_ms;
        if times.is_empty() {
            return None;
        }
        times.sort_unstable();
        let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
        Some((low as f64 + high as f64) / 2_000.0)
    }
}

/// The meaning, without any thought of speed.
pub mod oracle {
    use super::{FunnelQuery, StepEvent};
    use crate::time::millis;

    /// Time of the earliest entry from which, each step taken as soon as it happens, the last is reached in time.
    #[must_use]
    pub fn entry_to_last_ms(events: &[StepEvent], query: &FunnelQuery) -> Option<i64> {
        let window = query.window.map_or(i64::MAX, millis);
        let entries = events.iter().enumerate().filter(|(_, event)| event.mask & 1 == 1);
        let mut times = entries.filter_map(|(n, entry)| {
            let (mut last, mut after) = (entry.time.0, n + 1);
            for step in 1..query.steps {
                let found = events[after..].iter().position(|event| event.mask >> step & 1 == 1)?;
                (last, after) = (events[after + found].time.0, after + found + 1);
            }
            Some(last - entry.time.0).filter(|&took| took <= window)
        });
        times.next()
    }

    /// The most steps that any choice of events gives: every entry and every later event for every step is tried.
    #[must_use]
    pub fn steps_reached(events: &[StepEvent], query: &FunnelQuery) -> usize {
        fn further(events: &[StepEvent], step: usize, latest: i64, query: &FunnelQuery) -> usize {
            if step == query.steps {
                return step;
            }
            let tries =
                events.iter().enumerate().filter(|(_, event)| event.mask >> step & 1 == 1 && event.time.0 <= latest);
            tries.map(|(n, _)| further(&events[n + 1..], step + 1, latest, query)).max().unwrap_or(step)
        }
        let window = query.window.map_or(i64::MAX, millis);
        let entries = events.iter().enumerate().filter(|(_, event)| event.mask & 1 == 1);
        entries
            .map(|(n, entry)| further(&events[n + 1..], 1, entry.time.0.saturating_add(window), query))
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(steps: usize, window: Option<u64>, events: &[(i64, u64)], expected: (usize, Option<i64>)) {
        let query = FunnelQuery { steps, window: window.map(Duration::from_millis) };
        let events = events.iter().map(|&(time, mask)| StepEvent { time: EventTime(time), mask });
        let reached = FunnelEvaluator::new(&query).person(events);
        assert_eq!((reached.steps, reached.entry_to_last_ms), expected);
    }

    #[test]
    fn steps_count_in_order_with_others_between() {
        check(3, None, &[(0, 1), (1, 1), (5, 2), (9, 4)], (3, Some(9)));
        check(3, None, &[(0, 4), (1, 2), (2, 1)], (1, None));
        check(3, None, &[(0, 2), (1, 4)], (0, None));
    }

    #[test]
    fn window_includes_its_end() {
        check(2, Some(10), &[(0, 1), (10, 2)], (2, Some(10)));
        check(2, Some(10), &[(0, 1), (11, 2)], (1, None));
    }

    #[test]
    fn a_later_entry_may_win() {
        check(2, Some(10), &[(0, 1), (5, 1), (15, 2)], (2, Some(10)));
    }

    #[test]
    fn an_event_serves_one_step() {
        check(2, None, &[(0, 3)], (1, None));
        check(2, None, &[(0, 3), (0, 3)], (2, Some(0)));
    }

    #[test]
    fn all_the_steps_allowed_can_be_reached() {
        let all: Vec<_> = (0..FUNNEL_STEPS_MAX).map(|n| (n as i64, 1 << n)).collect();
        check(FUNNEL_STEPS_MAX, None, &all, (FUNNEL_STEPS_MAX, Some(31)));
    }

    #[test]
    fn report_counts_everyone_up_to_their_step() {
        let query = FunnelQuery { steps: 2, window: None };
        let mut report = FunnelReport::new(&query);
        assert_eq!(report.median_seconds(), None);
        report.add(Reached { steps: 0, entry_to_last_ms: None });
        report.add(Reached { steps: 1, entry_to_last_ms: None });
        let mut other = FunnelReport::new(&query);
        for ms in [1_000, 3_000] {
            other.add(Reached { steps: 2, entry_to_last_ms: Some(ms) });
        }
        report.merge(&other);
        assert_eq!(report.persons, [3, 2]);
        assert_eq!(report.median_seconds(), Some(2.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn reached_equals_trying_everything(
            steps in 1..4_usize,
            window in prop::option::of(0..8_u64),
            mut events in prop::collection::vec((0..12_i64, 0..8_u64), 0..9),
        ) {
            events.sort_by_key(|event| event.0);
            let query = FunnelQuery { steps, window: window.map(Duration::from_millis) };
            let events: Vec<_> = events.into_iter().map(|(time, mask)| StepEvent { time: EventTime(time), mask: mask & ((1 << steps) - 1) }).collect();
            let reached = FunnelEvaluator::new(&query).person(events.iter().copied());
            prop_assert_eq!(reached.steps, oracle::steps_reached(&events, &query));
            prop_assert_eq!(reached.entry_to_last_ms, oracle::entry_to_last_ms(&events, &query));
        }
    }
}
