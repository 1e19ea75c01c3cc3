//! Reading strangers' JSON: in one pass, borrowed from the body, lenient about types, and never recursive.
//!
//! - A known field of the wrong type says nothing; it does not spoil its event. So fields arrive as [`RawValue`]s, whose
//!   text serde_json has checked without recursion and without turning numbers into floats.
//! - Members that nobody asked for are kept ([`Rest`]), since an event must lose nothing on its way.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json_marks;

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

    /// Adds the members of `outer` whose names are not here yet.
    pub(crate) fn inherit(&mut self, outer: &Self) {
        for (name, value) in &outer.0 {
            if !self.0.iter().any(|(own, _)| own == name) {
                self.0.push((name.clone(), value));
            }
        }
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
