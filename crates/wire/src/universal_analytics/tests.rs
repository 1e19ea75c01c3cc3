use trackway_domain::event::ReceivedEvent;
use trackway_domain::id::Visitor;
use trackway_domain::revenue::Revenue;
use trackway_domain::stamp::event_time;
use trackway_domain::time::{EventTime, ReceivedAt};

use super::*;
use crate::pixel::GIF;
use crate::protocol::testing::with_request;
use crate::protocol::{Refused, Tally};

fn understood(method: Method, target: &str, body: &str) -> Understood {
    with_request(method, target, &[], body.as_bytes(), |request| {
        assert!(UniversalAnalytics.claims(&request.head) && UniversalAnalytics.recognises(request), "{target}");
        UniversalAnalytics.parse(request).unwrap_or_else(|error| panic!("{error}: {target}"))
    })
}

fn events(understood: Understood) -> Vec<ReceivedEvent> {
    let event = |item| match item {
        Item::Event { event, .. } => event,
        other => panic!("{other:?}"),
    };
    understood.items.into_iter().map(event).collect()
}

fn event(hit: &str) -> ReceivedEvent {
    let [event] =
        <[_; 1]>::try_from(events(understood(Method::Post, "/collect", &format!("v=1&tid=UA-1&cid=c&{hit}"))))
            .expect("one event");
    event
}

