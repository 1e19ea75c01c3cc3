//! What a replay has done so far: counted by reader and senders, shown once a second, and summed up at the end.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

/// Rejected rows that are listed one by one.
const LISTED_MAX: usize = 10;

/// Counters of one replay.
#[derive(Debug, Default)]
pub struct Tally {
    /// Bytes of the input read so far, and of all of it where that is known.
    pub bytes_read: AtomicU64,
    /// See `bytes_read`; 0: unknown.
    pub bytes_total: AtomicU64,
    /// Rows to send in all, once that is known; 0: unknown.
    pub rows_total: AtomicU64,
    /// Rows that the gateway has answered for.
    pub answered: AtomicU64,
    /// Requests that were sent again.
    pub resent: AtomicU64,
    rejects: Mutex<Rejects>,
}

#[derive(Debug, Default)]
struct Rejects {
    first: Vec<(u64, String)>,
    by_reason: BTreeMap<String, u64>,
    count: u64,
}

impl Tally {
    /// Notes a row that is not in the log.
    pub fn reject(&self, number: u64, reason: &str) {
        let mut rejects = self.rejects.lock().expect("no panic while held");
        rejects.count += 1;
        // Without quoted values, so that reasons that differ by a value only are one.
        let kind: String = reason.split('`').step_by(2).collect::<Vec<_>>().join("…");
        *rejects.by_reason.entry(kind).or_default() += 1;
        if rejects.first.len() < LISTED_MAX {
            rejects.first.push((number, reason.to_owned()));
        }
    }

    /// Rows that are not in the log.
    pub fn rejected(&self) -> u64 {
        self.rejects.lock().expect("no panic while held").count
    }

    /// One line of progress.
    fn line(&self, elapsed: Duration) -> String {
        let (answered, seconds) = (self.answered.load(Relaxed), elapsed.as_secs_f64().max(1e-3));
        let mut line =
            format!("{} rows, {} rows/s", thousands(answered), thousands((answered as f64 / seconds) as u64));
        let (rows, bytes) = (self.rows_total.load(Relaxed), self.bytes_total.load(Relaxed));
        let share = match (rows, bytes) {
            (0, 0) => None,
            (0, bytes) => Some(self.bytes_read.load(Relaxed) as f64 / bytes as f64),
            (rows, _) => Some(answered as f64 / rows as f64),
        };
        if let Some(share) = share.filter(|share| *share > 0.0) {
            let left = seconds * (1.0 - share).max(0.0) / share;
            line += &format!(", {:.0} %, {left:.0} s left", share.min(1.0) * 100.0);
        }
        for (count, what) in [(self.rejected(), "rejected"), (self.resent.load(Relaxed), "requests sent again")] {
            if count > 0 {
                line += &format!(", {} {what}", thousands(count));
            }
        }
        line
    }

    /// Shows progress on standard error, once a second, until it is dropped.
    pub async fn show(&self) {
        let (begin, tty) = (tokio::time::Instant::now(), std::io::stderr().is_terminal());
        let mut every = tokio::time::interval(Duration::from_secs(1));
        every.tick().await;
        loop {
            every.tick().await;
            let line = self.line(begin.elapsed());
            // A terminal shows one line that changes; a file gets a line each.
            let _ =
                if tty { write!(std::io::stderr(), "\r\x1b[K{line}") } else { writeln!(std::io::stderr(), "{line}") };
        }
    }

    /// The summary, for people or for machines.
    pub fn summary(&self, elapsed: Duration, json: bool) -> String {
        let (answered, seconds) = (self.answered.load(Relaxed), elapsed.as_secs_f64());
        let rejects = self.rejects.lock().expect("no panic while held");
        let resent = self.resent.load(Relaxed);
        // Rows that never got to the gateway are rejected without having been answered.
        if json {
            let first: Vec<_> =
                rejects.first.iter().map(|(row, reason)| json!({"row": row, "reason": reason})).collect();
            let document = json!({
                "rows_answered": answered, "rows_rejected": rejects.count, "requests_resent": resent, "seconds": seconds,
                "rejected_first": first, "rejected_by_reason": rejects.by_reason,
            });
            return document.to_string();
        }
        let rate = thousands((answered as f64 / seconds.max(1e-3)) as u64);
        let mut out = format!("{} rows in {seconds:.1} s ({rate} rows/s)", thousands(answered));
        if resent > 0 {
            out += &format!(", {} requests sent again", thousands(resent));
        }
        if rejects.count > 0 {
            out += &format!("\n{} rows rejected:", thousands(rejects.count));
            for (row, reason) in &rejects.first {
                out += &format!("\n  row {row}: {reason}");
            }
            if rejects.count > rejects.first.len() as u64 {
                for (reason, count) in &rejects.by_reason {
                    out += &format!("\n  {} x {reason}", thousands(*count));
                }
            }
        }
        out
    }
}

/// A number with its thousands parted, as people read it.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A reader that notes how far it is.
pub struct Counted<R> {
    /// The reader.
    pub inner: R,
    /// Where it notes.
    pub tally: Arc<Tally>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.tally.bytes_read.fetch_add(n as u64, Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rejected_rows_are_listed_and_the_rest_counted_by_reason() {
        let tally = Tally::default();
        (1..=12).for_each(|n| tally.reject(n, &format!("`{n}` is not a time")));
        let summary = tally.summary(Duration::from_secs(1), false);
        assert!(summary.contains("12 rows rejected") && summary.contains("row 10: `10` is not"), "{summary}");
        assert!(!summary.contains("row 11:") && summary.contains("12 x … is not a time"), "{summary}");
    }

    #[test]
    fn the_summary_for_machines_is_one_document() {
        let tally = Tally::default();
        tally.answered.store(5, Relaxed);
        tally.reject(3, "why");
        let summary: serde_json::Value =
            serde_json::from_str(&tally.summary(Duration::from_secs(2), true)).expect("JSON");
        assert_eq!((&summary["rows_answered"], &summary["rejected_first"][0]["row"]), (&json!(5), &json!(3)));
    }

    #[test]
    fn progress_says_how_much_is_left_when_the_whole_is_known() {
        let tally = Tally::default();
        tally.answered.store(1500, Relaxed);
        assert_eq!(tally.line(Duration::from_secs(1)), "1,500 rows, 1,500 rows/s");
        tally.rows_total.store(6000, Relaxed);
        assert_eq!(tally.line(Duration::from_secs(1)), "1,500 rows, 1,500 rows/s, 25 %, 3 s left");
    }
}
