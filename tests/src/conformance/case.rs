//! One case, as its file has it, and what an adapter has looked at.
//!
//! An expectation or a rule that nobody reads must not pass in silence. So [`Fields`] remembers what was read, and
//! [`Case::unread`] tells what was not.

use std::cell::RefCell;
use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As expected.
    Passed,
    /// Ours says something else.
    Failed {
        /// What was expected and what came.
        why: String,
    },
    /// We decided not to do what the case asks for, or not yet.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// Passed if both are equal, else failed with both.
    pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: &T) -> Self {
        if expected == found {
            return Self::Passed;
        }
        Self::Failed { why: format!("{what}: expected {expected:?}, found {found:?}") }
    }

    /// Failed, for this reason.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into() }
    }

    /// Skipped, for this reason.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped { reason: reason.into() }
    }

    /// The first that is not passed, of several comparisons of one case.
    pub fn all(outcomes: impl IntoIterator<Item = Self>) -> Self {
        outcomes.into_iter().find(|outcome| *outcome != Self::Passed).unwrap_or(Self::Passed)
    }
}

/// One case.
#[derive(Debug)]
pub struct Case {
    /// Its name, unique over all files.
    pub id: String,
    /// Whose semantics it has: the system, and its test.
    pub source: String,
    /// What it is about.
    pub title: String,
    /// The input, as listed in the file.
    pub events: Vec<CaseEvent>,
    /// What it says beside that.
    pub note: String,
    query: Value,
    expected: Value,
    reading: Reading,
}

/// One event of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseEvent {
    /// An id of who did it.
    pub user: String,
    /// Its name.
    pub event: String,
    /// When it happened, in ms since 1970 UTC.
    pub time_ms: i64,
    /// All else that was sent.
    pub props: Map<String, Value>,
    /// Id of the event itself.
    pub event_id: Option<String>,
    /// Place in the order of arrival, from 0.
    pub arrival: Option<u64>,
    /// What it was done with.
    pub device: Option<String>,
}

/// What has been read, and what was of another type than the adapter takes.
#[derive(Debug, Default)]
struct Reading {
    read: RefCell<HashSet<String>>,
    problems: RefCell<Vec<String>>,
}

impl Case {
    /// Takes a case out of its file.
    ///
    /// # Errors
    /// A sentence that names the key that is missing, unknown or of another type.
    pub fn parse(value: Value) -> Result<Self, String> {
        let mut fields = object(value, "the case")?;
        let id = text(&mut fields, "id")?;
        let source = text(&mut fields, "source")?;
        text(&mut fields, "kind")?;
        let title = text(&mut fields, "title")?;
        let Some(Value::Array(events)) = fields.remove("events") else { return Err("`events` is not a list".into()) };
        let events = events.into_iter().map(CaseEvent::parse).collect::<Result<_, _>>()?;
        let query = Value::Object(object(fields.remove("query").unwrap_or_default(), "`query`")?);
        let expected = Value::Object(object(fields.remove("expected").unwrap_or_default(), "`expected`")?);
        let note = optional_text(&mut fields, "note")?.unwrap_or_default();
        none_left(&fields, "the case")?;
        Ok(Self { id, source, title, events, note, query, expected, reading: Reading::default() })
    }

    /// The question, and the rule that the case asks it by.
    #[must_use]
    pub fn query(&self) -> Fields<'_> {
        self.fields("query", &self.query)
    }

    /// What the source asserts.
    #[must_use]
    pub fn expected(&self) -> Fields<'_> {
        self.fields("expected", &self.expected)
    }

    /// Events in the order in which they arrive: as `arrival` says, else as listed.
    #[must_use]
    pub fn arrivals(&self) -> Vec<&CaseEvent> {
        let mut events: Vec<&CaseEvent> = self.events.iter().collect();
        events.sort_by_key(|event| event.arrival);
        events
    }

    /// Keys of question and expectation that no adapter has read, and values of types that it does not take. Notes (`…_note`)
    /// are for people.
    #[must_use]
    pub fn unread(&self) -> Vec<String> {
        let mut found = self.reading.problems.borrow().clone();
        let read = self.reading.read.borrow();
        for (name, value) in [("query", &self.query), ("expected", &self.expected)] {
            unread(name, value, &read, &mut found);
        }
        found
    }

    fn fields<'a>(&'a self, path: &str, value: &'a Value) -> Fields<'a> {
        let Value::Object(map) = value else { unreachable!("`{path}` was parsed as an object") };
        Fields { map, path: path.to_owned(), reading: &self.reading }
    }
}

