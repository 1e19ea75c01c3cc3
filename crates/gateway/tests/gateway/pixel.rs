//! The pixel: always an image.

use trackway_wire::pixel::GIF;

use crate::client::Answer;
use crate::server::Server;

async fn check(server: &Server, query: &str, status: u16, rejected: Option<&str>) -> Answer {
    let answer = server.client().await.ask(&format!("GET /v1/pixel.gif{query}"), "", b"").await;
    assert_eq!((answer.status, &answer.body[..]), (status, &GIF[..]), "{query}");
    assert_eq!(answer.header("content-type"), Some("image/gif"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    match rejected {
        None => assert_eq!(answer.header("x-trackway-rejected"), None),
        Some(start) => {
            let reason = answer.header("x-trackway-rejected").expect("a reason");
            assert!(reason.starts_with(start), "{reason}");
        }
    }
    answer
}

#[tokio::test]
async fn a_pixel_is_an_event() {
    let server = Server::start().await;
    check(&server, "?writeKey=wk&event=mail%20opened&userId=u1&p.plan=pro", 200, None).await;
    let (_, _, events) = server.log.events().remove(0);
    assert_eq!((&*events.visitor_id, events.visitor_is_user, &*events.protocol), ("u1", true, "pixel"));
    assert_eq!((&*events.events[0].name, &*events.events[0].properties), ("mail opened", r#"{"plan":"pro"}"#));
}

#[tokio::test]
async fn a_rejected_pixel_is_an_image_with_its_reason() {
    let server = Server::start().await;
    check(&server, "?writeKey=wk&event=e", 200, Some("`anonymousId` is missing. A pixel has no cookie")).await;
    let umlaut = format!("?writeKey=wk&userId=u&event={}", "%C3%BC%0A".repeat(300));
    check(&server, &umlaut, 200, Some("name of event `????")).await;
    assert_eq!(server.log.rejected().len(), 2);
    let kept = server.log.rejected().remove(0);
    assert_eq!((&*kept.method, &*kept.target), ("GET", "/v1/pixel.gif?writeKey=wk&event=e"));
    assert_eq!(&*kept.items[0].content, b"writeKey=wk&event=e");
    check(&server, "?writeKey=x&event=e&userId=u", 200, Some("write key is not known")).await;
    check(&server, "", 200, Some("write key is missing")).await;
    assert_eq!(server.log.rejected().len(), 2);
}

#[tokio::test]
async fn a_pixel_that_the_log_did_not_take_is_no_success() {
    let server = Server::start().await;
    server.log.break_topic(Some("events"));
    let answer = check(&server, "?writeKey=wk&event=e&userId=u", 503, Some("event log did not take")).await;
    assert_eq!(answer.header("retry-after"), Some("1"));
}
