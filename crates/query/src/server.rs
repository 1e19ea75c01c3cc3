//! The server: binds, serves, tells its health, drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use trackway_domain::time::ReceivedAt;
use trackway_eventlog::{EventLog, LogError};
use trackway_store::Store;

use crate::changes::RecentChanges;
use crate::config::Config;
use crate::lag;
use crate::pb;
use crate::service::{Desk, Service};
use crate::tail::{self, Tails};

/// Our clock, from the binary: the only way in which time gets in.
pub type Clock = fn() -> ReceivedAt;

/// Bytes that a client may have on their way to us before we say go on. Requests are small.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Questions and subscriptions at one time on one connection, which may be a proxy's. Those that wait for a place count.
const STREAMS_MAX: u32 = 1_024;
/// A client that does not answer to a ping in this time is gone, and its question with it.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened to.
    #[error("cannot listen on {address}. Is another process using the port?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The log's topics cannot be looked at.
    #[error("cannot ask the event log for its topics")]
    Topics {
        /// What the log said.
        #[source]
        source: LogError,
    },
    /// The listener ended.
    #[error("cannot go on answering questions")]
    Transport {
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
}

/// A server that listens and does not answer yet: connections wait in the kernel's queue.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    desk: Desk,
}

/// Looks up the topics and takes the address.
///
/// # Errors
/// [`ServeError::Topics`] if a topic does not exist; [`ServeError::Listen`].
pub async fn bind(config: Config, store: Store, log: Arc<dyn EventLog>, clock: Clock) -> Result<Bound, ServeError> {
    let topics_unknown = |source| ServeError::Topics { source };
    let journeys_partitions = log.partitions(&config.topics.journeys).await.map_err(topics_unknown)?;
    let changes = log.bounds(&config.topics.audience_changes).await.map_err(topics_unknown)?;
    let ends = changes.values().map(|bounds| bounds.end);
    let changes = RecentChanges::new(&config.topics.audience_changes, ends, config.recent_changes_max);

    let cannot_listen = |source| ServeError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let desk = Desk {
        store,
        log,
        clock,
        changes,
        journeys_partitions,
        tails: Tails::default(),
        places: Semaphore::new(config.queries_max),
        subscriber_places: Arc::new(Semaphore::new(config.subscribers_max)),
        creating: Mutex::new(()),
        stopping: CancellationToken::new(),
        config,
    };
    Ok(Bound { listener, address, desk })
}

/// [`bind`] and [`Bound::serve`] in one, where nobody needs the address.
///
/// # Errors
/// As both.
pub async fn serve(
    config: Config,
    store: Store,
    log: Arc<dyn EventLog>,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    bind(config, store, log, clock).await?.serve(shutdown).await
}

impl Bound {
    /// Where it listens; the real port if 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets running questions finish for at most [`Config::drain_max`]; subscribers are told
    /// at once to go elsewhere.
    ///
    /// # Errors
    /// [`ServeError::Transport`].
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { listener, address: _, mut desk } = self;
        desk.stopping = shutdown;
        serve_desk(listener, Arc::new(desk)).await
    }
}

async fn serve_desk(listener: TcpListener, desk: Arc<Desk>) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    // Dropping the set at the end stops what is left in it.
    let mut tasks = JoinSet::new();
    tasks.spawn(tell_health(Arc::clone(&desk), health));
    for partition in 0..desk.changes.partitions() {
        let desk = Arc::clone(&desk);
        tasks.spawn(async move { desk.changes.follow(partition, &*desk.log, &desk.stopping).await });
    }

    {
        let desk = Arc::clone(&desk);
        tasks.spawn(async move { tail::follow(&desk).await });
    }
    {
        let desk = Arc::clone(&desk);
        tasks.spawn(async move { lag::gauge(&desk).await });
    }

    let (request_max, response_max) = (desk.config.request_bytes_max, desk.config.response_bytes_max);
    let service = Service(Arc::clone(&desk));
    let server = Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(health_service)
        .add_service(reflection().build_v1().expect("the generated descriptor is whole"))
        .add_service(reflection().build_v1alpha().expect("the generated descriptor is whole"))
        .add_service(
            pb::query_service_server::QueryServiceServer::new(service.clone())
                .max_decoding_message_size(request_max)
                .max_encoding_message_size(response_max),
        )
        .add_service(
            pb::audience_service_server::AudienceServiceServer::new(service.clone())
                .max_decoding_message_size(request_max)
                .max_encoding_message_size(response_max),
        )
        .add_service(
            pb::intake_service_server::IntakeServiceServer::new(service.clone())
                .max_decoding_message_size(request_max)
                .max_encoding_message_size(response_max),
        )
        .add_service(
            pb::identity_service_server::IdentityServiceServer::new(service)
                .max_decoding_message_size(request_max)
                .max_encoding_message_size(response_max),
        )
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), desk.stopping.clone().cancelled_owned());

    let deadline = async {
        desk.stopping.cancelled().await;
        tokio::time::sleep(desk.config.drain_max).await;
    };
    let served = tokio::select! {
        served = server => served.map_err(|source| ServeError::Transport { source }),
        () = deadline => {
            tracing::warn!(seconds = desk.config.drain_max.as_secs(), "questions were cut off, they took too long to drain");
            Ok(())
        }
    };
    tasks.shutdown().await;
    served
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
}

/// Serving while ClickHouse answers, and not once we stop.
async fn tell_health(desk: Arc<Desk>, health: HealthReporter) {
    let names = [
        "",
        pb::query_service_server::SERVICE_NAME,
        pb::audience_service_server::SERVICE_NAME,
        pb::intake_service_server::SERVICE_NAME,
        pb::identity_service_server::SERVICE_NAME,
    ];
    let tell = async |status: ServingStatus| {
        for name in names {
            health.set_service_status(name, status).await;
        }
    };
    // Nothing is known before ClickHouse was asked.
    tell(ServingStatus::NotServing).await;
    let mut serving = false;
    let mut period = tokio::time::interval(desk.config.health_period);
    loop {
        tokio::select! {
            () = desk.stopping.cancelled() => break,
            _ = period.tick() => {}
        }
        let answer = tokio::select! {
            () = desk.stopping.cancelled() => break,
            answer = tokio::time::timeout(desk.config.health_period, desk.store.ping()) => answer,
        };
        let now_serving = matches!(answer, Ok(Ok(())));
        if now_serving != serving {
            match answer {
                Ok(Ok(())) => tracing::info!("clickhouse answers, questions are taken"),
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "clickhouse does not answer");
                }
                Err(_) => tracing::warn!("clickhouse does not answer in time"),
            }
            serving = now_serving;
            tell(if serving { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        }
    }
    tell(ServingStatus::NotServing).await;
}

#[cfg(test)]
pub(crate) mod tests;
