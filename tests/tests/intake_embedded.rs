//! What arrives, on one machine: who is a bot, what is rejected, what a tail shows, and what a replay makes good.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tonic::Streaming;
use trackway_eventlog::embedded::{Config, EmbeddedLog, Fsync, system_clock};
use trackway_eventlog::{EventLog, NewRecord};
use trackway_query::pb::{self, person_journey_request::Who, tail_response::Body};
use trackway_tests::roles::{Installation, about};
use trackway_wire::log::{encode, pb as log_pb};

/// For a program that asks or sends a few things and ends.
const PROGRAM_MAX: Duration = Duration::from_secs(60);

const HEADLESS: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36";

async fn live() -> Result<&'static Installation> {
    static LIVE: OnceCell<Installation> = OnceCell::const_new();
    LIVE.get_or_try_init(|| Installation::up(&["bots", "tail", "list"], &[("WORKER__LATENESS_SECONDS", "2")])).await
}

fn event(device: &str, name: &str, id: &str) -> Value {
    json!({"type": "track", "anonymousId": device, "event": name, "messageId": id})
}

/// A machine's, as a browser's tracker or a server's library sends it.
fn by_bot(device: &str, name: &str, id: &str) -> Value {
    let mut value = event(device, name, id);
    value["context"] = json!({"userAgent": HEADLESS, "page": {"url": "https://shop.example/?utm_source=x"}});
    value
}

