//! How many events a project or a key may send: so many a second, and so many a day.
//!
//! Events a second are reckoned as a debt that time pays off: a request is taken as long as the debt before it is below
//! [`BURST_MS`] of the rate, however many events it has, and then it is added. So a batch is never too large for the rate,
//! and over any long time no more than the rate gets in. Neither clock nor lock: two numbers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use trackway_domain::time::ReceivedAt;

use crate::Quota;

/// What may come at once after a pause: as much as the rate gives in so many milliseconds.
const BURST_MS: i64 = 2000;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Which limit is reached, and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// The limit.
    pub limit: u64,
    /// What it is a limit of.
    pub unit: &'static str,
    /// When something is taken again.
    pub retry_after_seconds: u32,
}

/// What was taken lately. Outlives a reload of the projects.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// When the debt is paid off, ms.
    paid_off_ms: AtomicI64,
    /// Day (since 1970) in the high 24 bits, events of it in the low 40.
    today: AtomicU64,
}

const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

impl Taken {
    /// Whether more is taken now.
    pub(crate) fn check(&self, quota: Quota, now: ReceivedAt) -> Result<(), Exceeded> {
        if let Some(limit) = quota.events_per_second {
            let ahead = self.paid_off_ms.load(Ordering::Relaxed) - now.0;
            if ahead > BURST_MS {
                let retry_after_seconds = seconds(ahead - BURST_MS);
                return Err(Exceeded { limit: limit.into(), unit: "events a second", retry_after_seconds });
            }
        }
        if let Some(limit) = quota.events_per_day
            && self.count_of(day(now)) >= limit
        {
            let retry_after_seconds = seconds((day(now) + 1) * DAY_MS - now.0);
            return Err(Exceeded { limit, unit: "events a day", retry_after_seconds });
        }
        Ok(())
    }

    /// Counts what was taken.
    pub(crate) fn add(&self, events: usize, quota: Quota, now: ReceivedAt) {
        if let Some(rate) = quota.events_per_second {
            let debt = i64::try_from(events).unwrap_or(i64::MAX).saturating_mul(1000) / i64::from(rate.max(1));
            // The counters guard no other memory.
            let add = |paid_off: i64| Some(paid_off.max(now.0).saturating_add(debt));
            let _ = self.paid_off_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
        if quota.events_per_day.is_some() {
            let today = day(now);
            let add = |packed: u64| {
                let before = if packed >> COUNT_BITS == today as u64 { packed & COUNT_MASK } else { 0 };
                Some((today as u64) << COUNT_BITS | (before + events as u64).min(COUNT_MASK))
            };
            let _ = self.today.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
    }

    fn count_of(&self, day: i64) -> u64 {
        let packed = self.today.load(Ordering::Relaxed);
        if packed >> COUNT_BITS == day as u64 { packed & COUNT_MASK } else { 0 }
    }
}

fn day(now: ReceivedAt) -> i64 {
    now.0.div_euclid(DAY_MS)
}

/// Rounded up, at least one.
fn seconds(ms: i64) -> u32 {
    u32::try_from((ms.max(1) + 999) / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 20_000 * DAY_MS + 1_000;

    fn a_second(n: u32) -> Quota {
        Quota { events_per_second: Some(n), events_per_day: None }
    }

    #[test]
    fn over_a_long_time_no_more_than_the_rate_gets_in_and_a_batch_is_never_too_large() {
        let (taken, quota, mut count) = (Taken::default(), a_second(100), 0);
        for ms in 0..60_000 {
            let now = ReceivedAt(NOW + ms);
            if taken.check(quota, now).is_ok() {
                taken.add(500, quota, now);
                count += 500;
            }
        }
        // 60 s of the rate, the burst before, and the batch that went over it.
        assert!((6_000..=6_700).contains(&count), "{count}");
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_again_and_is_taken_then() {
        let (taken, quota) = (Taken::default(), a_second(10));
        taken.add(100, quota, ReceivedAt(NOW));
        let exceeded = taken.check(quota, ReceivedAt(NOW)).expect_err("10 s of debt");
        assert_eq!(exceeded, Exceeded { limit: 10, unit: "events a second", retry_after_seconds: 8 });
        assert!(taken.check(quota, ReceivedAt(NOW + 7_999)).is_err());
        assert!(taken.check(quota, ReceivedAt(NOW + 8_000)).is_ok());
    }

    #[test]
    fn a_days_quota_ends_with_the_day() {
        let (taken, quota) = (Taken::default(), Quota { events_per_second: None, events_per_day: Some(10) });
        taken.add(9, quota, ReceivedAt(NOW));
        assert!(taken.check(quota, ReceivedAt(NOW)).is_ok());
        taken.add(1, quota, ReceivedAt(NOW));
        let exceeded = taken.check(quota, ReceivedAt(NOW)).expect_err("it is used up");
        assert_eq!((exceeded.limit, exceeded.retry_after_seconds), (10, 86_399));
        assert!(taken.check(quota, ReceivedAt(NOW + DAY_MS)).is_ok());
        taken.add(1, quota, ReceivedAt(NOW + DAY_MS));
        assert_eq!(taken.count_of(20_001), 1);
    }

    #[test]
    fn without_a_quota_everything_is_taken() {
        let taken = Taken::default();
        taken.add(usize::MAX >> 1, Quota::default(), ReceivedAt(NOW));
        assert!(taken.check(Quota::default(), ReceivedAt(NOW)).is_ok());
    }
}
