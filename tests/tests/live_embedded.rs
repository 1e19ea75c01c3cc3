//! What happens now, on one machine: events as trackers send them, and answers that follow at once. All tests share one
//! `trackway up`; each has a project of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tonic::Streaming;
use trackway_query::pb::{self, person_journey_request::Who, subscribe_response::Body};
use trackway_tests::roles::{Installation, about};

const MINUTE: i64 = 60_000;

/// Two seconds of lateness, so that a watermark is close behind what happens.
async fn live() -> Result<&'static Installation> {
    static LIVE: OnceCell<Installation> = OnceCell::const_new();
    const PROJECTS: [&str; 8] = ["bad", "identify", "parted", "devices", "bridge", "watch", "leave", "fates"];
    LIVE.get_or_try_init(|| Installation::up(&PROJECTS, &[("WORKER__LATENESS_SECONDS", "2")])).await
}

/// Our clock; the tests run on the machine of the program.
fn now_ms() -> i64 {
    trackway_eventlog::embedded::system_clock()
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).expect("a time").to_string()
}

/// A device's event.
fn by_device(device: &str, event: &str, time_ms: i64) -> Value {
    json!({"type": "track", "anonymousId": device, "event": event, "timestamp": time(time_ms),
        "messageId": format!("{device}/{event}/{time_ms}")})
}

/// An event of a user, on a device if that is not empty.
fn by_user(user: &str, device: &str, event: &str, time_ms: i64) -> Value {
    let mut value = by_device(device, event, time_ms);
    value["userId"] = user.into();
    value["messageId"] = format!("{user}/{device}/{event}/{time_ms}").into();
    if device.is_empty() {
        value.as_object_mut().expect("an object").remove("anonymousId");
    }
    value
}

async fn funnel(installation: &Installation, project: &str, steps: &[&str]) -> Result<Vec<u64>> {
    let ask = pb::FunnelRequest { steps: about::steps(steps), ..about::funnel(project) };
    let answer = installation.complete(async |client| client.funnel(ask.clone()).await).await?;
    Ok(answer.steps.iter().map(|step| step.persons).collect())
}

/// Events and persons.
async fn totals(installation: &Installation, project: &str) -> Result<(u64, u64)> {
    let answer = installation.complete(async |client| client.trend(about::trend(project)).await).await?;
    Ok(answer.buckets.first().map_or((0, 0), |all| (all.events, all.persons)))
}

