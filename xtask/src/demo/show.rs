//! The answers as a newcomer reads them: what came in, who came, how far they got.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

/// Width of the longest bar.
const BAR: usize = 30;

/// The answers in words, tables and bars.
pub fn text(answers: &Value) -> Result<String> {
    let mut out = String::new();
    write(&mut out, answers).context("an answer is missing")?;
    Ok(out)
}

/// `None` if an answer is not there.
fn write(out: &mut String, answers: &Value) -> Option<()> {
    let number = |key: &str| answers[key].as_u64();
    let seconds = |key: &str| answers[key].as_f64().map(minutes);
    let persons = number("persons")?;
    line(out, "");
    line(out, &format!("  {} events of {} persons", grouped(number("events")?), grouped(persons)));
    line(
        out,
        &format!(
            "  {} sessions, {} of them with a single event; {} long on average, {} in the median",
            grouped(number("sessions")?),
            grouped(number("sessions_single_event")?),
            seconds("session_seconds_mean")?,
            seconds("session_seconds_median")?
        ),
    );

    heading(out, "Events");
    let mut counts: Vec<(&String, u64)> =
        answers["event_counts"].as_object()?.iter().filter_map(|(k, v)| Some((k, v.as_u64()?))).collect();
    counts.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    let cells: Vec<String> = counts.iter().map(|(name, count)| format!("{name:<18} {:>7}", grouped(*count))).collect();
    for row in cells.chunks(3) {
        line(out, &format!("  {}", row.join("    ")));
    }

    heading(out, "Funnel: persons who got at least this far, in order");
    line(out, &format!("  {:<18} {:>8} {:>11} {:>10}", "", "any time", "in one day", "in 1 hour"));
    let column = |key: &str| Some(answers[key].as_array()?.iter().filter_map(Value::as_u64).collect::<Vec<_>>());
    let (all, day, hour) = (column("funnel")?, column("funnel_1d")?, column("funnel_1h")?);
    for (n, step) in answers["funnel_steps"].as_array()?.iter().enumerate() {
        let (all_n, first) = (*all.get(n)?, *all.first()?);
        line(
            out,
            &format!(
                "  {:<18} {:>8} {:>11} {:>10}   {}",
                step.as_str()?,
                grouped(all_n),
                grouped(*day.get(n)?),
                grouped(*hour.get(n)?),
                bar(all_n, first)
            ),
        );
    }

    heading(out, "Most frequent transitions");
    let transitions = answers["transitions"].as_array()?;
    let most = transitions.first()?[2].as_u64()?;
    for edge in transitions.iter().take(8) {
        let count = edge[2].as_u64()?;
        let name = format!("{} → {}", edge[0].as_str()?, edge[1].as_str()?);
        line(out, &format!("  {name:<38} {:>7}   {}", grouped(count), bar(count, most)));
    }

    heading(out, "Touchpoints by stage");
    let touchpoints = answers["touchpoints"].as_array()?;
    let most = touchpoints.iter().filter_map(|t| t["events"].as_u64()).max()?;
    let mut stage_before = "";
    for touchpoint in touchpoints {
        let stage = touchpoint["stage"].as_str()?;
        let shown = if stage == stage_before { "" } else { stage };
        let (events, persons) = (touchpoint["events"].as_u64()?, touchpoint["persons"].as_u64()?);
        let name = touchpoint["touchpoint"].as_str()?;
        let persons = format!("{} persons", grouped(persons));
        line(
            out,
            &format!("  {shown:<14} {name:<11} {:>7} events {persons:>14}   {}", grouped(events), bar(events, most)),
        );
        stage_before = stage;
    }

    heading(out, "Audience recent-buyers: bought at least once within 30 days");
    let audience = |key: &str| answers["audience"][key].as_u64().map(grouped);
    line(
        out,
        &format!(
            "  {} times a person entered, {} times one left; {} are in at the end of the sample",
            audience("entered")?,
            audience("left")?,
            audience("members")?
        ),
    );
    line(out, "");
    Some(())
}

fn heading(out: &mut String, text: &str) {
    line(out, "");
    line(out, text);
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end()).expect("writing to a string");
}

fn bar(part: u64, whole: u64) -> String {
    let eighths = if whole == 0 { 0 } else { (part * BAR as u64 * 8).div_ceil(whole) as usize };
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{rest}", "█".repeat(eighths / 8))
}

fn minutes(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    format!("{} min {} s", whole / 60, whole % 60)
}

fn grouped(number: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answers() -> Value {
        json!({
            "persons": 600, "events": 31106, "sessions": 3605, "sessions_single_event": 231,
            "session_seconds_mean": 1039.55, "session_seconds_median": 869.0,
            "event_counts": {"buy": 5, "look": 1200},
            "funnel_steps": ["look", "buy"], "funnel": [600, 300], "funnel_1d": [600, 30], "funnel_1h": [600, 3],
            "transitions": [["look", "buy", 7]],
            "touchpoints": [{"stage": "purchase", "touchpoint": "order", "events": 9, "persons": 4}],
            "audience": {"entered": 391, "left": 253, "members": 138},
        })
    }

    #[test]
    fn every_answer_is_shown() {
        let text = text(&answers()).expect("all answers are there");
        for part in [
            "31,106 events of 600 persons",
            "3,605 sessions, 231 of them",
            "17 min 20 s",
            "14 min 29 s",
            "look → buy",
            "purchase",
            "391 times a person entered, 253",
            "138 are in",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        // The larger count comes first, and half of the persons have half of the bar.
        assert!(text.find("look ") < text.find("buy "));
        assert!(text.contains(&format!("3   {}\n", "█".repeat(15))), "{text}");
    }

    #[test]
    fn a_missing_answer_is_no_empty_line() {
        for key in answers().as_object().expect("an object").keys() {
            let mut answers = answers();
            answers[key].take();
            assert!(text(&answers).is_err(), "{key}");
        }
    }
}
