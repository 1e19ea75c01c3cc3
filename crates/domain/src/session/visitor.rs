//! One visitor's events while their sessions may still change.

use std::sync::Arc;

use super::cut::cut;
use super::{Facts, Session, SessionEvent};
use crate::event::OrderKey;
use crate::id::EventKey;
use crate::rules::SessionRules;
use crate::time::{EventTime, ReceivedAt, Watermark, millis};

/// Events of one visitor held at most. Above it the oldest sessions become final: a visitor with more than this in a day
/// is a machine, and must not take the memory of the others.
const HELD_EVENTS_MAX: usize = 5 * crate::limits::SESSION_EVENTS_MAX;

/// How far back it is looked whether an event's facts are held already: a visitor goes on with what it did last.
const FACTS_LOOKED_AT: usize = 32;

/// One visitor's events while their sessions may still change, and what has been told of these sessions.
///
/// Events stand in *runs*: no gap above the limit within one, one above it between any two. All other cuts lie within a run,
/// so only a run that was touched can change its sessions.
#[derive(Debug, Clone, Default)]
pub struct VisitorSessions {
    runs: Vec<Run>,
    /// What events refer to.
    facts: Vec<(Arc<Facts>, u32)>,
    /// Sessions, already told, of the runs that were touched since.
    told: Vec<Session>,
}

/// One event, as it is held: 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldEvent {
    time: EventTime,
    key: EventKey,
    sequence: u32,
    facts: u32,
}

impl HeldEvent {
    /// An event whose facts stand at `facts` of [`VisitorSessions::facts`].
    #[must_use]
    pub fn new(order: OrderKey, facts: u32) -> Self {
        let OrderKey { time, sequence, key } = order;
        Self { time, key, sequence, facts }
    }

    /// Its place among the visitor's events.
    #[must_use]
    pub fn order(&self) -> OrderKey {
        OrderKey { time: self.time, sequence: self.sequence, key: self.key }
    }

    /// Where its facts stand in [`VisitorSessions::facts`].
    #[must_use]
    pub fn facts(&self) -> u32 {
        self.facts
    }
}

/// Events with no gap above the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRun {
    /// In order, never empty.
    pub events: Vec<HeldEvent>,
    /// Last time an event was added.
    pub touched: ReceivedAt,
}

#[derive(Debug, Clone)]
struct Run {
    held: HeldRun,
    /// Whether its sessions are to be told again. A run that is not dirty was told as it stands.
    dirty: bool,
}

impl Run {
    fn start(&self) -> i64 {
        self.held.events[0].time.0
    }

    fn end(&self) -> i64 {
        self.held.events[self.held.events.len() - 1].time.0
    }

    fn cut(&self, facts: &[(Arc<Facts>, u32)], rules: &SessionRules, each: impl FnMut(Session, usize)) {
        let event = |held: &HeldEvent| {
            let (facts, engaged_ms) = &facts[held.facts as usize];
            (held.order(), *engaged_ms, &**facts)
        };
        cut(self.held.events.iter().map(event), rules, each);
    }
}

impl VisitorSessions {
    /// Adds one event, joining the runs that it bridges. Duplicates are the caller's concern.
    ///
    /// An event exactly `gap` after the last still extends its session; one millisecond more begins another.
    ///
    /// - `received`: received time of the log so far; from it on the state is held.
    pub fn on_event(&mut self, event: &SessionEvent, rules: &SessionRules, received: ReceivedAt) {
        let looked_at = self.facts.len().saturating_sub(FACTS_LOOKED_AT);
        let same = |(facts, engaged_ms): &(Arc<Facts>, u32)| {
            *engaged_ms == event.engaged_ms && Arc::ptr_eq(facts, &event.facts)
        };
        let place = match self.facts[looked_at..].iter().rposition(same) {
            Some(place) => looked_at + place,
            None => {
                grow(&mut self.facts);
                self.facts.push((event.facts.clone(), event.engaged_ms));
                self.facts.len() - 1
            }
        };
        let place = u32::try_from(place).expect("a visitor holds fewer events than 2^32");
        self.insert(HeldEvent::new(event.order, place), rules, received);
    }

    fn insert(&mut self, event: HeldEvent, rules: &SessionRules, received: ReceivedAt) {
        let gap = millis(rules.gap);
        let time = event.time.0;
        // Runs stand in order, so those within reach of the event are neighbours: at most the one before and after it.
        let first = self.runs.partition_point(|run| run.end().saturating_add(gap) < time);
        let reach = self.runs[first..].partition_point(|run| run.start().saturating_sub(gap) <= time);
        if reach == 0 {
            grow(&mut self.runs);
            let held = HeldRun { events: vec![event], touched: received };
            self.runs.insert(first, Run { held, dirty: true });
            return;
        }
        for run in &mut self.runs[first..first + reach] {
            if !std::mem::replace(&mut run.dirty, true) {
                run.cut(&self.facts, rules, |session, _| self.told.push(session));
            }
        }
        let bridged: Vec<Run> = self.runs.drain(first + 1..first + reach).collect();
        let HeldRun { events, touched } = &mut self.runs[first].held;
        *touched = received;
        let order = event.order();
        grow(events);
        match events.last().is_none_or(|last| last.order() <= order) {
            true => events.push(event),
            false => events.insert(events.partition_point(|held| held.order() <= order), event),
        }
        for other in bridged {
            events.extend(other.held.events);
        }
    }

