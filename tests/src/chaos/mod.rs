//! Random input and random faults, round by round, against the real program; then everything that is stored is compared with
//! what the accepted events alone say must be there ([`oracle`]).
//!
//! An installation lives for some rounds, so that later ones meet old state, snapshots and logs. At its end the whole log is
//! read, and every event's fate worked out again ([`audit`]). A seed gives the same input and the same faults; the machine's
//! timing is its own.

mod audit;
mod commands;
mod faults;
mod input;
mod oracle;
mod random;
mod senders;
mod tables;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;
use trackway_eventlog::EventLog;
use trackway_eventlog::embedded::{self, EmbeddedLog, Fsync, system_clock};

use crate::kafka::KafkaBroker;
use crate::roles::{COMPLETE_MAX, Installation};
use commands::Command;
use input::{Inputs, PROJECTS, Sent};
use oracle::{AUDIENCES, Expected};
use random::Random;
use senders::Told;
use watch::Watch;

/// Rounds that share an installation.
const ROUNDS_TOGETHER: usize = 10;

/// Different events of a round.
const EVENTS: usize = 240;

/// A round's events are sent within about this time.
const SPAN: Duration = Duration::from_millis(2_000);

/// Lateness of an installation, by its seed: nearly everything is late, some, or little.
const LATENESS_SECONDS: [&str; 3] = ["2", "3600", "86400"];

/// A subscriber hears of a change a moment after the tables have it, unless it must connect again.
const HEARD_MAX: Duration = Duration::from_secs(20);

/// What runs the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// `trackway up`: one process, and ClickHouse as its child.
    Embedded,
    /// Two gateways, two workers (at times three), query, ClickHouse and a Kafka broker.
    Kafka,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Kafka => "kafka",
        })
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many rounds in all, shared among the logs.
    pub rounds: usize,
    /// Of the first installation; the next ones have the numbers after it.
    pub seed: u64,
    /// On which logs.
    pub logs: Vec<Log>,
}

/// How a run went.
#[derive(Debug, Default)]
pub struct Summary {
    /// Rounds that were run.
    pub rounds: usize,
    /// What differed, one for each installation that had to be given up.
    pub failures: Vec<String>,
}

/// Runs rounds, and prints a line for each.
///
/// # Errors
/// If nothing can be run at all. A difference is none, but stands in the [`Summary`].
pub async fn run(options: &Options) -> Result<Summary> {
    ensure!(!options.logs.is_empty() && options.rounds > 0, "nothing to run");
    let mut summary = Summary::default();
    let share = options.rounds.div_ceil(options.logs.len());
    let mut left: Vec<(Log, usize)> = options.logs.iter().map(|&log| (log, share)).collect();
    let begin = Instant::now();
    let (mut fates, mut faults) = (audit::Fates::default(), 0);
    for seed in options.seed.. {
        left.retain(|(_, rounds)| *rounds > 0);
        if left.is_empty() {
            break;
        }
        for (log, left) in &mut left {
            let rounds = (*left).min(ROUNDS_TOGETHER);
            *left -= rounds;
            match Series::run(*log, seed, rounds).await {
                Ok(series) => {
                    summary.rounds += rounds;
                    faults += series.faults;
                    fates.add(series.fates);
                }
                Err(Failed { round, error }) => {
                    summary.rounds += round;
                    let again = format!("cargo xtask chaos --log {log} --seed {seed} --rounds {round}");
                    // The program's own logs follow the reason, after a line of their own.
                    let error = format!("{error:#}");
                    let why = error.split("\n--- ").next().unwrap_or_default();
                    println!("{error}\nFAILED: {why}\n  run it again: {again}");
                    summary.failures.push(format!("{log}, seed {seed}, round {round}: {why}\n  {again}"));
                }
            }
        }
    }
    println!(
        "{} rounds in {:.0?}, {faults} faults, {fates}; {} failed",
        summary.rounds,
        begin.elapsed(),
        summary.failures.len()
    );
    println!("compared: {COMPARED}");
    println!("not covered: {NOT_COVERED}");
    summary.failures.iter().for_each(|failure| println!("- {failure}"));
    Ok(summary)
}

/// What a round that is `ok` has shown.
const COMPARED: &str = "events (each once, whose, and late or in time by the log), sessions by sums of signs, daily counts of \
     the materialized view, persons, stays in audiences, answers' totals, subscribers' changes (each once, in turn, and who \
     is in at the end), every event's fate from the log; commands that part persons";

/// What it has not.
const NOT_COVERED: &str = "loss of a disk, several brokers, events later than the state that is held";

/// A series ended early: in which of its rounds, counted from 1, and why.
struct Failed {
    round: usize,
    error: anyhow::Error,
}

/// Rounds on one installation.
struct Series {
    log: Log,
    installation: Installation,
    broker: Option<Mutex<KafkaBroker>>,
    /// The broker's; it goes after the broker.
    _folder: Option<tempfile::TempDir>,
    watches: Vec<Watch>,
    inputs: Inputs,
    sent: Vec<Sent>,
    commands: Vec<Command>,
    told: Told,
    faults: usize,
    fates: audit::Fates,
}

