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
    let ms = if let Some(ms) = of_javascript(text) {
        ms
    } else if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'))
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

/// `2026-11-22T15:20:10.973Z`, what `toISOString` of JavaScript writes: nearly all times that come, so they need not ask a
/// reader of everything.
fn of_javascript(text: &str) -> Option<i64> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1, b'.', f0, f1, f2, b'Z'] =
        text.as_bytes()
    else {
        return None;
    };
    let number = |digits: &[u8]| {
        let is_number = digits.iter().all(u8::is_ascii_digit);
        is_number.then(|| digits.iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(&[y0, y1, y2, y3])?, number(&[m0, m1])?, number(&[d0, d1])?);
    let (hour, minute, second) = (number(&[h0, h1])?, number(&[i0, i1])?, number(&[s0, s1])?);
    // Days that some months lack, and leap seconds, are left to the other reader.
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years begin in March here, so that a leap day is the last of its year. Days from March to the month, then.
    let (year, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days + (months * 153 + 2) / 5 + day - 1 - DAYS_BEFORE_1970;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + number(&[f0, f1, f2])?)
}

/// From 1 March of the year 0.
const DAYS_BEFORE_1970: i64 = 719_468;

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
    fn the_short_way_says_what_the_long_one_does() {
        for days in (-719_000..2_900_000_i64).step_by(37) {
            let ms = days * 86_400_000 + (days.unsigned_abs() * 7919 % 86_400_000) as i64;
            let text = format!("{:.3}", Timestamp::from_millisecond(ms).expect("within range"));
            assert_eq!(of_javascript(&text), (text[8..10] <= *"28").then_some(ms), "{text}");
        }
        for text in [
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:60:00.000Z",
            "2026-01-01T00:00:60.000Z",
            "2026-01-01T00:00:0/.000Z",
            "2026-01-01T00:00:00.0x0Z",
        ] {
            assert_eq!(of_javascript(text), None, "{text}");
        }
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
