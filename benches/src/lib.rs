//! What the benches share: the synthetic stream, CPU time, and how a result is printed.
//!
//! Machines are shared and noisy, so a figure is CPU time of the process (user + system, all threads) per million events,
//! beside a named baseline measured in the same run. Nothing here asserts a time.

pub mod logs;
pub mod rows;
pub mod server;

use std::time::Duration;

use trackway_domain::event::{Campaign, Context, Event, EventKind, KeySource, ReceivedEvent, TimeSource};
use trackway_domain::id::{EventKey, ProjectId, Visitor};
use trackway_domain::time::{EventTime, ReceivedAt};

/// Event `i` of `n` of the synthetic stream: visitor (of 200,000, skewed) and event time in ms, within 24 hours and with
/// up to 5 s of disorder. All arithmetic wraps around on 64 bits. 20,000,000 events have 3,018,775 sessions of 30 min.
#[must_use]
pub fn synthetic(i: u64, n: u64) -> (u64, i64) {
    let h = mix(i);
    let u = (h >> 11) as f64 / (1_u64 << 53) as f64;
    let visitor = (200_000.0 * u * u * u).floor() as u64;
    let disorder = mix(h) % 5_000;
    let time = 1_700_000_000_000 + (i * 86_400_000 / n) as i64 - disorder as i64;
    (visitor, time)
}

fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Names of a shop's events; event `i` has name `i` modulo their number.
pub const NAMES: [&str; 7] =
    ["catalog", "product_view", "add_to_cart", "cart", "shipping_details", "payment_details", "purchase"];

/// The project of all benches.
#[must_use]
pub fn shop() -> ProjectId {
    ProjectId::parse("shop").expect("a project id")
}

/// A realistic event: name, page, referrer, user agent out of some hundred, ten properties.
#[must_use]
pub fn realistic(i: u64, n: u64) -> Event {
    let (visitor, time) = synthetic(i, n);
    let id = format!("evt-{i:012}");
    Event {
        visitor: Visitor::Device(format!("visitor-{visitor:08}")),
        time: EventTime(time),
        time_source: TimeSource::Client,
        key: EventKey::of_id(&shop(), &id),
        key_source: KeySource::Id,
        received: ReceivedEvent {
            kind: if i.is_multiple_of(3) { EventKind::Page } else { EventKind::Track },
            name: NAMES[(mix(i ^ 7) % 7) as usize].to_owned(),
            id: Some(id),
            visitor: None,
            user_id: None,
            other_id: None,
            client_time_ms: Some(time),
            sent_at_ms: Some(time + 120),
            sequence: 0,
            context: Context {
                url: format!("https://shop.example/category/{}/product/{}?ref=list", i % 37, i % 1_009),
                title: "A product of the shop".to_owned(),
                referrer: if i.is_multiple_of(5) {
                    "https://www.google.com/".to_owned()
                } else {
                    "https://shop.example/".to_owned()
                },
                page_name: String::new(),
                user_agent: String::new(),
                locale: "de-DE".to_owned(),
                screen: (1920, 1080),
                library: "analytics.js".to_owned(),
                library_version: "1.84.3".to_owned(),
                campaign: Campaign::default(),
                ..Context::default()
            },
            revenue: None,
            properties: format!(
                r#"{{"sku":"sku-{}","price":19.99,"currency":"EUR","quantity":{},"category":"shoes","brand":"acme","variant":"blue","position":{},"list":"search","coupon":null}}"#,
                i % 1_009,
                i % 5,
                i % 48
            ),
            traits: "{}".to_owned(),
        },
    }
}

/// A user agent out of three hundred.
#[must_use]
pub fn user_agent(i: u64) -> String {
    format!(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36",
        100 + i % 300
    )
}

