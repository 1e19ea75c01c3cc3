//! A subscription from a cursor on, over a log in memory. Snapshots need ClickHouse: see `tests/`.

use bytes::Bytes;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use trackway_domain::time::ReceivedAt;
use trackway_eventlog::{EventLog, NewRecord};
use trackway_wire::log::encode;

use super::*;
use crate::changes::RecentChanges;
use crate::memory_log::MemoryLog;
use crate::server::tests::{a_log, config, no_store};
use crate::status::Fault;
use crate::tail::Tails;

const TOPIC: &str = "audience-changes";

fn shop() -> ProjectId {
    ProjectId::parse("shop").expect("a project id")
}

/// A desk whose memory begins at these ends.
fn desk(log: &Arc<MemoryLog>, ends: [u64; 2]) -> Arc<Desk> {
    let config = config();
    Arc::new(Desk {
        store: no_store(),
        log: Arc::clone(log) as Arc<dyn EventLog>,
        clock: || ReceivedAt(0),
        changes: RecentChanges::new(TOPIC, ends, config.recent_changes_max),
        tails: Tails::default(),
        journeys_partitions: 2,
        places: Semaphore::new(1),
        subscriber_places: Arc::new(Semaphore::new(1)),
        creating: Mutex::new(()),
        stopping: CancellationToken::new(),
        config,
    })
}

fn cursor(next: [u64; 2], floor: [u64; 2]) -> Cursor {
    Cursor {
        audience: audience_key(&shop(), "buyers"),
        next: next.to_vec(),
        floor: floor.to_vec(),
        seen: BTreeMap::new(),
    }
}

fn subscription(desk: &Arc<Desk>, cursor: Cursor) -> Subscription {
    let place = Arc::clone(&desk.subscriber_places).try_acquire_owned().expect("a free place");
    Subscription {
        arrivals: desk.changes.arrivals(),
        project: "shop".into(),
        audience: "buyers".into(),
        told: cursor.next.clone(),
        cursor,
        ready: VecDeque::new(),
        cursor_period: tokio::time::interval(Duration::from_secs(3600)),
        ended: false,
        _counted: Counted::new(place),
        desk: Arc::clone(desk),
    }
}

/// A change of `person`, from (partition, offset, index) of `journeys`; the first of its audience in the flush.
fn change(audience: &str, person: u128, place: (u32, u64, u32)) -> Bytes {
    later_change(audience, person, place, None)
}

/// - `after`: index of the one before it.
fn later_change(
    audience: &str,
    person: u128,
    (partition, offset, index): (u32, u64, u32),
    after: Option<u32>,
) -> Bytes {
    encode(&log_pb::MembershipChange {
        origin: Some(log_pb::Origin { topic: "journeys".into(), partition, offset, index, after }),
        project: "shop".into(),
        audience: audience.into(),
        person: person.to_be_bytes().to_vec().into(),
        entered: true,
        ..Default::default()
    })
}

async fn append(log: &MemoryLog, partition: u32, values: Vec<Bytes>) {
    let records = values.into_iter().map(|value| NewRecord { partition, timestamp_ms: 0, value });
    log.append(TOPIC, records.collect()).await.expect("appended");
}

/// Persons of the changes that are there now.
async fn persons(subscription: &mut Subscription) -> Result<Vec<u128>, Fault> {
    while subscription.look().await? {}
    let person = |response: pb::SubscribeResponse| match response.body {
        Some(pb::subscribe_response::Body::Change(change)) => {
            change.person.parse::<PersonKey>().expect("a person's key").0
        }
        other => panic!("{other:?}"),
    };
    Ok(subscription.ready.drain(..).map(person).collect())
}

#[tokio::test]
async fn changes_of_the_audience_that_are_new_come_in_order() {
    let log = Arc::new(a_log());
    append(
        &log,
        0,
        vec![
            change("buyers", 1, (0, 4, 9)), // before the floor
            change("buyers", 2, (0, 5, 0)),
            change("readers", 3, (0, 5, 1)),
            Bytes::from_static(b"\x09 of a later version"),
            change("buyers", 4, (0, 5, 2)),
            change("buyers", 2, (0, 5, 0)), // again, after a crash
            change("buyers", 4, (0, 5, 2)),
            change("buyers", 5, (1, 3, 0)), // of another source: below the others, and new
            change("buyers", 6, (0, 6, 0)),
        ],
    )
    .await;
    let desk = desk(&log, [9, 0]);
    let mut subscription = subscription(&desk, cursor([0, 0], [5, 0]));
    assert_eq!(persons(&mut subscription).await.expect("the log has them"), [2, 4, 5, 6]);
    assert_eq!(subscription.cursor.next, [9, 0]);
}

#[tokio::test]
async fn a_change_that_overtook_another_waits_for_it() {
    let log = Arc::new(a_log());
    let flush = || {
        vec![
            change("buyers", 2, (0, 5, 0)),
            change("readers", 3, (0, 5, 1)),
            later_change("buyers", 4, (0, 5, 2), Some(0)),
            later_change("buyers", 5, (0, 5, 3), Some(2)),
        ]
    };
    // The first try lost the first change, the second the one in the middle.
    append(&log, 0, flush().split_off(1)).await;
    let desk = desk(&log, [9, 0]);
    let mut before = subscription(&desk, cursor([0, 0], [5, 0]));
    assert_eq!(persons(&mut before).await.expect("the log has them"), []);
    append(&log, 0, [&flush()[..2], &flush()[3..]].concat()).await;
    assert_eq!(persons(&mut before).await.expect("the log has them"), [2]);
    let kept = before.cursor.to_text();
    append(&log, 0, flush()).await;
    append(&log, 0, vec![change("buyers", 6, (0, 6, 0))]).await;
    drop(before);
    let mut after = subscription(&desk, Cursor::parse(&kept).expect("a cursor"));
    assert_eq!(persons(&mut after).await.expect("the log has them"), [4, 5, 6]);
}

