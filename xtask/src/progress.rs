//! What goes on, on standard error: standard output belongs to results.

use std::io::{IsTerminal, Write};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Says what is done now.
pub fn step(text: &str) {
    eprintln!("{}", bold(&format!("▸ {text}")));
}

/// Says a detail of it.
pub fn detail(text: &str) {
    eprintln!("  {text}");
}

fn bold(text: &str) -> String {
    if std::io::stderr().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// Runs a command to its end; while it takes longer than a second, shows for how long it has been running.
///
/// - `remedy`: what to install if there is no such program.
///
/// # Errors
/// If it cannot be run, or ends with another code than 0: then with what it printed.
pub fn run_quietly(what: &str, command: &mut Command, remedy: &str) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("cannot run `{program}`. {remedy}"))?;
    let waiting = std::thread::spawn(move || child.wait_with_output());
    let tty = std::io::stderr().is_terminal();
    let mut tenths = 0_u32;
    while !waiting.is_finished() {
        sleep(Duration::from_millis(100));
        tenths += 1;
        // A terminal sees each second, a log file every tenth.
        if tty && tenths.is_multiple_of(10) {
            eprint!("\r\x1b[K  {what} … {} s", tenths / 10);
        } else if !tty && tenths.is_multiple_of(100) {
            eprintln!("  {what} … {} s", tenths / 10);
        }
        let _ = std::io::stderr().flush();
    }
    if tty && tenths >= 10 {
        eprint!("\r\x1b[K");
    }
    let output = waiting
        .join()
        .expect("the waiting thread does not panic")
        .with_context(|| format!("cannot wait for {program}"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        bail!("{what}: `{program}` ended with {}:\n{}", output.status, told.trim());
    }
    Ok(output)
}
