//! JSON as bare text, by its marks alone: measured and mended in one pass, without a tree and without a stack.

/// How large a JSON text is, by its own marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    /// Members of objects, at every depth.
    pub keys: usize,
    /// Objects and lists within each other; 1 for a flat object.
    pub depth: usize,
    /// Whether it holds half a surrogate pair as an escape. JavaScript writes that when text was cut inside an emoji;
    /// JSON readers downstream refuse the whole object for it.
    pub broken_escape: bool,
}

/// Whether a text that serde_json has found to be JSON has no escapes, and so few bytes and brackets that it cannot have more
/// keys or levels than these. Nearly all texts are so; then nobody needs to measure them.
pub(crate) fn is_small(json: &str, keys_max: usize, depth_max: usize) -> bool {
    // The shortest member is `"":0`.
    if json.len() / 4 > keys_max {
        return false;
    }
    let (mut brackets, mut escapes) = (0_usize, false);
    // As many as a byte can count, so that the compiler takes sixteen at a time.
    for chunk in json.as_bytes().chunks(255) {
        // `[` and `{` differ in this bit alone.
        brackets += usize::from(chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>());
        escapes |= chunk.iter().fold(0, |found, byte| found | u8::from(*byte == b'\\')) != 0;
    }
    brackets <= depth_max && !escapes
}

/// Measures a text that serde_json has found to be JSON. One pass, no stack.
pub(crate) fn measure(json: &str) -> Shape {
    let bytes = json.as_bytes();
    let (mut shape, mut depth, mut at) = (Shape::default(), 0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                shape.depth = shape.depth.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' => shape.keys += 1,
            b'"' => {
                at = quote_or_escape(bytes, at);
                while bytes.get(at) == Some(&b'\\') {
                    let (length, broken) = escape(&bytes[at..]);
                    shape.broken_escape |= broken;
                    at = quote_or_escape(bytes, at + length);
                }
                at += 1;
            }
            _ => {}
        }
    }
    shape
}

/// Where the next `"` or `\\` stands from `at` on, or the end. Most bytes of JSON are within strings, so this goes eight at
/// a time: a subtraction that borrows marks the bytes that are zero, which are those looked for after the XOR.
fn quote_or_escape(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let zeroes = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        let found = zeroes(word ^ (ONES * u64::from(b'"'))) | zeroes(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            // A borrow can only mark bytes above a true one, and the lowest is taken.
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\')) {
        at += 1;
    }
    at.min(bytes.len())
}

/// The same JSON with each half surrogate pair replaced by U+FFFD.
pub(crate) fn repaired(json: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(json.len()), json);
    // In JSON a backslash occurs only within strings.
    while let Some(at) = rest.find('\\') {
        let (length, broken) = escape(&rest.as_bytes()[at..]);
        let end = (at + length).min(rest.len());
        if broken {
            out.push_str(&rest[..at]);
            out.push_str("\\ufffd");
        } else {
            out.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The same text with `NaN` and `Infinity` replaced by null, if there are any outside of strings.
///
/// Python writes them, JSON has no such words, and one of them would cost the whole batch.
pub(crate) fn without_nan(json: &str) -> Option<String> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let (mut out, mut rest, mut found) = (String::new(), json, false);
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        let end = if here.starts_with('"') {
            let end = string_end(here.as_bytes());
            out.push_str(&here[..end]);
            end
        } else if let Some(word) = WORDS.into_iter().find(|word| here.starts_with(word)) {
            found = true;
            out.push_str("null");
            word.len()
        } else {
            out.push_str(&here[..1]);
            1
        };
        rest = &here[end..];
    }
    out.push_str(rest);
    found.then_some(out)
}

/// Where the string that `bytes` begin with ends.
fn string_end(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    // An escape may be cut by the end of the text; a quote is never inside of a character.
    if at < bytes.len() { at + 1 } else { bytes.len() }
}

/// Length of the escape that `bytes` begin with, and whether it is half a surrogate pair.
fn escape(bytes: &[u8]) -> (usize, bool) {
    match unit(bytes) {
        Some(0xD800..=0xDBFF) => match unit(&bytes[6..]) {
            Some(0xDC00..=0xDFFF) => (12, false),
            _ => (6, true),
        },
        Some(0xDC00..=0xDFFF) => (6, true),
        Some(_) => (6, false),
        None => (2, false),
    }
}

/// The UTF-16 unit of a `\uXXXX` at the start of `bytes`.
fn unit(bytes: &[u8]) -> Option<u16> {
    let hex = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, keys: usize, depth: usize) {
        assert_eq!(measure(json), Shape { keys, depth, broken_escape: false }, "{json}");
    }

    #[test]
    fn keys_count_at_every_depth_and_marks_within_text_do_not() {
        check("{}", 0, 1);
        check(r#"{"a":1,"b":[{"c":2},{"c":3}]}"#, 4, 3);
        check(r#"{"a:{[":"}:\"{:"}"#, 1, 1);
        check(r#"{"a\\":1}"#, 1, 1);
    }

    #[test]
    fn only_what_is_within_the_limits_counts_as_small() {
        let members = |n: usize| format!("{{{}}}", vec![r#""":0"#; n].join(","));
        let nested = |n: usize| "[".repeat(n) + &"{".repeat(n) + &"}".repeat(n) + &"]".repeat(n);
        for n in 1..300 {
            for text in [members(n), nested(n), format!("[\"{}\"]", "é{".repeat(n))] {
                let Shape { keys, depth, .. } = measure(&text);
                assert!(is_small(&text, text.len() / 4, 2 * n + 1), "{text}");
                assert!(keys == 0 || !is_small(&text, keys - 1, 1000), "{text}");
                assert!(!is_small(&text, 1000, depth - 1), "{text}");
            }
        }
        assert!(!is_small(r#""\ud83d""#, 1000, 1000));
    }

    #[test]
    fn strings_of_every_length_end_where_they_end() {
        for length in 0..40 {
            let text = "é".repeat(length) + &"x".repeat(length % 9);
            check(&format!(r#"["{text}","{text}\n{text}\\",{{"{text}":":{{"}}]"#), 1, 2);
        }
    }

    #[test]
    fn a_million_brackets_are_measured_without_a_stack() {
        check(&("[".repeat(1_000_000) + &"]".repeat(1_000_000)), 0, 1_000_000);
    }

    #[test]
    fn half_an_emoji_is_found_and_replaced_and_a_whole_one_is_left() {
        for (json, fixed) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude80x""#, r#""\ufffdx""#),
            (r#""\ud83d\ud83d\ude80""#, r#""\ufffd\ud83d\ude80""#),
            (r#""\ud83d\n\\ud83d""#, r#""\ufffd\n\\ud83d""#),
        ] {
            assert!(measure(json).broken_escape, "{json}");
            assert_eq!(repaired(json), fixed);
        }
        let whole = r#"{"a":"\ud83d\ude80 \\ud83d é\u00e9"}"#;
        assert!(!measure(whole).broken_escape);
        assert_eq!(repaired(whole), whole);
    }

    #[test]
    fn words_that_json_lacks_become_null_outside_of_strings() {
        assert_eq!(
            without_nan(r#"[NaN,-Infinity,Infinity,"NaN\"I",-1]"#).as_deref(),
            Some(r#"[null,null,null,"NaN\"I",-1]"#)
        );
        assert_eq!(without_nan(r#"{"a":"NaN","N":-1}"#), None);
        assert_eq!(without_nan(r#"NaN "é\"#).as_deref(), Some(r#"null "é\"#));
    }
}
