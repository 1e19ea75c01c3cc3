//! What a worker keeps in `rejected`: records that it cannot read, and events that it does not know in those that it can.

use bytes::Bytes;
use prost::Message;
use trackway_wire::log::{self, DecodeError, pb};

use crate::stage::{Derived, Target};

/// Bytes of a record that are kept.
const BODY_BYTES_MAX: usize = 65_536;

/// Events of one record that are told one by one. A record of a stranger may have millions, and what is kept must fit
/// into a record.
const ITEMS_MAX: usize = 100;

/// Bytes of one event that are kept.
const CONTENT_BYTES_MAX: usize = 4_096;

/// Why an event is kept here that has a meaning elsewhere.
const UNKNOWN_EVENT: &str = "unknown_event";

/// A record that cannot be read.
pub(crate) fn undecodable(value: &Bytes, error: &DecodeError) -> Derived {
    kept(value, "undecodable", error.to_string(), pb::RejectedRecord::default())
}

/// - `more`: what else is known of it.
fn kept(record: &Bytes, reason: &str, message: String, more: pb::RejectedRecord) -> Derived {
    let record = pb::RejectedRecord {
        protocol: "log".to_owned(),
        reason: reason.to_owned(),
        message,
        body: record.slice(..record.len().min(BODY_BYTES_MAX)),
        ..more
    };
    Derived { target: Target::Rejected, partition: 0, value: log::encode(&record) }
}

/// Events of one record that have no meaning here; a later version may know them.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Place in the record, and why.
    first: Vec<(u32, DecodeError)>,
    count: u64,
}

impl Refused {
    /// - `field`: what has no meaning here.
    pub fn push(&mut self, index: u32, field: &'static str) {
        self.count += 1;
        if self.first.len() < ITEMS_MAX {
            self.first.push((index, DecodeError::Field { field }));
        }
    }

    /// What is kept of them. `None`: there are none.
    ///
    /// - `record`: with all its events.
    /// - `place`: where it stands in topic `events`: partition and offset.
    pub fn keep(self, record: &Bytes, (partition, offset): (u32, u64)) -> Option<Derived> {
        let (_, why) = self.first.first()?;
        let message = format!("{} events of record {offset} of `events` {partition}, the first: {why}", self.count);
        let read = log::decode::<pb::EventsRecord>(record.clone());
        let Some(pb::events_record::Body::Events(events)) = read.expect("it was read before").body else {
            unreachable!("it has events");
        };
        let item = |(index, why): (u32, DecodeError)| {
            let content = Bytes::from(events.events[index as usize].encode_to_vec());
            let content = content.slice(..content.len().min(CONTENT_BYTES_MAX));
            pb::RejectedItem { index, reason: UNKNOWN_EVENT.to_owned(), message: why.to_string(), content }
        };
        let items = self.first.into_iter().map(item).collect();
        let more = pb::RejectedRecord { project: events.project.clone(), items, ..pb::RejectedRecord::default() };
        Some(kept(record, UNKNOWN_EVENT, message, more))
    }
}
