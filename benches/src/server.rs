//! An embedded ClickHouse with our tables, as `trackway up` runs it: the bench's own program becomes the server.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use trackway_store::engine::{Engine, EngineConfig, child_main};
use trackway_store::queries::QueryLimits;
use trackway_store::{Store, StoreConfig};

/// First argument of a bench's program that is to become the server.
const CHILD: &str = "become-clickhouse";

/// Far above anything that a bench reads.
pub const LIMITS: QueryLimits =
    QueryLimits { rows_read_max: u64::MAX >> 1, bytes_read_max: u64::MAX >> 1, time_max: Duration::from_secs(600) };

/// The first act of a bench that uses [`ClickHouse`]: never returns in the process that is to become the server.
pub fn become_clickhouse_if_asked() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == CHILD) {
        child_main(args)
    }
}

/// A server, our tables in it, and two ways to speak to it. Its folder goes with it.
pub struct ClickHouse {
    /// The server's process.
    pub engine: Engine,
    /// Our way in and out.
    pub store: Store,
    /// SQL that the store has no question for.
    pub client: clickhouse::Client,
    _folder: TempDir,
}

impl ClickHouse {
    /// Starts it with the settings that are `trackway up`'s defaults: 1 GiB, 2 threads a query.
    ///
    /// # Errors
    /// No library (`cargo xtask setup` fetches it), or what the server says.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let engine = Engine::start(EngineConfig {
            exe: std::env::current_exe().context("who am I")?,
            exe_args: vec![OsString::from(CHILD)],
            library: Path::new(env!("CARGO_MANIFEST_DIR")).join("../.trackway/lib/libchdb.so"),
            data_folder: folder.path().join("clickhouse"),
            http_port: None,
            memory_bytes_max: 1 << 30,
            threads_max: 2,
            password: None,
        })
        .await?;
        let database = "trackway".to_owned();
        let client = clickhouse::Client::default().with_url(engine.url()).with_database(&database);
        let client = client.with_user(engine.user()).with_password(engine.password());
        let store = Store::connect(StoreConfig {
            url: engine.url().to_owned(),
            user: engine.user().to_owned(),
            password: engine.password().to_owned(),
            database,
            insert_time_max: Duration::from_secs(60),
            lookup_limits: LIMITS,
        })?;
        store.migrate().await?;
        Ok(Self { engine, store, client, _folder: folder })
    }

    /// The server's process, for [`crate::measure`].
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.engine.process_id()
    }

    /// Runs a statement without an answer.
    ///
    /// # Errors
    /// What the server says.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.client.query(sql).execute().await.with_context(|| format!("`{sql}`"))
    }
}
