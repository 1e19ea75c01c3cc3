//! The first stage's state as entries of a snapshot, and back.
//!
//! Three kinds of entries: a visitor (with all that it needs: no numbers that refer elsewhere), a day's known ids, and a
//! day's claims by content. The latter two grow at their end.

use bytes::{Buf, Bytes};
use hashbrown::HashMap;
use prost::Message;
use trackway_domain::dedup::{Claimed, ContentClaim, KnownEvents, Memory};
use trackway_domain::id::PersonKey;
use trackway_domain::time::ReceivedAt;
use trackway_wire::log::{self, DecodeError, pb};

use super::{DayFiles, EventsStage, VisitorState, visitor, whole_snapshot};
use crate::clock::PartitionClock;
use crate::snapshots::changes::{BUCKETS, Changes, Value};
use crate::snapshots::{Chain, Content};
use crate::touches::Touches;
use crate::tracked::{Held, Kept, Tracked};

/// First byte of an entry's key.
const VISITOR: u8 = b'v';
const IDS: u8 = b'i';
const CONTENT: u8 = b'c';

/// Ids that are put where one visitor would be: they cost that much less.
const IDS_PER_ENTRY: usize = 50;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// The snapshot at hand, and what it is told apart from the last by.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Of the snapshot that has begun: the entries so far, and claims that are still to be put.
    open: Option<(Changes, Claimed)>,
    /// Days of ids and of claims by content that have entries.
    id_days: Vec<i64>,
    content_days: Vec<i64>,
    /// Whether there is a snapshot before the next.
    has_parent: bool,
}

impl Kept for VisitorState {
    type Key = PersonKey;
    type Name = [u8; 17];

    fn name(key: &PersonKey) -> (usize, [u8; 17]) {
        let mut name = [VISITOR; 17];
        name[1..].copy_from_slice(&key.0.to_be_bytes());
        // The low bits: the high ones chose the partition.
        (key.0 as usize % BUCKETS, name)
    }

    fn encode(&self, _key: &PersonKey, out: &mut Vec<u8>) {
        // Ahead of the rest: asked for at a restart without reading the rest.
        out.extend_from_slice(&self.touched_minute.to_le_bytes());
        visitor::to_pb(self).encode(out).expect("the buffer grows");
    }

    fn decode(_key: &PersonKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = bytes.get(8..).ok_or(DecodeError::Field { field: "visitor" })?;
        let message = pb::VisitorState::decode(message).map_err(|source| DecodeError::Message { source })?;
        visitor::from_pb(&message, &visitor::Tables::own(&message)?)
    }
}

/// One bucket, read.
#[derive(Default)]
struct Bucket {
    visitors: Vec<(PersonKey, i64, Box<[u8]>)>,
    ids: Vec<(i64, Vec<u64>)>,
    content: Vec<ContentClaim>,
}

impl EventsStage {
    pub(super) fn begin(&mut self, clock: &PartitionClock) {
        let snapshot = &mut self.snapshot;
        assert!(snapshot.open.is_none(), "a snapshot is not yet complete");
        let id_days: Vec<i64> = self.known.days().collect();
        let content_claims = self.known.content_len() as u64;
        let head = pb::EventsHead { clock: Some(clock.to_pb()), days: id_days.clone(), content_claims };
        let is_base = !std::mem::replace(&mut snapshot.has_parent, true);
        let mut changes = Changes::new(is_base, log::encode(&head));
        let claimed = self.known.take_claimed();
        let first_day = self.known.content().next().map_or(i64::MAX, |claim| claim_day(&claim));
        let mut content_days = std::mem::take(&mut snapshot.content_days);
        content_days.extend(claimed.content.iter().map(claim_day));
        content_days.dedup();
        if !is_base {
            for &day in snapshot.id_days.iter().filter(|day| !id_days.contains(day)) {
                (0..BUCKETS).for_each(|bucket| changes.remove(bucket, &day_name(IDS, day)));
            }
            for &day in content_days.iter().filter(|day| **day < first_day) {
                (0..BUCKETS).for_each(|bucket| changes.remove(bucket, &day_name(CONTENT, day)));
            }
        }
        content_days.retain(|day| *day >= first_day);
        (snapshot.id_days, snapshot.content_days) = (id_days, content_days);
        snapshot.open = Some((changes, claimed));
        self.visitors.begin();
    }

    pub(super) fn put_some(&mut self, mut max: usize) -> Option<Changes> {
        let Snapshot { open, id_days, content_days, .. } = &mut self.snapshot;
        let (changes, claimed) = open.as_mut().expect("a snapshot has begun");
        while max > 0 {
            if let Some((day, ids)) = claimed.ids.last_mut() {
                let some = ids.split_off(ids.len().saturating_sub(max * IDS_PER_ENTRY));
                if id_days.contains(day) {
                    put_by_bucket(
                        changes,
                        IDS,
                        *day,
                        &some,
                        |id| *id,
                        |id, out| out.extend_from_slice(&id.to_le_bytes()),
                    );
                }
                max -= some.len().div_ceil(IDS_PER_ENTRY).min(max);
                if ids.is_empty() {
                    claimed.ids.pop();
                }
            } else if let Some(last) = claimed.content.last() {
                let day = claim_day(last);
                let from = claimed.content.partition_point(|claim| claim_day(claim) < day);
                let some =
                    claimed.content.split_off(from.max(claimed.content.len().saturating_sub(max * IDS_PER_ENTRY)));
                if content_days.contains(&day) {
                    put_by_bucket(
                        changes,
                        CONTENT,
                        day,
                        &some,
                        |claim| claim.key,
                        |claim, out| {
                            let numbers = [claim.key, claim.received.0 as u64, claim.claimed.0 as u64];
                            numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
                        },
                    );
                }
                max -= some.len().div_ceil(IDS_PER_ENTRY).min(max);
            } else {
                break;
            }
        }
        let complete =
            self.visitors.put_some(&mut max, changes) && claimed.ids.is_empty() && claimed.content.is_empty();
        if complete { open.take().map(|(changes, _)| changes) } else { None }
    }

