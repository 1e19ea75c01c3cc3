//! What was let go of comes back out of the store: the question, and the record that answers it.
//!
//! The answer comes from outside the log. So it is appended to the log, and applied from there: a replay asks again, and the
//! answer that it gets is dropped for the first one.

use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use trackway_domain::event::EventKind;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::session::{Role, apart};
use trackway_domain::time::EventTime;
use trackway_store::Store;
use trackway_store::queries::{QueryError, TimeRange, VisitorEventRow};
use trackway_store::rows::SessionRow;
use trackway_wire::activity;
use trackway_wire::log::{self, pb};

use crate::events::key_bytes;

/// Events of one answer. A visitor with more around one moment is a machine.
const EVENTS_MAX: usize = 20_000;

/// Bytes of one answer: far below what a record may have.
const BYTES_MAX: usize = 2 << 20;

/// How far around an event it is looked first: state is held for a day, and most sessions near are found with it.
const REACH: Duration = Duration::from_hours(24);

/// How often the reach is doubled at most: to half a year.
const WIDENED_MAX: u32 = 7;

/// A question for a visitor's past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose.
    pub project: ProjectId,
    /// Whose.
    pub visitor: PersonKey,
    /// Its name: the first event that needs it, by its record,
    pub offset: u64,
    /// and its place there.
    pub index: u32,
    /// The first event that needs it by time.
    pub from: EventTime,
    /// The last event that needs it by time.
    pub to: EventTime,
    /// Inactivity that ends a session.
    pub gap: Duration,
}

/// Where a visitor's past is: the store, or what a test holds.
pub trait Past: Sync {
    /// As [`Store::visitor_events`].
    ///
    /// # Errors
    /// [`QueryError`]
    fn events(
        &self,
        project: &str,
        visitor: u128,
        range: TimeRange,
        rows_max: usize,
    ) -> impl Future<Output = Result<Vec<VisitorEventRow>, QueryError>> + Send;

    /// As [`Store::visitor_sessions`].
    ///
    /// # Errors
    /// [`QueryError`]
    fn sessions(
        &self,
        project: &str,
        visitor: u128,
        range: TimeRange,
    ) -> impl Future<Output = Result<Vec<(SessionRow, u64)>, QueryError>> + Send;
}

impl Past for Store {
    async fn events(
        &self,
        project: &str,
        visitor: u128,
        range: TimeRange,
        rows_max: usize,
    ) -> Result<Vec<VisitorEventRow>, QueryError> {
        self.visitor_events(project, visitor, range, rows_max).await
    }

    async fn sessions(
        &self,
        project: &str,
        visitor: u128,
        range: TimeRange,
    ) -> Result<Vec<(SessionRow, u64)>, QueryError> {
        self.visitor_sessions(project, visitor, range).await
    }
}

