//! The real program, `trackway`, in its roles: as `up`, or as separate processes over a Kafka broker.
//!
//! An [`Installation`] has a folder, ports and processes of its own, and takes all of them away when it ends, however the
//! test process ends (see `process`). Whatever waits has a deadline, and says with its last look and the end of every log
//! what it waited for.

mod ask;
mod faults;
mod http;
mod metrics;
mod process;
mod replay;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::time::{Instant, sleep, timeout_at};

use crate::kafka::KafkaBroker;
pub use ask::{Answer, Client, about};
use http::Http;
pub use http::Reply;
pub use metrics::Metrics;
use process::{Process, Processes, free_ports};
pub use replay::{Replay, ReplaySummary};

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A start: ClickHouse takes up to some seconds on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// The longest any answer may take to become complete: seconds when idle, and machines that run tests are not idle.
pub const COMPLETE_MAX: Duration = Duration::from_secs(120);

/// The embedded ClickHouse's user, and the password that the tests set.
const CLICKHOUSE_USER: &str = "trackway";
const CLICKHOUSE_PASSWORD: &str = "tests";

/// Touchpoints of every project here; [`crate::sample::touchpoints`] says what they make of the sample.
const TOUCHPOINTS: &str = r#"
[[projects.touchpoints]]
name = "browsing"
stage = "consideration"
events = ["catalog", "filter_results"]

[[projects.touchpoints]]
name = "order"
stage = "purchase"
events = ["purchase"]
"#;

/// Processes of the program that belong together.
pub struct Installation {
    folder: PathBuf,
    processes: Mutex<Processes>,
    http: Http,
    /// Ports of gateways, in the order of their names.
    gateways: Vec<u16>,
    /// 0: there is none.
    query: u16,
    clickhouse: u16,
}

