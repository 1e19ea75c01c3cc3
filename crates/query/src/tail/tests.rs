//! Over a real embedded log, as it grows.

use futures_util::StreamExt as _;
use tokio::time::timeout;
use trackway_domain::event::{Context, Event, EventKind, KeySource, ReceivedEvent, TimeSource};
use trackway_domain::id::{EventKey, Visitor};
use trackway_domain::time::EventTime;
use trackway_eventlog::NewRecord;
use trackway_wire::log::{self, RequestContext, encode};

use super::*;
use crate::pb::tail_response::Body;
use crate::server::tests::desk_with_log;

const REQUEST: RequestContext<'_> =
    RequestContext { project: "shop", user_agent: "", protocol: "segment", ip: "192.0.2.0", bot: "" };

fn event(name: &str, user_id: &str) -> Event {
    Event {
        visitor: Visitor::Device("v".into()),
        time: EventTime(5),
        time_source: TimeSource::Client,
        key: EventKey(1),
        key_source: KeySource::Content,
        received: ReceivedEvent {
            kind: EventKind::Track,
            name: name.into(),
            id: None,
            visitor: None,
            user_id: (!user_id.is_empty()).then(|| user_id.into()),
            other_id: None,
            client_time_ms: None,
            sent_at_ms: None,
            sequence: 0,
            context: Context { url: "https://shop.example/".into(), ..Context::default() },
            revenue: None,
            properties: r#"{"n":1}"#.into(),
            traits: "{}".into(),
        },
    }
}

async fn append(desk: &Desk, topic: &str, partition: u32, value: bytes::Bytes) {
    let record = NewRecord { partition, timestamp_ms: 7, value };
    desk.log.append(topic, vec![record]).await.expect("appended");
}

async fn send(desk: &Desk, request: &RequestContext<'_>, visitor: &str, events: Vec<Event>) {
    append(desk, "events", 1, log::encode_events(request, &Visitor::Device(visitor.into()), &events)).await;
}

fn all(project: &str) -> check::Tail {
    check::tail(pb::TailRequest { project: project.into(), ..Default::default() }).expect("a good request")
}

async fn next(stream: &mut Responses) -> pb::TailResponse {
    let next = timeout(Duration::from_secs(20), stream.next()).await.expect("something within 20 s");
    next.expect("the stream goes on").expect("no fault")
}

fn name(response: &pb::TailResponse) -> String {
    match &response.body {
        Some(Body::Event(event)) => event.event.clone(),
        Some(Body::Rejected(rejected)) => format!("rejected {} {:?}", rejected.reason, rejected.index),
        None => panic!("{response:?}"),
    }
}

/// Runs `then` while the topics are followed.
async fn followed(then: impl AsyncFnOnce(&Arc<Desk>)) {
    let (desk, _folder) = desk_with_log(&[("events", 2), ("rejected", 1)]).await;
    let scenario = async {
        then(&desk).await;
        desk.stopping.cancel();
    };
    tokio::join!(follow(&desk), scenario);
    desk.log.close().await;
}

