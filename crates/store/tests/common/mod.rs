//! A real engine in a temporary folder, for each test its own.
#![allow(clippy::allow_attributes, reason = "each test program compiles this file and uses another part of it")]
#![allow(dead_code, reason = "see above")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clickhouse::Client;
use tempfile::TempDir;
use trackway_store::engine::{Engine, EngineConfig};
use trackway_store::queries::{QueryLimits, TimeRange};
use trackway_store::{Store, StoreConfig};

/// Where `cargo xtask setup` puts it.
pub fn library() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.trackway/lib/libchdb.so")
}

/// `folder` is the data folder.
pub fn engine_config(folder: &Path) -> EngineConfig {
    EngineConfig {
        exe: env!("CARGO_BIN_EXE_trackway-engine-child").into(),
        exe_args: Vec::new(),
        library: library(),
        data_folder: folder.to_owned(),
        http_port: None,
        memory_bytes_max: 2 << 30,
        threads_max: 2,
        password: None,
    }
}

/// Far above anything that a test reads.
pub const LIMITS: QueryLimits =
    QueryLimits { rows_read_max: 100_000_000, bytes_read_max: 10 << 30, time_max: Duration::from_secs(60) };

pub const ALL: TimeRange = TimeRange { from_ms: i64::MIN, to_ms: i64::MAX };

pub fn store_config(engine: &Engine) -> StoreConfig {
    StoreConfig {
        url: engine.url().to_owned(),
        user: engine.user().to_owned(),
        password: engine.password().to_owned(),
        database: "trackway".to_owned(),
        insert_time_max: Duration::from_secs(30),
        lookup_limits: LIMITS,
    }
}

/// The same user, for SQL that the store has no question for.
pub fn client(engine: &Engine) -> Client {
    let client = Client::default().with_url(engine.url()).with_database("trackway");
    client.with_user(engine.user()).with_password(engine.password())
}

pub struct Harness {
    pub engine: Engine,
    pub store: Store,
    pub client: Client,
    pub folder: TempDir,
}

impl Harness {
    /// An engine with migrated tables.
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let engine = Engine::start(engine_config(folder.path())).await.unwrap();
        let store = Store::connect(store_config(&engine)).unwrap();
        store.migrate().await.unwrap();
        let client = client(&engine);
        Self { engine, store, client, folder }
    }

    /// One number.
    pub async fn number(&self, sql: &str) -> u64 {
        self.client.query_raw(sql).fetch_one().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// The project of most rows, as they want its name.
pub fn project<T: From<&'static str>>() -> T {
    "shop".into()
}

/// Ends a process as a crash would.
pub fn kill_9(process: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
    assert!(killed.success(), "no process {process}");
}

/// Waits until `done`, for at most 20 s.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited 20 s for: {what}");
}
