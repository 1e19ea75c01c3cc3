//! The sample, the answers it must give, and the questions that get them.
//!
//! What must come out stands in `data/ecom_reference.json`, computed by other programs. What is not there (days, touchpoints,
//! who is in the audience and until when) is computed here from the file, in the plainest way there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trackway_query::pb;

use crate::roles::{Installation, about};

/// The funnel of the reference.
pub const STEPS: [&str; 7] =
    ["catalog", "product_view", "add_to_cart", "cart", "shipping_details", "payment_details", "purchase"];

/// Rows of the sample, all different events.
pub const ROWS: u64 = 31_106;

/// The audience: whoever bought at least once within 30 days.
pub const AUDIENCE: &str = "recent-buyers";
const BOUGHT: &str = "purchase";
const WINDOW: Duration = Duration::from_hours(30 * 24);

const DAY: Duration = Duration::from_hours(24);
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Means are added up in another order, and nothing here is counted in millionths.
const TOLERANCE: f64 = 1e-6;

/// Where it lies.
#[must_use]
pub fn path() -> PathBuf {
    data("retentioneering_ecom.csv.gz")
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// One event of the sample.
#[derive(Debug, Clone)]
pub struct Row {
    /// Whose.
    pub user: String,
    /// Its name.
    pub event: String,
    /// When, in ms since 1970 UTC.
    pub time_ms: i64,
}

/// All events, in the order of the file.
///
/// # Errors
/// If the file is not what it was.
pub fn rows() -> Result<Vec<Row>> {
    let file = File::open(path()).with_context(|| path().display().to_string())?;
    let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    let header = reader.headers()?.clone();
    let column = |name: &str| header.iter().position(|column| column == name).with_context(|| format!("no `{name}`"));
    let (user, event, time) = (column("user_id")?, column("event")?, column("timestamp")?);
    let row = |record: csv::StringRecord| {
        let time: jiff::civil::DateTime = record[time].parse()?;
        let time_ms = time.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_millisecond();
        Ok(Row { user: record[user].to_owned(), event: record[event].to_owned(), time_ms })
    };
    reader.records().map(|record| row(record?)).collect()
}

/// Makes the sample's audience.
///
/// # Errors
/// If it is refused.
pub async fn create_audience(installation: &Installation, project: &str) -> Result<()> {
    Ok(installation.client().create_audience((project, AUDIENCE), BOUGHT, 1, WINDOW).await?)
}

/// All answers about the sample in a project, each as soon as it says of itself that it is complete.
///
/// # Errors
/// If one cannot be had, or does not become complete.
pub async fn answers(installation: &Installation, project: &str) -> Result<Value> {
    let totals = installation.complete(async |client| client.trend(about::trend(project)).await).await?;
    let by_day = pb::TrendRequest { interval: pb::Interval::Day as i32, by_event: true, ..about::trend(project) };
    let by_day = installation.complete(async |client| client.trend(by_day.clone()).await).await?;
    let sessions = installation.complete(async |client| client.session_summary(about::sessions(project)).await).await?;
    let funnel = async |window: Duration| {
        let window_ms = i64::try_from(window.as_millis()).expect("a short window");
        let ask = pb::FunnelRequest { steps: about::steps(&STEPS), window_ms, ..about::funnel(project) };
        installation.complete(async |client| client.funnel(ask.clone()).await).await
    };
    let paths = async |session_gap_ms: i64| {
        let ask = pb::PathsRequest { edges_max: 20, session_gap_ms, ..about::paths(project) };
        installation.complete(async |client| client.paths(ask.clone()).await).await
    };
    let (funnel, funnel_1h, funnel_1d) =
        (funnel(Duration::ZERO).await?, funnel(Duration::from_hours(1)).await?, funnel(DAY).await?);
    let (transitions, within_session) = (paths(0).await?, paths(1_800_000).await?);
    let touchpoints =
        installation.complete(async |client| client.touchpoints(about::touchpoints(project)).await).await?;

    let as_of_ms = Some(last_ms(&rows()?));
    let ask = pb::GetAudienceRequest { name: AUDIENCE.into(), as_of_ms, ..about::audience(project) };
    let audience = installation.complete(async |client| client.get(ask.clone()).await).await?;
    let mut members = Vec::new();
    // More pages than one, so that turning them is tried too.
    let mut ask = pb::MembersRequest { name: AUDIENCE.into(), as_of_ms, page_size: 50, ..about::members(project) };
    loop {
        let page = installation.complete(async |client| client.members(ask.clone()).await).await?;
        members.extend(page.members.into_iter().map(|member| (member.user_id, member.entered_ms, member.leaves_ms)));
        if page.next_page_token.is_empty() {
            break;
        }
        ask.page_token = page.next_page_token;
    }
    members.sort();

    let mut event_counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut daily: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for bucket in &by_day.buckets {
        *event_counts.entry(&bucket.event).or_default() += bucket.events;
        let day = format!("{} {}", bucket.begin_ms.unwrap_or_default() / DAY_MS, bucket.event);
        daily.insert(day, (bucket.events, bucket.persons));
    }
    let total = totals.buckets.first().context("a bucket for all")?;
    let summary = sessions.rows.first().context("a row for all sessions")?;
    let persons = |answer: &pb::FunnelResponse| answer.steps.iter().map(|step| step.persons).collect::<Vec<_>>();
    let touchpoints =
        touchpoints.rows.iter().map(|row| (format!("{}/{}", row.stage, row.touchpoint), (row.events, row.persons)));
    Ok(json!({
        "persons": total.persons,
        "events": total.events,
        "event_counts": event_counts,
        "daily": daily,
        "sessions": {
            "sessions": summary.sessions,
            "single_event": summary.sessions_single_event,
            "persons": summary.persons,
            "events": summary.events,
            "seconds_mean": summary.seconds_mean,
            "seconds_median": summary.seconds_median,
            "seconds_p95": summary.seconds_p95,
            "seconds_max": summary.seconds_max,
        },
        "funnel": persons(&funnel),
        "funnel_median_seconds": funnel.median_seconds,
        "funnel_1h": persons(&funnel_1h),
        "funnel_1d": persons(&funnel_1d),
        "funnel_1d_median_seconds": funnel_1d.median_seconds,
        "transitions": edges(&transitions),
        "transitions_pairs": transitions.pairs,
        "within_session": edges(&within_session),
        "within_session_pairs": within_session.pairs,
        "touchpoints": touchpoints.collect::<BTreeMap<_, _>>(),
        "audience": {"entered": audience.entered, "left": audience.left, "members": audience.members},
        "members": members,
    }))
}

fn edges(answer: &pb::PathsResponse) -> Vec<(&str, &str, u64)> {
    answer.edges.iter().map(|edge| (edge.from.as_str(), edge.to.as_str(), edge.count)).collect()
}

/// What [`answers`] must be.
///
/// # Errors
/// If a file is not what it was.
pub fn expected() -> Result<Value> {
    let read = |name: &str| -> Result<Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(data(name)).with_context(|| name.to_owned())?)?)
    };
    let (reference, audience) = (read("ecom_reference.json")?, read("demo_reference.json")?);
    let rows = rows()?;
    let (sessions, funnel) = (&reference["sessions_30min"], &reference["funnel"]);
    let (all, within) = (&reference["transitions_per_user_stream"], &reference["transitions_within_session"]);
    Ok(json!({
        "persons": reference["users"],
        "events": reference["rows"],
        "event_counts": reference["event_counts"],
        "daily": daily(&rows).into_iter().map(|((day, event), counts)| (format!("{day} {event}"), counts)).collect::<BTreeMap<_, _>>(),
        "sessions": {
            "sessions": sessions["sessions"],
            "single_event": sessions["single_event_sessions"],
            "persons": reference["users"],
            "events": reference["rows"],
            "seconds_mean": sessions["mean_session_seconds_last_minus_first"],
            "seconds_median": sessions["median_session_seconds"],
            "seconds_p95": sessions["p95_session_seconds_linear_interp"],
            "seconds_max": sessions["max_session_seconds"],
        },
        "funnel": funnel["closed_ordered"]["users"],
        "funnel_median_seconds": funnel["closed_ordered"]["median_seconds_first_to_last"],
        "funnel_1h": funnel["closed_ordered_window_1h"]["users"],
        "funnel_1d": funnel["closed_ordered_window_1d"]["users"],
        "funnel_1d_median_seconds": funnel_median_seconds(&rows, DAY),
        "transitions": all["top20"],
        "transitions_pairs": all["total"],
        "within_session": within["top20"],
        "within_session_pairs": within["total"],
        "touchpoints": touchpoints(&rows),
        "audience": audience["audience"],
        "members": members(&rows),
    }))
}

