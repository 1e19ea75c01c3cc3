//! Pieces of terminal text: numbers, times, bars, tables. Pure.

use jiff::Timestamp;
use jiff::tz::Offset;
use trackway_query::pb;

/// How text may look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Characters in a line. A heuristic: nothing asks the terminal, which wraps or not as it likes.
    pub width: usize,
    /// Whether colours mean something to whoever reads this.
    pub colour: bool,
}

impl Look {
    /// As it goes into a pipe or a file.
    pub const PLAIN: Self = Self { width: 80, colour: false };

    /// Less important.
    pub fn dim(self, text: &str) -> String {
        if self.colour { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// To be noticed.
    pub fn strong(self, text: &str) -> String {
        if self.colour { format!("\x1b[1;33m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text of strangers without what would command the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Clean text of at most `chars_max` characters.
pub fn short(text: &str, chars_max: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= chars_max {
        return text;
    }
    let mut cut: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// 1234567 as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with its noun: `1 record`, `2 records`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A part of a whole, with one decimal; nothing if the whole is nothing.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { format!("{:.1}%", part as f64 / whole as f64 * 100.0) }
}

/// Two units at most: `2h 14m`, `3d 4h`, `42s`, `0.4s`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 9.95 && seconds.fract() != 0.0 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    let (big, big_unit, small, small_unit) = match whole {
        0..60 => return format!("{whole}s"),
        60..3_600 => (whole / 60, "m", whole % 60, "s"),
        3_600..86_400 => (whole / 3_600, "h", whole % 3_600 / 60, "m"),
        _ => (whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    };
    if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit} {small}{small_unit}") }
}

/// As [`seconds`].
pub fn milliseconds(ms: i64) -> String {
    seconds(ms as f64 / 1_000.0)
}

/// `2024-06-29 21:57 UTC`.
pub fn minute(ms: i64) -> String {
    format_time(ms, "%Y-%m-%d %H:%M UTC")
}

/// `2024-06-29 21:57:03`.
pub fn second(ms: i64) -> String {
    format_time(ms, "%Y-%m-%d %H:%M:%S")
}

/// `2024-06-29`.
pub fn day(ms: i64) -> String {
    format_time(ms, "%Y-%m-%d")
}

fn format_time(ms: i64, format: &str) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(at) => Offset::UTC.to_datetime(at).strftime(format).to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

/// `fraction` of `width` characters, in steps of an eighth. What is more than nothing shows.
pub fn bar(fraction: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    let wanted = fraction.clamp(0.0, 1.0) * width as f64 * 8.0;
    let eighths = if wanted > 0.0 { (wanted.round() as usize).max(1) } else { 0 };
    let mut out = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        out.push(EIGHTHS[eighths % 8 - 1]);
    }
    out
}

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under a head, each column as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new(head: &[(&'static str, Align)]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.head.len(), "cells in a row: {cells:?}");
        self.rows.push(cells);
    }

    /// Its rows, to fill in what depends on the widths of the others.
    pub fn rows_mut(&mut self) -> &mut [Vec<String>] {
        &mut self.rows
    }

    /// Width of everything but the last column, with the blanks before it.
    pub fn width_before_last(&self) -> usize {
        let widths = self.widths();
        widths[..widths.len() - 1].iter().map(|width| width + 2).sum::<usize>() + 2
    }

    fn widths(&self) -> Vec<usize> {
        let of = |column: usize| self.rows.iter().map(move |row| row[column].chars().count());
        self.head.iter().enumerate().map(|(n, (name, _))| of(n).max().unwrap_or(0).max(name.chars().count())).collect()
    }

    /// Two blanks before each column, none at the ends of lines.
    pub fn to_text(&self, look: Look) -> String {
        let widths = self.widths();
        let line = |cells: Vec<&str>| {
            let mut line = String::new();
            for ((cell, &width), &(_, align)) in cells.iter().zip(&widths).zip(&self.head) {
                let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
                line.push_str("  ");
                match align {
                    Align::Left => line.extend([*cell, &blanks]),
                    Align::Right => line.extend([blanks.as_str(), *cell]),
                }
            }
            line.trim_end().to_owned()
        };
        let head = line(self.head.iter().map(|(name, _)| *name).collect());
        let mut out = format!("{}\n", look.dim(&head));
        for row in &self.rows {
            out.push_str(&line(row.iter().map(String::as_str).collect()));
            out.push('\n');
        }
        out
    }
}

/// How complete an answer is, as the line below it.
pub fn freshness(freshness: Option<&pb::Freshness>, look: Look) -> String {
    let pb::Freshness { watermark_ms, pending_records } = freshness.copied().unwrap_or_default();
    let on_the_way = format!("{} still on the way", counted(pending_records, "record"));
    let line = match (watermark_ms, pending_records) {
        (Some(ms), 0) => format!("complete up to {}, nothing on the way", minute(ms)),
        (Some(ms), _) => format!("complete up to {}, {on_the_way}", minute(ms)),
        (None, 0) => "no event has arrived yet".to_owned(),
        (None, _) => on_the_way,
    };
    format!("\n{}\n", look.dim(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (given, text) in [
            (0.0, "0s"),
            (0.42, "0.4s"),
            (9.94, "9.9s"),
            (9.96, "10s"),
            (59.4, "59s"),
            (59.6, "1m"),
            (750.0, "12m 30s"),
            (8_040.0, "2h 14m"),
            (273_600.0, "3d 4h"),
            (604_800.0, "7d"),
        ] {
            assert_eq!(seconds(given), text, "{given}");
        }
    }

    #[test]
    fn bars_go_by_eighths_and_something_always_shows() {
        for (fraction, text) in [(0.0, ""), (0.0001, "▏"), (0.5, "██"), (0.53, "██▏"), (1.0, "████"), (7.0, "████")]
        {
            assert_eq!(bar(fraction, 4), text, "{fraction}");
        }
    }

    #[test]
    fn strangers_cannot_command_the_terminal() {
        assert_eq!(clean("a\x1b[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
        assert_eq!(short("abcdef", 4), "abc…");
    }

    #[test]
    fn freshness_is_said_in_a_line() {
        let at = Some(1_719_698_220_000);
        for (watermark_ms, pending_records, text) in [
            (at, 0, "\ncomplete up to 2024-06-29 21:57 UTC, nothing on the way\n"),
            (at, 1, "\ncomplete up to 2024-06-29 21:57 UTC, 1 record still on the way\n"),
            (None, 12, "\n12 records still on the way\n"),
            (None, 0, "\nno event has arrived yet\n"),
        ] {
            assert_eq!(freshness(Some(&pb::Freshness { watermark_ms, pending_records }), Look::PLAIN), text);
        }
    }
}
