//! Flat parameters, as trackers put them into a query, a form body, or an object of strings: those that a protocol knows
//! are taken out, and what is left is kept.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;
use trackway_domain::limits::PROPERTIES_MAX;

use crate::draft::within;
use crate::json::{self, Object, ObjectText};
use crate::{Rejection, client_time};

/// Parameters in their order. Of one name the last counts, as in browsers and PHP.
#[derive(Debug, Default, Clone)]
pub(crate) struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    /// Those of a query or a form body, decoded once.
    ///
    /// # Errors
    /// If there are more than properties may have keys.
    pub(crate) fn of_form(form: &'a [u8]) -> Result<Self, Rejection> {
        let mut params = Self::default();
        for (name, value) in form_urlencoded::parse(form) {
            params.push(name, value);
            params.are_few()?;
        }
        Ok(params)
    }

    /// Those of an object: text and numbers as they stand, other values as their JSON. Whatever is no object has none.
    ///
    /// # Errors
    /// If it is no JSON, or there are more than properties may have keys.
    pub(crate) fn of_object(text: &'a str) -> Result<Self, Rejection> {
        let params: Self = json::object(text).map_err(|error| json::not_json(&error))?;
        params.are_few()?;
        Ok(params)
    }

    /// Adds one; an empty value says nothing, but takes the place of an earlier one.
    fn push(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, other)) => *other = value,
            None => self.0.push((name, value)),
        }
    }

    fn are_few(&self) -> Result<(), Rejection> {
        within(|| "count of parameters".to_owned(), self.0.len(), "parameters", PROPERTIES_MAX)
    }

    /// Sets a parameter.
    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        self.drop(name);
        self.0.push((Cow::Borrowed(name), Cow::Owned(value)));
    }

    /// Takes these parameters over from `outer` where they are absent here.
    pub(crate) fn inherit(&mut self, outer: &Params<'_>, names: &[&'static str]) {
        for name in names {
            if let (None, Some(value)) = (self.get(name), outer.get(name)) {
                self.set(name, value.to_owned());
            }
        }
    }

    /// A value that is not empty, left in its place.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name)?;
        Some(&*found.1).filter(|value| !value.is_empty())
    }

    /// Takes a parameter out; an empty one counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1).filter(|value| !value.is_empty())
    }

    /// Takes a parameter out, as text of its own; empty if it is absent.
    pub(crate) fn take_text(&mut self, name: &str) -> String {
        self.take(name).map(Cow::into_owned).unwrap_or_default()
    }

    /// Takes a parameter out that says a time; one that says none stays.
    pub(crate) fn take_time(&mut self, name: &str) -> Option<i64> {
        let time = client_time::of_text(self.get(name)?)?;
        self.take(name);
        Some(time)
    }

    /// Takes a parameter out that says a width and a height, as in `1280x720`; one that says none stays.
    pub(crate) fn take_screen(&mut self, name: &str) -> Option<(u32, u32)> {
        let (width, height) = self.get(name)?.split_once('x')?;
        let screen = (width.parse().ok()?, height.parse().ok()?);
        self.take(name);
        Some(screen)
    }

    /// Takes a parameter out if it is this value.
    pub(crate) fn take_if(&mut self, name: &str, value: &str) -> bool {
        let is = self.get(name) == Some(value);
        if is {
            self.drop(name);
        }
        is
    }

    /// Takes out the parameter that is this protocol's write key; returns it where it is another than the request's.
    ///
    /// - `head_key`: the write key that the request's head names, if it does. Another one here is then but the name of a
    ///   site or an app, and stays.
    /// - `first`: the first key that the body names, which is the request's if the head names none.
    pub(crate) fn take_key(
        &mut self,
        name: &str,
        head_key: Option<&str>,
        first: &mut Option<String>,
    ) -> Option<String> {
        let own = self.get(name)?;
        if head_key.is_some_and(|key| key != own) {
            return None;
        }
        let own = self.take_text(name);
        if head_key.is_some() {
            return None;
        }
        let first = first.get_or_insert_with(|| own.clone());
        (*first != own).then_some(own)
    }

    /// Drops a parameter.
    pub(crate) fn drop(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name);
    }

    /// Takes out all whose names `belongs` accepts.
    pub(crate) fn take_all(&mut self, belongs: impl Fn(&str) -> bool) -> Self {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(name, _)| belongs(name));
        self.0 = left;
        Self(taken)
    }

    /// Name and value of all that is left and not empty, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value)).filter(|(_, value)| !value.is_empty())
    }
}

