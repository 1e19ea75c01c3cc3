//! Paths: what persons did next.

use std::time::Duration;

use hashbrown::HashMap;

use crate::time::{EventTime, millis};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathsQuery {
    /// Only pairs with no gap above this between them. `None`: all pairs of a person.
    pub session_gap: Option<Duration>,
    /// Leave out pairs of a name with itself (they still are one another's neighbours).
    pub collapse_repeats: bool,
}

/// Counts of consecutive events over persons. Names come as numbers.
#[derive(Debug, Clone)]
pub struct PathCounts {
    gap_ms: i64,
    collapse_repeats: bool,
    counts: HashMap<(u32, u32), u64>,
}

impl PathCounts {
    /// Of nobody yet.
    #[must_use]
    pub fn new(query: &PathsQuery) -> Self {
        Self {
            gap_ms: query.session_gap.map_or(i64::MAX, millis),
            collapse_repeats: query.collapse_repeats,
            counts: HashMap::new(),
        }
    }

    /// Adds one person, whose events (time, number of the name) are given in order.
    pub fn person(&mut self, events: &[(EventTime, u32)]) {
        for pair in events.windows(2) {
            let ((before, from), (after, to)) = (pair[0], pair[1]);
            if after.since(before) <= self.gap_ms && !(self.collapse_repeats && from == to) {
                *self.counts.entry((from, to)).or_default() += 1;
            }
        }
    }

    /// Pairs in all.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The `n` most frequent pairs, equal ones by name.
    ///
    /// # Panics
    /// If a number has no name.
    #[must_use]
    pub fn top(&self, n: usize, names: &[String]) -> Vec<(String, String, u64)> {
        let name = |number: u32| names[number as usize].clone();
        let mut all: Vec<_> = self.counts.iter().map(|(&(from, to), &count)| (name(from), name(to), count)).collect();
        all.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1))));
        all.truncate(n);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: PathsQuery, persons: &[&[(i64, u32)]], expected: &[(&str, &str, u64)]) {
        let mut counts = PathCounts::new(&query);
        for person in persons {
            counts.person(&person.iter().map(|&(time, name)| (EventTime(time), name)).collect::<Vec<_>>());
        }
        let top = counts.top(2, &["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        assert_eq!(top.iter().map(|(from, to, n)| (from.as_str(), to.as_str(), *n)).collect::<Vec<_>>(), expected);
    }

    const ALL: PathsQuery = PathsQuery { session_gap: None, collapse_repeats: false };

    #[test]
    fn pairs_stay_within_a_person() {
        check(ALL, &[&[(0, 0), (1, 1)], &[(2, 0), (3, 1)]], &[("a", "b", 2)]);
    }

    #[test]
    fn heaviest_first_then_by_name() {
        check(ALL, &[&[(0, 1), (1, 2), (2, 1), (3, 0)]], &[("b", "a", 1), ("b", "c", 1)]);
    }

    #[test]
    fn a_gap_above_the_limit_breaks_the_path() {
        let query = PathsQuery { session_gap: Some(Duration::from_millis(5)), ..ALL };
        check(query, &[&[(0, 0), (5, 1), (11, 2)]], &[("a", "b", 1)]);
    }

    #[test]
    fn repeats_can_be_left_out() {
        check(PathsQuery { collapse_repeats: true, ..ALL }, &[&[(0, 0), (1, 0), (2, 1)]], &[("a", "b", 1)]);
        check(ALL, &[&[(0, 0), (1, 0)]], &[("a", "a", 1)]);
    }
}
