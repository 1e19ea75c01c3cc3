//! Trackers as their makers ship them, from npm and PyPI, against the running program: each does a known list of things
//! (`tests/live/*.mjs`, `server.py`), and here it is read from ClickHouse what became of them. Every thing exactly once,
//! by its name, with its ids, properties and time; nothing rejected, nothing sent again, no complaint of the tracker's.
//!
//! `cargo xtask setup` fetches Chromium, the packages and what else this needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::time::timeout;
use trackway_tests::roles::{Installation, about};

/// One script. It takes some seconds; a browser starts slowly on a machine that runs other tests.
const SCRIPT_MAX: Duration = Duration::from_secs(120);

/// All tests of our own tracker in the browser: they take 90 s, most of it waiting.
const BROWSER_TESTS_MAX: Duration = Duration::from_secs(400);

/// The user whom all scripts identify.
const USER: &str = "user-7";
const STEPS: usize = 45;
/// What Python's trackers send and JavaScript's cannot.
const LARGE: &str = "9007199254740993";

async fn live() -> Result<&'static Installation> {
    static LIVE: OnceCell<Installation> = OnceCell::const_new();
    const PROJECTS: [&str; 14] = [
        "trackway",
        "posthog-js",
        "analytics-next",
        "browser-tracker",
        "analytics-js",
        "mixpanel-browser",
        "analytics-browser",
        "tracker",
        "posthog-node",
        "analytics-node",
        "posthog",
        "segment-analytics-python",
        "mixpanel",
        "snowplow-tracker",
    ];
    LIVE.get_or_try_init(|| Installation::up(&PROJECTS, &[])).await
}

/// One browser at a time: several make each other slow, and the tests are about what arrives.
async fn browser() -> MutexGuard<'static, ()> {
    static BROWSER: Mutex<()> = Mutex::const_new(());
    BROWSER.lock().await
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// A script of `tests/live`, not yet started.
fn script(file: &str) -> Result<Command> {
    let python = file.ends_with(".py");
    let fetched = workspace().join(if python { ".trackway/python" } else { ".trackway/live" });
    ensure!(fetched.join("installed").is_file(), "there is no {}. Run `cargo xtask setup`", fetched.display());
    let program = if python { fetched.join("bin/python") } else { PathBuf::from("node") };
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

/// Runs a script to its end; gives the JSON that it prints.
async fn run(file: &str, args: &[&str]) -> Result<Value> {
    let mut command = script(file)?;
    command.arg(workspace().join("tests/live").join(file)).args(args);
    let output = timeout(SCRIPT_MAX, command.output()).await;
    let output = output.with_context(|| format!("{file} {args:?} took longer than {SCRIPT_MAX:?}"))??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{file} {args:?} ended with {}: {said}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("{file} {args:?} printed no JSON"))
}

/// A project's rows, in the order of their time, once all that was accepted is there.
async fn rows(installation: &Installation, project: &str) -> Result<Vec<Value>> {
    installation.complete(async |client| client.trend(about::trend(project)).await).await?;
    let query = format!(
        "SELECT protocol, kind, event, visitor_id, user_id, event_id, toUnixTimestamp64Milli(time) AS time_ms, properties,
        traits, path, title, source, library, library_version FROM events WHERE project = '{project}'
        ORDER BY time, sequence, event_key FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0"
    );
    let lines = installation.sql(query).await?;
    lines.iter().map(|line| serde_json::from_str(&line.join("\t")).context("a row")).collect()
}

/// Text of a column.
fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("`{column}` in {row}"))
}

/// What a column of JSON says.
fn object(row: &Value, column: &str) -> Value {
    serde_json::from_str(text(row, column)).unwrap_or_else(|error| panic!("{error}: {row}"))
}

fn of<'a>(rows: &'a [Value], event: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["event"] == event).collect()
}

/// Whether all members of `part` are members of `whole`, numbers by value.
fn assert_has(whole: &Value, part: &Value) {
    for (name, value) in part.as_object().expect("an object") {
        assert_eq!(&whole[name], value, "`{name}` in {whole}");
    }
}

