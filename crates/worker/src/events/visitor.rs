//! One visitor's state as a message, and back.

use std::borrow::Cow;
use std::hash::Hash;
use std::sync::Arc;

use trackway_domain::event::OrderKey;
use trackway_domain::id::{EventKey, ProjectId};
use trackway_domain::identity::Link;
use trackway_domain::revenue::Revenue;
use trackway_domain::session::{Facts, HeldEvent, HeldRun, Landing, LandingKind, Role, VisitorSessions};
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
        let project = |project: &String| ProjectId::parse(project).ok_or(DecodeError::Field { field: "project" });
        Ok(Self {
            projects: projects.iter().map(project).collect::<Result<_, _>>()?,
            pages: pages.iter().map(|page| page.as_str().into()).collect(),
            landings: landings.iter().map(landing_from_pb).collect::<Result<_, _>>()?,
        })
    }

    /// From numbers that count from 1.
    fn page(&self, number: u32) -> Result<Option<Arc<str>>, DecodeError> {
        pick(&self.pages, number)
    }

    fn landing(&self, number: u32) -> Result<Option<Arc<Landing>>, DecodeError> {
        pick(&self.landings, number)
    }
}

fn pick<T: Clone>(all: &[T], number: u32) -> Result<Option<T>, DecodeError> {
    match number {
        0 => Ok(None),
        n => all.get(n as usize - 1).cloned().map(Some).ok_or(DecodeError::Field { field: "runs" }),
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
    let facts = visitor.sessions.facts().iter().map(|(facts, engaged_ms)| pb::SessionFacts {
        role: match facts.role {
            Role::Action => 0,
            Role::View => 1,
            Role::Passive => 2,
        },
        page: pages.number(facts.page.as_ref()),
        host: pages.number(facts.host.as_ref()),
        landing: landings.number(facts.landing.as_ref()),
        user: facts.user.map(key_bytes).unwrap_or_default(),
        revenue_micros: facts.revenue.as_ref().map(|revenue| revenue.micros),
        currency: facts.revenue.as_ref().map(|revenue| revenue.currency.clone()).unwrap_or_default(),
        engaged_ms: *engaged_ms,
    });
    let facts = facts.collect();
    let runs = visitor.sessions.runs().map(|run| {
        let orders = run.events.iter().map(HeldEvent::order);
        pb::SessionRun {
            touched_ms: run.touched.0,
            times_ms: orders.clone().map(|order| order.time.0).collect(),
            sequences: orders.clone().map(|order| order.sequence).collect(),
            keys: orders.map(|order| order.key.0).collect(),
            facts: run.events.iter().map(HeldEvent::facts).collect(),
            pages: Vec::new(),
            landings: Vec::new(),
        }
    });
    pb::VisitorState {
        // The entry's name says it.
        key: bytes::Bytes::new(),
        project: 0,
        user: visitor.link.map(|link| key_bytes(link.user)).unwrap_or_default(),
        runs: runs.collect(),
        touched_minute: visitor.touched_minute,
        project_name: visitor.project.as_str().to_owned(),
        pages: pages.0.iter().map(ToString::to_string).collect(),
        landings: landings.0.iter().map(|landing| landing_to_pb(landing)).collect(),
        link: visitor.link.map(|link| pb::VisitorLink {
            time_ms: link.since.time.0,
            sequence: link.since.sequence,
            key: link.since.key.0,
        }),
        facts,
    }
}

fn landing_to_pb(landing: &Landing) -> pb::Landing {
    let Landing { channel, source, medium, campaign, kind } = landing.clone();
    let kind = match kind {
        LandingKind::Known => 0,
        LandingKind::Campaign => 1,
        LandingKind::Website => 2,
    };
    pb::Landing { channel, source, medium, campaign, kind }
}

fn landing_from_pb(landing: &pb::Landing) -> Result<Arc<Landing>, DecodeError> {
    let pb::Landing { channel, source, medium, campaign, kind } = landing.clone();
    let kind = match kind {
        0 => LandingKind::Known,
        1 => LandingKind::Campaign,
        2 => LandingKind::Website,
        _ => return Err(DecodeError::Field { field: "landings" }),
    };
    Ok(Arc::new(Landing { channel, source, medium, campaign, kind }))
}

pub(super) fn from_pb(visitor: &pb::VisitorState, tables: &Tables) -> Result<VisitorState, DecodeError> {
    let project = tables.projects.get(visitor.project as usize).ok_or(DecodeError::Field { field: "project" })?;
    let link = link(&visitor.user, visitor.link.as_ref())?;
    Ok(VisitorState {
        project: project.clone(),
        link,
        sessions: sessions(visitor, tables)?,
        dirty: false,
        touched_minute: visitor.touched_minute,
    })
}

fn sessions(visitor: &pb::VisitorState, tables: &Tables) -> Result<VisitorSessions, DecodeError> {
    const RUNS: DecodeError = DecodeError::Field { field: "runs" };
    let mut facts: Vec<_> = visitor.facts.iter().map(|facts| facts_from_pb(facts, tables)).collect::<Result<_, _>>()?;
    let mut runs = Vec::with_capacity(visitor.runs.len());
    for run in &visitor.runs {
        let events = run.times_ms.len();
        let numbers = match run.facts.len() {
            0 => Cow::Owned(facts_of_before(run, tables, &mut facts)?),
            _ => Cow::Borrowed(&*run.facts),
        };
        if [run.sequences.len(), run.keys.len(), numbers.len()] != [events; 3] {
            return Err(RUNS);
        }
        let event = |n: usize| {
            let (time, key) = (EventTime(run.times_ms[n]), EventKey(run.keys[n]));
            HeldEvent::new(OrderKey { time, sequence: run.sequences[n], key }, numbers[n])
        };
        runs.push(HeldRun { events: (0..events).map(event).collect(), touched: ReceivedAt(run.touched_ms) });
    }
    VisitorSessions::restore(facts, runs).ok_or(RUNS)
}

fn facts_from_pb(facts: &pb::SessionFacts, tables: &Tables) -> Result<(Arc<Facts>, u32), DecodeError> {
    let role = match facts.role {
        0 => Role::Action,
        1 => Role::View,
        2 => Role::Passive,
        _ => return Err(DecodeError::Field { field: "role" }),
    };
    let revenue = |micros| Revenue { micros, currency: facts.currency.clone() };
    let said = Facts {
        role,
        page: tables.page(facts.page)?,
        host: tables.page(facts.host)?,
        landing: tables.landing(facts.landing)?,
        user: if facts.user.is_empty() { None } else { Some(key(&facts.user)?) },
        revenue: facts.revenue_micros.map(revenue),
    };
    Ok((Arc::new(said), facts.engaged_ms))
}

/// Runs had pages and landings of their own before there were facts. Returns the facts' numbers.
fn facts_of_before(
    run: &pb::SessionRun,
    tables: &Tables,
    facts: &mut Vec<(Arc<Facts>, u32)>,
) -> Result<Vec<u32>, DecodeError> {
    let mut numbers = Vec::with_capacity(run.pages.len());
    for (&page, &landing) in run.pages.iter().zip(&run.landings) {
        let page = tables.page(page)?;
        let role = if page.is_some() { Role::View } else { Role::Action };
        let said = Facts { role, page, landing: tables.landing(landing)?, ..Facts::default() };
        let place = facts.iter().rposition(|(facts, _)| **facts == said).unwrap_or_else(|| {
            facts.push((Arc::new(said), 0));
            facts.len() - 1
        });
        numbers.push(u32::try_from(place).expect("fewer than events"));
    }
    Ok(numbers)
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
