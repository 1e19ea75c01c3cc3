//! The servers. They say their address, serve until standard input ends, and say what their log holds.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trackway_benches::{logs, shop};
use trackway_eventlog::{
    AppendError, Consumer, ConsumerOptions, EventLog, LogError, NewRecord, OffsetBounds, Record, TopicPartition,
    TopicSpec,
};
use trackway_gateway::{
    AddressRanges, Config, Exclusions, Limits, Privacy, Project, Quota, Secret, Topics, UseFrom, WriteKey,
};
use trackway_wire::segment::{self, Call};

/// First argument of the process that is to serve; kind and place follow.
pub const ARGUMENT: &str = "serve";

pub const BARE: &str = "bare";
/// Bare, and each body is read by our parser.
pub const PARSE: &str = "parse";
pub const AT_ONCE: &str = "at-once";
/// Its place is a folder.
pub const EMBEDDED: &str = "embedded";
/// Its place is a list of brokers.
pub const KAFKA: &str = "kafka";

/// What lets the load in.
pub const WRITE_KEY: &str = "wk_bench";

const EVENTS: &str = "events";
const REJECTED: &str = "rejected";

/// Serves, in this process.
pub fn run(kind: &str, place: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let log: Arc<dyn EventLog> = match kind {
            BARE => return bare(read).await,
            PARSE => return bare(read_and_parse).await,
            AT_ONCE => Arc::new(AtOnce::default()),
            EMBEDDED => logs::embedded(Path::new(place))?,
            KAFKA => logs::kafka(place).await?,
            _ => bail!("no server `{kind}`"),
        };
        gateway(log).await
    })
}

async fn gateway(log: Arc<dyn EventLog>) -> Result<()> {
    // Counting is part of the cost.
    let metrics = PrometheusBuilder::new().set_buckets(&[0.001, 0.01, 0.1, 1.0])?.install_recorder()?;
    logs::create_topic(&*log, EVENTS).await?;
    logs::create_topic(&*log, REJECTED).await?;
    // The defaults of `trackway`.
    let limits = Limits {
        body_bytes_max: 4 << 20,
        body_bytes_decoded_max: 8 << 20,
        batch_events_max: 10_000,
        header_timeout: Duration::from_secs(75),
        body_timeout: Duration::from_secs(30),
        append_timeout: Duration::from_secs(7),
        connections_max: 10_000,
        in_flight_bytes_max: 64 << 20,
    };
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        projects: vec![Project {
            id: shop(),
            write_keys: vec![WriteKey {
                key: WRITE_KEY.to_owned(),
                use_from: UseFrom::Anywhere,
                quota: Quota::default(),
            }],
            quota: Quota::default(),
            privacy: Privacy::USUAL,
            exclusions: Exclusions::NONE,
        }],
        trusted_proxies: AddressRanges::default(),
        hosting: Arc::default(),
        secret: Secret::Shared("a secret of the bench".to_owned()),
        limits,
        topics: Topics { events: EVENTS.to_owned(), rejected: REJECTED.to_owned() },
    };
    let bound = trackway_gateway::bind(config, log.clone(), trackway_benches::now).await?;
    say(&bound.address().to_string())?;
    let shutdown = CancellationToken::new();
    let until_stopped = async {
        tokio::select! {
            () = end_of_input() => shutdown.cancel(),
            () = tidy(&metrics) => {}
        }
    };
    tokio::join!(bound.serve(shutdown.clone()), until_stopped);
    let (events, rejected) = (held(&*log, EVENTS).await?, held(&*log, REJECTED).await?);
    log.close().await;
    say(&format!("{events} events, {rejected} rejected"))
}

/// Histograms keep every value until somebody looks; `trackway` looks every five seconds.
async fn tidy(metrics: &PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        metrics.run_upkeep();
    }
}

async fn held(log: &dyn EventLog, topic: &str) -> Result<u64> {
    Ok(log.bounds(topic).await?.values().map(|bounds| bounds.end).sum())
}

/// As little as a server over hyper can do.
async fn bare<F>(answer: fn(Request<Incoming>) -> F) -> Result<()>
where
    F: Future<Output = hyper::Result<Response<Full<Bytes>>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&listener.local_addr()?.to_string())?;
    let serve = async {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.context("cannot accept")?;
            stream.set_nodelay(true)?;
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            connections.spawn(connection);
        }
    };
    tokio::select! {
        ended = serve => ended,
        () = end_of_input() => say("0 events, 0 rejected"),
    }
}

async fn read(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        std::hint::black_box(frame?);
    }
    let reply = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(reply.body(Full::new(Bytes::from_static(br#"{"success":true}"#))).expect("a reply"))
}

async fn read_and_parse(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let call = Call::of_path(request.uri().path()).expect("the load speaks Segment's protocol");
    let mut body = request.into_body().collect().await?.to_bytes();
    if body.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::bufread::MultiGzDecoder::new(&body[..]).read_to_end(&mut plain).expect("the load sends gzip");
        body = plain.into();
    }
    std::hint::black_box(segment::parse(call, &body, 10_000).expect("the load sends what is understood"));
    let reply = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(reply.body(Full::new(Bytes::from_static(br#"{"success":true}"#))).expect("a reply"))
}

async fn end_of_input() {
    let read = || std::io::stdin().read_to_end(&mut Vec::new());
    // An error is an end too.
    let _ = tokio::task::spawn_blocking(read).await;
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// A log that keeps nothing but counts. What the gateway does not call is not there.
#[derive(Default)]
struct AtOnce {
    events: AtomicU64,
    rejected: AtomicU64,
}

impl AtOnce {
    fn count(&self, topic: &str) -> &AtomicU64 {
        if topic == EVENTS { &self.events } else { &self.rejected }
    }
}

#[async_trait]
impl EventLog for AtOnce {
    async fn create_topics(&self, _: &[TopicSpec]) -> Result<(), LogError> {
        Ok(())
    }

    async fn partitions(&self, _: &str) -> Result<u32, LogError> {
        Ok(logs::PARTITIONS)
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        let count = records.len() as u64;
        let first = self.count(topic).fetch_add(count, Ordering::Relaxed);
        Ok((first..first + count).collect())
    }

    async fn consume(&self, _: ConsumerOptions) -> Result<Box<dyn Consumer>, LogError> {
        unreachable!("a gateway does not consume")
    }

    async fn read(&self, _: &TopicPartition, _: u64, _: usize, _: Duration) -> Result<Vec<Record>, LogError> {
        unreachable!("a gateway does not read")
    }

    async fn bounds(&self, topic: &str) -> Result<BTreeMap<u32, OffsetBounds>, LogError> {
        let end = self.count(topic).load(Ordering::Relaxed);
        Ok(BTreeMap::from([(0, OffsetBounds { start: 0, end })]))
    }

    async fn offsets_at(&self, _: &str, _: i64) -> Result<BTreeMap<u32, u64>, LogError> {
        unreachable!("a gateway does not look up times")
    }

    async fn close(&self) {}
}
