//! The first stage's state as a snapshot, and back.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashMap;
use trackway_domain::dedup::{ContentClaim, KnownEvents};
use trackway_domain::event::OrderKey;
use trackway_domain::id::{EventKey, PersonKey, ProjectId};
use trackway_domain::identity::Link;
use trackway_domain::session::{Landing, SessionEvent, VisitorSessions};
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_wire::log::{self, DecodeError, pb};

use super::{EventsStage, VisitorState};
use crate::clock::PartitionClock;
use crate::touches::Touches;

/// Numbers equal things once.
struct Numbered<T> {
    numbers: HashMap<T, u32>,
    all: Vec<T>,
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    fn new() -> Self {
        Self { numbers: HashMap::new(), all: Vec::new() }
    }

    fn number(&mut self, thing: &T) -> u32 {
        if let Some(&number) = self.numbers.get(thing) {
            return number;
        }
        let number = u32::try_from(self.all.len()).expect("fewer different ones than 2^32");
        self.numbers.insert(thing.clone(), number);
        self.all.push(thing.clone());
        number
    }
}

impl EventsStage {
    pub(super) fn to_snapshot(&self, clock: &PartitionClock) -> pb::EventsSnapshot {
        let mut projects = Numbered::<ProjectId>::new();
        let mut pages = Numbered::<Arc<str>>::new();
        let mut landings = Numbered::<Arc<Landing>>::new();
        let mut visitors = Vec::with_capacity(self.visitors.len());
        for (key, visitor) in &self.visitors {
            let run = |(touched, events): (ReceivedAt, &[SessionEvent])| pb::SessionRun {
                touched_ms: touched.0,
                times_ms: events.iter().map(|event| event.order.time.0).collect(),
                sequences: events.iter().map(|event| event.order.sequence).collect(),
                keys: events.iter().map(|event| event.order.key.0).collect(),
                pages: events
                    .iter()
                    .map(|event| event.page.as_ref().map_or(0, |page| pages.number(page) + 1))
                    .collect(),
                landings: events
                    .iter()
                    .map(|event| event.landing.as_ref().map_or(0, |l| landings.number(l) + 1))
                    .collect(),
            };
            visitors.push(pb::VisitorState {
                key: key.0.to_be_bytes().to_vec().into(),
                project: projects.number(&visitor.project),
                user: visitor.link.map(|link| link.user.0.to_be_bytes().to_vec().into()).unwrap_or_default(),
                runs: visitor.sessions.runs().map(run).collect(),
                touched_minute: visitor.touched_minute,
                link: visitor.link.map(|link| pb::VisitorLink {
                    time_ms: link.since.time.0,
                    sequence: link.since.sequence,
                    key: link.since.key.0,
                }),
            });
        }
        pb::EventsSnapshot {
            clock: Some(clock.to_pb()),
            projects: projects.all.iter().map(|project| project.as_str().to_owned()).collect(),
            pages: pages.all.iter().map(ToString::to_string).collect(),
            landings: landings
                .all
                .iter()
                .map(|l| pb::Landing {
                    channel: l.channel.clone(),
                    source: l.source.clone(),
                    medium: l.medium.clone(),
                    campaign: l.campaign.clone(),
                })
                .collect(),
            visitors,
            days: self
                .known
                .days()
                .map(|(day, keys)| pb::KnownDay { day, keys: keys.iter().copied().collect() })
                .collect(),
            content_keys: self.known.content().map(|claim| claim.key).collect(),
            content_received_ms: self.known.content().map(|claim| claim.received.0).collect(),
            content_claimed_ms: self.known.content().map(|claim| claim.claimed.0).collect(),
        }
    }

    /// From a snapshot's bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not one of ours.
    pub fn restore(
        partition: u32,
        journeys_partitions: u32,
        bytes: bytes::Bytes,
    ) -> Result<(Self, PartitionClock), DecodeError> {
        let snapshot: pb::EventsSnapshot = log::decode(bytes)?;
        let clock = PartitionClock::from_pb(snapshot.clock.as_ref())?;
        let projects: Vec<ProjectId> = snapshot
            .projects
            .iter()
            .map(|project| ProjectId::parse(project).ok_or(DecodeError::Field { field: "projects" }))
            .collect::<Result<_, _>>()?;
        let pages: Vec<Arc<str>> = snapshot.pages.iter().map(|page| page.as_str().into()).collect();
        let landing = |l: &pb::Landing| {
            Arc::new(Landing {
                channel: l.channel.clone(),
                source: l.source.clone(),
                medium: l.medium.clone(),
                campaign: l.campaign.clone(),
            })
        };
        let landings: Vec<Arc<Landing>> = snapshot.landings.iter().map(landing).collect();
        let mut stage = Self::new(partition, journeys_partitions);
        stage.visitors.reserve(snapshot.visitors.len());
        for visitor in &snapshot.visitors {
            let key = key(&visitor.key)?;
            let project =
                projects.get(visitor.project as usize).ok_or(DecodeError::Field { field: "project" })?.clone();
            let link = link(&visitor.user, visitor.link.as_ref())?;
            let runs: Vec<_> =
                visitor.runs.iter().map(|run| session_run(run, &pages, &landings)).collect::<Result<_, _>>()?;
            let touched_minute = visitor.touched_minute;
            let sessions = VisitorSessions::restore(runs);
            stage.visitors.insert(key, VisitorState { project, link, sessions, dirty: false, touched_minute });
        }
        stage.touches = Touches::restore(stage.visitors.iter().map(|(key, visitor)| (visitor.touched_minute, *key)));
        let days = snapshot.days.into_iter().map(|day| (day.day, day.keys.into_iter().collect()));
        stage.known = KnownEvents::restore(
            days,
            content_claims(&snapshot.content_keys, &snapshot.content_received_ms, &snapshot.content_claimed_ms)?,
        );
        Ok((stage, clock))
    }
}

