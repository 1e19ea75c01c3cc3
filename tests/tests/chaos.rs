//! A short run of `cargo xtask chaos`: random faults on both logs, and everything stored is what the oracle says.

use anyhow::Result;
use trackway_eventlog::embedded::system_clock;
use trackway_tests::chaos::{Log, Options, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_change_nothing_that_is_stored() -> Result<()> {
    // Another seed each time; its line says how to run it again.
    let seed = system_clock().unsigned_abs() % 1_000_000;
    let summary = run(&Options { rounds: 6, seed, logs: vec![Log::Embedded, Log::Kafka] }).await?;
    assert!(summary.failures.is_empty(), "{}", summary.failures.join("\n"));
    assert_eq!(summary.rounds, 6);
    Ok(())
}
