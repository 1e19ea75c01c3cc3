//! The real program, as far as it goes without services.

use std::process::{Command, Output};

fn trackway(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trackway"));
    command.args(args).envs(environment.iter().copied()).current_dir(folder.path());
    command.output().expect("the program runs")
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(78), "a wrong setting is exit 78 of sysexits.h: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_setting_stops_the_start_and_names_itself() {
    let output = trackway(&["up"], &[("TRACKWAY_GATEWAY__BATCH_EVENTS_MAX", "0")]);
    let message = refused(&output);
    for part in ["TRACKWAY_GATEWAY__BATCH_EVENTS_MAX", "0", "100000"] {
        assert!(message.contains(part), "{part} in: {message}");
    }
}

#[test]
fn an_unknown_setting_is_not_passed_over() {
    let message = refused(&trackway(&["up"], &[("TRACKWAY_GATEWAY__BATCH_EVENTS_MAXX", "5")]));
    assert!(message.to_lowercase().contains("batch_events_maxx"), "{message}");
}

#[test]
fn the_settings_it_prints_are_settings_it_takes() {
    let printed = trackway(&["config", "--defaults"], &[]);
    assert!(printed.status.success());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trackway.toml");
    std::fs::write(&file, &printed.stdout).expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    let again = trackway(&["--config", path, "config"], &[]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(again.stdout, printed.stdout);
}

#[test]
fn a_question_to_nobody_says_how_to_start_the_server() {
    let output = trackway(&["ask", "sessions", "--server", "http://127.0.0.1:9"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("127.0.0.1:9") && message.contains("trackway up"), "{message}");
}