#[tokio::test]
async fn a_client_that_comes_back_is_not_told_again_what_a_crashed_worker_repeats() {
    let log = Arc::new(a_log());
    append(&log, 0, vec![change("buyers", 2, (0, 5, 0)), change("buyers", 4, (0, 5, 2))]).await;
    let desk = desk(&log, [9, 0]);
    let mut before = subscription(&desk, cursor([0, 0], [5, 0]));
    assert_eq!(persons(&mut before).await.expect("the log has them"), [2, 4]);
    let kept = before.cursor.to_text();
    append(&log, 0, vec![change("buyers", 2, (0, 5, 0)), change("buyers", 4, (0, 5, 2))]).await;
    append(&log, 0, vec![change("buyers", 6, (0, 6, 0))]).await;
    drop(before);
    let mut after = subscription(&desk, Cursor::parse(&kept).expect("a cursor"));
    assert_eq!(persons(&mut after).await.expect("the log has them"), [6]);
}

#[tokio::test]
async fn what_is_read_from_the_log_and_from_memory_is_the_same() {
    // Memory keeps 4 changes, of which 2 partitions have 6 each.
    let log = Arc::new(a_log());
    let desk = desk(&log, [0, 0]);
    let stop = CancellationToken::new();
    let follow = async { tokio::join!(desk.changes.follow(0, &*log, &stop), desk.changes.follow(1, &*log, &stop)) };
    let client = async {
        for n in 0..6 {
            append(&log, 0, vec![change("buyers", n, (0, n as u64, 0))]).await;
            append(&log, 1, vec![change("buyers", 10 + n, (1, n as u64, 0))]).await;
        }
        // Memory has to catch up first.
        let mut arrivals = desk.changes.arrivals();
        let has_all = |partition| matches!(desk.changes.take(partition, 2, 9), Taken::Changes { next: 6, .. });
        while !(has_all(0) && has_all(1)) {
            arrivals.changed().await.expect("the sender lives");
        }
        assert_eq!(desk.changes.take(0, 1, 9), Taken::Older, "memory has the last four only");
        let mut late = subscription(&desk, cursor([0, 5], [0, 0]));
        let mut found = persons(&mut late).await.expect("the log has them");
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 4, 5, 15]);

        // From here on it waits, and is woken.
        let (woken, ()) = tokio::join!(late.next(), append(&log, 1, vec![change("buyers", 16, (1, 6, 0))]));
        let woken = woken.expect("a change");
        assert!(matches!(woken.body, Some(pb::subscribe_response::Body::Change(_))), "{woken:?}");
        assert_eq!(Cursor::parse(&woken.cursor).expect("a cursor").next, [6, 7]);
        stop.cancel();
    };
    tokio::join!(follow, client);
}

#[tokio::test]
async fn a_subscriber_whose_place_was_removed_is_told_to_begin_again() {
    let log = Arc::new(a_log());
    append(&log, 0, vec![change("buyers", 1, (0, 0, 0)), change("buyers", 2, (0, 1, 0))]).await;
    log.remove_before(TOPIC, 0, 1);
    let desk = desk(&log, [2, 0]);
    let fault = subscription(&desk, cursor([0, 0], [0, 0])).next().await.expect_err("gone");
    assert_eq!(fault.code(), tonic::Code::OutOfRange);
    assert!(fault.to_string().ends_with("Begin again without a cursor"), "{fault}");

    let fault = resumed(&desk, &shop(), "buyers", &cursor([0, 0], [0, 0]).to_text()).await.expect_err("gone");
    assert_eq!(fault.code(), tonic::Code::OutOfRange);
}

#[tokio::test]
async fn a_stop_ends_subscriptions_at_once() {
    let desk = desk(&Arc::new(a_log()), [0, 0]);
    let mut subscription = subscription(&desk, cursor([0, 0], [0, 0]));
    let stop = async { desk.stopping.cancel() };
    let (ended, ()) = tokio::join!(subscription.next(), stop);
    assert!(matches!(ended, Err(Fault::Stopping)));
}

#[tokio::test]
async fn cursors_of_elsewhere_are_refused() {
    let desk = desk(&Arc::new(a_log()), [0, 0]);
    let good = cursor([0, 0], [7, 7]);
    assert_eq!(resumed(&desk, &shop(), "buyers", &good.to_text()).await.expect("a good cursor"), good);
    let with =
        |next: &[u64], floor: &[u64]| Cursor { next: next.to_vec(), floor: floor.to_vec(), ..good.clone() }.to_text();
    for (audience, text, reason) in [
        ("buyers", "hello".to_owned(), "must be empty, or of a response of this subscription"),
        ("readers", good.to_text(), "must be of this project and audience"),
        ("buyers", with(&[0], &[7, 7]), "must be of a log with as many partitions as this one"),
        ("buyers", with(&[0, 0], &[7]), "must be of a log with as many partitions as this one"),
        ("buyers", with(&[0, 1], &[7, 7]), "must be of this log, which ends before it"),
    ] {
        let fault = resumed(&desk, &shop(), audience, &text).await.expect_err(reason);
        assert_eq!(fault.code(), tonic::Code::InvalidArgument);
        let message = fault.to_string();
        assert!(message.starts_with("`cursor` is `") && message.contains(reason), "{message}");
    }
}
