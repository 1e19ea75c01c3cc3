//! Inserts of every row type, and that a block counts once.

mod common;

use common::{Harness, project};
use trackway_store::rows::{
    AudienceDefinition, EventRow, IdentityChangeRow, IdentityRow, MemberRow, ProgressRow, SessionRow,
};

const ODD: [&str; 6] = ["", "plain", "tab\tline\nquote'\"\\N\0zero", "ünï→💥", "{\"a\":[1]}", "\\"];

const DAY_MS: i64 = 86_400_000;

/// 2026-01-01.
const BEGIN_MS: i64 = 1_767_225_600_000;

fn event(n: u64) -> EventRow {
    EventRow {
        project: project(),
        person: u128::from(n % 7),
        time_ms: BEGIN_MS + n as i64,
        event_key: n,
        kind: "track",
        event: format!("event {}", n % 3),
        time_source: "client",
        ..EventRow::default()
    }
}

/// Every field set, each to a value that no other field of the row has where its type allows.
fn full_event(n: u64) -> EventRow {
    let odd = |field: usize| format!("{}{field}", ODD[(n as usize + field) % ODD.len()]);
    EventRow {
        project: project(),
        person: u128::MAX - u128::from(n),
        visitor: u128::from(n) << 64 | 7,
        visitor_id: odd(1),
        user_id: odd(2),
        time_ms: BEGIN_MS + n as i64,
        sequence: u32::MAX - n as u32,
        event_key: u64::MAX - n,
        event_id: odd(3),
        kind: "page",
        event: odd(4),
        url: odd(5),
        host: odd(6),
        path: odd(7),
        title: odd(8),
        referrer: odd(9),
        channel: odd(10),
        source: odd(11),
        medium: odd(12),
        campaign: odd(13),
        landing: "website",
        term: odd(14),
        content: odd(15),
        touchpoint: odd(16),
        stage: odd(17),
        browser: odd(18),
        browser_version: odd(39),
        os: odd(19),
        os_version: odd(32),
        device: odd(20),
        device_brand: odd(33),
        device_model: odd(34),
        locale: odd(21),
        language: odd(35),
        screen_width: u32::MAX,
        screen_height: 1,
        screen_class: "large",
        library: odd(22),
        library_version: odd(23),
        protocol: odd(24),
        properties: odd(25),
        traits: odd(26),
        bot: odd(27),
        // To both ends of what the domain holds, and beyond the 18 digits that the type is named for.
        revenue_micros: [None, Some(0), Some(-1), Some(129_900_000), Some(i64::MAX), Some(i64::MIN + 1)]
            [n as usize % 6],
        currency: odd(28),
        feedback: ["", "nps"][n as usize % 2],
        score_micros: [None, Some(4_500_000)][n as usize % 2],
        comment: odd(31),
        ip: odd(29),
        country: odd(36),
        region: odd(37),
        city: odd(38),
        tracker_session: odd(30),
        consent: ["", "granted", "denied"][n as usize % 3],
        received_ms: BEGIN_MS + 2,
        time_source: "replaced",
        late: n % 2 == 1,
        origin_partition: 15,
        origin_offset: u64::MAX,
        origin_index: u32::MAX - 1,
    }
}

/// All rows of a table as ClickHouse prints them, one line each.
async fn printed(harness: &Harness, sql: &str) -> Vec<String> {
    harness.client.query_raw(sql).fetch_all::<String>().await.unwrap()
}

/// A literal as ClickHouse's `toString(tuple(…))` prints a string.
fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\0' => out.push_str("\\0"),
            other => out.push(other),
        }
    }
    out + "'"
}

