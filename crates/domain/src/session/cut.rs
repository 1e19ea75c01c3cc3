//! Cuts one visitor's events, in order, into sessions.

use std::sync::Arc;

use super::{Facts, Landing, LandingKind, Role, Session};
use crate::event::OrderKey;
use crate::id::PersonKey;
use crate::rules::SessionRules;
use crate::time::millis;

/// A session while it is cut.
pub(super) struct Open {
    session: Session,
    user: Option<PersonKey>,
    /// Day of its events, where days split.
    day: i64,
    /// Place of its first event among those that are cut.
    first: usize,
}

/// Cuts events that stand in order and gives each session with the place of its first event.
pub(super) fn cut<'a>(
    events: impl Iterator<Item = (OrderKey, u32, &'a Facts)>,
    rules: &SessionRules,
    mut each: impl FnMut(Session, usize),
) {
    let mut open: Option<Open> = None;
    for (place, (order, engaged_ms, facts)) in events.enumerate() {
        match &mut open {
            Some(session) if session.takes(order, facts, rules) => session.add(order, engaged_ms, facts, rules),
            // Nobody is there: what the tracker says by itself after a session's end is part of none.
            _ if facts.role == Role::Passive => {}
            _ => {
                let next = Open::begin(place, order, engaged_ms, facts, rules);
                if let Some(done) = open.replace(next) {
                    let first = done.first;
                    each(done.close(rules), first);
                }
            }
        }
    }
    if let Some(done) = open {
        let first = done.first;
        each(done.close(rules), first);
    }
}

impl Open {
    fn begin(place: usize, order: OrderKey, engaged_ms: u32, facts: &Facts, rules: &SessionRules) -> Self {
        let session = Session {
            key: order.key,
            start: order.time,
            end: order.time,
            events: 0,
            page_views: 0,
            entry_page: None,
            exit_page: None,
            entry_host: None,
            exit_host: None,
            landing: None,
            engaged_ms: 0,
            is_bounce: false,
            revenue: None,
        };
        let day = rules.midnight.as_ref().map_or(0, |zone| zone.day(order.time));
        let mut open = Self { session, user: None, day, first: place };
        open.add(order, engaged_ms, facts, rules);
        open
    }

    /// Whether the event, the next in order, still belongs here.
    fn takes(&self, order: OrderKey, facts: &Facts, rules: &SessionRules) -> bool {
        let session = &self.session;
        order.time.since(session.end) <= millis(rules.gap)
            && order.time.since(session.start) <= millis(rules.length_max)
            && (facts.role == Role::Passive || (session.events as usize) < rules.events_max)
            && rules.midnight.as_ref().is_none_or(|zone| zone.day(order.time) == self.day)
            && !facts.landing.as_ref().is_some_and(|landing| self.is_left_by(landing, rules))
            && !(rules.split_user && matches!((self.user, facts.user), (Some(one), Some(other)) if one != other))
    }

    /// Whether a visitor who comes from there comes anew.
    fn is_left_by(&self, landing: &Landing, rules: &SessionRules) -> bool {
        let Some(here) = &self.session.landing else { return false };
        match landing.kind {
            LandingKind::Campaign => rules.split_campaign && **here != *landing,
            LandingKind::Website => rules.split_referral && here.source != landing.source,
            LandingKind::Known => false,
        }
    }

    fn add(&mut self, order: OrderKey, engaged_ms: u32, facts: &Facts, rules: &SessionRules) {
        let session = &mut self.session;
        session.engaged_ms += u64::from(engaged_ms);
        if session.landing.is_none() {
            session.landing.clone_from(&facts.landing);
        }
        self.user = self.user.or(facts.user);
        if facts.role == Role::Passive {
            if rules.passive_extends {
                session.end = order.time;
            }
            return;
        }
        session.end = order.time;
        session.events += 1;
        match (&mut session.revenue, &facts.revenue) {
            (Some(sum), Some(more)) if sum.currency == more.currency => {
                sum.micros = sum.micros.saturating_add(more.micros);
            }
            (sum @ None, Some(first)) => *sum = Some(first.clone()),
            _ => {}
        }
        if facts.role == Role::View {
            if session.page_views == 0 {
                session.entry_page.clone_from(&facts.page);
                session.entry_host.clone_from(&facts.host);
            }
            session.page_views += 1;
            replace(&mut session.exit_page, &facts.page);
            replace(&mut session.exit_host, &facts.host);
        }
    }

    fn close(self, rules: &SessionRules) -> Session {
        let mut session = self.session;
        let limit = millis(rules.bounce_below);
        let engaged = i64::try_from(session.engaged_ms).unwrap_or(i64::MAX);
        session.is_bounce = session.events <= 1 && session.end.since(session.start) < limit && engaged < limit;
        session
    }
}

/// Counting references costs more than looking whether it is the same.
fn replace(old: &mut Option<Arc<str>>, new: &Option<Arc<str>>) {
    let same = matches!((&*old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
    if !same {
        old.clone_from(new);
    }
}
