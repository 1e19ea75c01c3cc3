//! Whole answers, as they stand in the terminal.

use super::*;

const FRESH: Option<pb::Freshness> = Some(pb::Freshness { watermark_ms: Some(1_719_698_220_000), pending_records: 0 });
const FRESH_LINE: &str = "\ncomplete up to 2024-06-29 21:57 UTC, nothing on the way\n";

fn check(text: &str, expected: &[&str]) {
    let expected = expected.join("\n") + "\n" + FRESH_LINE;
    assert_eq!(text, expected, "\n--- is\n{text}\n--- should be\n{expected}");
}

fn a_funnel(persons: &[u64]) -> pb::FunnelResponse {
    let names = ["catalog", "product_view", "cart | wishlist", "purchase"];
    let steps = persons.iter().zip(names).map(|(&persons, name)| pb::FunnelStepResult {
        events: name.split(" | ").map(str::to_owned).collect(),
        persons,
    });
    pb::FunnelResponse { steps: steps.collect(), median_seconds: Some(8_040.0), freshness: FRESH, cost: None }
}

#[test]
fn a_funnel_shows_conversion_and_marks_the_weakest_step() {
    check(
        &funnel(&a_funnel(&[12_345, 8_000, 400, 399]), Look::PLAIN),
        &[
            "  step               persons  of first  of previous",
            "  1 catalog           12,345    100.0%               █████████████████",
            "  2 product_view       8,000     64.8%        64.8%  ███████████",
            "  3 cart | wishlist      400      3.2%         5.0%  ▌ ◀ weakest",
            "  4 purchase             399      3.2%        99.8%  ▌",
            "",
            "median time from first to last step: 2h 14m",
        ],
    );
}

#[test]
fn a_funnel_that_nobody_entered_has_no_parts() {
    let answer = pb::FunnelResponse { median_seconds: None, ..a_funnel(&[0, 0, 0]) };
    check(
        &funnel(&answer, Look::PLAIN),
        &[
            "  step               persons  of first  of previous",
            "  1 catalog                0",
            "  2 product_view           0",
            "  3 cart | wishlist        0",
        ],
    );
}

#[test]
fn the_weakest_step_is_one_of_several() {
    assert_eq!(weakest(&[10, 5]), None);
    assert_eq!(weakest(&[10, 5, 0, 0]), Some(2));
    assert_eq!(weakest(&[10, 5, 3, 1]), Some(3));
    assert_eq!(weakest(&[8, 4, 2]), Some(1));
    assert_eq!(weakest(&[]), None);
}

#[test]
fn paths_show_their_part_of_all() {
    let edge = |from: &str, to: &str, count| pb::PathEdge { from: from.into(), to: to.into(), count };
    let edges = vec![edge("home", "catalog", 3_000), edge("catalog", "a\x1b[2Jb", 1_500)];
    check(
        &paths(
            &pb::PathsResponse { edges, pairs: 10_000, freshness: FRESH, cost: None },
            Look { width: 60, ..Look::PLAIN },
        ),
        &[
            "  from     to       times  of all",
            "  home     catalog  3,000   30.0%  █████████████████████████",
            "  catalog  a\u{fffd}[2Jb   1,500   15.0%  ████████████▌",
            "",
            "10,000 pairs in all, 2 kinds shown",
        ],
    );
}

#[test]
fn a_trend_shows_its_buckets() {
    let bucket =
        |begin_ms, event: &str, events, persons| pb::TrendBucket { begin_ms, event: event.into(), events, persons };
    let look = Look { width: 50, ..Look::PLAIN };
    let buckets = vec![bucket(Some(1_717_200_000_000), "", 1_200, 300), bucket(Some(1_717_286_400_000), "", 600, 200)];
    check(
        &trend(&pb::TrendResponse { buckets, freshness: FRESH, cost: None }, false, look),
        &[
            "  from        events  persons",
            "  2024-06-01   1,200      300  ███████████████████",
            "  2024-06-02     600      200  █████████▌",
        ],
    );
    let buckets = vec![bucket(None, "page", 4, 3)];
    check(
        &trend(&pb::TrendResponse { buckets, freshness: FRESH, cost: None }, false, look),
        &["  from  event  events  persons", "  all   page        4        3  ██████████████████"],
    );
}

