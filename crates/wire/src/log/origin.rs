//! Derived records are appended at least once, and each counts once: its origin says whether its turn has come.
//!
//! A sender appends all derived records of one flush together, again and again until all of them are in the log, and only
//! then those of the next flush. So between two flushes nothing can be missing; but within one a record may stand in the
//! log while the append of the one before it failed, and that one comes with the next try. Therefore a record names the
//! one before it in its flush, and a receiver that does not have that one yet leaves the record for the next try.

use super::pb;

/// What a receiver is to do with a derived record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Its turn has come: take it, and remember its place.
    Next,
    /// It was taken before.
    Seen,
    /// One before it is still to come, and this one will come again after that.
    Early,
}

impl pb::Origin {
    /// Place among the derived records of its source: offset of the flush, and index in it.
    #[must_use]
    pub fn place(&self) -> (u64, u32) {
        (self.offset, self.index)
    }

    /// What becomes of the record.
    ///
    /// - `last`: place of the last record taken of the same source and stream (a partition of `journeys`, an audience in a
    ///   partition of `audience-changes`).
    #[must_use]
    pub fn arrival(&self, last: Option<(u64, u32)>) -> Arrival {
        if last >= Some(self.place()) {
            Arrival::Seen
        } else if self.after.is_some_and(|after| last < Some((self.offset, after))) {
            Arrival::Early
        } else {
            Arrival::Next
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(last: Option<(u64, u32)>, (offset, index): (u64, u32), after: Option<u32>, expected: Arrival) {
        let origin = pb::Origin { topic: "journeys".into(), partition: 1, offset, index, after };
        assert_eq!(origin.arrival(last), expected, "{origin:?} after {last:?}");
    }

    #[test]
    fn a_record_waits_for_the_one_before_it() {
        check(None, (7, 5), Some(3), Arrival::Early);
        check(Some((6, 9)), (7, 5), Some(3), Arrival::Early);
        check(Some((7, 1)), (7, 5), Some(3), Arrival::Early);
        check(Some((7, 3)), (7, 5), Some(3), Arrival::Next);
    }

    #[test]
    fn the_first_of_a_flush_waits_for_nobody() {
        check(None, (7, 3), None, Arrival::Next);
        check(Some((6, 9)), (7, 0), None, Arrival::Next);
    }

    #[test]
    fn what_was_taken_is_not_taken_again() {
        check(Some((7, 3)), (7, 3), Some(0), Arrival::Seen);
        check(Some((7, 3)), (7, 0), None, Arrival::Seen);
        check(Some((8, 0)), (7, 5), Some(3), Arrival::Seen);
    }
}
