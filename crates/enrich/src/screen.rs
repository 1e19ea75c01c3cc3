//! How large a screen is, as reports tell it.

/// The class of a screen of so many CSS pixels: `small` (phones), `medium` (tablets), `large` (laptops), `wide`, or empty if
/// the width is unknown.
///
/// Borders at a width of 576, 992 and 1440, as web design's usual grids have them. A phone on its side stays small: its
/// height tells.
#[must_use]
pub fn class(width: u32, height: u32) -> &'static str {
    match width {
        0 => "",
        1..576 => "small",
        576..992 if (1..500).contains(&height) => "small",
        576..992 => "medium",
        992..1440 => "large",
        1440.. => "wide",
    }
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn widths_have_their_class() {
        for (width, height, expected) in [
            (0, 0, ""),
            (0, 800, ""),
            (1, 0, "small"),
            (390, 844, "small"),
            (844, 390, "small"),
            (575, 1, "small"),
            (576, 0, "medium"),
            (576, 500, "medium"),
            (576, 499, "small"),
            (991, 700, "medium"),
            (992, 400, "large"),
            (1439, 900, "large"),
            (1440, 900, "wide"),
            (u32::MAX, 1, "wide"),
        ] {
            assert_eq!(class(width, height), expected, "{width}x{height}");
        }
    }
}
