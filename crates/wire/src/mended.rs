//! Bodies that are JSON but for Python's `NaN`.

use crate::{Rejection, json_marks};

/// Parses `text`; if it is malformed and holds `NaN` or `Infinity`, parses it once more with null in their place.
pub(crate) fn parse<T>(text: &str, parse: impl Fn(&str) -> Result<T, Rejection>) -> Result<T, Rejection> {
    match parse(text) {
        Err(Rejection::Malformed { what, expected }) => match json_marks::without_nan(text) {
            Some(mended) => parse(&mended),
            None => Err(Rejection::Malformed { what, expected }),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_parsed_again_only_where_that_can_help() {
        let json = |text: &str| match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value) => Ok(value.to_string()),
            Err(_) => Err(Rejection::Malformed { what: text.to_owned(), expected: "JSON" }),
        };
        assert_eq!(parse("[NaN]", json), Ok("[null]".to_owned()));
        assert_eq!(parse("[1]", json), Ok("[1]".to_owned()));
        assert_eq!(parse("[", json).expect_err("no JSON").to_string(), "[ is not JSON");
    }
}
