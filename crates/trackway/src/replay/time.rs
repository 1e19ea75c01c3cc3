//! Times as files write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Milliseconds since 1970 UTC of a time as text: ISO 8601 with an offset, ISO 8601 without one (taken as UTC), or a
/// number of seconds, milliseconds, microseconds or nanoseconds, told apart by its size.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return Some(from_number(number));
    }
    // Seconds with a fraction, as Python and PostgreSQL write them.
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite().then(|| if seconds.abs() < 1e11 { seconds * 1e3 } else { seconds }.round() as i64);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_millisecond());
    }
    // pandas writes `+00:00` behind a space, others write ` UTC`.
    let naive = text.strip_suffix(" UTC").unwrap_or(text);
    let time = naive.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(time.timestamp().as_millisecond())
}

/// The largest number of seconds is in the year 5138, the smallest of milliseconds in 1973, and so on.
fn from_number(number: i64) -> i64 {
    match number.unsigned_abs() {
        0..100_000_000_000 => number * 1000,
        100_000_000_000..100_000_000_000_000 => number,
        100_000_000_000_000..100_000_000_000_000_000 => number / 1000,
        _ => number / 1_000_000,
    }
}

/// As trackers send it.
pub fn format(time_ms: i64) -> String {
    Timestamp::from_millisecond(time_ms).map_or_else(|_| time_ms.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MORNING: i64 = 1_710_325_274_000; // 2024-03-13 10:21:14 UTC

    #[test]
    fn a_time_without_an_offset_is_utc() {
        assert_eq!(parse("2024-03-13 10:21:14"), Some(MORNING));
        assert_eq!(parse("2024-03-13T10:21:14.5"), Some(MORNING + 500));
        assert_eq!(parse("2024-03-13 10:21:14 UTC"), Some(MORNING));
    }

    #[test]
    fn a_time_with_an_offset_is_that_instant() {
        assert_eq!(parse("2024-03-13T10:21:14Z"), Some(MORNING));
        assert_eq!(parse("2024-03-13T12:21:14+02:00"), Some(MORNING));
        assert_eq!(parse("2024-03-13 12:21:14+02:00"), Some(MORNING));
    }

    #[test]
    fn numbers_are_told_apart_by_their_size() {
        for text in ["1710325274", "1710325274.0", "1710325274000", "1710325274000000", "1710325274000000000"] {
            assert_eq!(parse(text), Some(MORNING), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "yesterday", "2024-13-01", "inf", "nan"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_is_sent_to_the_millisecond() {
        assert_eq!(format(MORNING + 7), "2024-03-13T10:21:14.007Z");
    }
}
