use serde_json::{Value, json};
use trackway_domain::event::{EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;

use super::*;
use crate::protocol::testing::with_request;
use crate::protocol::{self, Refused, Tally};

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn parse(method: Method, target: &str, body: &str) -> Result<Understood, Rejection> {
    with_request(method, target, &[], body.as_bytes(), |request| {
        assert_eq!(protocol::of(request).map(protocol::Protocol::name), Some("matomo"), "{target}");
        Matomo.parse(request)
    })
}

fn event(item: Item) -> ReceivedEvent {
    match item {
        Item::Event { event, .. } => event,
        other => panic!("{other:?}"),
    }
}

/// The event of a query.
fn check(query: &str) -> ReceivedEvent {
    let mut items = parse(Method::Get, &format!("/matomo.php?idsite=1&rec=1&{query}"), "").expect("a query").items;
    event(items.pop().expect("an item"))
}

fn properties(event: &ReceivedEvent) -> Value {
    serde_json::from_str(&event.properties).expect("JSON")
}

fn answer(method: Method, target: &str, headers: &[(&str, &str)], verdict: &Verdict<'_>) -> (u16, String) {
    let answer = with_request(method, target, headers, b"", |request| Matomo.answer(request, verdict));
    let body =
        if answer.content_type == "image/gif" { "GIF".into() } else { String::from_utf8_lossy(&answer.body).into() };
    (answer.status, body)
}

#[test]
fn parameters_come_in_the_query_in_a_form_or_in_both() {
    for (method, target, body) in [
        (Method::Get, "/matomo.php?idsite=1&url=u&uid=x", ""),
        (Method::Post, "/matomo.php?idsite=1&url=u&uid=x", ""),
        (Method::Post, "/matomo.php", "idsite=1&url=u&uid=x"),
        (Method::Post, "/matomo.php?idsite=1", "url=u&uid=x"),
        (Method::Post, "/stats/piwik.php", "idsite=1&url=u&uid=x"),
        (Method::Post, "/matomo/", "idsite=1&url=u&uid=x"),
    ] {
        let mut understood = parse(method, target, body).expect("a hit");
        let in_head = with_request(method, target, &[], b"", |request| Matomo.write_key(&request.head));
        assert_eq!(in_head.or(understood.write_key).as_deref(), Some("1"), "{target} {body}");
        match understood.items.pop() {
            Some(Item::Event { event, content }) => {
                assert_eq!(
                    (event.kind, &*event.context.url, event.user_id.as_deref()),
                    (EventKind::Page, "u", Some("x"))
                );
                assert_eq!(event.properties, "{}");
                assert_eq!(content, b"idsite=1&url=u&uid=x");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_happened_shows_by_the_parameters() {
    for (query, name, expected) in [
        ("e_c=c&e_a=a&e_n=7&e_v=19.90", "a", r#"{"category":"c","action":"a","name":"7","value":19.90}"#),
        ("search=gouda+k%C3%A4se&search_count=3", "site_search", r#"{"keyword":"gouda käse","count":3}"#),
        ("download=http%3A%2F%2Fx%2Fa.pdf", "download", r#"{"url":"http://x/a.pdf"}"#),
        ("link=http%3A%2F%2Fy%2F", "outlink", r#"{"url":"http://y/"}"#),
        ("c_n=banner&c_p=a.png", "content_impression", r#"{"content_name":"banner","content_piece":"a.png"}"#),
        ("c_n=b&c_i=click", "content_interaction", r#"{"content_name":"b","interaction":"click"}"#),
        ("idgoal=2&revenue=9.50", "goal", r#"{"goal_id":2,"revenue":9.50}"#),
        ("ping=1", "ping", "{}"),
        ("ca=1&ma_id=v1", "custom_action", r#"{"$context":{"ma_id":"v1"}}"#),
        ("", "page", "{}"),
        ("dimension2=x&dimensions=y", "page", r#"{"dimension2":"x","$context":{"dimensions":"y"}}"#),
    ] {
        let event = check(&format!("url=u&{query}"));
        assert_eq!((&*event.name, &*event.properties), (name, expected), "{query}");
        assert_eq!(event.kind == EventKind::Page, name == "page");
    }
}

#[test]
fn an_order_earns_and_a_cart_does_not() {
    let items =
        "ec_items=%5B%5B%22S1%22%2C%22A+%5C%22b%5C%22%22%2C%5B%22X%22%2C%22Y%22%5D%2C129.90%2C2%5D%2C%5B%22S2%22%5D%5D";
    let order = check(&format!("url=u&idgoal=0&ec_id=17&revenue=259.80&ec_st=250&ec_tx=9.80&ec_sh=0&ec_dt=5&{items}"));
    assert_eq!((&*order.name, order.revenue.map(|revenue| revenue.micros)), ("ecommerce_order", Some(259_800_000)));
    let expected = r#"{"order_id":"17","revenue":259.80,"subtotal":250,"tax":9.80,"shipping":0,"discount":5,"products":[{"product_id":"S1","name":"A \"b\"","category":["X","Y"],"price":129.90,"quantity":2},{"product_id":"S2"}]}"#;
    assert_eq!(order.properties, expected);
    let cart = check(&format!("url=u&idgoal=0&revenue=259.80&{items}"));
    assert_eq!((&*cart.name, &cart.revenue), ("ecommerce_cart_update", &None));
    assert_eq!(properties(&cart)["revenue"], 259.8);
    assert_eq!(check("url=u&idgoal=3&revenue=-1").revenue.map(|revenue| revenue.micros), Some(-1_000_000));
    let broken = check("url=u&idgoal=0&ec_items=%5B7%5D");
    assert_eq!(properties(&broken)["$context"]["ec_items"], json!([7]), "what is no list of items stays as it is");
}

#[test]
fn a_product_is_viewed_with_its_page_and_sticks_to_later_hits_without_meaning() {
    let sticky = "url=u&_pks=S1&_pkn=12&_pkp=19.90&_pkc=%5B%22K%C3%A4se%22%5D";
    let view = check(sticky);
    assert_eq!(view.properties, r#"{"products":[{"product_id":"S1","name":"12","category":"Käse","price":19.90}]}"#);
    let later = check(&format!("{sticky}&e_c=c&e_a=a"));
    assert_eq!(properties(&later)["products"], Value::Null);
    assert_eq!(properties(&later)["$context"]["_pks"], "S1");
}

#[test]
fn custom_variables_read_by_their_names() {
    let event = check(
        "url=u&cvar=%7B%221%22%3A%5B%22plan%22%2C%22pro%22%5D%7D&_cvar=%7B%221%22%3A%5B%22tier%22%2C%22gold%22%5D%7D",
    );
    let expected = r#"{"custom_variables":{"plan":"pro"},"$context":{"custom_variables":{"tier":"gold"}}}"#;
    assert_eq!(event.properties, expected);
    assert_eq!(check("url=u&cvar=%7B%221%22%3A7%7D").properties, r#"{"$context":{"cvar":{"1":7}}}"#);
}

#[test]
fn only_cdt_is_a_time() {
    assert_eq!(check("url=u&h=16&m=26&s=3").client_time_ms, None);
    assert_eq!(check("url=u&cdt=2026-11-22+15%3A20%3A10").client_time_ms, Some(1_795_360_810_000));
    assert_eq!(check("url=u&cdt=1795360810").client_time_ms, Some(1_795_360_810_000));
    assert_eq!(check("url=u&cdt=1795360810").sent_at_ms, None);
}

#[test]
fn a_server_says_for_whom_it_speaks() {
    let event = check(
        "url=u&_id=a&cid=b&uid=c&cip=203.0.113.9&ua=UA&lang=de-DE%2Cde%3Bq%3D0.9&res=1280x720&urlref=r&action_name=t",
    );
    assert_eq!((event.visitor, event.user_id.as_deref()), (Some(Visitor::Device("b".into())), Some("c")));
    let context = event.context;
    assert_eq!((&*context.ip, &*context.user_agent, &*context.locale), ("203.0.113.9", "UA", "de-DE"));
    assert_eq!((context.screen, &*context.referrer, &*context.title), ((1280, 720), "r", "t"));
    assert_eq!(check("url=u").visitor, None, "the gateway derives one");
}

#[test]
fn many_hits_come_as_queries_addresses_or_objects_and_one_bad_one_stays_alone() {
    let body = r#"{"requests":["?idsite=1&url=\u0061","idsite=2&url=b","http://m.example/matomo.php?idsite=1&url=c",
        {"idsite":1,"url":"d & e","e_v":1.50,"none":null},7,"?idsite=1"],"token_auth":"secret"}"#;
    let understood = parse(Method::Post, "/matomo.php", body).expect("hits");
    assert_eq!((understood.write_key.as_deref(), understood.own_keys), (Some("1"), vec![(1, "2".to_owned())]));
    let urls = understood.items.into_iter().map(|item| match item {
        Item::Event { event, .. } => event.context.url + event.properties.trim_matches(['{', '}']),
        Item::Rejected { reason, .. } => reason.to_string(),
        Item::Nothing => panic!("something"),
    });
    let nothing = "`url` is missing. Say which page was seen, or what else happened";
    assert_eq!(urls.collect::<Vec<_>>(), ["a", "b", "c", r#"d & e"$context":{"e_v":"1.50""#, nothing, nothing]);
}

#[test]
fn the_secret_is_kept_nowhere() {
    let body =
        r#"{"requests":["?idsite=1&url=a&token_auth=s3cret","?token%5Fauth=s3cret&x=1",{"token_auth":"s3cret"}]}"#;
    let understood = parse(Method::Post, "/matomo.php", body).expect("hits");
    assert_eq!(understood.items.len(), 3);
    assert!(!format!("{understood:?}").contains("s3cret"), "{understood:?}");
    for item in understood.items {
        let (Item::Event { content, .. } | Item::Rejected { content, .. }) = item else { panic!("something") };
        let content = String::from_utf8(content).expect("text");
        assert!(!content.contains("s3cret"), "{content}");
    }
}

#[test]
fn a_site_that_is_not_the_key_of_the_head_is_kept_as_such() {
    let key = [("x-write-key", "k")];
    let understood = with_request(Method::Post, "/matomo.php", &key, b"idsite=7&url=u", |request| {
        assert_eq!(Matomo.write_key(&request.head).as_deref(), Some("k"));
        Matomo.parse(request).expect("a hit")
    });
    assert_eq!((understood.write_key, understood.own_keys), (None, vec![]));
    assert_eq!(
        event(understood.items.into_iter().next().expect("an item")).properties,
        r#"{"$context":{"idsite":"7"}}"#
    );
}

#[test]
fn what_is_no_request_is_refused_as_a_whole() {
    let refusal = |body: &str| parse(Method::Post, "/matomo.php", body).expect_err("no hits").to_string();
    assert_eq!(refusal("{"), "body at line 1 column 1 is not valid JSON");
    assert_eq!(refusal("{}"), "`requests` is missing. Send a list of hits in it, each as a query");
    assert_eq!(refusal(r#"{"requests":{}}"#), "`requests` is not a list of hits");
    let many = format!(r#"{{"requests":[{}]}}"#, vec!["1"; 1001].join(","));
    assert_eq!(refusal(&many), "request is 1 001 hits, limit is 1 000");
}

#[test]
fn every_tracker_gets_the_answer_it_asked_for() {
    let taken = Tally { accepted: 2, ..Tally::default() };
    let reason = Rejection::Missing { field: "url", hint: "h" };
    let partly = Tally { accepted: 1, rejected: vec![(1, reason)], ..Tally::default() };
    let (taken, partly) = (&Verdict::Taken(&taken), &Verdict::Taken(&partly));
    let refused = |status, retry_after_seconds| Refused { status, code: "x", message: "m".into(), retry_after_seconds };
    let (bad_key, busy) = (refused(401, None), refused(503, Some(1)));
    let (bad_key, busy) = (&Verdict::Refused(&bad_key), &Verdict::Refused(&busy));
    let gif = "GIF".to_owned();

    assert_eq!(answer(Method::Get, "/matomo.php?idsite=1", &[], taken), (200, gif.clone()));
    assert_eq!(answer(Method::Get, "/matomo.php?idsite=1", &[], bad_key), (200, gif.clone()));
    assert_eq!(answer(Method::Get, "/matomo.php?idsite=1", &[], busy).0, 503);
    let quiet = "/matomo.php?idsite=1&send_image=0";
    for method in [Method::Get, Method::Post] {
        assert_eq!(answer(method, quiet, &[], taken), (204, String::new()));
        assert_eq!(answer(method, quiet, &FORM, partly), (204, String::new()));
        assert_eq!(answer(method, quiet, &[], busy).0, 503);
        assert_eq!(answer(method, quiet, &[], bad_key).0, 401);
    }
    assert_eq!(answer(Method::Post, "/matomo.php?idsite=1", &FORM, taken), (200, gif));
    assert_eq!(answer(Method::Post, "/matomo.php", &FORM, taken), (204, String::new()));

    let many = |verdict: &Verdict<'_>| answer(Method::Post, "/matomo.php", &JSON, verdict);
    assert_eq!(many(taken), (200, r#"{"status":"success","tracked":2,"invalid":0}"#.into()));
    assert_eq!(many(partly), (200, r#"{"status":"success","tracked":1,"invalid":1,"invalid_indices":[1]}"#.into()));
    assert_eq!(many(bad_key), (401, r#"{"status":"error","tracked":0,"invalid":0,"message":"m"}"#.into()));
    assert_eq!(many(busy).0, 503);
}

#[test]
fn a_look_whether_it_is_there_is_no_event() {
    let aside = |target, body: &[u8]| with_request(Method::Get, target, &[], body, |request| Matomo.aside(request));
    assert_eq!(aside("/matomo.php", b"").expect("an answer").status, 200);
    assert!(aside("/matomo.php?idsite=1", b"").is_none());
    assert!(aside("/matomo.php", b"idsite=1").is_none());
}
