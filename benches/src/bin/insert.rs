//! Question: what does a row of `events` cost on its way into ClickHouse, and how much of it here and how much there?
//!
//! Baseline: the same rows, all 41 columns, by the row structs of the `clickhouse` crate (RowBinary), into the same table
//! with the same settings. Beside it our Native blocks ([`Store::insert`]). Blocks of 1k, 10k and 50k rows, one after the other, each
//! acknowledged when its part is synced and the materialized view has its share. The table is emptied before each line; the
//! merges that fall into a line's time are in it.
//!
//! Command: `cargo xtask bench insert`; by hand `target/release/insert [ROWS]`: ROWS of each line, default 100,000.
//!
//! [`Store::insert`]: trackway_store::Store::insert

use anyhow::{Result, ensure};
use clickhouse::Row;
use serde::Serialize;
use tokio::runtime::Runtime;
use trackway_benches::rows::event_rows;
use trackway_benches::server::{ClickHouse, become_clickhouse_if_asked};
use trackway_benches::{Line, argument, measure, report};
use trackway_store::rows::EventRow;

const BLOCKS: [usize; 3] = [1_000, 10_000, 50_000];

fn main() -> Result<()> {
    become_clickhouse_if_asked();
    let rows: u64 = argument(1, 100_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(ClickHouse::start())?;
    let rows = event_rows(0..rows, rows);
    // The first blocks find cold caches.
    runtime.block_on(insert_ours(&server, &rows[..rows.len().min(10_000)], 10_000, "warm"))?;
    for block in BLOCKS {
        let lines = [
            run(&runtime, &server, "baseline: row structs of the crate, RowBinary", &rows, || {
                runtime.block_on(insert_structs(&server, &rows, block))
            })?,
            run(&runtime, &server, "our Native blocks", &rows, || {
                runtime.block_on(insert_ours(&server, &rows, block, &block.to_string()))
            })?,
        ];
        report(&format!("What does a row of `events` cost in blocks of {block}?"), &lines);
    }
    runtime.block_on(server.engine.stop());
    Ok(())
}

/// One line, from an empty table to a full one.
fn run(
    runtime: &Runtime,
    server: &ClickHouse,
    what: &str,
    rows: &[EventRow],
    insert: impl FnOnce() -> Result<()>,
) -> Result<Line> {
    runtime.block_on(async {
        server.execute("TRUNCATE TABLE events").await?;
        server.execute("TRUNCATE TABLE event_counts_daily").await
    })?;
    let mut result = Ok(());
    let line = measure(what, rows.len() as u64, &[server.pid()], || result = insert());
    result?;
    let sums = ["SELECT count() FROM events", "SELECT sum(events) FROM event_counts_daily"];
    let counts = format!("SELECT assumeNotNull(({})), assumeNotNull(({}))", sums[0], sums[1]);
    let counts: (u64, u64) = runtime.block_on(server.client.query(&counts).fetch_one())?;
    ensure!(counts == (line.events, line.events), "{counts:?} rows in the table and in its view, not {}", line.events);
    Ok(line)
}

async fn insert_ours(server: &ClickHouse, rows: &[EventRow], block: usize, token: &str) -> Result<()> {
    for (n, rows) in rows.chunks(block).enumerate() {
        server.store.insert(rows, &format!("{token}/{n}")).await?;
    }
    Ok(())
}

async fn insert_structs(server: &ClickHouse, rows: &[EventRow], block: usize) -> Result<()> {
    for (n, rows) in rows.chunks(block).enumerate() {
        let mut insert = server.client.insert::<EventStruct<'_>>("events").await?;
        // As our own blocks have them.
        insert = insert.with_setting("insert_deduplicate", "1").with_setting("async_insert", "0");
        insert = insert.with_setting("insert_deduplication_token", format!("structs/{block}/{n}"));
        insert = insert.with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        for row in rows {
            insert.write(&EventStruct::of(row)).await?;
        }
        insert.end().await?;
    }
    Ok(())
}

macro_rules! event_struct {
    ($($field:ident: $type:ty = $of:expr,)+) => {
        /// A row as a user of the crate would write it, borrowing its text.
        #[derive(Row, Serialize)]
        struct EventStruct<'a> {
            $($field: $type,)+
        }

        impl<'a> EventStruct<'a> {
            fn of(row: &'a EventRow) -> Self {
                $(let $field = { let of: fn(&'a EventRow) -> $type = $of; of(row) };)+
                Self { $($field,)+ }
            }
        }
    };
}

// Names and types as in the table.
event_struct! {
    project: &'a str = |row| &row.project,
    person: u128 = |row| row.person,
    visitor: u128 = |row| row.visitor,
    visitor_id: &'a str = |row| &row.visitor_id,
    user_id: &'a str = |row| &row.user_id,
    time: i64 = |row| row.time_ms,
    sequence: u32 = |row| row.sequence,
    event_key: u64 = |row| row.event_key,
    event_id: &'a str = |row| &row.event_id,
    kind: &'a str = |row| row.kind,
    event: &'a str = |row| &row.event,
    url: &'a str = |row| &row.url,
    host: &'a str = |row| &row.host,
    path: &'a str = |row| &row.path,
    title: &'a str = |row| &row.title,
    referrer: &'a str = |row| &row.referrer,
    channel: &'a str = |row| &row.channel,
    source: &'a str = |row| &row.source,
    medium: &'a str = |row| &row.medium,
    campaign: &'a str = |row| &row.campaign,
    term: &'a str = |row| &row.term,
    content: &'a str = |row| &row.content,
    touchpoint: &'a str = |row| &row.touchpoint,
    stage: &'a str = |row| &row.stage,
    browser: &'a str = |row| &row.browser,
    os: &'a str = |row| &row.os,
    device: &'a str = |row| &row.device,
    locale: &'a str = |row| &row.locale,
    screen_width: u32 = |row| row.screen_width,
    screen_height: u32 = |row| row.screen_height,
    library: &'a str = |row| &row.library,
    library_version: &'a str = |row| &row.library_version,
    protocol: &'a str = |row| &row.protocol,
    properties: &'a str = |row| &row.properties,
    traits: &'a str = |row| &row.traits,
    received: i64 = |row| row.received_ms,
    time_source: &'a str = |row| row.time_source,
    late: bool = |row| row.late,
    origin_partition: u32 = |row| row.origin_partition,
    origin_offset: u64 = |row| row.origin_offset,
    origin_index: u32 = |row| row.origin_index,
}
