//! Appends to an embedded log until it is killed, and tells each record that was acknowledged: the victim of the crash
//! test. `append_forever FOLDER RUN` prints `partition offset value` lines.
//!
//! A value says which append it belongs to: `RUN-worker-number-index-count-` and filling.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trackway_eventlog::embedded::{Config, EmbeddedLog, Fsync, system_clock};
use trackway_eventlog::{EventLog, NewRecord, TopicSpec};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (folder, run) = (arguments.next().expect("folder"), arguments.next().expect("run"));
    let log = Arc::new(EmbeddedLog::open(Config {
        folder: folder.into(),
        fsync: Fsync::EveryGroup,
        group_delay: Duration::ZERO,
        group_bytes_max: 16 << 20,
        // Small, so that one append becomes several stored batches and must still be there as a whole.
        batch_bytes_max: 4 << 10,
        queue_bytes_max: 64 << 20,
        cache_bytes: 8 << 20,
        memtable_bytes: 1 << 20,
        journal_bytes_max: 64 << 20,
        compress: true,
        retention_every: Duration::from_secs(3600),
        clock: system_clock,
    })?);
    log.create_topics(&[TopicSpec { name: "events".to_owned(), partitions: 3, retention: None, replicas: 1 }]).await?;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4_u64 {
        let (log, run) = (Arc::clone(&log), run.clone());
        workers.spawn(async move {
            for number in 0_u64.. {
                let mut draw = spread(worker, number);
                let count = 1 + draw % 20;
                let mut lines = Vec::new();
                let mut records = Vec::new();
                for index in 0..count {
                    draw = spread(draw, index);
                    let filling = "x".repeat((draw % 3000) as usize);
                    let value = format!("{run}-{worker}-{number}-{index}-{count}-{filling}");
                    let partition = (draw / 7 % 3) as u32;
                    records.push(NewRecord {
                        partition,
                        timestamp_ms: number as i64,
                        value: Bytes::from(value.clone()),
                    });
                    lines.push((partition, value));
                }
                let offsets = log.append("events", records).await?;
                let mut told = String::new();
                for ((partition, value), offset) in lines.into_iter().zip(offsets) {
                    told += &format!("{partition} {offset} {value}\n");
                }
                // One write per append: lines of several workers do not mix. A pipe may take it in parts when it is
                // full; then the last line that the reader sees is cut, and it leaves that one out.
                std::io::stdout().lock().write_all(told.as_bytes())?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Spreads two numbers over all others (splitmix64).
fn spread(a: u64, b: u64) -> u64 {
    let mut mixed = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_add(0x2545_f491_4f6c_dd1d);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
