//! Requests of which something was rejected, newest first.
//!
//! The topic is read backwards, a stretch at a time, all partitions at once, and what is asked for is picked out. It is a
//! small topic; a request looks through a bounded part of it, and the page says where the next one goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use trackway_eventlog::{EventLog, LogError, OffsetBounds, Record, TopicPartition};
use trackway_wire::log::{decode, pb as log_pb};

use crate::check::{Rejected, bad_page_token};
use crate::pb;
use crate::service::Desk;
use crate::status::Fault;

/// Records that one page looks through at most.
const RECORDS_MAX: usize = 20_000;
/// Bytes of records that one page looks through at most: they are read whole.
const READ_BYTES_MAX: usize = 256 << 20;
/// Bytes of one page, so that it fits an answer; a first request is always in it, and is 16 MiB at most.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Records that are read at a time: at first few, since each may be large; more where they are small.
const STRETCH: (u64, u64) = (8, 512);
/// A stretch of less is followed by one of twice the records.
const STRETCH_BYTES: usize = 1 << 20;
/// How long a read waits for records that exist. Brokers need some time even for those.
const READ_WAIT: Duration = Duration::from_secs(5);
/// Clocks of gateways differ: looking begins so much later than `until`.
const CLOCK_SLACK_MS: i64 = 60_000;

pub(crate) async fn answer(desk: &Desk, asked: Rejected) -> Result<pb::ListRejectedResponse, Fault> {
    let log = &*desk.log;
    let topic = &desk.config.topics.rejected;
    let mut places = places(log, topic, &asked).await?;
    let mut answer = pb::ListRejectedResponse::default();
    let (mut looked, mut read_bytes, mut page_bytes) = (0, 0, 0);
    loop {
        for place in &mut places {
            read_bytes += place.fill(log).await?;
        }
        // The newest of all partitions; of equal ones the first.
        let newest = |place: &&mut Place| place.ready.last().map(|record| record.timestamp_ms);
        let Some(place) = places.iter_mut().rev().filter(|place| !place.ready.is_empty()).max_by_key(newest) else {
            return Ok(answer);
        };
        let record = place.ready.last().expect("one that is not empty was taken");
        if let Some(request) = picked(&place.at, record, &asked) {
            let bytes = request.encoded_len();
            if !answer.requests.is_empty() && page_bytes + bytes > PAGE_BYTES_MAX {
                answer.next_page_token = token(&places);
                return Ok(answer);
            }
            page_bytes += bytes;
            answer.requests.push(request);
        }
        place.end = record.offset;
        place.ready.pop();
        looked += 1;
        let is_full = answer.requests.len() >= asked.page_size as usize;
        if is_full || looked >= RECORDS_MAX || read_bytes >= READ_BYTES_MAX {
            if places.iter().any(|place| place.begin < place.end) {
                answer.next_page_token = token(&places);
            }
            return Ok(answer);
        }
    }
}

/// One partition, as far as it is not looked through.
struct Place {
    at: TopicPartition,
    begin: u64,
    /// What is at this offset or behind it has been looked at.
    end: u64,
    /// Records just before `end`, oldest first.
    ready: Vec<Record>,
    stretch: u64,
}

