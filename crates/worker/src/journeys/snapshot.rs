//! The second stage's state as a snapshot, and back.

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
use crate::events::key;
use crate::touches::Touches;

impl JourneysStage {
    pub(super) fn to_snapshot(&self, clock: &PartitionClock) -> pb::JourneysSnapshot {
        let member = |(&(audience, person), member): (&MemberKey, &Member)| {
            let seen = member.state.seen();
            let mut others: Vec<PersonKey> = seen.iter().map(|seen| seen.via).collect();
            others.sort_unstable();
            others.dedup();
            if others == [person] {
                others.clear();
            }
            let via = |seen: &Seen| others.binary_search(&seen.via).ok().and_then(|n| u32::try_from(n).ok());
            pb::MembershipState {
                audience,
                person: person.0.to_be_bytes().to_vec().into(),
                user_id: member.user_id.clone(),
                visitor_id: member.visitor_id.clone(),
                times_ms: seen.iter().map(|seen| seen.time.0).collect(),
                keys: seen.iter().map(|seen| seen.key.0).collect(),
                received_ms: seen.iter().map(|seen| seen.received.0).collect(),
                floor_ms: member.state.floor().map(|time| time.0),
                is_in: member.state.is_in,
                touched_minute: member.touched_minute,
                hidden: member.state.is_hidden(),
                via: seen.iter().filter_map(via).collect(),
                vias: others.iter().map(|key| bytes(*key)).collect(),
            }
        };
        pb::JourneysSnapshot {
            clock: Some(clock.to_pb()),
            audiences: self.audiences.iter().map(Audience::to_pb).collect(),
            members: self.members.all.iter().map(member).collect(),
            merged_from: Vec::new(),
            merged_into: Vec::new(),
            places: self.places.iter().map(|(key, standing)| place_to_pb(*key, standing)).collect(),
            graphs: self.graphs.iter().map(|(project, users)| graph_to_pb(project, users)).collect(),
            marks: self
                .marks
                .iter()
                .map(|((topic, partition), (offset, index))| pb::SourceMark {
                    topic: topic.to_string(),
                    partition: *partition,
                    offset: *offset,
                    index: *index,
                })
                .collect(),
        }
    }

    /// From a snapshot's bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not one of ours.
    pub fn restore(
        partition: u32,
        journeys_partitions: u32,
        changes_partitions: u32,
        bytes: bytes::Bytes,
    ) -> Result<(Self, PartitionClock), DecodeError> {
        let snapshot: pb::JourneysSnapshot = log::decode(bytes)?;
        let clock = PartitionClock::from_pb(snapshot.clock.as_ref())?;
        let mut stage = Self::new(partition, journeys_partitions, changes_partitions);
        for audience in &snapshot.audiences {
            let rule = audience.rule.as_ref().ok_or(DecodeError::Field { field: "rule" })?;
            stage.add_audience(Audience {
                project: audience.project.as_str().into(),
                name: audience.audience.as_str().into(),
                rule: audience_rule_from_pb(rule)?,
                created_ms: audience.created_ms,
            });
        }
        for member in snapshot.members {
            let events = member.times_ms.len();
            if [member.keys.len(), member.received_ms.len()] != [events; 2] {
                return Err(DecodeError::Field { field: "members" });
            }
            let audience =
                stage.audiences.get(member.audience as usize).ok_or(DecodeError::Field { field: "audience" })?;
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
            let floor = member.floor_ms.map(EventTime);
            let state = Membership::restore(seen.collect(), floor, member.hidden, member.is_in);
            // A member's timer stands at the end of its last stay.
            if let Some(stay) = state.stays(&audience.rule).last().filter(|_| member.is_in) {
                stage.members.timers.insert((stay.left, member_key));
            }
            let (user_id, visitor_id) = (member.user_id, member.visitor_id);
            let touched_minute = member.touched_minute;
            stage.members.all.insert(member_key, Member { state, user_id, visitor_id, dirty: false, touched_minute });
        }
        let members = &mut stage.members;
        members.touches = Touches::restore(members.all.iter().map(|(key, member)| (member.touched_minute, *key)));
        for (from, into) in snapshot.merged_from.iter().zip(&snapshot.merged_into) {
            let place = Place { link: Some(key(into)?), ..Place::default() };
            stage.places.insert(key(from)?, Standing { place, ..Standing::default() });
        }
        for place in &snapshot.places {
            let (key, standing) = place_from_pb(place)?;
            stage.places.insert(key, standing);
        }
        for graph in &snapshot.graphs {
            stage.graphs.insert(graph.project.as_str().into(), graph_from_pb(graph)?);
        }
        for mark in snapshot.marks {
            stage.marks.insert((mark.topic.as_str().into(), mark.partition), (mark.offset, mark.index));
        }
        Ok((stage, clock))
    }
}

fn bytes(key: PersonKey) -> bytes::Bytes {
    key.0.to_be_bytes().to_vec().into()
}

fn place_to_pb(key: PersonKey, standing: &Standing) -> pb::PersonPlace {
    let Place { link, aliases, person } = &standing.place;
    pb::PersonPlace {
        key: bytes(key),
        link: link.map(bytes).unwrap_or_default(),
        person: person.map(bytes).unwrap_or_default(),
        aliases: aliases.iter().map(|user| bytes(*user)).collect(),
        visitor_id: standing.id.to_string(),
        users: standing.user_ids.iter().map(|(user, _)| bytes(*user)).collect(),
        user_ids: standing.user_ids.iter().map(|(_, id)| id.to_string()).collect(),
    }
}

fn place_from_pb(place: &pb::PersonPlace) -> Result<(PersonKey, Standing), DecodeError> {
    let optional = |bytes: &[u8]| if bytes.is_empty() { Ok(None) } else { key(bytes).map(Some) };
    let id = |(user, id): (&bytes::Bytes, &String)| Ok::<_, DecodeError>((key(user)?, id.as_str().into()));
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
        to.a.push(bytes(a));
        to.b.push(bytes(b));
        to.cause.push(match cause {
            Cause::Alias => bytes::Bytes::new(),
            Cause::Device(device) => bytes(device),
        });
    }
    to.users = users.ids.keys().map(|user| bytes(*user)).collect();
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