impl Series {
    async fn run(log: Log, seed: u64, rounds: usize) -> Result<Self, Failed> {
        let failed = |round| move |error| Failed { round, error };
        let lateness = *Random::new(seed).pick(&LATENESS_SECONDS);
        let mut series = Self::begin(log, lateness).await.context("the installation").map_err(failed(0))?;
        let mut random = Random::new(seed);
        for round in 1..=rounds {
            // Drawn before anything happens, so that timing changes no later round.
            let mut random = Random::new(random.next());
            let begin = Instant::now();
            let faults = faults::draw(&mut random, log == Log::Kafka, SPAN);
            let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let told = series.round(&mut random, faults).await;
            let words = if words.is_empty() { "no faults".to_owned() } else { words.join("; ") };
            let line = format!("{log} seed {seed} round {round}/{rounds}: {EVENTS} events");
            match told {
                Ok(told) => println!("{line}, {} resent, {:.1?}, ok ({words})", told.resent, begin.elapsed()),
                Err(error) => {
                    println!("{line}, {:.1?}, DIFFERS ({words})", begin.elapsed());
                    let logs = series.installation.logs();
                    return Err(Failed { round, error: anyhow::anyhow!("{error:#}\n{logs}") });
                }
            }
        }
        series.audit().await.map_err(failed(rounds))?;
        Ok(series)
    }

    async fn begin(log: Log, lateness_seconds: &str) -> Result<Self> {
        // Short, so that crashes fall between and into blocks and snapshots.
        let mut settings = vec![
            ("WORKER__SNAPSHOT_SECONDS", "1"),
            ("WORKER__BLOCK_MS", "300"),
            ("WORKER__LATENESS_SECONDS", lateness_seconds),
            ("CLICKHOUSE__INSERT_SECONDS_MAX", "5"),
        ];
        let (installation, broker, folder) = match log {
            Log::Embedded => (Installation::up(&PROJECTS, &settings).await?, None, None),
            Log::Kafka => {
                let folder = tempfile::Builder::new().prefix("trackway-chaos-").tempdir()?;
                let broker = tokio::task::block_in_place(|| KafkaBroker::start(folder.path()))?;
                let session = format!("{{ \"session.timeout.ms\" = \"{}\" }}", faults::SESSION_TIMEOUT.as_millis());
                settings.push(("LOG__KAFKA_SETTINGS", &session));
                let installation = Installation::over_kafka(&broker, &PROJECTS, &settings).await?;
                installation.define_like(faults::GUEST, "worker-1")?;
                (installation, Some(Mutex::new(broker)), Some(folder))
            }
        };
        let mut watches = Vec::new();
        for project in PROJECTS {
            for rule in AUDIENCES {
                let window = Duration::from_millis(rule.window_ms.unsigned_abs());
                let (client, audience) = (installation.client(), (project, rule.name));
                client.create_audience(audience, rule.event, rule.count_min as u32, window).await?;
                watches.push(Watch::begin(client, audience));
            }
        }
        Ok(Self {
            log,
            installation,
            broker,
            _folder: folder,
            watches,
            inputs: Inputs::default(),
            sent: Vec::new(),
            commands: Vec::new(),
            told: Told::default(),
            faults: 0,
            fates: audit::Fates::default(),
        })
    }

    async fn round(&mut self, random: &mut Random, faults: Vec<faults::Fault>) -> Result<Told> {
        self.faults += faults.len();
        self.command(random).await.context("commands")?;
        let (requests, sent) = self.inputs.round(random, EVENTS, system_clock());
        let (installation, broker) = (&self.installation, self.broker.as_ref());
        let happen = faults.into_iter().map(|fault| async move {
            let what = fault.to_string();
            faults::happen(fault, installation, broker).await.context(what)
        });
        let happen = futures_util::future::try_join_all(happen);
        let (told, _) = tokio::try_join!(senders::send(installation, requests, random, SPAN), happen)?;
        self.told += told;
        self.sent.extend(sent);
        installation.ready().await?;
        let expected = oracle::expected(&self.sent, &self.commands);
        self.settle().await?;
        let differences = tables::differences(installation, &expected).await?;
        ensure!(differences.is_empty(), "differences:\n- {}", differences.join("\n- "));
        self.heard(&expected).await?;
        Ok(told)
    }

    /// Gives commands, now and then with a crash right after them, and waits until they hold.
    async fn command(&mut self, random: &mut Random) -> Result<()> {
        let commands = commands::draw(random, &self.sent, &self.commands);
        if commands.is_empty() {
            return Ok(());
        }
        commands::give(&self.installation, &commands).await?;
        self.commands.extend(commands);
        if random.percent(50) {
            let victim = if self.log == Log::Kafka { "worker-1" } else { "up" };
            self.installation.kill9(victim)?;
            self.installation.start(victim)?;
            self.installation.ready().await?;
        }
        self.settle().await
    }