#[test]
fn sessions_have_human_lengths() {
    let row = pb::SessionSummary {
        sessions: 1_000,
        sessions_single_event: 250,
        sessions_bounced: 200,
        persons: 800,
        events: 9_000,
        page_views: 7_000,
        seconds_mean: 312.0,
        seconds_median: 95.5,
        seconds_p95: 1_800.0,
        seconds_max: 86_400.0,
        ..Default::default()
    };
    check(
        &sessions(&pb::SessionSummaryResponse { rows: vec![row], freshness: FRESH, cost: None }, Look::PLAIN),
        &[
            "  channel  sessions  single event  bounced  persons  events  pages    mean  median  95%  longest",
            "  all         1,000         25.0%    20.0%      800   9,000  7,000  5m 12s  1m 36s  30m       1d",
        ],
    );
}

#[test]
fn a_journey_says_who_and_what() {
    let answer = pb::PersonJourneyResponse {
        person: "0a".into(),
        user_ids: vec!["alice".into()],
        visitor_ids: vec!["v1".into(), "v2".into()],
        events: vec![pb::JourneyEvent {
            time_ms: 1_719_698_223_000,
            event: "page".into(),
            touchpoint: "landing".into(),
            stage: "awareness".into(),
            channel: "Email".into(),
            url: "https://shop.example/".into(),
            ..Default::default()
        }],
        freshness: FRESH,
        cost: None,
    };
    check(
        &journey(&answer, Look::PLAIN),
        &[
            "person 0a",
            "user alice",
            "visitors v1, v2",
            "",
            "  time (UTC)           event  touchpoint           channel  page",
            "  2024-06-29 21:57:03  page   landing (awareness)  Email    https://shop.example/",
        ],
    );
}

fn buyers() -> pb::Audience {
    let rule = pb::EventCountRule { event: "purchase".into(), count_min: 2, window_ms: 30 * 86_400_000 };
    pb::Audience {
        project: "shop".into(),
        name: "buyers".into(),
        rule: Some(pb::audience::Rule::EventCount(rule)),
        created_ms: 1_719_698_220_000,
    }
}

#[test]
fn audiences_say_their_rule() {
    assert_eq!(
        audience_created(&buyers(), Look::PLAIN),
        "audience `buyers` of project `shop`: 2 or more `purchase` within 30d\n\n\
         Follow it with: trackway ask audience watch buyers --project shop\n"
    );
    assert_eq!(
        audiences(&pb::ListAudiencesResponse { audiences: vec![buyers()] }, Look::PLAIN),
        "  audience  members are persons with         made\n  buyers    2 or more `purchase` within 30d  2024-06-29 21:57 UTC\n"
    );
    check(
        &audience_totals(
            &pb::GetAudienceResponse {
                audience: Some(buyers()),
                entered: 1_200,
                left: 200,
                members: 1_000,
                as_of_ms: 1_719_698_220_000,
                freshness: FRESH,
            },
            Look::PLAIN,
        ),
        &[
            "audience `buyers`: 2 or more `purchase` within 30d",
            "as of 2024-06-29 21:57 UTC",
            "",
            "  members  entered  left",
            "    1,000    1,200   200",
        ],
    );
}

#[test]
fn watching_gives_a_line_for_each_change() {
    use pb::subscribe_response::Body;
    let say = |body| watched(&pb::SubscribeResponse { body, cursor: "c".into() }, 1, Look::PLAIN);
    let change = pb::MembershipChange {
        person: "0a".into(),
        user_id: String::new(),
        visitor_id: "v1".into(),
        entered: false,
        at_ms: 1_719_698_223_000,
    };
    assert_eq!(say(Some(Body::Change(change))).as_deref(), Some("2024-06-29 21:57:03  left     visitor v1\n"));
    let end = say(Some(Body::SnapshotEnd(pb::SubscribeSnapshotEnd {})));
    assert_eq!(end.as_deref(), Some("1 member now. What follows happens from now on; times are event times in UTC\n"));
    assert_eq!(say(None), None);
}

