//! `cargo xtask …`: everything that is done to this project by hand or by CI, each with one command.

mod cargo;
mod demo;
mod fuzz;
mod progress;
mod setup;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  setup                 fetch what cargo cannot: ClickHouse's library, Kafka's jars, trackers from npm and PyPI (into
                        .trackway/), and Chromium (Debian's package, as root)
    --no-kafka            only ClickHouse's library
  demo                  start Trackway, send it the sample, print what it found, keep serving
    --exit                stop afterwards; exit code 1 if an answer is not the known one
    --json                print one JSON document instead (everything else goes to standard error)
    --kafka               over a real Kafka, each role a process, one worker killed with -9 on the way
    --order ORDER         send the sample in order of file, user, time, shuffled, shuffled:SEED
    --repeat K            send K copies of it, each for other users
    --debug               with a debug build: slower to run, quicker to build
    --twice               send everything twice, with the same message ids: nothing may change
  check                 formatting, lints, and all tests that need no services
  test                  setup, formatting, lints, all tests
  conformance PATH …    run cases of other systems (files, or folders of *.json) through our code; exit code 1 if any fails
  tracker               make trackers/web/t.min.js, which the gateway serves, out of t.js
  bench [NAME …] [-- ARGS]  build and run benches; without a name, all
  chaos                 random input and random faults (kill -9, pauses, hand-overs) against the real program, round by round;
                        after each, what is stored must be what an oracle says
    --rounds N            how many (20), shared among the logs
    --seed S              the same input and faults again; without it, others each time
    --log LOG             embedded, kafka or both (both)
  fuzz [TARGET …]       look for bytes that break a law of the protocols or records; without a target, all
    --minutes N           for so long each (1)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["conformance", paths @ ..] if !paths.is_empty() => return conformance(paths),
        ["setup"] => setup::run(true).and_then(|()| setup::live::all()),
        ["setup", "--no-kafka"] => setup::run(false),
        ["demo", options @ ..] => demo::Options::parse(options).and_then(|options| demo::run(&options)),
        ["check"] => cargo::check(),
        ["test"] => cargo::test(),
        ["tracker"] => setup::live::tracker(),
        ["bench", names @ ..] => cargo::bench(names),
        ["chaos", args @ ..] => cargo::chaos(args),
        ["fuzz", args @ ..] => fuzz::run(args),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("\nerror: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Its last line is the sum, so nothing is said after it.
fn conformance(paths: &[&str]) -> ExitCode {
    match cargo::conformance(paths) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("\nerror: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// The project's folder. Cargo says it when it runs us; a copied binary knows where it was built.
fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or(manifest.clone(), Path::to_owned)
}
