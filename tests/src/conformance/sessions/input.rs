//! A case's events and its rule, as ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use trackway_domain::event::OrderKey;
use trackway_domain::id::{EventKey, PersonKey, ProjectId};
use trackway_domain::revenue::Revenue;
use trackway_domain::rules::SessionRules;
use trackway_domain::session::zone::Zone;
use trackway_domain::session::{Facts, Landing, LandingKind, Role, SessionEvent};
use trackway_domain::time::EventTime;
use trackway_wire::rules::zone_by_name;

use super::Standing;
use super::referrers;
use crate::conformance::case::{Case, CaseEvent, Fields, Outcome};

/// A rule that says nothing of a time has none.
const NEVER: Duration = Duration::from_secs(1 << 40);

/// What goes through our code.
pub(super) struct Input {
    pub rules: SessionRules,
    /// In order of arrival: who, and what.
    pub events: Vec<(String, SessionEvent)>,
    /// The same, as the case has them; none of those that its question alone speaks of.
    pub of_case: Vec<CaseEvent>,
    /// Arrivals that are told together with the next.
    pub told_with_next: BTreeSet<usize>,
    /// A crash after this arrival.
    pub restart_after: Option<usize>,
}

impl Input {
    pub fn of(case: &Case) -> Result<Self, Outcome> {
        let query = case.query();
        let rules = rules(case, &query)?;
        let by_session = match query.text("session_key") {
            None => false,
            Some("props.session_id") => true,
            Some(other) => return Err(Outcome::failed(format!("a session key `{other}` is not known"))),
        };
        let joined = query.flag("device_fingerprint_joins").unwrap_or(false);
        let of_case: Vec<CaseEvent> = case.arrivals().into_iter().cloned().collect();
        let visitor = |event: &CaseEvent| {
            let session = event.props.get("session_id").and_then(Value::as_str).filter(|_| by_session);
            let device = event.device.as_deref().filter(|_| joined);
            session.or(device).unwrap_or(&event.user).to_owned()
        };
        let mut events = Vec::new();
        for (key, event) in (0..).zip(&of_case) {
            let facts = Arc::new(facts(case, event)?);
            let order = OrderKey { time: EventTime(event.time_ms), sequence: 0, key: EventKey(key) };
            events.push((visitor(event), SessionEvent { order, engaged_ms: 0, facts }));
        }
        let mut input = Self {
            rules,
            events,
            of_case,
            told_with_next: BTreeSet::new(),
            restart_after: place(&query, "crash_restore_after_arrival"),
        };
        if let Some(arrivals) = query.value("concurrent_arrivals") {
            // They are applied one after the other, whoever comes first, and told together.
            let arrivals = arrivals.as_array().into_iter().flatten().filter_map(Value::as_u64);
            input.told_with_next = arrivals.map(|arrival| arrival as usize).collect();
            input.told_with_next.pop_last();
        }
        // A state that is written down on the way changes nothing: ours is told after each event.
        let _ = query.value("flush_after_event");
        // Watermarks decide when a system tells, and what it drops. Ours tells at once and drops nothing.
        let _ = (query.value("watermarks"), query.whole("allowed_lateness_ms"), query.whole("early_emit_every_ms"));
        input.before(&query)?;
        input.on_last(&query)?;
        Ok(input)
    }

    /// Events that a case's question speaks of without listing them.
    fn before(&mut self, query: &Fields<'_>) -> Result<(), Outcome> {
        // The events say the same, where they are listed.
        let state = query.inner("state_before");
        let state = state.map(|state| (state.time_ms("session_start"), state.time_ms("last_activity")));
        if let Some((Some(start), Some(last))) = state {
            let listed = |time: i64| self.events.iter().any(|(_, event)| event.order.time.0 == time);
            let missing: Vec<i64> = [start, last].into_iter().filter(|&time| !listed(time)).collect();
            // Activity all the way, as the state means.
            for time in missing {
                self.put_first(time);
            }
            let mut time = start;
            let step = i64::try_from(self.rules.gap.as_millis()).unwrap_or(i64::MAX).min(last - start);
            while step > 0 && time < last {
                self.put_first(time);
                time += step;
            }
        }
        if let Some(actions) = query.whole("actions_so_far") {
            let since = query.whole("seconds_since_last").unwrap_or(0) * 1000;
            let last = self.events.last().ok_or_else(|| Outcome::failed("an event is missing"))?.1.order.time.0;
            for _ in i64::try_from(self.events.len()).expect("few") - 1..actions {
                self.put_first(last - since);
            }
        }
        Ok(())
    }

    fn put_first(&mut self, time: i64) {
        let key = EventKey(1_000_000 + self.events.len() as u64);
        let order = OrderKey { time: EventTime(time), sequence: 0, key };
        let visitor = self.events.last().map(|(visitor, _)| visitor.clone()).unwrap_or_default();
        self.events.insert(0, (visitor, SessionEvent::at(order)));
    }

    /// What a case says of its last event beside its properties.
    fn on_last(&mut self, query: &Fields<'_>) -> Result<(), Outcome> {
        if query.flag("force_new_session_on_last") == Some(true) {
            return Err(Outcome::skipped(
                "a tracker cannot order a session there: sessions follow from the events and the project's rules alone",
            ));
        }
        let project = ProjectId::parse("case").expect("a project's id");
        let campaign = |name: &str| {
            Some(Arc::new(Landing { campaign: name.into(), kind: LandingKind::Campaign, ..Landing::default() }))
        };
        let user = |name: &str| Some(PersonKey::of_user(&project, name));
        let of_user = query.flag("user_id_changed_on_last") == Some(true);
        let of_campaign = query.flag("campaign_changed_on_last") == Some(true);
        let last = self.events.len().saturating_sub(1);
        for (n, (_, event)) in self.events.iter_mut().enumerate() {
            let name = if n == last { "new" } else { "old" };
            let facts = Arc::make_mut(&mut event.facts);
            if of_user {
                facts.user = user(name);
            }
            if of_campaign {
                facts.landing = campaign(name);
            }
        }
        Ok(())
    }