fn product() -> Value {
    json!({"sku": "A-1", "price": 19.5, "list": "Käse & Früchte", "tags": ["new", "ü"]})
}

fn order() -> Value {
    json!({"order": "o-1", "total": 39, "paid": true})
}

/// What every tracker owes: all was taken, nothing came twice, and ids are one's own.
async fn assert_clean(installation: &Installation, project: &str, rows: &[Value], said: &Value) -> Result<()> {
    assert_eq!(said["errors"], json!([]), "{project} complained");
    let metrics = installation.metrics("up").await?;
    let gateway = ["accepted", "rejected", "retry"].map(|fate| metrics.gateway_events(project, fate));
    assert_eq!(gateway, [rows.len() as u64, 0, 0], "accepted, rejected, told to retry: {rows:#?}");
    assert_eq!(metrics.worker_events(project, "duplicate"), 0, "it sent something twice");
    let mut ids = BTreeMap::new();
    for row in rows.iter().filter(|row| row["event_id"] != "") {
        *ids.entry(text(row, "event_id")).or_insert(0) += 1;
    }
    assert!(ids.values().all(|&count| count == 1), "{ids:?}");
    Ok(())
}

/// How a browser's tracker differs from most.
struct Web {
    /// As `web.mjs` knows it.
    tracker: &'static str,
    project: &'static str,
    protocol: &'static str,
    /// Its name for a page view, if it has no kind of its own for it.
    view: &'static str,
    /// Whether it says on which page it is.
    addresses: bool,
    /// How many identify calls arrive: some make several out of one.
    identifies: std::ops::RangeInclusive<usize>,
    /// Whether its events have ids; else the visitor is derived, too.
    ids: bool,
    /// Events that it adds by itself.
    adds: &'static [&'static str],
}

const MOST: Web = Web {
    tracker: "",
    project: "",
    protocol: "",
    view: "page",
    addresses: true,
    identifies: 1..=1,
    ids: true,
    adds: &[],
};

