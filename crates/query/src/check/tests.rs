//! One bad request per line: the whole message, since it is all that a client has.

use super::*;

fn check<Q: std::fmt::Debug>(checked: Checked<Q>, message: &str) {
    assert_eq!(checked.expect_err("a bad request").to_string(), message);
}

fn a_range(from_ms: Option<i64>, to_ms: Option<i64>) -> Option<pb::TimeRange> {
    Some(pb::TimeRange { from_ms, to_ms })
}

fn a_funnel(steps: Vec<Vec<&str>>) -> pb::FunnelRequest {
    let steps = steps.into_iter().map(|s| pb::FunnelStep { events: s.into_iter().map(str::to_owned).collect() });
    pb::FunnelRequest { project: "shop".into(), steps: steps.collect(), ..Default::default() }
}

#[test]
fn bad_funnels_name_the_field_the_value_and_the_limit() {
    let good = a_funnel(vec![vec!["a"], vec!["b", "c"]]);
    let checked = funnel(pb::FunnelRequest { window_ms: 60_000, ..good.clone() }).expect("a good request");
    assert_eq!(checked.query, FunnelQuery { steps: 2, window: Some(Duration::from_mins(1)) });
    let all = TimeRange { from_ms: i64::MIN, to_ms: i64::MAX };
    assert_eq!(checked.scope, Scope { range: all, bots: Bots::LeftOut });
    let with_bots = funnel(pb::FunnelRequest { include_bots: true, ..good.clone() }).expect("a good request");
    assert_eq!(with_bots.scope.bots, Bots::Included);

    check(funnel(pb::FunnelRequest::default()), "`project` is missing");
    check(
        funnel(pb::FunnelRequest { project: "My Shop".into(), ..good.clone() }),
        "`project` is `My Shop`, must be 1 to 64 of a-z 0-9 _ -",
    );
    check(funnel(a_funnel(vec![])), "`steps` is missing");
    check(funnel(a_funnel(vec![vec!["a"]; 40])), "`steps` has 40 entries, limit is 32");
    check(funnel(a_funnel(vec![vec!["a"], vec![]])), "`steps[1].events` is missing");
    check(funnel(a_funnel(vec![vec!["a"; 21]])), "`steps[0].events` has 21 entries, limit is 20");
    check(funnel(a_funnel(vec![vec!["a", ""]])), "`steps[0].events[1]` is missing");
    check(funnel(a_funnel(vec![vec![&"n".repeat(513)]])), "`steps[0].events[0]` is 513 bytes, limit is 512");
    check(
        funnel(pb::FunnelRequest { window_ms: -1, ..good.clone() }),
        "`window_ms` is -1, must be 0 (no limit) or 1 to 345600000000",
    );
    check(
        funnel(pb::FunnelRequest { range: a_range(Some(5), Some(5)), ..good.clone() }),
        "`range.to_ms` is 5, must be above `range.from_ms`, which is 5",
    );
    check(
        funnel(pb::FunnelRequest { range: a_range(Some(i64::MAX), None), ..good }),
        "`range.from_ms` is 9223372036854775807, must be -253402300799999 to 253402300799999",
    );
}

#[test]
fn bad_touchpoint_flows_name_the_field_the_value_and_the_limit() {
    let good = pb::TouchpointFlowRequest { project: "shop".into(), ..Default::default() };
    let asked = touchpoint_flow(good.clone()).expect("a good request");
    assert_eq!((asked.gap, asked.transitions_max), (Duration::from_mins(30), 50));
    check(
        touchpoint_flow(pb::TouchpointFlowRequest { gap_ms: 86_400_001, ..good.clone() }),
        "`gap_ms` is 86400001, must be 0 (no limit) or 1000 to 86400000",
    );
    check(
        touchpoint_flow(pb::TouchpointFlowRequest { transitions_max: 1001, ..good }),
        "`transitions_max` is 1001, must be 0 (then it is 50) to 1000",
    );
}

#[test]
fn bad_paths_name_the_field_the_value_and_the_limit() {
    let good = pb::PathsRequest { project: "shop".into(), ..Default::default() };
    assert_eq!(paths(good.clone()).expect("a good request").edges_max, 20);
    check(
        paths(pb::PathsRequest { edges_max: 1001, ..good.clone() }),
        "`edges_max` is 1001, must be 0 (then it is 20) to 1000",
    );
    check(
        paths(pb::PathsRequest { session_gap_ms: 999, ..good }),
        "`session_gap_ms` is 999, must be 0 (no limit) or 1000 to 86400000",
    );
}

#[test]
fn bad_trends_name_the_field_the_value_and_the_limit() {
    let good = pb::TrendRequest { project: "shop".into(), ..Default::default() };
    assert_eq!(trend(good.clone()).expect("a good request").interval, Interval::All);
    check(
        trend(pb::TrendRequest { interval: 9, ..good.clone() }),
        "`interval` is 9, must be a value of `Interval`, 0 to 4",
    );
    check(
        trend(pb::TrendRequest { events: vec!["a".into(); 101], ..good.clone() }),
        "`events` has 101 entries, limit is 100",
    );
    let ten_years = a_range(Some(0), Some(3650 * DAY_MS));
    check(
        trend(pb::TrendRequest { interval: pb::Interval::Hour.into(), range: ten_years, ..good.clone() }),
        "`range` has about 87600 buckets of this `interval`, limit is 20000. Choose a wider one",
    );
    let all_time = a_range(Some(-TIME_MS_MAX), Some(TIME_MS_MAX));
    assert!(trend(pb::TrendRequest { range: all_time, ..good }).is_ok());
}