/// As ClickHouse prints a decimal: without zeros at the end.
fn decimal(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let (whole, fraction) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    format!("{sign}{whole}.{fraction:06}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[tokio::test]
async fn sums_of_revenue_are_exact() {
    let harness = Harness::start().await;
    // As floating point numbers these sum up to 0.30000000000000004 and worse.
    let rows: Vec<EventRow> = (0..1000)
        .map(|n| EventRow { revenue_micros: (n % 2 == 0).then_some(100_000), currency: "EUR".into(), ..event(n) })
        .collect();
    harness.store.insert(&rows, "cents").await.unwrap();
    let large = EventRow { revenue_micros: Some(i64::MAX), currency: "USD".into(), ..event(2000) };
    harness.store.insert(&[large.clone(), EventRow { event_key: 2001, ..large }], "large").await.unwrap();
    let sums = printed(
        &harness,
        "SELECT toString(tuple(currency, toString(sum(revenue)), count(revenue), count())) FROM events
         GROUP BY currency ORDER BY currency",
    );
    assert_eq!(sums.await, ["('EUR','50',500,1000)", "('USD','18446744073709.551614',2,2)"]);
    harness.engine.stop().await;
}

#[tokio::test]
async fn every_column_of_an_event_reads_back_equal() {
    let harness = Harness::start().await;
    let rows: Vec<EventRow> = (0..20).map(full_event).collect();
    harness.store.insert(&rows, "all columns").await.unwrap();
    let got = printed(
        &harness,
        "SELECT toString(tuple(project, person, visitor, visitor_id, user_id, toUnixTimestamp64Milli(time), sequence, event_key,
            event_id, kind, event, url, host, path, title, referrer, channel, source, medium, campaign, term, content,
            touchpoint, stage, browser, browser_version, os, os_version, device, device_brand, device_model, locale, language,
            screen_width, screen_height, screen_class, library, library_version, protocol, properties, traits, bot,
            reinterpretAsInt64(assumeNotNull(revenue)), isNull(revenue), toString(revenue), currency, feedback, toString(score),
            comment, ip, country, region, city,
            tracker_session, consent, toUnixTimestamp64Milli(received), time_source, toUInt8(late), origin_partition, origin_offset,
            origin_index)) FROM events ORDER BY time",
    )
    .await;
    let expected: Vec<String> = rows
        .iter()
        .map(|r| {
            let fields = [
                quoted(&r.project),
                r.person.to_string(),
                r.visitor.to_string(),
                quoted(&r.visitor_id),
                quoted(&r.user_id),
                r.time_ms.to_string(),
                r.sequence.to_string(),
                r.event_key.to_string(),
                quoted(&r.event_id),
                quoted(r.kind),
                quoted(&r.event),
                quoted(&r.url),
                quoted(&r.host),
                quoted(&r.path),
                quoted(&r.title),
                quoted(&r.referrer),
                quoted(&r.channel),
                quoted(&r.source),
                quoted(&r.medium),
                quoted(&r.campaign),
                quoted(&r.term),
                quoted(&r.content),
                quoted(&r.touchpoint),
                quoted(&r.stage),
                quoted(&r.browser),
                quoted(&r.browser_version),
                quoted(&r.os),
                quoted(&r.os_version),
                quoted(&r.device),
                quoted(&r.device_brand),
                quoted(&r.device_model),
                quoted(&r.locale),
                quoted(&r.language),
                r.screen_width.to_string(),
                r.screen_height.to_string(),
                quoted(r.screen_class),
                quoted(&r.library),
                quoted(&r.library_version),
                quoted(&r.protocol),
                quoted(&r.properties),
                quoted(&r.traits),
                quoted(&r.bot),
                r.revenue_micros.unwrap_or(0).to_string(),
                u8::from(r.revenue_micros.is_none()).to_string(),
                r.revenue_micros.map_or("NULL".to_owned(), |micros| quoted(&decimal(micros))),
                quoted(&r.currency),
                quoted(r.feedback),
                r.score_micros.map_or("NULL".to_owned(), |micros| quoted(&decimal(micros))),
                quoted(&r.comment),
                quoted(&r.ip),
                quoted(&r.country),
                quoted(&r.region),
                quoted(&r.city),
                quoted(&r.tracker_session),
                quoted(r.consent),
                r.received_ms.to_string(),
                quoted(r.time_source),
                u8::from(r.late).to_string(),
                r.origin_partition.to_string(),
                r.origin_offset.to_string(),
                r.origin_index.to_string(),
            ];
            format!("({})", fields.join(","))
        })
        .collect();
    assert_eq!(got, expected);
    harness.engine.stop().await;
}

