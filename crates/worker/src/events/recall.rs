//! Events later than the state that is held: what was let go of, questions for it, and answers.
//!
//! An event may have neighbours that were let go of only if it lies behind the last one that was. So an event in time never
//! asks, however much was let go of. One that does is told as it stands, and its visitor is held until the answer is there.

use std::collections::BTreeMap;
use std::time::Duration;

use trackway_domain::id::{EventKey, PersonKey, ProjectId};
use trackway_domain::revenue::Revenue;
use trackway_domain::rules::SessionRules;
use trackway_domain::session::{Facts, Landing, Past, Session, Unrepaired};
use trackway_domain::time::{EventTime, Watermark};
use trackway_wire::log::{DecodeError, pb};

use super::visitor::{Tables, events_of};
use super::{EventsStage, Request, VisitorState};
use crate::clock::PartitionClock;
use crate::past::Question;

/// Questions of one block at most. Each costs the store some milliseconds, and the block after it waits for them.
const QUESTIONS_MAX: usize = 200;

/// Questions of one visitor that are not answered yet, at most.
const OPEN_MAX: usize = 16;

/// Events of a visitor so near to each other share a question.
const SHARED: Duration = Duration::from_hours(24);

/// What a partition knows of what it let go of.
#[derive(Debug)]
pub(super) struct LetGo {
    /// Time of the last event, by project.
    pub last: BTreeMap<ProjectId, EventTime>,
    /// What had been let go of before this was noted: all that this had passed.
    pub before: Watermark,
    /// Visitors with questions that have not left yet, in order.
    asking: Vec<PersonKey>,
}

/// What is known of a visitor whose past is asked for, or was.
#[derive(Debug, Clone, Default)]
pub(super) struct Recall {
    pub open: Vec<Open>,
    /// Ranges of time of which all events are held, none touching another.
    pub whole: Vec<(EventTime, EventTime)>,
}

/// A question that is not answered.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub offset: u64,
    pub index: u32,
    /// Range of the events that need it, until it has left with its block.
    pub unsent: Option<(EventTime, EventTime)>,
}

/// What a record says of a visitor's past.
#[derive(Debug)]
pub struct Answer {
    project: ProjectId,
    visitor: PersonKey,
    offset: u64,
    index: u32,
    /// The past, or why there is none.
    said: Result<Past, String>,
}

impl LetGo {
    pub fn nothing() -> Self {
        Self { last: BTreeMap::new(), before: Watermark::START, asking: Vec::new() }
    }

    /// Time of the last event of a project that was let go of. Later ones are held.
    fn last(&self, project: &ProjectId, rules: &SessionRules) -> EventTime {
        let before = EventTime(self.before.0).minus(rules.gap).minus(Duration::from_millis(1));
        self.last.get(project).copied().unwrap_or(before).max(before)
    }

    pub fn note(&mut self, project: &ProjectId, time: EventTime) {
        match self.last.get_mut(project) {
            Some(last) => *last = time.max(*last),
            None => drop(self.last.insert(project.clone(), time)),
        }
    }
}

impl Recall {
    fn is_whole(&self, from: EventTime, to: EventTime) -> bool {
        self.whole.iter().any(|range| range.0 <= from && to <= range.1)
    }

    fn add_whole(&mut self, mut from: EventTime, mut to: EventTime) {
        self.whole.retain(|range| {
            let touches = range.0.0 <= to.0.saturating_add(1) && from.0 <= range.1.0.saturating_add(1);
            if touches {
                (from, to) = (from.min(range.0), to.max(range.1));
            }
            !touches
        });
        self.whole.push((from, to));
    }

    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.whole.is_empty()
    }
}

impl EventsStage {
    /// Notes a question where an event's neighbours may have been let go of. The visitor is held already.
    pub(super) fn ask_where_let_go(
        &mut self,
        time: EventTime,
        request: &Request<'_>,
        index: u32,
        clock: &PartitionClock,
    ) {
        let rules = &clock.rules.project(request.project).session;
        let let_go = self.let_go.last(request.project, rules);
        let near = (time.minus(rules.gap), time.plus(rules.gap).min(let_go));
        if near.0 > let_go {
            return;
        }
        let visitor = self.visitors.get_mut(&request.visitor_key).expect("the visitor is held");
        let recall = visitor.recall.get_or_insert_default();
        if recall.is_whole(near.0, near.1) {
            return;
        }
        let shares =
            |range: &&mut (EventTime, EventTime)| (range.0.minus(SHARED)..=range.1.plus(SHARED)).contains(&time);
        if let Some(range) = recall.open.iter_mut().filter_map(|open| open.unsent.as_mut()).find(shares) {
            *range = (range.0.min(time), range.1.max(time));
            return;
        }
        if recall.open.len() >= OPEN_MAX || self.let_go.asking.len() >= QUESTIONS_MAX {
            metrics::counter!("worker_recalls_refused_total", "reason" => "too_many_questions").increment(1);
            if recall.is_idle() {
                visitor.recall = None;
            }
            return;
        }
        recall.open.push(Open { offset: request.offset, index, unsent: Some((time, time)) });
        self.let_go.asking.push(request.visitor_key);
    }