fn last_ms(rows: &[Row]) -> i64 {
    rows.iter().map(|row| row.time_ms).max().unwrap_or_default()
}

/// Events and persons by day (since 1970) and name.
#[must_use]
pub fn daily(rows: &[Row]) -> BTreeMap<(i64, String), (u64, u64)> {
    let mut found: BTreeMap<(i64, String), (u64, BTreeSet<&str>)> = BTreeMap::new();
    for row in rows {
        let (events, users) = found.entry((row.time_ms.div_euclid(DAY_MS), row.event.clone())).or_default();
        *events += 1;
        users.insert(&row.user);
    }
    found.into_iter().map(|(key, (events, users))| (key, (events, users.len() as u64))).collect()
}

/// Events and persons by the touchpoints of an [`Installation`]'s projects.
fn touchpoints(rows: &[Row]) -> BTreeMap<&'static str, (u64, u64)> {
    let count = |events: &[&str]| {
        let these: Vec<&Row> = rows.iter().filter(|row| events.contains(&row.event.as_str())).collect();
        let users: BTreeSet<&str> = these.iter().map(|row| row.user.as_str()).collect();
        (these.len() as u64, users.len() as u64)
    };
    BTreeMap::from([
        ("consideration/browsing", count(&["catalog", "filter_results"])),
        ("purchase/order", count(&[BOUGHT])),
    ])
}

