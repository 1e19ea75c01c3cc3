//! Who may send, how much, and what is kept of whom.

use trackway_domain::time::ReceivedAt;
use trackway_gateway::{AddressRanges, IpPolicy, Objection, Privacy, Project, Quota, UseFrom};
use trackway_wire::log::pb::VisitorEvents;
use trackway_wire::redact::PropertyLists;

use crate::client::AUTHORIZED;
use crate::server::{NOW_MS, Server, config, project};

const GOOD: &str =
    r#"{"event":"e","anonymousId":"a","userId":"u","messageId":"m","properties":{"email":"a@b","plan":"pro"}}"#;

async fn with_project(change: impl FnOnce(&mut Project)) -> Server {
    let mut config = config();
    change(&mut config.projects[0]);
    Server::with(config).await
}

/// Sends a good event with more headers; what was kept of it, if anything.
async fn sent(server: &Server, headers: &str) -> (u16, Option<VisitorEvents>) {
    let before = server.log.events().len();
    let answer = server.client().await.ask("POST /v1/t", &format!("{AUTHORIZED}{headers}"), GOOD.as_bytes()).await;
    (answer.status, server.log.events().get(before).map(|(_, _, events)| events.clone()))
}

#[tokio::test]
async fn projects_are_replaced_while_requests_come() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_eq!(client.post("/v1/t", GOOD).await.status, 200);
    // Two keys live at once, so that one can be replaced without a gap.
    let mut both = project("shop", "new");
    both.write_keys.extend(project("shop", "wk").write_keys);
    server.projects.replace(std::slice::from_ref(&both)).expect("good projects");
    assert_eq!(client.post("/v1/t", GOOD).await.status, 200);
    assert_eq!(client.ask("POST /v1/t?writeKey=new", "", GOOD.as_bytes()).await.status, 200);
    server.projects.replace(&[project("shop", "new")]).expect("good projects");
    assert_eq!(client.post("/v1/t", GOOD).await.status, 401);
    let error = server.projects.replace(&[project("a", "k"), project("b", "k")]).expect_err("a shared key");
    assert_eq!(error.to_string(), "a write key of project `b` belongs to project `a` already");
    assert_eq!(client.ask("POST /v1/t?writeKey=new", "", GOOD.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn a_key_is_limited_to_its_pages_or_to_servers() {
    let server = with_project(|project| {
        project.write_keys[0].use_from = UseFrom::Origins(vec!["https://shop.example".into()]);
    });
    let server = server.await;
    assert_eq!(sent(&server, "origin: https://shop.example\r\n").await.0, 200);
    let answer = server.client().await.ask("POST /v1/t", &format!("{AUTHORIZED}origin: https://x\r\n"), b"").await;
    assert_eq!((answer.status, answer.text().contains("origin `https://x`")), (403, true), "{}", answer.text());
    let server = with_project(|project| project.write_keys[0].use_from = UseFrom::Servers).await;
    assert_eq!(sent(&server, "").await.0, 200);
    assert_eq!(sent(&server, "origin: https://shop.example\r\n").await.0, 403);
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_come_again() {
    let quota = Quota { events_per_second: Some(1), events_per_day: None };
    for of_key in [false, true] {
        let server = with_project(|project| match of_key {
            true => project.write_keys[0].quota = quota,
            false => project.quota = quota,
        });
        let server = server.await;
        // The clock of these tests stands still: three events are the burst and one more.
        for _ in 0..3 {
            assert_eq!(sent(&server, "").await.0, 200);
        }
        let answer = server.client().await.post("/v1/t", GOOD).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
        let of = if of_key { "write key" } else { "project" };
        let expected = format!("{of} has sent more than its limit of 1 events a second. Send again in 1 s");
        assert!(answer.text().contains(&expected), "{}", answer.text());
    }
}

#[tokio::test]
async fn addresses_are_truncated_kept_or_dropped() {
    let address = |policy| async move {
        let server = with_project(|project| project.privacy.ip = policy).await;
        let kept = sent(&server, "x-forwarded-for: 6.6.6.6, 198.51.100.77\r\n").await;
        kept.1.expect("an event").ip
    };
    assert_eq!(address(IpPolicy::Truncate).await, "198.51.100.0");
    assert_eq!(address(IpPolicy::Keep).await, "198.51.100.77");
    assert_eq!(address(IpPolicy::Drop).await, "");
}

#[tokio::test]
async fn an_objection_is_honoured_as_the_project_says() {
    let server = |do_not_track| with_project(move |project| project.privacy.do_not_track = do_not_track);
    for header in ["dnt: 1\r\n", "sec-gpc: 1\r\n"] {
        let (status, kept) = sent(&server(Objection::Anonymise).await, header).await;
        let kept = kept.expect("an event of nobody");
        assert_eq!((status, &*kept.ip, &*kept.events[0].user_id), (200, "", ""));
        assert!(kept.visitor_id.starts_with("anon-"), "{}", kept.visitor_id);
        assert_eq!(sent(&server(Objection::Refuse).await, header).await, (200, None));
        let (_, kept) = sent(&server(Objection::Ignore).await, header).await;
        assert_eq!(kept.expect("an event").visitor_id, "a");
    }
    let (_, kept) = sent(&server(Objection::Refuse).await, "dnt: 0\r\n").await;
    assert_eq!(kept.expect("an event").visitor_id, "a");
}

#[tokio::test]
async fn of_who_objects_only_the_reason_of_a_rejection_is_kept() {
    let server = with_project(|project| project.privacy.do_not_track = Objection::Anonymise).await;
    let headers = format!("{AUTHORIZED}dnt: 1\r\nuser-agent: UA\r\n");
    for body in [&br#"{"anonymousId":"jane-doe"}"#[..], b"{oops"] {
        server.client().await.ask("POST /v1/track?who=jane-doe", &headers, body).await;
        let kept = server.log.rejected().pop().expect("a reason");
        assert!(!kept.reason.is_empty() && kept.body.is_empty() && kept.headers.is_empty(), "{kept:?}");
        assert!(!format!("{kept:?}").contains("jane-doe"), "{kept:?}");
    }
}

#[tokio::test]
async fn of_whom_the_project_excludes_nothing_is_kept_but_a_reason_without_them() {
    let office = || vec!["192.0.2.0/24".parse().expect("a network")];
    let server = with_project(move |project| project.exclusions.addresses = AddressRanges::new(office())).await;
    let from = |address: &str| format!("x-forwarded-for: {address}\r\n");
    assert_eq!(sent(&server, &from("192.0.2.7")).await, (200, None));
    let (_, kept) = sent(&server, &from("198.51.100.7")).await;
    assert_eq!(kept.expect("an event").visitor_id, "a");
    let headers = format!("{AUTHORIZED}{}", from("192.0.2.7"));
    let answer = server.client().await.ask("POST /v1/track?who=jane-doe", &headers, b"{oops").await;
    assert_eq!(answer.status, 400);
    let kept = server.log.rejected().pop().expect("a reason");
    assert!(kept.body.is_empty() && !format!("{kept:?}").contains("jane-doe"), "{kept:?}");
}

#[tokio::test]
async fn who_denied_consent_leaves_no_address_and_another_of_the_request_does() {
    let server = Server::start().await;
    let item =
        |id: &str, consent: &str| format!(r#"{{"event":"e","visitor_id":"{id}","context":{{"consent":"{consent}"}}}}"#);
    let body = format!(r#"{{"events":[{},{}]}}"#, item("yes", "granted"), item("no", "denied"));
    let headers = format!("{AUTHORIZED}x-forwarded-for: 192.0.2.7\r\n");
    let answer = server.client().await.ask("POST /v1/events", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let events = server.log.events();
    assert_eq!((&*events[0].2.visitor_id, &*events[0].2.ip), ("yes", "192.0.2.0"));
    assert!(events[1].2.visitor_id.starts_with("anon-") && events[1].2.ip.is_empty(), "{:?}", events[1].2);
}

#[tokio::test]
async fn properties_are_kept_dropped_or_hashed() {
    let server = with_project(|project| {
        project.privacy.properties =
            PropertyLists { hash: vec!["email".into()], deny: vec!["plan".into()], ..PropertyLists::NONE };
    });
    let (_, kept) = sent(&server.await, "").await;
    let properties = kept.expect("an event").events[0].properties.clone();
    assert!(properties.starts_with(r#"{"email":""#) && !properties.contains("a@b"), "{properties}");
    assert!(!properties.contains("plan"), "{properties}");
}

#[tokio::test]
async fn cookieless_visitors_are_the_same_all_day_by_address_and_agent() {
    let server = with_project(|project| project.privacy = Privacy { cookieless: true, ..Privacy::USUAL }).await;
    let visitor = |headers: &'static str| {
        let server = &server;
        async move { sent(server, headers).await.1.expect("an event").visitor_id }
    };
    let first = visitor("user-agent: A\r\nx-forwarded-for: 192.0.2.1\r\n").await;
    assert_eq!(visitor("user-agent: A\r\nx-forwarded-for: 192.0.2.1\r\n").await, first);
    assert_ne!(visitor("user-agent: B\r\nx-forwarded-for: 192.0.2.1\r\n").await, first);
    assert_ne!(visitor("user-agent: A\r\nx-forwarded-for: 192.0.2.2\r\n").await, first);
}

#[tokio::test]
async fn a_cookie_of_ours_is_given_and_known_again() {
    let server = with_project(|project| project.privacy.id_cookie = true).await;
    let given = server.client().await.post("/v1/t", GOOD).await;
    let cookie = given.header("set-cookie").expect("a cookie").to_owned();
    let (pair, rest) = cookie.split_once(';').expect("attributes");
    assert!(rest.contains("HttpOnly") && rest.contains("SameSite=Lax"), "{cookie}");
    let again =
        server.client().await.ask("POST /v1/t", &format!("{AUTHORIZED}cookie: {pair}\r\n"), GOOD.as_bytes()).await;
    assert!(again.header("set-cookie").is_some_and(|cookie| cookie.starts_with(pair)));
    assert!(server_without_cookie().await.is_none());
}

async fn server_without_cookie() -> Option<String> {
    let server = Server::start().await;
    let answer = server.client().await.post("/v1/t", GOOD).await;
    answer.header("set-cookie").map(str::to_owned)
}

#[tokio::test]
async fn what_was_rejected_is_sent_again_once_and_with_its_time() {
    let server = Server::start().await;
    let body = format!(r#"{{"batch":[{GOOD},{{"type":"track","event":"late","anonymousId":"a"}}]}}"#);
    let then = NOW_MS - 3_600_000;
    let headers = format!(
        "x-trackway-project-key: wk\r\nx-trackway-replay: 0.7\r\nx-trackway-only: 1\r\nx-trackway-received: {then}\r\n"
    );
    let mut keys = Vec::new();
    for _ in 0..2 {
        let answer = server.client().await.ask("POST /v1/batch", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let (_, time, events) = server.log.events().pop().expect("an event");
        assert_eq!((events.events.len(), &*events.events[0].name, events.events[0].time_ms), (1, "late", then));
        assert_eq!(ReceivedAt(time), ReceivedAt(NOW_MS), "the record's own time is now");
        keys.push(events.events[0].key);
    }
    assert_eq!(keys[0], keys[1], "the second is a duplicate of the first");
}

#[tokio::test]
async fn of_events_that_share_a_record_one_that_is_anonymous_takes_the_address_away() {
    let server = with_project(|project| project.privacy.cookieless = true).await;
    let item = |consent: &str| format!(r#"{{"event":"e","context":{{"consent":"{consent}"}}}}"#);
    let body = format!(r#"{{"events":[{},{}]}}"#, item("granted"), item("denied"));
    let answer = server.client().await.ask("POST /v1/events", AUTHORIZED, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let events = server.log.events();
    assert_eq!((events.len(), events[0].2.events.len(), &*events[0].2.ip), (1, 2, ""));
}

/// Events of Mixpanel's, each with its own write key.
fn of_keys(keys: &[&str]) -> String {
    let item =
        |key: &&str| format!(r#"{{"event":"e","properties":{{"token":"{key}","distinct_id":"d","$device_id":"d"}}}}"#);
    format!("[{}]", keys.iter().map(item).collect::<Vec<_>>().join(","))
}

fn projects_of(server: &Server) -> Vec<String> {
    server.log.events().into_iter().map(|(_, _, events)| events.project).collect()
}

#[tokio::test]
async fn each_item_goes_where_its_own_key_lets_it() {
    let server = Server::start().await;
    let body = of_keys(&["wk", "nobodys", "wk_segment_test"]);
    let answer = server.client().await.ask("POST /track?verbose=1", "", body.as_bytes()).await;
    assert_eq!((answer.status, answer.text().contains("write key is not known")), (200, true), "{}", answer.text());
    assert_eq!(projects_of(&server), ["shop", "blog"]);
    assert!(server.log.rejected().is_empty(), "what no key lets in is not kept");
}

#[tokio::test]
async fn a_request_is_taken_whole_or_asked_for_again_where_one_of_its_keys_is_used_up() {
    let mut config = config();
    config.projects[1].quota = Quota { events_per_second: Some(1), events_per_day: None };
    let server = Server::with(config).await;
    for _ in 0..3 {
        let answer = server.client().await.ask("POST /track", "", of_keys(&["wk_segment_test"]).as_bytes()).await;
        assert_eq!(answer.status, 200);
    }
    let answer = server.client().await.ask("POST /track", "", of_keys(&["wk", "wk_segment_test"]).as_bytes()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{}", answer.text());
    assert_eq!(projects_of(&server), ["blog"; 3]);
}

#[tokio::test]
async fn a_replay_goes_to_the_project_that_it_names_and_leaves_no_second_rejection() {
    let server = Server::start().await;
    let headers = "x-trackway-project-key: wk\r\nx-trackway-replay: 0.7\r\n";
    let answer =
        server.client().await.ask("POST /track", headers, of_keys(&["wk_segment_test", "nobodys"]).as_bytes()).await;
    assert_eq!((answer.status, projects_of(&server)), (200, vec!["shop".to_owned()]), "{}", answer.text());
    assert_eq!(server.log.events()[0].2.events.len(), 2);
    let still_bad = r#"{"batch":[{"type":"track","anonymousId":"a"}]}"#;
    let answer = server.client().await.ask("POST /v1/batch", headers, still_bad.as_bytes()).await;
    assert!(answer.text().contains("missing_field") && server.log.rejected().is_empty(), "{}", answer.text());
}

#[tokio::test]
async fn a_browser_in_a_data_centre_or_without_a_head_is_flagged_and_a_server_is_not() {
    let mut config = config();
    config.hosting = std::sync::Arc::new(AddressRanges::new(vec!["198.51.100.0/24".parse().expect("a network")]));
    let server = Server::with(config).await;
    let bot = |headers: &'static str| {
        let server = &server;
        async move { sent(server, headers).await.1.expect("an event").bot }
    };
    assert_eq!(bot("x-forwarded-for: 198.51.100.7\r\nuser-agent: Mozilla/5.0 X\r\n").await, "hosting");
    assert_eq!(bot("x-forwarded-for: 198.51.100.7\r\nuser-agent: python-requests/2\r\n").await, "");
    assert_eq!(bot("x-forwarded-for: 192.0.2.7\r\nuser-agent: Mozilla/5.0 X\r\n").await, "");
    assert_eq!(bot("user-agent: Mozilla/5.0 X\r\nsec-ch-ua: \"HeadlessChrome\";v=\"156\"\r\n").await, "headless");
}

#[tokio::test]
async fn a_tracker_that_asks_not_to_be_known_leaves_no_address() {
    let server = Server::start().await;
    let body = r#"{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data":[{"e":"pv","aid":"wk","url":"https://x.example/","eid":"8c5c3ab0-95ab-4d5c-8d4c-2f0c8c5c3ab0"}]}"#;
    for (headers, address) in [("", "192.0.2.0"), ("sp-anonymous: *\r\n", "")] {
        let headers = format!("{headers}x-forwarded-for: 192.0.2.7\r\n");
        let path = "POST /com.snowplowanalytics.snowplow/tp2";
        assert_eq!(server.client().await.ask(path, &headers, body.as_bytes()).await.status, 200);
        assert_eq!(server.log.events().pop().expect("an event").2.ip, address);
    }
}
