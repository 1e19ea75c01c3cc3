//! The meaning of sessions, without any thought of speed or arrival.

use super::{LandingKind, Role, Session, SessionEvent, SessionRules};
use crate::revenue::Revenue;
use crate::time::{EventTime, millis};

/// Sorts the events, then cuts: before an event more than `gap` after what the session before it was last prolonged by, more than
/// `length_max` after its first, where the session is full, and where a rule of the project says so. What trackers
/// say by themselves begins no session.
#[must_use]
pub fn sessions(events: &[SessionEvent], rules: &SessionRules) -> Vec<Session> {
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|event| event.order);
    let mut groups: Vec<Vec<SessionEvent>> = Vec::new();
    for event in sorted {
        match groups.last_mut() {
            Some(group) if joins(group, &event, rules) => group.push(event),
            _ if event.facts.role == Role::Passive => {}
            _ => groups.push(vec![event]),
        }
    }
    groups.iter().map(|group| session(group, rules)).collect()
}

fn end(group: &[SessionEvent], rules: &SessionRules) -> EventTime {
    let prolongs = |event: &&SessionEvent| event.facts.role != Role::Passive || rules.passive_extends;
    group.iter().rev().find(prolongs).expect("the first event counts").order.time
}

fn joins(group: &[SessionEvent], event: &SessionEvent, rules: &SessionRules) -> bool {
    let (time, first) = (event.order.time, &group[0]);
    let counted = group.iter().filter(|event| event.facts.role != Role::Passive).count();
    let here = group.iter().find_map(|event| event.facts.landing.as_deref());
    let user = group.iter().find_map(|event| event.facts.user);
    let same_day = match &rules.midnight {
        Some(zone) => zone.day(time) == zone.day(first.order.time),
        None => true,
    };
    let comes_anew = match (here, event.facts.landing.as_deref()) {
        (Some(here), Some(new)) => match new.kind {
            LandingKind::Campaign => rules.split_campaign && here != new,
            LandingKind::Website => rules.split_referral && here.source != new.source,
            LandingKind::Known => false,
        },
        _ => false,
    };
    let is_another = match (user, event.facts.user) {
        (Some(user), Some(new)) => rules.split_user && user != new,
        _ => false,
    };
    time.0 - end(group, rules).0 <= millis(rules.gap)
        && time.0 - first.order.time.0 <= millis(rules.length_max)
        && (counted < rules.events_max || event.facts.role == Role::Passive)
        && same_day
        && !comes_anew
        && !is_another
}

fn session(group: &[SessionEvent], rules: &SessionRules) -> Session {
    let counted: Vec<_> = group.iter().filter(|event| event.facts.role != Role::Passive).collect();
    let views: Vec<_> = counted.iter().filter(|event| event.facts.role == Role::View).collect();
    let (start, end) = (group[0].order.time, end(group, rules));
    let engaged_ms = group.iter().map(|event| u64::from(event.engaged_ms)).sum();
    let earned: Vec<_> = counted.iter().filter_map(|event| event.facts.revenue.as_ref()).collect();
    let revenue = earned.first().map(|first| {
        let same = earned.iter().filter(|revenue| revenue.currency == first.currency);
        Revenue { micros: same.map(|revenue| revenue.micros).sum(), currency: first.currency.clone() }
    });
    let limit = millis(rules.bounce_below);
    let first = views.first().map(|event| &event.facts);
    let last = views.last().map(|event| &event.facts);
    Session {
        key: group[0].order.key,
        start,
        end,
        events: u32::try_from(counted.len()).expect("a small group"),
        page_views: u32::try_from(views.len()).expect("a small group"),
        entry_page: first.and_then(|facts| facts.page.clone()),
        exit_page: last.and_then(|facts| facts.page.clone()),
        entry_host: first.and_then(|facts| facts.host.clone()),
        exit_host: last.and_then(|facts| facts.host.clone()),
        landing: group.iter().find_map(|event| event.facts.landing.clone()),
        engaged_ms,
        is_bounce: counted.len() < 2 && end.0 - start.0 < limit && (engaged_ms as i64) < limit,
        revenue,
    }
}
