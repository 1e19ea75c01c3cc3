//! What an event earned.

/// An amount of money, exact to a millionth of its unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revenue {
    /// Millionths of the currency's unit; negative for a refund.
    pub micros: i64,
    /// ISO 4217 code as the tracker said it, in capitals; empty if it did not.
    pub currency: String,
}

/// Letters of a currency that are kept: all codes have three; shops invent longer ones for points.
const CURRENCY_BYTES_MAX: usize = 16;

impl Revenue {
    /// Reads a decimal number: `129.90`, `-3`, `1.5e2`, with blanks around. Digits below a millionth are cut.
    ///
    /// `None`: it is no number, or above 9.2 million million.
    #[must_use]
    pub fn parse(amount: &str, currency: &str) -> Option<Self> {
        let currency = currency.trim();
        let fits = currency.len() <= CURRENCY_BYTES_MAX && currency.bytes().all(|b| b.is_ascii_alphanumeric());
        let currency = if fits { currency.to_ascii_uppercase() } else { String::new() };
        Some(Self { micros: micros(amount.trim())?, currency })
    }
}

/// A decimal number in millionths, exactly; digits below are cut. `None`: it is no number, or has no room.
#[must_use]
pub fn micros(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Where the point stands among the digits, once it is moved to count millionths.
    let point = i64::try_from(whole.len()).ok()?.checked_add(i64::from(exponent))?.checked_add(6)?;
    let mut sum: i64 = 0;
    let mut digits = whole.bytes().chain(fraction.bytes()).map(|b| i64::from(b - b'0'));
    for _ in 0..point.max(0) {
        let digit = digits.next();
        if digit.is_none() && sum == 0 {
            break;
        }
        sum = sum.checked_mul(10)?.checked_add(digit.unwrap_or(0))?;
    }
    Some(if negative { -sum } else { sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(Revenue::parse(text, "").map(|revenue| revenue.micros), expected, "{text}");
    }

    #[test]
    fn amounts_are_read_exactly() {
        check("129.90", Some(129_900_000));
        check(" 0.1 ", Some(100_000));
        check("-3", Some(-3_000_000));
        check(".5", Some(500_000));
        check("5.", Some(5_000_000));
        check("1.5e2", Some(150_000_000));
        check("15E-1", Some(1_500_000));
        check("0.0000019", Some(1));
        check("1e-9", Some(0));
        check("0e999999", Some(0));
        check("9223372036854.775807", Some(i64::MAX));
    }

    #[test]
    fn what_is_no_number_or_too_large_is_none() {
        for text in ["", ".", "-", "12,5", "1.2.3", "NaN", "Infinity", "1e", "0x1", "9223372036854.775808", "1e400"] {
            check(text, None);
        }
        check("1e2147483648", None);
    }

    #[test]
    fn a_currency_is_in_capitals_and_nonsense_is_none() {
        let currency = |text| Revenue::parse("1", text).expect("a number").currency;
        assert_eq!(currency(" eur "), "EUR");
        assert_eq!(currency("€"), "");
        assert_eq!(currency("abcdefghijklmnopq"), "");
    }
}
