//! Reading strangers' JSON: in one pass, borrowed from the body, lenient about types, and never recursive.
//!
//! - A known field of the wrong type says nothing; it does not spoil its event. So fields arrive as [`RawValue`]s, whose
//!   text serde_json has checked without recursion and without turning numbers into floats.
//! - Members that nobody asked for are kept ([`Rest`]), since an event must lose nothing on its way.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Rejection, json_marks};

/// A JSON object whose members are handed over one by one, in their order. A name that comes twice is handed over
/// twice, so that the last one wins, as in browsers.
pub(crate) trait Object<'a>: Default {
    /// Takes the value of member `name` from `map`; it must take exactly one.
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an [`Object`]; whatever is not an object becomes the empty one.
pub(crate) struct Lenient<T>(PhantomData<T>);

impl<T> Lenient<T> {
    /// A reader.
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

/// The object that is the whole of `text`.
pub(crate) fn object<'a, T: Object<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Lenient::new().deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

impl<'a, T: Object<'a>> DeserializeSeed<'a> for Lenient<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a, T: Object<'a>> Visitor<'a> for Lenient<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(name) = map.next_key_seed(Name)? {
            object.member(name, &mut map)?;
        }
        Ok(object)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<T, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }
}

/// A member's name, borrowed unless it has escapes (serde's own `Cow` would always copy).
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Members without a field of their own.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rest<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Rest<'a> {
    /// Keeps a member; null says nothing and is dropped.
    pub(crate) fn keep(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        if value.get() != "null" {
            self.0.push((name, value));
        }
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the members of `outer` whose names are not here yet, in time proportional to the members of both.
    pub(crate) fn inherit(&mut self, outer: &Self) {
        if outer.0.is_empty() {
            return;
        }
        let own: HashSet<Cow<'a, str>> = self.0.iter().map(|(name, _)| name.clone()).collect();
        let others = outer.0.iter().filter(|(name, _)| !own.contains(name));
        self.0.extend(others.map(|(name, value)| (name.clone(), *value)));
    }

    /// Writes the members into an object.
    pub(crate) fn write(&self, out: &mut ObjectText) {
        for (name, value) in &self.0 {
            out.raw(name, value.get());
        }
    }

    /// About how many bytes the members take as text.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.get().len() + 4).sum()
    }
}

/// A JSON object taken apart: protocols take the members that they know, and what is left goes into properties. For
/// protocols off the hot path; [`Object`] is faster where the names are known beforehand.
#[derive(Debug, Default, Clone)]
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> for Members<'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        let value = map.next_value()?;
        // As in browsers the last of a name wins. Looking for it is only worth its time in what will not be rejected.
        let known = if self.0.len() < MEMBERS_COMPARED_MAX { &mut self.0[..] } else { &mut [] };
        match known.iter_mut().find(|(other, _)| *other == name) {
            Some((_, other)) => *other = value,
            None => self.0.push((name, value)),
        }
        Ok(())
    }
}

/// Above the limit of keys in properties.
const MEMBERS_COMPARED_MAX: usize = 2048;

impl<'a> Members<'a> {
    /// The members of a value; none if it is not an object.
    pub(crate) fn of(value: &'a RawValue) -> Self {
        if value.get().starts_with('{') { object(value.get()).unwrap_or_default() } else { Self::default() }
    }

    /// Takes a member out. Null counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1).filter(|value| value.get() != "null")
    }

    /// Takes a member out that is an object, as its members.
    pub(crate) fn take_members(&mut self, name: &str) -> Self {
        self.take(name).map(Self::of).unwrap_or_default()
    }

    /// Takes a member out if it is text or a number, as its text. A member of another type stays where it is.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        let text = text(self.get(name)?)?.into_owned();
        self.take(name);
        Some(text)
    }

    /// A member, left in its place. Null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(other, _)| other == name)?;
        Some(found.1).filter(|value| value.get() != "null")
    }

    /// A member as text, left in its place.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name and value of all that is left, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Writes all that is left into an object. Null says nothing and is dropped.
    pub(crate) fn write(&self, out: &mut ObjectText) {
        for (name, value) in self.iter().filter(|(_, value)| value.get() != "null") {
            out.raw(name, value.get());
        }
    }

    /// All that is left as the text of an object.
    pub(crate) fn object_text(&self) -> String {
        let mut out = ObjectText::from("{}", 256);
        self.write(&mut out);
        out.finish()
    }
}

