//! Segment's API: what reaches the log, and what is answered.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use serde_json::Value;
use trackway_domain::id::{EventKey, PersonKey, ProjectId};
use trackway_wire::log::pb;

use crate::client::{AUTHORIZED, Client};
use crate::log::EVENTS_PARTITIONS;
use crate::server::{NOW_MS, Server, config, eventually};

const GOOD: &str = r#"{"event":"e","anonymousId":"a","messageId":"m1"}"#;

fn item(visitor: &str, name: &str) -> String {
    format!(r#"{{"type":"track","event":"{name}","anonymousId":"{visitor}"}}"#)
}

fn batch(items: &[String]) -> String {
    format!(r#"{{"batch":[{}]}}"#, items.join(","))
}

fn names(events: &pb::VisitorEvents) -> Vec<&str> {
    events.events.iter().map(|event| &*event.name).collect()
}

#[tokio::test]
async fn one_record_per_visitor_holds_its_events_in_order() {
    let server = Server::start().await;
    let items = [item("a", "1"), item("b", "2"), item("a", "3"), item("c", "4"), item("b", "5"), item("c", "6")];
    let answer = server.client().await.post("/v1/batch", &batch(&items)).await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"success":true}"#));
    let project = ProjectId::parse("shop").expect("a project id");
    let seen: Vec<_> = server.log.events();
    for (partition, timestamp_ms, events) in &seen {
        assert_eq!(*partition, PersonKey::of_device(&project, &events.visitor_id).partition(EVENTS_PARTITIONS));
        assert_eq!(*timestamp_ms, NOW_MS);
        assert_eq!((&*events.project, &*events.protocol), ("shop", "segment"));
    }
    let seen: Vec<_> = seen.iter().map(|(_, _, events)| (&*events.visitor_id, names(events))).collect();
    assert_eq!(seen, [("a", vec!["1", "3"]), ("b", vec!["2", "5"]), ("c", vec!["4", "6"])]);
    let sequences: Vec<_> = server.log.events()[0].2.events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [0, 2]);
}

#[tokio::test]
async fn an_event_is_stamped_and_known_by_its_id_or_its_content() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let nameless = r#"{"event":"e","anonymousId":"a"}"#;
    for body in [GOOD, nameless, nameless, r#"{"event":"e","anonymousId":"a","x":1}"#] {
        assert_eq!(client.post("/v1/t", body).await.status, 200);
    }
    let events: Vec<_> = server.log.events().into_iter().map(|(_, _, mut events)| events.events.remove(0)).collect();
    let project = ProjectId::parse("shop").expect("a project id");
    assert_eq!(events[0].key, EventKey::of_id(&project, "m1").0);
    assert_eq!(events[0].time_ms, NOW_MS);
    assert_eq!(events[1].key, EventKey::of_content(&project, nameless.as_bytes()).0);
    assert_eq!(events[1].key, events[2].key);
    assert_ne!(events[1].key, events[3].key);
}

