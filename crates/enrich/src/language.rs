//! A client's language, out of what trackers send as its locale.

use std::fmt;

/// A language: the first part of a BCP 47 tag, in lower case.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Language {
    /// Of two or three letters; zeros behind. All zeros: unknown.
    letters: [u8; 3],
}

impl Language {
    /// As tables hold it: `de`, or empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.letters.iter().position(|letter| *letter == 0).unwrap_or(3);
        std::str::from_utf8(&self.letters[..len]).expect("letters are ASCII")
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Codes that were replaced long ago and are still sent (Java's), with those that replaced them.
const REPLACED: [(&[u8; 2], &[u8; 2]); 3] = [(b"iw", b"he"), (b"in", b"id"), (b"ji", b"yi")];

/// The language of a locale: `de` of `de-AT`, `de_AT.UTF-8`, `DE`, or `de-AT,de;q=0.9,en;q=0.8`. What is no language is
/// unknown.
#[must_use]
pub fn language(locale: &str) -> Language {
    let first = locale.trim_start().as_bytes();
    let end = first.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(first.len());
    let follows = first.get(end).is_none_or(|byte| matches!(byte, b'-' | b'_' | b',' | b';' | b'.' | b'@' | b' '));
    if !follows || !(2..=3).contains(&end) {
        return Language::default();
    }
    let mut letters = [0; 3];
    for (letter, byte) in letters.iter_mut().zip(&first[..end]) {
        *letter = byte.to_ascii_lowercase();
    }
    // `und` is BCP 47's word for an undetermined one.
    if letters == *b"und" {
        return Language::default();
    }
    if let Some((_, new)) = REPLACED.iter().find(|(old, _)| end == 2 && letters.starts_with(*old)) {
        letters[..2].copy_from_slice(*new);
    }
    Language { letters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_language_counts() {
        for (locale, expected) in [
            ("de", "de"),
            ("de-AT", "de"),
            ("DE_at.UTF-8", "de"),
            (" en-US,en;q=0.9,de;q=0.8", "en"),
            ("zh-Hant-TW", "zh"),
            ("fil-PH", "fil"),
            ("ca@valencia", "ca"),
            ("iw-IL", "he"),
            ("inc", "inc"),
            ("", ""),
            ("und", ""),
            ("C", ""),
            ("english", ""),
            ("*", ""),
            ("42", ""),
            ("d3", ""),
            ("dé", ""),
            ("deu4", ""),
        ] {
            assert_eq!(language(locale).as_str(), expected, "{locale}");
        }
    }
}
