//! Queries, of the pixel and of those who put their key there.

use crate::row::{Row, event, get, post_as};

const PIXEL: &str = "/v1/pixel.gif?writeKey=wk";

pub(super) fn rows() -> Vec<Row> {
    let pixel = |name: &str, query: &str| Row::new(name, get(&format!("{PIXEL}&{query}"), ""));
    let taken = |name: &str, query: &str, event: &str| pixel(name, query).says(200, "GIF89a").keeps(event);
    let refused = |name: &str, query: &str, code, message: &'static str| {
        pixel(name, query).says(200, format!("x-trackway-rejected: {message}")).rejects(code, message)
    };
    vec![
        taken("percent signs that mean nothing", "event=100%&anonymousId=%zz%&%=%", "100%"),
        taken("NUL in a query", "event=nul%00&anonymousId=a%00", "nul\0"),
        taken("a name that is encoded twice is decoded once", "event=%2541&anonymousId=a", "%41"),
        taken("plus signs", "event=a+b%2Bc&anonymousId=a", "a b+c"),
        taken("bytes that are no UTF-8 in a query", "event=%ff%fe&anonymousId=a", "\u{fffd}\u{fffd}"),
        taken("line breaks in a query", "event=a%0d%0aset-cookie:+x=y&anonymousId=a", "a\r\nset-cookie: x=y"),
        taken("names that are said twice in a query", "event=first&event=last&anonymousId=a", "last"),
        taken("a hundred times nothing", &format!("event=nothing&anonymousId=a{}", "&".repeat(1000)), "nothing"),
        taken("a question in a query", "event=q?x=y?&anonymousId=a", "q?x=y?"),
        refused(
            "9000 parameters",
            &format!("event=x&anonymousId=a&{}", (0..9000).map(|n| format!("{n}=&")).collect::<String>()),
            "too_large",
            "size of the properties of event `x` is 9 000 keys, limit is 1 024",
        ),
        taken(
            "a parameter 10 000 times is one",
            &format!("event=same&anonymousId=a&{}", "p.x=1&".repeat(10_000)),
            "same",
        ),
        refused("no event", "anonymousId=a", "missing_field", "`event` is missing"),
        refused("nobody", "event=x", "missing_field", "`anonymousId` is missing"),
        refused(
            "an id of 60 kB in a query",
            &format!("event=x&anonymousId={}", "x".repeat(60_000)),
            "too_large",
            "`anonymousId` is 60 000 bytes",
        ),
        refused(
            "a name that would be another header",
            &format!("event={}%0d%0aset-cookie:x=y", "x".repeat(600)),
            "too_large",
            "name of event `xxx",
        ),
        Row::new("a pixel with the key of nobody", get("/v1/pixel.gif?writeKey=nobody&event=x&anonymousId=a", ""))
            .says(200, "x-trackway-rejected: write key is not known"),
        Row::new("a pixel without a key", get("/v1/pixel.gif", ""))
            .says(200, "x-trackway-rejected: write key is missing"),
        Row::new("a key in the query that is encoded", post_as("", "/v1/track?writeKey=%77%6b", "", event("key")))
            .taken("key"),
        Row::new(
            "a key of 60 kB in the query",
            post_as("", &format!("/v1/track?writeKey={}", "k".repeat(60_000)), "", event("key")),
        )
        .says(401, "write key is not known"),
    ]
}
