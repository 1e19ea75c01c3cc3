//! What the stream is told of sessions: the rows of a block, as records of topic `journeys`.
//!
//! Sums by sign over the stream are those of the table: both are made of the same rows.

use std::sync::Arc;

use hashbrown::HashMap;
use trackway_domain::id::PersonKey;
use trackway_store::rows::SessionRow;
use trackway_wire::log::{self, pb};

use super::key_bytes;
use crate::stage::{Derived, Target};

/// Bytes of one record, about: far below what a log takes, and large enough that a block of usual pages has one record
/// for each partition.
const BYTES_MAX: usize = 1 << 20;

/// Bytes of one change without its texts, about.
const CHANGE_BYTES: usize = 64;

/// A record that is being filled.
#[derive(Default)]
struct Open<'a> {
    body: pb::SessionChanges,
    projects: Vec<&'a Arc<str>>,
    texts: HashMap<&'a str, u32>,
    bytes: usize,
    /// Index of the record before it, of this partition.
    after: Option<u32>,
}

impl<'a> Open<'a> {
    fn push(&mut self, row: &'a SessionRow) {
        let project = self.projects.iter().position(|known| **known == row.project).unwrap_or_else(|| {
            self.projects.push(&row.project);
            self.body.projects.push(row.project.to_string());
            self.projects.len() - 1
        });
        let change = pb::SessionChange {
            project: u32::try_from(project).expect("few projects"),
            visitor: key_bytes(PersonKey(row.visitor)),
            taken_back: row.sign < 0,
            key: row.session_key,
            start_ms: row.start_ms,
            end_ms: row.end_ms,
            events: row.events,
            page_views: row.page_views,
            entry_page: self.text(&row.entry_page),
            exit_page: self.text(&row.exit_page),
            entry_host: self.text(&row.entry_host),
            exit_host: self.text(&row.exit_host),
            channel: self.text(&row.channel),
            source: self.text(&row.source),
            medium: self.text(&row.medium),
            campaign: self.text(&row.campaign),
            engaged_ms: row.engaged_ms,
            is_bounce: row.is_bounce,
            revenue_micros: row.revenue_micros,
            currency: self.text(&row.currency),
        };
        self.body.changes.push(change);
        self.bytes += CHANGE_BYTES;
    }

    /// Place of a text among the record's.
    fn text(&mut self, text: &'a str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(&place) = self.texts.get(text) {
            return place;
        }
        if self.body.texts.is_empty() {
            self.body.texts.push(String::new());
        }
        let place = u32::try_from(self.body.texts.len()).expect("fewer texts than 2^32 in a record");
        self.body.texts.push(text.to_owned());
        self.texts.insert(text, place);
        self.bytes += text.len() + 4;
        place
    }
}

/// The records of one block, in order; most often one for each partition of `journeys` that is concerned.
///
/// - `source`: the partition of `events`.
/// - `offset`: of the block's last record. All other derived records of the block have a lesser origin.
pub(super) fn records(rows: &[SessionRow], source: u32, offset: u64, partitions: u32) -> Vec<Derived> {
    let mut open: Vec<Open<'_>> = (0..partitions).map(|_| Open::default()).collect();
    let mut records = Vec::new();
    for row in rows {
        let partition = PersonKey(row.visitor).partition(partitions);
        let to = &mut open[partition as usize];
        to.push(row);
        if to.bytes >= BYTES_MAX {
            close(to, partition, (source, offset), &mut records);
        }
    }
    for (partition, to) in (0..).zip(&mut open) {
        if !to.body.changes.is_empty() {
            close(to, partition, (source, offset), &mut records);
        }
    }
    records
}

fn close(open: &mut Open<'_>, partition: u32, (source, offset): (u32, u64), records: &mut Vec<Derived>) {
    // 0 is the flush's, which may begin with this very record.
    let index = 1 + u32::try_from(records.len()).expect("few records in a block");
    let Open { mut body, after, .. } = std::mem::replace(open, Open { after: Some(index), ..Open::default() });
    body.origin = Some(pb::Origin { topic: "events".to_owned(), partition: source, offset, index, after });
    let record = pb::JourneysRecord { body: Some(pb::journeys_record::Body::Sessions(body)) };
    records.push(Derived { target: Target::Journeys, partition, value: log::encode(&record) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(visitor: u128, page: &str, sign: i8) -> SessionRow {
        SessionRow {
            project: "shop".into(),
            visitor,
            session_key: 7,
            start_ms: 5,
            end_ms: 9,
            events: 2,
            page_views: 1,
            entry_page: page.to_owned(),
            exit_page: page.to_owned(),
            entry_host: String::new(),
            exit_host: String::new(),
            channel: "Direct".to_owned(),
            source: String::new(),
            medium: String::new(),
            campaign: String::new(),
            engaged_ms: 0,
            is_bounce: false,
            revenue_micros: None,
            currency: String::new(),
            sign,
        }
    }

    fn read(derived: &Derived) -> pb::SessionChanges {
        match log::decode::<pb::JourneysRecord>(derived.value.clone()).expect("ours").body {
            Some(pb::journeys_record::Body::Sessions(changes)) => changes,
            other => panic!("{other:?} has no sessions"),
        }
    }

    #[test]
    fn a_text_that_many_sessions_share_is_there_once() {
        let rows = [row(1, "/a", -1), row(1, "/a", 1), row(1, "", 1)];
        let records = records(&rows, 3, 17, 1);
        assert_eq!(records.len(), 1);
        let record = read(&records[0]);
        assert_eq!(
            (record.projects, record.texts),
            (vec!["shop".to_owned()], ["", "/a", "Direct"].map(str::to_owned).into())
        );
        let told: Vec<_> =
            record.changes.iter().map(|c| (c.taken_back, c.entry_page, c.exit_page, c.channel)).collect();
        assert_eq!(told, [(true, 1, 1, 2), (false, 1, 1, 2), (false, 0, 0, 2)]);
        let origin = record.origin.expect("it has one");
        assert_eq!((origin.partition, origin.place(), origin.after), (3, (17, 1), None));
    }

    #[test]
    fn a_large_block_is_cut_into_records_that_each_name_the_one_before() {
        let pages: Vec<String> = (0..20).map(|n| format!("{n}").repeat(100_000)).collect();
        let rows: Vec<_> = pages.iter().zip(0..).map(|(page, n)| row(n << 127, page, 1)).collect();
        let records = records(&rows, 3, 17, 2);
        assert!(records.iter().all(|derived| derived.value.len() < 2 * BYTES_MAX));
        let mut last = [None; 2];
        let mut sessions = 0;
        for (derived, number) in records.iter().zip(1..) {
            let record = read(derived);
            let origin = record.origin.expect("it has one");
            assert_eq!((origin.place(), origin.after), ((17, number), last[derived.partition as usize]));
            last[derived.partition as usize] = Some(number);
            sessions += record.changes.len();
        }
        assert_eq!((sessions, last.iter().flatten().count()), (20, 2));
        assert!(records.len() > 3);
    }
}