/// Median time through the whole funnel within a window: for each user, of the earliest entry from which all steps are
/// reached, each as soon as it happens.
fn funnel_median_seconds(rows: &[Row], window: Duration) -> f64 {
    let window_ms = i64::try_from(window.as_millis()).expect("a short window");
    let mut users: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        users.entry(&row.user).or_default().push(row);
    }
    let mut times: Vec<i64> = Vec::new();
    for events in users.values_mut() {
        // Stable: equal times keep the order of the file.
        events.sort_by_key(|row| row.time_ms);
        let next = |at: usize, step: &str| (at + 1..events.len()).find(|&next| events[next].event == step);
        let entries = (0..events.len()).filter(|&at| events[at].event == STEPS[0]);
        let took = |entry: usize| {
            let last = STEPS[1..].iter().try_fold(entry, |at, step| next(at, step))?;
            Some(events[last].time_ms - events[entry].time_ms).filter(|&took| took <= window_ms)
        };
        times.extend(entries.filter_map(took).next());
    }
    times.sort_unstable();
    (times[(times.len() - 1) / 2] + times[times.len() / 2]) as f64 / 2000.0
}

/// Who is in the audience at the sample's last event: user, since when, until when.
fn members(rows: &[Row]) -> Vec<(String, i64, i64)> {
    let (window_ms, last_ms) = (i64::try_from(WINDOW.as_millis()).expect("a short window"), last_ms(rows));
    let mut bought: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.event == BOUGHT) {
        bought.entry(&row.user).or_default().push(row.time_ms);
    }
    let mut members = Vec::new();
    for (user, mut times) in bought {
        times.sort_unstable();
        // Back from the last purchase, as long as the one before is no more than a window away.
        let (mut entered, left) = (times[times.len() - 1], times[times.len() - 1] + window_ms);
        for &time in times.iter().rev().skip(1) {
            if entered - time > window_ms {
                break;
            }
            entered = time;
        }
        if left > last_ms {
            members.push((user.to_owned(), entered, left));
        }
    }
    members
}

/// Fails with every place in which answers differ from what they must be.
///
/// # Panics
/// If they do.
#[track_caller]
pub fn assert_same(what: &str, answers: &Value, expected: &Value) {
    let mut differences = Vec::new();
    compare("", answers, expected, &mut differences);
    let count = differences.len();
    differences.truncate(20);
    assert!(count == 0, "{what}: {count} differences, among them\n  {}", differences.join("\n  "));
}

