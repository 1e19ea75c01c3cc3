//! Question: what does a funnel of 5 steps cost over the wide events table?
//!
//! Baseline: ClickHouse's own `windowFunnel` over the same table, as people write it (GROUP BY person, 2 threads). Beside it
//! the same read in the table's order by one thread, and our way: ClickHouse streams the events that meet a step, in order
//! ([`Store::steps`]), and [`FunnelEvaluator`] evaluates person by person on a thread of its own, as the query server does.
//! Server and client are counted. All must give the same number of persons for each step; the bench ends if not.
//!
//! Twice: over the table as inserts of 50,000 rows and the merges so far have left it (a live table), and over one part (a
//! table at rest). Visitors: up to 200,000, few of them with very many events; 7 names, each as frequent.
//!
//! Command: `cargo xtask bench funnel`; by hand `target/release/funnel [EVENTS [REPEATS]]`: default 1,000,000 and 5. Filling
//! the table takes most of the time.
//!
//! [`Store::steps`]: trackway_store::Store::steps

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use trackway_benches::rows::event_rows;
use trackway_benches::server::{ClickHouse, LIMITS, become_clickhouse_if_asked};
use trackway_benches::{Line, argument, measure, report, shop};
use trackway_domain::funnel::{FunnelEvaluator, FunnelQuery, FunnelReport, StepEvent};
use trackway_domain::time::EventTime;
use trackway_store::queries::{StepBlock, StepFilter, TimeRange};
use trackway_store::rows::EventRow;

/// In the order of the names in `NAMES`: see `rows.rs` about equal times.
const STEPS: [&str; 5] = ["catalog", "product_view", "add_to_cart", "payment_details", "purchase"];

const WINDOW: Duration = Duration::from_secs(3600);

/// Rows of a block: the worker's own at full load.
const BLOCK: u64 = 50_000;

fn main() -> Result<()> {
    become_clickhouse_if_asked();
    let events: u64 = argument(1, 1_000_000);
    let repeats: u64 = argument(2, 5);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(ClickHouse::start())?;
    runtime.block_on(fill(&server, events))?;
    let bench = Bench { runtime: &runtime, server: &server, events, repeats };
    bench.run("as inserts and merges have left it")?;
    runtime.block_on(server.execute("OPTIMIZE TABLE events FINAL"))?;
    bench.run("at rest")?;
    runtime.block_on(server.engine.stop());
    Ok(())
}

/// Inserts the stream; the next block is made while one is written.
async fn fill(server: &ClickHouse, events: u64) -> Result<()> {
    let mut made: Vec<EventRow> = Vec::new();
    for begin in (0..events).step_by(BLOCK as usize) {
        let next = tokio::task::spawn_blocking(move || event_rows(begin..(begin + BLOCK).min(events), events));
        server.store.insert(&made, &format!("before {begin}")).await?;
        made = next.await?;
    }
    server.store.insert(&made, "last").await?;
    // What was begun may end; what is merged later would be in the way of the first lines.
    server.execute("SYSTEM STOP MERGES events").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.execute("SYSTEM START MERGES events").await
}

struct Bench<'a> {
    runtime: &'a Runtime,
    server: &'a ClickHouse,
    events: u64,
    repeats: u64,
}

impl Bench<'_> {
    /// All candidates over the table as it is.
    fn run(&self, state: &str) -> Result<()> {
        let parts =
            "SELECT count() FROM system.parts WHERE table = 'events' AND database = currentDatabase() AND active";
        let parts: u64 = self.runtime.block_on(self.server.client.query(parts).fetch_one())?;
        let in_order = " SETTINGS optimize_aggregation_in_order = 1, max_threads = 1";
        let (expected, baseline) = self.line("baseline: windowFunnel, 2 threads", || self.window_funnel(""))?;
        let (same, in_order) =
            self.line("windowFunnel in the table's order, 1 thread", || self.window_funnel(in_order))?;
        ensure!(same == expected, "windowFunnel gives {same:?} in order and {expected:?} otherwise");
        let (ours, line) = self.line("ours: stream in order, evaluated in Rust", || self.ours())?;
        ensure!(ours == expected, "we give {ours:?}, windowFunnel {expected:?}");
        println!("\npersons by step, the same by all: {ours:?}");
        let question =
            format!("What does a funnel of 5 steps cost over {} events, {parts} part(s), {state}?", self.events);
        report(&question, &[baseline, in_order, line]);
        Ok(())
    }

    fn line(&self, what: &str, ask: impl Fn() -> Result<Vec<u64>>) -> Result<(Vec<u64>, Line)> {
        // Once for the caches.
        let mut persons = ask()?;
        let mut result = Ok(());
        let line = measure(what, self.events * self.repeats, &[self.server.pid()], || {
            result = (0..self.repeats).try_for_each(|_| {
                persons = ask()?;
                Ok(())
            });
        });
        result.map(|()| (persons, line))
    }

    fn window_funnel(&self, settings: &str) -> Result<Vec<u64>> {
        let conditions = STEPS.map(|step| format!("event = '{step}'")).join(", ");
        let names = STEPS.map(|step| format!("'{step}'")).join(", ");
        let sql = format!(
            "SELECT level, count() FROM (
                SELECT windowFunnel({})(toUInt64(toUnixTimestamp64Milli(time)), {conditions}) AS level
                FROM events WHERE project = 'shop' AND event IN ({names}) GROUP BY person
            ) GROUP BY level{settings}",
            WINDOW.as_millis()
        );
        let levels = self.runtime.block_on(self.server.client.query(&sql).fetch_all::<(u8, u64)>())?;
        // Who reached a level reached those below.
        let reached = |step: usize| {
            levels.iter().filter(|(level, _)| usize::from(*level) > step).map(|(_, persons)| persons).sum()
        };
        Ok((0..STEPS.len()).map(reached).collect())
    }

    fn ours(&self) -> Result<Vec<u64>> {
        self.runtime.block_on(async {
            let steps = STEPS.map(|step| StepFilter { events: vec![step.to_owned()] });
            let all = TimeRange { from_ms: i64::MIN, to_ms: i64::MAX };
            let mut stream = self.server.store.steps(shop().as_str(), all, &steps, LIMITS).await?;
            let (blocks, from_store) = mpsc::channel(1);
            let evaluation = tokio::task::spawn_blocking(|| evaluate(from_store));
            while let Some(block) = stream.next().await? {
                blocks.send(block).await.context("the evaluator is gone")?;
            }
            drop(blocks);
            Ok(evaluation.await?.persons)
        })
    }
}

/// Over all blocks, person by person. Without merged persons, whom `windowFunnel` would not know either.
fn evaluate(mut blocks: mpsc::Receiver<StepBlock>) -> FunnelReport {
    let query = FunnelQuery { steps: STEPS.len(), window: Some(WINDOW) };
    let (mut evaluator, mut report) = (FunnelEvaluator::new(&query), FunnelReport::new(&query));
    let (mut person, mut events): (Option<u128>, Vec<StepEvent>) = (None, Vec::new());
    while let Some(block) = blocks.blocking_recv() {
        for ((&key, &time_ms), &mask) in block.persons.iter().zip(&block.times_ms).zip(&block.masks) {
            if person != Some(key) {
                report.add(evaluator.person(events.iter().copied()));
                events.clear();
                person = Some(key);
            }
            events.push(StepEvent { time: EventTime(time_ms), mask });
        }
    }
    report.add(evaluator.person(events.iter().copied()));
    report
}