#[tokio::test]
async fn every_column_of_the_other_tables_reads_back_equal() {
    let harness = Harness::start().await;
    let store = &harness.store;
    let session = SessionRow {
        project: project(),
        visitor: 3,
        session_key: u64::MAX,
        start_ms: BEGIN_MS,
        end_ms: BEGIN_MS + 5,
        events: u32::MAX,
        page_views: 2,
        entry_page: ODD[2].to_owned(),
        exit_page: ODD[3].to_owned(),
        entry_host: "a.example".to_owned(),
        exit_host: "b.example".to_owned(),
        channel: "Direct".to_owned(),
        source: "s".to_owned(),
        medium: "m".to_owned(),
        campaign: ODD[5].to_owned(),
        engaged_ms: u64::MAX,
        is_bounce: true,
        revenue_micros: Some(-1_500_000),
        currency: "EUR".to_owned(),
        sign: -1,
    };
    store.insert(&[session], "t").await.unwrap();
    let got = printed(
        &harness,
        "SELECT toString(tuple(project, visitor, session_key, toUnixTimestamp64Milli(start), toUnixTimestamp64Milli(end), events, page_views,
            entry_page, exit_page, entry_host, exit_host, channel, source, medium, campaign, engaged_ms, is_bounce, revenue, currency,
            sign)) FROM sessions",
    )
    .await;
    let (entry, exit, campaign) = (quoted(ODD[2]), quoted(ODD[3]), quoted(ODD[5]));
    let end = BEGIN_MS + 5;
    assert_eq!(
        got,
        [format!(
            "('shop',3,18446744073709551615,{BEGIN_MS},{end},4294967295,2,{entry},{exit},'a.example','b.example','Direct','s','m',\
             {campaign},18446744073709551615,true,-1.5,'EUR',-1)"
        )]
    );

    let identity = IdentityRow {
        project: project(),
        key: u128::MAX,
        person: 1,
        visitor_id: "v".into(),
        user_id: ODD[3].into(),
        at_ms: BEGIN_MS,
        by_alias: true,
        removed: true,
        version: 1 << 63,
    };
    store.insert(&[identity], "t").await.unwrap();
    let sql = "SELECT toString(tuple(project, key, person, visitor_id, user_id, toUnixTimestamp64Milli(at), by_alias, removed,
            version)) FROM identities";
    let expected = format!("('shop',{},1,'v',{exit},{BEGIN_MS},true,true,{})", u128::MAX, 1_u64 << 63);
    assert_eq!(printed(&harness, sql).await, [expected]);

    let change = IdentityChangeRow {
        project: project(),
        key: u128::MAX,
        id: ODD[0].into(),
        other: 1,
        other_id: ODD[1].into(),
        by: "root".into(),
        reason: ODD[3].into(),
        ordered_ms: BEGIN_MS,
        applied_ms: BEGIN_MS + 1,
    };
    store.insert(&[change], "t").await.unwrap();
    let sql = "SELECT toString(tuple(project, key, id, other, other_id, by, reason, toUnixTimestamp64Milli(ordered),
            toUnixTimestamp64Milli(applied))) FROM identity_changes";
    let (id, other, applied) = (quoted(ODD[0]), quoted(ODD[1]), BEGIN_MS + 1);
    let expected = format!("('shop',{},{id},1,{other},'root',{exit},{BEGIN_MS},{applied})", u128::MAX);
    assert_eq!(printed(&harness, sql).await, [expected]);

    let member = MemberRow {
        project: project(),
        audience: "buyers".into(),
        person: 5,
        user_id: "u".into(),
        visitor_id: "v".into(),
        entered_ms: BEGIN_MS,
        left_ms: BEGIN_MS + DAY_MS,
        partition: 7,
        sign: -1,
    };
    store.insert(&[member], "t").await.unwrap();
    let sql = "SELECT toString(tuple(project, audience, person, user_id, visitor_id, toUnixTimestamp64Milli(entered),
        toUnixTimestamp64Milli(left), partition, sign)) FROM audience_members";
    let left = BEGIN_MS + DAY_MS;
    assert_eq!(printed(&harness, sql).await, [format!("('shop','buyers',5,'u','v',{BEGIN_MS},{left},7,-1)")]);

    let progress = ProgressRow {
        topic: "events".into(),
        partition: 3,
        offset: u64::MAX,
        watermark_ms: i64::MIN,
        log_time_ms: i64::MAX,
    };
    store.insert(std::slice::from_ref(&progress), "t").await.unwrap();
    assert_eq!(store.progress("events").await.unwrap(), [progress]);

    let definition = AudienceDefinition {
        project: "shop".into(),
        audience: "buyers".into(),
        event: ODD[2].into(),
        count_min: 3,
        window_ms: i64::MAX,
        created_ms: BEGIN_MS,
        changed_ms: BEGIN_MS + 1,
        ended: true,
    };
    store.put_audience(&definition).await.unwrap();
    assert_eq!(store.audience("shop", "buyers").await.unwrap(), Some(definition));
    harness.engine.stop().await;
}

