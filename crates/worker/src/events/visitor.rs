//! One visitor's state as a message, and back.

use std::hash::Hash;
use std::sync::Arc;

use trackway_domain::event::OrderKey;
use trackway_domain::id::{EventKey, ProjectId};
use trackway_domain::identity::Link;
use trackway_domain::session::{Landing, SessionEvent, VisitorSessions};
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_wire::log::{DecodeError, pb};

use super::VisitorState;
use super::{key, key_bytes};

/// What a visitor's numbers refer to: its own lists, or those that a snapshot in one message has for all.
pub(super) struct Tables {
    /// Of a snapshot in one message; else each visitor has its name.
    pub projects: Vec<ProjectId>,
    pub pages: Vec<Arc<str>>,
    pub landings: Vec<Arc<Landing>>,
}

impl Tables {
    pub fn own(visitor: &pb::VisitorState) -> Result<Self, DecodeError> {
        Self::new(std::slice::from_ref(&visitor.project_name), &visitor.pages, &visitor.landings)
    }

    pub fn new(projects: &[String], pages: &[String], landings: &[pb::Landing]) -> Result<Self, DecodeError> {
        let landing = |l: &pb::Landing| {
            Arc::new(Landing {
                channel: l.channel.clone(),
                source: l.source.clone(),
                medium: l.medium.clone(),
                campaign: l.campaign.clone(),
            })
        };
        let project = |project: &String| ProjectId::parse(project).ok_or(DecodeError::Field { field: "project" });
        Ok(Self {
            projects: projects.iter().map(project).collect::<Result<_, _>>()?,
            pages: pages.iter().map(|page| page.as_str().into()).collect(),
            landings: landings.iter().map(landing).collect(),
        })
    }
}

/// Numbers equal things once, from 1. A visitor has few different ones, most often the last again.
struct Numbered<T>(Vec<T>);

impl<T: Clone + Eq + Hash> Numbered<T> {
    fn number(&mut self, thing: Option<&T>) -> u32 {
        let Some(thing) = thing else { return 0 };
        let place = self.0.iter().rposition(|other| other == thing).unwrap_or_else(|| {
            self.0.push(thing.clone());
            self.0.len() - 1
        });
        u32::try_from(place).expect("fewer different ones than 2^32") + 1
    }
}

pub(super) fn to_pb(visitor: &VisitorState) -> pb::VisitorState {
    let mut pages = Numbered::<Arc<str>>(Vec::new());
    let mut landings = Numbered::<Arc<Landing>>(Vec::new());
    let runs = visitor.sessions.runs().map(|(touched, events)| pb::SessionRun {
        touched_ms: touched.0,
        times_ms: events.iter().map(|event| event.order.time.0).collect(),
        sequences: events.iter().map(|event| event.order.sequence).collect(),
        keys: events.iter().map(|event| event.order.key.0).collect(),
        pages: events.iter().map(|event| pages.number(event.page.as_ref())).collect(),
        landings: events.iter().map(|event| landings.number(event.landing.as_ref())).collect(),
    });
    let landing = |l: Arc<Landing>| pb::Landing {
        channel: l.channel.clone(),
        source: l.source.clone(),
        medium: l.medium.clone(),
        campaign: l.campaign.clone(),
    };
    pb::VisitorState {
        // The entry's name says it.
        key: bytes::Bytes::new(),
        project: 0,
        user: visitor.link.map(|link| key_bytes(link.user)).unwrap_or_default(),
        runs: runs.collect(),
        touched_minute: visitor.touched_minute,
        project_name: visitor.project.as_str().to_owned(),
        pages: pages.0.iter().map(ToString::to_string).collect(),
        landings: landings.0.into_iter().map(landing).collect(),
        link: visitor.link.map(|link| pb::VisitorLink {
            time_ms: link.since.time.0,
            sequence: link.since.sequence,
            key: link.since.key.0,
        }),
    }
}

pub(super) fn from_pb(visitor: &pb::VisitorState, tables: &Tables) -> Result<VisitorState, DecodeError> {
    let project = tables.projects.get(visitor.project as usize).ok_or(DecodeError::Field { field: "project" })?;
    let link = link(&visitor.user, visitor.link.as_ref())?;
    let runs: Vec<_> = visitor.runs.iter().map(|run| session_run(run, tables)).collect::<Result<_, _>>()?;
    Ok(VisitorState {
        project: project.clone(),
        link,
        sessions: VisitorSessions::restore(runs),
        dirty: false,
        touched_minute: visitor.touched_minute,
    })
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

fn session_run(run: &pb::SessionRun, tables: &Tables) -> Result<(ReceivedAt, Vec<SessionEvent>), DecodeError> {
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
        let (page, landing) = (pick(&tables.pages, run.pages[n])?, pick(&tables.landings, run.landings[n])?);
        Ok(SessionEvent { order, page, landing })
    };
    Ok((ReceivedAt(run.touched_ms), (0..events).map(event).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackway_domain::id::PersonKey;

    #[test]
    fn a_user_of_before_the_earliest_event_counted_stays() {
        let user = PersonKey(7).0.to_be_bytes();
        let since = OrderKey { time: EventTime(i64::MIN), sequence: 0, key: EventKey(0) };
        assert_eq!(link(&user, None).ok(), Some(Some(Link { user: PersonKey(7), since })));
        assert_eq!(link(&[], None).ok(), Some(None));
    }
}
