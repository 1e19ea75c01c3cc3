//! A JSON object that holds a list of items, read in one pass: each item is handed over where it stands, with its text.
//!
//! serde_json alone reads a list of objects and does not say where one begins; taking the texts first and reading them
//! again costs a second pass over nearly the whole body. So the outermost marks (`{`, `:`, `,`, `[`) are read here, and
//! every value between them by serde_json.

use serde::de::{Deserialize, DeserializeSeed as _, Deserializer, IgnoredAny};
use serde_json::value::RawValue;

use crate::Rejection;
use crate::json::{self, Lenient, Object};

/// Reads the object that is the whole of `text`; returns whether it has the list. Null in its place is no list.
///
/// - `list`: name of the member that is the list. If it comes twice, the items of both are.
/// - `on_item`: takes the text of each item, and what it reads as. `None`: it is no object, or one whose names cannot be
///   read.
/// - `on_member`: takes name and value of every other member. The name is as it stands between its quotes.
///
/// # Errors
/// [`Rejection::Malformed`] if it is no JSON object, or something else stands for the list. Items may have been handed over
/// by then; they do not count.
pub(crate) fn read<'a, T: Object<'a>>(
    text: &'a str,
    list: &str,
    on_item: impl FnMut(&'a str, Option<T>),
    on_member: impl FnMut(&'a str, &'a RawValue),
) -> Result<bool, Rejection> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.object(list, on_item, on_member).map_err(|trouble| match trouble {
        Trouble::NoList => Rejection::Malformed { what: format!("`{list}`"), expected: "a list" },
        // Its own words say where, counted from the beginning.
        Trouble::NotJson => match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) => json::not_json(&error),
            Ok(_) => Rejection::Malformed { what: "body".into(), expected: "a JSON object" },
        },
    })
}

enum Trouble {
    NotJson,
    NoList,
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn object<T: Object<'a>>(
        &mut self,
        list: &str,
        mut on_item: impl FnMut(&'a str, Option<T>),
        mut on_member: impl FnMut(&'a str, &'a RawValue),
    ) -> Result<bool, Trouble> {
        let mut has_list = false;
        self.mark(b'{')?;
        let mut more = !self.is_at(b'}');
        while more {
            let name: &RawValue = self.value()?;
            let name = name.get().strip_prefix('"').and_then(|name| name.strip_suffix('"')).ok_or(Trouble::NotJson)?;
            self.mark(b':')?;
            if name == list {
                has_list |= self.list(&mut on_item)?;
            } else {
                on_member(name, self.value()?);
            }
            more = self.goes_on(b'}')?;
        }
        self.mark(b'}')?;
        if self.rest().is_empty() { Ok(has_list) } else { Err(Trouble::NotJson) }
    }

    fn list<T: Object<'a>>(&mut self, on_item: &mut impl FnMut(&'a str, Option<T>)) -> Result<bool, Trouble> {
        if !self.is_at(b'[') {
            let value: &RawValue = self.value()?;
            return if value.get() == "null" { Ok(false) } else { Err(Trouble::NoList) };
        }
        self.mark(b'[')?;
        let mut more = !self.is_at(b']');
        while more {
            let (raw, item) = self.item()?;
            on_item(raw, item);
            more = self.goes_on(b']')?;
        }
        self.mark(b']').map(|()| true)
    }

    fn item<T: Object<'a>>(&mut self) -> Result<(&'a str, Option<T>), Trouble> {
        let is_object = self.is_at(b'{');
        let from = self.at;
        if is_object && let Ok(Read(item)) = self.value() {
            return Ok((&self.text[from..self.at], Some(item)));
        }
        // The others must not suffer for names with half an emoji, or for nesting that serde_json refuses: where the item
        // ends can still be found.
        let raw: &RawValue = self.value()?;
        Ok((raw.get(), None))
    }

    /// The next value.
    fn value<T: Deserialize<'a>>(&mut self) -> Result<T, Trouble> {
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter();
        let value = values.next().and_then(Result::ok).ok_or(Trouble::NotJson)?;
        self.at += values.byte_offset();
        Ok(value)
    }

    /// What is left, without blanks before.
    fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_start_matches([' ', '\n', '\r', '\t']);
        self.at = self.text.len() - rest.len();
        rest
    }

    fn is_at(&mut self, mark: u8) -> bool {
        self.rest().as_bytes().first() == Some(&mark)
    }

    fn mark(&mut self, mark: u8) -> Result<(), Trouble> {
        if !self.is_at(mark) {
            return Err(Trouble::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// Whether a comma follows rather than the end.
    fn goes_on(&mut self, end: u8) -> Result<bool, Trouble> {
        if self.is_at(end) {
            return Ok(false);
        }
        self.mark(b',').map(|()| true)
    }
}

struct Read<T>(T);

impl<'a, T: Object<'a>> Deserialize<'a> for Read<T> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        Lenient::new().deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Members;

    /// What is handed over, in its order.
    fn handed(text: &str) -> Result<(bool, Vec<String>), String> {
        let seen = std::cell::RefCell::new(Vec::new());
        let has_list = read(
            text,
            "list",
            |raw, item: Option<Members<'_>>| seen.borrow_mut().push(format!("{raw} {}", item.is_some())),
            |name, value| seen.borrow_mut().push(format!("{name}={}", value.get())),
        );
        has_list.map(|has_list| (has_list, seen.into_inner())).map_err(|error| error.to_string())
    }

    #[test]
    fn items_and_members_are_handed_over_as_they_stand() {
        let text = " {\n\t\"a\" : [ 1 , 2 ] ,\r\n \"list\" : [ \n {\"x\":1} \n , { \"y\" : [ ] } , 7, \"s\" ,null] , \"b\":{}} ";
        let seen =
            ["a=[ 1 , 2 ]", "{\"x\":1} true", "{ \"y\" : [ ] } true", "7 false", "\"s\" false", "null false", "b={}"];
        assert_eq!(handed(text), Ok((true, seen.map(str::to_owned).to_vec())));
        assert_eq!(handed("{}"), Ok((false, vec![])));
        assert_eq!(handed(r#"{"list":null}"#), Ok((false, vec![])));
        assert_eq!(handed(r#"{"list":[]}"#), Ok((true, vec![])));
    }

    #[test]
    fn an_item_whose_names_cannot_be_read_costs_no_other() {
        let seen = [r#"{"\ud83d":1} false"#, r#"{"a":1} true"#];
        assert_eq!(handed(r#"{"list":[{"\ud83d":1}, {"a":1}]}"#), Ok((true, seen.map(str::to_owned).to_vec())));
    }

    #[test]
    fn what_is_no_such_object_says_where() {
        for (text, place) in [
            (r#"{"list":[1,]}"#, "line 1 column 12"),
            (r#"{"list":[1 2]}"#, "line 1 column 12"),
            ("{\n\"list\":[{\"x\":}]}", "line 2 column 14"),
            (r#"{"list":[] "x":1}"#, "line 1 column 12"),
            (r#"{"list":[],}"#, "line 1 column 12"),
            (r#"{"list":[]} x"#, "line 1 column 13"),
            (r#"{"list" []}"#, "line 1 column 9"),
            (r#"{7:[]}"#, "line 1 column 2"),
            (r#"{"list":[{}"#, "line 1 column 11"),
            ("{", "line 1 column 1"),
        ] {
            assert_eq!(handed(text), Err(format!("body at {place} is not valid JSON")), "{text}");
        }
        assert_eq!(handed(r#"{"list":"secret"}"#), Err("`list` is not a list".into()));
        assert_eq!(handed("[]"), Err("body is not a JSON object".into()));
    }
}
