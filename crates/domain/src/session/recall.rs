//! A visitor's past comes back: events that were let go of, and what had been told of them.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Session, SessionEvent, VisitorSessions};
use crate::event::OrderKey;
use crate::id::EventKey;
use crate::rules::SessionRules;
use crate::time::{EventTime, ReceivedAt, millis};

/// What the store has of a visitor in a range of time: all of its events there, and the sessions that stand and begin at one
/// of them.
#[derive(Debug, Clone)]
pub struct Past {
    /// First moment of the range.
    pub from: EventTime,
    /// Last moment of the range.
    pub to: EventTime,
    /// Events, those that are held among them or not.
    pub events: Vec<SessionEvent>,
    /// Sessions as they stand, those of held events among them or not. A key of 0 is one that is not known.
    pub sessions: Vec<Session>,
}

/// Why sessions stay as they were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrepaired {
    /// The range ends within a session of today's rules: they have changed since it was chosen.
    Edge,
    /// An event that is held was counted once before, at the same time: whose a session is cannot be told.
    Twice,
    /// A session stands there whose first event is not known.
    Stranger,
}

/// The part of a visitor's events that can be cut by itself: no session that an event of `asked` may belong to goes beyond it.
///
/// - `times`: of all events in `window`, in order.
/// - `window`, `asked`: first and last moment. `asked` lies within `window`, at least `gap` from both ends.
/// - `gap`: inactivity that ends a session.
///
/// `None`: sessions may go beyond the window; look at a wider one. Else first and last moment of the part, and which events
/// they are.
#[must_use]
pub fn apart(
    times: &[EventTime],
    window: (EventTime, EventTime),
    asked: (EventTime, EventTime),
    gap: std::time::Duration,
) -> Option<(EventTime, EventTime, Range<usize>)> {
    let gap = millis(gap);
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Some((window.0, window.1, 0..0)) };
    let is_cut = |&at: &usize| times[at].since(times[at - 1]) > gap;
    let (from, begin) = match first.since(window.0) >= gap {
        true => (window.0, 0),
        false => (1..times.len())
            .take_while(|&at| times[at] <= asked.0)
            .find(is_cut)
            .map(|at| (EventTime(times[at - 1].0 + 1), at))?,
    };
    let (to, end) = match window.1.since(*last) >= gap {
        true => (window.1, times.len()),
        false => (1..times.len())
            .rev()
            .take_while(|&at| times[at - 1] >= asked.1)
            .find(is_cut)
            .map(|at| (EventTime(times[at].0 - 1), at))?,
    };
    Some((from, to, begin..end))
}

impl VisitorSessions {
    /// Takes in what was let go of, as if it had been held all along: [`VisitorSessions::changes`] then takes back the
    /// sessions that stood, where others take their place.
    ///
    /// From the moment when the past was asked for nothing may have been let go of that came since.
    ///
    /// - `received`: received time of the log so far; from it on the state is held.
    ///
    /// # Errors
    /// [`Unrepaired`]; nothing has changed then.
    pub fn recall(&mut self, past: Past, rules: &SessionRules, received: ReceivedAt) -> Result<(), Unrepaired> {
        let Past { from, to, mut events, sessions } = past;
        events.sort_by_key(|event| event.order);
        let held: Vec<OrderKey> = self.held_orders(from, to);
        let mut rest = held.iter().copied().peekable();
        events.retain(|event| {
            while rest.next_if(|held| *held < event.order).is_some() {}
            rest.next_if_eq(&event.order).is_none()
        });
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let gap = millis(rules.gap);
        if first.order.time.since(from) < gap || to.since(last.order.time) < gap {
            return Err(Unrepaired::Edge);
        }
        let firsts = |order: OrderKey| (order.time, order.key);
        let held: BTreeSet<_> = held.into_iter().map(firsts).collect();
        let back: BTreeSet<_> = events.iter().map(|event| firsts(event.order)).collect();
        if !held.is_disjoint(&back) {
            return Err(Unrepaired::Twice);
        }
        let mut told = Vec::new();
        for session in sessions {
            match belongs(&session, &back) {
                true => told.push(session),
                false if belongs(&session, &held) => {}
                false => return Err(Unrepaired::Stranger),
            }
        }
        self.told.extend(told);
        for event in &events {
            self.on_event(event, rules, received);
        }
        Ok(())
    }

    /// Places of the events held in a range, in order.
    fn held_orders(&self, from: EventTime, to: EventTime) -> Vec<OrderKey> {
        let events = self.runs.iter().flat_map(|run| &run.held.events);
        events.map(super::HeldEvent::order).filter(|order| (from..=to).contains(&order.time)).collect()
    }
}