/// The elements of a list; `None` if the value is none. At most `max` + 1 of them, so that a caller can refuse more.
pub(crate) fn list(text: &str, max: usize) -> Option<Vec<&RawValue>> {
    struct List(usize);
    impl<'a> Visitor<'a> for List {
        type Value = Vec<&'a RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() <= self.0 {
                    items.push(item);
                }
            }
            Ok(items)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let items = reader.deserialize_seq(List(max)).ok()?;
    reader.end().ok()?;
    Some(items)
}

/// A body as JSON text: mends broken UTF-8, cuts the byte order mark and blanks around.
pub(crate) fn body_text(body: &[u8]) -> Cow<'_, str> {
    // Checked first, because the lossy way is ten times slower.
    let text = std::str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_start_matches('\u{feff}').trim()),
        Cow::Owned(text) => Cow::Owned(text.trim_start_matches('\u{feff}').trim().to_owned()),
    }
}

/// Says where, not what: serde_json's own words quote values, which are personal.
pub(crate) fn not_json(error: &serde_json::Error) -> Rejection {
    Rejection::Malformed {
        what: format!("body at line {} column {}", error.line(), error.column()),
        expected: "valid JSON",
    }
}

/// The text of one JSON object, as it grows.
pub(crate) struct ObjectText {
    text: String,
    empty: bool,
}

impl ObjectText {
    /// Starts from `object`, the text of an object, with room for `more` bytes.
    pub(crate) fn from(object: &str, more: usize) -> Self {
        let open = object.trim_end().strip_suffix('}').expect("serde_json took it for an object").trim_end();
        let mut text = String::with_capacity(open.len() + more + 1);
        text.push_str(open);
        Self { text, empty: open == "{" }
    }

    /// Adds a member whose value is JSON text already.
    pub(crate) fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.text.push_str(value);
    }

    /// Adds a member whose value is text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        push_string(&mut self.text, value);
    }

    /// Adds a member that is an object, unless it stays empty.
    pub(crate) fn nested(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        let (before, was_empty) = (self.text.len(), self.empty);
        self.name(name);
        self.text.push('{');
        self.empty = true;
        fill(self);
        if self.empty {
            self.text.truncate(before);
            self.empty = was_empty;
        } else {
            self.text.push('}');
        }
    }

    /// The whole object.
    pub(crate) fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.empty) {
            self.text.push(',');
        }
        push_string(&mut self.text, name);
        self.text.push(':');
    }
}

fn push_string(out: &mut String, text: &str) {
    if text.bytes().any(|b| b == b'"' || b == b'\\' || b < b' ') {
        out.push_str(&serde_json::to_string(text).expect("text is always JSON"));
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

/// A value as text: a string's content, a number as it stands (so 2^53 + 1 stays itself), else nothing.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let raw = value.get();
    match raw.as_bytes().first()? {
        b'"' => {
            let inner = &raw[1..raw.len() - 1];
            if !inner.contains('\\') {
                return Some(Cow::Borrowed(inner));
            }
            let whole = serde_json::from_str(raw).or_else(|_| serde_json::from_str(&json_marks::repaired(raw)));
            Some(Cow::Owned(whole.unwrap_or_default()))
        }
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(raw)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn text_is_what_a_string_says_or_a_number_as_it_stands() {
        assert_eq!(text(&raw(r#""a\"\u00e9""#)).as_deref(), Some("a\"é"));
        assert_eq!(text(&raw(r#""cut \ud83d""#)).as_deref(), Some("cut \u{fffd}"));
        assert_eq!(text(&raw("9007199254740993")).as_deref(), Some("9007199254740993"));
        assert_eq!(text(&raw("-1.50")).as_deref(), Some("-1.50"));
        assert_eq!(text(&raw("null")), None);
        assert_eq!(text(&raw("[1]")), None);
    }

    #[test]
    fn an_object_grows_from_what_it_was() {
        let mut object = ObjectText::from("{ }", 0);
        object.nested("none", |_| {});
        object.raw("a", "1");
        object.nested("b", |b| b.text("c\"", "d\n"));
        assert_eq!(object.finish(), r#"{"a":1,"b":{"c\"":"d\n"}}"#);
        let mut object = ObjectText::from("{\"x\": 1 } ", 0);
        object.text("y", "ü");
        assert_eq!(object.finish(), r#"{"x": 1,"y":"ü"}"#);
    }
}
