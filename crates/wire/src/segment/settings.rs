//! What a tracker asks for beside sending events.

use crate::protocol::{Answer, Head, Method, json_text};

/// `POST /v1/m`: the browser's counts about itself, taken and forgotten.
const METRICS: &str = "/v1/m";

/// Whether a request is such a question.
pub(super) fn claims(head: &Head<'_>) -> bool {
    match head.method {
        Method::Get => key_of_settings(head.path).is_some(),
        Method::Post => head.path == METRICS,
    }
}

/// Its answer.
pub(super) fn answer(head: &Head<'_>) -> Option<Answer> {
    if head.method == Method::Post {
        return (head.path == METRICS).then(|| Answer::of(200, "application/json", br#"{"success":true}"#));
    }
    let key = json_text(key_of_settings(head.path)?);
    // Where the settings came from is where events go to. Without a host the tracker's own configuration says it.
    let host = head.header("host").map(|host| format!(r#","apiHost":{}"#, json_text(&format!("{host}/v1"))));
    let host = host.unwrap_or_default();
    Some(Answer::json(
        200,
        format!(
            r#"{{"integrations":{{"Segment.io":{{"apiKey":{key}{host}}}}},"plan":{{}},"metrics":{{"sampleRate":0}},"analyticsNextEnabled":true}}"#
        ),
    ))
}

/// The write key in `/v1/projects/<write key>/settings`.
fn key_of_settings(path: &str) -> Option<&str> {
    let key = path.strip_prefix("/v1/projects/")?.strip_suffix("/settings")?;
    (!key.is_empty() && !key.contains('/')).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol as _;
    use crate::protocol::testing::with_request;
    use crate::segment::Segment;

    fn ask(method: Method, target: &str, headers: &[(&str, &str)]) -> Option<String> {
        with_request(method, target, headers, b"", |request| {
            let answer = Segment.aside(request).filter(|_| Segment.claims(&request.head))?;
            assert_eq!((answer.status, answer.content_type), (200, "application/json"));
            Some(String::from_utf8(answer.body.into_owned()).expect("text"))
        })
    }

    #[test]
    fn settings_send_the_tracker_back_here() {
        let body = ask(Method::Get, "/v1/projects/wk/settings", &[("host", "t.example:8080")]).expect("an answer");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let own = &body["integrations"]["Segment.io"];
        assert_eq!((&own["apiKey"], &own["apiHost"]), (&"wk".into(), &"t.example:8080/v1".into()));
        let hostile = ask(Method::Get, "/v1/projects/\"}/settings", &[("host", "\"")]).expect("an answer");
        assert!(serde_json::from_str::<serde_json::Value>(&hostile).is_ok(), "{hostile}");
    }

    #[test]
    fn metrics_are_taken_and_all_else_is_no_question() {
        assert_eq!(ask(Method::Post, "/v1/m", &[]).as_deref(), Some(r#"{"success":true}"#));
        assert_eq!(ask(Method::Post, "/v1/track", &[]), None);
        for target in ["/v1/m", "/v1/projects//settings", "/v1/projects/a/b/settings", "/v1/projects/settings"] {
            assert_eq!(ask(Method::Get, target, &[]), None, "{target}");
        }
    }
}