/// Events and persons.
async fn totals(installation: &Installation, project: &str, include_bots: bool) -> Result<(u64, u64)> {
    let ask = pb::TrendRequest { include_bots, ..about::trend(project) };
    let answer = installation.complete(async |client| client.trend(ask.clone()).await).await?;
    Ok(answer.buckets.first().map_or((0, 0), |all| (all.events, all.persons)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_bots_do_is_kept_and_in_no_answer_unless_asked_for() -> Result<()> {
    let (installation, project) = (live().await?, "bots");
    let client = installation.client();
    client.create_audience((project, "buyers"), "purchase", 1, Duration::from_hours(1)).await?;
    installation
        .track(
            project,
            &[
                event("person", "catalog", "1"),
                event("person", "purchase", "2"),
                by_bot("machine", "catalog", "3"),
                by_bot("machine", "purchase", "4"),
                // Of one visitor, some by a machine's word and some not.
                by_bot("both", "catalog", "5"),
                event("both", "purchase", "6"),
            ],
        )
        .await?;
    assert_eq!(totals(installation, project, false).await?, (3, 2));
    assert_eq!(totals(installation, project, true).await?, (6, 3));

    for (include_bots, steps, pairs, orders) in [(false, [1, 1], 1, 2), (true, [3, 3], 3, 3)] {
        let ask =
            pb::FunnelRequest { steps: about::steps(&["catalog", "purchase"]), include_bots, ..about::funnel(project) };
        let funnel = installation.complete(async |client| client.funnel(ask.clone()).await).await?;
        assert_eq!(funnel.steps.iter().map(|step| step.persons).collect::<Vec<_>>(), steps);
        let ask = pb::PathsRequest { include_bots, ..about::paths(project) };
        let paths = installation.complete(async |client| client.paths(ask.clone()).await).await?;
        assert_eq!(paths.pairs, pairs);
        let ask = pb::TouchpointsRequest { include_bots, ..about::touchpoints(project) };
        let touchpoints = installation.complete(async |client| client.touchpoints(ask.clone()).await).await?;
        let order = touchpoints.rows.iter().find(|row| row.touchpoint == "order").context("orders")?;
        assert_eq!(order.events, orders);
        let who = Some(Who::VisitorId("both".into()));
        let ask = pb::PersonJourneyRequest { who, include_bots, ..about::journey(project) };
        let journey = installation.complete(async |client| client.person_journey(ask.clone()).await).await?;
        let mut bots: Vec<&str> = journey.events.iter().map(|event| event.bot.as_str()).collect();
        bots.sort_unstable();
        assert_eq!(bots, if include_bots { vec!["", "headless"] } else { vec![""] });
    }

    // Two sessions, of three visitors; two members.
    let ask = about::sessions(project);
    let sessions = installation.complete(async |client| client.session_summary(ask.clone()).await).await?;
    assert_eq!((sessions.rows[0].sessions, sessions.rows[0].events), (2, 3), "{sessions:?}");
    let ask = pb::MembersRequest { name: "buyers".into(), ..about::members(project) };
    let members = installation.complete(async |client| client.members(ask.clone()).await).await?.members;
    let mut members: Vec<&str> = members.iter().map(|member| member.visitor_id.as_str()).collect();
    members.sort_unstable();
    assert_eq!(members, ["both", "person"]);
    // All of it is there, with its reason; the sums by day have what answers have.
    let rows =
        installation.sql("SELECT bot, count() FROM events WHERE project = 'bots' GROUP BY bot ORDER BY bot").await?;
    assert_eq!(rows, [["", "3"], ["headless", "3"]]);
    let days = installation.sql("SELECT sum(events) FROM event_counts_daily WHERE project = 'bots'").await?;
    assert_eq!(days, [["3"]]);
    let ask = ["ask", "trend", "--project", project, "--include-bots", "--server", "QUERY", "--json"];
    let told = installation.trackway(&ask, PROGRAM_MAX).await?;
    let told: Value = serde_json::from_slice(&told.stdout)?;
    assert_eq!(told["buckets"][0]["events"], json!(6));
    Ok(())
}

async fn next(stream: &mut Streaming<pb::TailResponse>) -> Result<Body> {
    let response = timeout(Duration::from_secs(15), stream.message()).await.context("nothing within 15 s")??;
    response.context("the stream ended")?.body.context("something to show")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_shows_what_arrives_and_why_something_did_not() -> Result<()> {
    let (installation, project) = (live().await?, "tail");
    let mut tail = installation.client().tail(about::tail(project)).await?;
    let mut rejected_only =
        installation.client().tail(pb::TailRequest { rejected_only: true, ..about::tail(project) }).await?;
    let mut signup = event("device", "signup", "1");
    signup["properties"] = json!({"plan": "pro"});
    let batch = json!({"batch": [signup, {"type": "track", "anonymousId": "device"}, by_bot("machine", "visit", "2")]});
    let reply = installation.send(project, "/v1/batch", batch.to_string()).await?;
    ensure!(reply.status == 200, "{reply:?}");

    let (mut events, mut rejected) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        match next(&mut tail).await? {
            Body::Event(event) => events.push(event),
            Body::Rejected(item) => rejected.push(item),
        }
    }
    events.sort_by(|a, b| a.event.cmp(&b.event));
    let [signup, visit] = &events[..] else { anyhow::bail!("{events:?}") };
    assert_eq!(
        (signup.event.as_str(), signup.visitor_id.as_str(), signup.protocol.as_str()),
        ("signup", "device", "segment")
    );
    assert_eq!((signup.properties.as_str(), signup.bot.as_str()), (r#"{"plan":"pro"}"#, ""));
    assert_eq!((visit.event.as_str(), visit.bot.as_str()), ("visit", "headless"));
    let [item] = &rejected[..] else { anyhow::bail!("{rejected:?}") };
    assert_eq!((item.index, item.reason.as_str(), item.target.as_str()), (Some(1), "missing_field", "/v1/batch"));
    assert!(item.message.contains("`event`"), "{}", item.message);
    assert!(String::from_utf8_lossy(&item.excerpt).contains(r#""anonymousId":"device""#));
    let Body::Rejected(same) = next(&mut rejected_only).await? else { anyhow::bail!("an event") };
    assert_eq!(same, *item);

    // By the program, a line each.
    let mut program = installation.start_trackway(&["ask", "tail", "--project", project, "--server", "QUERY"])?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(program.stdout.take().context("its output")?));
    let first = tokio::task::spawn_blocking(move || lines.next());
    // It is not said when it has begun, so things happen until it shows one.
    let mut n = 0;
    while !first.is_finished() {
        ensure!(n < 200, "nothing is shown");
        n += 1;
        installation.track(project, &[event("device", "ping", &format!("ping {n}"))]).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let line = first.await?.context("a line")??;
    program.kill()?;
    program.wait()?;
    assert!(line.ends_with("segment  track ping visitor=device"), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_requests_are_listed_with_their_items() -> Result<()> {
    let (installation, project) = (live().await?, "list");
    let batch = json!({"batch": [event("d", "a", "1"), {"type": "dance"}, event("d", "b", "2"), "x"]}).to_string();
    installation.send(project, "/v1/batch", batch.clone()).await?;
    installation.send(project, "/v1/track", "{").await?;
    let ask = pb::ListRejectedRequest { with_body: true, ..about::rejected(project) };
    let listed = installation.client().list_rejected(ask).await?.requests;
    let [whole, items] = &listed[..] else { anyhow::bail!("{listed:?}") };
    assert_eq!((whole.reason.as_str(), whole.items.len(), &whole.body[..]), ("malformed", 0, &b"{"[..]));
    let indexes: Vec<u32> = items.items.iter().map(|item| item.index).collect();
    assert_eq!((indexes, String::from_utf8_lossy(&items.body).into_owned()), (vec![1, 3], batch));
    assert!(items.received_ms <= whole.received_ms && system_clock() - items.received_ms < 60_000);
    // Nothing that lets anybody in is kept.
    let kept = format!("{listed:?}").to_lowercase();
    assert!(!kept.contains("authorization") && !kept.contains("list-key"), "{kept}");

    let ask = ["ask", "rejected", "--project", project, "--since", "1h", "--server", "QUERY"];
    let told = installation.trackway(&ask, PROGRAM_MAX).await?;
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains("    item 3  malformed: ") && told.ends_with("2 requests\n"), "{told}");
    Ok(())
}

/// The log of an installation that does not run: what an earlier version of the program wrote into it.
async fn append_rejected(installation: &Installation, record: &log_pb::RejectedRecord) -> Result<()> {
    let log = EmbeddedLog::open(Config {
        folder: installation.log_folder(),
        fsync: Fsync::EveryGroup,
        group_delay: Duration::ZERO,
        group_bytes_max: 16 << 20,
        batch_bytes_max: 1 << 20,
        queue_bytes_max: 64 << 20,
        cache_bytes: 32 << 20,
        memtable_bytes: 32 << 20,
        journal_bytes_max: 256 << 20,
        compress: true,
        retention_every: Duration::from_secs(60),
        clock: system_clock,
    })?;
    let record = NewRecord { partition: 0, timestamp_ms: system_clock() - 3_600_000, value: encode(record) };
    log.append("rejected", vec![record]).await?;
    log.close().await;
    Ok(())
}

async fn replay(installation: &Installation, args: &[&str]) -> Result<(bool, Vec<Value>)> {
    let mut all = vec!["replay-rejected", "--project", "again", "--project-key", "again-key", "--json"];
    all.extend(["--server", "QUERY", "--gateway", "GATEWAY"]);
    all.extend(args);
    let ended = installation.trackway(&all, PROGRAM_MAX).await?;
    let lines = String::from_utf8(ended.stdout)?;
    let lines = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    Ok((ended.status.success(), lines.with_context(|| installation.logs())?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_after_a_fix_makes_good_what_was_rejected_and_no_duplicates() -> Result<()> {
    let project = "again";
    let installation =
        Installation::up(&[project], &[("GATEWAY__BATCH_EVENTS_MAX", "3"), ("WORKER__LATENESS_SECONDS", "2")]).await?;
    // Too many for the limit, and without ids of their own. The same thing twice: two events, not one.
    let nameless = |event: &str| json!({"type": "track", "anonymousId": "d", "event": event});
    let batch = json!({"batch": [nameless("a"), nameless("b"), nameless("b"), nameless("c")]});
    let reply = installation.send(project, "/v1/batch", batch.to_string()).await?;
    assert_eq!(reply.status, 413, "{reply:?}");
    // As it still is, it is rejected again.
    let (success, told) = replay(&installation, &[]).await?;
    assert!(!success);
    assert_eq!((&told[0]["outcome"]["accepted"], &told[1]["rejected"]), (&json!(0), &json!(1)), "{told:?}");
    let why = told[0]["outcome"]["rejected"][0]["reason"].as_str().unwrap_or_default();
    assert!(why.starts_with("too_large: ") && why.contains("limit is 3"), "{why}");
    assert_eq!(totals(&installation, project, true).await?, (0, 0));

    // The limit is raised; and an older version had rejected one item that this one understands, beside two that it took.
    installation.stop("up", Duration::from_secs(30)).await?;
    let older =
        json!({"batch": [event("e", "taken", "1"), nameless("missed"), event("e", "taken", "2"), {"type": "dance"}]});
    let item = |index, reason: &str| log_pb::RejectedItem { index, reason: reason.into(), ..Default::default() };
    let record = log_pb::RejectedRecord {
        project: project.into(),
        protocol: "segment".into(),
        reason: "malformed".into(),
        body: older.to_string().into(),
        items: vec![item(1, "malformed"), item(3, "unknown_call")],
        method: "POST".into(),
        target: "/v1/batch".into(),
        headers: vec![log_pb::Header { name: "content-type".into(), value: "application/json".into() }],
        ..Default::default()
    };
    append_rejected(&installation, &record).await?;
    // And one of a tracker that sends neither ids of events nor of visitors: whose it is was derived when it came.
    let header = |name: &str, value: &str| log_pb::Header { name: name.into(), value: value.into() };
    let plausible = log_pb::RejectedRecord {
        protocol: "plausible".into(),
        body: json!({"n": "Signup", "u": "https://shop.example/", "d": "shop.example"}).to_string().into(),
        items: Vec::new(),
        target: "/api/event".into(),
        headers: vec![header("content-type", "text/plain"), header("x-trackway-visitor", "derived")],
        ..record
    };
    append_rejected(&installation, &plausible).await?;
    installation.set("up", &[("GATEWAY__BATCH_EVENTS_MAX", "100")])?;
    installation.start("up")?;
    installation.ready().await?;

    let (success, told) = replay(&installation, &["--dry-run"]).await?;
    assert!(success);
    let sum = told.last().context("a sum")?;
    assert_eq!((&sum["requests"], &sum["accepted"], &sum["dry_run"]), (&json!(3), &json!(0), &json!(true)), "{told:?}");
    assert_eq!(totals(&installation, project, true).await?, (0, 0), "nothing was sent");

    // Only what is mended; then all, twice.
    let (success, told) = replay(&installation, &["--reason", "malformed"]).await?;
    assert!(success, "{told:?}");
    assert_eq!((&told[0]["protocol"], &told[0]["outcome"]["accepted"]), (&json!("plausible"), &json!(1)), "{told:?}");
    assert_eq!((&told[1]["items"], &told[1]["outcome"]["accepted"]), (&json!([1]), &json!(1)), "{told:?}");
    assert_eq!(totals(&installation, project, true).await?, (2, 2), "the two others were taken when they came");
    for round in 0..2 {
        let (success, told) = replay(&installation, &[]).await?;
        assert!(!success, "one item is still bad");
        let still = told.iter().find(|line| line["items"] == json!([1, 3])).context("the older request")?;
        assert_eq!(still["outcome"]["accepted"], json!(1), "{told:?}");
        assert_eq!(still["outcome"]["rejected"][0]["index"], json!(3), "{told:?}");
        assert_eq!(totals(&installation, project, true).await?, (6, 2), "round {round}");
    }
    // Each has the time at which it first came, and a name that says where it comes from.
    let rows = installation
        .sql(
            "SELECT event, any(event_id LIKE 'rejected:0.%'), count(), max(time) < now64(3) - 3000 FROM events
             GROUP BY event ORDER BY event",
        )
        .await?;
    assert_eq!(
        rows,
        [
            ["Signup", "1", "1", "1"],
            ["a", "1", "1", "0"],
            ["b", "1", "2", "0"],
            ["c", "1", "1", "0"],
            ["missed", "1", "1", "1"]
        ],
        "the older version's came an hour ago"
    );
    let visitors = installation.sql("SELECT DISTINCT visitor_id FROM events WHERE protocol = 'plausible'").await?;
    assert_eq!(visitors, [["derived"]]);
    // What was rejected again stands where it stood, once.
    let listed = installation.client().list_rejected(about::rejected(project)).await?.requests;
    assert_eq!(listed.len(), 3);
    Ok(())
}
