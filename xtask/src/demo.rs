//! `demo`: starts Trackway, sends the sample through it as a tracker would, and prints what it found.
//!
//! Everything is asked through the program itself (`trackway replay`, `trackway ask --json`), so the demo shows what a
//! person can do by hand. Answers are compared with the reference, which was computed twice by other programs.

mod answers;
mod kafka;
mod processes;
mod show;

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::progress::{detail, step};
use crate::{cargo, root, setup};
use answers::Asker;
use processes::{Processes, free_ports};

/// The sample, its project and its key (see `deploy/demo.toml`).
const SAMPLE: &str = "tests/data/retentioneering_ecom.csv.gz";
const PROJECT: &str = "shop";
const KEY: &str = "shop-demo-key";

/// Of the embedded ClickHouse that serves processes on this machine: it listens on 127.0.0.1 and lives as long as the
/// demo does.
const CLICKHOUSE_USER: &str = "trackway";
const CLICKHOUSE_PASSWORD: &str = "demo";

/// What is to be shown.
#[derive(Debug, Default)]
pub struct Options {
    kafka: bool,
    exit: bool,
    json: bool,
    twice: bool,
    debug: bool,
    order: Option<String>,
    repeat: u64,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// If something on it is not known.
    pub fn parse(args: &[&str]) -> Result<Self> {
        let mut options = Self { repeat: 1, ..Self::default() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().copied().with_context(|| format!("{arg} needs a value"));
            match *arg {
                "--kafka" => options.kafka = true,
                "--exit" => options.exit = true,
                "--json" => options.json = true,
                "--twice" => options.twice = true,
                "--debug" => options.debug = true,
                "--order" => options.order = Some(value()?.to_owned()),
                "--repeat" => {
                    options.repeat =
                        value()?.parse().ok().filter(|k| (1..=1000).contains(k)).context("--repeat is 1 to 1000")?;
                }
                other => bail!("demo does not know `{other}`; `cargo xtask help` lists what it does"),
            }
        }
        Ok(options)
    }
}

