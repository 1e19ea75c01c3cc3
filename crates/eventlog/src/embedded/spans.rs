//! Where in time the batches of a partition lie: a coarse summary kept in memory.
//!
//! A *span* is a run of consecutive batches, closed once it holds [`SPAN_BATCHES`] batches or [`SPAN_BYTES`] bytes. Of
//! a closed span only its first offset and its newest timestamp are kept (24 bytes per 4 MiB of log), in memory and in
//! the store; the open one is rebuilt at start from its few batches. Look-ups by time and retention find the span here
//! and read batches only inside it. Because the *newest* time is kept, both are right when times are not monotone.

use std::collections::VecDeque;

/// A span closes at this many batches: at one record per batch, a look-up then decodes 1024 small values at most.
const SPAN_BATCHES: u32 = 1024;
/// A span closes at this many bytes: reading one back takes some milliseconds.
const SPAN_BYTES: usize = 4 << 20;

/// A closed span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Offset of its first record.
    pub base: u64,
    /// Offset after its last record.
    pub end: u64,
    /// Its newest timestamp.
    pub newest_ms: i64,
}

/// The span that still grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenSpan {
    /// Offset of its first record, or of the record to come.
    pub base: u64,
    /// Its newest timestamp; `i64::MIN` while empty.
    pub newest_ms: i64,
    batches: u32,
    bytes: usize,
}

impl OpenSpan {
    pub(super) fn new(base: u64) -> OpenSpan {
        OpenSpan { base, newest_ms: i64::MIN, batches: 0, bytes: 0 }
    }

    /// Adds a batch that ends before offset `end`; answers the span if that closed it.
    pub(super) fn add(&mut self, end: u64, newest_ms: i64, bytes: usize) -> Option<Span> {
        self.newest_ms = self.newest_ms.max(newest_ms);
        self.batches += 1;
        self.bytes += bytes;
        if self.batches < SPAN_BATCHES && self.bytes < SPAN_BYTES {
            return None;
        }
        let closed = Span { base: self.base, end, newest_ms: self.newest_ms };
        *self = OpenSpan::new(end);
        Some(closed)
    }
}

/// Offsets of a partition, and its spans.
#[derive(Debug)]
pub(super) struct PartitionState {
    /// First offset kept.
    pub start: u64,
    /// Offset after the last durable record.
    pub end: u64,
    /// Closed spans, oldest first.
    pub spans: VecDeque<Span>,
    /// The rest.
    pub open: OpenSpan,
}

impl PartitionState {
    /// First offset of the oldest span that has a record as new as `at_ms`; `None` if there is none.
    ///
    /// `from`: spans that end before it are passed over.
    pub(super) fn span_reaching(&self, at_ms: i64, from: u64) -> Option<(u64, u64)> {
        let closed = self.spans.iter().find(|span| span.end > from && span.newest_ms >= at_ms);
        let (base, end) = match closed {
            Some(span) => (span.base, span.end),
            None if self.open.newest_ms >= at_ms && self.end > from => (self.open.base, self.end),
            None => return None,
        };
        Some((base.max(self.start).max(from), end))
    }

    /// First offset that may hold a record as new as `cutoff_ms`: everything before it is older.
    pub(super) fn expired_until(&self, cutoff_ms: i64) -> u64 {
        let fresh = self.spans.iter().find(|span| span.newest_ms >= cutoff_ms);
        fresh.map_or(self.open.base, |span| span.base).max(self.start)
    }

    /// Forgets everything before `start`; answers the spans that are gone.
    pub(super) fn drop_before(&mut self, start: u64) -> Vec<Span> {
        self.start = start;
        let gone = self.spans.iter().take_while(|span| span.end <= start).count();
        self.spans.drain(..gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{OpenSpan, PartitionState, SPAN_BATCHES, SPAN_BYTES, Span};

    fn state() -> PartitionState {
        let span = |base, end, newest_ms| Span { base, end, newest_ms };
        let mut open = OpenSpan::new(30);
        assert_eq!(open.add(35, 400, 10), None);
        PartitionState {
            start: 0,
            end: 35,
            spans: [span(0, 10, 100), span(10, 20, 300), span(20, 30, 200)].into(),
            open,
        }
    }

    #[test]
    fn a_span_closes_by_batches_or_by_bytes() {
        let mut open = OpenSpan::new(0);
        for end in 1..SPAN_BATCHES {
            assert_eq!(open.add(end.into(), 5, 1), None);
        }
        let end = u64::from(SPAN_BATCHES);
        assert_eq!(open.add(end, 4, 1), Some(Span { base: 0, end, newest_ms: 5 }));
        assert_eq!(open.add(end + 7, 3, SPAN_BYTES), Some(Span { base: end, end: end + 7, newest_ms: 3 }));
    }

    #[test]
    fn the_oldest_span_with_a_time_that_new_is_found() {
        assert_eq!(state().span_reaching(100, 0), Some((0, 10)));
        assert_eq!(state().span_reaching(101, 0), Some((10, 20)));
        assert_eq!(state().span_reaching(200, 20), Some((20, 30)));
        assert_eq!(state().span_reaching(301, 0), Some((30, 35)));
        assert_eq!(state().span_reaching(401, 0), None);
        assert_eq!(state().span_reaching(400, 35), None);
    }

    #[test]
    fn what_retention_drops_is_a_prefix() {
        assert_eq!(state().expired_until(100), 0);
        assert_eq!(state().expired_until(101), 10);
        // The third span is older than 250, but the second one stands before it.
        assert_eq!(state().expired_until(250), 10);
        assert_eq!(state().expired_until(301), 30);
        let mut cut = state();
        assert_eq!(cut.drop_before(15).len(), 1);
        assert_eq!(cut.span_reaching(0, 0), Some((15, 20)));
    }
}
