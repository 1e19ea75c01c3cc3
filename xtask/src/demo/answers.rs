//! All questions of the demo, asked through `trackway ask --json`, and their comparison with the reference.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::root;

/// The funnel of the reference.
const STEPS: &str = "catalog,product_view,add_to_cart,cart,shipping_details,payment_details,purchase";

/// The audience, and the moment at which its members are counted: that of the sample's last event. (Later, members leave
/// as their 30 days run out.)
const AUDIENCE: &str = "recent-buyers";
const AS_OF: &str = "2024-06-29T22:02:40";

/// Asks one server about one project.
pub struct Asker {
    /// The program `trackway`.
    pub program: PathBuf,
    /// The query server.
    pub server: String,
    /// The project.
    pub project: &'static str,
}

impl Asker {
    /// Makes the audience.
    pub fn create_audience(&self) -> Result<()> {
        self.ask(&["audience", "create", AUDIENCE, "--event", "purchase", "--count", "1", "--window", "30d"]).map(drop)
    }

    /// Whether everything that gateways accepted is in the answers.
    pub fn is_complete(&self) -> bool {
        self.run(&["lag"]).is_ok_and(|lag| lag["freshness"]["pending_records"] == 0)
    }

    /// The demo's document.
    pub fn ask_all(&self) -> Result<Value> {
        let totals = self.ask(&["trend"])?["buckets"][0].take();
        let mut event_counts = Map::new();
        for bucket in self.ask(&["trend", "--by-event"])?["buckets"].as_array().into_iter().flatten() {
            event_counts.insert(bucket["event"].as_str().unwrap_or_default().to_owned(), bucket["events"].clone());
        }
        let sessions = self.ask(&["sessions"])?["rows"][0].take();
        let funnel = |window: &[&str]| -> Result<Value> {
            let mut answer = self.ask(&[&["funnel", "--steps", STEPS], window].concat())?;
            Ok(answer["steps"].as_array_mut().into_iter().flatten().map(|step| step["persons"].take()).collect())
        };
        let transitions = |gap: &[&str]| -> Result<Value> {
            let mut answer = self.ask(&[&["paths", "--top", "20"], gap].concat())?;
            let edges = answer["edges"].as_array_mut().into_iter().flatten();
            Ok(edges.map(|edge| json!([edge["from"].take(), edge["to"].take(), edge["count"].take()])).collect())
        };
        let audience = self.ask(&["audience", "get", AUDIENCE, "--as-of", AS_OF])?;
        Ok(json!({
            "persons": totals["persons"],
            "events": totals["events"],
            "event_counts": event_counts,
            "sessions": sessions["sessions"],
            "sessions_single_event": sessions["sessions_single_event"],
            "session_seconds_mean": sessions["seconds_mean"],
            "session_seconds_median": sessions["seconds_median"],
            "funnel_steps": STEPS.split(',').collect::<Vec<_>>(),
            "funnel": funnel(&[])?,
            "funnel_1h": funnel(&["--window", "1h"])?,
            "funnel_1d": funnel(&["--window", "1d"])?,
            "transitions": transitions(&[])?,
            "transitions_within_session": transitions(&["--session-gap", "30m"])?,
            "touchpoints": self.ask(&["touchpoints"])?["rows"].take(),
            "audience": {"entered": audience["entered"], "left": audience["left"], "members": audience["members"]},
        }))
    }

    /// A question about the project.
    fn ask(&self, question: &[&str]) -> Result<Value> {
        self.run(&[question, &["--project", self.project]].concat())
    }

    fn run(&self, question: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.program);
        command.arg("ask").args(question).args(["--json", "--server", &self.server]);
        let output = command.output().context("cannot run trackway ask")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "trackway ask {}: {}", question.join(" "), said.trim());
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("trackway ask {} printed no JSON", question.join(" ")))
    }
}