    /// Waits until all that was accepted is in the tables: first what gateways still hold, then what the log has.
    async fn settle(&self) -> Result<()> {
        let installation = &self.installation;
        let all = async |what: &str, count: &str, of: &str, want: usize| {
            let seen = async || {
                let rows = installation.sql(format!("SELECT {count} FROM {of}")).await?;
                let (have, want) = (rows[0][0].clone(), want.to_string());
                ensure!(have == want, "{have} of {want} are there");
                Ok(())
            };
            installation.eventually(what, COMPLETE_MAX, seen).await
        };
        all("all events to be in", "uniqExact(project, event_key)", "events", self.sent.len()).await?;
        all("all commands to be kept", "count()", "identity_changes", self.commands.len()).await?;
        let settled = installation.eventually("nothing to be pending", COMPLETE_MAX, async || {
            let freshness = installation.client().lag().await?.freshness.context("no freshness")?;
            ensure!(freshness.pending_records == 0, "{} records are pending", freshness.pending_records);
            Ok(())
        });
        settled.await
    }

    /// Waits until subscribers have heard of everything; whatever they heard wrong stays so.
    async fn heard(&self, expected: &Expected) -> Result<()> {
        let mut members: BTreeMap<watch::Audience, BTreeSet<u128>> = BTreeMap::new();
        for stay in &expected.stays {
            let project = PROJECTS.into_iter().find(|project| *project == stay.project).context("a project of ours")?;
            let rule = AUDIENCES.iter().find(|rule| rule.name == stay.audience).context("an audience of ours")?;
            if rule.is_long {
                members.entry((project, rule.name)).or_default().insert(stay.person);
            }
        }
        let what = "subscribers to hear of all changes";
        self.installation
            .eventually(what, HEARD_MAX, async || {
                for watch in &self.watches {
                    let (project, name) = watch.audience;
                    let heard = watch.heard();
                    if !heard.wrong.is_empty() {
                        break;
                    }
                    if AUDIENCES.iter().any(|rule| rule.name == name && rule.is_long) {
                        let keys = heard.members();
                        let components = &expected.members[project];
                        let persons: BTreeSet<u128> = keys
                            .iter()
                            .map(|key| anyhow::Ok(components.of_key(u128::from_str_radix(key, 16)?)))
                            .collect::<Result<_>>()?;
                        ensure!(keys.len() == persons.len(), "{project}/{name} has a person under two names");
                        let all = members.get(&watch.audience).cloned().unwrap_or_default();
                        ensure!(
                            persons == all,
                            "{project}/{name} has {} members, {} were heard of",
                            all.len(),
                            persons.len()
                        );
                    }
                }
                Ok(())
            })
            .await?;
        for watch in &self.watches {
            let (wrong, (project, name)) = (&watch.heard().wrong, watch.audience);
            ensure!(wrong.is_empty(), "subscribers of {project}/{name} heard: {}", wrong.join(", "));
        }
        Ok(())
    }

    /// Reads the log from its beginning. The embedded one has one owner: the program must end before.
    async fn audit(&mut self) -> Result<()> {
        let stored = tables::events(&self.installation).await?;
        let log: Box<dyn EventLog> = match self.log {
            Log::Kafka => {
                let broker = self.broker.as_ref().context("there is a broker")?;
                let brokers = broker.lock().expect("nobody panicked").brokers();
                Box::new(crate::kafka::log(brokers).await?)
            }
            Log::Embedded => {
                let (status, _) = self.installation.stop("up", Duration::from_secs(15)).await?;
                ensure!(status.success(), "up ended with {status}\n{}", self.installation.logs());
                Box::new(EmbeddedLog::open(embedded_config(self.installation.log_folder()))?)
            }
        };
        let (fates, wrong) = audit::fates(log.as_ref(), &stored, &self.sent, self.told).await?;
        log.close().await;
        ensure!(wrong.is_empty(), "{} fates differ:\n- {}", wrong.len(), wrong[..wrong.len().min(10)].join("\n- "));
        self.fates = fates;
        let changes: usize = self.watches.iter().map(|watch| watch.heard().changes).sum();
        println!(
            "{}: {} events, {fates}; {} commands; {changes} changes of audiences were heard",
            self.log,
            self.sent.len(),
            self.commands.len()
        );
        Ok(())
    }
}

fn embedded_config(folder: std::path::PathBuf) -> embedded::Config {
    embedded::Config {
        folder,
        fsync: Fsync::EveryGroup,
        group_delay: Duration::ZERO,
        group_bytes_max: 16 << 20,
        batch_bytes_max: 1 << 20,
        queue_bytes_max: 64 << 20,
        cache_bytes: 8 << 20,
        memtable_bytes: 1 << 20,
        journal_bytes_max: 64 << 20,
        compress: true,
        retention_every: Duration::from_secs(3600),
        clock: system_clock,
    }
}
