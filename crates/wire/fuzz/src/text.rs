//! The helpers that protocols read JSON and times with. They are private, so their sources are taken in here.

#![no_main]

#[path = "../../src/client_time.rs"]
mod client_time;
#[path = "../../src/json.rs"]
#[expect(dead_code, reason = "not every helper is under test")]
mod json;
#[path = "../../src/json_marks.rs"]
mod json_marks;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use trackway_wire::Rejection;
use trackway_wire_fuzz::start;

fuzz_target!(init: start::write_bodies("text"), |bytes: &[u8]| {
    let text = json::body_text(bytes);
    let _ = client_time::of_text(&text);
    a_string_comes_back(&text);
    let without_nan = json_marks::without_nan(&text);
    let Ok(raw) = serde_json::from_str::<&RawValue>(&text) else { return };
    assert_eq!(without_nan, None, "JSON has no such words");
    let (shape, repaired) = (json_marks::measure(&text), json_marks::repaired(&text));
    assert_eq!(json_marks::measure(&repaired), json_marks::Shape { broken_escape: false, ..shape });
    let _ = client_time::of_value(raw);
    let _ = json::text(raw);
    // serde_json's own values have no room for deep nesting, for numbers beyond f64, and for a name that comes twice.
    if let Ok(value) = serde_json::from_str::<Value>(&repaired) {
        assert!(deepest(&value) <= shape.depth, "{} is less than {}", shape.depth, deepest(&value));
        if let Value::String(whole) = &value {
            assert_eq!(json::text(raw).as_deref(), Some(&**whole));
        }
    }
    if let Some(items) = json::list(&text, 10) {
        assert!(items.len() <= 11);
    }
    if text.starts_with('{') {
        let members: json::Members<'_> = json::object(&text).expect("it is JSON");
        let object = members.object_text();
        let whole: json::Members<'_> = json::object(&object).unwrap_or_else(|error| panic!("{error}: {object}"));
        assert_eq!(whole.object_text(), object);
    }
});

fn a_string_comes_back(text: &str) {
    let mut object = json::ObjectText::from("{}", 0);
    object.text("", "x");
    object.nested(text, |inner| inner.text(text, text));
    let object = object.finish();
    let value: Value = serde_json::from_str(&object).unwrap_or_else(|error| panic!("{error}: {object}"));
    assert_eq!(value[text][text], text);
}

/// Recursive, as serde_json has limited the depth.
fn deepest(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(deepest).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(deepest).max().unwrap_or(0),
        _ => 0,
    }
}