async fn sessions(installation: &Installation, project: &str) -> Result<pb::SessionSummary> {
    let answer = installation.complete(async |client| client.session_summary(about::sessions(project)).await).await?;
    Ok(answer.rows.into_iter().next().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_event_is_rejected_with_its_reason_and_the_others_count() -> Result<()> {
    let (installation, now) = (live().await?, now_ms());
    let good = |n: i64| by_device("d", "visit", now - n);
    let bad = json!({"type": "track", "anonymousId": "d"});
    let batch = json!({"batch": [good(1), bad, good(2), 7, good(3)]}).to_string();
    let reply = installation.send("bad", "/v1/batch", batch).await?;
    assert_eq!(reply.status, 200);
    let said = reply.json()?;
    assert_eq!((&said["success"], &said["accepted"]), (&json!(true), &json!(3)), "{said}");
    let indexes: Vec<&Value> = said["rejected"].as_array().context("a list")?.iter().map(|one| &one["index"]).collect();
    assert_eq!(indexes, [&json!(1), &json!(3)], "{said}");
    assert!(said["rejected"][0]["message"].as_str().unwrap_or_default().contains("`event`"), "{said}");
    assert_eq!(totals(installation, "bad").await?, (3, 1));
    let metrics = installation.metrics("up").await?;
    assert_eq!((metrics.gateway_events("bad", "accepted"), metrics.gateway_events("bad", "rejected")), (3, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_identify_an_anonymous_past_is_the_users_in_every_answer() -> Result<()> {
    let (installation, project, begin) = (live().await?, "identify", now_ms() - 30 * MINUTE);
    const STEPS: [&str; 3] = ["catalog", "product_view", "purchase"];
    installation
        .track(project, &[by_device("phone", "catalog", begin), by_device("phone", "product_view", begin + MINUTE)])
        .await?;
    installation.track(project, &[by_user("ann", "laptop", "purchase", begin + 2 * MINUTE)]).await?;
    assert_eq!(funnel(installation, project, &STEPS).await?, [1, 1, 0]);
    assert_eq!(totals(installation, project).await?, (3, 2));
    assert_eq!(sessions(installation, project).await?.persons, 2);

    let identify = json!({"type": "identify", "anonymousId": "phone", "userId": "ann", "traits": {"plan": "pro"}});
    installation.track(project, &[identify]).await?;
    assert_eq!(funnel(installation, project, &STEPS).await?, [1, 1, 1]);
    assert_eq!(totals(installation, project).await?, (4, 1), "the call itself is an event, and the two are one person");
    assert_eq!(sessions(installation, project).await?.persons, 1);
    // Whichever name it is asked by.
    for who in [Who::UserId("ann".into()), Who::VisitorId("phone".into()), Who::VisitorId("laptop".into())] {
        let ask = pb::PersonJourneyRequest { who: Some(who.clone()), ..about::journey(project) };
        let journey = installation.complete(async |client| client.person_journey(ask.clone()).await).await?;
        let mut visitors = journey.visitor_ids.clone();
        visitors.sort();
        assert_eq!(
            (journey.user_ids, visitors),
            (vec!["ann".to_owned()], vec!["laptop".to_owned(), "phone".to_owned()]),
            "{who:?}"
        );
        let events: Vec<_> =
            journey.events.iter().map(|event| (event.event.as_str(), event.visitor_id.as_str())).collect();
        let known: Vec<_> = events.into_iter().filter(|(event, _)| STEPS.contains(event)).collect();
        assert_eq!(known, [("catalog", "phone"), ("product_view", "phone"), ("purchase", "laptop")], "{who:?}");
    }
    Ok(())
}

/// Runs `trackway unmerge` to its good end.
async fn unmerge(installation: &Installation, whom: &[&str], why: &str) -> Result<()> {
    let args = ["unmerge", "--server", "QUERY", "--project", "parted", "--by", "ops", "--reason", why];
    let ended = installation.trackway(&[&args, whom].concat(), Duration::from_secs(30)).await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_joined_wrongly_is_parted_by_a_command() -> Result<()> {
    let (installation, project, audience) = (live().await?, "parted", ("parted", "buyers"));
    let begin = now_ms() - 30 * MINUTE;
    let client = installation.client();
    client.create_audience(audience, "purchase", 2, Duration::from_hours(24)).await?;
    // Events, persons, members. Members come last in all: then the others are complete too.
    let counts = async || {
        let ask = pb::MembersRequest { name: audience.1.into(), ..about::members(project) };
        let answer = installation.complete(async |client| client.members(ask.clone()).await).await?;
        let (events, persons) = totals(installation, project).await?;
        anyhow::Ok((events, persons, answer.members.len()))
    };
    // A tablet in a shop that ann once logged in on; and bob, who was said to be ann.
    let buys = ["tablet", "tablet", "phone"].map(|device| by_device(device, "purchase", begin));
    let buys = (0..).zip(buys).map(|(n, mut buy)| {
        buy["messageId"] = json!(format!("buy-{n}"));
        buy
    });
    installation.track(project, &buys.collect::<Vec<_>>()).await?;
    let identify = |device: &str, user: &str| json!({"type": "identify", "anonymousId": device, "userId": user});
    let alias = json!({"type": "alias", "userId": "ann", "previousId": "bob"});
    installation.track(project, &[identify("tablet", "ann"), identify("phone", "bob"), alias.clone()]).await?;
    assert_eq!(counts().await?, (6, 1, 1));

    unmerge(installation, &["--user", "ann", "--from", "bob"], "not the same").await?;
    assert_eq!(counts().await?, (6, 2, 1));
    // What named ann stays hers: the device alone is a person of its own.
    unmerge(installation, &["--visitor", "tablet"], "a shared tablet").await?;
    assert_eq!(counts().await?, (6, 3, 1));
    let kept = installation
        .sql("SELECT id, other_id, by, reason FROM identity_changes WHERE project = 'parted' ORDER BY applied");
    assert_eq!(kept.await?, [["ann", "bob", "ops", "not the same"], ["tablet", "", "ops", "a shared tablet"]]);
    // Said anew (a resent event is a duplicate, and says nothing), they are joined again.
    let anew = [identify("tablet", "ann"), alias].map(|mut event| {
        event["messageId"] = json!(format!("{} anew", event["type"]));
        event
    });
    installation.track(project, &anew).await?;
    assert_eq!(counts().await?, (8, 1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_funnel_goes_on_over_the_devices_of_a_user() -> Result<()> {
    let (installation, project, begin) = (live().await?, "devices", now_ms() - 60 * MINUTE);
    const USERS: i64 = 20;
    // Many users: ids are ordered by their hash, and a device may come before or after its user. One device says who it is
    // with each event, the other only at its end.
    for n in 0..USERS {
        let (user, first, second) = (format!("user-{n}"), format!("first-{n}"), format!("second-{n}"));
        let at = |minute: i64| begin + n * 1000 + minute * MINUTE;
        let mut events = vec![
            by_user(&user, &first, "catalog", at(0)),
            by_device(&second, "product_view", at(1)),
            by_user(&user, &first, "cart", at(2)),
            by_device(&second, "purchase", at(3)),
        ];
        events.push(json!({"type": "identify", "anonymousId": second, "userId": user, "timestamp": time(at(4))}));
        if n % 2 == 1 {
            events.reverse();
        }
        installation.track(project, &events).await?;
    }
    let users = USERS as u64;
    assert_eq!(funnel(installation, project, &["catalog", "product_view", "cart", "purchase"]).await?, [users; 4]);
    assert_eq!(totals(installation, project).await?, (5 * users, users), "identify calls are events too");
    let summary = sessions(installation, project).await?;
    assert_eq!((summary.sessions, summary.persons, summary.events), (2 * users, users, 4 * users), "{summary:?}");
    // They are no activity, though: neither in sessions nor in paths.
    let ask = about::paths(project);
    let paths = installation.complete(async |client| client.paths(ask.clone()).await).await?;
    assert_eq!(paths.pairs, 3 * users, "pairs are a person's, not a device's");
    assert!(
        paths
            .edges
            .iter()
            .any(|edge| (edge.from.as_str(), edge.to.as_str(), edge.count) == ("product_view", "cart", users))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_event_joins_two_sessions_into_one() -> Result<()> {
    let (installation, project, begin) = (live().await?, "bridge", now_ms() - 60 * MINUTE);
    let late = async || anyhow::Ok(installation.metrics("up").await?.worker_events(project, "late"));
    for (minutes, events) in [(0, 1), (50, 2)] {
        installation.track(project, &[by_device("d", "visit", begin + minutes * MINUTE)]).await?;
        let summary = sessions(installation, project).await?;
        assert_eq!((summary.sessions, summary.sessions_single_event, summary.events), (events, events, events));
        assert_eq!((summary.seconds_mean, summary.seconds_max), (0.0, 0.0));
    }
    let before = late().await?;
    installation.track(project, &[by_device("d", "visit", begin + 25 * MINUTE)]).await?;
    let summary = sessions(installation, project).await?;
    assert_eq!((summary.sessions, summary.sessions_single_event, summary.persons, summary.events), (1, 0, 1, 3));
    let seconds = [summary.seconds_mean, summary.seconds_median, summary.seconds_p95, summary.seconds_max];
    assert_eq!(seconds, [3000.0; 4]);
    assert_eq!(late().await?, before + 1, "it was late, and counts");
    // The two that were told before are taken back, in plain sums.
    let rows = installation.sql("SELECT sum(sign), sum(sign * events) FROM sessions WHERE project = 'bridge'");
    assert_eq!(rows.await?, [["1", "3"]]);
    Ok(())
}

/// The next response with something in it.
async fn next(stream: &mut Streaming<pb::SubscribeResponse>) -> Result<(Body, String)> {
    loop {
        // Budget: 250 ms. This is no bench: what is caught here is a change that never comes, or only with a next event.
        let response =
            timeout(Duration::from_secs(15), stream.message()).await.context("no response within 15 s")??;
        let response = response.context("the stream ended")?;
        if let Some(body) = response.body {
            return Ok((body, response.cursor));
        }
    }
}

async fn change(stream: &mut Streaming<pb::SubscribeResponse>) -> Result<(pb::MembershipChange, String)> {
    match next(stream).await? {
        (Body::Change(change), cursor) => Ok((change, cursor)),
        (other, _) => anyhow::bail!("{other:?} is no change"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audience_tells_who_enters_and_a_cursor_misses_nobody() -> Result<()> {
    let (installation, audience) = (live().await?, ("watch", "buyers"));
    let client = installation.client();
    client.create_audience(audience, "purchase", 1, Duration::from_hours(24)).await?;
    let buy = async |user: &str| installation.track("watch", &[by_user(user, "", "purchase", now_ms())]).await;

    let mut stream = client.subscribe(audience, "").await?;
    assert!(matches!(next(&mut stream).await?, (Body::SnapshotEnd(_), _)), "nobody is in");
    buy("ann").await?;
    let (entered, cursor) = change(&mut stream).await?;
    assert_eq!((entered.user_id.as_str(), entered.entered), ("ann", true));
    drop(stream);

    // Nobody listens.
    for user in ["bob", "cid", "ann", "dan"] {
        buy(user).await?;
    }
    let mut stream = client.subscribe(audience, &cursor).await?;
    let mut users = BTreeSet::new();
    let mut cursors = vec![cursor];
    for _ in 0..3 {
        let (entered, cursor) = change(&mut stream).await?;
        assert!(entered.entered, "{entered:?}");
        assert!(users.insert(entered.user_id.clone()), "{} came twice", entered.user_id);
        cursors.push(cursor);
    }
    assert_eq!(users, ["bob", "cid", "dan"].map(str::to_owned).into());
    // From any cursor on, the same ones as before that were left.
    for (seen, cursor) in cursors.iter().enumerate() {
        let mut stream = client.subscribe(audience, cursor).await?;
        for _ in seen..3 {
            assert!(users.contains(&change(&mut stream).await?.0.user_id));
        }
        buy("eve").await?;
        if seen == 0 {
            assert_eq!(change(&mut stream).await?.0.user_id, "eve");
        }
    }
    // Who comes later finds all of them in the snapshot.
    let mut stream = client.subscribe(audience, "").await?;
    let (Body::Snapshot(snapshot), _) = next(&mut stream).await? else { anyhow::bail!("no snapshot") };
    let members: BTreeSet<&str> = snapshot.members.iter().map(|member| member.user_id.as_str()).collect();
    assert_eq!(members, ["ann", "bob", "cid", "dan", "eve"].into());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_nothing_leaves_an_audience_when_the_window_runs_out() -> Result<()> {
    let (installation, audience) = (live().await?, ("leave", "just-bought"));
    let client = installation.client();
    client.create_audience(audience, "purchase", 1, Duration::from_mins(1)).await?;
    let mut stream = client.subscribe(audience, "").await?;
    assert!(matches!(next(&mut stream).await?, (Body::SnapshotEnd(_), _)));
    // Bought 55 s ago; another event says how late it is.
    let now = now_ms();
    let (bought, ping) = (by_user("ann", "", "purchase", now - 55_000), by_user("ann", "", "visit", now));
    installation.track("leave", &[bought, ping]).await?;
    let (entered, _) = change(&mut stream).await?;
    assert_eq!((entered.user_id.as_str(), entered.entered, entered.at_ms), ("ann", true, now - 55_000));
    let ask = pb::MembersRequest { name: audience.1.into(), as_of_ms: Some(now), ..about::members(audience.0) };
    let members = installation.complete(async |client| client.members(ask.clone()).await).await?.members;
    let stays: Vec<_> =
        members.iter().map(|member| (member.user_id.as_str(), member.entered_ms, member.leaves_ms)).collect();
    assert_eq!(stays, [("ann", now - 55_000, now + 5_000)]);

    let (left, _) = change(&mut stream).await?;
    assert_eq!((left.user_id.as_str(), left.entered, left.at_ms), ("ann", false, now + 5_000));
    let ask = pb::GetAudienceRequest { name: audience.1.into(), ..about::audience(audience.0) };
    let totals = installation
        .eventually("the totals to say that she left", Duration::from_secs(15), async || {
            let totals = client.get(ask.clone()).await?;
            ensure!(totals.left == 1, "{totals:?}");
            Ok(totals)
        })
        .await?;
    assert_eq!((totals.entered, totals.members), (1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_meets_one_fate_and_the_totals_balance() -> Result<()> {
    let (installation, project, now) = (live().await?, "fates", now_ms());
    let batch = |events: &[Value]| json!({"batch": events}).to_string();
    let event = |n: i64| by_device(&format!("device-{}", n % 7), "visit", now - n);
    let mut sent = 0;
    let mut send = async |path: &str, body: String, events: u64, status: u16| {
        sent += events;
        let reply = installation.send(project, path, body).await?;
        ensure!(reply.status == status, "{path}: {reply:?}");
        anyhow::Ok(())
    };
    // Good ones, in a batch and alone.
    let first: Vec<Value> = (0..40).map(event).collect();
    send("/v1/batch", batch(&first), 40, 200).await?;
    send("/v1/track", by_device("alone", "visit", now).to_string(), 1, 200).await?;
    let page = json!({"anonymousId": "alone", "properties": {"url": "https://shop.example/a?utm_source=x"}});
    send("/v1/page", page.to_string(), 1, 200).await?;
    // The same again; and twice in one request.
    send("/v1/batch", batch(&first[..25]), 25, 200).await?;
    let twice = by_device("twice", "visit", now);
    send("/v1/batch", batch(&[twice.clone(), twice]), 2, 200).await?;
    // Behind the watermark.
    installation.complete(async |client| client.trend(about::trend(project)).await).await?;
    let late: Vec<Value> = (0..5).map(|n| by_device(&format!("device-{n}"), "visit", now - 10 * MINUTE)).collect();
    send("/v1/batch", batch(&late), 5, 200).await?;
    // Bad ones among good ones, alone, and a body that is none.
    send("/v1/batch", batch(&[json!({"type": "track"}), event(100), json!("x"), json!({"type": "dance"})]), 4, 200)
        .await?;
    send("/v1/track", json!({"anonymousId": "d"}).to_string(), 1, 400).await?;
    send("/v1/batch", "{\"batch\": [".to_owned(), 1, 400).await?;
    // Understood, and nothing to record.
    send("/v1/alias", json!({"userId": "u", "previousId": "u"}).to_string(), 1, 200).await?;
    sent += 1;
    let pixel = installation.get("/v1/pixel.gif?writeKey=fates-key&event=mail_opened&anonymousId=mail").await?;
    assert_eq!(pixel.status, 200);
    let sent = sent;

    // Everything accepted is in the tables now, so it has met its fate.
    let (events, _) = totals(installation, project).await?;
    let metrics = installation.metrics("up").await?;
    let gateway = |fate| metrics.gateway_events(project, fate);
    let worker = |fate| metrics.worker_events(project, fate);
    let [counted, late, duplicate] = ["counted", "late", "duplicate"].map(worker);
    let rejected = gateway("rejected") + worker("rejected");
    let all = format!("sent {sent}, counted {counted}, late {late}, duplicate {duplicate}, rejected {rejected}");
    assert_eq!(sent, counted + late + duplicate + rejected + gateway("retry") + gateway("nothing"), "{all}");
    assert_eq!(gateway("accepted"), counted + late + duplicate + worker("rejected"), "{all}");
    // 40 + 1 + 1 + 1 + 5 + 1 + 1 different ones.
    assert_eq!((counted + late, duplicate, rejected, gateway("nothing")), (50, 26, 5, 1), "{all}");
    assert!(late >= 5, "{all}");
    assert_eq!(events, counted + late);
    let rows = installation
        .sql("SELECT count(), countIf(late), uniqExact(event_key) FROM events WHERE project = 'fates'")
        .await?;
    assert_eq!(rows, [[(counted + late).to_string(), late.to_string(), (counted + late).to_string()]]);
    let days = installation.sql("SELECT sum(events) FROM event_counts_daily WHERE project = 'fates'").await?;
    assert_eq!(days, [[(counted + late).to_string()]]);
    Ok(())
}
