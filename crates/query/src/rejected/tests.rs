//! Over a real embedded log. What ClickHouse has is not asked.

use std::sync::Arc;

use trackway_eventlog::NewRecord;
use trackway_wire::log::encode;

use super::*;
use crate::check;
use crate::server::tests::desk_with_log;

const NONE: [i64; 0] = [];

fn record(project: &str, protocol: &str, reason: &str, items: &[(u32, &str)]) -> log_pb::RejectedRecord {
    let item = |&(index, reason): &(u32, &str)| log_pb::RejectedItem {
        index,
        reason: reason.into(),
        message: format!("item {index} is bad"),
        content: format!("{{\"n\":{index}}}").into(),
    };
    log_pb::RejectedRecord {
        project: project.into(),
        protocol: protocol.into(),
        reason: reason.into(),
        message: "it is bad".into(),
        body: b"{\"batch\":[]}".to_vec().into(),
        items: items.iter().map(item).collect(),
        method: "POST".into(),
        target: "/v1/batch?x=1".into(),
        headers: vec![log_pb::Header { name: "content-type".into(), value: "text/plain".into() }],
    }
}

async fn append(desk: &Desk, records: Vec<(u32, i64, log_pb::RejectedRecord)>) {
    let new = |(partition, timestamp_ms, record): (u32, i64, log_pb::RejectedRecord)| NewRecord {
        partition,
        timestamp_ms,
        value: encode(&record),
    };
    desk.log.append("rejected", records.into_iter().map(new).collect()).await.expect("appended");
}

async fn ask(desk: &Desk, request: pb::ListRejectedRequest) -> pb::ListRejectedResponse {
    answer(desk, check::rejected(request).expect("a good request")).await.expect("an answer")
}

fn of(project: &str) -> pb::ListRejectedRequest {
    pb::ListRejectedRequest { project: project.into(), ..Default::default() }
}

/// Received times of all pages.
async fn times(desk: &Desk, mut request: pb::ListRejectedRequest) -> Vec<i64> {
    let mut times = Vec::new();
    loop {
        let page = ask(desk, request.clone()).await;
        assert!(request.page_size == 0 || page.requests.len() <= request.page_size as usize);
        times.extend(page.requests.iter().map(|request| request.received_ms));
        if page.next_page_token.is_empty() {
            return times;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn the_newest_come_first_of_all_partitions_and_pages_go_on() {
    let (desk, _folder) = desk_with_log(&[("rejected", 3)]).await;
    assert_eq!(times(&desk, of("shop")).await, NONE);
    // Partition 2 stays empty. More than one stretch in each of the others.
    let records = (0..1_500).map(|n| {
        let project = if n % 3 == 0 { "other" } else { "shop" };
        (u32::from(n % 7 == 0), i64::from(n), record(project, "segment", "malformed", &[]))
    });
    append(&desk, records.collect()).await;
    let expected: Vec<i64> = (0..1_500).rev().filter(|n| n % 3 != 0).collect();
    for page_size in [7, 100, 1_000] {
        assert_eq!(times(&desk, pb::ListRejectedRequest { page_size, ..of("shop") }).await, expected);
    }
    let page = ask(&desk, of("shop")).await;
    assert_eq!((page.requests.len(), page.requests[0].received_ms), (50, 1499));
    // What comes while one pages through is not seen twice, nor does it push anything out.
    append(&desk, vec![(0, 2_000, record("shop", "segment", "malformed", &[]))]).await;
    let next = pb::ListRejectedRequest { page_token: page.next_page_token, page_size: 1_000, ..of("shop") };
    assert_eq!(times(&desk, next).await, expected[50..]);
    let between = pb::ListRejectedRequest { since_ms: Some(700), until_ms: Some(800), page_size: 9, ..of("shop") };
    assert_eq!(times(&desk, between).await, (700..800).rev().filter(|n| n % 3 != 0).collect::<Vec<_>>());
    desk.log.close().await;
}

#[tokio::test]
async fn filters_look_at_items_too_and_bodies_come_when_asked_for() {
    let (desk, _folder) = desk_with_log(&[("rejected", 1)]).await;
    let records = vec![
        (0, 1, record("shop", "segment", "missing_field", &[(3, "missing_field"), (7, "too_large")])),
        (0, 2, record("shop", "plausible", "malformed", &[])),
        (0, 3, record("", "log", "undecodable", &[])),
    ];
    append(&desk, records).await;
    let by = |reason: &str, protocol: &str| pb::ListRejectedRequest {
        reason: reason.into(),
        protocol: protocol.into(),
        ..of("shop")
    };
    assert_eq!(times(&desk, by("too_large", "")).await, [1]);
    assert_eq!(times(&desk, by("malformed", "")).await, [2]);
    assert_eq!(times(&desk, by("", "segment")).await, [1]);
    assert_eq!(times(&desk, by("too_large", "plausible")).await, NONE);
    assert_eq!(times(&desk, of("")).await, [3], "of no project");

    let mut request = ask(&desk, by("too_large", "")).await.requests.remove(0);
    assert_eq!((request.partition, request.offset, request.target.as_str()), (0, 0, "/v1/batch?x=1"));
    let items: Vec<_> =
        request.items.iter().map(|item| (item.index, item.reason.as_str(), &item.excerpt[..])).collect();
    assert_eq!(items, [(3, "missing_field", &b"{\"n\":3}"[..]), (7, "too_large", &b"{\"n\":7}"[..])]);
    assert_eq!((request.body_bytes, request.body.len(), request.headers.len()), (12, 0, 0));
    request = ask(&desk, pb::ListRejectedRequest { with_body: true, ..by("too_large", "") }).await.requests.remove(0);
    assert_eq!((&request.body[..], request.headers[0].value.as_str()), (&b"{\"batch\":[]}"[..], "text/plain"));
    desk.log.close().await;
}

#[tokio::test]
async fn a_page_ends_before_it_is_too_large_for_an_answer() {
    let (desk, _folder) = desk_with_log(&[("rejected", 1)]).await;
    let large =
        || log_pb::RejectedRecord { body: vec![b'x'; 6 << 20].into(), ..record("shop", "segment", "malformed", &[]) };
    for n in 0..5 {
        append(&desk, vec![(0, n, large())]).await;
    }
    let request = pb::ListRejectedRequest { with_body: true, ..of("shop") };
    let page = ask(&desk, request.clone()).await;
    assert_eq!(page.requests.len(), 2);
    assert_eq!(times(&desk, request).await, [4, 3, 2, 1, 0]);
    assert_eq!(ask(&desk, of("shop")).await.requests.len(), 5, "without bodies they are small");
    desk.log.close().await;
}

#[tokio::test]
async fn a_page_token_of_elsewhere_is_refused() {
    let (desk, _folder) = desk_with_log(&[("rejected", 2)]).await;
    for token in ["x", &URL_SAFE_NO_PAD.encode("1"), &URL_SAFE_NO_PAD.encode("1.-1")] {
        let asked = check::rejected(pb::ListRejectedRequest { page_token: token.into(), ..of("shop") });
        let fault = answer(&desk, asked.expect("well-formed")).await.expect_err(token);
        assert_eq!(
            fault.to_string(),
            format!("`page_token` is `{token}`, must be empty, or as the page before gave it")
        );
    }
    let desk: Arc<Desk> = desk;
    desk.log.close().await;
}
