//! Times as clients write them: ISO 8601 in the forms that occur, and numbers since 1970.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::value::RawValue;

use crate::json;

/// Milliseconds since 1970 UTC, if the value says a time: a string or a number.
///
/// A time that cannot be read is no reason to lose an event; it gets our time instead.
pub(crate) fn of_value(value: &RawValue) -> Option<i64> {
    of_text(&json::text(value)?)
}

/// Milliseconds since 1970 UTC, if `text` says a time.
///
/// - ISO 8601 with `Z`, an offset (`+00:00`, `+0000`, `+00`) or none, which then means UTC; any fraction; `T` or a blank;
///   a blank before the offset, `UTC` and `GMT`, as Ruby and Go print them; a date alone is its midnight.
/// - A number: seconds below 10^11 (the year 5138), else milliseconds.
///
/// Zero is what an unset variable holds, not a time.
pub(crate) fn of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let ms = if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'))
        && let Ok(number) = text.parse::<f64>()
    {
        let ms = if number.abs() < SECONDS_MAX { number * 1000.0 } else { number };
        // Casting saturates, and no number becomes zero.
        ms.round() as i64
    } else {
        iso(text)?
    };
    (ms != 0).then_some(ms)
}

/// Larger numbers are milliseconds: as such this is March 1973, before any client.
const SECONDS_MAX: f64 = 1e11;

fn iso(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_millisecond());
    }
    let zoneless = text.strip_suffix("UTC").or_else(|| text.strip_suffix("GMT")).unwrap_or(text).trim_end();
    if let Ok(time) = zoneless.parse::<DateTime>() {
        return utc(time);
    }
    let (time, offset) = text.rsplit_once(' ')?;
    let joined = format!("{time}{offset}").parse::<Timestamp>().ok()?;
    Some(joined.as_millisecond())
}

fn utc(time: DateTime) -> Option<i64> {
    time.to_zoned(TimeZone::UTC).ok().as_ref().map(Zoned::timestamp).map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T15:20:10.973Z
    const T: i64 = 1_795_360_810_973;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(of_text(text), expected, "{text}");
    }

    #[test]
    fn iso_times_are_read_in_every_form_that_occurs() {
        for text in [
            "2026-11-22T15:20:10.973Z",
            "2026-11-22T15:20:10.973+00:00",
            "2026-11-22T16:20:10.973+01:00",
            "2026-11-22T16:20:10.973+0100",
            "2026-11-22T16:20:10.973+01",
            "2026-11-22T15:20:10.973",
            "2026-11-22 15:20:10.973",
            " 2026-11-22 15:20:10.973Z ",
            "2026-11-22t15:20:10.973z",
            "2026-11-22T15:20:10.973000123Z",
            "2026-11-22 15:20:10.973 UTC",
            "2026-11-22 15:20:10.973 +0000",
            "2026-11-22 14:20:10.973 -01:00",
        ] {
            check(text, Some(T));
        }
        check("2026-11-22T15:20:10Z", Some(T - 973));
        check("2026-11-22", Some(T - 973 - (15 * 3600 + 20 * 60 + 10) * 1000));
    }

    #[test]
    fn numbers_are_milliseconds_or_seconds() {
        check("1795360810973", Some(T));
        check("1795360810.973", Some(T));
        check("1795360810", Some(T - 973));
        check("1.795360810973e12", Some(T));
    }

    #[test]
    fn what_says_no_time_is_none() {
        for text in
            ["", "0", "yesterday", "2026-02-30T00:00:00Z", "2026-11-22T25:00:00Z", "NaN", "inf", "-", "e", "1-2"]
        {
            check(text, None);
        }
        check("1e300", Some(i64::MAX));
    }
}
