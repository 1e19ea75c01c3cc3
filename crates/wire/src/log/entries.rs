//! Writes the entries of one flush straight from what was collected: a message that prost reads.
//!
//! prost wants three lists, two strings and a byte string of their own for each person, most of whom did one thing since the
//! last flush.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encoded_len_varint};

use super::encode::{Length, Out, counted, zigzag};
use super::{VERSION, pb};

/// What one person did, and what became known of them; a `PersonEntry`.
#[derive(Debug, Clone)]
pub struct Entry<'a, E> {
    /// Key of the person, big endian.
    pub person: [u8; 16],
    /// Index into the projects.
    pub project: u32,
    /// Id of the user, or empty.
    pub user_id: &'a str,
    /// Id of the visitor, or empty.
    pub visitor_id: &'a str,
    /// Number of the name, time in ms and key of each event, in arrival order.
    pub events: E,
    /// In order.
    pub steps: &'a [pb::PersonStep],
}

/// Version byte and `JourneysRecord` of these entries.
///
/// - `rest`: the message but for its entries.
pub fn encode_entries<'a, E: Iterator<Item = (u32, i64, u64)> + Clone>(
    rest: &pb::PersonEntries,
    entries: impl Iterator<Item = Entry<'a, E>> + Clone,
) -> Bytes {
    assert!(rest.entries.is_empty(), "entries come from `entries` alone");
    let of_entries = counted(|out| entries.clone().for_each(|entry| whole_entry(out, &entry)));
    let length = rest.encoded_len() + of_entries;
    let mut out = Vec::with_capacity(12 + length);
    out.push(VERSION);
    out.head(1, WireType::LengthDelimited);
    out.varint(length as u64);
    // Readers take fields in any order.
    rest.encode(&mut out).expect("a `Vec` has room");
    entries.for_each(|entry| whole_entry(&mut out, &entry));
    out.into()
}

fn whole_entry<E: Iterator<Item = (u32, i64, u64)> + Clone>(out: &mut impl Out, entry: &Entry<'_, E>) {
    out.head(4, WireType::LengthDelimited);
    out.varint(counted(|out: &mut Length| fields_of_entry(out, entry)) as u64);
    fields_of_entry(out, entry);
}

/// Fields of `PersonEntry`.
fn fields_of_entry<E: Iterator<Item = (u32, i64, u64)> + Clone>(out: &mut impl Out, entry: &Entry<'_, E>) {
    out.head(1, WireType::LengthDelimited);
    out.varint(16);
    out.bytes(&entry.person);
    out.unsigned(2, entry.project.into());
    out.text(3, entry.user_id);
    out.text(4, entry.visitor_id);
    let events = || entry.events.clone();
    let number = events().count();
    if number > 0 {
        out.head(5, WireType::LengthDelimited);
        out.varint(events().map(|(name, ..)| encoded_len_varint(name.into()) as u64).sum());
        events().for_each(|(name, ..)| out.varint(name.into()));
        out.head(6, WireType::LengthDelimited);
        out.varint(events().map(|(_, time, _)| encoded_len_varint(zigzag(time)) as u64).sum());
        events().for_each(|(_, time, _)| out.varint(zigzag(time)));
        out.head(7, WireType::LengthDelimited);
        out.varint(8 * number as u64);
        events().for_each(|(.., key)| out.bytes(&key.to_le_bytes()));
    }
    for step in entry.steps {
        let bytes = step.encode_to_vec();
        out.head(9, WireType::LengthDelimited);
        out.varint(bytes.len() as u64);
        out.bytes(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log;

    /// Few names, and lengths around those where a length takes one byte more.
    fn entry() -> impl Strategy<Value = pb::PersonEntry> {
        let text = || prop_oneof![Just(String::new()), "[a-zü]{1,9}", (126_usize..130).prop_map(|n| "x".repeat(n))];
        let event = (prop_oneof![0..3_u32, 126..130_u32], any::<i64>(), any::<u64>());
        let step = (prop::option::of(prop::collection::vec(any::<u8>(), 0..3)), text());
        let step = step.prop_map(|(link, user_id)| {
            let step = link.map(|link| pb::person_step::Step::Link(link.into()));
            pb::PersonStep { step, user_id }
        });
        let lists = (prop::collection::vec(event, 0..20), prop::collection::vec(step, 0..3));
        (any::<u128>(), 0..3_u32, text(), text(), lists).prop_map(|(person, project, user_id, visitor_id, lists)| {
            let (events, steps) = lists;
            pb::PersonEntry {
                person: Bytes::copy_from_slice(&person.to_be_bytes()),
                project,
                user_id,
                visitor_id,
                names: events.iter().map(|event| event.0).collect(),
                times_ms: events.iter().map(|event| event.1).collect(),
                keys: events.iter().map(|event| event.2).collect(),
                steps,
                ..pb::PersonEntry::default()
            }
        })
    }

    proptest! {
        #[test]
        fn prost_reads_what_is_written(
            entries in prop::collection::vec(entry(), 0..4),
            names in prop::collection::vec("[a-z]{0,3}", 0..3),
            through in 0..3_u64,
        ) {
            let rest = pb::PersonEntries { names, through, ..pb::PersonEntries::default() };
            let borrowed = entries.iter().map(|entry| Entry {
                person: entry.person[..].try_into().expect("16 bytes"),
                project: entry.project,
                user_id: &entry.user_id,
                visitor_id: &entry.visitor_id,
                events: (0..entry.names.len()).map(|n| (entry.names[n], entry.times_ms[n], entry.keys[n])),
                steps: &entry.steps,
            });
            let bytes = encode_entries(&rest, borrowed);
            let read: pb::JourneysRecord = log::decode(bytes).expect("a record");
            let expected = pb::PersonEntries { entries, ..rest };
            prop_assert_eq!(read.body, Some(pb::journeys_record::Body::Entries(expected)));
        }
    }
}