    /// The questions of a block, to be asked when it is in the tables.
    pub(super) fn questions(&mut self, clock: &PartitionClock) -> Vec<Question> {
        let mut questions = Vec::new();
        for key in std::mem::take(&mut self.let_go.asking) {
            let Some(visitor) = self.visitors.get_mut(&key) else { continue };
            let gap = clock.rules.project(&visitor.project).session.gap;
            for open in visitor.recall.iter_mut().flat_map(|recall| &mut recall.open) {
                let Some((from, to)) = open.unsent.take() else { continue };
                let (project, offset, index) = (visitor.project.clone(), open.offset, open.index);
                questions.push(Question { project, visitor: key, offset, index, from, to, gap });
            }
        }
        if !questions.is_empty() {
            metrics::counter!("worker_recalls_asked_total").increment(questions.len() as u64);
        }
        questions
    }

    /// An answer came. One that answers no open question was given before, by a worker that crashed after it.
    pub(super) fn on_answer(&mut self, answer: Answer, clock: &PartitionClock) {
        let is_it = |open: &Open| (open.offset, open.index) == (answer.offset, answer.index) && open.unsent.is_none();
        let waits = self.visitors.peek(&answer.visitor).is_some_and(|visitor| {
            visitor.project == answer.project
                && visitor.recall.as_ref().is_some_and(|recall| recall.open.iter().any(is_it))
        });
        if !waits {
            metrics::counter!("worker_recalls_dropped_total").increment(1);
            return;
        }
        let visitor = self.visitors.get_mut(&answer.visitor).expect("just looked at");
        let recall = visitor.recall.as_mut().expect("just looked at");
        recall.open.retain(|open| !is_it(open));
        let rules = &clock.rules.project(&answer.project).session;
        let done = answer.said.and_then(|past| {
            let range = (past.from, past.to);
            visitor.sessions.recall(ruled(past, rules), rules, clock.log_time).map_err(|why| name(why).to_owned())?;
            Ok(range)
        });
        match done {
            Ok((from, to)) => {
                metrics::counter!("worker_recalls_answered_total").increment(1);
                recall.add_whole(from, to);
                self.touches.touch(answer.visitor, &mut visitor.touched_minute, clock.log_time);
                if !std::mem::replace(&mut visitor.dirty, true) {
                    self.dirty.push(answer.visitor);
                }
            }
            Err(reason) => metrics::counter!("worker_recalls_refused_total", "reason" => reason).increment(1),
        }
        if recall.is_idle() {
            visitor.recall = None;
        }
    }
}

impl VisitorState {
    /// Whether its past is asked for: nothing may be let go of until the answer is there.
    pub(super) fn waits_for_its_past(&self) -> bool {
        self.recall.as_ref().is_some_and(|recall| !recall.open.is_empty())
    }
}

/// Users are part of a session's facts only where rules split by them.
fn ruled(mut past: Past, rules: &SessionRules) -> Past {
    if !rules.split_user {
        for event in past.events.iter_mut().filter(|event| event.facts.user.is_some()) {
            event.facts = Facts { user: None, ..Facts::clone(&event.facts) }.into();
        }
    }
    past
}

fn name(why: Unrepaired) -> &'static str {
    match why {
        Unrepaired::Edge => "rules_changed",
        Unrepaired::Twice => "counted_twice",
        Unrepaired::Stranger => "unknown_session",
    }
}

impl Answer {
    /// Of a record.
    pub(super) fn parse(recalled: &pb::Recalled) -> Result<Self, DecodeError> {
        let project = ProjectId::parse(&recalled.project).ok_or(DecodeError::Field { field: "project" })?;
        let said = match recalled.refused.as_str() {
            "" => Ok(past(recalled)?),
            why => Err(why.to_owned()),
        };
        let visitor = super::key(&recalled.visitor)?;
        Ok(Self { project, visitor, offset: recalled.offset, index: recalled.index, said })
    }
}

fn past(recalled: &pb::Recalled) -> Result<Past, DecodeError> {
    let tables = Tables::new(&[], &recalled.pages, &recalled.landings)?;
    let run = recalled.events.as_ref().ok_or(DecodeError::Field { field: "events" })?;
    Ok(Past {
        from: EventTime(recalled.from_ms),
        to: EventTime(recalled.to_ms),
        events: events_of(run, &recalled.facts, &tables)?,
        sessions: recalled.sessions.iter().map(session).collect(),
    })
}

/// The session that has this row.
fn session(row: &pb::StandingSession) -> Session {
    let text = |text: &String| (!text.is_empty()).then(|| text.as_str().into());
    let landing = Landing {
        channel: row.channel.clone(),
        source: row.source.clone(),
        medium: row.medium.clone(),
        campaign: row.campaign.clone(),
        // The row does not tell, and nothing that is told of it again depends on it.
        ..Landing::default()
    };
    let direct = Landing { channel: "Direct".to_owned(), ..Landing::default() };
    Session {
        key: EventKey(row.key),
        start: EventTime(row.start_ms),
        end: EventTime(row.end_ms),
        events: row.events,
        page_views: row.page_views,
        entry_page: text(&row.entry_page),
        exit_page: text(&row.exit_page),
        entry_host: text(&row.entry_host),
        exit_host: text(&row.exit_host),
        landing: (landing != direct).then(|| landing.into()),
        engaged_ms: row.engaged_ms,
        is_bounce: row.is_bounce,
        revenue: row.revenue_micros.map(|micros| Revenue { micros, currency: row.currency.clone() }),
    }
}