impl Question {
    /// The record that answers it. What has too many events around has an answer that says so; and what the store refuses.
    ///
    /// Everything that came before the question must be in the store. What came later may be.
    ///
    /// # Errors
    /// [`QueryError`] if it is worth asking again.
    pub async fn answer(&self, past: &impl Past) -> Result<Bytes, QueryError> {
        match self.look(past).await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_retryable() => Err(error),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a visitor's past is not read");
                Ok(self.refused("store"))
            }
        }
    }

    async fn look(&self, past: &impl Past) -> Result<Bytes, QueryError> {
        let (project, visitor) = (self.project.as_str(), self.visitor.0);
        for widened in 0..=WIDENED_MAX {
            // Twice the gap sees an event that joins at each end, and that nothing joins it from beyond.
            let reach = REACH.max(self.gap * 2) * 2_u32.pow(widened);
            let window = (self.from.minus(reach), self.to.plus(reach));
            let range = TimeRange { from_ms: window.0.0, to_ms: window.1.0.saturating_add(1) };
            let events = past.events(project, visitor, range, EVENTS_MAX + 1).await?;
            if events.len() > EVENTS_MAX {
                return Ok(self.refused("too_many"));
            }
            let times: Vec<_> = events.iter().map(|event| EventTime(event.time_ms)).collect();
            let Some((from, to, which)) = apart(&times, window, (self.from, self.to), self.gap) else { continue };
            let events = &events[which];
            let sessions = match (events.first(), events.last()) {
                (Some(first), Some(last)) => {
                    let range = TimeRange { from_ms: first.time_ms, to_ms: last.time_ms.saturating_add(1) };
                    past.sessions(project, visitor, range).await?
                }
                _ => Vec::new(),
            };
            let said = self.said(from, to, events, sessions);
            return Ok(if said.len() > BYTES_MAX { self.refused("too_large") } else { said });
        }
        Ok(self.refused("too_long"))
    }

    fn said(
        &self,
        from: EventTime,
        to: EventTime,
        events: &[VisitorEventRow],
        sessions: Vec<(SessionRow, u64)>,
    ) -> Bytes {
        let mut pages = Numbered::default();
        let mut landings = Numbered::default();
        let mut facts = Numbered::default();
        let mut run = pb::SessionRun::default();
        for event in events {
            run.times_ms.push(event.time_ms);
            run.sequences.push(event.sequence);
            run.keys.push(event.event_key);
            let said = self.facts(event, &mut pages, &mut landings);
            // Those count from 1, these from 0.
            run.facts.push(facts.number(said) - 1);
        }
        let sessions = sessions.into_iter().flat_map(|(row, times)| {
            let session = standing(row);
            std::iter::repeat_n(session, usize::try_from(times).unwrap_or(usize::MAX))
        });
        encode(pb::Recalled {
            from_ms: from.0,
            to_ms: to.0,
            pages: pages.all,
            landings: landings.all.into_iter().map(|(texts, kind)| landing(texts, kind)).collect(),
            facts: facts.all.into_iter().map(Facts::into_pb).collect(),
            events: Some(run),
            sessions: sessions.collect(),
            ..self.named()
        })
    }

    fn facts(
        &self,
        event: &VisitorEventRow,
        pages: &mut Numbered<String>,
        landings: &mut Numbered<([String; 4], u32)>,
    ) -> Facts {
        let kind = match event.kind.as_str() {
            "page" => EventKind::Page,
            "screen" => EventKind::Screen,
            _ => EventKind::Track,
        };
        let role = activity::role(&event.protocol, kind, &event.event, &event.properties);
        let (page, host) = match (role, kind) {
            (Role::View, EventKind::Page) => (pages.number(event.path.clone()), pages.number(event.host.clone())),
            (Role::View, EventKind::Screen) => (pages.number(event.page_name.clone()), 0),
            _ => (0, 0),
        };
        let landing = match (event.landing.as_str(), event.channel.as_str()) {
            ("", "") => None,
            ("campaign", _) => Some(1),
            ("website", _) => Some(2),
            _ => Some(0),
        };
        let landing = landing.map_or(0, |kind| {
            let texts = [&event.channel, &event.source, &event.medium, &event.campaign].map(String::clone);
            landings.number((texts, kind))
        });
        let itself = || PersonKey::of_user(&self.project, &event.visitor_id);
        let user = match event.user_id.as_str() {
            "" => Some(itself()).filter(|user| *user == self.visitor),
            user => Some(PersonKey::of_user(&self.project, user)),
        };
        Facts {
            role: match role {
                Role::Action => 0,
                Role::View => 1,
                Role::Passive => 2,
            },
            page,
            host,
            landing,
            user,
            revenue: event.revenue_micros.map(|micros| (micros, event.currency.clone())),
            engaged_ms: activity::engaged_ms(&event.protocol, &event.event, &event.properties),
        }
    }

    fn refused(&self, why: &str) -> Bytes {
        encode(pb::Recalled { refused: why.to_owned(), ..self.named() })
    }

    fn named(&self) -> pb::Recalled {
        pb::Recalled {
            project: self.project.as_str().to_owned(),
            visitor: key_bytes(self.visitor),
            offset: self.offset,
            index: self.index,
            ..pb::Recalled::default()
        }
    }
}

fn encode(recalled: pb::Recalled) -> Bytes {
    log::encode(&pb::EventsRecord { body: Some(pb::events_record::Body::Recalled(recalled)) })
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Facts {
    role: u32,
    page: u32,
    host: u32,
    landing: u32,
    user: Option<PersonKey>,
    revenue: Option<(i64, String)>,
    engaged_ms: u32,
}

impl Facts {
    fn into_pb(self) -> pb::SessionFacts {
        let Self { role, page, host, landing, user, revenue, engaged_ms } = self;
        pb::SessionFacts {
            role,
            page,
            host,
            landing,
            user: user.map(key_bytes).unwrap_or_default(),
            revenue_micros: revenue.as_ref().map(|(micros, _)| *micros),
            currency: revenue.map(|(_, currency)| currency).unwrap_or_default(),
            engaged_ms,
        }
    }
}

fn landing([channel, source, medium, campaign]: [String; 4], kind: u32) -> pb::Landing {
    pb::Landing { channel, source, medium, campaign, kind }
}

fn standing(row: SessionRow) -> pb::StandingSession {
    pb::StandingSession {
        key: row.session_key,
        start_ms: row.start_ms,
        end_ms: row.end_ms,
        events: row.events,
        page_views: row.page_views,
        entry_page: row.entry_page,
        exit_page: row.exit_page,
        entry_host: row.entry_host,
        exit_host: row.exit_host,
        channel: row.channel,
        source: row.source,
        medium: row.medium,
        campaign: row.campaign,
        engaged_ms: row.engaged_ms,
        is_bounce: row.is_bounce,
        revenue_micros: row.revenue_micros,
        currency: row.currency,
    }
}

/// Numbers equal things once, from 1.
struct Numbered<T> {
    all: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    fn number(&mut self, thing: T) -> u32 {
        if let Some(&number) = self.numbers.get(&thing) {
            return number;
        }
        self.all.push(thing.clone());
        let number = u32::try_from(self.all.len()).expect("fewer than events");
        self.numbers.insert(thing, number);
        number
    }
}
