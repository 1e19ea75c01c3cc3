//! What is in the tables, read without FINAL, beside what must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::str::FromStr;

use anyhow::{Context, Result};

use super::input::PROJECTS;
use super::oracle::{Components, EventRow, Expected, SessionRow, Stay};
use crate::roles::{Installation, about};

/// Differences of one kind that are shown.
const SHOWN_MAX: usize = 5;

/// A row of `events`: what is compared, and where it came from.
pub(super) struct Stored {
    pub row: EventRow,
    /// Key that it is stored under.
    under: u128,
    pub late: bool,
    /// Partition, offset and place in the record.
    pub origin: (u32, u64, u32),
}

/// All rows of `events`.
///
/// # Errors
/// If ClickHouse does not answer.
pub(super) async fn events(installation: &Installation) -> Result<Vec<Stored>> {
    let rows = installation.sql(
        "SELECT project, event_key, visitor, toUnixTimestamp64Milli(time), sequence, kind, event, path, bot != '', person, \
         late, origin_partition, origin_offset, origin_index FROM events",
    );
    let stored = |row: &Vec<String>| {
        anyhow::Ok(Stored {
            row: EventRow {
                project: row[0].clone(),
                key: number(&row[1])?,
                visitor: number(&row[2])?,
                time_ms: number(&row[3])?,
                sequence: number(&row[4])?,
                kind: row[5].clone(),
                event: row[6].clone(),
                path: row[7].clone(),
                is_bot: row[8] == "1",
            },
            under: number(&row[9])?,
            late: row[10] == "true",
            origin: (number(&row[11])?, number(&row[12])?, number(&row[13])?),
        })
    };
    rows.await?.iter().map(stored).collect()
}

/// Everything that differs, in words; empty if nothing does.
///
/// # Errors
/// If ClickHouse or the query server does not answer.
pub(super) async fn differences(installation: &Installation, expected: &Expected) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let stored = events(installation).await?;
    differ("events", &expected.events, stored.iter().map(|stored| stored.row.clone()), &mut all);
    differ("sessions", &expected.sessions, sessions(installation).await?, &mut all);
    let daily = expected.daily.iter().map(|(key, counts)| (key.clone(), *counts)).collect::<Vec<_>>();
    differ("daily counts", &daily, daily_counts(installation).await?, &mut all);
    persons(installation, expected, &stored, &mut all).await?;
    differ("stays in audiences", &expected.stays, stays(installation, expected).await?, &mut all);
    for (project, &(events, persons)) in &expected.totals {
        let trend = installation.client().trend(about::trend(project)).await?;
        let told = trend.buckets.first().map_or((0, 0), |all| (all.events, all.persons));
        if told != (events, persons) {
            all.push(format!("{project} has {events} events of {persons} persons, the answer is {told:?}"));
        }
        let sessions = expected.sessions.iter().filter(|session| session.project == *project).count() as u64;
        let summary = installation.client().session_summary(about::sessions(project)).await?;
        let told = summary.rows.first().map_or(0, |row| row.sessions);
        if told != sessions {
            all.push(format!("{project} has {sessions} sessions, the answer is {told}"));
        }
    }
    Ok(all)
}

/// Compares as multisets: a row too often is a difference like one too few.
fn differ<T: Ord + Clone + Debug>(
    what: &str,
    expected: &[T],
    actual: impl IntoIterator<Item = T>,
    all: &mut Vec<String>,
) {
    let mut counts: BTreeMap<T, i64> = BTreeMap::new();
    expected.iter().for_each(|row| *counts.entry(row.clone()).or_default() -= 1);
    actual.into_iter().for_each(|row| *counts.entry(row).or_default() += 1);
    counts.retain(|_, count| *count != 0);
    let (missing, extra): (Vec<_>, Vec<_>) = counts.into_iter().partition(|(_, count)| *count < 0);
    for (rows, how) in [(missing, "missing"), (extra, "too many")] {
        if !rows.is_empty() {
            let shown: Vec<String> = rows.iter().take(SHOWN_MAX).map(|row| format!("{row:?}")).collect();
            all.push(format!("{what}: {} {how}, such as\n    {}", rows.len(), shown.join("\n    ")));
        }
    }
}

