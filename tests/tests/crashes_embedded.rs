//! `kill -9` of everything on one machine, again and again in mid-replay: the answers are those of an undisturbed run.

use std::time::Duration;

use anyhow::{Result, ensure};
use trackway_tests::roles::Installation;
use trackway_tests::sample;

const REPLAY_MAX: Duration = Duration::from_secs(150);

const PROJECT: &str = "crashes";

/// splitmix64: enough to be at another moment each time.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_three_times_in_mid_replay_it_counts_everything_once() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a test that is run again with the seed it printed")]
    let given = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut seed = given.unwrap_or_else(|| trackway_eventlog::embedded::system_clock().unsigned_abs());
    println!("CRASH_SEED={seed}");
    // Short, so that crashes fall between and into snapshots, and some are replayed from.
    let settings = [("WORKER__SNAPSHOT_SECONDS", "1"), ("WORKER__BLOCK_MS", "300")];
    let installation = Installation::up(&[PROJECT], &settings).await?;
    sample::create_audience(&installation, PROJECT).await?;
    let replay = installation.replay(PROJECT, &["--order", "shuffled:3", "--rate", "4000"])?;
    for crash in 0..3 {
        // Metrics begin anew with each process.
        let until = 2_000 + next(&mut seed) % 5_000;
        installation
            .eventually("more events to be accepted", REPLAY_MAX, async || {
                let accepted = installation.metrics("up").await?.gateway_events(PROJECT, "accepted");
                ensure!(accepted >= until, "{accepted} of {until} were accepted");
                Ok(())
            })
            .await?;
        tokio::time::sleep(Duration::from_millis(next(&mut seed) % 500)).await;
        // Usually ClickHouse outlives its parent for a moment and ends in order. Once it does not.
        if crash == 1 {
            installation.kill9_children("up")?;
        }
        installation.kill9("up")?;
        installation.start("up")?;
    }
    let summary = replay.finish(REPLAY_MAX).await?;
    assert_eq!((summary.answered, summary.rejected), (sample::ROWS, 0));
    assert!(summary.resent > 0, "the crashes were noticed");
    let answers = sample::answers(&installation, PROJECT).await?;
    sample::assert_same("after crashes", &answers, &sample::expected()?);
    sample::assert_tables(&installation, PROJECT).await?;

    // Once more, with nothing going on: what a crash finds in order stays so.
    installation.kill9("up")?;
    installation.start("up")?;
    installation.ready().await?;
    let again = sample::answers(&installation, PROJECT).await?;
    sample::assert_same("after a crash at rest", &again, &answers);
    // It still knows what it has counted.
    let summary = installation.replay(PROJECT, &["--order", "time"])?.finish(REPLAY_MAX).await?;
    assert_eq!((summary.answered, summary.rejected), (sample::ROWS, 0));
    let twice = sample::answers(&installation, PROJECT).await?;
    sample::assert_same("the same again after crashes", &twice, &answers);
    sample::assert_tables(&installation, PROJECT).await
}
