//! The second stage's state as a snapshot, and back.

use trackway_domain::audience::{Membership, Seen};
use trackway_domain::id::EventKey;
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_wire::log::{self, DecodeError, pb};
use trackway_wire::rules::{audience_rule_from_pb, audience_rule_to_pb};

use super::{Audience, JourneysStage, Member};
use crate::clock::PartitionClock;
use crate::events::key;
use crate::touches::Touches;

impl JourneysStage {
    pub(super) fn to_snapshot(&self, clock: &PartitionClock) -> pb::JourneysSnapshot {
        let audience = |audience: &Audience| pb::AudienceChange {
            project: audience.project.to_string(),
            audience: audience.name.to_string(),
            rule: Some(audience_rule_to_pb(&audience.rule)),
            created_ms: audience.created_ms,
        };
        let member = |(&(audience, person), member): (&super::MemberKey, &Member)| {
            let seen = member.state.seen();
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
            }
        };
        pb::JourneysSnapshot {
            clock: Some(clock.to_pb()),
            audiences: self.audiences.iter().map(audience).collect(),
            members: self.members.iter().map(member).collect(),
            merged_from: self.merged.keys().map(|from| from.0.to_be_bytes().to_vec().into()).collect(),
            merged_into: self.merged.values().map(|into| into.0.to_be_bytes().to_vec().into()).collect(),
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
            let seen = (0..events).map(|n| Seen {
                time: EventTime(member.times_ms[n]),
                key: EventKey(member.keys[n]),
                received: ReceivedAt(member.received_ms[n]),
            });
            let state = Membership::restore(seen.collect(), member.floor_ms.map(EventTime), member.is_in);
            let member_key = (member.audience, key(&member.person)?);
            // A member's timer stands at the end of its last stay.
            if let Some(stay) = state.stays(&audience.rule).last().filter(|_| member.is_in) {
                stage.timers.insert((stay.left, member_key));
            }
            let (user_id, visitor_id) = (member.user_id, member.visitor_id);
            let touched_minute = member.touched_minute;
            stage.members.insert(member_key, Member { state, user_id, visitor_id, dirty: false, touched_minute });
        }
        stage.touches = Touches::restore(stage.members.iter().map(|(key, member)| (member.touched_minute, *key)));
        for (from, into) in snapshot.merged_from.iter().zip(&snapshot.merged_into) {
            stage.merged.insert(key(from)?, key(into)?);
        }
        for mark in snapshot.marks {
            stage.marks.insert((mark.topic.as_str().into(), mark.partition), (mark.offset, mark.index));
        }
        Ok((stage, clock))
    }
}