#[test]
fn rejected_requests_show_their_items_and_where_they_are() {
    let item = pb::RejectedItem {
        index: 3,
        reason: "missing_field".into(),
        message: "`event` is missing. Name what happened".into(),
        excerpt: b"{\"type\":\"track\"\x1b}".to_vec(),
    };
    let request = pb::RejectedRequest {
        partition: 0,
        offset: 17,
        received_ms: 1_719_698_220_000,
        protocol: "segment".into(),
        reason: "missing_field".into(),
        message: "`event` is missing. Name what happened".into(),
        method: "POST".into(),
        target: "/v1/batch".into(),
        items: vec![item],
        body_bytes: 1_234,
        ..Default::default()
    };
    let whole = pb::RejectedRequest {
        offset: 16,
        items: Vec::new(),
        reason: "malformed".into(),
        message: "body is not JSON".into(),
        body: b"{".to_vec(),
        body_bytes: 1,
        headers: vec![pb::Header { name: "content-type".into(), value: "text/plain".into() }],
        ..request.clone()
    };
    let answer = pb::ListRejectedResponse { requests: vec![request, whole], next_page_token: "more".into() };
    let expected = [
        "2024-06-29 21:57:00  segment  missing_field",
        "    POST /v1/batch, 1,234 bytes, at 0.17",
        "    item 3  missing_field: `event` is missing. Name what happened",
        "        {\"type\":\"track\"\u{fffd}}",
        "2024-06-29 21:57:00  segment  malformed  body is not JSON",
        "    POST /v1/batch, 1 byte, at 0.16",
        "    content-type: text/plain",
        "    {",
        "",
        "2 requests, there are more (`--limit`)",
        "",
    ];
    assert_eq!(rejected(&answer, Look::PLAIN), expected.join("\n"));
    assert_eq!(rejected(&pb::ListRejectedResponse::default(), Look::PLAIN), "nothing was rejected\n");
}

#[test]
fn a_tail_says_what_came_and_what_did_not() {
    use pb::tail_response::Body;
    let event = pb::TailEvent {
        received_ms: 1_719_698_220_000,
        time_ms: 1_719_698_220_000,
        time_source: "client".into(),
        protocol: "segment".into(),
        visitor_id: "v\n1".into(),
        user_id: "ann".into(),
        kind: "track".into(),
        event: "signup".into(),
        properties: r#"{"plan":"pro"}"#.into(),
        traits: "{}".into(),
        ..Default::default()
    };
    let line = |body, skipped| tailed(&pb::TailResponse { body: Some(body), skipped }, Look::PLAIN).expect("a line");
    assert_eq!(
        line(Body::Event(event.clone()), 0),
        "2024-06-29 21:57:00  segment  track signup visitor=v\u{fffd}1 user=ann {\"plan\":\"pro\"}\n"
    );
    let page = pb::TailEvent {
        kind: "page".into(),
        event: "page".into(),
        url: "https://shop.example/".into(),
        bot: "crawler".into(),
        time_ms: 1_719_698_160_000,
        time_source: "corrected".into(),
        properties: "{}".into(),
        library: "analytics.js".into(),
        library_version: "2.1".into(),
        user_id: String::new(),
        visitor_id: "v".into(),
        ..event
    };
    assert_eq!(
        line(Body::Event(page), 2),
        "2 events came too fast and are not shown\n2024-06-29 21:57:00  segment  page visitor=v \
         url=https://shop.example/ bot=crawler time=2024-06-29 21:56:00 (corrected) [analytics.js 2.1]\n"
    );
    let rejected = pb::TailRejected {
        received_ms: 1_719_698_220_000,
        protocol: "segment".into(),
        index: Some(3),
        reason: "malformed".into(),
        message: "`type` is not a call".into(),
        excerpt: b"{}".to_vec(),
        ..Default::default()
    };
    assert_eq!(
        line(Body::Rejected(rejected), 0),
        "2024-06-29 21:57:00  REJECTED segment item 3 malformed: `type` is not a call  {}\n"
    );
}