/// Whether a session begins at one of these events.
fn belongs(session: &Session, events: &BTreeSet<(EventTime, EventKey)>) -> bool {
    match session.key {
        EventKey(0) => {
            events.range((session.start, EventKey(0))..=(session.start, EventKey(u64::MAX))).next().is_some()
        }
        key => events.contains(&(session.start, key)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::session::oracle;
    use crate::time::Watermark;

    const GAP: Duration = Duration::from_millis(3);

    fn rules() -> SessionRules {
        SessionRules { gap: GAP, length_max: Duration::from_millis(9), events_max: 4, ..SessionRules::USUAL }
    }

    fn event(time: i64, key: u64) -> SessionEvent {
        SessionEvent::at(OrderKey { time: EventTime(time), sequence: 0, key: EventKey(key) })
    }

    /// As the tables do: nothing may be taken back that is not there.
    fn tell(visitor: &mut VisitorSessions, table: &mut Vec<Session>) {
        let (back, put) = visitor.changes(&rules());
        for session in back {
            let at = table.iter().position(|row| *row == session).expect("only what was put in is taken back");
            table.swap_remove(at);
        }
        table.extend(put);
    }

    /// What the store says around a time, looking ever further.
    fn past(events: &[SessionEvent], sessions: &[Session], time: i64) -> Past {
        let asked = (EventTime(time), EventTime(time));
        for reach in (3..).step_by(2) {
            let window = (EventTime(time - reach), EventTime(time + reach));
            let mut there = events.to_vec();
            there.retain(|event| (window.0..=window.1).contains(&event.order.time));
            there.sort_by_key(|event| event.order);
            let times: Vec<_> = there.iter().map(|event| event.order.time).collect();
            if let Some((from, to, which)) = apart(&times, window, asked, GAP) {
                let mut sessions = sessions.to_vec();
                let range = times.get(which.start).zip(times.get(which.end.wrapping_sub(1)));
                sessions.retain(|session| range.is_some_and(|(from, to)| (from..=to).contains(&&session.start)));
                return Past { from, to, events: there[which].to_vec(), sessions };
            }
        }
        unreachable!("events end somewhere")
    }

    #[test]
    fn an_event_between_two_sessions_let_go_of_joins_them() {
        let rules = rules();
        let (mut visitor, mut table) = (VisitorSessions::default(), Vec::new());
        let events = [event(0, 1), event(6, 2), event(3, 3)];
        for event in &events[..2] {
            visitor.on_event(event, &rules, ReceivedAt(0));
        }
        tell(&mut visitor, &mut table);
        let let_go = visitor.evict(&rules, Watermark(100), ReceivedAt(100), Duration::from_millis(5));
        assert_eq!((let_go, visitor.is_empty()), (Some(EventTime(6)), true));
        visitor.on_event(&events[2], &rules, ReceivedAt(100));
        tell(&mut visitor, &mut table);
        assert_eq!(table.len(), 3);
        let past = past(&events, &table, 3);
        assert_eq!(visitor.recall(past, &rules, ReceivedAt(101)), Ok(()));
        tell(&mut visitor, &mut table);
        assert_eq!(table, oracle::sessions(&events, &rules));
    }

    #[test]
    fn what_cannot_be_told_apart_is_left_as_it_stands() {
        let rules = rules();
        let check = |from: i64, to: i64, events: &[SessionEvent], sessions: &[Session], expected| {
            let mut visitor = VisitorSessions::default();
            visitor.on_event(&event(10, 1), &rules, ReceivedAt(0));
            let before = format!("{visitor:?}");
            let (events, sessions) = (events.to_vec(), sessions.to_vec());
            let past = Past { from: EventTime(from), to: EventTime(to), events, sessions };
            assert_eq!(visitor.recall(past, &rules, ReceivedAt(1)), Err(expected));
            assert_eq!(format!("{visitor:?}"), before);
        };
        let let_go = [event(8, 2)];
        let stands = oracle::sessions(&let_go, &rules);
        check(6, 20, &let_go, &stands, Unrepaired::Edge);
        check(0, 10, &let_go, &stands, Unrepaired::Edge);
        check(0, 20, &[event(10, 1), event(10, 1)], &stands, Unrepaired::Twice);
        check(0, 20, &let_go, &oracle::sessions(&[event(7, 3)], &rules), Unrepaired::Stranger);
    }

    #[test]
    fn a_session_of_before_keys_were_known_is_taken_back_as_it_stands() {
        let rules = rules();
        let mut visitor = VisitorSessions::default();
        visitor.on_event(&event(10, 1), &rules, ReceivedAt(0));
        let let_go = vec![event(8, 2)];
        let mut sessions = oracle::sessions(&let_go, &rules);
        sessions[0].key = EventKey(0);
        let stood = sessions[0].clone();
        let past = Past { from: EventTime(0), to: EventTime(20), events: let_go, sessions };
        assert_eq!(visitor.recall(past, &rules, ReceivedAt(1)), Ok(()));
        let (back, put) = visitor.changes(&rules);
        assert_eq!((back, put.len()), (vec![stood], 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Whatever is let go of and when, sessions that every late event asks for end as if all had been held.
        #[test]
        fn what_is_let_go_of_and_comes_back_was_never_away(
            steps in prop::collection::vec((0..24_i64, any::<bool>(), any::<bool>(), 0..3_u8), 0..24),
        ) {
            let rules = rules();
            let (mut visitor, mut table, mut store) = (VisitorSessions::default(), Vec::new(), Vec::new());
            let mut let_go = None;
            let mut asked = Vec::new();
            for (n, (time, tells, evicts, answers)) in (0..).zip(steps) {
                let event = event(time, n + 1);
                visitor.on_event(&event, &rules, ReceivedAt(0));
                store.push(event);
                if let_go.is_some_and(|let_go: EventTime| time - 3 <= let_go.0) {
                    asked.push(time);
                }
                if tells {
                    tell(&mut visitor, &mut table);
                }
                for time in asked.drain(..asked.len().min(usize::from(answers))) {
                    // What came since may be there already, or not.
                    prop_assert_eq!(visitor.recall(past(&store, &table, time), &rules, ReceivedAt(0)), Ok(()));
                }
                if evicts && asked.is_empty() {
                    tell(&mut visitor, &mut table);
                    let_go = let_go.max(visitor.evict(&rules, Watermark(100), ReceivedAt(100), Duration::ZERO));
                }
            }
            for time in asked {
                prop_assert_eq!(visitor.recall(past(&store, &table, time), &rules, ReceivedAt(0)), Ok(()));
            }
            tell(&mut visitor, &mut table);
            table.sort_by_key(|session| (session.start, session.key));
            prop_assert_eq!(table, oracle::sessions(&store, &rules));
        }
    }
}
