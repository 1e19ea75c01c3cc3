//! Whom to look at for eviction: keys by the minute of log time in which they were last touched.

use std::collections::VecDeque;
use std::time::Duration;

use trackway_domain::time::ReceivedAt;

use crate::clock::PartitionClock;

/// Before any minute: of a key that was never touched.
pub(crate) const NEVER: i64 = i64::MIN;

/// Keys in order of the minutes in which they were touched. A key that was touched again since stands here more than once;
/// only where it stands with the minute that its owner knows is it due.
#[derive(Debug)]
pub(crate) struct Touches<K> {
    queue: VecDeque<(i64, K)>,
}

impl<K: Copy + Ord> Touches<K> {
    pub fn new() -> Self {
        Self { queue: VecDeque::new() }
    }

    /// Notes a touch, at most once a minute.
    ///
    /// - `touched_minute`: the owner's note of the last one.
    pub fn touch(&mut self, key: K, touched_minute: &mut i64, now: ReceivedAt) {
        let minute = now.0.div_euclid(60_000);
        if *touched_minute != minute {
            *touched_minute = minute;
            self.queue.push_back((minute, key));
        }
    }

    /// The last minute that lies more than `hold` back.
    pub fn horizon(clock: &PartitionClock) -> i64 {
        clock.log_time.minus(clock.rules.hold).minus(Duration::from_mins(1)).0.div_euclid(60_000)
    }

    /// The next key that stands before the horizon, with its minute.
    pub fn due(&mut self, horizon: i64) -> Option<(i64, K)> {
        if self.queue.front().is_some_and(|&(minute, _)| minute < horizon) { self.queue.pop_front() } else { None }
    }

    /// The key cannot leave yet: it is looked at again an hour of log time later.
    pub fn again(&mut self, key: K, touched_minute: &mut i64, horizon: i64) {
        *touched_minute = horizon + 60;
        let place = self.queue.partition_point(|&(minute, _)| minute < horizon + 60);
        self.queue.insert(place, (horizon + 60, key));
    }

    /// From a snapshot, in any order.
    pub fn restore(touched: impl IntoIterator<Item = (i64, K)>) -> Self {
        let mut queue: Vec<_> = touched.into_iter().collect();
        queue.sort_unstable();
        Self { queue: queue.into() }
    }
}