#[tokio::test]
async fn the_user_agent_stands_once_unless_an_event_has_another() {
    let server = Server::start().await;
    let event = |ua: &str| format!(r#"{{"type":"page","anonymousId":"a","context":{{"userAgent":"{ua}"}}}}"#);
    let headers = format!("{AUTHORIZED}user-agent: Browser/1\r\n");
    let body = batch(&[event("Browser/1"), event("Server/2")]);
    server.client().await.ask("POST /v1/batch", &headers, body.as_bytes()).await;
    let (_, _, events) = server.log.events().remove(0);
    let agents: Vec<_> = events.events.iter().map(|event| &*event.user_agent).collect();
    assert_eq!((&*events.user_agent, agents), ("Browser/1", vec!["", "Server/2"]));
}

#[tokio::test]
async fn a_bad_item_is_answered_and_kept_by_itself() {
    let server = Server::start().await;
    let body = batch(&[item("a", "good"), r#"{"type":"track","anonymousId":"a"}"#.into(), "7".into()]);
    let answer = server.client().await.post("/v1/batch", &body).await;
    assert_eq!(answer.status, 200);
    let expected = serde_json::json!({"success": true, "accepted": 1, "rejected": [
        {"index": 1, "code": "missing_field", "message": "`event` is missing. A track call names what the visitor did"},
        {"index": 2, "code": "malformed", "message": "item of the batch is not a JSON object"},
    ]});
    assert_eq!(serde_json::from_str::<Value>(answer.text()).expect("JSON"), expected);
    assert_eq!(server.log.events().len(), 1);
    let kept = server.log.rejected();
    assert_eq!(kept.len(), 1, "one record a request, with its bytes once");
    assert_eq!((&*kept[0].project, &*kept[0].protocol, &*kept[0].reason), ("shop", "segment", "missing_field"));
    assert_eq!((&*kept[0].method, &*kept[0].target, &*kept[0].body), ("POST", "/v1/batch", body.as_bytes()));
    let items = &kept[0].items;
    assert_eq!((items[0].index, &*items[0].content), (1, &br#"{"type":"track","anonymousId":"a"}"#[..]));
    assert_eq!((items[1].index, &*items[1].message), (2, "item of the batch is not a JSON object"));
    assert!(kept[0].headers.iter().all(|header| header.name != "authorization"), "no secret is kept");
}

#[tokio::test]
async fn nothing_but_bad_items_is_no_success() {
    let server = Server::start().await;
    let answer = server.client().await.post("/v1/track", r#"{"event":"e"}"#).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().starts_with(r#"{"success":false,"accepted":0,"rejected":[{"index":0,"#), "{}", answer.text());
    let alias = r#"{"previousId":"u","userId":"u"}"#;
    assert_eq!(server.client().await.post("/v1/alias", alias).await.text(), r#"{"success":true}"#);
    assert!(server.log.events().is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_json_is_kept_if_its_project_is_known() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let answer = client.post("/v1/track", "{oops").await;
    assert_eq!(answer.status, 400);
    let expected = r#"{"success":false,"code":"malformed","message":"body at line 1 column 2 is not valid JSON"}"#;
    assert_eq!(answer.text(), expected);
    let kept = server.log.rejected();
    assert_eq!((kept.len(), &*kept[0].project, &*kept[0].body), (1, "shop", &b"{oops"[..]));
    assert_eq!(client.ask("POST /v1/track", "", b"{oops").await.status, 400);
    assert_eq!(server.log.rejected().len(), 1, "anyone could fill the disk");
}

#[tokio::test]
async fn a_rejected_body_is_kept_whole_so_that_it_can_be_sent_again() {
    let server = Server::start().await;
    let answer = server.client().await.post("/v1/track", &format!("{{{}", "x".repeat(70_000))).await;
    assert_eq!(answer.status, 400);
    assert_eq!(server.log.rejected()[0].body.len(), 70_001);
}

#[tokio::test]
async fn the_write_key_comes_in_the_head_the_query_or_the_body() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let body = r#"{"event":"e","anonymousId":"a","writeKey":"wk_segment_test"}"#;
    let project = |server: &Server| server.log.events().pop().expect("an event").2.project;
    client.ask("POST /v1/t", "", body.as_bytes()).await;
    assert_eq!(project(&server), "blog");
    client.ask("POST /v1/t?writeKey=wk", "", body.as_bytes()).await;
    assert_eq!(project(&server), "shop");
    client.ask("POST /v1/t?writeKey=nobodys", AUTHORIZED, body.as_bytes()).await;
    assert_eq!(project(&server), "shop");
    assert_eq!(server.log.events().len(), 3);
}

#[tokio::test]
async fn without_a_known_key_nothing_is_kept() {
    let server = Server::start().await;
    let answer = server.client().await.ask("POST /v1/t?writeKey=x", "", GOOD.as_bytes()).await;
    assert_eq!(answer.status, 401);
    let expected = r#"{"success":false,"code":"unknown_write_key","message":"write key is not known"}"#;
    assert_eq!(answer.text(), expected);
    let unknown = r#"{"event":"e","anonymousId":"a","writeKey":"x"}"#;
    assert_eq!(server.client().await.ask("POST /v1/t", "", unknown.as_bytes()).await.status, 401);
    let answer = server.client().await.ask("POST /v1/t", "", GOOD.as_bytes()).await;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("write key is missing. Send it where"), "{}", answer.text());
    assert!(server.log.events().is_empty() && server.log.rejected().is_empty());
}

#[tokio::test]
async fn a_log_that_takes_nothing_means_send_again() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mixed = batch(&[item("a", "good"), "7".into()]);
    for (topic, path, body) in [
        ("events", "/v1/track", GOOD),
        ("rejected", "/v1/track", r#"{"event":"e"}"#),
        ("rejected", "/v1/track", "{oops"),
        ("rejected", "/v1/batch", &mixed),
        ("events", "/v1/batch", &mixed),
    ] {
        server.log.break_topic(Some(topic));
        let answer = client.post(path, body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{topic} {body}");
        let expected = r#"{"success":false,"code":"log_unavailable","message":"event log did not take the events. Send again later"}"#;
        assert_eq!(answer.text(), expected);
    }
    server.log.break_topic(None);
    assert_eq!(client.post("/v1/track", GOOD).await.status, 200);
}

#[tokio::test]
async fn success_is_answered_only_once_the_log_has_it() {
    let server = Server::start().await;
    server.log.stalled.store(true, Ordering::SeqCst);
    let mut client = server.client().await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), client.post("/v1/track", GOOD)).await;
    assert!(early.is_err(), "{early:?}");
    server.log.gate.add_permits(1);
    assert_eq!(client.answer().await.expect("an answer").status, 200);
    assert_eq!(server.log.events().len(), 1);
}

#[tokio::test]
async fn a_log_that_does_not_answer_means_send_again() {
    let mut config = config();
    config.limits.append_timeout = std::time::Duration::from_secs(1);
    let server = Server::with(config).await;
    server.log.stalled.store(true, Ordering::SeqCst);
    let answer = server.client().await.post("/v1/track", GOOD).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.text().contains("event log did not answer within 1s"), "{}", answer.text());
}

#[tokio::test]
async fn a_beacon_counts_although_its_page_is_gone() {
    let server = Server::start().await;
    server.log.stalled.store(true, Ordering::SeqCst);
    let mut client = server.client().await;
    let head = format!("POST /v1/t HTTP/1.1\r\nhost: x\r\n{AUTHORIZED}content-length: {}\r\n\r\n", GOOD.len());
    client.send(&[head.as_bytes(), GOOD.as_bytes()].concat()).await;
    // The request is in the log's hands before its client goes away.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    drop(client);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.log.gate.add_permits(1);
    eventually("the event", || server.log.events().len() == 1).await;
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_named() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let answer = client.post("/v2/tr\\\"ack", GOOD).await;
    assert_eq!(answer.status, 404);
    let body: Value = serde_json::from_str(answer.text()).expect("JSON");
    assert_eq!(
        (&body["code"], &body["message"]),
        (&"no_such_path".into(), &r#"path `/v2/tr\"ack` is not known"#.into())
    );
    let mut client = server.client().await;
    let answer = client.ask("GET /v1/track", "", b"").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, OPTIONS")));
    let answer = client.ask("POST /v1/pixel.gif", "", b"").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, OPTIONS")));
    let answer = client.ask("GET /health", "", b"").await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(client.post("/v1/track/", GOOD).await.status, 200, "trackers disagree about the last slash");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for _ in 0..20 {
        let answer = client.post("/v1/track", GOOD).await;
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
    assert_eq!(server.log.events().len(), 20);
}

#[tokio::test]
async fn http_2_is_spoken_without_being_asked() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // Preface and empty SETTINGS; the answer begins with the server's SETTINGS frame (type 4).
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    assert_eq!(client.raw(4).await[3], 4);
}

/// Every recorded request gets the answer that its tracker was content with.
#[tokio::test]
async fn recorded_trackers_get_the_answers_they_know() {
    let server = Server::start().await;
    for capture in ["segment.jsonl", "segment-python.jsonl"] {
        let path = format!("{}/../wire/tests/captures/segment/{capture}", env!("CARGO_MANIFEST_DIR"));
        let capture = std::fs::read_to_string(path).expect("the capture");
        for line in capture.lines() {
            let entry: Value = serde_json::from_str(line).expect("JSON");
            let answer = replay(&mut server.client().await, &entry["request"]).await;
            let expected = &entry["response_expected"];
            assert_eq!(u64::from(answer.status), expected["status"].as_u64().expect("a status"), "{line}");
            assert_eq!(answer.body, decoded(&expected["body_b64"]), "{line}");
            let asked = entry["request"]["headers"]["origin"].as_str();
            for (name, value) in expected["headers"].as_object().expect("headers") {
                if name.starts_with("access-control") || name == "vary" {
                    assert_eq!(answer.header(name), value.as_str(), "{name}: {line}");
                }
            }
            assert_eq!(answer.header("access-control-allow-origin"), asked, "{line}");
        }
    }
    let events: usize = server.log.events().iter().map(|(_, _, events)| events.events.len()).sum();
    // 40 of the browser and 26 of Python, less an alias of an id to itself.
    assert_eq!(events, 65);
    assert!(server.log.rejected().is_empty());
    assert!(server.log.events().iter().all(|(_, _, events)| events.project == "blog"));
}

async fn replay(client: &mut Client, request: &Value) -> crate::client::Answer {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let raw: Vec<_> = request["raw_headers"].as_array().expect("headers").iter().map(text).collect();
    let own = ["host", "content-length"];
    let kept = raw.chunks(2).filter(|pair| !own.contains(&&*pair[0].to_lowercase()));
    let headers: String = kept.map(|pair| format!("{}: {}\r\n", pair[0], pair[1])).collect();
    let request_line = format!("{} {}", text(&request["method"]), text(&request["target"]));
    client.ask(&request_line, &headers, &decoded(&request["body_b64"])).await
}

fn decoded(body: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(body.as_str().expect("a body")).expect("base64")
}
