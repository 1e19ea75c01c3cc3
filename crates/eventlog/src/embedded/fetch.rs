//! Reading batches back: by offset, by time, and to see what retention may remove.

use super::batch;
use super::lock;
use super::store::{Store, Topic, decode, start_key};
use crate::{LogError, LogFault, Record};

impl Store {
    /// Records from `offset` on: at most `records_max`, and no further batch once there are `bytes_max`.
    pub fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        let (start, end) = {
            let state = lock(&topic.partitions[partition as usize]);
            (state.start, state.end)
        };
        let gone = |start| LogError::Gone { partition: topic.at(partition), wanted: offset, start };
        if offset < start {
            return Err(gone(start));
        }
        let mut records: Vec<Record> = Vec::new();
        if offset >= end || records_max == 0 {
            return Ok(records);
        }
        let fault = |source: LogFault| LogError::Operation {
            what: "read",
            subject: format!("{} at offset {offset}", topic.at(partition)),
            source,
        };
        let key = |base| batch::key(topic.id, partition, base);
        // The batch that holds `offset` is the last one that begins at it or before.
        let holding = self.batches.range(key(start)..=key(offset)).next_back();
        let base = match holding {
            Some(entry) => entry.key().map_err(|error| fault(error.into()))?,
            None => key(offset)[..].into(),
        };
        let mut next = None;
        let mut bytes = 0;
        for entry in self.batches.range(&base[..]..&key(end)[..]) {
            let batch = decode(&topic.name, partition, entry).map_err(fault)?;
            let Some((first, last)) = batch.first().map(|r| r.offset).zip(batch.last().map(|r| r.offset)) else {
                break;
            };
            if next.map_or(first > offset || last < offset, |next| next != first) {
                break;
            }
            next = Some(last + 1);
            for record in batch {
                if record.offset >= offset && records.len() < records_max {
                    bytes += record.value.len();
                    records.push(record);
                }
            }
            if records.len() >= records_max || bytes >= bytes_max {
                break;
            }
        }
        if records.is_empty() {
            // Retention passed by while we looked, or the store lost something.
            let start = lock(&topic.partitions[partition as usize]).start;
            return Err(if offset < start { gone(start) } else { fault(Box::new(Missing { start, end })) });
        }
        Ok(records)
    }

    /// First offset with a timestamp of `at_ms` or later.
    pub fn offset_at(&self, topic: &Topic, partition: u32, at_ms: i64) -> Result<u64, LogError> {
        let mut from = 0;
        loop {
            let found = {
                let state = lock(&topic.partitions[partition as usize]);
                match state.span_reaching(at_ms, from) {
                    Some(span) => span,
                    None => return Ok(state.end),
                }
            };
            let (base, end) = found;
            for entry in self.batches.range(batch::key(topic.id, partition, base)..batch::key(topic.id, partition, end))
            {
                let batch = decode(&topic.name, partition, entry).map_err(|source| LogError::Operation {
                    what: "look up a time",
                    subject: topic.at(partition).to_string(),
                    source,
                })?;
                if let Some(record) = batch.iter().find(|record| record.timestamp_ms >= at_ms) {
                    return Ok(record.offset);
                }
            }
            // Retention has removed the record that the span was kept for.
            from = end;
        }
    }

    /// Removes the batches at the front that are older than `cutoff_ms` as a whole; answers how many records.
    pub fn expire(&self, topic: &Topic, partition: u32, cutoff_ms: i64) -> Result<u64, LogFault> {
        let (old, mut start, end) = {
            let state = lock(&topic.partitions[partition as usize]);
            (state.start, state.expired_until(cutoff_ms), state.end)
        };
        let key = |base| batch::key(topic.id, partition, base);
        for entry in self.batches.range(key(start)..key(end)) {
            let batch = decode(&topic.name, partition, entry)?;
            if batch.iter().any(|record| record.timestamp_ms >= cutoff_ms) {
                break;
            }
            start = batch.last().map_or(start, |record| record.offset + 1);
        }
        if start == old {
            return Ok(0);
        }
        // Memory first: whoever reads from now on is told `Gone` and does not meet a half-removed front.
        let gone = lock(&topic.partitions[partition as usize]).drop_before(start);
        let mut batch = self.db.batch();
        batch.insert(&self.meta, start_key(topic.id, partition), start.to_be_bytes());
        for span in gone {
            batch.remove(&self.spans, key(span.base));
        }
        for (count, entry) in self.batches.range(key(old)..key(start)).enumerate() {
            batch.remove(&self.batches, entry.key()?);
            // The first part carries the new start, so a crash between two parts leaves rubbish, never a hole.
            if count % 10_000 == 9_999 {
                std::mem::replace(&mut batch, self.db.batch()).commit()?;
            }
        }
        batch.commit()?;
        Ok(start - old)
    }
}

/// The store has no batch where there must be one.
#[derive(Debug, thiserror::Error)]
#[error("the store has no such record though it holds {start} to {end}")]
struct Missing {
    start: u64,
    end: u64,
}
