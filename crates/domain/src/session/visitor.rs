//! One visitor's events while their sessions may still change.

use super::{Session, SessionEvent, cut};
use crate::rules::SessionRules;
use crate::time::{ReceivedAt, Watermark, millis};

/// Events of one visitor held at most. Above it the oldest sessions become final: a visitor with more than this in a day
/// is a machine, and must not take the memory of the others.
const HELD_EVENTS_MAX: usize = 5 * crate::limits::SESSION_EVENTS_MAX;

/// One visitor's events while their sessions may still change, and what has been told of these sessions.
///
/// Events stand in *runs*: no gap above the limit within one, one above it between any two. A cut for length or number
/// lies within a run, so only a run that was touched can change its sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisitorSessions {
    runs: Vec<Run>,
    /// Sessions, already told, of the runs that were touched since.
    told: Vec<Session>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    /// In order, never empty.
    events: Vec<SessionEvent>,
    /// Last time an event was added.
    touched: ReceivedAt,
    /// Whether its sessions are to be told again. A run that is not dirty was told as it stands.
    dirty: bool,
}

impl Run {
    fn start(&self) -> i64 {
        self.events[0].order.time.0
    }

    fn end(&self) -> i64 {
        self.events[self.events.len() - 1].order.time.0
    }
}

impl VisitorSessions {
    /// Adds one event, joining the runs that it bridges. Duplicates are the caller's concern.
    ///
    /// An event exactly `gap` after the last still extends its session; one millisecond more begins another.
    ///
    /// - `received`: received time of the log so far; from it on the state is held.
    pub fn on_event(&mut self, event: SessionEvent, rules: &SessionRules, received: ReceivedAt) {
        let gap = millis(rules.gap);
        let time = event.order.time.0;
        // Runs stand in order, so those within reach of the event are neighbours: at most the one before and after it.
        let first = self.runs.partition_point(|run| run.end().saturating_add(gap) < time);
        let reach = self.runs[first..].partition_point(|run| run.start().saturating_sub(gap) <= time);
        if reach == 0 {
            self.runs.insert(first, Run { events: vec![event], touched: received, dirty: true });
            return;
        }
        for run in &mut self.runs[first..first + reach] {
            if !run.dirty {
                cut(&run.events, rules, &mut self.told);
                run.dirty = true;
            }
        }
        let bridged: Vec<Run> = self.runs.drain(first + 1..first + reach).collect();
        let run = &mut self.runs[first];
        run.touched = received;
        let place = run.events.partition_point(|held| held.order <= event.order);
        run.events.insert(place, event);
        for other in bridged {
            run.events.extend(other.events);
        }
    }

    /// Tells what changed since it was last asked: sessions to take back, then sessions to put in. What is the same before
    /// and after is not told.
    pub fn changes(&mut self, rules: &SessionRules) -> (Vec<Session>, Vec<Session>) {
        let mut back = std::mem::take(&mut self.told);
        let mut put = Vec::new();
        for run in &mut self.runs {
            if std::mem::take(&mut run.dirty) {
                cut(&run.events, rules, &mut put);
            }
        }
        if !back.is_empty() {
            put.retain(|session| match back.iter().position(|told| told == session) {
                Some(same) => {
                    back.swap_remove(same);
                    false
                }
                None => true,
            });
        }
        self.make_oldest_final(rules);
        (back, put)
    }

    /// Other rules hold from now on: everything held is cut anew.
    pub fn on_rules(&mut self, old: &SessionRules, new: &SessionRules) {
        for run in std::mem::take(&mut self.runs) {
            if !run.dirty {
                cut(&run.events, old, &mut self.told);
            }
            for event in run.events {
                self.on_event(event, new, run.touched);
            }
        }
        // `on_event` saw only runs that it made itself, and those were dirty from the start.
        debug_assert!(self.runs.iter().all(|run| run.dirty), "runs are made anew");
    }

    /// Lets go of runs that the watermark has passed and that nobody has touched for `hold` of received time. They must
    /// have been told.
    pub fn evict(&mut self, rules: &SessionRules, watermark: Watermark, now: ReceivedAt, hold: std::time::Duration) {
        let gap = millis(rules.gap);
        self.runs.retain(|run| {
            let passed = run.end().saturating_add(gap) < watermark.0;
            run.dirty || !passed || run.touched.plus(hold) >= now
        });
    }

    /// Whether anything is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.told.is_empty()
    }

    /// Events held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.runs.iter().map(|run| run.events.len()).sum()
    }

    /// The runs, each with the time it was last touched, for a snapshot.
    ///
    /// # Panics
    /// If something is still to be told: a snapshot is taken when all is told.
    pub fn runs(&self) -> impl Iterator<Item = (ReceivedAt, &[SessionEvent])> {
        assert!(self.told.is_empty(), "{} sessions to take back at a snapshot", self.told.len());
        self.runs.iter().map(|run| {
            assert!(!run.dirty, "a run that starts at {} is not told at a snapshot", run.start());
            (run.touched, run.events.as_slice())
        })
    }

    /// From a snapshot.
    #[must_use]
    pub fn restore(runs: impl IntoIterator<Item = (ReceivedAt, Vec<SessionEvent>)>) -> Self {
        let runs = runs.into_iter().map(|(touched, events)| Run { events, touched, dirty: false }).collect();
        Self { runs, told: Vec::new() }
    }

    /// Keeps memory bounded: whole sessions leave, oldest first, and are not repaired any more.
    fn make_oldest_final(&mut self, rules: &SessionRules) {
        while self.held() > HELD_EVENTS_MAX {
            let run = &mut self.runs[0];
            let mut sessions = Vec::new();
            cut(&run.events, rules, &mut sessions);
            let leaving = sessions[0].events as usize;
            if leaving == run.events.len() {
                self.runs.remove(0);
            } else {
                run.events.drain(..leaving);
            }
        }
    }
}
