//! Laws of every protocol, for bytes that mean nothing and for texts that nearly mean something.
//!
//! The words of those texts are the ones that the protocols' sources know, and the paths are those too, and the ones of
//! captured requests; so a protocol that is added is covered without a line here.

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use trackway_wire::protocol::{ALL, Head, Method};

use crate::law::known;

mod law;

struct Known {
    /// Those that some protocol claims.
    paths: Vec<String>,
    words: Vec<String>,
    requests: Vec<Vec<u8>>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let words = known::words();
    let requests: Vec<_> = known::captured().into_iter().filter(|request| law::request(request).is_some()).collect();
    let captured = requests.iter().filter_map(|request| law::Given::of(request)).map(|given| given.path.to_owned());
    let literal = |word: &String| if word.starts_with('/') { word.clone() } else { format!("/v1/{word}") };
    let paths: BTreeSet<_> = words.iter().map(literal).chain(captured).collect();
    let is_claimed =
        |path: &String| METHODS.iter().any(|method| law::request(format!("{method} {path}\n\n").as_bytes()).is_some());
    Known { paths: paths.into_iter().filter(is_claimed).collect(), words: words.into_iter().collect(), requests }
});

const METHODS: [&str; 2] = ["GET", "POST"];

fn word() -> impl Strategy<Value = &'static str> {
    select(KNOWN.words.iter().map(String::as_str).collect::<Vec<_>>())
}

const ODD: [&str; 10] =
    ["", "0", "-1.50", "1e400", "1795360810.973", "1795360810973000", "9007199254740993", "null", "é ✓\u{1}", "a\"b\\"];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![3 => word().prop_map(str::to_owned), 3 => select(&ODD[..]).prop_map(str::to_owned), 1 => "[ -~]{0,12}"]
}

fn path() -> impl Strategy<Value = &'static str> {
    select(KNOWN.paths.iter().map(String::as_str).collect::<Vec<_>>())
}

/// JSON of known words.
fn json() -> impl Strategy<Value = String> {
    let text = value().prop_map(|value| serde_json::to_string(&value).expect("text"));
    let bare =
        select(&["null", "true", "7", "-1.50", "9007199254740993", "NaN", r#""\ud83d""#][..]).prop_map(str::to_owned);
    prop_oneof![2 => text, 1 => bare].prop_recursive(4, 40, 6, |inner| {
        let member = (word(), inner.clone()).prop_map(|(name, value)| format!(r#""{name}":{value}"#));
        let object = vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(",")));
        prop_oneof![4 => object, 1 => vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(",")))]
    })
}

fn form() -> impl Strategy<Value = String> {
    let value = prop_oneof![4 => value(), 1 => json()];
    let pair = (word(), value).prop_map(|(name, value)| {
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        format!("{name}={value}")
    });
    vec(pair, 0..8).prop_map(|pairs| pairs.join("&"))
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => json().prop_map(String::into_bytes),
        2 => form().prop_map(String::into_bytes),
        1 => vec(form(), 0..15).prop_map(|lines| lines.join("\n").into_bytes()),
        1 => vec(any::<u8>(), 0..200),
        // A text that was cut.
        1 => (json(), 0_usize..200).prop_map(|(text, at)| text.as_bytes()[..at.min(text.len())].to_vec()),
    ]
}

fn headers() -> impl Strategy<Value = String> {
    let name = prop_oneof![word(), select(&["cookie", "authorization", "content-type"][..])];
    let value = prop_oneof![value(), Just("Basic d2s6".to_owned())];
    vec((name, value), 0..3).prop_map(|headers| {
        let line = |(name, value): (&str, String)| format!("{name}: {}\n", value.replace(['\n', '\r'], " "));
        headers.into_iter().map(line).collect()
    })
}

/// A captured request in which some pieces are replaced by others.
fn tampered() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        2 => value().prop_map(String::into_bytes),
        2 => json().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..4),
        1 => select(&["\"", "{", "]", ",", "&", "=", "%", "\n", "~", "\\"][..]).prop_map(|mark| mark.as_bytes().to_vec()),
    ];
    let edit = (any::<proptest::sample::Index>(), 0_usize..12, piece);
    (select(&KNOWN.requests[..]), vec(edit, 1..5)).prop_map(|(mut request, edits)| {
        for (place, cut, piece) in edits {
            let start = place.index(request.len());
            let end = request.len().min(start + cut);
            request.splice(start..end, piece);
        }
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn likely_requests_obey(method in select(&METHODS[..]), path in path(), query in form(),
                            headers in headers(), body in body()) {
        let head = format!("{method} {path}?{query}\n{headers}\n");
        law::request(&[head.as_bytes(), &body].concat());
    }

    #[test]
    fn captured_requests_that_were_tampered_with_obey(request in tampered()) {
        law::request(&request);
    }

    #[test]
    fn arbitrary_bytes_obey(path in path(), query in "[ -~é]{0,80}", body in vec(any::<u8>(), 0..200)) {
        for method in METHODS {
            law::request(&[format!("{method} {path}?{query}\n\n").as_bytes(), &body].concat());
        }
    }

    #[test]
    fn arbitrary_records_obey(kind in 0_u8..16, bytes in vec(any::<u8>(), 0..200)) {
        law::record(&[&[kind, trackway_wire::log::VERSION], &bytes[..]].concat());
        law::record(&[&[kind], &bytes[..]].concat());
    }
}

#[test]
fn every_protocol_is_among_the_likely_requests() {
    // Otherwise the laws would hold for nothing.
    for protocol in ALL {
        let claims = |path: &str, method| {
            protocol.claims(&Head { method, path, query: "", headers: &|_| None, fresh_id: &|| "" })
        };
        let claimed = |path: &String| claims(path, Method::Get) || claims(path, Method::Post);
        assert!(KNOWN.paths.iter().any(claimed), "{}", protocol.name());
    }
}

#[test]
fn many_requests_that_were_tampered_with_still_have_events() {
    let mut runner = TestRunner::deterministic();
    let mut with_events = 0;
    for _ in 0..300 {
        let request = tampered().new_tree(&mut runner).expect("a tree").current();
        with_events += usize::from(law::request(&request).is_some_and(|events| events > 0));
    }
    assert!(with_events > 50, "{with_events} of 300");
}

#[test]
fn what_was_found_once_stays_found() {
    let folder = known::crate_folder().join("tests/found");
    for file in known::files(&folder, "http") {
        assert!(law::request(&fs::read(&file).expect("a file")).is_some(), "{} is not claimed", file.display());
    }
    for file in known::files(&folder, "record") {
        law::record(&fs::read(&file).expect("a file"));
    }
}
