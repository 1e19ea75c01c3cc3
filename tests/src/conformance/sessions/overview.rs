//! Sums over sessions of days: visitors, views, sessions, mean length and share of bounces.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Told;
use super::input::Input;
use crate::conformance::case::{Case, Fields, Outcome, time_ms};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Runs one case.
pub(super) fn run(case: &Case, input: &Input) -> Outcome {
    let query = case.query();
    if query.has("goal") {
        return Outcome::skipped("conversions are asked for as a funnel, not as sums over sessions");
    }
    let day = |key: &str| query.text(key).and_then(time_ms);
    let (Some(from), Some(to)) = (day("date_from"), day("date_to")) else {
        return Outcome::failed("`date_from` and `date_to` are missing");
    };
    let to = to + DAY_MS;
    let told = Told::of(input);
    let expected = case.expected();
    let now = sums(&told, input, from, to);
    let mut outcomes = Vec::new();
    if let Some(overview) = expected.inner("overview") {
        outcomes.push(same(&overview, &now));
    }
    let _ = query.value("compare");
    let before = sums(&told, input, from - (to - from), from);
    if let Some(previous) = expected.inner("previous") {
        outcomes.push(same(&previous, &before));
    }
    if let Some(change) = expected.inner("change_pct") {
        let percent = |key: &str| {
            let (now, before) = (sum(&now, key)?, sum(&before, key)?);
            (before != 0.0).then(|| (now - before) / before * 100.0)
        };
        for key in change.keys() {
            outcomes.push(near(key, change.value(key), percent(key)));
        }
    }
    Outcome::all(outcomes)
}

/// Sums of a range, by the names that cases have.
type Sums = [(&'static str, Option<f64>); 5];

fn sums(told: &Told, input: &Input, from: i64, to: i64) -> Sums {
    let within = |standing: &&super::Standing| (from..to).contains(&standing.session.start.0);
    let sessions: Vec<_> = told.table.iter().filter(within).collect();
    let count = sessions.len() as f64;
    let mean = |sum: f64| (!sessions.is_empty()).then(|| sum / count);
    let visitors: BTreeSet<&str> = sessions.iter().flat_map(|standing| input.users(standing)).collect();
    let views: u32 = sessions.iter().map(|standing| standing.session.page_views).sum();
    let seconds: i64 = sessions.iter().map(|standing| standing.session.end.since(standing.session.start)).sum();
    let bounces = sessions.iter().filter(|standing| standing.session.is_bounce).count();
    [
        ("visitors", Some(visitors.len() as f64)),
        ("views", Some(f64::from(views))),
        ("sessions", Some(count)),
        ("avg_duration_s", mean(seconds as f64 / 1000.0)),
        ("bounce_rate_pct", mean(bounces as f64 * 100.0)),
    ]
}

fn sum(sums: &Sums, key: &str) -> Option<f64> {
    sums.iter().find(|(name, _)| *name == key).and_then(|(_, sum)| *sum)
}

fn same(expected: &Fields<'_>, found: &Sums) -> Outcome {
    Outcome::all(expected.keys().map(|key| near(key, expected.value(key), sum(found, key))))
}

fn near(key: &str, expected: Option<&Value>, found: Option<f64>) -> Outcome {
    match (expected.and_then(Value::as_f64), found) {
        (Some(expected), Some(found)) if (expected - found).abs() < 1e-6 => Outcome::Passed,
        (None, None) if expected.is_some_and(Value::is_null) => Outcome::Passed,
        (_, found) => Outcome::failed(format!("{key}: expected {expected:?}, found {found:?}")),
    }
}