fn unread(path: &str, value: &Value, read: &HashSet<String>, found: &mut Vec<String>) {
    if read.contains(path) || path.ends_with("_note") {
        return;
    }
    let below = |inner: &str| read.iter().any(|other| other.starts_with(inner));
    match value {
        Value::Object(map) if matches!(path, "query" | "expected") || below(&format!("{path}.")) => {
            for (key, value) in map {
                unread(&format!("{path}.{key}"), value, read, found);
            }
        }
        Value::Array(values) if below(&format!("{path}[")) => {
            for (at, value) in values.iter().enumerate() {
                unread(&format!("{path}[{at}]"), value, read, found);
            }
        }
        _ => found.push(format!("`{path}` is not looked at")),
    }
}

/// An object within a case. What is read through it counts as looked at; a key of another type than asked for counts as
/// absent, and fails the case.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    reading: &'a Reading,
}

impl<'a> Fields<'a> {
    /// A value and all below it. JSON's null is a value.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        let value = self.map.get(key)?;
        self.reading.read.borrow_mut().insert(format!("{}.{key}", self.path));
        Some(value)
    }

    /// A text. Null counts as absent.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A whole number.
    #[must_use]
    pub fn whole(&self, key: &str) -> Option<i64> {
        self.typed(key, "a whole number", Value::as_i64)
    }

    /// Any number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<f64> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// True or false.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A time, in ms since 1970 UTC.
    #[must_use]
    pub fn time_ms(&self, key: &str) -> Option<i64> {
        self.typed(key, "a time", |value| time_ms(value.as_str()?))
    }

    /// A list of texts.
    #[must_use]
    pub fn texts(&self, key: &str) -> Option<Vec<&'a str>> {
        self.typed(key, "a list of texts", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// An object.
    #[must_use]
    pub fn inner(&self, key: &str) -> Option<Self> {
        let map = self.container(key, "an object", Value::as_object)?;
        Some(Self { map, path: format!("{}.{key}", self.path), reading: self.reading })
    }

    /// A list of objects.
    #[must_use]
    pub fn list(&self, key: &str) -> Option<Vec<Self>> {
        let all = |value: &'a Value| value.as_array()?.iter().map(Value::as_object).collect::<Option<Vec<_>>>();
        let maps = self.container(key, "a list of objects", all)?;
        let fields = |(at, map)| Self { map, path: format!("{}.{key}[{at}]", self.path), reading: self.reading };
        Some(maps.into_iter().enumerate().map(fields).collect())
    }

    /// Its keys. Reading them is not reading their values.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    /// Whether there is such a key, also with null.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    fn typed<T>(&self, key: &str, kind: &str, as_kind: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.value(key).filter(|value| !value.is_null())?;
        self.checked(key, kind, as_kind(value))
    }

    /// One whose own keys are each to be read. An empty one has none: it is read with this.
    fn container<T>(&self, key: &str, kind: &str, as_kind: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        if value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty) {
            self.reading.read.borrow_mut().insert(format!("{}.{key}", self.path));
        }
        self.checked(key, kind, as_kind(value))
    }

    fn checked<T>(&self, key: &str, kind: &str, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.reading.problems.borrow_mut().push(format!("`{}.{key}` is not {kind}", self.path));
        }
        found
    }
}

impl CaseEvent {
    fn parse(value: Value) -> Result<Self, String> {
        let mut fields = object(value, "an event")?;
        let time = text(&mut fields, "ts")?;
        let event = Self {
            user: text(&mut fields, "user")?,
            event: text(&mut fields, "event")?,
            time_ms: time_ms(&time).ok_or_else(|| format!("`ts` of an event is no time: {time}"))?,
            props: object(fields.remove("props").unwrap_or_else(|| Value::Object(Map::new())), "`props`")?,
            event_id: optional_text(&mut fields, "event_id")?,
            arrival: match fields.remove("arrival") {
                None | Some(Value::Null) => None,
                Some(value) => Some(value.as_u64().ok_or("`arrival` of an event is no number")?),
            },
            device: optional_text(&mut fields, "device")?,
        };
        none_left(&fields, "an event")?;
        Ok(event)
    }
}