async fn sessions(installation: &Installation) -> Result<Vec<SessionRow>> {
    let rows = installation.sql(
        "SELECT project, visitor, toUnixTimestamp64Milli(start), toUnixTimestamp64Milli(end), events, page_views, \
         entry_page, exit_page, channel, sum(sign) AS times FROM sessions \
         GROUP BY project, visitor, start, end, events, page_views, entry_page, exit_page, channel HAVING times != 0",
    );
    let mut all = Vec::new();
    for row in rows.await? {
        let session = SessionRow {
            project: row[0].clone(),
            visitor: number(&row[1])?,
            start_ms: number(&row[2])?,
            end_ms: number(&row[3])?,
            events: number(&row[4])?,
            page_views: number(&row[5])?,
            entry_page: row[6].clone(),
            exit_page: row[7].clone(),
            channel: row[8].clone(),
        };
        repeat(&session, &row[9], "sessions", &mut all)?;
    }
    Ok(all)
}

/// A row as often as its signs say. Taken back more often than put in is no set of rows at all.
fn repeat<T: Clone + Debug>(row: &T, times: &str, table: &str, all: &mut Vec<T>) -> Result<()> {
    let times: i64 = number(times)?;
    let times = usize::try_from(times).with_context(|| format!("`{table}` has {row:?} {times} times"))?;
    all.extend(std::iter::repeat_n(row.clone(), times));
    Ok(())
}

type Daily = ((String, i64, String), (u64, i64));

async fn daily_counts(installation: &Installation) -> Result<Vec<Daily>> {
    let rows = installation.sql(
        "SELECT project, toInt64(toUInt16(day)), event, sum(events), toUnixTimestamp64Milli(max(latest)) \
         FROM event_counts_daily GROUP BY project, day, event",
    );
    let daily = |row: &Vec<String>| {
        Ok(((row[0].clone(), number(&row[1])?, row[2].clone()), (number(&row[3])?, number(&row[4])?)))
    };
    rows.await?.iter().map(daily).collect()
}

/// Whose every event is: the keys that rows are stored under, followed through `identities`, must part the events exactly as
/// the oracle does.
async fn persons(
    installation: &Installation,
    expected: &Expected,
    stored: &[Stored],
    all: &mut Vec<String>,
) -> Result<()> {
    for project in PROJECTS {
        // A device that turned out to be another user's has its first pair taken back.
        let pairs = installation.sql(format!(
            "SELECT key, person FROM identities WHERE project = '{project}' \
             GROUP BY key, person, by_alias HAVING NOT argMax(removed, version)"
        ));
        let pairs = pairs.await?;
        let pairs: Vec<(u128, u128)> =
            pairs.iter().map(|row| Ok((number(&row[0])?, number(&row[1])?))).collect::<Result<_>>()?;
        let found = Components::of(&pairs);
        // Each person there must be one person here, and the other way round.
        let (mut there, mut here) = (BTreeMap::<u128, BTreeSet<u128>>::new(), BTreeMap::<u128, BTreeSet<u128>>::new());
        for stored in stored.iter().filter(|stored| stored.row.project == project) {
            let Some(&person) = expected.persons.get(&(project.to_owned(), stored.row.key)) else { continue };
            let found = found.of_key(stored.under);
            there.entry(found).or_default().insert(person);
            here.entry(person).or_default().insert(found);
        }
        let joined = there.values().filter(|persons| persons.len() > 1).count();
        let parted = here.values().filter(|persons| persons.len() > 1).count();
        if joined + parted > 0 {
            let (a, b) = (there.values().find(|all| all.len() > 1), here.values().find(|all| all.len() > 1));
            all.push(format!("persons of {project}: {joined} are several ({a:x?}), {parted} are parted ({b:x?})"));
        }
    }
    Ok(())
}

async fn stays(installation: &Installation, expected: &Expected) -> Result<Vec<Stay>> {
    let rows = installation.sql(
        "SELECT project, audience, person, toUnixTimestamp64Milli(entered), toUnixTimestamp64Milli(left), \
         sum(sign) AS times FROM audience_members \
         GROUP BY project, audience, person, entered, left HAVING times != 0",
    );
    let mut all = Vec::new();
    for row in rows.await? {
        let stay = Stay {
            project: row[0].clone(),
            audience: row[1].clone(),
            person: expected.members[row[0].as_str()].of_key(number(&row[2])?),
            entered_ms: number(&row[3])?,
            left_ms: number(&row[4])?,
        };
        repeat(&stay, &row[5], "audience_members", &mut all)?;
    }
    Ok(all)
}

fn number<N: FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> Result<N> {
    text.parse().with_context(|| format!("`{text}` is no number"))
}
