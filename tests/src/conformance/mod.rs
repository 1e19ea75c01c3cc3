//! Cases of other systems, run through our own domain and enrichment code: their inputs, their rule as a configuration of
//! ours, their outcome.
//!
//! A file per kind turns a case into calls. It must look at all that a case asks and expects: what it does not read fails
//! the case. What we decided not to do is skipped, with the reason.

pub mod case;

mod channel;
mod dedup;
mod event_time;
mod filter;
mod identity;
mod referrer;
mod sessions;
mod useragent;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use case::{Case, Outcome};

type Run = fn(&Case) -> Outcome;

/// The kinds that this command knows, in the order in which a report counts them.
const KINDS: [(&str, Run); 8] = [
    ("sessions", sessions::run),
    ("identity", identity::run),
    ("channel", channel::run),
    ("referrer", referrer::run),
    ("useragent", useragent::run),
    ("filter", filter::run),
    ("dedup", dedup::run),
    ("event_time", event_time::run),
];

/// What became of all cases.
#[derive(Debug, Default)]
pub struct Report {
    /// One for each case of a known kind.
    pub lines: Vec<Line>,
    /// Cases of other kinds, by kind.
    pub others: BTreeMap<String, usize>,
    /// Files that could not be read, or are no list of cases, and why.
    pub unreadable: Vec<String>,
}

/// What became of one case.
#[derive(Debug)]
pub struct Line {
    /// Where it stands.
    pub file: PathBuf,
    /// Its name, or its place in the file (`#3`) if it has none.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// What it is about.
    pub title: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// Runs all cases of files, and of folders' `*.json`. A file that cannot be read is told in the report.
///
/// # Errors
/// A folder that cannot be read or has no cases, named.
pub fn run(paths: &[PathBuf]) -> Result<Report> {
    let mut report = Report::default();
    for file in files(paths)? {
        let cases = match cases(&file) {
            Ok(cases) => cases,
            Err(e) => {
                report.unreadable.push(format!("{e:#}"));
                continue;
            }
        };
        for (at, value) in cases.into_iter().enumerate() {
            report.add(&file, at, value);
        }
    }
    Ok(report)
}

fn cases(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a JSON list of cases", file.display()))
}

/// The files that paths stand for, each once, in order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut inside = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        inside.retain(|file| file.extension().is_some_and(|end| end == "json"));
        inside.sort();
        if inside.is_empty() {
            bail!("{} has no file *.json", path.display());
        }
        files.append(&mut inside);
    }
    Ok(files)
}

impl Report {
    /// Whether every file was read and no case failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.unreadable.is_empty() && self.counts(None)[1] == 0
    }

    fn add(&mut self, file: &Path, at: usize, value: Value) {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let kind = text("kind").unwrap_or_default();
        let run = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, run)| *run);
        let (Some(run), false) = (run, kind.is_empty()) else {
            *self.others.entry(if kind.is_empty() { "without a kind".into() } else { kind }).or_default() += 1;
            return;
        };
        let id = text("id").unwrap_or_else(|| format!("#{at}"));
        let title = text("title").unwrap_or_default();
        let outcome = match Case::parse(value) {
            Ok(case) => outcome(&case, run),
            Err(why) => Outcome::Failed { why },
        };
        self.lines.push(Line { file: file.to_owned(), id, kind, title, outcome });
    }

    /// Passed, failed and skipped cases of one kind, or of all.
    #[must_use]
    pub fn counts(&self, kind: Option<&str>) -> [usize; 3] {
        let mut counts = [0; 3];
        for line in self.lines.iter().filter(|line| kind.is_none_or(|kind| line.kind == kind)) {
            let place = match line.outcome {
                Outcome::Passed => 0,
                Outcome::Failed { .. } => 1,
                Outcome::Skipped { .. } => 2,
            };
            counts[place] += 1;
        }
        counts
    }
}

/// Runs one case. A case that passes has been looked at as a whole; one that trips an assertion has failed.
fn outcome(case: &Case, run: Run) -> Outcome {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text");
        Outcome::failed(format!("panic: {text}"))
    });
    match outcome {
        Outcome::Passed => match case.unread().as_slice() {
            [] => Outcome::Passed,
            unread => Outcome::failed(unread.join(", ")),
        },
        other => other,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.unreadable {
            writeln!(f, "ERROR   {error}")?;
        }
        for line in &self.lines {
            let (word, text) = match &line.outcome {
                Outcome::Passed => continue,
                Outcome::Failed { why } => ("FAILED ", why),
                Outcome::Skipped { reason } => ("skipped", reason),
            };
            let file = line.file.file_name().unwrap_or_default().to_string_lossy();
            writeln!(f, "{word} {file} {} ({}): {}", line.id, line.title, text.replace('\n', " "))?;
        }
        for (kind, _) in KINDS {
            let [passed, failed, skipped] = self.counts(Some(kind));
            if passed + failed + skipped > 0 {
                writeln!(f, "{kind:<10} {passed:>4} passed {failed:>4} failed {skipped:>4} skipped")?;
            }
        }
        for (kind, count) in &self.others {
            writeln!(f, "{kind:<10} {count:>4} not a kind of this command")?;
        }
        let [passed, failed, skipped] = self.counts(None);
        writeln!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(cases: Value) -> Result<Report> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("a.json"), cases.to_string())?;
        run(&[folder.path().to_owned()])
    }

    fn event_time(expected: Value) -> Value {
        json!({"id": "a", "source": "s", "kind": "event_time", "title": "t", "events": [],
               "query": {"received_at": "2020-01-01T12:00:05.200Z", "offset_ms": 150}, "expected": expected})
    }

    #[test]
    fn cases_pass_fail_and_are_counted() -> Result<()> {
        let report = report(json!([
            event_time(json!({"event_time": "2020-01-01T12:00:05.050Z"})),
            event_time(json!({"event_time": "2020-01-01T12:00:05.051Z"})),
            event_time(json!({"event_time": "2020-01-01T12:00:05.050Z", "more": 1})),
            {"kind": "funnel"},
        ]))?;
        assert_eq!(report.counts(Some("event_time")), [1, 2, 0]);
        assert_eq!(report.others.get("funnel"), Some(&1));
        let text = report.to_string();
        assert!(text.contains("`expected.more` is not looked at"), "{text}");
        assert_eq!(text.lines().last(), Some("1 passed, 2 failed, 0 skipped"));
        Ok(())
    }

    #[test]
    fn a_case_with_an_unknown_key_fails_and_names_it() -> Result<()> {
        let mut case = event_time(json!({"event_time": "2020-01-01T12:00:05.050Z"}));
        case["strange"] = json!(true);
        let report = report(json!([case]))?;
        assert!(report.to_string().contains("unknown key `strange`"), "{report}");
        Ok(())
    }

    #[test]
    fn a_file_that_is_no_list_of_cases_is_named() {
        let found = report(json!({"a": 1})).expect("a report");
        assert!(found.to_string().contains("a.json is not a JSON list"), "{found}");
        let found = run(&["/nowhere/b.json".into()]).expect("a report");
        assert!(found.to_string().contains("cannot read /nowhere/b.json") && !found.is_good(), "{found}");
    }
}
