//! Cuts one visitor's events, in order, into sessions.

use std::sync::Arc;

use super::{Facts, Landing, LandingKind, Role, Session};
use crate::event::OrderKey;
use crate::id::PersonKey;
use crate::rules::SessionRules;
use crate::time::millis;

/// A session while it is cut.
struct Open<'a> {
    /// Without what [`Open::close`] fills in.
    session: Session,
    /// The first event that says where the visitor came from.
    landing: Option<&'a Arc<Landing>>,
    /// The first and the last view.
    views: Option<(&'a Facts, &'a Facts)>,
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
    let mut close = |open: Open<'_>| {
        let first = open.first;
        each(open.close(rules), first);
    };
    let mut open: Option<Open<'_>> = None;
    for (place, (order, engaged_ms, facts)) in events.enumerate() {
        match &mut open {
            Some(session) if session.takes(order, facts, rules) => session.add(order, engaged_ms, facts, rules),
            // Nobody is there: what the tracker says by itself after a session's end is part of none.
            _ if facts.role == Role::Passive => {}
            _ => open.replace(Open::begin(place, order, engaged_ms, facts, rules)).into_iter().for_each(&mut close),
        }
    }
    open.into_iter().for_each(close);
}

impl<'a> Open<'a> {
    fn begin(place: usize, order: OrderKey, engaged_ms: u32, facts: &'a Facts, rules: &SessionRules) -> Self {
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
        let mut open = Self { session, landing: None, views: None, user: None, day, first: place };
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
        let Some(here) = self.landing else { return false };
        match landing.kind {
            LandingKind::Campaign => rules.split_campaign && **here != *landing,
            LandingKind::Website => rules.split_referral && here.source != landing.source,
            LandingKind::Known => false,
        }
    }

    fn add(&mut self, order: OrderKey, engaged_ms: u32, facts: &'a Facts, rules: &SessionRules) {
        let session = &mut self.session;
        session.engaged_ms += u64::from(engaged_ms);
        self.landing = self.landing.or(facts.landing.as_ref());
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
            session.page_views += 1;
            self.views = Some((self.views.map_or(facts, |(first, _)| first), facts));
        }
    }

    fn close(self, rules: &SessionRules) -> Session {
        let mut session = self.session;
        session.landing = self.landing.cloned();
        if let Some((first, last)) = self.views {
            session.entry_page.clone_from(&first.page);
            session.entry_host.clone_from(&first.host);
            session.exit_page.clone_from(&last.page);
            session.exit_host.clone_from(&last.host);
        }
        let limit = millis(rules.bounce_below);
        let engaged = i64::try_from(session.engaged_ms).unwrap_or(i64::MAX);
        session.is_bounce = session.events <= 1 && session.end.since(session.start) < limit && engaged < limit;
        session
    }
}