#[tokio::test]
async fn what_arrives_from_now_on_is_shown_as_it_was_understood() {
    followed(async |desk| {
        send(desk, &REQUEST, "v", vec![event("before", "")]).await;
        let mut tail = begin(Arc::clone(desk), all("shop")).await.expect("begins");
        append(desk, "events", 0, log::encode_events_tick()).await;
        append(desk, "events", 0, b"\x01nonsense".to_vec().into()).await;
        send(desk, &RequestContext { project: "other", ..REQUEST }, "v", vec![event("others", "")]).await;
        let googlebot = RequestContext { user_agent: "Googlebot/2.1", ..REQUEST };
        send(desk, &googlebot, "v", vec![event("signup", "ann"), event("buy", "")]).await;
        let Some(Body::Event(shown)) = next(&mut tail).await.body else { panic!("no event") };
        assert_eq!(
            (shown.event.as_str(), shown.user_id.as_str(), shown.visitor_id.as_str(), shown.kind.as_str()),
            ("signup", "ann", "v", "track")
        );
        assert_eq!((shown.received_ms, shown.time_ms, shown.time_source.as_str()), (7, 5, "client"));
        assert_eq!(
            (shown.properties.as_str(), shown.traits.as_str(), shown.bot.as_str()),
            (r#"{"n":1}"#, "{}", "crawler")
        );
        assert_eq!((shown.protocol.as_str(), shown.ip.as_str()), ("segment", "192.0.2.0"));
        assert_eq!(name(&next(&mut tail).await), "buy");

        let item = |index| log_pb::RejectedItem {
            index,
            reason: "missing_field".into(),
            message: "`event` is missing".into(),
            content: vec![b'x'; 9_000].into(),
        };
        let rejected = log_pb::RejectedRecord {
            project: "shop".into(),
            protocol: "segment".into(),
            reason: "missing_field".into(),
            items: vec![item(3), item(7)],
            ..Default::default()
        };
        append(desk, "rejected", 0, encode(&log_pb::RejectedRecord { project: "other".into(), ..rejected.clone() }))
            .await;
        append(desk, "rejected", 0, encode(&rejected)).await;
        append(desk, "rejected", 0, encode(&log_pb::RejectedRecord { items: Vec::new(), ..rejected })).await;
        let first = next(&mut tail).await;
        assert_eq!(name(&first), "rejected missing_field Some(3)");
        let Some(Body::Rejected(first)) = first.body else { panic!("{first:?}") };
        assert_eq!((first.excerpt.len(), first.offset), (EXCERPT_BYTES_MAX, 1));
        assert_eq!(name(&next(&mut tail).await), "rejected missing_field Some(7)");
        assert_eq!(name(&next(&mut tail).await), "rejected missing_field None");
    })
    .await;
}

#[tokio::test]
async fn each_is_shown_what_it_asked_for() {
    followed(async |desk| {
        let shows = |change: fn(&mut check::Tail)| {
            let mut shows = all("shop");
            change(&mut shows);
            begin(Arc::clone(desk), shows)
        };
        // There is room for two at a time.
        for (change, expected) in [
            ((|tail| tail.event = "buy".into()) as fn(&mut check::Tail), ["buy", "buy"]),
            (|tail| tail.user_id = "ann".into(), ["signup", "done"]),
            (|tail| tail.visitor_id = "w".into(), ["buy", "done"]),
            (|tail| tail.protocol = "plausible".into(), ["signup", "done"]),
            (|tail| tail.rejected_only = true, ["rejected malformed None", "rejected done None"]),
        ] {
            let mut tail = shows(change).await.expect("begins");
            send(desk, &REQUEST, "v", vec![event("signup", "ann"), event("buy", "")]).await;
            send(desk, &REQUEST, "w", vec![event("buy", "bob")]).await;
            send(desk, &RequestContext { protocol: "plausible", ..REQUEST }, "v", vec![event("signup", "cid")]).await;
            let rejected = |reason: &str| log_pb::RejectedRecord {
                project: "shop".into(),
                reason: reason.into(),
                ..Default::default()
            };
            append(desk, "rejected", 0, encode(&rejected("malformed"))).await;
            append(desk, "rejected", 0, encode(&rejected("done"))).await;
            // Shown to all of them but the first and the last.
            send(desk, &RequestContext { protocol: "plausible", ..REQUEST }, "w", vec![event("done", "ann")]).await;
            let mut shown = [name(&next(&mut tail).await), name(&next(&mut tail).await)];
            // Partitions know no order among each other.
            let mut expected = expected.map(str::to_owned);
            shown.sort();
            expected.sort();
            assert_eq!(shown, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_too_slow_loses_the_oldest_and_is_told_how_many() {
    followed(async |desk| {
        let mut slow = begin(Arc::clone(desk), all("shop")).await.expect("begins");
        let mut quick = begin(Arc::clone(desk), all("shop")).await.expect("begins");
        let third = begin(Arc::clone(desk), all("shop")).await.err().expect("there are places for two");
        assert_eq!(third.to_string(), "there are 10 subscribers and tails, more are not taken");
        let total = QUEUE_MAX as u64 + 300;
        for n in 0..total / 100 {
            let events = (0..100).map(|m| event(&format!("{}", n * 100 + m), ""));
            send(desk, &REQUEST, "v", events.collect()).await;
            for m in 0..100 {
                let shown = next(&mut quick).await;
                assert_eq!((name(&shown), shown.skipped), ((n * 100 + m).to_string(), 0));
            }
        }
        let first = next(&mut slow).await;
        assert_eq!((name(&first), first.skipped), ("300".to_owned(), 300));
        let second = next(&mut slow).await;
        assert_eq!((name(&second), second.skipped), ("301".to_owned(), 0));
        // By bytes, too.
        let large = Event {
            received: ReceivedEvent {
                properties: format!(r#"{{"x":"{}"}}"#, "y".repeat(QUEUE_BYTES_MAX / 3)),
                ..event("", "").received
            },
            ..event("", "")
        };
        for _ in 0..3 {
            send(desk, &REQUEST, "v", vec![large.clone()]).await;
            assert_eq!(next(&mut quick).await.skipped, 0);
        }
        assert_eq!(next(&mut slow).await.skipped, QUEUE_MAX as u64 - 2 + 1);
        // Who goes makes room, and nobody is left to be told.
        drop((slow, quick));
        assert!(desk.tails.all().is_empty());
        drop(begin(Arc::clone(desk), all("shop")).await.expect("a place is free"));
    })
    .await;
}

#[tokio::test]
async fn a_stop_ends_tails_at_once() {
    followed(async |desk| {
        let mut tail = begin(Arc::clone(desk), all("shop")).await.expect("begins");
        let (ended, ()) = tokio::join!(tail.next(), async { desk.stopping.cancel() });
        let status = ended.expect("a last word").expect_err("a fault");
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(tail.next().await.is_none());
    })
    .await;
}
