//! Days of a time zone, without a database of zones: its changes of offset are data, so that a replay on a machine with
//! newer data cuts the same days.

use std::sync::Arc;

use crate::time::EventTime;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A time zone: by how much its clocks are ahead of UTC, and when that changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Zone {
    /// Milliseconds ahead of UTC before the first change.
    first_ms: i64,
    /// When clocks change, in ascending order, and milliseconds ahead of UTC from then on.
    changes: Arc<[(EventTime, i64)]>,
}

impl Zone {
    /// A zone by its changes.
    ///
    /// `None`: the changes do not ascend, or an offset is above a day.
    #[must_use]
    pub fn new(first_ms: i64, changes: Vec<(EventTime, i64)>) -> Option<Self> {
        let ascend = changes.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let fit = std::iter::once(first_ms).chain(changes.iter().map(|(_, ms)| *ms)).all(|ms| ms.abs() <= DAY_MS);
        (ascend && fit).then(|| Self { first_ms, changes: changes.into() })
    }

    /// Milliseconds ahead of UTC before the first change.
    #[must_use]
    pub fn first_ms(&self) -> i64 {
        self.first_ms
    }

    /// When clocks change, and milliseconds ahead of UTC from then on.
    #[must_use]
    pub fn changes(&self) -> &[(EventTime, i64)] {
        &self.changes
    }

    /// The day of a time, counted from 1970-01-01.
    #[must_use]
    pub fn day(&self, time: EventTime) -> i64 {
        let past = self.changes.partition_point(|(at, _)| *at <= time);
        let ahead = past.checked_sub(1).map_or(self.first_ms, |last| self.changes[last].1);
        time.0.saturating_add(ahead).div_euclid(DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_the_zones_own_midnight() {
        // An hour ahead, two from noon UTC of the first day on.
        let zone = Zone::new(3_600_000, vec![(EventTime(DAY_MS / 2), 7_200_000)]).expect("a zone");
        let day = |hours: f64| zone.day(EventTime((hours * 3_600_000.0) as i64));
        assert_eq!((day(-1.01), day(-1.0), day(11.99), day(12.0)), (-1, 0, 0, 0));
        assert_eq!((day(21.99), day(22.0), day(45.99), day(46.0)), (0, 1, 1, 2));
        assert_eq!(Zone::default().day(EventTime(-1)), -1);
    }

    #[test]
    fn changes_ascend_and_offsets_are_below_a_day() {
        assert!(Zone::new(0, vec![(EventTime(1), 0), (EventTime(1), 5)]).is_none());
        assert!(Zone::new(DAY_MS + 1, vec![]).is_none());
        assert!(Zone::new(0, vec![(EventTime(1), -DAY_MS - 1)]).is_none());
    }
}
