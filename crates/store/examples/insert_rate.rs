//! How many rows per second one writer inserts: `cargo run --release -p trackway-store --example insert_rate`.
//!
//! The question: what a block of events costs from rows in memory to written (with its share of the daily counts), and how
//! much of that is our encoding. Needs `.trackway/lib/libchdb.so` (`cargo xtask setup`) and the program
//! `trackway-engine-child` of this crate, built in the same profile.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::{Duration, Instant};

use trackway_store::engine::{Engine, EngineConfig};
use trackway_store::queries::{QueryLimits, StepFilter, TimeRange};
use trackway_store::rows::EventRow;
use trackway_store::{Store, StoreConfig};

/// Like real ones: 5 000 visitors, 50 names, 2 000 pages, some 550 bytes each.
fn events(first: u64, rows: u64) -> Vec<EventRow> {
    (first..first + rows)
        .map(|n| {
            let visitor = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 5_000;
            let key = u128::from(visitor).wrapping_mul(0x0dd0_5c6e_93b5_1e2f_a3c1_77d1_5ab8_8e21);
            let path = format!("/products/{}/{}", n % 40, n % 2_000);
            EventRow {
                project: "shop".into(),
                person: key,
                visitor: key,
                visitor_id: format!("{key:032x}"),
                user_id: if n % 4 == 0 { format!("user-{visitor}") } else { String::new() },
                time_ms: 1_767_225_600_000 + n as i64 / 10,
                event_key: n.wrapping_mul(0xd6e8_feb8_6659_fd93),
                event_id: format!("ajs-{n:032x}"),
                kind: "track",
                event: format!("Event {}", n % 50),
                url: format!("https://shop.example{path}?page={}", n % 7),
                host: "shop.example".to_owned(),
                path,
                title: format!("Product {} - the shop", n % 2_000),
                referrer: "https://www.google.com/".to_owned(),
                channel: "Organic Search".to_owned(),
                source: "google".to_owned(),
                medium: "organic".to_owned(),
                browser: "Chrome".to_owned(),
                os: "Windows".to_owned(),
                device: "desktop".to_owned(),
                locale: "en-GB".to_owned(),
                screen_width: 1920,
                screen_height: 1080,
                library: "analytics.js".to_owned(),
                library_version: "5.2.0".to_owned(),
                protocol: "segment".to_owned(),
                properties: format!(
                    "{{\"price\":{},\"currency\":\"EUR\",\"sku\":\"SKU-{}\",\"list\":\"search\"}}",
                    n % 999,
                    n % 2_000
                ),
                traits: "{}".to_owned(),
                received_ms: 1_767_225_600_500 + n as i64 / 10,
                time_source: "corrected",
                origin_offset: n,
                ..EventRow::default()
            }
        })
        .collect()
}

#[tokio::main]
async fn main() {
    let here = std::env::current_exe().expect("this program has a path");
    let folder = std::env::temp_dir().join(format!("trackway-insert-rate-{}", std::process::id()));
    let engine = Engine::start(EngineConfig {
        exe: here.parent().expect("examples/").join("../trackway-engine-child"),
        exe_args: Vec::new(),
        library: ".trackway/lib/libchdb.so".into(),
        data_folder: folder.clone(),
        http_port: None,
        memory_bytes_max: 4 << 30,
        threads_max: 2,
        password: None,
    })
    .await
    .expect("the engine starts");
    let limits = QueryLimits { rows_read_max: 1 << 40, bytes_read_max: 1 << 40, time_max: Duration::from_secs(60) };
    let store = Store::connect(StoreConfig {
        url: engine.url().to_owned(),
        user: engine.user().to_owned(),
        password: engine.password().to_owned(),
        database: "trackway".to_owned(),
        insert_time_max: Duration::from_secs(30),
        lookup_limits: limits,
    })
    .expect("a database's name");
    store.migrate().await.expect("tables");

    let cpu = |process: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / 100.0
    };
    let mut first = 0;
    for rows in [1_000, 10_000, 50_000] {
        let blocks = 600_000 / rows.max(6_000);
        let (own, server) = (cpu(std::process::id()), cpu(engine.process_id()));
        let mut spent = Duration::ZERO;
        let mut making = 0.0;
        for block in 0..blocks {
            let before = cpu(std::process::id());
            let events = events(first, rows);
            making += cpu(std::process::id()) - before;
            first += rows;
            let begin = Instant::now();
            store.insert(&events, &format!("{rows}-{block}")).await.expect("inserted");
            spent += begin.elapsed();
        }
        let all = rows * blocks;
        let per_million = 1e6 / all as f64;
        println!(
            "blocks of {rows}: {:.0} rows/s, {:.1} ms a block; CPU-s per million rows: ours {:.1}, server's {:.1}",
            all as f64 / spent.as_secs_f64(),
            spent.as_secs_f64() * 1e3 / blocks as f64,
            (cpu(std::process::id()) - own - making) * per_million,
            (cpu(engine.process_id()) - server) * per_million,
        );
    }

    let range = TimeRange { from_ms: i64::MIN, to_ms: i64::MAX };
    let steps: Vec<StepFilter> = (0..5).map(|n| StepFilter { events: vec![format!("Event {n}")] }).collect();
    for name in ["steps", "names"] {
        let (begin, mut rows) = (Instant::now(), 0);
        if name == "steps" {
            let mut stream = store.steps("shop", range, &steps, limits).await.expect("a stream");
            while let Some(block) = stream.next().await.expect("a block") {
                rows += block.persons.len();
            }
        } else {
            let mut stream = store.names("shop", range, limits).await.expect("a stream");
            while let Some(block) = stream.next().await.expect("a block") {
                rows += block.persons.len();
            }
        }
        println!("{name}: {rows} of {first} rows in {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
    }
    engine.stop().await;
    std::fs::remove_dir_all(folder).expect("our own folder");
}
