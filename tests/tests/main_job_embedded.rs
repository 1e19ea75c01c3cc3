//! The main job on one machine, `trackway up`: the sample goes in, the known answers come out, whatever the order, however
//! often it is sent, and when the process is told to stop on the way.

use std::time::Duration;

use anyhow::Result;
use trackway_tests::roles::{Installation, ReplaySummary};
use trackway_tests::sample;

/// A debug build on a busy machine sends the sample in a quarter of this.
const REPLAY_MAX: Duration = Duration::from_secs(150);

fn all_taken() -> ReplaySummary {
    ReplaySummary { answered: sample::ROWS, rejected: 0, resent: 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_in_any_order_gives_the_known_answers_and_a_second_time_changes_nothing() -> Result<()> {
    // By time first, and in one line: only then the watermark moves along with the events; afterwards all are late.
    let orders: [(&str, &[&str]); 3] = [
        ("by-time", &["--order", "time", "--connections", "1", "--batch", "50"]),
        ("by-user", &["--order", "user"]),
        ("shuffled", &["--order", "shuffled:5"]),
    ];
    // A request has the events of some hours, visitor by visitor.
    let installation =
        Installation::up(&orders.map(|(project, _)| project), &[("WORKER__LATENESS_SECONDS", "86400")]).await?;
    let expected = sample::expected()?;
    for (project, order) in orders {
        // An audience that is made afterwards has the same members as one that was there.
        let late = project == "by-user";
        if !late {
            sample::create_audience(&installation, project).await?;
        }
        let summary = installation.replay(project, order)?.finish(REPLAY_MAX).await?;
        if late {
            sample::create_audience(&installation, project).await?;
        }
        assert_eq!(summary, all_taken(), "{project}");
        let answers = sample::answers(&installation, project).await?;
        sample::assert_same(project, &answers, &expected);
    }
    let before = installation.metrics("up").await?;
    for (project, _) in orders {
        let counted = before.worker_events(project, "counted") + before.worker_events(project, "late");
        assert_eq!((counted, before.worker_events(project, "duplicate")), (sample::ROWS, 0), "{project}");
    }
    assert!(before.worker_events("by-time", "late") < sample::ROWS / 100, "in order of time hardly any event is late");
    assert!(before.worker_events("shuffled", "late") > sample::ROWS / 2, "the watermark is far ahead of most events");

    let summary = installation.replay("by-user", &["--order", "shuffled:6"])?.finish(REPLAY_MAX).await?;
    assert_eq!(summary, all_taken());
    let answers = sample::answers(&installation, "by-user").await?;
    sample::assert_same("the second time", &answers, &expected);
    let after = installation.metrics("up").await?;
    for fate in ["counted", "late", "rejected"] {
        assert_eq!(after.worker_events("by-user", fate), before.worker_events("by-user", fate), "{fate}");
    }
    assert_eq!(after.worker_events("by-user", "duplicate"), sample::ROWS);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_in_mid_replay_it_drains_in_time_and_loses_nothing() -> Result<()> {
    let installation = Installation::up(&["drain"], &[]).await?;
    sample::create_audience(&installation, "drain").await?;
    let mut replay = installation.replay("drain", &["--order", "time", "--rate", "6000"])?;
    installation
        .eventually("a third of the sample to be accepted", REPLAY_MAX, async || {
            let accepted = installation.metrics("up").await?.gateway_events("drain", "accepted");
            anyhow::ensure!(accepted > sample::ROWS / 3, "{accepted} were accepted");
            Ok(())
        })
        .await?;
    let (status, took) = installation.stop("up", Duration::from_secs(12)).await?;
    assert!(status.success(), "it ended with {status}\n{}", installation.logs());
    assert!(took <= Duration::from_secs(10), "the drain took {took:?}\n{}", installation.logs());
    assert!(replay.is_running()?, "it was told to stop in mid-replay");

    installation.start("up")?;
    let summary = replay.finish(REPLAY_MAX).await?;
    assert_eq!((summary.answered, summary.rejected), (sample::ROWS, 0));
    let answers = sample::answers(&installation, "drain").await?;
    sample::assert_same("after a drain", &answers, &sample::expected()?);
    Ok(())
}
