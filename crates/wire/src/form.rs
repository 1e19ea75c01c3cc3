//! Form-urlencoded text: queries, form bodies, and bodies of several lines that are forms of their own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Names and values, decoded once (`+` is a blank; what is not UTF-8 becomes U+FFFD), in the order in which each name first
/// came. Where a name comes twice the last value counts, also if it is empty.
#[derive(Debug, Default, Clone)]
pub(crate) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    /// Reads several texts as if they were one: what a later one says counts.
    pub(crate) fn of(texts: &[&'a [u8]]) -> Self {
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        let mut places: HashMap<Cow<'a, str>, usize> = HashMap::new();
        for (name, value) in texts.iter().flat_map(|text| form_urlencoded::parse(text)) {
            match places.entry(name.clone()) {
                Entry::Occupied(place) => pairs[*place.get()].1 = value,
                Entry::Vacant(place) => {
                    place.insert(pairs.len());
                    pairs.push((name, value));
                }
            }
        }
        Self(pairs)
    }

    /// A value that is not empty, left in its place.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(other, _)| other == name).map(|(_, value)| &**value);
        value.filter(|value| !value.is_empty())
    }

    /// Takes a value out. Empty counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1.into_owned()).filter(|value| !value.is_empty())
    }

    /// What is left.
    pub(crate) fn into_pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.0.into_iter()
    }
}

/// The lines of a body that say something, without blanks around.
pub(crate) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_once() {
        let form = Form::of(&[b"q=h%25C3%25A4&city=K%C3%B6ln+1&broken=%FF%&flag&=x"]);
        let pairs: Vec<_> = form.into_pairs().collect();
        let expected = [("q", "h%C3%A4"), ("city", "Köln 1"), ("broken", "\u{fffd}%"), ("flag", ""), ("", "x")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn the_last_of_a_name_counts_in_the_place_of_the_first() {
        let mut form = Form::of(&[b"a=1&b=2&a=3", b"b=&c=4"]);
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("3"), None, Some("4")));
        assert_eq!((form.take("b"), form.take("a")), (None, Some("3".to_owned())));
        assert_eq!(form.take("a"), None);
        assert_eq!(form.into_pairs().collect::<Vec<_>>(), [("c".into(), "4".into())]);
    }

    #[test]
    fn lines_end_as_any_system_ends_them() {
        let of = |body: &'static [u8]| lines(body).collect::<Vec<_>>();
        assert_eq!(of(b"a=1\r\nb=2\n\n c=3 "), [&b"a=1"[..], b"b=2", b"c=3"]);
        assert_eq!(of(b"\r\n \n"), [b""; 0]);
    }
}
