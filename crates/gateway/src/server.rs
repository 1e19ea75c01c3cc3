//! Binds, accepts, serves, drains. The only place that starts tasks: one per connection, owned and joined here.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use trackway_domain::id::ProjectId;
use trackway_eventlog::{EventLog, LogError};

use crate::admit::Admissions;
use crate::append::Appender;
use crate::body::Budget;
use crate::meters::{Meters, ProjectMeters};
use crate::patience::{Activity, Impatient};
use crate::routes::{self, Gateway};
use crate::secret::Secrets;
use crate::{Clock, Config, Project, Secret};

/// Bytes of one request's header. Addresses of pixels go up to 64 KiB, the most that hyper takes.
const HEADER_BYTES_MAX: usize = 96 * 1024;

/// Requests at one moment on one HTTP/2 connection, which is a proxy's.
const STREAMS_MAX: u32 = 256;

/// How often an HTTP/2 peer is asked whether it is still there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);

/// How long nothing is accepted when the system has no file handles left; others need time to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The log's topics cannot be looked up.
    #[error("cannot ask the event log for its topics")]
    Topics {
        /// What the log said.
        #[source]
        source: LogError,
    },
    /// A write key stands for two projects.
    #[error(transparent)]
    SharedKey(SharedKey),
    /// The file with the salt cannot be read or written.
    #[error("cannot keep the salt of derived visitor ids in `{}`", file.display())]
    Secret {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A write key stands for two projects. It is not named: it would end up in a log.
#[derive(Debug, thiserror::Error)]
#[error("a write key of project `{second}` belongs to project `{first}` already")]
pub struct SharedKey {
    /// The project that has it.
    pub first: ProjectId,
    /// The project that wants it.
    pub second: ProjectId,
}

/// The projects of a gateway, to be replaced while it serves.
#[derive(Clone)]
pub struct Projects(Arc<Gateway>);

impl Projects {
    /// Requests that come from now on are admitted by these. What projects and keys have used up of their quotas goes on.
    ///
    /// # Errors
    /// [`SharedKey`]; then the projects stay as they were.
    pub fn replace(&self, projects: &[Project]) -> Result<(), SharedKey> {
        let mut admissions = self.0.admissions.write().expect("not poisoned");
        *admissions = Arc::new(Admissions::new(projects, Some(&admissions))?);
        Ok(())
    }
}

/// A gateway that listens and does not answer yet: connections wait in the kernel's queue.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    gateway: Arc<Gateway>,
}

/// Checks the config, looks up the topics and takes the address. Install the metrics recorder before.
///
/// # Errors
/// [`ServeError`]; none of them goes away without somebody doing something.
pub async fn bind(config: Config, log: Arc<dyn EventLog>, clock: Clock) -> Result<Bound, ServeError> {
    let Config { listen, projects, limits, topics, trusted_proxies, hosting, secret } = config;
    let admissions = Admissions::new(&projects, None).map_err(ServeError::SharedKey)?;
    let secrets = Secrets::new(&secret, clock()).map_err(|source| {
        let file = if let Secret::File(file) = &secret { file.clone() } else { PathBuf::new() };
        ServeError::Secret { file, source }
    })?;
    let appender = Appender::new(log, topics, limits.append_timeout).await;
    let appender = appender.map_err(|source| ServeError::Topics { source })?;
    let cannot_listen = |source| ServeError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let gateway = Gateway {
        admissions: RwLock::new(Arc::new(admissions)),
        appender,
        budget: Budget::new(limits.in_flight_bytes_max, limits.body_bytes_max + limits.body_bytes_decoded_max),
        limits,
        clock,
        meters: Meters::new(),
        nobodys: ProjectMeters::new(None),
        trusted_proxies,
        hosting,
        secrets,
    };
    Ok(Bound { listener, address, gateway: Arc::new(gateway) })
}

/// [`bind`] and [`Bound::serve`] in one, where nobody needs the address.
///
/// # Errors
/// As [`bind`].
pub async fn serve(
    config: Config,
    log: Arc<dyn EventLog>,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    bind(config, log, clock).await?.serve(shutdown).await;
    Ok(())
}

impl Bound {
    /// Where it listens; the real port if 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its projects, to be replaced while it serves.
    #[must_use]
    pub fn projects(&self) -> Projects {
        Projects(self.gateway.clone())
    }

    /// Serves until `shutdown`, then drains: accepts no more, lets requests that have begun end, returns when the last
    /// connection is closed. A caller with a deadline drops this future; what is left is cut then.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self { listener, address, gateway } = self;
        tracing::info!(%address, "gateway serves");
        let places = Arc::new(Semaphore::new(gateway.limits.connections_max));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next() => report(ended),
                (stream, peer, place) = accept(&listener, &places) => {
                    // A token has a lock that waiting for it takes; of one for all, all would wait for each other.
                    let connection = connection(stream, peer.ip(), place, gateway.clone(), shutdown.child_token());
                    connections.spawn(connection);
                }
            }
        }
        drop(listener);
        tracing::info!(%address, connections = connections.len(), "gateway drains");
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
        tracing::info!(%address, "gateway stopped");
    }
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("nobody closes it");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    place: OwnedSemaphorePermit,
    gateway: Arc<Gateway>,
    shutdown: CancellationToken,
) {
    let open = OpenConnection::new(&gateway);
    // Answers are one small write each; waiting for more to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = &error as &dyn std::error::Error, "cannot set TCP_NODELAY");
    }
    let header_timeout = gateway.limits.header_timeout;
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request| {
        let (gateway, activity) = (gateway.clone(), activity.clone());
        async move {
            let _running = activity.request();
            Ok::<_, Infallible>(routes::answer(&gateway, peer, request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        // A page that is left closes its connection right after its beacon. The event counts all the same: without
        // this, hyper would drop the request in the middle of its append.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    let stream = TokioIo::new(Impatient::new(stream, header_timeout));
    let mut served = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        // HTTP/1 has its own timeout for that; of HTTP/2 hyper keeps what answers its pings.
        () = activity.idle(header_timeout) => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(header_timeout, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        // Clients that vanish or speak no HTTP: nothing of ours is wrong, and nobody can act.
        tracing::debug!(error, "connection ended early");
    }
    drop((open, place));
}

/// Counts a connection while it is open.
struct OpenConnection<'a>(&'a Gateway);

impl<'a> OpenConnection<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        gateway.meters.connections.increment(1.0);
        Self(gateway)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.meters.connections.decrement(1.0);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = &error as &dyn std::error::Error, "a connection's task panicked");
    }
}
