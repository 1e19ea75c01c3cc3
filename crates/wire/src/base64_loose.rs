//! Base64 as it arrives in queries and forms.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LOOSE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes either alphabet, with or without padding. Blanks were `+` before the form was decoded; line ends are Ruby's.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let wanted = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let standard = wanted.map(|byte| match byte {
        b' ' | b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    });
    LOOSE.decode(standard.collect::<Vec<u8>>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_says_the_same() {
        for text in ["+/+/AQ==", "+/+/AQ", " / /AQ==", "-_-_AQ", "+/+\r\n/AQ==\n"] {
            assert_eq!(decode(text).as_deref(), Some(&[0xfb, 0xff, 0xbf, 1][..]), "{text}");
        }
        assert_eq!(decode("!"), None);
        assert_eq!(decode("").as_deref(), Some(&[][..]));
    }
}
