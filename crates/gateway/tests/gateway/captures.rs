//! Every recorded request of every tracker, with its own headers, over TCP: taken, and answered as its tracker expects.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trackway_gateway::{Quota, UseFrom, WriteKey};

use crate::client::Client;
use crate::server::{Server, config, project};

/// What names the project in the recordings, tracker by tracker.
const KEYS: [&str; 15] = [
    "ampkey_test_0123456789abcdef",
    "countly_app_key_test",
    "jitsu_key",
    "1",
    "mp_token_test",
    "mp_secret",
    "op_client_test",
    "shop.example.com",
    "phc_test_key",
    "wk_rudder_test",
    "wk_segment_test",
    "shop-backend",
    "shop-web",
    "b59e9c65-ae32-47f1-8400-119fcf4861c4",
    "G-TEST12345",
];

/// Names of headers that the client writes itself.
const OWN_HEADERS: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];

/// Sends the request of a line of a capture; its answer's status and headers.
async fn send(client: &mut Client, request: &Value) -> crate::client::Answer {
    let headers = request["headers"].as_object().expect("headers").iter();
    let headers = headers.filter(|(name, _)| !OWN_HEADERS.contains(&name.to_lowercase().as_str()));
    let headers: String =
        headers.map(|(name, value)| format!("{name}: {}\r\n", value.as_str().expect("text"))).collect();
    let body = STANDARD.decode(request["body_b64"].as_str().unwrap_or_default()).expect("base64");
    let (method, target) =
        (request["method"].as_str().expect("a method"), request["target"].as_str().expect("a target"));
    client.ask(&format!("{method} {target}"), &headers, &body).await
}

#[tokio::test]
async fn every_recorded_request_is_taken_and_answered_as_its_tracker_expects() {
    let mut config = config();
    config.limits.batch_events_max = 1000;
    let mut all = project("trackers", KEYS[0]);
    all.write_keys = KEYS
        .iter()
        .map(|key| WriteKey { key: (*key).to_owned(), use_from: UseFrom::Anywhere, quota: Quota::default() })
        .collect();
    config.projects = vec![all];
    let server = Server::with(config).await;
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/captures");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for folder in std::fs::read_dir(captures).expect("captures").flatten() {
        for file in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
            if file.path().extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).expect("text");
            let mut client = server.client().await;
            for line in text.lines() {
                let entry: Value = serde_json::from_str(line).expect("JSON");
                let request = &entry["request"];
                let (kind, target) = (entry["kind"].as_str().unwrap_or_default(), &request["target"]);
                let answer = send(&mut client, request).await;
                let what = format!(
                    "{} {kind} {target}: {} {}",
                    file.path().display(),
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                );
                let expected = entry["response_expected"]["status"].as_u64().expect("a status");
                assert_eq!(u64::from(answer.status), expected, "{what}");
                if let Some(origin) = request["headers"]["origin"].as_str() {
                    assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{what}");
                    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{what}");
                }
                if let Some(asked) = request["headers"]["access-control-request-headers"].as_str() {
                    assert_eq!(answer.header("access-control-allow-headers"), Some(asked), "{what}");
                }
                *counts.entry(kind.to_owned()).or_default() += 1;
            }
        }
    }
    let events: usize = server.log.events().iter().map(|(_, _, record)| record.events.len()).sum();
    assert!(server.log.rejected().is_empty(), "{:?}", server.log.rejected().first());
    assert!(counts["event"] > 500 && events >= counts["event"], "{counts:?}, {events} events");
}