/// CPU time of a process so far, user and system, all its threads. `None` for this one.
///
/// # Panics
/// Where there is no `/proc` (the benches run on Linux).
#[must_use]
pub fn cpu_time(pid: Option<u32>) -> Duration {
    let path = pid.map_or("/proc/self/stat".to_owned(), |pid| format!("/proc/{pid}/stat"));
    let stat = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // The second field is a name in brackets that may hold anything; user and system time are fields 14 and 15, in 1/100 s.
    let after_name = stat.rsplit_once(')').expect("a name in brackets").1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// Our clock, as the program reads it.
#[must_use]
pub fn now() -> ReceivedAt {
    ReceivedAt(trackway_eventlog::embedded::system_clock())
}

/// One measured line.
#[derive(Debug, Clone)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// CPU time of everything that took part.
    pub cpu: Duration,
    /// What of it other processes used: a server, a broker.
    pub others: Duration,
    /// Wall time, for orientation.
    pub wall: Duration,
    /// Events (or rows, records) handled.
    pub events: u64,
}

impl Line {
    /// The same without this process, which only makes the load.
    #[must_use]
    pub fn of_others(self) -> Self {
        Self { cpu: self.others, ..self }
    }
}

/// Runs `work` and measures this process, and `others` besides.
pub fn measure(what: &str, events: u64, others: &[u32], work: impl FnOnce()) -> Line {
    measure_counted(what, others, || {
        work();
        events
    })
}

/// [`measure`] for work that goes on for a time and says how many events it did.
pub fn measure_counted(what: &str, others: &[u32], work: impl FnOnce() -> u64) -> Line {
    let of_others = || others.iter().map(|&pid| cpu_time(Some(pid))).sum::<Duration>();
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    let began = std::time::Instant::now();
    let before = (cpu_time(None), of_others());
    let events = work();
    let (own, others) = (cpu_time(None) - before.0, of_others() - before.1);
    Line { what: what.to_owned(), cpu: own + others, others, wall: began.elapsed(), events }
}

/// Prints lines as a table with the ratio of each to the first.
pub fn report(question: &str, lines: &[Line]) {
    let per_million = |time: Duration, line: &Line| time.as_secs_f64() * 1e6 / line.events as f64;
    // Where client and server share the work, how they do.
    let is_shared = lines.iter().any(|line| !line.others.is_zero() && line.others < line.cpu);
    let head = if is_shared { "of it server" } else { "" };
    println!("\n{question}");
    println!("{:<58} {:>12} {:>12} {:>10} {head:>12}", "", "CPU-s/M", "events/s", "ratio");
    for line in lines {
        let rate = line.events as f64 / line.wall.as_secs_f64();
        let cpu = per_million(line.cpu, line);
        let ratio = cpu / per_million(lines[0].cpu, &lines[0]);
        let others = if is_shared { format!("{:.3}", per_million(line.others, line)) } else { String::new() };
        println!("{:<58} {cpu:>12.3} {rate:>12.0} {ratio:>10.2} {others:>12}", line.what);
    }
}

/// Argument `n` (from 1) of the command line, or a default.
///
/// # Panics
/// If it is there and no such number.
#[must_use]
pub fn argument<T: std::str::FromStr>(n: usize, default: T) -> T {
    std::env::args()
        .nth(n)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("argument {n}, `{text}`, is no such number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_one_that_others_were_measured_with() {
        // The first 200,000 events of a stream of 20,000,000 lie in 864 s, so each visitor has one session; and the whole
        // stream's number of sessions is checked by `cargo xtask bench worker`.
        let mut visitors = std::collections::BTreeSet::new();
        for i in 0..200_000 {
            let (visitor, time) = synthetic(i, 20_000_000);
            assert!(visitor < 200_000);
            assert!((1_699_999_995_001..=1_700_000_864_000).contains(&time), "{time}");
            visitors.insert(visitor);
        }
        assert_eq!(synthetic(0, 20_000_000), synthetic(0, 10));
        assert!(visitors.len() > 50_000, "{}", visitors.len());
    }
}
