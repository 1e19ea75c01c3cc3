//! The connection to ClickHouse.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clickhouse::Client;
use clickhouse::error::Error;

use crate::queries::{QueryLimits, ReadCost};

/// How ClickHouse is reached.
#[derive(Clone)]
pub struct StoreConfig {
    /// Address of ClickHouse's HTTP interface, such as `http://127.0.0.1:8123`.
    pub url: String,
    /// User. Needs all rights in the database, and to create it, if it migrates.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// Database that holds our tables: 1 to 64 of `a-z 0-9 _`.
    pub database: String,
    /// Longest time that one insert may take, from the first byte to the server's answer.
    pub insert_time_max: Duration,
    /// What the questions without limits of their own (audiences, identities, progress) may cost.
    pub lookup_limits: QueryLimits,
}

/// Our tables in ClickHouse. Clones share connections.
#[derive(Clone)]
pub struct Store {
    /// Speaks within our database.
    pub(crate) client: Client,
    /// Speaks outside it: the database may not exist yet.
    pub(crate) outside: Client,
    pub(crate) url: Arc<str>,
    pub(crate) database: Arc<str>,
    pub(crate) insert_time_max: Duration,
    pub(crate) lookup_limits: QueryLimits,
    pub(crate) meter: Arc<Meter>,
}

/// Adds up what questions read.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    pub(crate) fn add(&self, cost: ReadCost) {
        self.rows.fetch_add(cost.rows, Ordering::Relaxed);
        self.bytes.fetch_add(cost.bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        let Self { url, user, database, insert_time_max, lookup_limits, .. } = self;
        let mut out = f.debug_struct("StoreConfig");
        out.field("url", url).field("user", user).field("database", database);
        out.field("insert_time_max", insert_time_max).field("lookup_limits", lookup_limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: it holds the password.
        f.debug_struct("Store").field("url", &self.url).field("database", &self.database).finish_non_exhaustive()
    }
}

/// Why ClickHouse cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The database's name has other characters than those that need no quotes anywhere.
    #[error("database `{database}` must be 1 to 64 of `a-z 0-9 _`")]
    Database {
        /// The name.
        database: String,
    },
    /// No answer, or none that lets us in.
    #[error("cannot reach ClickHouse at `{url}`. Is it running, and are user and password right?")]
    Unreachable {
        /// Its address.
        url: String,
        /// What happened.
        #[source]
        source: Error,
    },
}

impl Store {
    /// A store over this configuration. It connects when it is first used: see [`Store::ping`].
    ///
    /// # Errors
    /// [`ConnectError::Database`].
    pub fn connect(config: StoreConfig) -> Result<Self, ConnectError> {
        let StoreConfig { url, user, password, database, insert_time_max, lookup_limits } = config;
        let fits = (1..=64).contains(&database.len())
            && database.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !fits {
            return Err(ConnectError::Database { database });
        }
        let outside = Client::default().with_url(&url).with_user(user).with_password(password);
        let client = outside.clone().with_database(&database);
        let meter = Arc::default();
        Ok(Self { client, outside, url: url.into(), database: database.into(), insert_time_max, lookup_limits, meter })
    }

    /// Asks the server whether it is there and lets us in. Says nothing about tables.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`]: the caller may try again, unless the source says that the password is wrong.
    pub async fn ping(&self) -> Result<(), ConnectError> {
        let url = || self.url.to_string();
        self.outside
            .query("SELECT 1")
            .execute()
            .await
            .map_err(|source| ConnectError::Unreachable { url: url(), source })
    }

    /// A clone that counts by itself what its questions read, from zero: one for each request that reports its cost.
    #[must_use]
    pub fn metered(&self) -> Self {
        Self { meter: Arc::default(), ..self.clone() }
    }

    /// What the questions of this value (and of its clones, up to the last [`Store::metered`]) have read so far.
    ///
    /// For answers that are returned as a whole, the server's own count. For streams, which the server starts before it
    /// knows, what they have delivered so far: a lower bound.
    #[must_use]
    pub fn cost(&self) -> ReadCost {
        ReadCost { rows: self.meter.rows.load(Ordering::Relaxed), bytes: self.meter.bytes.load(Ordering::Relaxed) }
    }
}