    /// The case's events of a session.
    fn events_of<'a>(&'a self, standing: &'a Standing) -> impl Iterator<Item = &'a CaseEvent> {
        let session = &standing.session;
        let held = move |(at, _): &(usize, &CaseEvent)| {
            let key = EventKey(*at as u64);
            let within = self.events.iter().find(|(_, event)| event.order.key == key);
            within.is_some_and(|(visitor, event)| {
                *visitor == standing.visitor && (session.start..=session.end).contains(&event.order.time)
            })
        };
        self.of_case.iter().enumerate().filter(held).map(|(_, event)| event)
    }

    /// Who had a session, by the case's names.
    pub fn users<'a>(&'a self, standing: &'a Standing) -> BTreeSet<&'a str> {
        self.events_of(standing).map(|event| event.user.as_str()).collect()
    }

    /// The user that a session's events name.
    pub fn user_id(&self, standing: &Standing) -> Option<String> {
        self.events_of(standing).find_map(|event| event.props.get("user_id")?.as_str().map(str::to_owned))
    }

    /// A session's event that says where its visitor came from.
    pub fn landed(&self, standing: &Standing) -> Option<&CaseEvent> {
        let at =
            |event: &CaseEvent| self.of_case.iter().position(|other| std::ptr::eq(other, event)).unwrap_or_default();
        let key = |n: usize| EventKey(n as u64);
        let facts =
            |n: usize| self.events.iter().find(|(_, event)| event.order.key == key(n)).map(|(_, event)| &event.facts);
        let mut events: Vec<usize> = self.events_of(standing).map(at).collect();
        events.sort_by_key(|&n| self.of_case[n].time_ms);
        let landed = events.into_iter().find(|&n| facts(n).is_some_and(|facts| facts.landing.is_some()));
        landed.map(|n| &self.of_case[n])
    }
}

/// The case's rule as a configuration of ours.
fn rules(case: &Case, query: &Fields<'_>) -> Result<SessionRules, Outcome> {
    let minutes = query.whole("gap_minutes").map(|minutes| minutes * 60_000);
    let seconds = query.whole("gap_seconds").map(|seconds| seconds * 1000);
    let gap = [query.whole("gap_ms"), minutes, seconds].into_iter().flatten().next();
    let gap = gap.map_or(NEVER, |ms| Duration::from_millis(ms.unsigned_abs()));
    if let Some(rule) = query.text("gap_rule")
        && ![
            "same session while distance <= gap",
            "window of one hit is [t, t+gap); windows that touch or overlap merge",
        ]
        .contains(&rule)
    {
        return Err(Outcome::skipped(format!(
            "here a session goes on exactly one gap after its last event, there: {rule}"
        )));
    }
    let zone = match query.text("timezone") {
        None | Some("UTC") => Zone::default(),
        Some(other) => zone_by_name(other).map_err(|e| Outcome::failed(format!("{other}: {e}")))?,
    };
    let hours = query.whole("max_session_hours").map(|hours| Duration::from_hours(hours.unsigned_abs()));
    let is_plausible = case.source.contains("plausible");
    Ok(SessionRules {
        gap,
        length_max: hours.unwrap_or(NEVER),
        events_max: query.whole("cap").and_then(|cap| usize::try_from(cap).ok()).unwrap_or(usize::MAX),
        midnight: query.flag("new_visit_at_midnight").unwrap_or(false).then_some(zone),
        split_campaign: query.flag("new_session_on_campaign").unwrap_or(false) || query.has("campaign_changed_on_last"),
        split_referral: query.flag("new_session_on_website_referrer").unwrap_or(false),
        // There the visitor is told by the user's id, unless it is set not to be.
        split_user: query.flag("user_id_overwrites_visitor_id") == Some(false)
            || query.text("report") == Some("sessions_with_user_id"),
        passive_extends: !is_plausible,
        bounce_below: query
            .whole("bounce_seconds")
            .map_or(NEVER, |seconds| Duration::from_secs(seconds.unsigned_abs())),
    })
}

fn place(query: &Fields<'_>, key: &str) -> Option<usize> {
    query.whole(key).and_then(|place| usize::try_from(place).ok())
}

/// What a session needs of one of the case's events.
fn facts(case: &Case, event: &CaseEvent) -> Result<Facts, Outcome> {
    let prop = |key: &str| event.props.get(key).and_then(Value::as_str);
    let role = match event.event.as_str() {
        "pageview" | "$pageview" | "$screen" => Role::View,
        // PostHog asks for views and clicks alone.
        name if name.starts_with('$') && name != "$autocapture" => Role::Passive,
        "engagement" => Role::Passive,
        _ => Role::Action,
    };
    let url = prop("url").unwrap_or_default();
    let at = trackway_enrich::page::parse(url);
    let page = prop("path").or(prop("pathname")).unwrap_or(at.path);
    let host = prop("hostname").unwrap_or(at.host);
    let is_view = role == Role::View;
    let project = ProjectId::parse("case").expect("a project's id");
    let value = event.props.get("value").and_then(Value::as_i64);
    Ok(Facts {
        role,
        page: is_view.then(|| page.into()),
        host: is_view.then(|| host.into()),
        landing: referrers::landing(case, event)?.map(Arc::new),
        user: prop("user_id").map(|user| PersonKey::of_user(&project, user)),
        revenue: value.map(|micros| Revenue { micros, currency: String::new() }),
    })
}
