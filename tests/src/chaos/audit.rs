//! Every event's fate, from the log alone: each record is read again, in order, by the plainest reading of the rules. What
//! the tables say of each event (counted or late, and from which record) must be that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trackway_eventlog::{EventLog, Record, TopicPartition};
use trackway_wire::log::{self, pb};

use super::input::Sent;
use super::senders::Told;
use super::tables::Stored;

/// What became of all events of an installation.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Fates {
    pub counted: usize,
    pub late: usize,
    pub duplicate: usize,
    pub rejected: usize,
}

/// Reads the whole log, and says what does not fit to it.
///
/// # Errors
/// If the log cannot be read.
pub(super) async fn fates(
    log: &dyn EventLog,
    stored: &[Stored],
    sent: &[Sent],
    told: Told,
) -> Result<(Fates, Vec<String>)> {
    let mut fates = Fates::default();
    let mut wrong = Vec::new();
    let mut expected: BTreeMap<(u32, u64, u32), bool> = BTreeMap::new();
    for (partition, records) in read(log, "events").await? {
        let mut clock = Clock { log_time: i64::MIN, event_now: None, lateness: 5 * 60_000 };
        let mut known = BTreeSet::new();
        for record in records {
            let offset = record.offset;
            let before = clock.log_time;
            clock.log_time = before.max(record.timestamp_ms);
            match log::decode::<pb::EventsRecord>(record.value)?.body {
                Some(pb::events_record::Body::Tick(_)) => {
                    clock.event_now = clock.event_now.map(|now| now + clock.log_time.saturating_sub(before));
                }
                Some(pb::events_record::Body::Rules(rules)) => clock.lateness = rules.lateness_ms,
                Some(pb::events_record::Body::Events(events)) => {
                    for (index, event) in (0..).zip(events.events) {
                        if !known.insert((events.project.clone(), event.key)) {
                            fates.duplicate += 1;
                            continue;
                        }
                        let late = clock.event_now.is_some_and(|now| event.time_ms < now - clock.lateness);
                        *(if late { &mut fates.late } else { &mut fates.counted }) += 1;
                        expected.insert((partition, offset, index), late);
                        clock.event_now = clock.event_now.max(Some(event.time_ms));
                    }
                }
                // Of a kind that this reading knows nothing of.
                _ => {}
            }
        }
    }
    for stored in stored {
        match expected.remove(&stored.origin) {
            Some(late) if late == stored.late => {}
            Some(late) => wrong.push(format!("late is {} and should be {late}: {:?}", stored.late, stored.row)),
            None => wrong.push(format!("the log has no first event at {:?}: {:?}", stored.origin, stored.row)),
        }
    }
    if let Some(origin) = expected.keys().next() {
        wrong.push(format!("{} events of the log are in no table, such as {origin:?}", expected.len()));
    }
    for records in read(log, "rejected").await?.into_values() {
        for record in records {
            fates.rejected += log::decode::<pb::RejectedRecord>(record.value)?.items.len();
        }
    }
    let counted = fates.counted + fates.late;
    if counted != sent.len() {
        wrong.push(format!("{} different events were sent, {counted} count", sent.len()));
    }
    // What nobody answered for may or may not have happened.
    let in_log = counted + fates.duplicate;
    if !(told.accepted..=told.accepted + told.unknown).contains(&in_log) {
        wrong.push(format!("the log has {in_log} events, senders know of {told:?}"));
    }
    if fates.rejected < told.rejected {
        wrong.push(format!("{} items were rejected, `rejected` has {}", told.rejected, fates.rejected));
    }
    Ok((fates, wrong))
}

/// Time in a partition.
struct Clock {
    log_time: i64,
    event_now: Option<i64>,
    lateness: i64,
}

/// All records of a topic, by partition.
async fn read(log: &dyn EventLog, topic: &str) -> Result<BTreeMap<u32, Vec<Record>>> {
    let mut all = BTreeMap::new();
    for (partition, bounds) in log.bounds(topic).await? {
        let at = TopicPartition { topic: topic.into(), partition };
        let mut records: Vec<Record> = Vec::new();
        let mut next = bounds.start;
        while next < bounds.end {
            let some = log.read(&at, next, 5_000, Duration::from_secs(10)).await?;
            next = some.last().with_context(|| format!("{at} gives nothing from {next} on"))?.offset + 1;
            records.extend(some);
        }
        ensure!(records.is_sorted_by_key(|record| record.offset), "{at} is out of order");
        all.insert(partition, records);
    }
    Ok(all)
}

impl Fates {
    /// Of another installation too.
    pub fn add(&mut self, other: Self) {
        self.counted += other.counted;
        self.late += other.late;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
    }
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counted, late, duplicate, rejected } = self;
        write!(f, "{counted} counted in time, {late} late, {duplicate} duplicate, {rejected} rejected")
    }
}
