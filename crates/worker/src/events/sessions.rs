//! Sessions of the visitors at hand: what an event does to them, and the rows that say so.

use trackway_domain::event::EventKind;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::rules::PartitionRules;
use trackway_domain::session::{Session, SessionEvent, VisitorSessions};
use trackway_domain::time::ReceivedAt;
use trackway_store::rows::SessionRow;
use trackway_wire::activity;
use trackway_wire::log::LoggedEvent;

use super::row::Enriched;
use super::{EventsStage, Request, VisitorState};
use crate::clock::PartitionClock;
use crate::touches::{self, Touches};

impl EventsStage {
    /// From now on the visitor is held, and looked at for eviction only when nobody has touched it for long.
    pub(super) fn hold_visitor(&mut self, request: &Request<'_>, now: ReceivedAt) {
        let visitor = self.visitors.get_or_insert_with(request.visitor_key, || VisitorState {
            project: request.project.clone(),
            link: None,
            sessions: VisitorSessions::default(),
            dirty: false,
            touched_minute: touches::NEVER,
        });
        self.touches.touch(request.visitor_key, &mut visitor.touched_minute, now);
    }

    /// The visitor was active: the event opens or extends a session. The visitor is held already.
    ///
    /// - `user`: the user that the event names.
    pub(super) fn on_activity(
        &mut self,
        event: &LoggedEvent<'_>,
        kind: EventKind,
        enriched: &Enriched<'_>,
        user: Option<PersonKey>,
        request: &Request<'_>,
        clock: &PartitionClock,
    ) {
        let rules = &clock.rules.project(request.project).session;
        let facts = self.enricher.facts(event, kind, enriched, request, user.filter(|_| rules.split_user));
        let engaged_ms = activity::engaged_ms(request.protocol, event.name, event.properties);
        let event = SessionEvent { order: event.order(), engaged_ms, facts };
        let visitor = self.visitors.get_mut(&request.visitor_key).expect("the visitor is held");
        visitor.sessions.on_event(&event, rules, clock.log_time);
        if !std::mem::replace(&mut visitor.dirty, true) {
            self.dirty.push(request.visitor_key);
        }
    }

    /// Other rules hold: sessions of projects whose rules changed are cut anew.
    pub(super) fn recut(&mut self, old: &PartitionRules, clock: &PartitionClock) {
        let changed = |project: &ProjectId| old.project(project).session != clock.rules.project(project).session;
        let dirty = &mut self.dirty;
        let which = |visitor: &VisitorState| !visitor.sessions.is_empty() && changed(&visitor.project);
        self.visitors.change_where(which, |key, visitor| {
            let project = &visitor.project;
            visitor.sessions.on_rules(&old.project(project).session, &clock.rules.project(project).session);
            if !std::mem::replace(&mut visitor.dirty, true) {
                dirty.push(*key);
            }
        });
        // The order of a hash table differs from run to run; a block's rows must not.
        self.dirty.sort_unstable();
    }

    /// Rows for what changed since the last block.
    pub(super) fn tell_sessions(&mut self, clock: &PartitionClock) {
        for key in std::mem::take(&mut self.dirty) {
            let visitor = self.visitors.get_mut(&key).expect("a dirty visitor is held");
            visitor.dirty = false;
            let (back, put) = visitor.sessions.changes(&clock.rules.project(&visitor.project).session);
            let signed =
                back.into_iter().map(|session| (session, -1)).chain(put.into_iter().map(|session| (session, 1)));
            self.rows.sessions.extend(signed.map(|(session, sign)| session_row(&visitor.project, key, session, sign)));
        }
    }

    /// Lets go of visitors that nobody has touched for `hold` and whose sessions the watermark has passed. Who a visitor
    /// is stays known.
    pub(super) fn evict(&mut self, clock: &PartitionClock) {
        let horizon = Touches::<PersonKey>::horizon(clock);
        while let Some((minute, key)) = self.touches.due(horizon) {
            if self.visitors.peek(&key).is_none_or(|visitor| visitor.touched_minute != minute) {
                continue;
            }
            let visitor = self.visitors.get_mut(&key).expect("just looked at");
            let session = &clock.rules.project(&visitor.project).session;
            visitor.sessions.evict(session, clock.watermark(), clock.log_time, clock.rules.hold);
            if !visitor.sessions.is_empty() {
                // The watermark has not passed it.
                self.touches.again(key, &mut visitor.touched_minute, horizon);
            } else if visitor.link.is_none() {
                self.visitors.remove(&key);
            }
        }
    }
}

fn session_row(project: &ProjectId, visitor: PersonKey, session: Session, sign: i8) -> SessionRow {
    let text = |text: Option<std::sync::Arc<str>>| text.map(|text| text.to_string()).unwrap_or_default();
    let landing = session.landing.as_deref().cloned().unwrap_or_default();
    SessionRow {
        project: project.as_str().into(),
        visitor: visitor.0,
        session_key: session.key.0,
        start_ms: session.start.0,
        end_ms: session.end.0,
        events: session.events,
        page_views: session.page_views,
        entry_page: text(session.entry_page),
        exit_page: text(session.exit_page),
        entry_host: text(session.entry_host),
        exit_host: text(session.exit_host),
        channel: if session.landing.is_some() { landing.channel } else { "Direct".to_owned() },
        source: landing.source,
        medium: landing.medium,
        campaign: landing.campaign,
        engaged_ms: session.engaged_ms,
        is_bounce: session.is_bounce,
        revenue_micros: session.revenue.as_ref().map(|revenue| revenue.micros),
        currency: session.revenue.map(|revenue| revenue.currency).unwrap_or_default(),
        sign,
    }
}
