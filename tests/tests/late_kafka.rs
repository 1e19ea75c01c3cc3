//! An event that comes after its visitor's sessions were let go of: they come back out of ClickHouse, and are repaired.

use std::time::Duration;

use anyhow::{Result, ensure};
use trackway_domain::event::{Context, Event, EventKind, KeySource, ReceivedEvent, TimeSource};
use trackway_domain::id::{EventKey, PersonKey, ProjectId, Visitor};
use trackway_domain::time::EventTime;
use trackway_eventlog::embedded::system_clock;
use trackway_eventlog::{EventLog, NewRecord};
use trackway_tests::kafka::KafkaBroker;
use trackway_tests::roles::Installation;
use trackway_wire::log;

const PROJECT: &str = "late";
const PARTITIONS: u32 = 4;
const SEEN_MAX: Duration = Duration::from_secs(60);
const MINUTE_MS: i64 = 60_000;

fn page(visitor: &str, path: &str, time_ms: i64) -> Event {
    let project = ProjectId::parse(PROJECT).expect("a project's id");
    let id = format!("{visitor}{path}{time_ms}");
    Event {
        visitor: Visitor::Device(visitor.into()),
        time: EventTime(time_ms),
        time_source: TimeSource::Client,
        key: EventKey::of_id(&project, &id),
        key_source: KeySource::Id,
        received: ReceivedEvent {
            kind: EventKind::Page,
            name: "page".into(),
            id: Some(id),
            visitor: None,
            user_id: None,
            other_id: None,
            client_time_ms: None,
            sent_at_ms: None,
            sequence: 0,
            context: Context {
                url: format!("https://shop.example{path}"),
                referrer: "https://www.google.com/".into(),
                ..Context::default()
            },
            revenue: None,
            properties: "{}".into(),
            traits: "{}".into(),
        },
    }
}

/// As a gateway writes it, at a time of its own.
fn record(event: &Event, received_ms: i64) -> NewRecord {
    let project = ProjectId::parse(PROJECT).expect("a project's id");
    let partition = event.visitor.key(&project).partition(PARTITIONS);
    let context = log::RequestContext { project: PROJECT, protocol: "segment", ..Default::default() };
    let value = log::encode_events(&context, &event.visitor, std::slice::from_ref(event));
    NewRecord { partition, timestamp_ms: received_ms, value }
}

/// Another visitor of the same partition.
fn neighbour(of: &str) -> String {
    let project = ProjectId::parse(PROJECT).expect("a project's id");
    let partition = |id: &str| PersonKey::of_device(&project, id).partition(PARTITIONS);
    (0..).map(|n| format!("neighbour-{n}")).find(|id| partition(id) == partition(of)).expect("there is one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_were_let_go_of_come_back_for_a_late_event() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = KafkaBroker::start(folder.path())?;
    let settings = [("WORKER__HOLD_HOURS", "1"), ("WORKER__SNAPSHOT_SECONDS", "1")];
    let installation = Installation::over_kafka(&broker, &[PROJECT], &settings).await?;
    let log = broker.log().await?;
    let begin = system_clock() - 180 * MINUTE_MS;
    let at = |minute: i64| begin + minute * MINUTE_MS;
    // Minutes of start and end, events, views, pages, channel.
    let standing = async |expected: &[&str]| {
        let sql = format!(
            "SELECT intDiv(toUnixTimestamp64Milli(start) - {begin}, {MINUTE_MS}) AS first, \
             intDiv(toUnixTimestamp64Milli(end) - {begin}, {MINUTE_MS}) AS last, events, page_views, entry_page, exit_page, \
             channel, sum(sign) FROM sessions GROUP BY ALL HAVING sum(sign) != 0 ORDER BY first, last"
        );
        let seen = async || {
            let found = installation.sql(&sql).await?;
            let found: Vec<String> = found.into_iter().map(|row| row.join(" ")).collect();
            ensure!(found == expected, "found {found:?}\nexpected {expected:?}");
            Ok(())
        };
        installation.eventually("the sessions", SEEN_MAX, seen).await
    };
    let other = neighbour("a");

    // Two sessions of a visitor, 50 minutes apart; two hours later both are let go of.
    for (path, minute) in [("/one", 0), ("/two", 50)] {
        log.append("events", vec![record(&page("a", path, at(minute)), at(minute))]).await?;
    }
    for minute in [170, 171] {
        log.append("events", vec![record(&page(&other, "/", at(minute)), at(minute))]).await?;
    }
    let theirs = "170 171 2 2 / / Organic Search 1";
    standing(&["0 0 1 1 /one /one Organic Search 1", "50 50 1 1 /two /two Organic Search 1", theirs]).await?;

    // Then comes what happened between them.
    log.append("events", vec![record(&page("a", "/between", at(25)), at(178))]).await?;
    standing(&["0 50 3 3 /one /two Organic Search 1", theirs]).await?;

    // It is held again. A crash changes nothing.
    for worker in ["worker-1", "worker-2"] {
        installation.kill9(worker)?;
        installation.start(worker)?;
    }
    log.append("events", vec![record(&page("a", "/last", at(55)), at(179))]).await?;
    standing(&["0 55 4 4 /one /last Organic Search 1", theirs]).await?;
    Ok(())
}
