//! Cases of sessions: events cut into visits, as they arrive.
//!
//! Each visitor's events go through [`VisitorSessions`] in their order of arrival, told after each, and a table keeps what
//! is told. A case's own rule is a configuration of ours; what a source has beside (a sum of values, a tracker's own session
//! id) goes in where ours has something that works alike (earnings, the visitor).

mod input;
mod overview;
mod referrers;

use std::collections::BTreeMap;

use trackway_domain::rules::SessionRules;
use trackway_domain::session::{Session, SessionEvent, VisitorSessions};
use trackway_domain::time::{ReceivedAt, millis};

use super::case::{Case, Fields, Outcome};
use input::Input;

/// Runs one case.
pub fn run(case: &Case) -> Outcome {
    let input = match Input::of(case) {
        Ok(input) => input,
        Err(outcome) => return outcome,
    };
    match case.query().text("report") {
        None => sessions(case, &input),
        Some("changelog") => changelog(case, &input),
        Some("last_event_decision") => last_event(case, &input),
        Some("sessions_with_referrer") => referrers::run(case, &input),
        Some("sessions_with_user_id") => sessions(case, &input),
        Some("overview") => overview::run(case, &input),
        Some(other) => Outcome::failed(format!("a report `{other}` is not known")),
    }
}

/// One visitor's session.
#[derive(Debug, Clone, PartialEq)]
struct Standing {
    visitor: String,
    session: Session,
}

/// One thing told.
#[derive(Debug)]
struct Change {
    put: bool,
    standing: Standing,
}

/// What stands after everything arrived, what was told on the way, and how many sessions stood after each event.
#[derive(Debug, Default)]
struct Told {
    table: Vec<Standing>,
    changes: Vec<Change>,
    standing_after: Vec<i64>,
}

impl Told {
    fn of(input: &Input) -> Self {
        let mut told = Self::default();
        let mut visitors: BTreeMap<&str, VisitorSessions> = BTreeMap::new();
        for (arrival, (visitor, event)) in input.events.iter().enumerate() {
            let sessions = visitors.entry(visitor).or_default();
            sessions.on_event(event, &input.rules, ReceivedAt(0));
            if input.told_with_next.contains(&arrival) {
                continue;
            }
            let (back, put) = sessions.changes(&input.rules);
            told.add(visitor, back, false);
            told.add(visitor, put, true);
            told.standing_after.push(i64::try_from(told.table.len()).expect("few"));
            if input.restart_after == Some(arrival) {
                let restored = |sessions: &VisitorSessions| {
                    let runs = sessions.runs().cloned().collect();
                    VisitorSessions::restore(sessions.facts().to_vec(), runs).expect("what was held")
                };
                visitors.values_mut().for_each(|sessions| *sessions = restored(sessions));
            }
        }
        told.table.sort_by(|a, b| {
            (&a.visitor, a.session.start, a.session.key).cmp(&(&b.visitor, b.session.start, b.session.key))
        });
        told
    }

    fn add(&mut self, visitor: &str, sessions: Vec<Session>, put: bool) {
        for session in sessions {
            let standing = Standing { visitor: visitor.to_owned(), session };
            if put {
                self.table.push(standing.clone());
            } else {
                let at = self.table.iter().position(|row| *row == standing).expect("only what stands is taken back");
                self.table.swap_remove(at);
            }
            self.changes.push(Change { put, standing });
        }
    }
}

/// The sessions that stand in the end, in any order.
fn sessions(case: &Case, input: &Input) -> Outcome {
    let told = Told::of(input);
    let expected = case.expected();
    let mut outcomes = Vec::new();
    if let Some(counts) = expected.value("sessions_after_each_event") {
        outcomes.push(Outcome::equal("sessions_after_each_event", counts, &serde_json::json!(told.standing_after)));
    }
    if let Some(dropped) = expected.whole("dropped_late").filter(|dropped| *dropped > 0) {
        return Outcome::skipped(format!(
            "{dropped} late events are dropped there. Here none is: an event however late is stored and repairs its session"
        ));
    }
    match (expected.list("sessions"), expected.list("emitted")) {
        (Some(rows), None) => outcomes.push(same(&rows, told.table.iter().collect(), input)),
        (None, Some(emitted)) => outcomes.push(last_emitted(emitted, &told, input)),
        _ => outcomes.push(Outcome::failed("either `sessions` or `emitted` is to be expected")),
    }
    Outcome::all(outcomes)
}

/// What a system that tells by watermark tells last. When it tells is its own; what it has told in the end is the sessions.
fn last_emitted(emitted: Vec<Fields<'_>>, told: &Told, input: &Input) -> Outcome {
    let places: Vec<_> =
        emitted.iter().map(|row| (row.text("user"), row.time_ms("start"), row.time_ms("window_end"))).collect();
    let replaced = |n: usize| {
        let (user, start, end) = places[n];
        let earlier = expected_value(&emitted[n]);
        let grown = |m: usize| expected_value(&emitted[m]) >= earlier;
        (n + 1..places.len()).any(|m| places[m].0 == user && places[m].1 <= start && places[m].2 >= end && grown(m))
    };
    let last: Vec<_> = (0..emitted.len()).filter(|&n| !replaced(n)).map(|n| emitted[n].clone()).collect();
    same(&last, told.table.iter().collect(), input)
}

