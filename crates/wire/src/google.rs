//! What Google's protocols have in common: signals of consent, sizes, money, numbers within forms, and their answer.

use std::collections::HashSet;

use trackway_domain::event::Consent;
use trackway_domain::revenue::Revenue;

use crate::form::Form;
use crate::json::ObjectText;
use crate::protocol::{Answer, Verdict, plain_answer};
use crate::{Item, Rejection, Understood};

/// Whether analytics are agreed to, from `gcs` (`G1` and a digit each for ads and analytics; `-` where nobody was asked) or
/// `gcd` (a letter each for ads, analytics and two more uses of ads). Both stay where they are, since they say more.
pub(crate) fn consent(form: &Form<'_>) -> Consent {
    match form.get("gcs").and_then(|gcs| gcs.strip_prefix("G1")?.chars().nth(1)) {
        Some('1') => return Consent::Granted,
        Some('0') => return Consent::Denied,
        _ => {}
    }
    let letters = form.get("gcd").unwrap_or_default().chars().filter(char::is_ascii_lowercase);
    match letters.take(2).nth(1) {
        // Granted by default, by the visitor, or by both.
        Some('t' | 'r' | 'n' | 'v') => Consent::Granted,
        Some('p' | 'q' | 'm' | 'u') => Consent::Denied,
        _ => Consent::Unknown,
    }
}

/// Width and height, of `1280x720`.
pub(crate) fn size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

/// What an order earned; a refund costs, whatever the sign of its amount.
pub(crate) fn revenue(amount: &str, currency: &str, is_refund: bool) -> Option<Revenue> {
    let mut revenue = Revenue::parse(amount, currency)?;
    if is_refund {
        revenue.micros = -revenue.micros.abs();
    }
    Some(revenue)
}

/// Writes a form's value that should be a number: as a number with all its digits, unless it is none.
pub(crate) fn number(out: &mut ObjectText, name: &str, value: &str) {
    let is_number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && value.ends_with(|last: char| last.is_ascii_digit())
        && serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
    if is_number {
        out.raw(name, value);
    } else {
        out.text(name, value);
    }
}

/// An object in which no name stands twice, although its members come from two sets of names.
pub(crate) struct Distinct {
    text: ObjectText,
    names: HashSet<String>,
}

impl Distinct {
    /// No members yet.
    pub(crate) fn new() -> Self {
        Self { text: ObjectText::from("{}", 256), names: HashSet::new() }
    }

    /// Adds a member; if its name is taken, under the name that it had on its way, which is nobody else's.
    pub(crate) fn add(&mut self, name: &str, sent_name: &str, value: &str, write: fn(&mut ObjectText, &str, &str)) {
        let free = [name, sent_name].into_iter().find(|name| !self.names.contains(*name));
        if let Some(name) = free {
            self.names.insert(name.to_owned());
            write(&mut self.text, name, value);
        }
    }

    /// Its text.
    pub(crate) fn finish(self) -> String {
        self.text.finish()
    }
}

/// Items, each with the key that it names. The first key is the request's.
pub(crate) fn keyed(items: impl Iterator<Item = (Option<String>, Item)>) -> Understood {
    let mut understood = Understood::default();
    for (index, (key, item)) in items.enumerate() {
        understood.items.push(item);
        match (&understood.write_key, key) {
            (_, None) => {}
            (None, Some(key)) => understood.write_key = Some(key),
            (Some(first), Some(key)) if *first == key => {}
            (Some(_), Some(key)) => understood.own_keys.push((index, key)),
        }
    }
    understood
}

/// What all events of a request share is copied to each; a small request must not become a large one by it.
///
/// # Errors
/// [`Rejection::TooLarge`] if the copies were above [`SHARED_BYTES_MAX`].
pub(crate) fn within_sharing(bytes: usize, events: usize) -> Result<(), Rejection> {
    let value = bytes.saturating_mul(events);
    if value > SHARED_BYTES_MAX {
        let what = "what the events share, times their number,".to_owned();
        return Err(Rejection::TooLarge { what, value, unit: "bytes", limit: SHARED_BYTES_MAX });
    }
    Ok(())
}

/// Google's own limit is 16 KiB times 25 events; this leaves ten times as much.
const SHARED_BYTES_MAX: usize = 4 << 20;

/// 204, as Google answers whatever it got. What is refused is said, though: none of these trackers sends again for it, and
/// people see it in their tools.
pub(crate) fn answer(verdict: &Verdict<'_>) -> Answer {
    match verdict {
        Verdict::Taken(_) => Answer::of(204, "", b""),
        Verdict::Refused(_) => plain_answer(verdict),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_is_what_is_said_of_analytics() {
        let check = |form: &str, expected| assert_eq!(consent(&Form::of(&[form.as_bytes()])), expected, "{form}");
        check("gcs=G101", Consent::Granted);
        check("gcs=G110", Consent::Denied);
        check("gcs=G1--", Consent::Unknown);
        check("gcs=G1--&gcd=13p3t3p3p5", Consent::Granted);
        check("gcd=11t1p1t1t5", Consent::Denied);
        check("gcd=13l3l3l2l1l1", Consent::Unknown);
        check("gcs=&gcd=", Consent::Unknown);
        check("gcs=G1%C3%A9%C3%A9&gcd=%C3%A9", Consent::Unknown);
    }

    #[test]
    fn numbers_keep_their_digits_and_the_rest_is_text() {
        let check = |value: &str, expected: &str| {
            let mut out = ObjectText::from("{}", 0);
            number(&mut out, "n", value);
            assert_eq!(out.finish(), format!(r#"{{"n":{expected}}}"#));
        };
        for value in ["0", "-1", "129.90", "9007199254740993", "1e400"] {
            check(value, value);
        }
        for value in ["", "01", "1 ", "1.", ".5", "+1", "NaN", "1,5", "-", "1\n2", "１"] {
            check(value, &serde_json::to_string(value).expect("text"));
        }
    }

    #[test]
    fn a_refund_costs_and_sizes_are_two_numbers() {
        let micros = |amount, is_refund| revenue(amount, "eur", is_refund).map(|revenue| revenue.micros);
        assert_eq!(micros("1.50", false), Some(1_500_000));
        assert_eq!(micros("1.50", true), Some(-1_500_000));
        assert_eq!(micros("-1.50", true), Some(-1_500_000));
        assert_eq!(micros("x", true), None);
        assert_eq!(size("1280x720"), Some((1280, 720)));
        assert_eq!(size("1280"), None);
        assert_eq!(size("1280x-1"), None);
    }
}
