//! How complete an answer is. Read before the tables are, so that it is never overstated: what arrives in between makes the
//! answer fresher than it says.

use trackway_eventlog::EventLog;
use trackway_store::Store;
use trackway_store::rows::ProgressRow;

use crate::pb;
use crate::status::Fault;

/// One partition of the log, and how far the tables are with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionState {
    pub partition: u32,
    /// First offset kept.
    pub start: u64,
    /// Offset after the last record.
    pub end: u64,
    /// Next record that the tables lack, and the watermark there; `None` before the worker's first word.
    pub done: Option<Done>,
}

/// How far the tables are with one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    pub offset: u64,
    /// `None` before any event.
    pub watermark_ms: Option<i64>,
    pub log_time_ms: i64,
}

impl PartitionState {
    /// Records that are in the log and not in the tables.
    pub(crate) fn pending(&self) -> u64 {
        // Progress may be ahead: the ends were read before it.
        self.end.saturating_sub(self.next())
    }

    /// The next record that the tables need. Those that retention took are awaited no more.
    pub(crate) fn next(&self) -> u64 {
        self.done.map_or(0, |done| done.offset).max(self.start)
    }

    pub(crate) fn watermark_ms(&self) -> Option<i64> {
        self.done.and_then(|done| done.watermark_ms)
    }
}

/// Complete up to where the slowest partition that has something to do is; if none has, up to the highest watermark, since
/// a partition without pending records holds nobody back.
pub(crate) fn freshness(partitions: &[PartitionState]) -> pb::Freshness {
    let pending_records: u64 = partitions.iter().map(PartitionState::pending).sum();
    let watermark_ms = if pending_records == 0 {
        partitions.iter().filter_map(PartitionState::watermark_ms).max()
    } else {
        // `None` is less than any time: a partition that is behind and has no watermark yet promises nothing.
        partitions.iter().filter(|p| p.pending() > 0).map(PartitionState::watermark_ms).min().flatten()
    };
    pb::Freshness { watermark_ms, pending_records }
}

/// State of one topic's partitions: the log's ends first, then the progress.
pub(crate) async fn partition_states(
    log: &dyn EventLog,
    store: &Store,
    topic: &str,
) -> Result<Vec<PartitionState>, Fault> {
    let bounds = log.bounds(topic).await?;
    let progress = store.progress(topic).await?;
    Ok(bounds
        .into_iter()
        .map(|(partition, bounds)| PartitionState {
            partition,
            start: bounds.start,
            end: bounds.end,
            done: progress.iter().find(|row| row.partition == partition).map(done),
        })
        .collect())
}

pub(crate) fn done(row: &ProgressRow) -> Done {
    Done {
        offset: row.offset,
        watermark_ms: (row.watermark_ms != i64::MIN).then_some(row.watermark_ms),
        log_time_ms: row.log_time_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offset and watermark.
    type Progress = Option<(u64, Option<i64>)>;

    /// - `partitions`: each one's end and progress.
    fn check(partitions: &[(u64, Progress)], watermark_ms: Option<i64>, pending_records: u64) {
        let states: Vec<_> = (0..)
            .zip(partitions)
            .map(|(partition, &(end, done))| PartitionState {
                partition,
                start: 2,
                end,
                done: done.map(|(offset, watermark_ms)| Done { offset, watermark_ms, log_time_ms: 0 }),
            })
            .collect();
        assert_eq!(freshness(&states), pb::Freshness { watermark_ms, pending_records });
    }

    #[test]
    fn nothing_pending_is_complete_up_to_the_highest_watermark() {
        check(&[(5, Some((5, Some(70)))), (9, Some((9, Some(90)))), (4, Some((4, None)))], Some(90), 0);
    }

    #[test]
    fn the_slowest_partition_that_is_behind_decides() {
        check(&[(5, Some((3, Some(70)))), (9, Some((8, Some(60)))), (4, Some((4, Some(10))))], Some(60), 3);
    }

    #[test]
    fn a_partition_behind_without_a_watermark_promises_nothing() {
        check(&[(5, Some((5, Some(70)))), (9, Some((8, None)))], None, 1);
        check(&[(5, Some((5, Some(70)))), (9, None)], None, 7);
    }

    #[test]
    fn an_empty_log_is_complete_and_has_no_watermark() {
        check(&[(2, None), (2, None)], None, 0);
    }

    #[test]
    fn progress_ahead_of_the_ends_that_were_read_is_not_behind() {
        check(&[(5, Some((8, Some(70))))], Some(70), 0);
    }

    #[test]
    fn records_that_retention_took_are_not_pending() {
        check(&[(5, Some((0, Some(70))))], Some(70), 3);
    }
}
