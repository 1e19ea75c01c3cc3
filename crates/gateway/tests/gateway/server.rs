//! A gateway on a free port, as the tests need it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trackway_domain::id::ProjectId;
use trackway_domain::time::ReceivedAt;
use trackway_gateway::{
    AddressRanges, Config, Exclusions, Limits, Privacy, Project, Projects, Quota, Secret, Topics, UseFrom, WriteKey,
    bind,
};

use crate::client::Client;
use crate::log::MemoryLog;

pub(crate) const NOW_MS: i64 = 1_795_360_811_000;

pub(crate) struct Server {
    pub address: SocketAddr,
    pub projects: Projects,
    pub log: Arc<MemoryLog>,
    pub shutdown: CancellationToken,
    pub serving: JoinSet<()>,
}

/// A project with one key and no limits.
pub(crate) fn project(id: &str, key: &str) -> Project {
    let write_key = WriteKey { key: key.to_owned(), use_from: UseFrom::Anywhere, quota: Quota::default() };
    let id = ProjectId::parse(id).expect("a project id");
    Project {
        id,
        write_keys: vec![write_key],
        quota: Quota::default(),
        privacy: Privacy::USUAL,
        exclusions: Exclusions::NONE,
    }
}

pub(crate) fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        projects: vec![project("shop", "wk"), project("blog", "wk_segment_test")],
        trusted_proxies: AddressRanges::new(vec!["127.0.0.0/8".parse().expect("a network")]),
        hosting: Arc::default(),
        secret: Secret::Shared("a secret of the tests".into()),
        limits: Limits {
            body_bytes_max: 100_000,
            body_bytes_decoded_max: 200_000,
            batch_events_max: 10,
            header_timeout: Duration::from_millis(300),
            body_timeout: Duration::from_millis(300),
            append_timeout: Duration::from_secs(2),
            connections_max: 100,
            in_flight_bytes_max: 1_000_000,
        },
        topics: Topics { events: "events".into(), rejected: "rejected".into() },
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let log = MemoryLog::new();
        let bound = bind(config, log.clone(), || ReceivedAt(NOW_MS)).await.expect("it binds");
        let (address, shutdown, mut serving) = (bound.address(), CancellationToken::new(), JoinSet::new());
        let projects = bound.projects();
        serving.spawn(bound.serve(shutdown.clone()));
        Self { address, projects, log, shutdown, serving }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }
}

/// Waits, in real time, until something in another task has happened.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..500 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within 5 s");
}