    /// Tells what changed since it was last asked: sessions to take back, then sessions to put in. What is the same before
    /// and after is not told.
    pub fn changes(&mut self, rules: &SessionRules) -> (Vec<Session>, Vec<Session>) {
        let mut back = std::mem::take(&mut self.told);
        let mut put = Vec::new();
        for run in &mut self.runs {
            if std::mem::take(&mut run.dirty) {
                run.cut(&self.facts, rules, |session, _| put.push(session));
            }
        }
        if !back.is_empty() {
            take_out_equal(&mut back, &mut put);
        }
        self.make_oldest_final(rules);
        (back, put)
    }

    /// Other rules hold from now on: everything held is cut anew.
    pub fn on_rules(&mut self, old: &SessionRules, new: &SessionRules) {
        for run in std::mem::take(&mut self.runs) {
            if !run.dirty {
                run.cut(&self.facts, old, |session, _| self.told.push(session));
            }
            for event in run.held.events {
                self.insert(event, new, run.held.touched);
            }
        }
        // `insert` saw only runs that it made itself, and those were dirty from the start.
        debug_assert!(self.runs.iter().all(|run| run.dirty), "runs are made anew");
    }

    /// Lets go of runs that the watermark has passed and that nobody has touched for `hold` of received time. They must
    /// have been told.
    pub fn evict(&mut self, rules: &SessionRules, watermark: Watermark, now: ReceivedAt, hold: std::time::Duration) {
        let gap = millis(rules.gap);
        self.runs.retain(|run| {
            let passed = run.end().saturating_add(gap) < watermark.0;
            run.dirty || !passed || run.held.touched.plus(hold) >= now
        });
        self.forget_facts();
    }

    /// Whether anything is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.told.is_empty()
    }

    /// Events held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.runs.iter().map(|run| run.held.events.len()).sum()
    }

    /// What the events of [`VisitorSessions::runs`] refer to: facts, and milliseconds of engagement.
    #[must_use]
    pub fn facts(&self) -> &[(Arc<Facts>, u32)] {
        &self.facts
    }

    /// The runs, for a snapshot.
    ///
    /// # Panics
    /// If something is still to be told: a snapshot is taken when all is told.
    pub fn runs(&self) -> impl Iterator<Item = &HeldRun> {
        assert!(self.told.is_empty(), "{} sessions to take back at a snapshot", self.told.len());
        self.runs.iter().map(|run| {
            assert!(!run.dirty, "a run that starts at {} is not told at a snapshot", run.start());
            &run.held
        })
    }

    /// From a snapshot. `None`: a run is empty, or an event refers to facts that are not there.
    #[must_use]
    pub fn restore(facts: Vec<(Arc<Facts>, u32)>, runs: Vec<HeldRun>) -> Option<Self> {
        let refers = |event: &HeldEvent| (event.facts as usize) < facts.len();
        let fits = runs.iter().all(|run| !run.events.is_empty() && run.events.iter().all(refers));
        let runs = runs.into_iter().map(|held| Run { held, dirty: false }).collect();
        fits.then_some(Self { runs, facts, told: Vec::new() })
    }

    /// Keeps memory bounded: whole sessions leave, oldest first, and are not repaired any more.
    fn make_oldest_final(&mut self, rules: &SessionRules) {
        let mut excess = self.held().saturating_sub(HELD_EVENTS_MAX);
        if excess == 0 {
            return;
        }
        while excess > 0 {
            let run = &self.runs[0];
            // All before the first session that may stay.
            let mut stays = None;
            run.cut(&self.facts, rules, |_, first| stays = stays.or((first >= excess).then_some(first)));
            match stays {
                Some(first) => {
                    self.runs[0].held.events.drain(..first);
                    excess = 0;
                }
                None => excess = excess.saturating_sub(self.runs.remove(0).held.events.len()),
            }
        }
        self.forget_facts();
    }

    /// Lets go of facts that no event refers to, once they are the most.
    fn forget_facts(&mut self) {
        if self.runs.is_empty() {
            self.facts = Vec::new();
        }
        if self.facts.len() <= 2 * self.held() {
            return;
        }
        let old = std::mem::take(&mut self.facts);
        let mut places = vec![u32::MAX; old.len()];
        for event in self.runs.iter_mut().flat_map(|run| &mut run.held.events) {
            let place = &mut places[event.facts as usize];
            if *place == u32::MAX {
                *place = u32::try_from(self.facts.len()).expect("fewer than there were");
                self.facts.push(old[event.facts as usize].clone());
            }
            event.facts = *place;
        }
    }
}

/// Room for one more, with little to spare: most visitors never come again, and there are millions of them.
fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(1 + list.len() / 4);
    }
}

/// Takes out of both what stands in both.
fn take_out_equal(back: &mut Vec<Session>, put: &mut Vec<Session>) {
    let place = |session: &Session| (session.start, session.key);
    back.sort_by_key(place);
    let mut stands = vec![false; back.len()];
    put.retain(|session| {
        let from = back.partition_point(|other| place(other) < place(session));
        let mut alike = (from..back.len()).take_while(|&at| place(&back[at]) == place(session));
        let equal = alike.find(|&at| !stands[at] && back[at] == *session);
        equal.map(|at| stands[at] = true).is_none()
    });
    let mut stands = stands.into_iter();
    back.retain(|_| !stands.next().expect("one for each"));
}
