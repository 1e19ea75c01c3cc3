//! What goes wrong in a round: when, to whom, for how long. No two faults of one victim overlap; those of different victims do.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::random::Random;
use crate::kafka::KafkaBroker;
use crate::roles::Installation;

/// The session timeout of the consumer group here: a worker that is paused for longer is a zombie when it goes on.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(3);

/// SIGTERM drains within 10 s, by the program's promise.
const STOP_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// `kill -9`, and a start after a while.
    Kill,
    /// SIGTERM, and a start after a while.
    Stop,
    /// SIGSTOP, and SIGCONT after a while.
    Pause,
    /// The pause is longer than the group waits: others take the partitions over, and the owner of old does not know.
    Zombie,
    /// `kill -9` of the ClickHouse server below a process, which starts it again.
    KillClickHouse,
    /// SIGSTOP of that server.
    PauseClickHouse,
    /// Another worker comes, and leaves in order.
    Join,
    /// Another worker comes, and is killed.
    JoinAndKill,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    victim: &'static str,
    action: Action,
    at: Duration,
    lasts: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.action {
            Action::Kill => "kill",
            Action::Stop => "stop",
            Action::Pause => "pause",
            Action::Zombie => "zombie",
            Action::KillClickHouse => "kill clickhouse of",
            Action::PauseClickHouse => "pause clickhouse of",
            Action::Join => "join and leave",
            Action::JoinAndKill => "join and kill",
        };
        write!(f, "{what} {} at {} ms for {} ms", self.victim, self.at.as_millis(), self.lasts.as_millis())
    }
}

/// Name of the broker among victims.
const BROKER: &str = "broker";

/// A worker that only comes as a fault.
pub(super) const GUEST: &str = "worker-3";

const EMBEDDED: &[(u64, (&str, Action))] = &[
    (40, ("up", Action::Kill)),
    (10, ("up", Action::Stop)),
    (15, ("up", Action::Pause)),
    (25, ("up", Action::KillClickHouse)),
    (10, ("up", Action::PauseClickHouse)),
];

const KAFKA: &[(u64, (&str, Action))] = &[
    (14, ("worker-1", Action::Kill)),
    (14, ("worker-2", Action::Kill)),
    (4, ("worker-1", Action::Stop)),
    (4, ("worker-2", Action::Stop)),
    (4, ("worker-1", Action::Pause)),
    (5, ("worker-2", Action::Zombie)),
    (5, ("worker-1", Action::Zombie)),
    (5, (GUEST, Action::Join)),
    (4, (GUEST, Action::JoinAndKill)),
    (6, ("gateway-1", Action::Kill)),
    (5, ("gateway-2", Action::Kill)),
    (3, ("gateway-2", Action::Stop)),
    (3, ("gateway-1", Action::Pause)),
    (8, ("clickhouse", Action::KillClickHouse)),
    (3, ("clickhouse", Action::Kill)),
    (4, ("clickhouse", Action::PauseClickHouse)),
    (8, (BROKER, Action::Kill)),
    (2, (BROKER, Action::Stop)),
    (4, (BROKER, Action::Pause)),
    (4, ("query", Action::Kill)),
];

/// Draws the faults of one round.
///
/// - `span`: they begin within it.
pub(super) fn draw(random: &mut Random, over_kafka: bool, span: Duration) -> Vec<Fault> {
    let choice = if over_kafka { KAFKA } else { EMBEDDED };
    let count = random.weighted(&[(1, 0), (6, 1), (6, 2), (if over_kafka { 5 } else { 2 }, 3)]);
    let mut faults: Vec<Fault> = Vec::new();
    for _ in 0..count {
        let (victim, action) = random.weighted(choice);
        let at = span.mul_f64(random.below(1000) as f64 / 1000.0);
        let lasts = match action {
            Action::Zombie => SESSION_TIMEOUT + Duration::from_millis(500 + random.next() % 1500),
            Action::Join | Action::JoinAndKill => Duration::from_millis(1000 + random.next() % 2500),
            _ => Duration::from_millis(50 + random.next() % 1200),
        };
        let fault = Fault { victim, action, at, lasts };
        // A start or a stop takes its time too.
        let apart = |other: &Fault| other.victim != victim || at > other.at + other.lasts + Duration::from_secs(20);
        if faults.iter().all(apart) {
            faults.push(fault);
        }
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// Lets one happen, and heals it.
///
/// # Errors
/// If it cannot be done: then the round says nothing.
pub(super) async fn happen(
    fault: Fault,
    installation: &Installation,
    broker: Option<&Mutex<KafkaBroker>>,
) -> Result<()> {
    sleep(fault.at).await;
    let victim = fault.victim;
    if victim == BROKER {
        let broker = broker.context("there is a broker")?;
        // Its starts and stops wait for Java, without a runtime.
        let with = |what: fn(&mut KafkaBroker) -> Result<()>| {
            tokio::task::block_in_place(|| what(&mut broker.lock().expect("nobody panicked")))
        };
        match fault.action {
            Action::Kill => with(KafkaBroker::kill9)?,
            Action::Pause => with(|broker| broker.pause())?,
            _ => with(KafkaBroker::stop)?,
        }
        sleep(fault.lasts).await;
        return match fault.action {
            Action::Pause => with(|broker| broker.resume()),
            _ => with(KafkaBroker::restart),
        };
    }
    match fault.action {
        Action::Kill => {
            installation.kill9(victim)?;
            sleep(fault.lasts).await;
            installation.start(victim)
        }
        Action::Stop => {
            installation.stop(victim, STOP_MAX).await?;
            sleep(fault.lasts).await;
            installation.start(victim)
        }
        Action::Pause | Action::Zombie => {
            installation.pause(victim)?;
            sleep(fault.lasts).await;
            installation.resume(victim)
        }
        // It may be away already: its parent is starting it.
        Action::KillClickHouse => {
            let _ = installation.kill9_children(victim);
            Ok(())
        }
        Action::PauseClickHouse => {
            if installation.pause_children(victim).is_ok() {
                sleep(fault.lasts).await;
                installation.resume_children(victim)?;
            }
            Ok(())
        }
        Action::Join => {
            installation.start(victim)?;
            sleep(fault.lasts).await;
            installation.stop(victim, STOP_MAX).await.map(drop)
        }
        Action::JoinAndKill => {
            installation.start(victim)?;
            sleep(fault.lasts).await;
            installation.kill9(victim)
        }
    }
}
