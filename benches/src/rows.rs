//! The synthetic stream as rows of table `events`, all 47 columns filled as the worker fills them.

use trackway_domain::event::EventKind;
use trackway_store::rows::EventRow;

use crate::{NAMES, realistic, shop};

/// Rows of the events `range` of a stream of `n`.
#[must_use]
pub fn event_rows(range: std::ops::Range<u64>, n: u64) -> Vec<EventRow> {
    range.map(|i| event_row(i, n)).collect()
}

fn event_row(i: u64, n: u64) -> EventRow {
    let event = realistic(i, n);
    let visitor = event.visitor.key(&shop()).0;
    let (name, context) = (event.received.name, event.received.context);
    let after_host = context.url.find("/category").expect("every page of the stream has a category");
    let path = context.url[after_host..].split('?').next().unwrap_or_default().to_owned();
    let is_landing = context.referrer.contains("google");
    let landing = |text: &str| if is_landing { text.to_owned() } else { String::new() };
    EventRow {
        project: shop().as_str().to_owned(),
        person: visitor,
        visitor,
        visitor_id: event.visitor.id().to_owned(),
        time_ms: event.time.0,
        // At equal times in the order of their names: `windowFunnel` takes them in the order of its steps, and the bench
        // that compares with it wants equal answers.
        sequence: NAMES.iter().position(|known| *known == name).expect("one of the names") as u32,
        event_key: event.key.0,
        event_id: event.received.id.unwrap_or_default(),
        kind: if event.received.kind == EventKind::Page { "page" } else { "track" },
        event: name,
        host: "shop.example".to_owned(),
        path,
        url: context.url,
        title: context.title,
        channel: landing("Organic Search"),
        source: landing("google"),
        medium: landing("organic"),
        referrer: context.referrer,
        browser: "Chrome".to_owned(),
        browser_version: "156".to_owned(),
        os: "Windows".to_owned(),
        os_version: "10".to_owned(),
        device: "desktop".to_owned(),
        language: "en".to_owned(),
        locale: context.locale,
        screen_width: context.screen.0,
        screen_height: context.screen.1,
        screen_class: "wide",
        library: context.library,
        library_version: context.library_version,
        protocol: "segment".to_owned(),
        properties: event.received.properties,
        traits: event.received.traits,
        ip: "192.0.2.0".to_owned(),
        received_ms: event.time.0 + 150,
        time_source: "client",
        origin_partition: (visitor % 2) as u32,
        origin_offset: i,
        ..EventRow::default()
    }
}