impl Web {
    async fn check(self) -> Result<()> {
        let (installation, project) = (live().await?, self.project);
        let said = {
            let _browser = browser().await;
            run("web.mjs", &[self.tracker, &installation.gateway_url(), &format!("{project}-key")]).await?
        };
        let rows = rows(installation, project).await?;
        assert_clean(installation, project, &rows, &said).await?;
        let answers = said["answers"].as_array().context("answers")?;
        assert!(answers.iter().all(|answer| (200..300).contains(&answer["status"].as_u64().unwrap_or(0))), "{said}");

        let mut events: Vec<&str> = rows.iter().map(|row| text(row, "event")).collect();
        events.retain(|event| *event != "identify" && !self.adds.contains(event));
        let mut list = vec![self.view, "product_viewed", "purchase", self.view, "goodbye"];
        if !self.ids {
            // Without a time of its own an event has that of its arrival, and requests overtake each other.
            events.sort_unstable();
            list.sort_unstable();
        }
        assert_eq!(events, list, "{rows:#?}");
        assert!(self.identifies.contains(&of(&rows, "identify").len()), "{rows:#?}");
        for added in self.adds {
            assert!(!of(&rows, added).is_empty(), "no {added}: {rows:#?}");
        }

        let visitor = text(&rows[0], "visitor_id");
        for row in &rows {
            assert_eq!((text(row, "protocol"), text(row, "visitor_id")), (self.protocol, visitor), "{row}");
            assert!(row["kind"] == "identify" || row["library"] != "", "{row}");
            assert!(!self.ids || row["kind"] == "identify" || row["event_id"] != "", "{row}");
        }
        assert!(visitor.len() > 8);
        let (products, orders) = (of(&rows, "product_viewed"), of(&rows, "purchase"));
        if self.ids {
            assert_has(&object(products[0], "properties"), &product());
            assert_has(&object(orders[0], "properties"), &order());
        } else {
            // Plausible's properties are text.
            assert_has(&object(products[0], "properties"), &json!({"sku": "A-1", "price": "19.5"}));
        }
        let user = if self.identifies == (0..=0) && !self.ids { "" } else { USER };
        let users = ["product_viewed", "purchase", "goodbye"].map(|event| text(of(&rows, event)[0], "user_id"));
        assert_eq!(users, ["", user, user], "who it was, before and after");
        if let Some(identify) = of(&rows, "identify").first() {
            assert_eq!(text(identify, "user_id"), USER);
            let traits = of(&rows, "identify").iter().any(|row| object(row, "traits")["plan"] == "pro");
            assert!(traits, "{rows:#?}");
        }
        let views = of(&rows, self.view);
        if self.addresses {
            let mut paths: Vec<&str> = views.iter().map(|row| text(row, "path")).collect();
            paths.sort_unstable();
            assert_eq!(paths, ["/shop", "/shop/second"]);
            let first = views.iter().find(|row| row["path"] == "/shop").context("the first page")?;
            assert_eq!(text(first, "source"), "news", "where the visit came from");
            assert!(!self.ids || first["title"] == "Käse & Früchte – Shop", "{first}");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_tracker() -> Result<()> {
    let tracker = Web { tracker: "trackway", project: "trackway", protocol: "trackway", adds: &["engagement"], ..MOST };
    tracker.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posthogs_browser_tracker() -> Result<()> {
    Web { tracker: "posthog-js", project: "posthog-js", protocol: "posthog", ..MOST }.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_browser_tracker() -> Result<()> {
    Web { tracker: "@segment/analytics-next", project: "analytics-next", protocol: "segment", ..MOST }.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snowplows_browser_tracker() -> Result<()> {
    // It has no identify call: a user id goes with what comes after.
    let tracker =
        Web { tracker: "@snowplow/browser-tracker", project: "browser-tracker", protocol: "snowplow", ..MOST };
    Web { identifies: 0..=0, ..tracker }.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rudderstacks_browser_tracker() -> Result<()> {
    Web { tracker: "@rudderstack/analytics-js", project: "analytics-js", protocol: "rudderstack", ..MOST }.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixpanels_browser_tracker() -> Result<()> {
    // Besides `$identify` it says what is known of the person, twice: what was known first, and what the page sets.
    let tracker = Web { tracker: "mixpanel-browser", project: "mixpanel-browser", protocol: "mixpanel", ..MOST };
    Web { identifies: 3..=3, ..tracker }.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amplitudes_browser_tracker() -> Result<()> {
    // Without its autocapture it does not say where it is.
    let project = "analytics-browser";
    let tracker = Web { tracker: "@amplitude/analytics-browser", project, protocol: "amplitude", ..MOST };
    Web { view: "Page Viewed", addresses: false, ..tracker }.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plausibles_browser_tracker() -> Result<()> {
    // It knows neither users nor ids.
    let tracker = Web { tracker: "@plausible-analytics/tracker", project: "tracker", protocol: "plausible", ..MOST };
    Web { identifies: 0..=0, ids: false, adds: &["engagement"], ..tracker }.check().await
}

/// What a server's tracker does: `server.mjs`, `server.py`.
async fn check_server(file: &str, tracker: &str, project: &str, protocol: &str, identifies: usize) -> Result<()> {
    let installation = live().await?;
    let said = run(file, &[tracker, &installation.gateway_url(), &format!("{project}-key")]).await?;
    let rows = rows(installation, project).await?;
    assert_clean(installation, project, &rows, &said).await?;
    for row in &rows {
        assert_eq!((text(row, "protocol"), text(row, "user_id")), (protocol, USER), "{row}");
        assert!(row["kind"] == "identify" || (row["event_id"] != "" && row["library_version"] != ""), "{row}");
    }
    let mut counts = BTreeMap::new();
    for row in &rows {
        *counts.entry(text(row, "event")).or_insert(0) += 1;
    }
    let mut list = BTreeMap::from([("product_viewed", 1), ("purchase", 1), ("step", STEPS)]);
    if identifies > 0 {
        list.insert("identify", identifies);
        assert!(of(&rows, "identify").iter().any(|row| object(row, "traits")["plan"] == "pro"), "{rows:#?}");
    }
    assert_eq!(counts, list);
    let mut steps: Vec<u64> =
        of(&rows, "step").iter().filter_map(|row| object(row, "properties")["n"].as_u64()).collect();
    steps.sort_unstable();
    assert_eq!(steps, (0..STEPS as u64).collect::<Vec<_>>(), "each step once");
    let viewed = of(&rows, "product_viewed")[0];
    assert_has(&object(viewed, "properties"), &product());
    assert_eq!(viewed["time_ms"], said["earlier_ms"], "it said when it was");
    if file.ends_with(".py") {
        assert!(text(viewed, "properties").contains(LARGE), "{viewed}");
    }
    assert_has(&object(of(&rows, "purchase")[0], "properties"), &order());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posthogs_tracker_for_node() -> Result<()> {
    check_server("server.mjs", "posthog-node", "posthog-node", "posthog", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_tracker_for_node() -> Result<()> {
    check_server("server.mjs", "@segment/analytics-node", "analytics-node", "segment", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posthogs_tracker_for_python() -> Result<()> {
    check_server("server.py", "posthog", "posthog", "posthog", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_tracker_for_python() -> Result<()> {
    check_server("server.py", "segment-analytics-python", "segment-analytics-python", "segment", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixpanels_tracker_for_python() -> Result<()> {
    check_server("server.py", "mixpanel", "mixpanel", "mixpanel", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snowplows_tracker_for_python() -> Result<()> {
    check_server("server.py", "snowplow-tracker", "snowplow-tracker", "snowplow", 0).await
}

/// What no gateway would do on demand, and what only a browser can say: see `tracker.test.mjs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_tracker_does_in_a_browser_what_it_says() -> Result<()> {
    let _browser = browser().await;
    let mut command = script("tracker.test.mjs")?;
    command.arg("--test").arg(workspace().join("tests/live/tracker.test.mjs"));
    let output = timeout(BROWSER_TESTS_MAX, command.output()).await;
    let output = output.with_context(|| format!("the browser tests took longer than {BROWSER_TESTS_MAX:?}"))??;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}

/// A page that pins the script, and a gateway that is killed while visitors go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_our_own_tracker_saw_while_the_gateway_was_dead_arrives_once() -> Result<()> {
    let installation = Installation::up(&["outage"], &[]).await?;
    let _browser = browser().await;
    let mut command = script("outage.mjs")?;
    command.arg(workspace().join("tests/live/outage.mjs")).arg(installation.gateway_url()).arg("outage-key");
    let mut visits = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().context("cannot run node")?;
    let (mut tell, told) = (visits.stdin.take().context("its input")?, visits.stdout.take().context("its output")?);
    let mut told = BufReader::new(told).lines();
    let mut tracked = 0;
    let visit = async {
        while let Some(line) = told.next_line().await? {
            match line.as_str() {
                "down" => installation.kill9("up")?,
                "up" => {
                    installation.start("up")?;
                    installation.ready().await?;
                }
                last => {
                    tracked = last.parse().with_context(|| format!("it said {last:?}"))?;
                    break;
                }
            }
            tell.write_all(b"done\n").await?;
        }
        anyhow::Ok(visits.wait().await?)
    };
    let ended = timeout(SCRIPT_MAX, visit).await.context("the visits did not end")??;
    ensure!(ended.success(), "the visits ended with {ended}");

    let rows = rows(&installation, "outage").await?;
    let mut numbers: Vec<u64> =
        of(&rows, "tracked").iter().filter_map(|row| object(row, "properties")["n"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..tracked).collect::<Vec<_>>(), "{rows:#?}");
    assert_eq!(of(&rows, "page").len(), 3, "{rows:#?}");
    let visitor = text(&rows[0], "visitor_id");
    assert!(rows.iter().all(|row| row["visitor_id"] == visitor), "{rows:#?}");
    Ok(())
}
