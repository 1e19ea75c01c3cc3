//! `conformance PATH…`: runs case files and says what became of each case (`cargo xtask conformance`).

use std::path::PathBuf;
use std::process::ExitCode;

use trackway_tests::conformance;

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        eprintln!("conformance PATH…: files of cases, or folders of them");
        return ExitCode::from(64);
    }
    match conformance::run(&paths) {
        Ok(report) => {
            print!("{report}");
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
