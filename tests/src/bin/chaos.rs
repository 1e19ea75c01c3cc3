//! `cargo xtask chaos`: random input, random faults, and an oracle. See `trackway_tests::chaos`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use trackway_eventlog::embedded::system_clock;
use trackway_tests::chaos::{Log, Options, run};

const USAGE: &str = "chaos [--rounds N] [--seed S] [--log embedded|kafka|both]";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = match parse(&args) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error:#}\nusage: {USAGE}");
            return ExitCode::from(64);
        }
    };
    match run(&options).await {
        Ok(summary) if summary.failures.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Options> {
    // Another one each time; every line of the run says it.
    let mut options =
        Options { rounds: 20, seed: system_clock().unsigned_abs() % 1_000_000, logs: vec![Log::Embedded, Log::Kafka] };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--rounds" => options.rounds = value.parse().with_context(|| format!("--rounds {value}"))?,
            "--seed" => options.seed = value.parse().with_context(|| format!("--seed {value}"))?,
            "--log" => {
                options.logs = match value.as_str() {
                    "embedded" => vec![Log::Embedded],
                    "kafka" => vec![Log::Kafka],
                    "both" => vec![Log::Embedded, Log::Kafka],
                    other => bail!("--log {other}: must be embedded, kafka or both"),
                }
            }
            other => bail!("unknown option {other}"),
        }
    }
    Ok(options)
}