/// Runs the demo.
///
/// # Errors
/// If something does not start, or (with `--exit`) an answer is not the known one.
pub fn run(options: &Options) -> Result<()> {
    cargo::need_compilers()?;
    setup::clickhouse()?;
    if options.kafka {
        setup::kafka()?;
    }
    // Standard output belongs to the answers; cargo writes to standard error.
    let (profile, folder) = if options.debug { ("dev", "debug") } else { ("release", "release") };
    cargo::cargo("building (the first time takes minutes)", &["build", "--profile", profile, "--package", "trackway"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let program = target.join(folder).join("trackway");

    let mut processes = Processes::new()?;
    let result = tell(options, &program, &mut processes);
    step("stopping everything");
    let stopped = processes.stop();
    result.and(stopped)
}

/// The demo's story, with processes that somebody else stops.
fn tell(options: &Options, program: &Path, processes: &mut Processes) -> Result<()> {
    let begin = now();
    let place = if options.kafka { start_over_kafka(program, processes)? } else { start_up(program, processes)? };
    let asker = Asker { program: program.to_owned(), server: place.query_url(), project: PROJECT };

    step("an audience: who bought at least once within 30 days");
    asker.create_audience()?;

    step(&format!(
        "sending the sample through the gateway{}",
        options.order.as_ref().map_or(String::new(), |o| format!(", in order: {o}"))
    ));
    for round in 0..if options.twice { 2 } else { 1 } {
        if round == 1 {
            detail("the same once more, with the same message ids: nothing may change");
        }
        replay(options, program, processes, &place)?;
    }
    step("waiting until the answers are complete");
    let waiting = now();
    processes.wait_until("the worker to finish", 120, || asker.is_complete())?;
    detail(&format!("complete {:.1} s after the last beacon", waiting.elapsed().as_secs_f64()));

    let answers = asker.ask_all()?;
    let seconds = begin.elapsed().as_secs_f64();
    let differences = answers::differences(&answers, &answers::reference()?, options.repeat);
    if options.json {
        println!("{answers:#}");
    } else {
        print!("{}", show::text(&answers)?);
    }
    std::io::stdout().flush()?;
    if differences.is_empty() {
        step(&format!("all answers equal the reference (tests/data/ecom_reference.json); {seconds:.0} s in all"));
    } else {
        let list = differences.iter().fold(String::new(), |mut list, difference| {
            let _ = write!(list, "\n  {difference}");
            list
        });
        if options.exit {
            bail!("answers differ from the reference:{list}");
        }
        step(&format!("answers differ from the reference:{list}"));
    }
    if !options.exit {
        keep_serving(program, processes, &place)?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "tells a person how long things took; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

/// Where things listen.
struct Place {
    gateways: Vec<u16>,
    query: u16,
    /// What to do with the program in mid-replay, if anything.
    crash: Option<Crash>,
}

/// A worker that is to be killed, and how to start it again.
struct Crash {
    name: &'static str,
    environment: Vec<(String, String)>,
}

impl Place {
    fn query_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.query)
    }
}

/// One process.
fn start_up(program: &Path, processes: &mut Processes) -> Result<Place> {
    step("starting `trackway up`: gateway, worker, query, event log and ClickHouse in one process");
    let [gateway, query, metrics] = free_ports()?;
    let environment = [
        ("GATEWAY__LISTEN", format!("127.0.0.1:{gateway}")),
        ("QUERY__LISTEN", format!("127.0.0.1:{query}")),
        ("TELEMETRY__LISTEN", format!("127.0.0.1:{metrics}")),
    ];
    start_role(program, processes, "up", "up", &named(&environment))?;
    processes.wait_until("the gateway to listen", 60, || listens(gateway) && listens(query))?;
    detail(&format!(
        "gateway on http://127.0.0.1:{gateway}, query on http://127.0.0.1:{query}, metrics on http://127.0.0.1:{metrics}/metrics"
    ));
    detail(&format!("data and logs in {}, removed at the end", processes.folder().display()));
    Ok(Place { gateways: vec![gateway], query, crash: None })
}

/// Seven processes.
fn start_over_kafka(program: &Path, processes: &mut Processes) -> Result<Place> {
    step("starting Apache Kafka, ClickHouse, two gateways, two workers and a query server, each a process");
    let brokers = kafka::start(processes)?;
    let [clickhouse, gateway_1, gateway_2, query] = free_ports()?;
    let shared = [
        ("LOG__KIND", "kafka".to_owned()),
        ("LOG__BROKERS", brokers.clone()),
        ("CLICKHOUSE__URL", format!("http://127.0.0.1:{clickhouse}")),
        ("CLICKHOUSE__USER", CLICKHOUSE_USER.to_owned()),
        ("CLICKHOUSE__PASSWORD", CLICKHOUSE_PASSWORD.to_owned()),
        // More than one for each worker, so that both have work.
        ("LOG__EVENTS_PARTITIONS", "4".to_owned()),
        ("LOG__JOURNEYS_PARTITIONS", "4".to_owned()),
    ];
    let with = |own: &[(&str, String)]| -> Result<Vec<(String, String)>> {
        let [metrics] = free_ports()?;
        let mut all = named(&shared);
        all.extend(named(own));
        all.extend(named(&[("TELEMETRY__LISTEN", format!("127.0.0.1:{metrics}"))]));
        Ok(all)
    };
    let engine = with(&[("CLICKHOUSE__PORT", clickhouse.to_string())])?;
    start_role(program, processes, "clickhouse", "clickhouse", &engine)?;
    processes.wait_until("ClickHouse to listen", 60, || listens(clickhouse))?;

    let mut migrate = role(program, processes, "migrate", &with(&[])?);
    let migrated = migrate.output().context("cannot run trackway migrate")?;
    ensure!(migrated.status.success(), "trackway migrate: {}", String::from_utf8_lossy(&migrated.stderr).trim());

    let query_environment = with(&[("QUERY__LISTEN", format!("127.0.0.1:{query}"))])?;
    start_role(program, processes, "query", "query", &query_environment)?;
    let worker_1 = with(&[])?;
    start_role(program, processes, "worker-1", "worker", &worker_1)?;
    start_role(program, processes, "worker-2", "worker", &with(&[])?)?;
    for (name, port) in [("gateway-1", gateway_1), ("gateway-2", gateway_2)] {
        start_role(program, processes, name, "gateway", &with(&[("GATEWAY__LISTEN", format!("127.0.0.1:{port}"))])?)?;
    }
    let ports = [gateway_1, gateway_2, query];
    processes.wait_until("gateways and query to listen", 60, || ports.iter().all(|&port| listens(port)))?;
    detail(&format!(
        "Kafka on {brokers}, gateways on http://127.0.0.1:{gateway_1} and :{gateway_2}, query on http://127.0.0.1:{query}"
    ));
    detail(&format!("data and logs in {}, removed at the end", processes.folder().display()));
    Ok(Place {
        gateways: vec![gateway_1, gateway_2],
        query,
        crash: Some(Crash { name: "worker-1", environment: worker_1 }),
    })
}

/// Settings as environment variables.
fn named(settings: &[(&str, String)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| (format!("TRACKWAY_{name}"), value.clone())).collect()
}

fn role(program: &Path, processes: &Processes, role: &str, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    command.arg(role).arg("--config").arg(root().join("deploy/demo.toml")).current_dir(root());
    // Nothing of the caller's own settings may get in.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRACKWAY_")) {
        command.env_remove(name);
    }
    command.env("TRACKWAY_STORAGE__FOLDER", processes.folder().join("data"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

fn start_role(
    program: &Path,
    processes: &mut Processes,
    name: &str,
    what: &str,
    environment: &[(String, String)],
) -> Result<()> {
    let mut command = role(program, processes, what, environment);
    processes.start(name, &mut command)
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Sends the sample; over Kafka to both gateways, and one worker dies on the way.
fn replay(options: &Options, program: &Path, processes: &mut Processes, place: &Place) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("replay").arg(root().join(SAMPLE)).args(["--project-key", KEY, "--json"]);
    command.args(["--columns", "user=user_id,event=event,time=timestamp", "--repeat", &options.repeat.to_string()]);
    for gateway in &place.gateways {
        command.args(["--server", &format!("http://127.0.0.1:{gateway}")]);
    }
    if let Some(order) = &options.order {
        command.args(["--order", order]);
    }
    if place.crash.is_some() {
        // Slow enough that the crash and the start of its successor fall into it: eight seconds.
        command.args(["--rate", &(4000 * options.repeat).to_string()]);
    }
    let replay = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run trackway replay")?;
    if let Some(crash) = &place.crash {
        sleep(Duration::from_secs(3));
        processes.kill9(crash.name)?;
        detail(&format!("{} killed with -9 in mid-replay", crash.name));
        sleep(Duration::from_secs(2));
        start_role(program, processes, crash.name, "worker", &crash.environment)?;
        detail(&format!("{} started again", crash.name));
    }
    let output = replay.wait_with_output().context("cannot wait for trackway replay")?;
    processes.check()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "trackway replay ended with {}: {}", output.status, said.trim());
    let summary: serde_json::Value = serde_json::from_str(&said).context("trackway replay's summary")?;
    let (rows, seconds) = (summary["rows_answered"].as_u64().unwrap_or(0), summary["seconds"].as_f64().unwrap_or(0.0));
    let rate = rows as f64 / seconds.max(1e-3);
    detail(&format!("{rows} events in {seconds:.1} s ({rate:.0} a second), each answered after it was durable"));
    Ok(())
}

/// Says what can be tried, and waits.
fn keep_serving(program: &Path, processes: &mut Processes, place: &Place) -> Result<()> {
    let program = program.strip_prefix(std::env::current_dir()?).unwrap_or(program).display();
    let (gateway, query) = (place.gateways[0], place.query_url());
    eprintln!(
        "\nIt keeps serving. Try, in another terminal:\n\n\
         # watch the audience; who buys for the first time in 30 days shows up at once\n\
         {program} ask audience watch recent-buyers --project {PROJECT} --server {query}\n\n\
         # send an event\n\
         curl -u {KEY}: -d '{{\"type\":\"track\",\"userId\":\"you\",\"event\":\"purchase\",\"properties\":{{\"price\":9.5}}}}' http://127.0.0.1:{gateway}/v1/track\n\n\
         # ask how many went all the way within a day\n\
         {program} ask funnel --project {PROJECT} --steps catalog,product_view,add_to_cart,purchase --window 1d --server {query}\n"
    );
    if !std::io::stdin().is_terminal() {
        eprintln!("Ctrl-C (or a signal) stops everything.");
        loop {
            processes.check()?;
            sleep(Duration::from_millis(500));
        }
    }
    eprintln!("Enter stops everything (Ctrl-C too).");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let options = Options::parse(&["--kafka", "--order", "shuffled:7", "--repeat", "3"]).expect("known");
        assert!(options.kafka && !options.exit);
        assert_eq!((options.order.as_deref(), options.repeat), (Some("shuffled:7"), 3));
        assert_eq!(Options::parse(&[]).expect("none").repeat, 1);
        for wrong in [&["--fast"][..], &["--order"], &["--repeat", "0"], &["--repeat", "x"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
