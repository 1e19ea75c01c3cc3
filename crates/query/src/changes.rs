//! The newest audience changes, read from the log once for all subscribers.
//!
//! One task per partition of `audience-changes` follows the log's end and keeps the last changes in memory. A subscriber
//! takes what it needs from there; one that is further behind reads the log itself until it has caught up. So a slow
//! subscriber costs the others nothing and is never cut off, and a hundred subscribers cost one reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trackway_eventlog::{EventLog, LogError, Record, TopicPartition};
use trackway_wire::log::{decode, pb as log_pb};

/// Records of one read.
const READ_RECORDS_MAX: usize = 1_000;
/// How long one read waits for the first record. Only a stop cuts it short, so longer would save nothing worth having.
const READ_WAIT: Duration = Duration::from_secs(5);
/// Pause after a read that the log refused.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One record of `audience-changes`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub offset: u64,
    /// `None`: bytes that this program cannot read. It counts as seen, so that nobody is stuck on it.
    pub change: Option<log_pb::MembershipChange>,
}

impl Change {
    pub(crate) fn read(at: &TopicPartition, record: Record) -> Self {
        let change = match decode::<log_pb::MembershipChange>(record.value) {
            Ok(change) => Some(change),
            Err(error) => {
                tracing::error!(partition = %at, offset = record.offset, %error, "an audience change cannot be read");
                None
            }
        };
        Self { offset: record.offset, change }
    }
}

/// What the memory holds from an offset on.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// These, in order, and then comes offset `next`.
    Changes { changes: Vec<Arc<Change>>, next: u64 },
    /// The offset is older than what is kept: the log has it.
    Older,
}

/// Consecutive changes of one partition: all records of `begin..end` that exist.
#[derive(Debug)]
struct Window {
    begin: u64,
    end: u64,
    changes: VecDeque<Arc<Change>>,
}

impl Window {
    fn starting_at(offset: u64) -> Self {
        Self { begin: offset, end: offset, changes: VecDeque::new() }
    }

    fn push(&mut self, change: Change, changes_max: usize) {
        self.end = change.offset + 1;
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > changes_max {
            if let Some(oldest) = self.changes.pop_front() {
                self.begin = oldest.offset + 1;
            }
        }
    }

    fn take(&self, from: u64, records_max: usize) -> Taken {
        if from < self.begin {
            return Taken::Older;
        }
        let first = self.changes.partition_point(|change| change.offset < from);
        let changes: Vec<_> = self.changes.range(first..).take(records_max).map(Arc::clone).collect();
        let next = match changes.last() {
            Some(last) if changes.len() == records_max => last.offset + 1,
            // A subscriber may be ahead of the reader: it read the log by itself.
            Some(_) | None => self.end.max(from),
        };
        Taken::Changes { changes, next }
    }
}

/// The memory.
#[derive(Debug)]
pub(crate) struct RecentChanges {
    topic: Arc<str>,
    windows: Vec<Mutex<Window>>,
    changes_max: usize,
    /// Rises with every batch, of whichever partition: subscribers wait for it.
    arrivals: watch::Sender<u64>,
}

impl RecentChanges {
    /// - `ends`: where each partition's log ends now.
    pub(crate) fn new(topic: &str, ends: impl IntoIterator<Item = u64>, changes_max: usize) -> Self {
        Self {
            topic: topic.into(),
            windows: ends.into_iter().map(|end| Mutex::new(Window::starting_at(end))).collect(),
            changes_max,
            arrivals: watch::Sender::new(0),
        }
    }

    /// Number of partitions.
    pub(crate) fn partitions(&self) -> u32 {
        u32::try_from(self.windows.len()).expect("a topic has at most 1024 partitions")
    }

    /// The partition, as the log knows it.
    pub(crate) fn partition(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: Arc::clone(&self.topic), partition }
    }

    /// Tells when something arrives.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Up to `records_max` changes of a partition, from an offset on.
    pub(crate) fn take(&self, partition: u32, from: u64, records_max: usize) -> Taken {
        self.window(partition).take(from, records_max)
    }

    /// Follows one partition until the stop.
    pub(crate) async fn follow(&self, partition: u32, log: &dyn EventLog, stop: &CancellationToken) {
        let at = self.partition(partition);
        let mut next = self.window(partition).end;
        let read_on = async {
            loop {
                match log.read(&at, next, READ_RECORDS_MAX, READ_WAIT).await {
                    Ok(records) if records.is_empty() => {}
                    Ok(records) => {
                        let changes: Vec<_> = records.into_iter().map(|record| Change::read(&at, record)).collect();
                        let mut window = self.window(partition);
                        for change in changes {
                            window.push(change, self.changes_max);
                        }
                        next = window.end;
                        drop(window);
                        self.arrivals.send_modify(|arrivals| *arrivals += 1);
                    }
                    Err(LogError::Gone { start, .. }) => {
                        tracing::warn!(partition = %at, next, start, "audience changes were removed before they were read");
                        next = start;
                        *self.window(partition) = Window::starting_at(start);
                    }
                    Err(error) => {
                        tracing::warn!(partition = %at, next, %error, "audience changes cannot be read, will try again");
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = read_on => {}
        }
    }

    fn window(&self, partition: u32) -> std::sync::MutexGuard<'_, Window> {
        // A panic while it was held leaves a window that is whole: pushes are single steps.
        self.windows[partition as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(begin: u64, offsets: &[u64], changes_max: usize) -> Window {
        let mut window = Window::starting_at(begin);
        for &offset in offsets {
            window.push(Change { offset, change: None }, changes_max);
        }
        window
    }

    /// Offsets that are taken, and what comes next.
    fn check(window: &Window, from: u64, records_max: usize, expected: Option<(&[u64], u64)>) {
        let taken = match window.take(from, records_max) {
            Taken::Changes { changes, next } => Some((changes.iter().map(|c| c.offset).collect::<Vec<_>>(), next)),
            Taken::Older => None,
        };
        assert_eq!(taken, expected.map(|(offsets, next)| (offsets.to_vec(), next)));
    }

    #[test]
    fn changes_come_in_order_from_the_offset_on() {
        // The log has holes at 5 and 8.
        let window = window(5, &[6, 7, 9], 10);
        check(&window, 4, 10, None);
        check(&window, 5, 10, Some((&[6, 7, 9], 10)));
        check(&window, 5, 2, Some((&[6, 7], 8)));
        check(&window, 8, 10, Some((&[9], 10)));
        check(&window, 10, 10, Some((&[], 10)));
        check(&window, 12, 10, Some((&[], 12)));
    }

    #[test]
    fn what_no_longer_fits_is_left_to_the_log() {
        let window = window(5, &[6, 7, 9], 2);
        check(&window, 6, 10, None);
        check(&window, 7, 10, Some((&[7, 9], 10)));
    }
}
