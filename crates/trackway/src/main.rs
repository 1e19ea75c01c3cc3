//! The binary `trackway`: one program, all roles.
//!
//! `main` is a story: config or exit 78, build, bind, serve, signal, drain by a deadline ([`serve`]). Settings come from
//! [`config`] alone, tasks begin in [`tasks`] alone; what each crate needs of both is put together in [`parts`].

mod ask;
mod config;
mod migrate;
mod parts;
mod reload;
mod replay;
mod resend;
mod serve;
mod tasks;
mod telemetry;
mod unmerge;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::Settings;
use serve::Role;

/// What sysexits.h calls a configuration error; process managers do not restart on it.
const EXIT_CONFIG: u8 = 78;

/// Event-streaming analytics: beacons in; sessions, journeys, funnels and audiences out.
#[derive(Debug, Parser)]
#[command(name = "trackway", version, max_term_width = 100)]
struct Cli {
    /// Settings. Default: `trackway.toml` in the working folder, if it is there. `trackway config` explains them all.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything in one process: gateway, worker, query, with an embedded log and an embedded ClickHouse.
    Up,
    /// Takes beacons over HTTP.
    Gateway,
    /// Turns the log into sessions, journeys, audiences.
    Worker,
    /// Answers questions over gRPC.
    Query,
    /// Creates and upgrades tables and topics. `up` does so by itself.
    Migrate,
    /// Runs an embedded ClickHouse for roles that are processes of their own on this machine.
    #[command(name = "clickhouse")]
    ClickHouse,
    /// Sends a file of events through a gateway.
    Replay(replay::ReplayArgs),
    /// Sends rejected requests to a gateway again, once what was wrong with them is mended there.
    ReplayRejected(resend::ResendArgs),
    /// Parts what was joined wrongly: a visitor from its person, or two users.
    Unmerge(unmerge::UnmergeArgs),
    /// Asks a query server.
    Ask(ask::AskArgs),
    /// Prints the settings in force, each explained.
    Config {
        /// Print the defaults instead.
        #[arg(long)]
        defaults: bool,
    },
}

fn main() -> ExitCode {
    // Before anything else: the child that becomes ClickHouse must have no thread of ours.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == parts::ENGINE_COMMAND) {
        trackway_store::engine::child_main(args);
    }
    let Cli { config, command } = Cli::parse();
    let result = match command {
        Command::Replay(args) => block_on(replay::run(args)),
        Command::ReplayRejected(args) => block_on(resend::run(args)),
        Command::Unmerge(args) => block_on(unmerge::run(args)),
        Command::Ask(args) => block_on(async { ask::run(args).await.map(|()| ExitCode::SUCCESS) }),
        Command::Config { defaults: true } => print_config(&Settings::default()),
        Command::Config { defaults: false } => with_settings(config, |settings| print_config(&settings)),
        Command::Migrate => with_settings(config, |settings| with_logs(&settings, migrate::run(&settings))),
        Command::Up => serve_role(Role::Up, config),
        Command::Gateway => serve_role(Role::Gateway, config),
        Command::Worker => serve_role(Role::Worker, config),
        Command::Query => serve_role(Role::Query, config),
        Command::ClickHouse => serve_role(Role::ClickHouse, config),
    };
    result.unwrap_or_else(|e| {
        eprintln!("error: {e:#}");
        ExitCode::FAILURE
    })
}

fn serve_role(role: Role, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let file = config::file(config.as_deref());
    with_settings(config, |settings| match role.objection(&settings) {
        Some(objection) => Ok(refuse(objection)),
        None => with_logs(&settings.clone(), serve::serve(role, settings, file)),
    })
}

/// Reads the settings; exit 78 if they are wrong.
fn with_settings(
    file: Option<PathBuf>,
    run: impl FnOnce(Settings) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match config::load(file.as_deref()) {
        Ok(settings) => run(settings),
        Err(e) => Ok(refuse(e)),
    }
}

fn refuse(reason: impl std::fmt::Display) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::from(EXIT_CONFIG)
}

fn with_logs(settings: &Settings, run: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    telemetry::start_logs(&settings.telemetry)?;
    block_on(run)
}

fn print_config(settings: &Settings) -> anyhow::Result<ExitCode> {
    print!("{}", config::describe(settings));
    Ok(ExitCode::SUCCESS)
}

fn block_on(run: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run);
    // Not waiting: a thread that reads standard input cannot be interrupted, and what had to end has ended.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
