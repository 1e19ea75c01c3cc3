//! The second stage's state as entries of a snapshot, and back.

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message;
use trackway_domain::audience::{Membership, Seen};
use trackway_domain::id::{EventKey, PersonKey};
use trackway_domain::identity::aliases::{Cause, Moves};
use trackway_domain::identity::place::Place;
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_wire::log::{self, DecodeError, pb};
use trackway_wire::rules::audience_rule_from_pb;

use super::members::{Member, MemberKey};
use super::persons::{Standing, Users};
use super::{Audience, JourneysStage};
use crate::clock::PartitionClock;
use crate::events::{key, key_bytes};
use crate::snapshots::changes::{BUCKETS, Changes, Value};
use crate::snapshots::{Chain, Content};
use crate::touches::Touches;
use crate::tracked::{Held, Kept, Tracked};

/// First byte of an entry's key.
const MEMBER: u8 = b'm';
const PLACE: u8 = b'p';

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
        let mut vias: Vec<PersonKey> = seen.iter().map(|seen| seen.via).collect();
        vias.sort_unstable();
        vias.dedup();
        if vias == [person] {
            vias.clear();
        }
        let via = |seen: &Seen| vias.binary_search(&seen.via).ok().and_then(|n| u32::try_from(n).ok());
        let message = pb::MembershipState {
            audience,
            person: key_bytes(person),
            user_id: self.user_id.clone(),
            visitor_id: self.visitor_id.clone(),
            times_ms: seen.iter().map(|seen| seen.time.0).collect(),
            keys: seen.iter().map(|seen| seen.key.0).collect(),
            received_ms: seen.iter().map(|seen| seen.received.0).collect(),
            floor_ms: self.state.floor().map(|time| time.0),
            is_in: self.state.is_in,
            touched_minute: self.touched_minute,
            hidden: self.state.is_hidden(),
            via: seen.iter().filter_map(via).collect(),
            vias: vias.iter().map(|key| key_bytes(*key)).collect(),
        };
        message.encode(out).expect("the buffer grows");
    }

    fn decode(_key: &MemberKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = pb::MembershipState::decode(bytes).map_err(|source| DecodeError::Message { source })?;
        member_from_pb(message).map(|(_, member)| member)
    }
}

impl Kept for Standing {
    type Key = PersonKey;
    type Name = [u8; 17];

    fn name(key: &PersonKey) -> (usize, [u8; 17]) {
        let mut name = [PLACE; 17];
        name[1..].copy_from_slice(&key.0.to_be_bytes());
        (key.0 as usize % BUCKETS, name)
    }

    fn encode(&self, key: &PersonKey, out: &mut Vec<u8>) {
        place_to_pb(*key, self).encode(out).expect("the buffer grows");
    }

    fn decode(_key: &PersonKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        // Before there were places, a bare key: whom the person turned out to be. A place has two keys at least.
        if bytes.len() == 16 {
            return key(bytes).map(linked);
        }
        let place = pb::PersonPlace::decode(bytes).map_err(|source| DecodeError::Message { source })?;
        place_from_pb(&place).map(|(_, standing)| standing)
    }
}

impl JourneysStage {
    pub(super) fn begin(&mut self, clock: &PartitionClock) {
        assert!(self.snapshot.open.is_none(), "a snapshot is not yet complete");
        let mark = |((topic, partition), (offset, index)): (&(std::sync::Arc<str>, u32), &(u64, u32))| pb::SourceMark {
            topic: topic.to_string(),
            partition: *partition,
            offset: *offset,
            index: *index,
        };
        let head = pb::JourneysHead {
            clock: Some(clock.to_pb()),
            audiences: self.audiences.iter().map(Audience::to_pb).collect(),
            marks: self.marks.iter().map(mark).collect(),
            graphs: self.graphs.iter().map(|(project, users)| graph_to_pb(project, users)).collect(),
        };
        let is_base = !std::mem::replace(&mut self.snapshot.has_parent, true);
        self.snapshot.open = Some(Changes::new(is_base, log::encode(&head)));
        self.members.all.begin();
        self.places.begin();
    }

    pub(super) fn put_some(&mut self, mut max: usize) -> Option<Changes> {
        let changes = self.snapshot.open.as_mut().expect("a snapshot has begun");
        let complete = self.members.all.put_some(&mut max, changes) && self.places.put_some(&mut max, changes);
        if complete { self.snapshot.open.take() } else { None }
    }

    pub(super) fn all_changed(&mut self) {
        assert!(self.snapshot.open.is_none(), "a snapshot is not yet complete");
        self.snapshot.has_parent = false;
        self.members.all.start_over();
        self.places.start_over();
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
            self.places.insert(key(from)?, linked(key(into)?));
        }
        self.all_changed();
        PartitionClock::from_pb(snapshot.clock.as_ref())
    }

    fn restore_chain(&mut self, chain: &Chain) -> Result<PartitionClock, DecodeError> {
        let head: pb::JourneysHead = log::decode(chain.head())?;
        self.restore_small(&head.audiences, head.marks)?;
        for graph in &head.graphs {
            self.graphs.insert(graph.project.as_str().into(), graph_from_pb(graph)?);
        }
        let buckets = chain.decode(read_bucket)?;
        let (members, places): (Vec<_>, Vec<_>) = buckets.into_iter().unzip();
        self.restore_members(members.into_iter().flatten().collect())?;
        let places: Vec<_> = places.into_iter().flatten().map(|(key, place)| (key, Held::Live(place))).collect();
        self.places = Tracked::restore(places.into_iter());
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
                self.members.timers.insert((stay.left, *member_key));
            }
        }
        self.members.touches = Touches::restore(members.iter().map(|(key, member)| (member.touched_minute, *key)));
        self.members.all = Tracked::restore(members.into_iter().map(|(key, member)| (key, Held::Live(member))));
        Ok(())
    }
}