#[test]
fn bad_journeys_name_the_field_the_value_and_the_limit() {
    use pb::person_journey_request::Who as Asked;
    let of = |who| pb::PersonJourneyRequest { project: "shop".into(), who, ..Default::default() };
    assert_eq!(
        journey(of(Some(Asked::Person("0000000000000000000000000000000a".into())))).expect("a good request").who,
        Who::Person(PersonKey(10))
    );
    check(journey(of(None)), "`user_id`, `visitor_id` or `person` is missing");
    check(journey(of(Some(Asked::UserId(String::new())))), "`user_id` is missing");
    check(journey(of(Some(Asked::VisitorId("v".repeat(1025))))), "`visitor_id` is 1025 bytes, limit is 1024");
    check(journey(of(Some(Asked::Person("+1".into())))), "`person` is `+1`, must be 32 hexadecimal digits");
    check(
        journey(pb::PersonJourneyRequest { events_max: 10_001, ..of(Some(Asked::UserId("u".into()))) }),
        "`events_max` is 10001, must be 0 (then it is 200) to 10000",
    );
}

#[test]
fn bad_audiences_name_the_field_the_value_and_the_limit() {
    let rule = pb::EventCountRule { event: "purchase".into(), count_min: 2, window_ms: DAY_MS };
    let make = |name: &str, rule: Option<pb::EventCountRule>| pb::CreateAudienceRequest {
        audience: Some(pb::Audience {
            project: "shop".into(),
            name: name.into(),
            rule: rule.map(pb::audience::Rule::EventCount),
            created_ms: 0,
        }),
    };
    assert!(new_audience(make("buyers", Some(rule.clone()))).is_ok());
    check(new_audience(pb::CreateAudienceRequest { audience: None }), "`audience` is missing");
    check(new_audience(make("", Some(rule.clone()))), "`audience.name` is missing");
    check(
        new_audience(make("Käufer", Some(rule.clone()))),
        "`audience.name` is `Käufer`, must be 1 to 64 of a-z 0-9 _ -",
    );
    check(new_audience(make("buyers", None)), "`audience.event_count` is missing");
    check(
        new_audience(make(
            "buyers",
            Some(pb::EventCountRule { event: String::new(), count_min: 2, window_ms: DAY_MS }),
        )),
        "`audience.event_count.event` is missing",
    );
    check(
        new_audience(make("buyers", Some(pb::EventCountRule { count_min: 0, ..rule.clone() }))),
        "`audience.event_count.count_min` is 0, must be 1 to 1000",
    );
    check(
        new_audience(make("buyers", Some(pb::EventCountRule { window_ms: 59_999, ..rule }))),
        "`audience.event_count.window_ms` is 59999, must be 60000 (a minute) to 34560000000 (400 days)",
    );
}

#[test]
fn bad_pages_name_the_field_the_value_and_the_limit() {
    let good = pb::MembersRequest { project: "shop".into(), name: "buyers".into(), ..Default::default() };
    let first = members(good.clone()).expect("a good request");
    assert_eq!((first.after, first.page_size, first.as_of_ms), (PersonKey(0), 1000, None));
    let token = page_token(-7, PersonKey(10));
    let second = members(pb::MembersRequest { page_token: token.clone(), ..good.clone() }).expect("a good request");
    assert_eq!((second.after, second.as_of_ms), (PersonKey(10), Some(-7)));

    check(
        members(pb::MembersRequest { page_token: token, as_of_ms: Some(8), ..good.clone() }),
        "`as_of_ms` is 8, must be unset or -7, as on the page that gave `page_token`",
    );
    check(
        members(pb::MembersRequest { page_token: "x".repeat(100), ..good.clone() }),
        &format!("`page_token` is `{}…`, must be empty, or as the page before gave it", "x".repeat(80)),
    );
    check(
        members(pb::MembersRequest { page_size: 10_001, ..good }),
        "`page_size` is 10001, must be 0 (then it is 1000) to 10000",
    );
}

#[test]
fn bad_questions_about_what_arrives_name_the_field_the_value_and_the_limit() {
    let good = pb::ListRejectedRequest { project: "shop".into(), ..Default::default() };
    assert_eq!(rejected(good.clone()).expect("a good request").page_size, 50);
    assert!(rejected(pb::ListRejectedRequest::default()).is_ok(), "of no project");
    check(
        rejected(pb::ListRejectedRequest { project: "My Shop".into(), ..good.clone() }),
        "`project` is `My Shop`, must be 1 to 64 of a-z 0-9 _ -",
    );
    check(
        rejected(pb::ListRejectedRequest { reason: "r".repeat(65), ..good.clone() }),
        "`reason` is 65 bytes, limit is 64",
    );
    check(
        rejected(pb::ListRejectedRequest { page_size: 1_001, ..good.clone() }),
        "`page_size` is 1001, must be 0 (then it is 50) to 1000",
    );
    check(
        rejected(pb::ListRejectedRequest { until_ms: Some(i64::MIN), ..good }),
        "`until_ms` is -9223372036854775808, must be -253402300799999 to 253402300799999",
    );
    let good = pb::TailRequest { project: "shop".into(), ..Default::default() };
    assert!(tail(good.clone()).is_ok());
    check(tail(pb::TailRequest::default()), "`project` is missing");
    check(tail(pb::TailRequest { event: "e".repeat(513), ..good.clone() }), "`event` is 513 bytes, limit is 512");
    check(tail(pb::TailRequest { user_id: "u".repeat(1025), ..good }), "`user_id` is 1025 bytes, limit is 1024");
}
