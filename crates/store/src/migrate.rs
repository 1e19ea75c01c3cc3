//! Creates the tables and brings them to this program's version: numbered files of `migrations/`, each applied once.
//!
//! Two processes may migrate at once without a lock: every statement changes nothing when it is run again (`IF NOT EXISTS`
//! and the like; a test runs them all twice), and a migration is recorded after its last statement. So whoever comes second, or
//! comes back after a crash in the middle, repeats a statement at worst, and both record the same row.

use std::collections::BTreeMap;

use clickhouse::error::Error;

use crate::Store;
use crate::native::{Column, decode_all};

/// One file of `migrations/`.
struct Migration {
    number: u32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migration {
    ($number:literal, $name:literal) => {
        Migration { number: $number, name: $name, sql: include_str!(concat!("../migrations/", $name, ".sql")) }
    };
}

/// In order. A file that was released never changes again: a new one changes what it made.
const MIGRATIONS: [Migration; 10] = [
    migration!(1, "0001_events"),
    migration!(2, "0002_sessions"),
    migration!(3, "0003_identities"),
    migration!(4, "0004_audiences"),
    migration!(5, "0005_progress"),
    migration!(6, "0006_bots_and_revenue"),
    migration!(7, "0007_sessions"),
    migration!(8, "0008_identity_changes"),
    migration!(9, "0009_enrichment"),
    migration!(11, "0011_feedback"),
];

/// Why the tables are not at this program's version.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// An applied migration is not the one that this program holds.
    #[error(
        "migration `{name}` was applied with checksum {applied:016x}, this program has {known:016x}. \
         Restore the file as it was released, and put changes into a new one"
    )]
    Changed {
        /// Its name here.
        name: &'static str,
        /// Checksum of what was applied.
        applied: u64,
        /// Checksum of what we hold.
        known: u64,
    },
    /// The tables were made by a later version of this program.
    #[error("database `{database}` is at migration {found}, this program knows {known}. Run the newer program")]
    Newer {
        /// The database.
        database: String,
        /// Highest number applied.
        found: u32,
        /// Highest number known.
        known: u32,
    },
    /// A statement went wrong. Migrating again continues there.
    #[error("cannot apply migration `{name}` to database `{database}`")]
    Statement {
        /// The migration, or the step before the first.
        name: &'static str,
        /// The database.
        database: String,
        /// What the server says.
        #[source]
        source: Error,
    },
}

impl Store {
    /// Creates the database and brings its tables to this program's version. Returns the numbers that were applied now.
    ///
    /// # Errors
    /// [`MigrateError`]; only [`MigrateError::Statement`] may be worth a retry.
    pub async fn migrate(&self) -> Result<Vec<u32>, MigrateError> {
        migrate(self, &MIGRATIONS).await
    }
}

async fn migrate(store: &Store, migrations: &[Migration]) -> Result<Vec<u32>, MigrateError> {
    let failed = |name| {
        let database = store.database.to_string();
        move |source| MigrateError::Statement { name, database, source }
    };
    let create = store.outside.query_raw("CREATE DATABASE IF NOT EXISTS {database:Identifier}");
    create.param("database", &*store.database).execute().await.map_err(failed("create the database"))?;
    let table = store.client.query_raw(include_str!("sql/migrations_table.sql"));
    table.execute().await.map_err(failed("create the table of migrations"))?;

    let applied = applied(store).await.map_err(failed("read the table of migrations"))?;
    let known = migrations.last().map_or(0, |migration| migration.number);
    if let Some((&found, _)) = applied.last_key_value()
        && found > known
    {
        return Err(MigrateError::Newer { database: store.database.to_string(), found, known });
    }

    let mut now = Vec::new();
    for &Migration { number, name, sql } in migrations {
        let known = checksum(sql);
        match applied.get(&number) {
            Some(&applied) if applied != known => return Err(MigrateError::Changed { name, applied, known }),
            Some(_) => continue,
            None => {}
        }
        for statement in statements(sql) {
            store.client.query_raw(statement).execute().await.map_err(failed(name))?;
        }
        let record = store.client.query_raw(include_str!("sql/migrations_record.sql"));
        let record = record.param("number", number).param("name", name).param("checksum", known);
        record.execute().await.map_err(failed(name))?;
        tracing::info!(migration = name, database = &*store.database, "tables migrated");
        now.push(number);
    }
    Ok(now)
}

/// Checksums of the applied migrations, by number.
async fn applied(store: &Store) -> Result<BTreeMap<u32, u64>, Error> {
    let query = store.client.query_raw("SELECT number, checksum FROM migrations ORDER BY number");
    let bytes = query.fetch_bytes("Native")?.collect().await?;
    let blocks = decode_all(bytes).map_err(|error| Error::Other(error.into()))?;
    let mut applied = BTreeMap::new();
    for block in blocks {
        let [Column::U32(numbers), Column::U64(checksums)] = &block.columns[..] else {
            return Err(Error::SchemaMismatch("table `migrations` has other types".to_owned()));
        };
        applied.extend(numbers.iter().copied().zip(checksums.iter().copied()));
    }
    Ok(applied)
}

/// The statements of a file: each ends with a semicolon at the end of a line.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

/// FNV-1a of 64 bits: it shall notice an edit, not resist an enemy. Line ends are left out, since git may change them.
fn checksum(sql: &str) -> u64 {
    sql.bytes()
        .filter(|&byte| byte != b'\r')
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
