//! The second stage's state as entries of a snapshot, and back.

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message;
use trackway_domain::audience::{Membership, Seen};
use trackway_domain::id::{EventKey, PersonKey};
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_wire::log::{self, DecodeError, pb};
use trackway_wire::rules::{audience_rule_from_pb, audience_rule_to_pb};

use super::{Audience, JourneysStage, Member, MemberKey, MergedInto};
use crate::clock::PartitionClock;
use crate::events::key;
use crate::snapshots::changes::{BUCKETS, Changes, Value};
use crate::snapshots::{Chain, Content};
use crate::touches::Touches;
use crate::tracked::{Held, Kept, Tracked};

/// First byte of an entry's key.
const MEMBER: u8 = b'm';
const MERGED: u8 = b'p';

/// The snapshot at hand.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    open: Option<Changes>,
    /// Whether there is a snapshot before the next.
    has_parent: bool,
}

impl Kept for Member {
    type Key = MemberKey;
    type Name = [u8; 21];

    fn name(&(audience, person): &MemberKey) -> (usize, [u8; 21]) {
        let mut name = [MEMBER; 21];
        name[1..17].copy_from_slice(&person.0.to_be_bytes());
        name[17..].copy_from_slice(&audience.to_be_bytes());
        (person.0 as usize % BUCKETS, name)
    }

    fn encode(&self, &(audience, person): &MemberKey, out: &mut Vec<u8>) {
        let seen = self.state.seen();
        let message = pb::MembershipState {
            audience,
            person: person.0.to_be_bytes().to_vec().into(),
            user_id: self.user_id.clone(),
            visitor_id: self.visitor_id.clone(),
            times_ms: seen.iter().map(|seen| seen.time.0).collect(),
            keys: seen.iter().map(|seen| seen.key.0).collect(),
            received_ms: seen.iter().map(|seen| seen.received.0).collect(),
            floor_ms: self.state.floor().map(|time| time.0),
            is_in: self.state.is_in,
            touched_minute: self.touched_minute,
        };
        message.encode(out).expect("the buffer grows");
    }

    fn decode(_key: &MemberKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = pb::MembershipState::decode(bytes).map_err(|source| DecodeError::Message { source })?;
        member_from_pb(message).map(|(_, member)| member)
    }
}

impl Kept for MergedInto {
    type Key = PersonKey;
    type Name = [u8; 17];

    fn name(key: &PersonKey) -> (usize, [u8; 17]) {
        let mut name = [MERGED; 17];
        name[1..].copy_from_slice(&key.0.to_be_bytes());
        (key.0 as usize % BUCKETS, name)
    }

    fn encode(&self, _key: &PersonKey, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.0.to_be_bytes());
    }

    fn decode(_key: &PersonKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        key(bytes).map(Self)
    }
}

impl JourneysStage {
    pub(super) fn begin(&mut self, clock: &PartitionClock) {
        assert!(self.snapshot.open.is_none(), "a snapshot is not yet complete");
        let audience = |audience: &Audience| pb::AudienceChange {
            project: audience.project.to_string(),
            audience: audience.name.to_string(),
            rule: Some(audience_rule_to_pb(&audience.rule)),
            created_ms: audience.created_ms,
        };
        let mark = |((topic, partition), (offset, index)): (&(std::sync::Arc<str>, u32), &(u64, u32))| pb::SourceMark {
            topic: topic.to_string(),
            partition: *partition,
            offset: *offset,
            index: *index,
        };
        let head = pb::JourneysHead {
            clock: Some(clock.to_pb()),
            audiences: self.audiences.iter().map(audience).collect(),
            marks: self.marks.iter().map(mark).collect(),
        };
        let is_base = !std::mem::replace(&mut self.snapshot.has_parent, true);
        self.snapshot.open = Some(Changes::new(is_base, log::encode(&head)));
        self.members.begin();
        self.merged.begin();
    }

    pub(super) fn put_some(&mut self, mut max: usize) -> Option<Changes> {
        let changes = self.snapshot.open.as_mut().expect("a snapshot has begun");
        let complete = self.members.put_some(&mut max, changes) && self.merged.put_some(&mut max, changes);
        if complete { self.snapshot.open.take() } else { None }
    }

    pub(super) fn all_changed(&mut self) {
        assert!(self.snapshot.open.is_none(), "a snapshot is not yet complete");
        self.snapshot.has_parent = false;
        self.members.start_over();
        self.merged.start_over();
    }

    /// From a snapshot.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not one of ours.
    pub fn restore(
        partition: u32,
        journeys_partitions: u32,
        changes_partitions: u32,
        content: &Content,
    ) -> Result<(Self, PartitionClock), DecodeError> {
        let mut stage = Self::new(partition, journeys_partitions, changes_partitions);
        let clock = match content {
            Content::Whole(bytes) => stage.restore_whole(bytes.clone())?,
            Content::Chain(chain) => stage.restore_chain(chain)?,
        };
        Ok((stage, clock))
    }