impl Installation {
    /// Everything in one process, which is called `up`.
    ///
    /// - `projects`: their ids; each has the write key `ID-key`.
    /// - `settings`: environment variables without their prefix, such as `("WORKER__LATENESS_SECONDS", "2")`.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn up(projects: &[&str], settings: &[(&str, &str)]) -> Result<Self> {
        let [gateway, query, clickhouse] = free_ports()?;
        let installation = Self::new(projects, vec![gateway], query, clickhouse)?;
        let mut environment = installation.common(settings);
        environment.extend(named(&[
            ("GATEWAY__LISTEN", format!("127.0.0.1:{gateway}")),
            ("QUERY__LISTEN", format!("127.0.0.1:{query}")),
            ("CLICKHOUSE__PORT", clickhouse.to_string()),
        ]));
        installation.define("up", "up", environment)?;
        installation.start("up")?;
        installation.ready().await?;
        Ok(installation)
    }

    /// Seven processes: `clickhouse`, `query`, `worker-1`, `worker-2`, `gateway-1`, `gateway-2`, and the broker, which is the
    /// caller's.
    ///
    /// # Errors
    /// If one of them does not come up.
    pub async fn over_kafka(broker: &KafkaBroker, projects: &[&str], settings: &[(&str, &str)]) -> Result<Self> {
        let [gateway_1, gateway_2, query, clickhouse] = free_ports()?;
        let installation = Self::new(projects, vec![gateway_1, gateway_2], query, clickhouse)?;
        let mut common = installation.common(settings);
        common.extend(named(&[
            ("LOG__KIND", "kafka".to_owned()),
            ("LOG__BROKERS", broker.brokers()),
            // More than one for each worker, so that both have work.
            ("LOG__EVENTS_PARTITIONS", "4".to_owned()),
            ("LOG__JOURNEYS_PARTITIONS", "4".to_owned()),
            ("CLICKHOUSE__URL", format!("http://127.0.0.1:{clickhouse}")),
            ("CLICKHOUSE__USER", CLICKHOUSE_USER.to_owned()),
        ]));
        let with = |own: &[(&str, String)]| [common.clone(), named(own)].concat();
        installation.define("clickhouse", "clickhouse", with(&[("CLICKHOUSE__PORT", clickhouse.to_string())]))?;
        installation.start("clickhouse")?;
        installation
            .eventually("ClickHouse to answer", START_MAX, async || installation.sql_outside("SELECT 1").await)
            .await?;
        installation.run("migrate", with(&[]))?;
        installation.define("query", "query", with(&[("QUERY__LISTEN", format!("127.0.0.1:{query}"))]))?;
        for worker in ["worker-1", "worker-2"] {
            installation.define(worker, "worker", with(&[]))?;
        }
        for (name, port) in [("gateway-1", gateway_1), ("gateway-2", gateway_2)] {
            installation.define(name, "gateway", with(&[("GATEWAY__LISTEN", format!("127.0.0.1:{port}"))]))?;
        }
        for name in ["query", "worker-1", "worker-2", "gateway-1", "gateway-2"] {
            installation.start(name)?;
        }
        installation.ready().await?;
        Ok(installation)
    }

    /// One process, `gateway-1`, over a broker with topics that the caller has made.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn gateway_over_kafka(
        broker: &KafkaBroker,
        projects: &[&str],
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let [gateway] = free_ports()?;
        let installation = Self::new(projects, vec![gateway], 0, 0)?;
        let mut environment = named(&[("LOG__KIND", "kafka".to_owned()), ("LOG__BROKERS", broker.brokers())]);
        environment.extend(named(&[("GATEWAY__LISTEN", format!("127.0.0.1:{gateway}"))]));
        environment.extend(installation.common(settings));
        installation.define("gateway-1", "gateway", environment)?;
        installation.start("gateway-1")?;
        installation.ready().await?;
        Ok(installation)
    }

    /// Address of a gateway by its place, for a client of the caller's own.
    #[must_use]
    pub fn gateway(&self, place: usize) -> String {
        format!("http://127.0.0.1:{}", self.gateways[place])
    }

    fn new(projects: &[&str], gateways: Vec<u16>, query: u16, clickhouse: u16) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("trackway-tests-").tempdir()?.keep();
        let settings = projects.iter().fold(String::new(), |mut text, id| {
            let _ = write!(text, "[[projects]]\nid = \"{id}\"\nwrite_keys = [\"{id}-key\"]\n{TOUCHPOINTS}\n");
            text
        });
        std::fs::write(folder.join("trackway.toml"), settings)?;
        let processes = Mutex::new(Processes::new(&folder)?);
        Ok(Self { folder, processes, http: Http::new(), gateways, query, clickhouse })
    }

    /// What all roles are told.
    fn common(&self, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all = named(&[
            ("STORAGE__FOLDER", self.folder.join("data").display().to_string()),
            ("CLICKHOUSE__PASSWORD", CLICKHOUSE_PASSWORD.to_owned()),
        ]);
        all.extend(named(settings));
        all
    }

    fn define(&self, name: &str, role: &'static str, mut environment: Vec<(String, String)>) -> Result<()> {
        let [metrics] = free_ports()?;
        environment.extend(named(&[("TELEMETRY__LISTEN", format!("127.0.0.1:{metrics}"))]));
        self.processes().define(Process { name: name.to_owned(), role, environment, metrics, child: None });
        Ok(())
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, Processes> {
        // A test that failed while it held this must not keep the others from cleaning up.
        self.processes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Starts a process that does not run: after [`Self::kill9`] or [`Self::stop`], or at the beginning.
    ///
    /// # Errors
    /// If the program cannot be started. Whether it comes up shows later.
    pub fn start(&self, name: &str) -> Result<()> {
        self.processes().start(name)
    }

    /// Kills a process as `kill -9` does, and waits for its end.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill9(&self, name: &str) -> Result<()> {
        self.processes().kill9(name)
    }

    /// Kills the children of a process as `kill -9` does: of `up` or `clickhouse`, the ClickHouse server.
    ///
    /// # Errors
    /// If it does not run or has none.
    pub fn kill9_children(&self, name: &str) -> Result<()> {
        self.processes().kill9_children(name)
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// If it has not ended within `max`.
    pub async fn stop(&self, name: &str, max: Duration) -> Result<(ExitStatus, Duration)> {
        let begin = Instant::now();
        let mut child = self.processes().terminate(name)?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.processes().forget(&child);
                return Ok((status, begin.elapsed()));
            }
            if begin.elapsed() > max {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{name} did not end within {max:?} of SIGTERM\n{}", self.logs());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Runs a role that ends by itself.
    fn run(&self, role: &'static str, environment: Vec<(String, String)>) -> Result<()> {
        let output = self.processes().command(role, &environment)?.output().context("cannot run trackway")?;
        ensure!(output.status.success(), "trackway {role}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Waits until everything that was started answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ready(&self) -> Result<()> {
        let ports: Vec<(String, u16)> = self.processes().metrics_ports();
        self.eventually("all roles to answer", START_MAX, async || {
            for (name, port) in &ports {
                let reply = self.http.get(&format!("http://127.0.0.1:{port}/health")).await;
                ensure!(reply.with_context(|| name.clone())?.status == 200, "{name} is not healthy");
            }
            for port in &self.gateways {
                let reply = self.http.get(&format!("http://127.0.0.1:{port}/health")).await;
                ensure!(reply.context("gateway")?.status == 200, "a gateway is not healthy");
            }
            if self.query > 0 {
                self.client().lag().await?;
            }
            Ok(())
        })
        .await
    }

    /// Looks until there is something to see.
    ///
    /// - `what`: as words that follow "waiting for".
    ///
    /// # Errors
    /// After `max`, or when a process has ended that should run.
    pub async fn eventually<T>(
        &self,
        what: &str,
        max: Duration,
        mut look: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + max;
        loop {
            let seen = match timeout_at(deadline, look()).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => error,
                Err(_) => anyhow!("the last look did not come back"),
            };
            self.processes().check().with_context(|| format!("waiting for {what}"))?;
            if Instant::now() >= deadline {
                bail!("waiting for {what} took longer than {max:?}; the last look: {seen:#}\n{}", self.logs());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The end of every process's log.
    #[must_use]
    pub fn logs(&self) -> String {
        self.processes().logs()
    }

    /// A client of the query server.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.query)
    }

    /// Asks until the answer says that nothing accepted is missing from it, and returns that answer.
    ///
    /// # Errors
    /// If that takes longer than [`COMPLETE_MAX`].
    pub async fn complete<A: Answer>(&self, ask: impl AsyncFn(Client) -> Result<A, tonic::Status>) -> Result<A> {
        let client = self.client();
        let what = format!("a complete {}", std::any::type_name::<A>().rsplit("::").next().unwrap_or_default());
        self.eventually(&what, COMPLETE_MAX, async || {
            let answer = ask(client.clone()).await?;
            let freshness = answer.freshness().context("an answer without freshness")?;
            ensure!(freshness.pending_records == 0, "{} records are pending", freshness.pending_records);
            Ok(answer)
        })
        .await
    }

    /// Sends a body to the first gateway, as a tracker of the project would.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, project: &str, path: &str, body: impl Into<bytes::Bytes>) -> Result<Reply> {
        self.send_to(0, project, path, body).await
    }

    /// [`Self::send`] to a gateway by its place.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send_to(
        &self,
        gateway: usize,
        project: &str,
        path: &str,
        body: impl Into<bytes::Bytes>,
    ) -> Result<Reply> {
        let url = format!("http://127.0.0.1:{}{path}", self.gateways[gateway]);
        self.http.post(&url, Some(&format!("{project}-key")), &[], body.into()).await
    }

    /// Sends events as one batch and insists that all are taken.
    ///
    /// # Errors
    /// If they are not.
    pub async fn track(&self, project: &str, events: &[serde_json::Value]) -> Result<()> {
        let reply = self.send(project, "/v1/batch", serde_json::json!({"batch": events}).to_string()).await?;
        ensure!(reply.status == 200 && reply.json()? == serde_json::json!({"success": true}), "{reply:?}");
        Ok(())
    }

    /// Gets from the first gateway.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&self, path_and_query: &str) -> Result<Reply> {
        self.http.get(&format!("http://127.0.0.1:{}{path_and_query}", self.gateways[0])).await
    }

    /// Where the first gateway listens, as trackers are told.
    #[must_use]
    pub fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateways[0])
    }

    /// Runs `trackway replay` of the sample into a project, over all gateways, in the background.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn replay(&self, project: &str, args: &[&str]) -> Result<Replay<'_>> {
        let mut all: Vec<String> = vec!["replay".into(), crate::sample::path().display().to_string(), "--json".into()];
        all.extend(["--project-key".into(), format!("{project}-key")]);
        for port in &self.gateways {
            all.extend(["--server".into(), format!("http://127.0.0.1:{port}")]);
        }
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        let name = format!("replay-{project}");
        let child = self.processes().spawn(&name, &all)?;
        Ok(Replay { installation: self, child: Some(child) })
    }

    /// Runs the program against these gateways and the query server, and waits for its end.
    ///
    /// - `args`: in which `GATEWAY` stands for the first gateway's address and `QUERY` for the query server's.
    ///
    /// # Errors
    /// If it has not ended within `max`.
    pub async fn trackway(&self, args: &[&str], max: Duration) -> Result<std::process::Output> {
        let child = self.start_trackway(args)?;
        let mut run = Replay { installation: self, child: Some(child) };
        self.eventually(&format!("`trackway {}` to end", args.join(" ")), max, async || {
            ensure!(!run.is_running()?, "it still runs");
            Ok(())
        })
        .await?;
        let child = run.child.take().context("it has ended")?;
        self.processes().forget(&child);
        Ok(child.wait_with_output()?)
    }

    /// As [`Self::trackway`], in the background. It is the caller's to end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_trackway(&self, args: &[&str]) -> Result<std::process::Child> {
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let args = args.iter().map(|&arg| match arg {
            "GATEWAY" => address(self.gateways[0]),
            "QUERY" => address(self.query),
            arg => arg.to_owned(),
        });
        self.processes().spawn("trackway", &args.collect::<Vec<_>>())
    }

    /// Other settings for a process, from its next start on.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn set(&self, name: &str, settings: &[(&str, &str)]) -> Result<()> {
        self.processes().set(name, named(settings))
    }

    /// Folder of the embedded log.
    #[must_use]
    pub fn log_folder(&self) -> PathBuf {
        self.folder.join("data/log")
    }

    /// Metrics of a process.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self, name: &str) -> Result<Metrics> {
        let port = self.processes().metrics_port(name)?;
        let reply = self.http.get(&format!("http://127.0.0.1:{port}/metrics")).await?;
        Ok(Metrics::parse(&String::from_utf8_lossy(&reply.body)))
    }

    /// Rows of a query, straight from ClickHouse, within our database.
    ///
    /// # Errors
    /// If ClickHouse refuses it.
    pub async fn sql(&self, query: impl Into<String>) -> Result<Vec<Vec<String>>> {
        self.sql_at("?database=trackway", query.into()).await
    }

    async fn sql_outside(&self, query: &str) -> Result<Vec<Vec<String>>> {
        self.sql_at("", query.to_owned()).await
    }

    async fn sql_at(&self, parameters: &str, query: String) -> Result<Vec<Vec<String>>> {
        let url = format!("http://127.0.0.1:{}/{parameters}", self.clickhouse);
        let headers = [("X-ClickHouse-User", CLICKHOUSE_USER), ("X-ClickHouse-Key", CLICKHOUSE_PASSWORD)];
        let reply = self.http.post(&url, None, &headers, query.into()).await?;
        let text = String::from_utf8_lossy(&reply.body);
        ensure!(reply.status == 200, "ClickHouse says {}: {text}", reply.status);
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }
}

/// Settings as environment variables.
fn named<V: ToString>(settings: &[(&str, V)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| (format!("TRACKWAY_{name}"), value.to_string())).collect()
}