fn expected_value(row: &Fields<'_>) -> i64 {
    row.whole("value").unwrap_or_default()
}

/// Whether each expected row is one of those found, and none is left.
fn same(expected: &[Fields<'_>], mut found: Vec<&Standing>, input: &Input) -> Outcome {
    if expected.len() != found.len() {
        return Outcome::failed(format!("{} sessions are expected, found {found:?}", expected.len()));
    }
    for row in expected {
        let Some(at) = found.iter().position(|standing| differs(row, standing, input).is_none()) else {
            // Of the one that is most alike in place.
            let nearest = found.iter().min_by_key(|standing| {
                row.time_ms("start").map_or(0, |start| start.abs_diff(standing.session.start.0))
            });
            let why = nearest.and_then(|standing| differs(row, standing, input)).unwrap_or_default();
            return Outcome::failed(format!("no session has {why}: {found:?}"));
        };
        found.swap_remove(at);
    }
    Outcome::Passed
}

/// In what a session differs from what is expected of it.
fn differs(row: &Fields<'_>, standing: &Standing, input: &Input) -> Option<String> {
    let Standing { visitor, session } = standing;
    let same_text = |key: &str, found: &Option<std::sync::Arc<str>>| {
        row.text(key).unwrap_or_default() == found.as_deref().unwrap_or_default()
    };
    let users = input.users(standing);
    for key in row.keys() {
        let (count, others) = (i64::from(session.page_views), i64::from(session.events - session.page_views));
        let same = match key {
            "user" => row.text(key).is_some_and(|user| users.contains(user) || user == visitor),
            "session" => row.text(key) == Some(visitor),
            "user_id" => row.text(key) == input.user_id(standing).as_deref(),
            "start" => row.time_ms(key) == Some(session.start.0),
            "end" | "last_event" => row.time_ms(key) == Some(session.end.0),
            "window_end" => row.time_ms(key) == Some(session.end.0 + millis(input.rules.gap)),
            "events" => row.whole(key) == Some(i64::from(session.events)),
            // Pages and screens are counted together.
            "pageviews" | "screens" => {
                let sum = [row.whole("pageviews"), row.whole("screens")].into_iter().flatten().sum::<i64>();
                sum == count
            }
            "autocaptures" => row.whole(key) == Some(others),
            "duration_s" => {
                row.number(key).map(|seconds| (seconds * 1000.0).round() as i64)
                    == Some(session.end.since(session.start))
            }
            // Without a view there is no door to turn round at, for who asks about views.
            "is_bounce" => row.flag(key).map_or(session.page_views == 0, |bounce| bounce == session.is_bounce),
            "entry_page" => same_text(key, &session.entry_page),
            "exit_page" => same_text(key, &session.exit_page),
            "hostname" => same_text(key, &session.entry_host),
            "exit_hostname" => same_text(key, &session.exit_host),
            "value" => row.whole(key) == Some(session.revenue.as_ref().map_or(0, |sum| sum.micros)),
            _ => false,
        };
        if !same {
            return Some(format!("`{key}` {:?}", row.value(key)));
        }
    }
    None
}

/// What is told, one after the other: a session that changes is taken back, then put anew.
fn changelog(case: &Case, input: &Input) -> Outcome {
    let told = Told::of(input);
    let Some(expected) = case.expected().list("changelog") else { return Outcome::failed("`changelog` is missing") };
    if expected.len() != told.changes.len() {
        return Outcome::failed(format!("{} changes are expected, found {:?}", expected.len(), told.changes));
    }
    for (row, change) in expected.iter().zip(&told.changes) {
        let op = if change.put { "upsert" } else { "delete" };
        let Standing { visitor, session } = &change.standing;
        let found = (op, visitor.as_str(), session.start.0, session.end.0);
        let said = (row.text("op"), row.text("user"), row.time_ms("start"), row.time_ms("end"));
        let events = row.whole("events");
        if said != (Some(found.0), Some(found.1), Some(found.2), Some(found.3))
            || events.is_some_and(|events| events != i64::from(session.events))
        {
            return Outcome::failed(format!("{said:?} with {events:?} events is expected, found {change:?}"));
        }
    }
    Outcome::Passed
}

/// Whether the last event begins a session, and by which rule: one rule alone would do it.
fn last_event(case: &Case, input: &Input) -> Outcome {
    let begins = |rules: &SessionRules| {
        let mut sessions = VisitorSessions::default();
        for (_, event) in &input.events {
            sessions.on_event(event, rules, ReceivedAt(0));
        }
        let last: &SessionEvent = &input.events.last().expect("a case has events").1;
        sessions.changes(rules).1.iter().any(|session| session.key == last.order.key)
    };
    let expected = case.expected();
    let found = begins(&input.rules);
    let mut outcomes = vec![Outcome::equal("new_session", &expected.flag("new_session"), &Some(found))];
    if let Some(reason) = expected.text("reason") {
        let alone = match reason {
            "idle_timeout" | "activity_timeout" => {
                SessionRules { length_max: std::time::Duration::MAX, ..input.rules.clone() }
            }
            _ => SessionRules { gap: std::time::Duration::MAX, ..input.rules.clone() },
        };
        outcomes.push(Outcome::equal(&format!("by `{reason}` alone"), &true, &begins(&alone)));
    }
    Outcome::all(outcomes)
}
