//! The one thread that writes the spool: what waits is written together and synced once.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::Shared;
use super::disk::{self, Tail};
use crate::NewRecord;

/// One write takes no further append from this size on.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// The spool has about this many segments when it is full: it frees that share of its room at a time.
const SEGMENTS: u64 = 16;
const SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// Whether an append is on disk.
pub(super) type Written = Result<(), Arc<io::Error>>;

/// What waits for the writer.
pub(super) enum Job {
    Append {
        topic: String,
        /// One at least.
        records: Vec<NewRecord>,
        done: oneshot::Sender<Written>,
    },
    /// Everything before it is done; the writer ends.
    Stop,
}

/// Appends that are written together.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    records: u64,
    oldest_ms: Option<i64>,
    waiting: Vec<oneshot::Sender<Written>>,
}

/// Runs until [`Job::Stop`].
pub(super) fn run(shared: &Shared, jobs: &Receiver<Job>) {
    let segment_bytes = (shared.config.bytes_max / SEGMENTS).min(SEGMENT_BYTES_MAX);
    let mut tail = Tail::default();
    while let Ok(first) = jobs.recv() {
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(Job::Append { topic, records, done }) = next {
            disk::encode(&topic, &records, &mut group.bytes);
            group.records += records.len() as u64;
            group.oldest_ms = records.iter().map(|record| record.timestamp_ms).chain(group.oldest_ms).min();
            group.waiting.push(done);
            next = if group.bytes.len() < GROUP_BYTES_MAX { jobs.try_recv().ok() } else { None };
        }
        if !group.waiting.is_empty() {
            write(shared, &mut tail, segment_bytes, group);
        }
        if matches!(next, Some(Job::Stop)) {
            return;
        }
    }
}

fn write(shared: &Shared, tail: &mut Tail, segment_bytes: u64, group: Group) {
    let Group { bytes, records, oldest_ms, waiting } = group;
    let (last, next_number) = {
        let state = shared.lock();
        (state.contents.last(), state.contents.next_number)
    };
    let outcome = tail.write(&shared.folder, last, next_number, segment_bytes, &bytes);
    let mut state = shared.lock();
    state.arriving -= bytes.len() as u64;
    let was_failing = std::mem::replace(&mut state.failing, outcome.is_err());
    let told = match outcome {
        Ok(segment) => {
            state.contents.grow(segment, records, oldest_ms.unwrap_or_default());
            metrics::counter!("eventlog_spool_spooled_records_total").increment(records);
            if was_failing {
                tracing::info!("spool takes records again");
            }
            Ok(())
        }
        Err(error) => {
            metrics::counter!("eventlog_spool_refused_records_total").increment(records);
            if !was_failing {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "spool cannot be written; senders are told to retry");
            }
            Err(Arc::new(error))
        }
    };
    shared.tell_sizes(&state);
    drop(state);
    for done in waiting {
        // Whoever does not listen any more was cancelled: that append has happened all the same.
        let _ = done.send(told.clone());
    }
    shared.notify();
}
