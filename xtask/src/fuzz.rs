//! `fuzz`: lets libFuzzer look for bytes that break a law of the wire crate (`crates/wire/tests/law`).
//!
//! Stable Rust does it: LLVM's pass that counts which code is reached is switched on by ordinary flags, and libFuzzer comes
//! with the crate `libfuzzer-sys`, as C++. Inputs that reached something new are kept in `.trackway/fuzz/corpus`, so each run
//! goes on where the last one ended.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cargo::need_compilers;
use crate::progress::{detail, step};
use crate::root;

/// Each with what it looks at.
const TARGETS: [(&str, &str); 3] = [
    ("request", "requests, by every protocol"),
    ("record", "records of the log, and snapshots"),
    ("text", "JSON, times and forms"),
];

/// Counts edges and keeps the values that are compared, as cargo-fuzz has it, without its need for a nightly compiler.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Builds the targets and runs each for some time, one after the other; all, if none is named.
///
/// # Errors
/// If something was found: with the file that does it. The other targets are still run.
pub fn run(args: &[&str]) -> Result<()> {
    let (minutes, targets) = parse(args)?;
    need_compilers()?;
    let folder = root().join(".trackway/fuzz");
    let programs = build(&folder)?;
    let mut found = Vec::new();
    for (target, what) in targets {
        step(&format!("fuzzing {what} (`{target}`), {minutes} min"));
        found.extend(fuzz(target, &programs.join(target), &folder, minutes)?);
    }
    match found.as_slice() {
        [] => Ok(()),
        found => bail!(
            "{} found something:\n  {}\nKeep each with a name of its own as crates/wire/tests/found/NAME.http (or .record), \
             which makes it a test; run it alone with {}/TARGET FILE",
            if found.len() == 1 { "a target" } else { "targets" },
            found.join("\n  "),
            programs.display()
        ),
    }
}

fn parse(args: &[&str]) -> Result<(u64, Vec<(&'static str, &'static str)>)> {
    let (mut minutes, mut targets, mut args) = (1, Vec::new(), args.iter());
    while let Some(&arg) = args.next() {
        if arg == "--minutes" {
            let number = args.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0);
            minutes = number.context("--minutes needs a number above 0")?;
        } else if let Some(target) = TARGETS.iter().find(|(name, _)| *name == arg) {
            targets.push(*target);
        } else {
            bail!("no target `{arg}`; there are {}", TARGETS.map(|(name, _)| name).join(", "));
        }
    }
    Ok((minutes, if targets.is_empty() { TARGETS.to_vec() } else { targets }))
}

/// Builds the targets; returns where they are. (Their lock file follows the crate's dependencies, so it is not held fixed.)
fn build(folder: &Path) -> Result<std::path::PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let version =
        Command::new("rustc").arg("-vV").output().context("cannot run rustc. Install Rust (https://rustup.rs)")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    step("building the fuzz targets (the first time some minutes)");
    let target_folder = folder.join("target");
    // With a target that is named the flags are not for build scripts, which could not be linked with them.
    let status = Command::new(cargo)
        .args(["build", "--release", "--target", host, "--manifest-path", "crates/wire/fuzz/Cargo.toml"])
        .current_dir(root())
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target_folder)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the fuzz targets cannot be built: cargo ended with {status}");
    }
    Ok(target_folder.join(host).join("release"))
}

/// Runs a target; returns the file with what it found.
fn fuzz(target: &str, program: &Path, folder: &Path, minutes: u64) -> Result<Option<String>> {
    let (corpus, seeds) = (folder.join("corpus").join(target), folder.join("seeds").join(target));
    let (found, log) = (folder.join("found").join(target), folder.join(format!("{target}.log")));
    // The seeds and words are written by the target itself, from the sources and captures of today.
    for folder in [&corpus, &seeds, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(folder.join("words"), "").context("cannot write the dictionary")?;
    let fuzzer = Command::new(program)
        .args([&corpus, &seeds])
        .arg(format!("-dict={}", folder.join("words").display()))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(format!("-max_total_time={}", minutes * 60))
        // A request may be larger, but shows nothing that a smaller one does not; and each takes its time.
        .args(["-max_len=16384", "-timeout=10", "-rss_limit_mb=1024", "-malloc_limit_mb=256"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let lines = watch(fuzzer, &log)?;
    let Some(lines) = lines else { return Ok(None) };
    let file = lines.iter().find_map(|line| line.split_once("Test unit written to ").map(|(_, file)| file.to_owned()));
    for line in lines.iter().filter(|line| !is_count(line)).take(30) {
        detail(line);
    }
    Ok(Some(file.unwrap_or_else(|| format!("`{target}`, see {}", log.display()))))
}

/// Shows how far a fuzzer is until it ends; returns what it said if it found something.
fn watch(mut fuzzer: Child, log: &Path) -> Result<Option<Vec<String>>> {
    let output = fuzzer.stderr.take().context("its output is piped")?;
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let reader = std::thread::spawn({
        let lines = lines.clone();
        move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                // `#1234 NEW cov: …` comes by the thousand; only the last says anything.
                if is_count(&line) && lines.last().is_some_and(|last| is_count(last)) {
                    lines.pop();
                }
                lines.push(line);
            }
        }
    });
    let status = loop {
        // Ten seconds, but not longer than it runs.
        for _ in 0..100 {
            if fuzzer.try_wait().context("cannot wait for the fuzzer")?.is_some() {
                break;
            }
            sleep(Duration::from_millis(100));
        }
        let is_progress = |line: &&String| line.starts_with("Done ") || is_count(line);
        if let Some(last) = lines.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().find(is_progress) {
            detail(last.split(" L: ").next().unwrap_or(last).trim());
        }
        if let Some(status) = fuzzer.try_wait().context("cannot wait for the fuzzer")? {
            break status;
        }
    };
    reader.join().expect("the reader does not panic");
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    fs::write(log, lines.join("\n")).with_context(|| format!("cannot write {}", log.display()))?;
    Ok((!status.success()).then_some(lines))
}

/// Whether the line is of the kind `#1234 NEW cov: …`.
fn is_count(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_run_unless_some_are_named() {
        assert_eq!(parse(&[]).ok(), Some((1, TARGETS.to_vec())));
        assert_eq!(parse(&["record", "--minutes", "30"]).ok(), Some((30, vec![TARGETS[1]])));
        assert!(parse(&["--minutes", "0"]).is_err());
        assert!(parse(&["--minutes"]).is_err());
        assert_eq!(parse(&["x"]).unwrap_err().to_string(), "no target `x`; there are request, record, text");
    }

    #[test]
    fn lines_that_count_are_told_from_others() {
        assert!(is_count("#1234\tNEW    cov: 1"));
        assert!(!is_count("###### Recommended dictionary. ######"));
        assert!(!is_count("Done 12 runs"));
    }
}