    /// From a snapshot in one message, as versions before deltas wrote them. The next one is a base.
    fn restore_whole(&mut self, bytes: Bytes) -> Result<PartitionClock, DecodeError> {
        let snapshot: pb::JourneysSnapshot = log::decode(bytes)?;
        self.restore_small(&snapshot.audiences, snapshot.marks)?;
        let members = snapshot.members.into_iter().map(member_from_pb).collect::<Result<_, _>>()?;
        self.restore_members(members)?;
        for (from, into) in snapshot.merged_from.iter().zip(&snapshot.merged_into) {
            self.merged.insert(key(from)?, MergedInto(key(into)?));
        }
        self.all_changed();
        PartitionClock::from_pb(snapshot.clock.as_ref())
    }

    fn restore_chain(&mut self, chain: &Chain) -> Result<PartitionClock, DecodeError> {
        let head: pb::JourneysHead = log::decode(chain.head())?;
        self.restore_small(&head.audiences, head.marks)?;
        let buckets = chain.decode(read_bucket)?;
        let (members, merged): (Vec<_>, Vec<_>) = buckets.into_iter().unzip();
        self.restore_members(members.into_iter().flatten().collect())?;
        let merged: Vec<_> = merged.into_iter().flatten().map(|(key, into)| (key, Held::Live(into))).collect();
        self.merged = Tracked::restore(merged.into_iter());
        self.snapshot.has_parent = true;
        PartitionClock::from_pb(head.clock.as_ref())
    }

    fn restore_small(
        &mut self,
        audiences: &[pb::AudienceChange],
        marks: Vec<pb::SourceMark>,
    ) -> Result<(), DecodeError> {
        for audience in audiences {
            let rule = audience.rule.as_ref().ok_or(DecodeError::Field { field: "rule" })?;
            self.add_audience(Audience {
                project: audience.project.as_str().into(),
                name: audience.audience.as_str().into(),
                rule: audience_rule_from_pb(rule)?,
                created_ms: audience.created_ms,
            });
        }
        let marks = marks.into_iter().map(|m| ((m.topic.as_str().into(), m.partition), (m.offset, m.index)));
        self.marks = marks.collect();
        Ok(())
    }

    fn restore_members(&mut self, members: Vec<(MemberKey, Member)>) -> Result<(), DecodeError> {
        for (member_key, member) in &members {
            let audience = self.audiences.get(member_key.0 as usize).ok_or(DecodeError::Field { field: "audience" })?;
            // A member's timer stands at the end of its last stay.
            if let Some(stay) = member.state.stays(&audience.rule).last().filter(|_| member.state.is_in) {
                self.timers.insert((stay.left, *member_key));
            }
        }
        self.touches = Touches::restore(members.iter().map(|(key, member)| (member.touched_minute, *key)));
        self.members = Tracked::restore(members.into_iter().map(|(key, member)| (key, Held::Live(member))));
        Ok(())
    }
}

/// One bucket's members, and the persons who turned out to be others.
type Bucket = (Vec<(MemberKey, Member)>, Vec<(PersonKey, MergedInto)>);

fn read_bucket(entries: HashMap<&[u8], Value<'_>>) -> Result<Bucket, DecodeError> {
    let mut bucket = Bucket::default();
    for (name, value) in entries {
        match name.split_first() {
            Some((&MEMBER, _)) => {
                let message = pb::MembershipState::decode(value.whole().as_ref());
                bucket.0.push(member_from_pb(message.map_err(|source| DecodeError::Message { source })?)?);
            }
            Some((&MERGED, from)) => {
                let from = key(from)?;
                bucket.1.push((from, MergedInto::decode(&from, &value.whole())?));
            }
            _ => return Err(DecodeError::Field { field: "entry" }),
        }
    }
    Ok(bucket)
}

fn member_from_pb(member: pb::MembershipState) -> Result<(MemberKey, Member), DecodeError> {
    let events = member.times_ms.len();
    if [member.keys.len(), member.received_ms.len()] != [events; 2] {
        return Err(DecodeError::Field { field: "members" });
    }
    let seen = (0..events).map(|n| Seen {
        time: EventTime(member.times_ms[n]),
        key: EventKey(member.keys[n]),
        received: ReceivedAt(member.received_ms[n]),
    });
    let state = Membership::restore(seen.collect(), member.floor_ms.map(EventTime), member.is_in);
    let member_key = (member.audience, key(&member.person)?);
    let (user_id, visitor_id, touched_minute) = (member.user_id, member.visitor_id, member.touched_minute);
    Ok((member_key, Member { state, user_id, visitor_id, dirty: false, touched_minute }))
}