/// One bucket's members, and below whom keys stand.
type Bucket = (Vec<(MemberKey, Member)>, Vec<(PersonKey, Standing)>);

fn read_bucket(entries: HashMap<&[u8], Value<'_>>) -> Result<Bucket, DecodeError> {
    let mut bucket = Bucket::default();
    for (name, value) in entries {
        match name.split_first() {
            Some((&MEMBER, _)) => {
                let message = pb::MembershipState::decode(value.whole().as_ref());
                bucket.0.push(member_from_pb(message.map_err(|source| DecodeError::Message { source })?)?);
            }
            Some((&PLACE, from)) => {
                let from = key(from)?;
                bucket.1.push((from, Standing::decode(&from, &value.whole())?));
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
    let member_key = (member.audience, key(&member.person)?);
    let vias: Vec<PersonKey> = member.vias.iter().map(|via| key(via)).collect::<Result<_, _>>()?;
    if ![0, events].contains(&member.via.len()) || member.via.iter().any(|via| vias.len() <= *via as usize) {
        return Err(DecodeError::Field { field: "via" });
    }
    let seen = (0..events).map(|n| Seen {
        time: EventTime(member.times_ms[n]),
        key: EventKey(member.keys[n]),
        via: member.via.get(n).map_or(member_key.1, |via| vias[*via as usize]),
        received: ReceivedAt(member.received_ms[n]),
    });
    let state = Membership::restore(seen.collect(), member.floor_ms.map(EventTime), member.hidden, member.is_in);
    let (user_id, visitor_id, touched_minute) = (member.user_id, member.visitor_id, member.touched_minute);
    Ok((member_key, Member { state, user_id, visitor_id, dirty: false, touched_minute }))
}

/// A place of which nothing is known but the device's user.
fn linked(user: PersonKey) -> Standing {
    Standing { place: Place { link: Some(user), ..Place::default() }, ..Standing::default() }
}

fn place_to_pb(key: PersonKey, standing: &Standing) -> pb::PersonPlace {
    let Place { link, aliases, person } = &standing.place;
    pb::PersonPlace {
        key: key_bytes(key),
        link: link.map(key_bytes).unwrap_or_default(),
        person: person.map(key_bytes).unwrap_or_default(),
        aliases: aliases.iter().map(|user| key_bytes(*user)).collect(),
        visitor_id: standing.id.to_string(),
        users: standing.user_ids.iter().map(|(user, _)| key_bytes(*user)).collect(),
        user_ids: standing.user_ids.iter().map(|(_, id)| id.to_string()).collect(),
    }
}

fn place_from_pb(place: &pb::PersonPlace) -> Result<(PersonKey, Standing), DecodeError> {
    let optional = |bytes: &[u8]| if bytes.is_empty() { Ok(None) } else { key(bytes).map(Some) };
    let id = |(user, id): (&Bytes, &String)| Ok::<_, DecodeError>((key(user)?, id.as_str().into()));
    let standing = Standing {
        place: Place {
            link: optional(&place.link)?,
            person: optional(&place.person)?,
            aliases: place.aliases.iter().map(|user| key(user)).collect::<Result<_, _>>()?,
        },
        id: place.visitor_id.as_str().into(),
        user_ids: place.users.iter().zip(&place.user_ids).map(id).collect::<Result<_, _>>()?,
    };
    Ok((key(&place.key)?, standing))
}

fn graph_to_pb(project: &str, users: &Users) -> pb::UserGraph {
    let mut to = pb::UserGraph { project: project.to_owned(), ..pb::UserGraph::default() };
    for (a, b, cause) in users.graph.edges() {
        to.a.push(key_bytes(a));
        to.b.push(key_bytes(b));
        to.cause.push(match cause {
            Cause::Alias => Bytes::new(),
            Cause::Device(device) => key_bytes(device),
        });
    }
    to.users = users.ids.keys().map(|user| key_bytes(*user)).collect();
    to.user_ids = users.ids.values().map(|id| id.to_string()).collect();
    to
}

fn graph_from_pb(from: &pb::UserGraph) -> Result<Users, DecodeError> {
    let mut users = Users::default();
    for ((a, b), cause) in from.a.iter().zip(&from.b).zip(&from.cause) {
        let cause = if cause.is_empty() { Cause::Alias } else { Cause::Device(key(cause)?) };
        // Whoever these moves concern was told when they happened.
        users.graph.join(key(a)?, key(b)?, cause, &mut Moves::new());
    }
    for (user, id) in from.users.iter().zip(&from.user_ids) {
        users.ids.insert(key(user)?, id.as_str().into());
    }
    Ok(users)
}
