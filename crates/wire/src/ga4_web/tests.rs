use trackway_domain::event::{Consent, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_domain::revenue::Revenue;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{self, Method, Refused, Tally};

fn understood(method: Method, target: &str, body: &str) -> Understood {
    with_request(method, target, &[], body.as_bytes(), |request| {
        assert_eq!(protocol::of(request).map(Protocol::name), Some("ga4_web"));
        Ga4Web.parse(request).unwrap_or_else(|error| panic!("{error}: {target}"))
    })
}

fn events(understood: Understood) -> Vec<ReceivedEvent> {
    let event = |item| match item {
        Item::Event { event, .. } => event,
        other => panic!("{other:?}"),
    };
    understood.items.into_iter().map(event).collect()
}

fn event(query: &str) -> ReceivedEvent {
    let target = format!("/g/collect?v=2&tid=G-1&cid=c&{query}");
    let [event] = <[_; 1]>::try_from(events(understood(Method::Get, &target, ""))).expect("one event");
    event
}

#[test]
fn a_query_is_an_event_with_everything_in_its_place() {
    let event = event(
        "en=purchase&uid=u1&dl=https%3A%2F%2Fx.example%2F%3Fq%3Dh%25C3%25A4&dt=K%C3%A4se&dr=https://y.example/&ul=de-de\
         &sr=1280x720&sid=179&sct=2&_p=38&_s=3&_fv=1&_ss=1&_et=2861&gcs=G111&gcd=13l3l3l2l1l1&cs=news&cm=mail&cn=herbst\
         &ep.transaction_id=T1&epn.value=129.90&epn.big=9007199254740993&ep.beta=true&cu=EUR&up.plan=pro&upn.age=7",
    );
    let context = Context {
        url: "https://x.example/?q=h%C3%A4".into(),
        title: "Käse".into(),
        referrer: "https://y.example/".into(),
        locale: "de-de".into(),
        screen: (1280, 720),
        campaign: Campaign {
            source: "news".into(),
            medium: "mail".into(),
            name: "herbst".into(),
            ..Campaign::default()
        },
        session: "179".into(),
        consent: Consent::Granted,
        ..Context::default()
    };
    assert_eq!(event.context, context);
    assert_eq!((event.kind, &*event.name), (EventKind::Track, "purchase"));
    assert_eq!((event.visitor, event.user_id), (Some(Visitor::Device("c".into())), Some("u1".into())));
    assert_eq!(event.revenue, Some(Revenue { micros: 129_900_000, currency: "EUR".into() }));
    assert_eq!(
        event.properties,
        r#"{"transaction_id":"T1","value":129.90,"big":9007199254740993,"beta":"true","currency":"EUR","$context":{"sct":"2","_p":"38","_s":"3","_fv":"1","_ss":"1","_et":"2861","gcs":"G111","gcd":"13l3l3l2l1l1"}}"#
    );
    assert_eq!(event.traits, r#"{"plan":"pro","age":7}"#);
    assert_eq!((event.id, event.client_time_ms, event.sent_at_ms), (None, None, None));
}

#[test]
fn each_line_of_a_body_is_an_event_that_shares_the_query() {
    let target = "/g/collect?v=2&tid=G-1&cid=c&dl=https://x.example/&_s=2";
    let understood = understood(
        Method::Post,
        target,
        "en=page_view&_et=5\r\nen=scroll&epn.percent_scrolled=90&dl=https://x.example/2&tid=G-2\r\n",
    );
    assert_eq!(understood.write_key.as_deref(), Some("G-1"));
    assert_eq!(understood.own_keys, [(1, "G-2".to_owned())]);
    let content = |item: &Item| match item {
        Item::Event { content, .. } => String::from_utf8_lossy(content).into_owned(),
        other => panic!("{other:?}"),
    };
    let contents: Vec<_> = understood.items.iter().map(content).collect();
    assert!(contents[0].ends_with("&_s=2\nen=page_view&_et=5"), "{}", contents[0]);
    let events = events(understood);
    assert_eq!(events[0].kind, EventKind::Page);
    assert_eq!((&*events[0].context.url, events[0].sequence), ("https://x.example/", 0));
    assert_eq!((&*events[1].name, &*events[1].context.url, events[1].sequence), ("scroll", "https://x.example/2", 1));
    assert_eq!(events[1].properties, r#"{"percent_scrolled":90,"$context":{"_s":"2"}}"#);
    assert!(events.iter().all(|event| event.visitor == Some(Visitor::Device("c".into()))));
}

#[test]
fn products_are_read_in_their_order_and_lose_nothing() {
    let event = event(
        "en=view_item_list&pr2=idB~nmTea+~~+more~k0col~v0green~zzx~v9lost&pr1=idA~pr19.90~qt2~lp1&ep.products=mine",
    );
    assert_eq!(
        event.properties,
        r#"{"products":"mine","pr":[{"product_id":"A","price":19.90,"quantity":2,"position":1},{"product_id":"B","name":"Tea ~ more","col":"green","zz":"x","v9":"lost"}]}"#
    );
}

#[test]
fn fields_of_a_product_end_at_single_marks() {
    assert_eq!(fields("ida~~b~nmc~"), ["ida~b", "nmc"]);
    assert_eq!(fields("a~~~b"), ["a~", "b"]);
    assert_eq!(fields("~"), [""; 0]);
    assert_eq!(product("é~ü1~k~vé"), r#"{"é":"","ü1":"","vé":""}"#);
}

#[test]
fn a_name_never_stands_twice() {
    assert_eq!(
        event("en=e&ep.a=x&epn.a=1&ep.currency=USD&cu=EUR").properties,
        r#"{"a":"x","epn.a":1,"currency":"USD","cu":"EUR"}"#
    );
    assert_eq!(event("en=e&up.a=x&upn.a=1&up.a=y").traits, r#"{"a":"y","upn.a":1}"#);
}

#[test]
fn refunds_cost_and_carts_earn_nothing() {
    let micros = |query: &str| event(query).revenue.map(|revenue| revenue.micros);
    assert_eq!(micros("en=refund&epn.value=5&cu=EUR"), Some(-5_000_000));
    assert_eq!(micros("en=purchase&ep.value=5"), Some(5_000_000));
    assert_eq!(micros("en=add_to_cart&epn.value=5"), None);
}

#[test]
fn no_name_and_nobody_are_rejected() {
    let field = |target: &str| match understood(Method::Post, target, "").items.pop() {
        Some(Item::Rejected { reason: Rejection::Missing { field, .. }, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field("/g/collect?v=2&tid=G-1&cid=c"), "event");
    assert_eq!(field("/g/collect?v=2&tid=G-1&en=e"), "cid");
    assert_eq!(event("en=e&z=1&_z=2&api_secret=s3cret").properties, "{}", "neither noise nor secrets are kept");
    assert_eq!(event("en=screen_view&ep.screen_name=Start").context.page_name, "Start");
}

#[test]
fn many_lines_are_refused_and_so_is_a_long_query_for_each() {
    let refusal = |target: &str, body: &str| {
        with_request(Method::Post, target, &[], body.as_bytes(), |request| Ga4Web.parse(request).expect_err("too much"))
    };
    let lines = |count| "en=e\n".repeat(count);
    assert_eq!(refusal("/g/collect?cid=c", &lines(1001)).to_string(), "body is 1 001 lines at least, limit is 1 000");
    let long = format!("/g/collect?cid={}", "c".repeat(5000));
    assert_eq!(refusal(&long, &lines(1000)).code(), "too_large");
}

#[test]
fn it_is_204_and_a_refusal_is_said() {
    let answer = |verdict: &Verdict<'_>| {
        with_request(Method::Get, "/g/collect", &[], b"", |request| Ga4Web.answer(request, verdict))
    };
    assert_eq!(answer(&Verdict::Taken(&Tally::default())), Answer::of(204, "", b""));
    let refused = Refused { status: 401, code: "x", message: "m".into(), retry_after_seconds: None };
    assert_eq!(answer(&Verdict::Refused(&refused)).status, 401);
}