/// Fails when the tables themselves, in plain sums over all rows and without `FINAL`, do not hold the sample once.
///
/// # Errors
/// If ClickHouse refuses a query.
///
/// # Panics
/// If a table holds something else.
pub async fn assert_tables(installation: &Installation, project: &str) -> Result<()> {
    let events =
        installation.sql(format!("SELECT count(), uniqExact(event_key) FROM events WHERE project = '{project}'"));
    assert_eq!(events.await?, [[ROWS.to_string(), ROWS.to_string()]], "events");

    // The view is fed by each block that counts, and by none that was sent again.
    let days = installation.sql(format!(
        "SELECT toInt32(day), event, sum(events) FROM event_counts_daily WHERE project = '{project}' GROUP BY day, event ORDER BY day, event"
    ));
    let must =
        daily(&rows()?).into_iter().map(|((day, event), (events, _))| vec![day.to_string(), event, events.to_string()]);
    let (days, must) = (days.await?, must.collect::<Vec<_>>());
    let wrong: Vec<_> = days.iter().filter(|row| !must.contains(row)).take(10).collect();
    assert!(
        wrong.is_empty() && days.len() == must.len(),
        "{} days for {}, {} and {} events, wrong are {wrong:?}",
        days.len(),
        must.len(),
        days.iter().map(|row| row[2].parse::<u64>().unwrap_or(0)).sum::<u64>(),
        must.iter().map(|row| row[2].parse::<u64>().unwrap_or(0)).sum::<u64>(),
    );

    // Each version of a session or stay was put in once, or put in and taken back.
    for (table, key) in [
        ("sessions", "visitor, start, end, events, page_views"),
        ("audience_members", "audience, person, entered, left"),
    ] {
        let wrong = installation.sql(format!(
            "SELECT {key}, sum(sign) AS standing FROM {table} WHERE project = '{project}' GROUP BY {key} HAVING standing NOT IN (0, 1) LIMIT 10"
        ));
        assert_eq!(
            wrong.await?,
            Vec::<Vec<String>>::new(),
            "{table}: versions that stand other than once or not at all"
        );
    }
    let reference = expected()?;
    let sessions =
        installation.sql(format!("SELECT sum(sign), sum(sign * events) FROM sessions WHERE project = '{project}'"));
    assert_eq!(sessions.await?, [[reference["sessions"]["sessions"].to_string(), ROWS.to_string()]], "sessions");
    let stays = installation.sql(format!("SELECT sum(sign) FROM audience_members WHERE project = '{project}'"));
    assert_eq!(stays.await?, [[reference["audience"]["entered"].to_string()]], "stays");
    Ok(())
}

fn compare(at: &str, got: &Value, expected: &Value, differences: &mut Vec<String>) {
    match (got, expected) {
        (Value::Array(got_items), Value::Array(items)) if got_items.len() == items.len() => {
            for (n, (got, expected)) in got_items.iter().zip(items).enumerate() {
                compare(&format!("{at}[{n}]"), got, expected, differences);
            }
        }
        (Value::Object(got_members), Value::Object(members)) => {
            for name in got_members.keys().chain(members.keys()).collect::<BTreeSet<_>>() {
                compare(&format!("{at}/{name}"), &got[name], &expected[name], differences);
            }
        }
        (Value::Number(got), Value::Number(expected)) => {
            let (got, expected) = (got.as_f64().unwrap_or(f64::NAN), expected.as_f64().unwrap_or(f64::NAN));
            let is_near = (got - expected).abs() <= TOLERANCE;
            if !is_near {
                differences.push(format!("{at} is {got}, must be {expected}"));
            }
        }
        (got, expected) if got == expected => {}
        (got, expected) => differences.push(format!("{at} is {got}, must be {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_computed_here_agrees_with_the_reference() -> Result<()> {
        let (rows, expected) = (rows()?, expected()?);
        assert_eq!(rows.len() as u64, ROWS);
        assert_eq!(expected["audience"]["members"], json!(members(&rows).len()));
        let by_name =
            |name: &str| daily(&rows).iter().filter(|((_, event), _)| event == name).map(|(_, (n, _))| n).sum::<u64>();
        for (name, count) in expected["event_counts"].as_object().context("an object")? {
            assert_eq!(json!(by_name(name)), *count, "{name}");
        }
        let median = &expected["funnel_median_seconds"];
        assert_eq!(*median, json!(funnel_median_seconds(&rows, Duration::from_hours(400 * 24))));
        assert!(!expected.to_string().contains("null"), "{expected}");
        Ok(())
    }

    #[test]
    #[should_panic(expected = "/a[1] is 2, must be 3")]
    fn a_difference_is_told_with_its_place() {
        assert_same("x", &json!({"a": [1, 2], "b": 1.0000001}), &json!({"a": [1, 3], "b": 1}));
    }
}