/// From a snapshot's parallel lists. `claimed_ms` is not there in snapshots of before it was told apart from
/// `received_ms`.
fn content_claims(keys: &[u64], received_ms: &[i64], claimed_ms: &[i64]) -> Result<Vec<ContentClaim>, DecodeError> {
    let claimed_ms = if claimed_ms.is_empty() { received_ms } else { claimed_ms };
    if [received_ms.len(), claimed_ms.len()] != [keys.len(); 2] {
        return Err(DecodeError::Field { field: "content_keys" });
    }
    let times = received_ms.iter().zip(claimed_ms);
    let claim = |(&key, (&received, &claimed)): (&u64, (&i64, &i64))| ContentClaim {
        key,
        received: ReceivedAt(received),
        claimed: ReceivedAt(claimed),
    };
    Ok(keys.iter().zip(times).map(claim).collect())
}

/// Of before the earliest event counted, the first that arrived was the visitor's for good.
fn link(user: &[u8], since: Option<&pb::VisitorLink>) -> Result<Option<Link>, DecodeError> {
    if user.is_empty() {
        return Ok(None);
    }
    let first = OrderKey { time: EventTime(i64::MIN), sequence: 0, key: EventKey(0) };
    let since = since.map_or(first, |since| OrderKey {
        time: EventTime(since.time_ms),
        sequence: since.sequence,
        key: EventKey(since.key),
    });
    Ok(Some(Link { user: key(user)?, since }))
}

/// A person's key in a message.
pub(crate) fn key(bytes: &[u8]) -> Result<PersonKey, DecodeError> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| DecodeError::Field { field: "person" })?;
    Ok(PersonKey(u128::from_be_bytes(bytes)))
}

fn session_run(
    run: &pb::SessionRun,
    pages: &[Arc<str>],
    landings: &[Arc<Landing>],
) -> Result<(ReceivedAt, Vec<SessionEvent>), DecodeError> {
    let events = run.times_ms.len();
    if events == 0 || [run.sequences.len(), run.keys.len(), run.pages.len(), run.landings.len()] != [events; 4] {
        return Err(DecodeError::Field { field: "runs" });
    }
    fn pick<T: Clone>(all: &[T], number: u32) -> Result<Option<T>, DecodeError> {
        match number {
            0 => Ok(None),
            n => all.get(n as usize - 1).cloned().map(Some).ok_or(DecodeError::Field { field: "runs" }),
        }
    }
    let event = |n: usize| {
        let (time, key) = (EventTime(run.times_ms[n]), EventKey(run.keys[n]));
        let order = OrderKey { time, sequence: run.sequences[n], key };
        Ok(SessionEvent { order, page: pick(pages, run.pages[n])?, landing: pick(landings, run.landings[n])? })
    };
    Ok((ReceivedAt(run.touched_ms), (0..events).map(event).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_before_the_earliest_event_counted_stays() {
        let user = PersonKey(7).0.to_be_bytes();
        let since = OrderKey { time: EventTime(i64::MIN), sequence: 0, key: EventKey(0) };
        assert_eq!(link(&user, None).ok(), Some(Some(Link { user: PersonKey(7), since })));
        assert_eq!(link(&[], None).ok(), Some(None));
    }

    #[test]
    fn a_snapshot_of_before_claims_had_a_time_of_their_own_is_read() {
        let (keys, received) = ([7, 8], [1_000, 2_000]);
        let claims = |claimed: &[i64]| content_claims(&keys, &received, claimed).map_err(|error| error.to_string());
        let times = |claims: Vec<ContentClaim>| -> Vec<_> {
            claims.into_iter().map(|claim| (claim.key, claim.received.0, claim.claimed.0)).collect()
        };
        assert_eq!(claims(&[]).map(times), Ok(vec![(7, 1_000, 1_000), (8, 2_000, 2_000)]));
        assert_eq!(claims(&[5_000, 6_000]).map(times), Ok(vec![(7, 1_000, 5_000), (8, 2_000, 6_000)]));
        assert!(claims(&[5_000]).is_err());
    }
}