#[test]
fn a_page_view_is_where_its_fields_say() {
    let event = event(
        "t=pageview&uid=u1&dl=https%3A%2F%2Fx.example%2Fa%3Fb%3D1&dt=K%C3%A4se&dr=https://y.example/&ul=de-de&sr=1280x720\
         &_v=j99&cn=herbst&cs=news&cm=mail&ck=k&cc=c&uip=192.0.2.7&ua=UA&cd1=10&cm2=7.50&cg1=shop&z=123&cid=d",
    );
    assert_eq!((event.kind, &*event.name), (EventKind::Page, "page"));
    assert_eq!((event.visitor, event.user_id), (Some(Visitor::Device("d".into())), Some("u1".into())));
    let context = Context {
        url: "https://x.example/a?b=1".into(),
        title: "Käse".into(),
        referrer: "https://y.example/".into(),
        user_agent: "UA".into(),
        locale: "de-de".into(),
        screen: (1280, 720),
        library: "analytics.js".into(),
        library_version: "j99".into(),
        campaign: Campaign {
            source: "news".into(),
            medium: "mail".into(),
            name: "herbst".into(),
            term: "k".into(),
            content: "c".into(),
        },
        ip: "192.0.2.7".into(),
        ..Context::default()
    };
    assert_eq!(event.context, context);
    assert_eq!(event.properties, r#"{"dimension1":"10","metric2":7.50,"contentGroup1":"shop"}"#);
    assert_eq!((event.id, event.client_time_ms, event.sent_at_ms), (None, None, None));
}

#[test]
fn host_and_path_replace_those_of_the_location() {
    let url = |hit: &str| event(&format!("t=pageview&{hit}")).context.url;
    assert_eq!(url("dl=http://x.example/a?b%23c&dp=/virtual"), "http://x.example/virtual");
    assert_eq!(url("dl=http://x.example/a?b&dh=y.example"), "http://y.example/a?b");
    assert_eq!(url("dl=http://x.example&dp=/v"), "http://x.example/v");
    assert_eq!(url("dh=x.example&dp=/p"), "https://x.example/p");
    assert_eq!(url("dp=/p"), "/p");
}

#[test]
fn each_type_of_hit_has_its_meaning() {
    let of = |hit: &str| {
        let event = event(hit);
        (event.kind, event.name, event.properties)
    };
    let track = |name: &str, properties: &str| (EventKind::Track, name.to_owned(), properties.to_owned());
    assert_eq!(
        of("t=event&ec=Video&ea=Play&el=x&ev=3&ni=1"),
        track(
            "Play",
            r#"{"eventCategory":"Video","eventAction":"Play","eventLabel":"x","eventValue":3,"nonInteraction":1}"#
        )
    );
    assert_eq!(
        of("t=social&sn=fb&sa=like&st=/"),
        track("social", r#"{"socialNetwork":"fb","socialAction":"like","socialTarget":"/"}"#)
    );
    assert_eq!(of("t=exception&exd=Oops&exf=1"), track("exception", r#"{"exDescription":"Oops","exFatal":1}"#));
    assert_eq!(
        of("t=timing&utc=a&utv=b&utt=120"),
        track("timing", r#"{"timingCategory":"a","timingVar":"b","timingValue":120}"#)
    );
    assert_eq!(
        of("t=item&ti=T1&in=Tea&ip=2.50&iq=2&ic=SKU&iv=Drinks"),
        track(
            "item",
            r#"{"transactionId":"T1","itemName":"Tea","itemPrice":2.50,"itemQuantity":2,"itemCode":"SKU","itemCategory":"Drinks"}"#
        )
    );
    let screen = event("t=screenview&cd=Start&an=App&av=1.0");
    assert_eq!((screen.kind, &*screen.context.page_name), (EventKind::Screen, "Start"));
    assert_eq!(screen.properties, r#"{"$context":{"an":"App","av":"1.0"}}"#);
    assert_eq!(event("t=appview&cd=Start").kind, EventKind::Screen);
}

#[test]
fn a_transaction_earns_and_a_refund_costs() {
    let transaction = event("t=transaction&ti=T1&ta=Shop&tr=59.97&ts=4.99&tt=8.50&cu=EUR");
    assert_eq!(transaction.revenue, Some(Revenue { micros: 59_970_000, currency: "EUR".into() }));
    assert_eq!(
        transaction.properties,
        r#"{"transactionId":"T1","affiliation":"Shop","revenue":59.97,"shipping":4.99,"tax":8.50,"currency":"EUR"}"#
    );
    let micros = |hit: &str| event(hit).revenue.map(|revenue| revenue.micros);
    assert_eq!(micros("t=pageview&pa=purchase&ti=T1&tr=5"), Some(5_000_000));
    assert_eq!(micros("t=event&ea=Refund&pa=refund&ti=T1&tr=5"), Some(-5_000_000));
    assert_eq!(micros("t=event&ea=Refund&pa=refund&ti=T1"), None);
}

#[test]
fn products_are_read_in_their_order_and_lose_nothing() {
    let event = event(
        "t=pageview&pa=purchase&pr10idX=no&pr10id=J&pr2nm=Tea&pr2pr=19.90&pr2qt=1&pr2ps=3&pr2cd1=a&pr2cm1=2&pr2zz=z\
         &pr2name=twice&pr1id=A&pr1cc=C&pr01id=odd&pral=x&il1nm=List",
    );
    assert_eq!(
        event.properties,
        r#"{"productAction":"purchase","products":[{"product_id":"A","coupon":"C"},{"name":"Tea","price":19.90,"quantity":1,"position":3,"dimension1":"a","metric1":2,"zz":"z","prname":"twice"},{"idX":"no","product_id":"J"}],"$context":{"pr01id":"odd","pral":"x","il1nm":"List"}}"#
    );
}

#[test]
fn a_queued_hit_happened_before_it_was_sent() {
    let received = ReceivedAt(1_795_360_811_000);
    let time = |hit: &str| {
        let event = event(&format!("t=pageview{hit}"));
        event_time(event.client_time_ms, event.sent_at_ms, received).0
    };
    assert_eq!(time("&qt=60000"), EventTime(received.0 - 60_000));
    assert_eq!(time("&qt=560"), EventTime(received.0 - 560));
    assert_eq!(time("&qt=0"), EventTime(received.0));
    assert_eq!(time(""), EventTime(received.0));
    assert_eq!(event("t=pageview&qt=60000").properties, "{}");
    assert_eq!(event("t=pageview&qt=soon").properties, r#"{"$context":{"qt":"soon"}}"#);
}

#[test]
fn each_line_of_a_batch_is_a_hit_and_may_have_a_key_of_its_own() {
    let body =
        "v=1&tid=UA-1&cid=a&t=pageview&dp=/1\nv=1&tid=UA-2&cid=b&t=event&ec=c&ea=Play\n\nv=1&tid=UA-1&t=pageview\n";
    let understood = understood(Method::Post, "/batch", body);
    assert_eq!(understood.write_key.as_deref(), Some("UA-1"));
    assert_eq!(understood.own_keys, [(1, "UA-2".to_owned())]);
    assert_eq!(understood.items.len(), 3);
    let Item::Rejected { reason, content } = &understood.items[2] else { panic!("{:?}", understood.items[2]) };
    assert_eq!(reason.code(), "missing_field");
    assert_eq!(content, b"\nv=1&tid=UA-1&t=pageview");
}

#[test]
fn a_query_counts_with_an_empty_body_and_a_second_line_only_in_a_batch() {
    let target = "/j/collect?v=1&tid=UA-1&cid=c&t=pageview";
    assert_eq!(events(understood(Method::Post, target, "")).len(), 1);
    assert_eq!(events(understood(Method::Get, "/r/collect?v=1&tid=UA-1&cid=c&t=pageview", "")).len(), 1);
    let two = "v=1&tid=UA-1&cid=c&t=pageview\n".repeat(2);
    let refused =
        with_request(Method::Post, "/collect", &[], two.as_bytes(), |request| UniversalAnalytics.parse(request));
    assert_eq!(refused.expect_err("two").code(), "too_large");
}

#[test]
fn a_small_request_does_not_become_a_large_one() {
    let target = format!("/batch?dt={}", "x".repeat(5000));
    let body = "v=1&tid=UA-1&cid=c&t=pageview\n".repeat(1000);
    let refused =
        with_request(Method::Post, &target, &[], body.as_bytes(), |request| UniversalAnalytics.parse(request));
    assert_eq!(refused.expect_err("too much").code(), "too_large");
}

#[test]
fn a_call_to_doubleclick_is_nothing_and_no_type_is_rejected() {
    let item = |hit: &str| understood(Method::Get, &format!("/r/collect?v=1&tid=UA-1&cid=c{hit}"), "").items.pop();
    assert!(matches!(item("&t=dc"), Some(Item::Nothing)));
    assert!(matches!(item(""), Some(Item::Rejected { reason: Rejection::Missing { field: "t", .. }, .. })));
    assert!(matches!(item("&t=event"), Some(Item::Rejected { reason: Rejection::Missing { field: "event", .. }, .. })));
}

#[test]
fn who_asks_to_be_anonymous_is() {
    let anonymous =
        |hit: &str| understood(Method::Get, &format!("/collect?v=1&tid=UA-1&cid=c&t=pageview{hit}"), "").anonymous;
    assert!(anonymous("&aip=1"));
    assert!(!anonymous("&aip=0"));
    assert!(!anonymous(""));
}

#[test]
fn a_batch_of_others_is_not_recognised() {
    let recognised = |target: &str, body: &[u8]| {
        with_request(Method::Post, target, &[], body, |request| UniversalAnalytics.recognises(request))
    };
    assert!(recognised("/batch", b"\nt=pageview&v=1&tid=UA-1&cid=c\n"));
    assert!(!recognised("/batch", br#"{"api_key":"v=1&tid=UA-1","batch":[]}"#));
    assert!(!recognised("/batch", br#" [{"x":"&v=1&tid=UA-1&"}]"#));
    assert!(!recognised("/batch", b"\x1f\x8b\x08&v=2&tid=UA-1"));
    assert!(!recognised("/batch", b""));
    assert!(recognised("/collect?v=1&tid=UA-1", b""));
    assert!(!recognised("/collect?v=1&tid=", b""));
    let claims = |method, target: &str| {
        with_request(method, target, &[], b"", |request| UniversalAnalytics.claims(&request.head))
    };
    assert!(claims(Method::Post, "/batch/") && !claims(Method::Get, "/batch") && !claims(Method::Get, "/v1/batch"));
}

#[test]
fn the_answer_is_an_image_except_to_the_script_that_reads_it() {
    let answer = |target: &str, verdict: &Verdict<'_>| {
        with_request(Method::Post, target, &[], b"", |request| UniversalAnalytics.answer(request, verdict))
    };
    let tally = Tally { accepted: 1, ..Tally::default() };
    let taken = Verdict::Taken(&tally);
    for target in ["/collect", "/r/collect", "/batch"] {
        let answer = answer(target, &taken);
        assert_eq!((answer.status, answer.content_type, &*answer.body), (200, "image/gif", &GIF[..]));
    }
    let said = answer("/j/collect", &taken);
    assert_eq!((said.status, said.content_type, &*said.body), (200, "text/plain", &b"1"[..]));
    let refused = |retry_after_seconds| Refused { status: 503, code: "x", message: "m".into(), retry_after_seconds };
    assert_eq!(answer("/j/collect", &Verdict::Refused(&refused(Some(1)))).status, 503);
    assert_eq!(answer("/collect", &Verdict::Refused(&refused(None))).status, 200, "dropped, and never sent again");
}

#[test]
fn keys_are_where_the_hit_is() {
    let key = |target: &str| {
        with_request(Method::Get, target, &[], b"", |request| UniversalAnalytics.write_key(&request.head))
    };
    assert_eq!(key("/collect?tid=UA-1&v=1").as_deref(), Some("UA-1"));
    assert_eq!(key("/collect"), None);
}