#[tokio::test]
async fn no_rows_make_no_request() {
    let mut config = {
        let harness = Harness::start().await;
        let config = common::store_config(&harness.engine);
        harness.engine.stop().await;
        config
    };
    config.url = "http://127.0.0.1:1".to_owned();
    let store = trackway_store::Store::connect(config).unwrap();
    store.insert::<EventRow>(&[], "t").await.unwrap();
    store.insert(&[event(1)], "t").await.unwrap_err();
}

#[tokio::test]
async fn a_block_sent_twice_counts_once_in_table_and_view() {
    let harness = Harness::start().await;
    // Ten months, so ten parts of the table and of the view.
    let rows: Vec<EventRow> =
        (0..1000).map(|n| EventRow { time_ms: BEGIN_MS + (n as i64 % 10) * 31 * DAY_MS, ..event(n) }).collect();
    for _ in 0..2 {
        harness.store.insert(&rows, "events-0-17").await.unwrap();
    }
    assert_eq!(harness.number("SELECT count() FROM events").await, 1000);
    assert_eq!(harness.number("SELECT sum(events) FROM event_counts_daily").await, 1000);
    // Another token is another block, equal rows or not.
    harness.store.insert(&rows, "events-0-18").await.unwrap();
    assert_eq!(harness.number("SELECT count() FROM events").await, 2000);
    assert_eq!(harness.number("SELECT sum(events) FROM event_counts_daily").await, 2000);
    harness.engine.stop().await;
}

#[tokio::test]
async fn a_block_may_span_two_hundred_months() {
    let harness = Harness::start().await;
    let rows: Vec<EventRow> =
        (0..200).map(|n| EventRow { time_ms: BEGIN_MS - n * 31 * DAY_MS, ..event(n as u64) }).collect();
    harness.store.insert(&rows, "back-fill").await.unwrap();
    assert_eq!(harness.number("SELECT count() FROM events").await, 200);
    harness.engine.stop().await;
}

#[tokio::test]
async fn errors_say_whether_the_same_block_may_be_sent_again() {
    let harness = Harness::start().await;
    harness.client.query("ALTER TABLE sessions DROP COLUMN campaign").execute().await.unwrap();
    let session = SessionRow { project: project(), sign: 1, ..SessionRow::default() };
    let refused = harness.store.insert(&[session], "t").await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused:?}");
    assert!(refused.to_string().contains("1 rows for `sessions`"), "{refused}");

    let mut hasty = common::store_config(&harness.engine);
    hasty.insert_time_max = std::time::Duration::from_millis(1);
    let rows: Vec<EventRow> = (0..20_000).map(event).collect();
    let late = trackway_store::Store::connect(hasty).unwrap().insert(&rows, "t").await.unwrap_err();
    assert!(matches!(late, trackway_store::insert::InsertError::Timeout { .. }), "{late:?}");
    assert!(late.is_retryable());

    harness
        .client
        .query("ALTER TABLE events MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1")
        .execute()
        .await
        .unwrap();
    harness.client.query("SYSTEM STOP MERGES events").execute().await.unwrap();
    let mut busy = None;
    for n in 0..5 {
        busy = harness.store.insert(&[event(n)], &format!("busy {n}")).await.err().or(busy);
    }
    let busy = busy.expect("too many parts");
    assert!(matches!(busy, trackway_store::insert::InsertError::Busy { .. }) && busy.is_retryable(), "{busy:?}");

    let store = harness.store.clone();
    harness.engine.stop().await;
    let gone = store.insert(&[event(1)], "t").await.unwrap_err();
    assert!(matches!(gone, trackway_store::insert::InsertError::Connection { .. }) && gone.is_retryable(), "{gone:?}");
}
