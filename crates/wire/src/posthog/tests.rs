//! The doc's claims, one by one.

use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{Refused, Tally};

fn understood(target: &str, body: &str) -> Understood {
    let parse = |request: &Request<'_>| PostHog.parse(request);
    with_request(Method::Post, target, &[], body.as_bytes(), parse).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn events(target: &str, body: &str) -> Vec<ReceivedEvent> {
    let events = understood(target, body).items.into_iter().map(|item| match item {
        Item::Event { event, .. } => event,
        other => panic!("{other:?}: {body}"),
    });
    events.collect()
}

/// The one event whose members and properties are given, each beginning with a comma.
fn event(members: &str, properties: &str) -> ReceivedEvent {
    let body = format!(r#"{{"api_key":"k","event":"e"{members},"properties":{{"x":1{properties}}}}}"#);
    events("/i/v0/e/", &body).remove(0)
}

fn refusal(body: &[u8]) -> String {
    let parse = |request: &Request<'_>| PostHog.parse(request).expect_err("a refusal").to_string();
    with_request(Method::Post, "/batch/", &[], body, parse)
}

#[test]
fn a_body_is_a_batch_a_list_or_one_event_as_json_or_in_a_form() {
    let one = r#"{"event":"e","properties":{"token":"k","distinct_id":"u","q":">>>>>?????!"}}"#;
    let list = format!("[{one},{one}]");
    let base64 = base64::engine::general_purpose::STANDARD.encode(&list);
    assert!(base64.contains('+') && base64.contains('/') && base64.ends_with('='));
    let form = |data: &str| form_urlencoded::Serializer::new(String::new()).append_pair("data", data).finish();
    for (target, body, count) in [
        ("/e/", one.to_owned(), 1),
        ("/e/", list.clone(), 2),
        ("/batch/", format!(r#"{{"api_key":"k","batch":{list}}}"#), 2),
        ("/e/", form(&list), 2),
        ("/i/v0/e/?compression=base64", form(&base64), 2),
        // Not percent-encoded, so that the form has blanks where pluses were.
        ("/i/v0/e/?compression=base64", format!("data={base64}"), 2),
        ("/i/v0/e/?compression=base64", form(&base64.trim_end_matches('=').replace('+', "-").replace('/', "_")), 2),
    ] {
        let understood = understood(target, &body);
        assert_eq!((understood.items.len(), understood.write_key.as_deref()), (count, Some("k")), "{body}");
        let Some(Item::Event { event, .. }) = understood.items.first() else { panic!("{body}") };
        assert_eq!((&*event.name, &*event.properties), ("e", r#"{"q":">>>>>?????!"}"#));
    }
    let parse = |request: &Request<'_>| PostHog.parse(request).map(|understood| understood.items.len());
    assert_eq!(with_request(Method::Get, &format!("/e/?{}", form(&base64)), &[], b"", parse), Ok(2));
    assert_eq!(refusal(b"x=1"), "body is not a JSON object or list");
    assert_eq!(refusal(b""), "body is not a JSON object or list");
    assert_eq!(refusal(b"{"), "body at line 1 column 1 is not valid JSON");
    assert_eq!(refusal(br#"{"batch":{}}"#), "batch is not a JSON list of events");
    let many = format!(r#"{{"batch":[{}1]}}"#, "1,".repeat(1000));
    assert_eq!(refusal(many.as_bytes()), "batch is 1 001 events, limit is 1 000");
}

#[test]
fn a_bad_item_stands_in_its_place_and_spoils_no_other() {
    let body = r#"{"api_key":"k","batch":[7,{"event":"e","distinct_id":"u","properties":{"n":NaN}},{"event":"f"}]}"#;
    let items = understood("/batch/", body).items;
    let [Item::Rejected { content, .. }, Item::Event { event, .. }, Item::Rejected { reason, .. }] = &items[..] else {
        panic!("{items:?}")
    };
    assert_eq!((&**content, event.sequence, &*event.properties), (&b"7"[..], 1, "{}"));
    assert!(reason.to_string().starts_with("`distinct_id` is missing."), "{reason}");
}

#[test]
fn an_item_with_another_key_says_so() {
    let item = |key: &str| format!(r#"{{"event":"e","properties":{{"token":"{key}","distinct_id":"u"}}}}"#);
    let beside = r#"{"api_key":"b","event":"e","$distinct_id":"u"}"#;
    let body = format!("[{},{},{beside}]", item("a"), item("a"));
    let understood = understood("/e/", &body);
    assert_eq!((understood.write_key.as_deref(), &*understood.own_keys), (Some("a"), &[(2, "b".to_owned())][..]));
    assert!(understood.items.iter().all(|item| matches!(item, Item::Event { .. })), "{understood:?}");
}

#[test]
fn a_visitor_is_the_device_until_identified_and_somebody_new_after_a_reset() {
    let ids = |properties: &str| {
        let event = event(r#","distinct_id":"X""#, properties);
        (event.visitor.expect("somebody"), event.user_id)
    };
    let device = |id: &str| Visitor::Device(id.into());
    let user = || Some("X".to_owned());
    assert_eq!(ids(r#","$device_id":"X""#), (device("X"), None));
    assert_eq!(ids(r#","$device_id":"D","$is_identified":true"#), (device("D"), user()));
    assert_eq!(ids(r#","$device_id":"D","$is_identified":false"#), (device("X"), None));
    assert_eq!(ids(r#","$device_id":"D""#), (device("D"), user()));
    assert_eq!(ids(""), (Visitor::User("X".into()), user()));
    // Such an event makes nobody a person.
    assert_eq!(ids(r#","$process_person_profile":false"#), (device("X"), None));
}

#[test]
fn identify_joins_the_anonymous_id_with_the_user() {
    let body = r#"{"event":"$identify","$set":{"a":1},"$set_once":{"b":2},"$unset":["c"],
        "properties":{"distinct_id":"U","$anon_distinct_id":"A","$device_id":"D","$is_identified":false,"$set":{"a":3,"d":4}}}"#;
    let event = events("/e/", body).remove(0);
    assert_eq!((event.kind, event.user_id.as_deref()), (EventKind::Identify, Some("U")));
    assert_eq!(event.visitor, Some(Visitor::Device("A".into())));
    assert_eq!(event.traits, r#"{"a":1,"d":4,"$set_once":{"b":2},"$unset":["c"]}"#);
}

#[test]
fn person_updates_of_an_ordinary_event_are_its_traits() {
    let event = event(r#","distinct_id":"u""#, r#","$set":{"plan":"pro","none":null},"$set_once":{"first":1}"#);
    assert_eq!((event.kind, &*event.traits), (EventKind::Track, r#"{"plan":"pro","$set_once":{"first":1}}"#));
    assert_eq!(event.properties, r#"{"x":1}"#);
}

#[test]
fn aliases_and_merges_name_the_id_that_is_used_from_now_on() {
    let ids = |name: &str| {
        let body = format!(r#"{{"event":"{name}","distinct_id":"d","properties":{{"alias":"a"}}}}"#);
        let event = events("/e/", &body).remove(0);
        (event.kind, event.user_id.expect("a user"), event.other_id.expect("another"))
    };
    assert_eq!(ids("$create_alias"), (EventKind::Alias, "a".into(), "d".into()));
    assert_eq!(ids("$merge_dangerously"), (EventKind::Alias, "d".into(), "a".into()));
    let same = r#"{"event":"$create_alias","distinct_id":"d","properties":{"alias":"d"}}"#;
    assert!(matches!(understood("/e/", same).items[..], [Item::Nothing]));
}

#[test]
fn a_group_made_known_by_a_server_names_no_user() {
    let visitor = |id: &str| {
        let body = format!(
            r#"{{"event":"$groupidentify","distinct_id":"{id}","properties":{{"$group_type":"company","$group_key":"g","$group_set":{{"n":1}}}}}}"#
        );
        let event = events("/batch/", &body).remove(0);
        assert_eq!((event.other_id.as_deref(), &*event.traits), (Some("g"), r#"{"n":1}"#));
        event.visitor.expect("somebody")
    };
    let uuid = "6265abac-a3ab-4615-8765-d21aee2d482d";
    assert_eq!(visitor(uuid), Visitor::Device(uuid.into()));
    assert_eq!(visitor("$company_g"), Visitor::Device("$company_g".into()));
    assert_eq!(visitor("u"), Visitor::User("u".into()));
    // A browser's ids are its own, whatever their shape.
    let body = format!(
        r#"{{"event":"$groupidentify","distinct_id":"{uuid}","properties":{{"$group_key":"g","$device_id":"D","$is_identified":true}}}}"#
    );
    let event = events("/e/", &body).remove(0);
    assert_eq!((event.visitor, event.user_id.as_deref()), (Some(Visitor::Device("D".into())), Some(uuid)));
}

#[test]
fn no_name_stands_twice() {
    let event = event(r#","distinct_id":"u","y":2"#, r#","$context":1,"$set":{"$unset":1,"$set_once":2,"a":3}"#);
    assert_eq!(event.properties, r#"{"x":1,"$context":1,"$context_of_event":{"y":2}}"#);
    assert_eq!(event.traits, r#"{"a":3}"#);
}

#[test]
fn a_title_is_the_pages_on_a_page_view_and_the_apps_elsewhere() {
    let with_title = |name: &str| {
        let body =
            format!(r#"{{"event":"{name}","distinct_id":"u","properties":{{"title":"t","$referrer":"$direct"}}}}"#);
        let event = events("/e/", &body).remove(0);
        assert_eq!(event.context.referrer, "", "that is what the tracker says where there was none");
        (event.context.title, event.properties)
    };
    assert_eq!(with_title("$pageview"), ("t".into(), "{}".into()));
    assert_eq!(with_title("x"), (String::new(), r#"{"title":"t"}"#.into()));
}

#[test]
fn a_visitor_without_consent_is_derived_and_not_kept() {
    let body =
        r#"{"event":"e","properties":{"distinct_id":"$posthog_cookieless","$device_id":null,"$cookieless_mode":true}}"#;
    let understood = understood("/e/", body);
    let [Item::Event { event, .. }] = &understood.items[..] else { panic!("{understood:?}") };
    assert_eq!((&event.visitor, &event.user_id, understood.anonymous), (&None, &None, true));
}

#[test]
fn times_come_from_the_timestamp_or_from_how_long_ago_it_was() {
    const T: i64 = 1_795_360_845_072;
    let times = |target: &str, members: &str| {
        let body = format!(r#"{{"event":"e","distinct_id":"u"{members}}}"#);
        let event = events(target, &body).remove(0);
        (event.client_time_ms, event.sent_at_ms)
    };
    let timestamp = r#","timestamp":"2026-11-22T15:20:45.072Z","properties":{"$time":1}"#;
    assert_eq!(times("/e/", timestamp), (Some(T), None));
    assert_eq!(times(&format!("/e/?_={}", T + 7), timestamp), (Some(T), Some(T + 7)));
    assert_eq!(
        times("/e/", &format!(r#"{timestamp},"sent_at":"2026-11-22T15:20:46.072Z""#)),
        (Some(T), Some(T + 1000))
    );
    let batch = r#"{"batch":[{"event":"e","distinct_id":"u","sent_at":"2026-11-22T15:20:45.072Z"}],"sent_at":1}"#;
    assert_eq!(events("/e/", batch).remove(0).sent_at_ms, Some(T), "an event's own word comes first");
    assert_eq!(times("/e/", r#","offset":300,"properties":{"$time":1795360845.072}"#), (Some(T), Some(T + 300)));
    assert_eq!(times(&format!("/e/?_={T}"), r#","offset":300"#), (Some(T - 300), Some(T)));
}

#[test]
fn an_import_keeps_its_times_whatever_the_importers_clock() {
    let sent = |is_import: bool| {
        let body = format!(
            r#"{{"historical_migration":{is_import},"sent_at":"2026-11-22T15:20:45Z","batch":[{{"event":"e","distinct_id":"u"}}]}}"#
        );
        events("/batch/", &body).remove(0).sent_at_ms
    };
    assert_eq!((sent(true), sent(false)), (None, Some(1_795_360_845_000)));
}

#[test]
fn a_campaign_that_sticks_is_none_of_the_event_where_an_address_says_better() {
    let source = |address: &str| {
        event(r#","distinct_id":"u""#, &format!(r#","utm_source":"mail"{address}"#)).context.campaign.source
    };
    assert_eq!((source(""), source(r#","$current_url":"https://x.example/""#)), ("mail".to_owned(), String::new()));
}

#[test]
fn what_stands_beside_the_properties_is_kept_and_keys_are_not() {
    let event =
        event(r#","distinct_id":"u","type":"capture","library":"posthog-node","library_version":"1","y":2"#, "");
    assert_eq!(event.properties, r#"{"x":1,"$context":{"y":2}}"#);
    assert_eq!((&*event.context.library, &*event.context.library_version), ("posthog-node", "1"));
    let wrong = events("/e/", r#"{"event":"e","distinct_id":"u","properties":[1]}"#).remove(0);
    assert_eq!(wrong.properties, r#"{"$context":{"properties":[1]}}"#);
}

#[test]
fn an_event_without_a_uuid_has_its_insert_id_or_its_content() {
    assert_eq!(event(r#","distinct_id":"u","uuid":"i""#, r#","$insert_id":"j""#).id.as_deref(), Some("i"));
    assert_eq!(event(r#","distinct_id":"u""#, r#","$insert_id":"j""#).id.as_deref(), Some("j"));
    let body = r#"{"event":"e","distinct_id":"u"}"#;
    let items = understood("/e/", body).items;
    assert!(matches!(&items[..], [Item::Event { content, .. }] if content == body.as_bytes()));
}

#[test]
fn a_shared_path_is_known_by_its_batch() {
    let recognised = |target: &str, body: &[u8]| {
        with_request(Method::Post, target, &[], body, |request| PostHog.recognises(request))
    };
    assert!(recognised("/batch/", br#" {"api_key":"k","batch":[]}"#));
    assert!(!recognised("/batch", br#"{"api_key":"k","events":[{"batch":[]}]}"#));
    assert!(!recognised("/batch", b"v=1&tid=UA-1&batch=2"));
    assert!(recognised("/e/", b"data=x"));
}

#[test]
fn settings_flags_and_recordings_are_answered_aside() {
    let aside = |method, target: &str| {
        with_request(method, target, &[], b"", |request| {
            assert!(PostHog.claims(&request.head), "{target}");
            let answer = PostHog.aside(request).unwrap_or_else(|| panic!("{target}"));
            (answer.status, String::from_utf8(answer.body.into_owned()).expect("text"))
        })
    };
    let (status, config) = aside(Method::Get, "/array/a\"b/config");
    assert!(status == 200 && config.starts_with(r#"{"token":"a\"b","#) && config.contains(r#""endpoint":"/i/v0/e/""#));
    assert!(!config.contains("surveys"), "posthog-js would look for /static/surveys.js");
    assert!(aside(Method::Get, "/array/k/config.js").1.starts_with("(function(){"));
    assert!(aside(Method::Post, "/flags/?v=2").1.contains(r#""flags":{}"#));
    assert!(aside(Method::Post, "/decide/?v=3").1.contains(r#""requestId":"00000000"#));
    assert_eq!(aside(Method::Post, "/s/"), (200, r#"{"status":1}"#.into()));
    let none = with_request(Method::Post, "/i/v0/e/", &[], b"", |request| PostHog.aside(request));
    assert_eq!(none, None);
}

#[test]
fn what_was_taken_is_200_what_may_be_taken_later_503_and_what_never_will_400_or_its_like() {
    let status = |verdict: &Verdict<'_>| {
        with_request(Method::Post, "/e/", &[], b"", |request| PostHog.answer(request, verdict).status)
    };
    let reason = Rejection::Missing { field: "event", hint: "" };
    let tally = Tally { rejected: vec![(0, reason)], ..Tally::default() };
    assert_eq!(status(&Verdict::Taken(&Tally::default())), 200);
    assert_eq!(status(&Verdict::Taken(&tally)), 200);
    for (refused, retry_after_seconds, answered) in [
        (401, None, 401),
        (413, None, 413),
        (429, Some(1), 503),
        (503, Some(1), 503),
        // Sent again by node.
        (404, None, 400),
        // Sent again for ever by Python and node if it were passed on.
        (429, None, 400),
        (500, None, 400),
    ] {
        let refused = Refused { status: refused, code: "c", message: String::new(), retry_after_seconds };
        assert_eq!(status(&Verdict::Refused(&refused)), answered);
    }
}

#[test]
fn where_the_head_says_key_and_tracker_it_is_read() {
    let headers = [
        ("authorization", "Bearer phc_k"),
        ("posthog-sdk-info", "posthog-node/5.70.0"),
        ("posthog-request-timestamp", "2026-11-22T15:20:46.072Z"),
    ];
    let body = r#"{"created_at":"2026-11-22T15:20:45.072Z","batch":[
        {"event":"e","uuid":"i","distinct_id":"u","session_id":"s","options":{},"properties":{"a":1}},
        {"event":"e","uuid":"j","distinct_id":"u","options":{"process_person_profile":false},"properties":{}},
        {"event":"e","uuid":"k","distinct_id":"u","options":{"cookieless_mode":true},"properties":{}}]}"#;
    with_request(Method::Post, "/i/v1/analytics/events", &headers, body.as_bytes(), |request| {
        assert!(PostHog.claims(&request.head));
        assert_eq!(PostHog.write_key(&request.head).as_deref(), Some("phc_k"));
        let items = PostHog.parse(request).expect("a batch").items;
        let [
            Item::Event { event: one, .. },
            Item::Event { event: personless, .. },
            Item::Event { event: cookieless, .. },
        ] = &items[..]
        else {
            panic!("{items:?}")
        };
        assert_eq!((one.user_id.as_deref(), &*one.properties, &*one.context.session), (Some("u"), r#"{"a":1}"#, "s"));
        assert_eq!((&*one.context.library, &*one.context.library_version), ("posthog-node", "5.70.0"));
        assert_eq!(one.sent_at_ms, Some(1_795_360_846_072));
        assert_eq!((&personless.visitor, &personless.user_id), (&Some(Visitor::Device("u".into())), &None));
        assert_eq!((&cookieless.visitor, &cookieless.user_id), (&None, &None));
    });
}
