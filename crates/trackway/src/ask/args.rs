//! What a person types: times, durations, steps.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

/// Steps of a funnel; each is met by any of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(pub Vec<Vec<String>>);

/// Names of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

/// A time in ms: a date (its begin), a date with time, or RFC 3339. UTC unless it says otherwise.
pub fn time(text: &str) -> Result<i64, String> {
    // In this order: what names an offset must not be read as if it named none.
    let civil = || {
        let utc = |at: DateTime| Offset::UTC.to_timestamp(at).ok();
        if text.len() == "2024-06-01".len() {
            text.parse::<Date>().ok().and_then(|date| utc(date.to_datetime(jiff::civil::Time::midnight())))
        } else {
            text.parse::<DateTime>().ok().and_then(utc)
        }
    };
    text.parse::<Timestamp>().ok().or_else(civil).map(Timestamp::as_millisecond).ok_or_else(|| {
        format!("`{text}` is no time. Write it as 2024-06-01, 2024-06-01T08:30 (UTC) or 2024-06-01T08:30:00+02:00")
    })
}

/// A duration in ms: whole numbers with units `ms`, `s`, `m`, `h`, `d`, `w`, one after the other.
pub fn duration(text: &str) -> Result<i64, String> {
    let understood = || {
        let mut rest = text.trim();
        let mut total = 0_i64;
        while !rest.is_empty() {
            let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
            let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
            let unit_ms = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 604_800_000,
                _ => return None,
            };
            total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_ms)?)?;
            rest = after;
        }
        (total > 0).then_some(total)
    };
    understood().ok_or_else(|| {
        format!("`{text}` is no duration. Write it as a number with its unit, such as 45s, 30m, 1h30m, 7d")
    })
}

/// A time, or so long before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Then, in ms.
    At(i64),
    /// So many ms ago.
    Ago(i64),
}

impl When {
    /// In ms.
    pub fn at(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ms) => now_ms.saturating_sub(ms),
        }
    }
}

/// `1h`: that long ago; else a time.
pub fn when(text: &str) -> Result<When, String> {
    duration(text).map(When::Ago).or_else(|_| time(text).map(When::At)).map_err(|_| {
        format!("`{text}` is no time. Write it as 1h (that long ago), 2024-06-01, or 2024-06-01T08:30 (UTC)")
    })
}

/// `a,b|c`: first `a`, then `b` or `c`.
pub fn steps(text: &str) -> Result<Steps, String> {
    text.split(',').map(|step| split(step, '|')).collect::<Option<_>>().map(Steps).ok_or_else(|| {
        format!("`{text}` has an empty step. Write steps as catalog,product_view,purchase with a|b for either of two")
    })
}

/// `a,b`: these names.
pub fn names(text: &str) -> Result<Names, String> {
    split(text, ',').map(Names).ok_or_else(|| format!("`{text}` has an empty name. Write names as page,purchase"))
}

fn split(text: &str, by: char) -> Option<Vec<String>> {
    text.split(by).map(str::trim).map(|name| (!name.is_empty()).then(|| name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        for (text, ms) in [
            ("1970-01-02", 86_400_000),
            ("1970-01-01T00:01", 60_000),
            ("1970-01-01 00:01:00.5", 60_500),
            ("1970-01-01T00:01:00Z", 60_000),
            ("1970-01-01T02:01:00+02:00", 60_000),
            ("1969-12-31T23:59:59Z", -1_000),
        ] {
            assert_eq!(time(text), Ok(ms), "{text}");
        }
        for text in ["", "yesterday", "2024-13-01", "2024-06-31", "12:00", "1717200000"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn when_is_a_time_or_so_long_ago() {
        assert_eq!(when("1h").map(|when| when.at(3_600_005)), Ok(5));
        assert_eq!(when("1970-01-02").map(|when| when.at(7)), Ok(86_400_000));
        assert!(when("soon").expect_err("no time").contains("1h (that long ago)"));
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in
            [("7d", 604_800_000), ("1h30m", 5_400_000), ("500ms", 500), ("2w", 1_209_600_000), (" 45s ", 45_000)]
        {
            assert_eq!(duration(text), Ok(ms), "{text}");
        }
        for text in
            ["", "7", "d", "7 d", "-1h", "1.5h", "0s", "99999999999999999999d", "9223372036854775807w", "1h-30m"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn steps_may_have_alternatives() {
        assert_eq!(
            steps("a, b|c ,d"),
            Ok(Steps(vec![vec!["a".into()], vec!["b".into(), "c".into()], vec!["d".into()]]))
        );
        for text in ["", "a,,b", "a|", ","] {
            assert!(steps(text).is_err(), "{text}");
        }
    }
}