impl<'a> Object<'a> for Params<'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        // One too many is enough to be refused by.
        if self.are_few().is_err() {
            return map.next_value::<IgnoredAny>().map(|_| ());
        }
        let value: &RawValue = map.next_value()?;
        if value.get() != "null" {
            self.push(name, json::text(value).unwrap_or(Cow::Borrowed(value.get())));
        }
        Ok(())
    }
}

impl ObjectText {
    /// Adds a member that came as text and means a number; what is none (`007`, `1e`) is text.
    pub(crate) fn number(&mut self, name: &str, text: &str) {
        self.spelled(name, text, |first| first == b'-' || first.is_ascii_digit());
    }

    /// Adds a member that came as text, as the object or list that it may spell.
    pub(crate) fn structure(&mut self, name: &str, text: &str) {
        self.spelled(name, text, |first| first == b'{' || first == b'[');
    }

    fn spelled(&mut self, name: &str, text: &str, is_start: impl Fn(u8) -> bool) {
        match serde_json::from_str::<&RawValue>(text) {
            Ok(value) if text.bytes().next().is_some_and(is_start) => self.raw(name, value.get()),
            Ok(_) | Err(_) => self.text(name, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts_and_an_empty_one_is_absent() {
        let mut params = Params::of_form(b"a=1&b=x+y%26&a=2&c=&a%C3%BC").expect("few");
        assert_eq!(params.get("a"), Some("2"));
        assert_eq!(params.take("b").as_deref(), Some("x y&"));
        assert_eq!((params.take("b"), params.take("c"), params.get("aü")), (None, None, None));
        assert_eq!(params.iter().collect::<Vec<_>>(), [("a", "2")]);
    }

    #[test]
    fn more_parameters_than_properties_may_have_are_refused() {
        let form: String = (0..1025).map(|n| format!("{n}=&")).collect();
        let refusal = Params::of_form(form.as_bytes()).expect_err("too many").to_string();
        assert_eq!(refusal, "count of parameters is 1 025 parameters, limit is 1 024");
        let members: Vec<_> = (0..9999).map(|n| format!("\"{n}\":1")).collect();
        let refusal = Params::of_object(&format!("{{{}}}", members.join(","))).expect_err("too many").to_string();
        assert_eq!(refusal, "count of parameters is 1 025 parameters, limit is 1 024");
    }

    #[test]
    fn text_becomes_the_number_or_the_structure_that_it_spells() {
        let mut object = ObjectText::from("{}", 0);
        for text in ["9007199254740993", "-1.50", "007", "1e", "[1]", "true", ""] {
            object.number("x", text);
        }
        let expected = r#"{"x":9007199254740993,"x":-1.50,"x":"007","x":"1e","x":"[1]","x":"true","x":""}"#;
        assert_eq!(object.finish(), expected);
        let mut object = ObjectText::from("{}", 0);
        for text in ["[1,\"ü\"]", "{\"a\":1", "{\"a\":1}", "7", "\"x\""] {
            object.structure("x", text);
        }
        assert_eq!(object.finish(), r#"{"x":[1,"ü"],"x":"{\"a\":1","x":{"a":1},"x":"7","x":"\"x\""}"#);
    }

    #[test]
    fn a_key_is_the_requests_another_or_the_name_of_a_site() {
        let key = |head_key: Option<&str>, first: &mut Option<String>| {
            let mut params = Params::of_form(b"k=b").expect("few");
            (params.take_key("k", head_key, first), params.get("k").is_some())
        };
        let mut first = None;
        assert_eq!(key(None, &mut first), (None, false));
        assert_eq!(first.as_deref(), Some("b"));
        assert_eq!(key(None, &mut first), (None, false));
        assert_eq!(key(None, &mut Some("a".into())), (Some("b".into()), false));
        let mut first = None;
        assert_eq!(key(Some("b"), &mut first), (None, false));
        assert_eq!(key(Some("h"), &mut first), (None, true));
        assert_eq!(first, None);
    }

    #[test]
    fn what_says_no_time_or_size_stays() {
        let mut params = Params::of_form(b"t=soon&s=big&u=1795360762645&r=1280x720").expect("few");
        assert_eq!((params.take_time("t"), params.take_screen("s")), (None, None));
        assert_eq!((params.take_time("u"), params.take_screen("r")), (Some(1_795_360_762_645), Some((1280, 720))));
        assert_eq!(params.iter().count(), 2);
    }
}