/// What the answers must be for one copy of the sample, in the demo's own shape.
pub fn reference() -> Result<Value> {
    let read = |name: &str| -> Result<Value> {
        let path = root().join("tests/data").join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
    };
    let (mut all, mut demo) = (read("ecom_reference.json")?, read("demo_reference.json")?);
    let (mut sessions, mut funnel) = (all["sessions_30min"].take(), all["funnel"].take());
    Ok(json!({
        "persons": all["users"].take(),
        "events": all["rows"].take(),
        "event_counts": all["event_counts"].take(),
        "sessions": sessions["sessions"].take(),
        "sessions_single_event": sessions["single_event_sessions"].take(),
        "session_seconds_mean": sessions["mean_session_seconds_last_minus_first"].take(),
        "session_seconds_median": sessions["median_session_seconds"].take(),
        "funnel": funnel["closed_ordered"]["users"].take(),
        "funnel_1h": funnel["closed_ordered_window_1h"]["users"].take(),
        "funnel_1d": funnel["closed_ordered_window_1d"]["users"].take(),
        "transitions": all["transitions_per_user_stream"]["top20"].take(),
        "transitions_within_session": all["transitions_within_session"]["top20"].take(),
        "touchpoints": demo["touchpoints"].take(),
        "audience": demo["audience"].take(),
    }))
}

/// Where the answers are not those of the reference. With copies of the sample all counts are multiples, and lengths stay.
pub fn differences(answers: &Value, reference: &Value, copies: u64) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, expected) in reference.as_object().into_iter().flatten() {
        let copies = if key.starts_with("session_seconds") { 1 } else { copies };
        compare(key, &answers[key], expected, copies, &mut differences);
    }
    differences
}

fn compare(at: &str, got: &Value, expected: &Value, copies: u64, differences: &mut Vec<String>) {
    match (got, expected) {
        (Value::Array(got), Value::Array(expected)) if got.len() == expected.len() => {
            for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
                compare(&format!("{at}[{n}]"), got, expected, copies, differences);
            }
        }
        (Value::Object(got), Value::Object(expected)) if got.keys().eq(expected.keys()) => {
            for (key, expected) in expected {
                compare(&format!("{at}.{key}"), &got[key], expected, copies, differences);
            }
        }
        (Value::Number(got_number), Value::Number(expected_number)) => {
            let (got_f, expected_f) =
                (got_number.as_f64().unwrap_or(f64::NAN), expected_number.as_f64().unwrap_or(f64::NAN));
            let expected_f = expected_f * copies as f64;
            // Means are computed in another order of addition.
            if (got_f - expected_f).abs() > expected_f.abs() * 1e-9 {
                differences.push(format!("{at} is {got}, expected is {expected_f}"));
            }
        }
        (got, expected) if got == expected => {}
        (got, expected) => differences.push(format!("{at} is {got}, expected is {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_every_answer() {
        let reference = reference().expect("the files are there");
        for (key, value) in reference.as_object().expect("an object") {
            assert!(!value.is_null(), "{key}");
        }
        assert_eq!(reference["funnel"], json!([600, 596, 502, 419, 315, 209, 109]));
        assert!(differences(&reference, &reference, 1).is_empty());
    }

    #[test]
    fn a_difference_is_told_with_its_place() {
        let reference = json!({"funnel": [6, 5], "session_seconds_mean": 10.5, "audience": {"left": 2}});
        let check = |answers: Value, copies, expected: &[&str]| {
            let differences = differences(&answers, &reference, copies);
            assert_eq!(differences.len(), expected.len(), "{differences:?}");
            for (difference, part) in differences.iter().zip(expected) {
                assert!(difference.contains(part), "{difference}");
            }
        };
        check(
            json!({"funnel": [6, 4], "session_seconds_mean": 10.5, "audience": {"left": 2}}),
            1,
            &["funnel[1] is 4, expected is 5"],
        );
        check(
            json!({"funnel": [6], "session_seconds_mean": 10.6, "audience": {"left": 2}}),
            1,
            &["funnel is [6]", "mean is 10.6"],
        );
        check(json!({"funnel": [12, 10], "session_seconds_mean": 10.5, "audience": {"left": 4}}), 2, &[]);
        check(json!({"funnel": [6, 5], "session_seconds_mean": 10.5, "audience": {}}), 1, &["audience"]);
    }

    #[test]
    fn a_missing_answer_is_a_difference() {
        assert_eq!(differences(&json!({}), &json!({"persons": 3}), 1).len(), 1);
    }
}