impl Place {
    /// Reads a stretch if there is nothing ready. Returns its bytes.
    async fn fill(&mut self, log: &dyn EventLog) -> Result<usize, Fault> {
        let mut bytes = 0;
        while self.ready.is_empty() && self.begin < self.end {
            let mut next = self.end.saturating_sub(self.stretch).max(self.begin);
            let from = next;
            while next < self.end {
                let missing = usize::try_from(self.end - next).unwrap_or(usize::MAX);
                let records = match log.read(&self.at, next, missing, READ_WAIT).await {
                    Ok(records) => records,
                    // Retention came between: what is left begins there.
                    Err(LogError::Gone { start, .. }) => {
                        self.begin = start.min(self.end);
                        next = self.begin;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                // Going on without them would be an answer with a hole.
                let Some(last) = records.last() else {
                    return Err(Fault::LogSlow { partition: self.at.to_string(), offset: next, limit: READ_WAIT });
                };
                next = last.offset + 1;
                bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
                self.ready.extend(records.into_iter().filter(|record| record.offset < self.end));
            }
            if self.ready.is_empty() {
                // Offsets without records, which Kafka may have.
                self.end = from.max(self.begin);
            }
            self.stretch = if bytes < STRETCH_BYTES { (self.stretch * 2).min(STRETCH.1) } else { STRETCH.0 };
        }
        Ok(bytes)
    }
}

/// Where to look: from where the page before ended, or from the end.
async fn places(log: &dyn EventLog, topic: &str, asked: &Rejected) -> Result<Vec<Place>, Fault> {
    let bounds = log.bounds(topic).await?;
    let none = BTreeMap::new();
    let since = match asked.since_ms {
        Some(since) => log.offsets_at(topic, since).await?,
        None => none.clone(),
    };
    let until = match asked.until_ms {
        Some(until) => log.offsets_at(topic, until.saturating_add(CLOCK_SLACK_MS)).await?,
        None => none,
    };
    let ends = match &asked.page_token {
        None => None,
        Some(text) => {
            Some(parse_token(text).filter(|ends| ends.len() == bounds.len()).ok_or_else(|| bad_page_token(text))?)
        }
    };
    let place = |(n, (&partition, bounds)): (usize, (&u32, &OffsetBounds))| {
        let end = until.get(&partition).copied().unwrap_or(bounds.end).min(bounds.end);
        let end = ends.as_ref().map_or(end, |ends| ends[n].min(end));
        let begin = since.get(&partition).copied().unwrap_or(bounds.start).max(bounds.start);
        let at = TopicPartition { topic: topic.into(), partition };
        Place { at, begin: begin.min(end), end, ready: Vec::new(), stretch: STRETCH.0 }
    };
    Ok(bounds.iter().enumerate().map(place).collect())
}

/// The request of a record, if it is asked for.
fn picked(at: &TopicPartition, record: &Record, asked: &Rejected) -> Option<pb::RejectedRequest> {
    let received = record.timestamp_ms;
    if asked.since_ms.is_some_and(|since| received < since) || asked.until_ms.is_some_and(|until| received >= until) {
        return None;
    }
    let rejected = read(at, record)?;
    let is_of = |reason: &str| asked.reason.is_empty() || asked.reason == reason;
    let wanted = rejected.project == asked.project
        && (asked.protocol.is_empty() || asked.protocol == rejected.protocol)
        && (is_of(&rejected.reason) || rejected.items.iter().any(|item| is_of(&item.reason)));
    if !wanted {
        return None;
    }
    let item = |item: log_pb::RejectedItem| pb::RejectedItem {
        index: item.index,
        reason: item.reason,
        message: item.message,
        excerpt: item.content.to_vec(),
    };
    let header = |header: log_pb::Header| pb::Header { name: header.name, value: header.value };
    let body_bytes = rejected.body.len() as u64;
    let (body, headers) = if asked.with_body { (rejected.body.to_vec(), rejected.headers) } else { Default::default() };
    Some(pb::RejectedRequest {
        partition: at.partition,
        offset: record.offset,
        received_ms: received,
        protocol: rejected.protocol,
        reason: rejected.reason,
        message: rejected.message,
        method: rejected.method,
        target: rejected.target,
        items: rejected.items.into_iter().map(item).collect(),
        body_bytes,
        body,
        headers: headers.into_iter().map(header).collect(),
    })
}

/// A record of the topic, if this program can read it.
pub(crate) fn read(at: &TopicPartition, record: &Record) -> Option<log_pb::RejectedRecord> {
    match decode(record.value.clone()) {
        Ok(rejected) => Some(rejected),
        Err(error) => {
            tracing::error!(partition = %at, offset = record.offset, %error, "a rejected request cannot be read");
            None
        }
    }
}

/// Where the next page goes on: the end of what is left, of each partition.
fn token(places: &[Place]) -> String {
    let ends: Vec<String> = places.iter().map(|place| place.end.to_string()).collect();
    URL_SAFE_NO_PAD.encode(ends.join("."))
}

fn parse_token(text: &str) -> Option<Vec<u64>> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    text.split('.').map(|end| end.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