/// ISO 8601 with a zone, as all times of cases are. A day alone is its first moment, UTC.
#[must_use]
pub fn time_ms(text: &str) -> Option<i64> {
    let time = text.parse::<Timestamp>().or_else(|_| format!("{text}T00:00:00Z").parse());
    time.ok().map(Timestamp::as_millisecond)
}

fn object(value: Value, what: &str) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(format!("{what} is not an object")),
    }
}

fn text(fields: &mut Map<String, Value>, key: &str) -> Result<String, String> {
    optional_text(fields, key)?.ok_or_else(|| format!("`{key}` is missing"))
}

fn optional_text(fields: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match fields.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{key}` is not a text")),
    }
}

fn none_left(fields: &Map<String, Value>, what: &str) -> Result<(), String> {
    match fields.keys().next() {
        None => Ok(()),
        Some(key) => Err(format!("{what} has an unknown key `{key}`")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn case(query: Value, expected: Value) -> Case {
        let case = json!({"id": "i", "source": "s", "kind": "k", "title": "t", "events": [], "query": query,
                          "expected": expected});
        Case::parse(case).expect("a case")
    }

    #[test]
    fn what_is_not_read_is_told() {
        let case = case(
            json!({"gap": 1, "gap_note": "for people", "site": {"urls": ["a"], "more": 1}}),
            json!({"sessions": [{"start": 1, "end": 2}, {"start": 3}], "count": 2, "empty": []}),
        );
        assert_eq!(case.unread().len(), 5, "{:?}", case.unread());
        assert_eq!(case.query().whole("gap"), Some(1));
        let site = case.query().inner("site").expect("a site");
        assert_eq!(site.texts("urls"), Some(vec!["a"]));
        for session in case.expected().list("sessions").expect("sessions") {
            let _ = session.whole("start");
        }
        assert!(case.expected().list("empty").expect("a list").is_empty());
        assert_eq!(
            case.unread(),
            [
                "`query.site.more` is not looked at",
                "`expected.count` is not looked at",
                "`expected.sessions[0].end` is not looked at"
            ]
        );
    }

    #[test]
    fn another_type_than_asked_for_is_told() {
        let case = case(json!({}), json!({"channel": 1, "term": null}));
        assert_eq!((case.expected().text("channel"), case.expected().text("term")), (None, None));
        assert_eq!(case.unread(), ["`expected.channel` is not a text"]);
    }

    #[test]
    fn unknown_keys_are_named() {
        let base =
            json!({"id": "i", "source": "s", "kind": "k", "title": "t", "events": [], "query": {}, "expected": {}});
        let mut of_case = base.clone();
        of_case["more"] = json!(1);
        assert_eq!(Case::parse(of_case).err().as_deref(), Some("the case has an unknown key `more`"));
        let mut of_event = base;
        of_event["events"] = json!([{"user": "u", "event": "e", "ts": "2024-01-10T12:00:00.5Z", "props": {}, "x": 1}]);
        assert_eq!(Case::parse(of_event).err().as_deref(), Some("an event has an unknown key `x`"));
    }

    #[test]
    fn events_come_in_order_of_arrival() {
        let event = |name: &str, arrival| json!({"user": name, "event": "e", "ts": "2024-01-10T12:00:00.25Z", "arrival": arrival});
        let value = json!({"id": "i", "source": "s", "kind": "k", "title": "t", "query": {}, "expected": {},
                           "events": [event("b", 1), event("a", 0)]});
        let case = Case::parse(value).expect("a case");
        let order: Vec<&str> = case.arrivals().iter().map(|event| event.user.as_str()).collect();
        assert_eq!((order, case.events[0].time_ms), (vec!["a", "b"], 1_704_888_000_250));
    }
}
