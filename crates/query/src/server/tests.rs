//! The server in this process, with a log in memory and no ClickHouse.

use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Health;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use trackway_eventlog::TopicSpec;
use trackway_eventlog::embedded::{self, EmbeddedLog, Fsync};
use trackway_store::StoreConfig;
use trackway_store::queries::QueryLimits;

use super::*;
use crate::config::Topics;
use crate::memory_log::MemoryLog;
use crate::pb::audience_service_client::AudienceServiceClient;
use crate::pb::query_service_client::QueryServiceClient;

pub(crate) fn config() -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        topics: Topics {
            events: "events".into(),
            journeys: "journeys".into(),
            audience_changes: "audience-changes".into(),
            rejected: "rejected".into(),
        },
        limits: QueryLimits { rows_read_max: 1_000, bytes_read_max: 1_000_000, time_max: Duration::from_secs(5) },
        queries_max: 2,
        queue_time_max: Duration::from_secs(1),
        identity_pairs_max: 100,
        merged_events_max: 100,
        names_max: 100,
        stages: Vec::new(),
        person_keys_max: 100,
        request_bytes_max: 100_000,
        response_bytes_max: 1_000_000,
        subscribers_max: 10,
        recent_changes_max: 4,
        cursor_period: Duration::from_secs(30),
        health_period: Duration::from_secs(1),
        drain_max: Duration::from_secs(1),
    }
}

/// Nobody listens there.
pub(crate) fn no_store() -> Store {
    let limits = config().limits;
    Store::connect(StoreConfig {
        url: "http://127.0.0.1:1".into(),
        user: "nobody".into(),
        password: String::new(),
        database: "none".into(),
        insert_time_max: Duration::from_secs(1),
        lookup_limits: limits,
    })
    .expect("connects when it is first used")
}

pub(crate) fn a_log() -> MemoryLog {
    MemoryLog::new(&[("events", 2), ("journeys", 2), ("audience-changes", 2)])
}

/// A desk over an embedded log in a folder of its own: the real one, since what reads it here is about the log alone.
pub(crate) async fn desk_with_log(topics: &[(&str, u32)]) -> (Arc<Desk>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = EmbeddedLog::open(embedded::Config {
        folder: folder.path().to_owned(),
        fsync: Fsync::Never,
        group_delay: Duration::ZERO,
        group_bytes_max: 16 << 20,
        batch_bytes_max: 1 << 20,
        queue_bytes_max: 64 << 20,
        cache_bytes: 8 << 20,
        memtable_bytes: 1 << 20,
        journal_bytes_max: 64 << 20,
        compress: true,
        retention_every: Duration::from_secs(3600),
        clock: || 0,
    });
    let log = log.expect("opens");
    let spec =
        |&(name, partitions): &(&str, u32)| TopicSpec { name: name.into(), partitions, retention: None, replicas: 1 };
    log.create_topics(&topics.iter().map(spec).collect::<Vec<_>>()).await.expect("topics");
    let config = config();
    let desk = Desk {
        store: no_store(),
        log: Arc::new(log),
        clock: || ReceivedAt(0),
        changes: RecentChanges::new(&config.topics.audience_changes, [], config.recent_changes_max),
        tails: Tails::default(),
        journeys_partitions: 0,
        places: Semaphore::new(1),
        subscriber_places: Arc::new(Semaphore::new(2)),
        creating: Mutex::new(()),
        stopping: CancellationToken::new(),
        config,
    };
    (Arc::new(desk), folder)
}

/// Runs `then` against a server, then stops it.
async fn with_server<F: Future<Output = ()>>(then: impl FnOnce(Channel) -> F) {
    let bound = bind(config(), no_store(), Arc::new(a_log()), || ReceivedAt(0)).await.expect("a free port");
    let address = bound.address();
    let shutdown = CancellationToken::new();
    let client = async {
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        then(channel.connect().await.expect("the server listens")).await;
        shutdown.cancel();
    };
    let (served, ()) = tokio::join!(bound.serve(shutdown.clone()), client);
    served.expect("a quiet end");
}

#[tokio::test]
async fn a_bad_request_is_refused_with_its_reason_although_nothing_else_works() {
    with_server(async |channel| {
        let mut client = QueryServiceClient::new(channel.clone());
        let steps = vec![pb::FunnelStep { events: vec!["a".into()] }; 40];
        let request = pb::FunnelRequest { project: "shop".into(), steps, ..Default::default() };
        let status = client.funnel(request).await.expect_err("too many steps");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "`steps` has 40 entries, limit is 32"));
        let request = pb::SubscribeRequest { project: "shop".into(), ..Default::default() };
        let status = AudienceServiceClient::new(channel).subscribe(request).await.expect_err("no name");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "`name` is missing"));
    })
    .await;
}

#[tokio::test]
async fn without_clickhouse_questions_may_be_asked_again_and_health_says_so() {
    with_server(async |channel| {
        let request = pb::TrendRequest { project: "shop".into(), ..Default::default() };
        let status = QueryServiceClient::new(channel.clone()).trend(request).await.expect_err("no ClickHouse");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        for service in ["", "trackway.v1.QueryService", "trackway.v1.AudienceService", "trackway.v1.IntakeService"] {
            let check = HealthCheckRequest { service: service.into() };
            let health = HealthClient::new(channel.clone()).check(check).await.expect("health is known").into_inner();
            assert_eq!(health.status(), Health::NotServing, "{service}");
        }
    })
    .await;
}

#[tokio::test]
async fn reflection_names_the_services() {
    with_server(async |channel| {
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(channel);
        let mut answers =
            client.server_reflection_info(tokio_stream::once(ask)).await.expect("reflection is on").into_inner();
        let answer = answers.message().await.expect("an answer").and_then(|answer| answer.message_response);
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        for name in ["trackway.v1.QueryService", "trackway.v1.AudienceService", "trackway.v1.IntakeService"] {
            assert!(names.iter().any(|listed| listed == name), "{names:?}");
        }
    })
    .await;
}
