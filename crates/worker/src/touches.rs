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
            self.put(minute, key);
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
        self.put(horizon + 60, key);
    }

    /// Nearly always at the end. With a hold of less than an hour `again` looks further ahead than `touch`; were the queue
    /// out of order then, a key would be due later here than after a restart, which sorts it.
    fn put(&mut self, minute: i64, key: K) {
        match self.queue.back() {
            Some(&(last, _)) if last > minute => {
                let place = self.queue.partition_point(|&(other, _)| other <= minute);
                self.queue.insert(place, (minute, key));
            }
            Some(_) | None => self.queue.push_back((minute, key)),
        }
    }

    /// From a snapshot, in any order.
    pub fn restore(touched: impl IntoIterator<Item = (i64, K)>) -> Self {
        let mut queue: Vec<_> = touched.into_iter().collect();
        queue.sort_unstable();
        Self { queue: queue.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due(touches: &mut Touches<u8>, horizon: i64) -> Vec<(i64, u8)> {
        let mut due: Vec<_> = std::iter::from_fn(|| touches.due(horizon)).collect();
        due.sort_unstable();
        due
    }

    proptest! {
        /// Whatever was touched, and looked at again, in whatever order: the same keys are due as after a restart.
        #[test]
        fn a_restart_does_not_change_when_keys_are_due(
            steps in prop::collection::vec((any::<bool>(), 0..4_u8, 0..90_i64), 0..24),
            horizon in 0..200_i64,
        ) {
            let mut touches = Touches::new();
            let mut minutes = [NEVER; 4];
            let mut now = 0;
            for (is_touch, key, pause) in steps {
                now += pause;
                let minute = &mut minutes[usize::from(key)];
                match is_touch {
                    true => touches.touch(key, minute, ReceivedAt(now * 60_000)),
                    // A hold of half an hour.
                    false => touches.again(key, minute, now - 30),
                }
            }
            let mut restored = Touches::restore(touches.queue.iter().copied());
            prop_assert_eq!(due(&mut touches, horizon), due(&mut restored, horizon));
        }
    }
}
