//! The task that moves the spool into the primary, in order, and lets appends go directly again when it is empty.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{sleep, timeout};

use super::disk::{Chunk, Entry, Position};
use super::{Mode, Shared, State};
use crate::{AppendError, LogError, LogFault, NewRecord};

/// Bytes that are on their way to the primary at one time, and a whole entry at least. Also what may be left in the spool
/// when appends are held: a primary that is there takes it in milliseconds.
const CHUNK_BYTES: usize = 1 << 20;
/// How long appends are held at most; then they go to the spool after all.
const HOLD_MAX: Duration = Duration::from_millis(500);
/// Pauses between attempts that failed.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the age of the oldest record is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What is to be done next.
enum Step {
    Stop,
    /// Nothing, until something changes.
    Wait,
    /// Ask the primary for the topics: it was away at the start.
    Probe,
    /// Move what is there from here on.
    Drain(Position),
    /// Remove these segments: the spool is empty.
    Empty(Position, Vec<u64>),
}

#[derive(Debug, thiserror::Error)]
enum DrainFault {
    #[error("the primary does not take them")]
    Append(#[source] AppendError),
    #[error("the primary does not tell its topics")]
    Topics(#[source] LogError),
    #[error("the spool's files cannot be read")]
    Read(#[source] LogFault),
    #[error("the log is closed")]
    Closed,
}

/// Runs until the log is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    let mut pause = PAUSE_MIN;
    // Whether the primary took the last chunk. Only then are appends held for the next one.
    let mut flows = false;
    loop {
        changed.borrow_and_update();
        let step = next_step(&shared, &mut shared.lock(), flows);
        let outcome = match step {
            Step::Stop => return,
            Step::Wait => {
                let _ = timeout(TELL_EVERY, changed.changed()).await;
                shared.tell_sizes(&shared.lock());
                continue;
            }
            Step::Probe => probe(&shared).await,
            Step::Drain(from) => drain(&shared, from).await,
            Step::Empty(head, gone) => {
                forget(&shared, head, gone).await;
                continue;
            }
        };
        flows = outcome.is_ok();
        match outcome {
            Ok(()) => pause = PAUSE_MIN,
            Err(DrainFault::Closed) => return,
            Err(fault) => {
                release(&shared);
                metrics::counter!("eventlog_spool_drain_errors_total").increment(1);
                // The first of a row; whoever looks for more looks at the oldest record's age.
                if pause == PAUSE_MIN {
                    tracing::warn!(error = &fault as &dyn std::error::Error, "spool cannot be drained; trying again");
                }
                until_closed(&shared, sleep(pause)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

fn next_step(shared: &Shared, state: &mut State, flows: bool) -> Step {
    if state.closed {
        return Step::Stop;
    }
    if state.unseen {
        return Step::Probe;
    }
    if state.contents.records > 0 {
        let left = state.contents.undrained() + state.arriving;
        if flows && state.mode == Mode::Spooling && left <= CHUNK_BYTES as u64 {
            shared.set_mode(state, Mode::Held);
        }
        return Step::Drain(state.contents.head);
    }
    if state.arriving > 0 || state.mode == Mode::Direct {
        return Step::Wait;
    }
    // The one way back. Whatever was answered out of the spool is acknowledged by the primary.
    let gone = state.contents.clear();
    shared.acknowledged();
    let (records, took) = (std::mem::take(&mut state.drained), state.since.elapsed());
    tracing::info!(records, ?took, "spool is drained; records go to the log again");
    shared.set_mode(state, Mode::Direct);
    state.full = false;
    Step::Empty(state.contents.head, gone)
}

/// Sends one chunk, waits for all of it, and lets go of it.
async fn drain(shared: &Arc<Shared>, from: Position) -> Result<(), DrainFault> {
    let reading = Arc::clone(shared);
    let read = move || {
        let segments = reading.lock().contents.segments.clone();
        reading.folder.read(from, &segments, CHUNK_BYTES)
    };
    let chunk = tokio::task::spawn_blocking(read).await.map_err(|panicked| DrainFault::Read(panicked.into()))?;
    let Chunk { entries, end } = chunk.map_err(|error| DrainFault::Read(error.into()))?;
    let newest_ms = entries.iter().flat_map(|entry| &entry.records).map(|record| record.timestamp_ms).max();
    let records: u64 = entries.iter().map(|entry| entry.records.len() as u64).sum();

    let topics = by_topic(entries);
    let sending =
        topics.into_iter().map(|(topic, records)| async move { shared.patient.append(&topic, records).await });
    let mut sending = pin!(until_closed(shared, try_join_all(sending)));
    let sent = match timeout(HOLD_MAX, &mut sending).await {
        Ok(sent) => sent,
        Err(_) => {
            release(shared);
            sending.await
        }
    };
    sent.ok_or(DrainFault::Closed)?.map_err(DrainFault::Append)?;

    let gone = {
        let mut state = shared.lock();
        state.drained += records;
        state.contents.advance(end, records, newest_ms.unwrap_or_default())
    };
    metrics::counter!("eventlog_spool_drained_records_total").increment(records);
    forget(shared, end, gone).await;
    Ok(())
}

/// Records of each topic, in order. Topics know no order among each other.
fn by_topic(entries: Vec<Entry>) -> BTreeMap<String, Vec<NewRecord>> {
    let mut topics = BTreeMap::<String, Vec<NewRecord>>::new();
    for Entry { topic, records } in entries {
        topics.entry(topic).or_default().extend(records);
    }
    topics
}

/// Held appends go to the spool after all.
fn release(shared: &Shared) {
    let mut state = shared.lock();
    if state.mode == Mode::Held {
        shared.set_mode(&mut state, Mode::Spooling);
    }
}

async fn probe(shared: &Arc<Shared>) -> Result<(), DrainFault> {
    let known = shared.topics.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for topic in known.into_keys() {
        let asked = until_closed(shared, shared.primary.partitions(&topic)).await.ok_or(DrainFault::Closed)?;
        match asked {
            Ok(partitions) => shared.remember(&topic, partitions).await,
            // Of an earlier configuration, maybe. Whoever appends to it is told.
            Err(LogError::NoSuchTopic { .. }) => {}
            Err(error) => return Err(DrainFault::Topics(error)),
        }
    }
    shared.lock().unseen = false;
    Ok(())
}

async fn forget(shared: &Arc<Shared>, head: Position, gone: Vec<u64>) {
    let forgetting = Arc::clone(shared);
    let forgotten = tokio::task::spawn_blocking(move || {
        let forgotten = forgetting.folder.forget(head, &gone);
        forgetting.tell_sizes(&forgetting.lock());
        forgotten
    });
    if let Ok(Err(error)) = forgotten.await {
        // On a full disk the mark may not be written; the segments are gone all the same.
        tracing::debug!(error = &error as &dyn std::error::Error, "spool cannot write how far it is drained");
    }
}

/// `None` when the log is closed before it is done.
async fn until_closed<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    let mut changed = shared.changed.subscribe();
    let closed = async { while !shared.lock().closed && changed.changed().await.is_ok() {} };
    tokio::select! {
        done = work => Some(done),
        () = closed => None,
    }
}
