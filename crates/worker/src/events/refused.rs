//! Events that this program does not know, in records that it can read: kept in `rejected`, for a later version.

use bytes::Bytes;
use prost::Message;
use trackway_wire::log::{self, DecodeError, pb};

use crate::stage::{Derived, REJECTED_BODY_BYTES_MAX, Target};

/// Events of one record that are told one by one. A record of a stranger may have millions, and what is kept must fit
/// into a record.
const ITEMS_MAX: usize = 100;

/// Bytes of one event that are kept.
const CONTENT_BYTES_MAX: usize = 4_096;

/// Events of one record.
#[derive(Debug, Default)]
pub(super) struct Refused {
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
            pb::RejectedItem { index, reason: REASON.to_owned(), message: why.to_string(), content }
        };
        let record = pb::RejectedRecord {
            project: events.project.clone(),
            protocol: "log".to_owned(),
            reason: REASON.to_owned(),
            message,
            body: record.slice(..record.len().min(REJECTED_BODY_BYTES_MAX)),
            items: self.first.into_iter().map(item).collect(),
            ..pb::RejectedRecord::default()
        };
        Some(Derived { target: Target::Rejected, partition: 0, value: log::encode(&record) })
    }
}

const REASON: &str = "unknown_event";
