//! A batch, read in one pass: each item becomes an event where it stands, and its text is at hand if it does not.
//!
//! serde_json alone reads a list of objects and does not say where one begins; taking the texts first and reading them
//! again costs a second pass over the whole body. So the outermost marks (`{`, `:`, `,`, `[`) are read here, and every
//! value between them by serde_json.

use serde::de::{Deserialize, DeserializeSeed as _, Deserializer, IgnoredAny};
use serde_json::value::RawValue;

use super::event::Place;
use super::fields::{ContextFields, Fields, Value};
use crate::json::{self, Lenient};
use crate::{Item, Rejection};

/// A batch, its items made into what they became.
#[derive(Default)]
pub(super) struct Batch<'a> {
    /// The first ones, as many as were asked for; `None` if there is no list.
    pub items: Option<Vec<Item>>,
    /// How many there are in all.
    pub count: usize,
    pub write_key: Value<'a>,
    pub sent_at: Value<'a>,
    /// Stands for what an item's own context leaves out.
    pub context: Option<ContextFields<'a>>,
}

/// Reads the batch that is the whole of `text`.
///
/// - `items_max`: items that are kept; more are counted.
///
/// # Errors
/// [`Rejection::Malformed`] if it is not JSON, or `batch` is something else than a list.
pub(super) fn read(text: &str, items_max: usize) -> Result<Batch<'_>, Rejection> {
    let batch = read_with(text, items_max, None)?;
    match &batch.context {
        None => Ok(batch),
        // Hardly any tracker sends one. It may stand behind the items, so they are read once more.
        Some(context) => read_with(text, items_max, Some(context)),
    }
}

fn read_with<'a>(text: &'a str, items_max: usize, outer: Option<&ContextFields<'a>>) -> Result<Batch<'a>, Rejection> {
    let mut batch = Batch::default();
    let outcome = Cursor { text, at: 0 }.batch(&mut batch, items_max, outer);
    outcome.map(|()| batch).map_err(|trouble| match trouble {
        Trouble::NoList => Rejection::Malformed { what: "`batch`".into(), expected: "a list of events" },
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
    fn batch(
        &mut self,
        batch: &mut Batch<'a>,
        items_max: usize,
        outer: Option<&ContextFields<'a>>,
    ) -> Result<(), Trouble> {
        self.mark(b'{')?;
        let mut more = !self.is_at(b'}');
        while more {
            let name: &RawValue = self.value()?;
            let name = Some(name.get()).filter(|name| name.starts_with('"')).ok_or(Trouble::NotJson)?;
            self.mark(b':')?;
            match name {
                r#""batch""# => self.items(batch, items_max, outer)?,
                r#""writeKey""# => batch.write_key = Some(self.value()?),
                r#""sentAt""# => batch.sent_at = Some(self.value()?),
                r#""context""# => batch.context = Some(self.value()?),
                _ => drop(self.value::<IgnoredAny>()?),
            }
            more = self.goes_on(b'}')?;
        }
        self.mark(b'}')?;
        if self.rest().is_empty() { Ok(()) } else { Err(Trouble::NotJson) }
    }

    fn items(
        &mut self,
        batch: &mut Batch<'a>,
        items_max: usize,
        outer: Option<&ContextFields<'a>>,
    ) -> Result<(), Trouble> {
        (batch.items, batch.count) = (None, 0);
        if !self.is_at(b'[') {
            let value: &RawValue = self.value()?;
            return if value.get() == "null" { Ok(()) } else { Err(Trouble::NoList) };
        }
        self.mark(b'[')?;
        let items = batch.items.insert(Vec::new());
        let mut more = !self.is_at(b']');
        while more {
            batch.count += 1;
            if batch.count <= items_max {
                items.push(self.item(items.len(), outer)?);
            } else {
                self.value::<IgnoredAny>()?;
            }
            more = self.goes_on(b']')?;
        }
        self.mark(b']')
    }

    fn item(&mut self, index: usize, outer: Option<&ContextFields<'a>>) -> Result<Item, Trouble> {
        let from = self.at;
        if self.is_at(b'{') {
            if let Ok(fields) = self.value() {
                let raw = self.text[from..self.at].trim_start();
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                return Ok(super::item(fields, &Place { kind: None, index, outer, bytes: raw.len() }, raw));
            }
            // The others must not suffer for names with half an emoji, or for nesting that serde_json refuses.
            self.at = from;
        }
        let raw: &RawValue = self.value()?;
        let reason = Rejection::Malformed { what: "item of the batch".into(), expected: "a JSON object" };
        Ok(Item::Rejected { reason, content: raw.get().as_bytes().to_vec() })
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

impl<'a> Deserialize<'a> for Fields<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        Lenient::new().deserialize(deserializer)
    }
}

impl<'a> Deserialize<'a> for ContextFields<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        Lenient::new().deserialize(deserializer)
    }
}