    pub(super) fn all_changed(&mut self) {
        assert!(self.snapshot.open.is_none(), "a snapshot is not yet complete");
        self.snapshot.has_parent = false;
        if let Err(error) = self.known.start_over() {
            self.failure = Some(error);
        }
        self.visitors.start_over();
    }

    /// From a snapshot.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not one of ours.
    pub fn restore(
        partition: u32,
        journeys_partitions: u32,
        content: &Content,
    ) -> Result<(Self, PartitionClock), DecodeError> {
        match content {
            Content::Whole(bytes) => whole_snapshot::restore(partition, journeys_partitions, bytes.clone()),
            Content::Chain(chain) => Self::restore_chain(partition, journeys_partitions, chain),
        }
    }

    fn restore_chain(
        partition: u32,
        journeys_partitions: u32,
        chain: &Chain,
    ) -> Result<(Self, PartitionClock), DecodeError> {
        let head: pb::EventsHead = log::decode(chain.head())?;
        let clock = PartitionClock::from_pb(head.clock.as_ref())?;
        let mut buckets = chain.decode(read_bucket)?;
        let mut stage = Self::new(partition, journeys_partitions);
        let mut content: Vec<ContentClaim> = buckets.iter().flat_map(|bucket| bucket.content.iter().copied()).collect();
        // Those claimed at one time are forgotten at one time: their order among each other means nothing.
        content.sort_by_key(|claim| claim.claimed);
        let forgotten = content.len().checked_sub(head.content_claims as usize);
        content.drain(..forgotten.ok_or(DecodeError::Field { field: "content_claims" })?);
        stage.snapshot.id_days.clone_from(&head.days);
        stage.snapshot.content_days = content.iter().map(claim_day).collect();
        stage.snapshot.content_days.dedup();
        stage.snapshot.has_parent = true;
        // Taken out of the buckets a day at a time, so that ids are not in memory twice.
        let mut ids: Vec<(i64, Vec<u64>)> =
            buckets.iter_mut().flat_map(|bucket| std::mem::take(&mut bucket.ids)).collect();
        let days = head
            .days
            .iter()
            .map(|day| (*day, ids.extract_if(.., |(of, _)| of == day).flat_map(|(_, ids)| ids).collect::<Vec<_>>()));
        stage.known = KnownEvents::new(Memory::USUAL, DayFiles::default()).restored(days, content);
        let touched = buckets.iter().flat_map(|bucket| &bucket.visitors).map(|(key, minute, _)| (*minute, *key));
        stage.touches = Touches::restore(touched);
        let visitors: Vec<_> = buckets.into_iter().flat_map(|bucket| bucket.visitors).collect();
        stage.visitors = Tracked::restore(visitors.into_iter().map(|(key, _, bytes)| (key, Held::Packed(bytes))));
        Ok((stage, clock))
    }
}

fn claim_day(claim: &ContentClaim) -> i64 {
    claim.claimed.0.div_euclid(DAY_MS)
}

fn day_name(kind: u8, day: i64) -> [u8; 9] {
    let mut name = [kind; 9];
    name[1..].copy_from_slice(&day.to_be_bytes());
    name
}

/// Appends things of a day, each in the bucket of its key.
fn put_by_bucket<T>(
    changes: &mut Changes,
    kind: u8,
    day: i64,
    things: &[T],
    key: impl Fn(&T) -> u64,
    write: impl Fn(&T, &mut Vec<u8>),
) {
    let mut buckets: Vec<Vec<u8>> = vec![Vec::new(); BUCKETS];
    things.iter().for_each(|thing| write(thing, &mut buckets[key(thing) as usize % BUCKETS]));
    for (bucket, bytes) in buckets.iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
        changes.append(bucket, &day_name(kind, day), |out| out.extend_from_slice(bytes));
    }
}

fn read_bucket(entries: HashMap<&[u8], Value<'_>>) -> Result<Bucket, DecodeError> {
    const ENTRY: DecodeError = DecodeError::Field { field: "entry" };
    let mut bucket = Bucket::default();
    for (name, value) in entries {
        let value = value.whole();
        let (&kind, mut rest) = name.split_first().ok_or(ENTRY)?;
        match kind {
            VISITOR => {
                let minute = value.as_ref().try_get_i64_le().map_err(|_| ENTRY)?;
                bucket.visitors.push((key(rest)?, minute, value.into()));
            }
            IDS => {
                let day = rest.try_get_i64().map_err(|_| ENTRY)?;
                let ids = value.chunks_exact(8).map(|id| u64::from_le_bytes(id.try_into().expect("8 bytes")));
                bucket.ids.push((day, ids.collect()));
            }
            CONTENT => bucket.content.extend(value.chunks_exact(24).map(|mut claim| ContentClaim {
                key: claim.get_u64_le(),
                received: ReceivedAt(claim.get_i64_le()),
                claimed: ReceivedAt(claim.get_i64_le()),
            })),
            _ => return Err(ENTRY),
        }
    }
    Ok(bucket)
}

/// A person's key for a message.
pub(crate) fn key_bytes(key: PersonKey) -> Bytes {
    Bytes::copy_from_slice(&key.0.to_be_bytes())
}

/// A person's key in a message.
pub(crate) fn key(bytes: &[u8]) -> Result<PersonKey, DecodeError> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| DecodeError::Field { field: "person" })?;
    Ok(PersonKey(u128::from_be_bytes(bytes)))
}
