//! `check`, `test`, `chaos`, `bench`: cargo with the right arguments, so that people and CI run the same.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::step;
use crate::{root, setup};

/// Formatting, lints, and all tests that need no services. For every few minutes of work.
pub fn check() -> Result<()> {
    lints()?;
    // `tests/` needs Kafka and ClickHouse, the store's own tests ClickHouse; all others bring what they need.
    let without = ["--exclude", "trackway-tests", "--exclude", "trackway-store"];
    cargo("tests that need no services", &[&["test", "--workspace"], &without[..]].concat())?;
    cargo("the store's unit tests", &["test", "--package", "trackway-store", "--lib"])
}

/// Everything, as CI runs it.
pub fn test() -> Result<()> {
    need_compilers()?;
    setup::run(true)?;
    setup::live::all()?;
    lints()?;
    // All of them, also after one has failed. The tests in tests/ run the real program, which cargo builds with the others,
    // before any test runs, because crates/trackway has tests that need it too.
    counted_tests(&["test", "--workspace", "--no-fail-fast"])
}

/// Runs tests, passing on what they print, and closes with their sum: cargo itself ends with whatever came last.
fn counted_tests(args: &[&str]) -> Result<()> {
    step(&format!("all tests: cargo {}", args.join(" ")));
    let mut tests = cargo_command(args).stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = tests.stdout.take().context("cargo's output is piped")?;
    let sums = Arc::new(Mutex::new([0; 3]));
    let reader = std::thread::spawn({
        let sums = sums.clone();
        move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                for (sum, count) in sums.iter_mut().zip(counts(&line).unwrap_or_default()) {
                    *sum += count;
                }
            }
        }
    });
    let status = tests.wait().context("cannot wait for cargo")?;
    // Output ends with its last writer. A server that a test left behind must not keep the run from ending.
    for _ in 0..100 {
        if reader.is_finished() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let [passed, failed, ignored] = *sums.lock().unwrap_or_else(PoisonError::into_inner);
    println!("\n{passed} passed, {failed} failed, {ignored} skipped");
    if status.success() { Ok(()) } else { bail!("all tests: cargo {} ended with {status}", args.join(" ")) }
}

/// Passed, failed and ignored tests, of a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn counts(line: &str) -> Option<[u64; 3]> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = numbers.split("; ");
    let mut next = |what: &str| parts.next()?.strip_suffix(what)?.trim_end().parse().ok();
    Some([next("passed")?, next("failed")?, next("ignored")?])
}

/// Builds and runs benches: binaries of the package in `benches/`.
///
/// - `args`: names of benches (none: all), then, after `--`, arguments for them.
pub fn bench(args: &[&str]) -> Result<()> {
    let (names, args) = match args.iter().position(|&arg| arg == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    need_compilers()?;
    setup::run(true)?;
    cargo(
        "the program and the benches, in release",
        &["build", "--release", "--package", "trackway", "--package", "trackway-benches", "--bins"],
    )?;
    let mut all: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(root().join("benches/src/bin")).context("there are no benches")?.flatten() {
        all.extend(entry.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    all.sort();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|bench| bench == *name)) {
        bail!("no bench `{unknown}`; there are {}", all.join(", "));
    }
    for name in all.iter().filter(|name| names.is_empty() || names.contains(&name.as_str())) {
        let run = ["run", "--release", "--package", "trackway-benches", "--bin", name, "--"];
        cargo(&format!("bench {name}"), &[&run[..], args].concat())?;
    }
    Ok(())
}

/// Runs the cases of files or folders, named from where the user stands. Whether none failed.
pub fn conformance(paths: &[&str]) -> Result<bool> {
    need_compilers()?;
    let paths = paths.iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>().context("where are we?")?;
    let args = ["run", "--quiet", "--package", "trackway-tests", "--bin", "conformance", "--"];
    let status = cargo_command(&args).args(paths).status().context("cannot run cargo")?;
    Ok(status.success())
}

/// Random input and random faults; `tests/src/bin/chaos.rs` knows the arguments.
pub fn chaos(args: &[&str]) -> Result<()> {
    need_compilers()?;
    setup::run(true)?;
    cargo("the program", &["build", "--package", "trackway"])?;
    cargo("chaos", &[&["run", "--package", "trackway-tests", "--bin", "chaos", "--"], args].concat())
}

fn lints() -> Result<()> {
    cargo("formatting", &["fmt", "--all", "--check"])?;
    cargo("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// Fails early, with a remedy, when a program is missing that a build of our dependencies calls.
pub fn need_compilers() -> Result<()> {
    for (program, package) in [("cc", "gcc"), ("c++", "g++"), ("make", "make"), ("perl", "perl")] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|folder| folder.join(program).is_file());
        if !found {
            bail!(
                "`{program}` is missing; Kafka's client is built from source. Install it (Debian: apt-get install {package})"
            );
        }
    }
    Ok(())
}

/// Runs cargo in the project's folder, with its output as it comes.
pub fn cargo(what: &str, args: &[&str]) -> Result<()> {
    step(&format!("{what}: cargo {}", args.join(" ")));
    let status = cargo_command(args).status().context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("{what}: cargo {} ended with {status}", args.join(" ")) }
}

fn cargo_command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_tests_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.26s";
        assert_eq!(counts(line), Some([12, 3, 1]));
        assert_eq!(counts("test result ... ok"), None);
        assert_eq!(counts("running 3 tests"), None);
    }
}
