//! Records that nobody of ours wrote: each is kept in `rejected`, none stops a worker, in either stage.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde_json::json;
use trackway_eventlog::embedded::system_clock;
use trackway_eventlog::{EventLog, NewRecord, TopicPartition};
use trackway_tests::kafka::KafkaBroker;
use trackway_tests::roles::{Installation, about};
use trackway_wire::log::{self, pb};

const PROJECT: &str = "odd";
const PARTITIONS: u32 = 4;
const SEEN_MAX: Duration = Duration::from_secs(60);

/// No records at all.
fn garbage() -> Vec<Bytes> {
    let cut = log::encode(&events(PROJECT, vec![visit("cut")]));
    vec![
        Bytes::new(),
        Bytes::from_static(b"\x01"),
        Bytes::from_static(b"\x09 a version of years to come"),
        Bytes::from_static(b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        cut.slice(..cut.len() - 3),
    ]
}

fn events(project: &str, events: Vec<pb::Event>) -> pb::EventsRecord {
    let events = pb::VisitorEvents { project: project.into(), visitor_id: "odd".into(), events, ..Default::default() };
    pb::EventsRecord { body: Some(pb::events_record::Body::Events(events)) }
}

fn visit(id: &str) -> pb::Event {
    pb::Event {
        kind: pb::event::Kind::Track as i32,
        name: "odd".into(),
        id: id.into(),
        key: id.len() as u64,
        time_ms: system_clock(),
        time_source: pb::event::TimeSource::Client as i32,
        ..Default::default()
    }
}

/// Messages of the right form that say what cannot be: of a person without a key, names that are not there, lists that do
/// not fit, a rule without a rule, a past without an origin.
fn absurd_journeys() -> Vec<Bytes> {
    use pb::journeys_record::Body;
    let entry = |person: &'static [u8], names: Vec<u32>| pb::PersonEntry {
        person: Bytes::from_static(person),
        project: 7,
        names,
        times_ms: vec![system_clock()],
        keys: vec![1, 2, 3],
        merge_into: Bytes::from_static(b"short"),
        ..Default::default()
    };
    let origin = |offset| Some(pb::Origin { topic: "elsewhere".into(), partition: 99, offset, index: 0, after: None });
    let entries = |offset, entries| {
        Body::Entries(pb::PersonEntries {
            origin: origin(offset),
            projects: vec![PROJECT.into()],
            entries,
            ..Default::default()
        })
    };
    let bodies = [
        Body::Entries(pb::PersonEntries::default()),
        entries(1, vec![entry(b"", vec![0]), entry(b"0123456789abcdef", vec![5, 6])]),
        entries(2, vec![pb::PersonEntry { project: 0, ..entry(b"0123456789abcdef", vec![9]) }]),
        Body::Audience(pb::AudienceChange { project: PROJECT.into(), audience: "none".into(), ..Default::default() }),
        Body::Moved(pb::PersonState::default()),
        Body::Moved(pb::PersonState {
            project: PROJECT.into(),
            person: Bytes::from_static(b"x"),
            ..Default::default()
        }),
    ];
    bodies.map(|body| log::encode(&pb::JourneysRecord { body: Some(body) })).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_are_kept_and_stop_nobody() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = KafkaBroker::start(folder.path())?;
    let installation = Installation::over_kafka(&broker, &[PROJECT], &[("WORKER__SNAPSHOT_SECONDS", "1")]).await?;
    installation.client().create_audience((PROJECT, "visitors"), "visit", 1, Duration::from_hours(24)).await?;
    let log = broker.log().await?;
    let everywhere = |values: Vec<Bytes>| -> Vec<NewRecord> {
        let of = |partition| {
            let record =
                move |value: &Bytes| NewRecord { partition, timestamp_ms: system_clock(), value: value.clone() };
            values.iter().map(record).collect::<Vec<_>>()
        };
        (0..PARTITIONS).flat_map(of).collect()
    };
    let garbage = garbage();
    let no_project = log::encode(&events("NO PROJECT", vec![visit("a")]));
    log.append("events", everywhere([garbage.clone(), vec![no_project]].concat())).await?;
    log.append("journeys", everywhere(garbage.clone())).await?;
    let undecodable = PARTITIONS as usize * (2 * garbage.len() + 1);
    // Readable, and absurd: nothing to stop for. An event of a kind that nobody knows is kept.
    log.append("events", everywhere(vec![log::encode(&events(PROJECT, vec![pb::Event::default()]))])).await?;
    let unknown = PARTITIONS as usize;
    log.append("journeys", everywhere(absurd_journeys())).await?;

    // What comes after them counts, in every partition of both stages.
    let visit = |n: u64| json!({"type": "track", "anonymousId": format!("d{n}"), "event": "visit", "messageId": format!("m{n}")});
    installation.track(PROJECT, &(0..40).map(visit).collect::<Vec<_>>()).await?;
    let count = async || {
        let trend = installation.complete(async |client| client.trend(about::trend(PROJECT)).await).await?;
        let ask = trackway_query::pb::MembersRequest { name: "visitors".into(), ..about::members(PROJECT) };
        let members = installation.complete(async |client| client.members(ask.clone()).await).await?;
        anyhow::Ok((trend.buckets.first().map_or(0, |all| all.events), members.members.len()))
    };
    assert_eq!(count().await?, (40, 40));

    let at = TopicPartition { topic: "rejected".into(), partition: 0 };
    let kept = installation
        .eventually("all of them to be in `rejected`", SEEN_MAX, async || {
            let records = log.read(&at, 0, 1_000, Duration::from_secs(5)).await?;
            ensure!(records.len() >= undecodable + unknown, "{} of {undecodable} and {unknown}", records.len());
            Ok(records)
        })
        .await?;
    assert_eq!(kept.len(), undecodable + unknown);
    let mut bodies = Vec::new();
    for record in kept {
        let record: pb::RejectedRecord = log::decode(record.value)?;
        assert_eq!(record.protocol, "log", "{record:?}");
        if record.reason == "unknown_event" {
            assert_eq!((record.project.as_str(), record.items.len()), (PROJECT, 1), "{record:?}");
            continue;
        }
        assert_eq!(record.reason, "undecodable", "{record:?}");
        assert!(!record.message.is_empty());
        bodies.push(record.body);
    }
    assert_eq!(bodies.len(), undecodable);
    for body in garbage {
        assert_eq!(bodies.iter().filter(|kept| **kept == body).count(), 2 * PARTITIONS as usize, "{body:?}");
    }
    // They are passed over in a replay too.
    for worker in ["worker-1", "worker-2"] {
        installation.kill9(worker)?;
        installation.start(worker)?;
    }
    installation.track(PROJECT, &(40..60).map(visit).collect::<Vec<_>>()).await?;
    assert_eq!(count().await?, (60, 60));
    Ok(())
}
