//! How one batch of records stands in the store: key and value.
//!
//! Key: topic id, partition, base offset, all big-endian, so that a range scan yields one partition in offset order.
//!
//! Value: version (1 byte, now 1), checksum (8 bytes), then the body: varint count, zigzag varint first timestamp, per
//! record a zigzag varint (timestamp minus the first one) and a varint length, and last the records' bytes one after
//! the other. The table comes before the bytes so that counts and times are known without touching them.
//!
//! The checksum is the first 8 bytes of BLAKE3 over key and body. The store has checksums of its own for blocks on
//! disk; this one is end to end, and because the key is part of it a value under the wrong key is noticed too.

use bytes::{Buf, Bytes};

use crate::{NewRecord, Record};

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
/// What a record costs beside its bytes, at most: two varints.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 16;

/// Bytes of a key: see the module.
pub(super) type Key = [u8; 16];

/// The key of the batch that begins at `base`.
pub(super) fn key(topic: u32, partition: u32, base: u64) -> Key {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..8].copy_from_slice(&partition.to_be_bytes());
    key[8..].copy_from_slice(&base.to_be_bytes());
    key
}

/// Base offset in a key.
pub(super) fn base_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(8..16)?.try_into().ok()?))
}

/// A value that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("stored batch has version {0}, this program reads {VERSION}")]
    Version(u8),
    #[error("stored batch is damaged: its checksum does not match. The disk or a foreign program changed it")]
    Checksum,
    #[error("stored batch is damaged: its table does not fit its {0} bytes")]
    Table(usize),
}

/// Encodes a batch that will stand under `key`.
pub(super) fn encode(key: &Key, records: &[NewRecord]) -> Vec<u8> {
    let payload: usize = records.iter().map(|r| r.value.len() + RECORD_OVERHEAD_BYTES).sum();
    let mut out = Vec::with_capacity(1 + CHECKSUM_BYTES + 20 + payload);
    out.push(VERSION);
    out.extend_from_slice(&[0; CHECKSUM_BYTES]);
    let first = records.first().map_or(0, |r| r.timestamp_ms);
    put_varint(&mut out, records.len() as u64);
    put_varint(&mut out, zigzag(first));
    for record in records {
        put_varint(&mut out, zigzag(record.timestamp_ms.wrapping_sub(first)));
        put_varint(&mut out, record.value.len() as u64);
    }
    for record in records {
        out.extend_from_slice(&record.value);
    }
    let sum = checksum(key, &out[1 + CHECKSUM_BYTES..]);
    out[1..=CHECKSUM_BYTES].copy_from_slice(&sum);
    out
}

/// Decodes a batch; the records share `value`'s memory.
pub(super) fn decode(key: &[u8], value: Bytes) -> Result<Vec<Record>, Damage> {
    let len = value.len();
    let damage = Damage::Table(len);
    match value.first() {
        None => return Err(damage),
        Some(&VERSION) => {}
        Some(&other) => return Err(Damage::Version(other)),
    }
    if len < 1 + CHECKSUM_BYTES {
        return Err(damage);
    }
    if value[1..=CHECKSUM_BYTES] != checksum(key, &value[1 + CHECKSUM_BYTES..]) {
        return Err(Damage::Checksum);
    }
    let base = base_of(key).ok_or_else(|| damage.clone())?;
    let mut rest = value.slice(1 + CHECKSUM_BYTES..);
    let table = decode_table(&mut rest).ok_or_else(|| damage.clone())?;
    let mut records = Vec::with_capacity(table.len());
    for (offset, (timestamp_ms, bytes)) in (base..).zip(table) {
        if bytes > rest.len() {
            return Err(damage);
        }
        records.push(Record { offset, timestamp_ms, value: rest.split_to(bytes) });
    }
    if rest.is_empty() { Ok(records) } else { Err(damage) }
}

fn decode_table(rest: &mut Bytes) -> Option<Vec<(i64, usize)>> {
    let count = usize::try_from(take_varint(rest)?).ok()?;
    // Two varints each: a count that the bytes cannot hold must not make us reserve memory for it.
    if count == 0 || count > rest.len() / 2 {
        return None;
    }
    let first = unzigzag(take_varint(rest)?);
    let mut table = Vec::with_capacity(count);
    for _ in 0..count {
        let timestamp = first.wrapping_add(unzigzag(take_varint(rest)?));
        table.push((timestamp, usize::try_from(take_varint(rest)?).ok()?));
    }
    Some(table)
}

fn checksum(key: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    sum
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(from: &mut Bytes) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        if from.is_empty() {
            return None;
        }
        let byte = from.get_u8();
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    ((number >> 1) as i64) ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::{Damage, base_of, decode, encode, key};
    use crate::NewRecord;
    use bytes::Bytes;

    fn record(timestamp_ms: i64, value: &[u8]) -> NewRecord {
        NewRecord { partition: 0, timestamp_ms, value: Bytes::copy_from_slice(value) }
    }

    fn check(records: &[NewRecord]) {
        let key = key(3, 5, 700);
        let read = decode(&key, encode(&key, records).into()).expect("decodes");
        assert_eq!(read.len(), records.len());
        for ((at, got), want) in (700..).zip(&read).zip(records) {
            assert_eq!((got.offset, got.timestamp_ms, &got.value), (at, want.timestamp_ms, &want.value));
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        check(&[record(0, b"")]);
        check(&[
            record(1_700_000_000_000, b"one"),
            record(1_699_999_999_999, b""),
            record(1_700_000_000_001, b"three"),
        ]);
        check(&[record(i64::MIN, b"a"), record(i64::MAX, b"b"), record(-1, &[7; 300])]);
        check(&vec![record(5, b"x"); 1000]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = key(1, 2, 3);
        let good = encode(&key, &[record(10, b"hello"), record(12, b"world")]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&key, bad.into()).is_err(), "bit {bit}");
        }
        for short in 0..good.len() {
            assert!(decode(&key, good[..short].to_vec().into()).is_err(), "cut at {short}");
        }
    }

    #[test]
    fn a_value_under_another_key_is_noticed() {
        let value = encode(&key(1, 2, 3), &[record(10, b"hello")]);
        assert_eq!(decode(&key(1, 2, 4), value.into()), Err(Damage::Checksum));
    }

    #[test]
    fn keys_sort_as_topic_partition_offset() {
        let mut keys = [key(1, 0, 256), key(1, 0, 255), key(0, 300, 0), key(0, 2, u64::MAX), key(1, 1, 0)];
        keys.sort_unstable();
        assert_eq!(keys, [key(0, 2, u64::MAX), key(0, 300, 0), key(1, 0, 255), key(1, 0, 256), key(1, 1, 0)]);
        assert_eq!(base_of(&key(1, 0, 256)), Some(256));
    }
}
