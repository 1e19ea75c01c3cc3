//! Question: what does an event cost in the gateway, over HTTP, until it is acknowledged?
//!
//! Baseline: a bare hyper server that reads the body and answers the same, in the same run. Above it the same with our parser,
//! then the gateway with a log that acknowledges at once (so: parsing, stamping, encoding, metrics), with the embedded log (an fsync before each answer)
//! and with a real Kafka (acks=all), if `cargo xtask setup` has fetched its jars.
//!
//! 64 kept-alive connections, each sending its next request when it has its answer, so events/s is what 64 waiting senders
//! get, not what the server could do. Events have 0.9 kB of JSON. Only the server's process is counted: it is a child of the
//! bench, which makes the load, on the same two cores. What Kafka's broker uses is printed apart. Afterwards the log is
//! asked whether it holds as many records as answers were given.
//!
//! Command: `cargo xtask bench gateway`; by hand `target/release/gateway [SECONDS]`, SECONDS of each line, default 1.5.
//!
//! A second question: does its memory stay the same? `cargo xtask bench gateway -- soak MINUTES` sends single events at half of
//! what was reached in ten seconds, into the embedded log, and prints the process's resident memory each minute.

mod load;
mod serve;
mod soak;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use trackway_benches::logs::Broker;
use trackway_benches::{Line, argument, cpu_time, measure_counted, report};

use self::load::Load;

/// Before each measured line: connections, caches and the allocator find their size.
const WARM_UP: Duration = Duration::from_millis(300);

const CONNECTIONS: usize = 64;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, kind, place] = &args[..]
        && first == serve::ARGUMENT
    {
        return serve::run(kind, place);
    }
    if let [first, minutes] = &args[..]
        && first == "soak"
    {
        return soak::run(minutes.parse().context("soak takes minutes")?);
    }
    let time = Duration::from_secs_f64(argument(1, 1.5));
    let loads = load::all();
    let mut tables: Vec<Vec<Line>> = loads.iter().map(|_| Vec::new()).collect();
    let broker = Broker::start();
    let folder = tempfile::tempdir()?;
    let embedded = folder.path().join("log").to_str().context("the folder's name is no text")?.to_owned();
    let mut servers = vec![
        ("baseline: bare hyper, reads the body", serve::BARE, String::new()),
        ("bare hyper and our parser", serve::PARSE, String::new()),
        ("gateway, log acknowledges at once", serve::AT_ONCE, String::new()),
        ("gateway, embedded log, fsync", serve::EMBEDDED, embedded),
    ];
    if let Some(broker) = &broker {
        servers.push(("gateway, Kafka, acks=all", serve::KAFKA, broker.kafka.brokers()));
    }
    // One thread: the load takes as little from the server's cores as it can.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut of_broker = Vec::new();
    for (what, kind, place) in servers {
        let server = Server::start(kind, &place)?;
        let mut records = 0;
        for (load, table) in loads.iter().zip(&mut tables) {
            let mut requests = drive(&runtime, server.address, load, WARM_UP)?;
            let broker_pid = broker.as_ref().filter(|_| kind == serve::KAFKA).and_then(|broker| broker.kafka.pid());
            let before = broker_pid.map(|pid| cpu_time(Some(pid)));
            let mut result = Ok(0);
            let line = measure_counted(what, &[server.child.id()], || {
                result = drive(&runtime, server.address, load, time);
                result.as_ref().map_or(0, |requests| requests * load.events)
            });
            requests += result?;
            if let (Some(pid), Some(before)) = (broker_pid, before) {
                let cpu = cpu_time(Some(pid)) - before;
                of_broker.push((load.what, cpu.as_secs_f64() * 1e6 / line.events as f64));
            }
            table.push(line.of_others());
            records += requests * load.records;
        }
        server.stop(if [serve::BARE, serve::PARSE].contains(&kind) { 0 } else { records })?;
    }
    for (load, table) in loads.iter().zip(&tables) {
        report(&format!("What does an event cost in the gateway's process? {}", load.what), table);
    }
    if !of_broker.is_empty() {
        println!("\nKafka's broker used besides, CPU-s per million events:");
        of_broker.iter().for_each(|(what, cpu)| println!("  {what}: {cpu:.3}"));
    }
    Ok(())
}

fn drive(runtime: &Runtime, address: SocketAddr, load: &Load, time: Duration) -> Result<u64> {
    runtime.block_on(load::drive(address, load, CONNECTIONS, time))
}

/// The server, in a process of its own.
struct Server {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(kind: &str, place: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([serve::ARGUMENT, kind, place]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the server")?;
        let mut answers = BufReader::new(child.stdout.take().context("no output of the server")?);
        let mut address = String::new();
        answers.read_line(&mut address)?;
        let address = address.trim().parse().with_context(|| format!("server `{kind}` tells no address"))?;
        Ok(Self { child, answers, address })
    }

    /// Ends it, and checks that its log holds what was answered.
    fn stop(mut self, records: u64) -> Result<()> {
        drop(self.child.stdin.take());
        let mut held = String::new();
        self.answers.read_to_string(&mut held)?;
        ensure!(self.child.wait()?.success(), "the server did not end well");
        ensure!(held.trim() == format!("{records} events, 0 rejected"), "{records} were answered; the log has {held}");
        Ok(())
    }
}
