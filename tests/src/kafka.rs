//! A real Apache Kafka broker for tests: one node, KRaft, from the jars that `cargo xtask setup` fetched.
//!
//! Java runs below a small shell that waits for the end of its standard input, which the test process holds open. So
//! the broker ends with the test process however that ends, `kill -9` included.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use trackway_eventlog::kafka::{Compression, Config, KafkaLog};

/// Any 16 bytes in base64url; a fresh folder makes a fresh cluster anyway.
const CLUSTER_ID: &str = "dHJhY2t3YXktdGVzdHMtMQ";
/// Steps of waiting for the broker; it listens 1.2 to 1.7 s after start on an idle machine.
const WAIT_STEP: Duration = Duration::from_millis(50);
const WAIT_STEPS: u32 = 1200;
/// Other tests take ports too.
const PORT_TRIES: u32 = 5;

/// Starts Java, tells its pid, and ends it when standard input ends. `INT` and `HUP` are ignored, so that Ctrl-C at a
/// terminal, which reaches the whole group, leaves this shell alive to clean up. `CONT` wakes a broker that is paused.
const KEEPER: &str = r#"
trap '' INT HUP
log="$1"; remove="$2"; shift 2
"$@" >>"$log" 2>&1 </dev/null &
pid=$!
echo "$pid"
cat >/dev/null
kill -CONT "$pid" 2>/dev/null; kill -TERM "$pid" 2>/dev/null
( sleep 5; kill -KILL "$pid" ) >/dev/null 2>&1 &
killer=$!
wait "$pid"
kill "$killer" 2>/dev/null
[ -z "$remove" ] || rm -rf "$remove"
"#;

/// A running broker; it ends when this is dropped.
pub struct KafkaBroker {
    folder: PathBuf,
    libs: PathBuf,
    port: u16,
    /// Removed when the broker has ended.
    temporary: bool,
    running: Option<Running>,
}

struct Running {
    keeper: Child,
    pid: u32,
}

impl KafkaBroker {
    /// Starts a broker with its data, settings and log in `folder`.
    pub fn start(folder: &Path) -> Result<KafkaBroker> {
        Self::start_in(folder.to_owned(), false)
    }

    /// The broker that all tests of one binary share. Use topics and groups of your own, and do not stop it.
    pub fn shared() -> &'static KafkaBroker {
        static SHARED: OnceLock<KafkaBroker> = OnceLock::new();
        SHARED.get_or_init(|| {
            // A static is never dropped: the shell removes the folder when this process has ended.
            let folder = tempfile::Builder::new().prefix("trackway-kafka-").tempdir().expect("temporary folder").keep();
            Self::start_in(folder, true).unwrap_or_else(|error| panic!("{error:?}"))
        })
    }

    /// `host:port` for clients.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A log over this broker, for a test's own records.
    pub async fn log(&self) -> Result<KafkaLog> {
        log(self.brokers()).await
    }

    /// Id of Java's process, whose CPU time benches read; `None` after [`Self::kill9`].
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// Kills the broker as `kill -9` does.
    pub fn kill9(&mut self) -> Result<()> {
        let running = self.running.take().context("the broker is not running")?;
        signal(running.pid, "KILL")?;
        running.end(false)
    }

    /// Stops the broker in order, as for maintenance.
    pub fn stop(&mut self) -> Result<()> {
        self.running.take().context("the broker is not running")?.end(true)
    }

    /// Starts the broker again, on the same port and data, after [`Self::kill9`] or [`Self::stop`]; a running one is stopped before.
    pub fn restart(&mut self) -> Result<()> {
        if let Some(running) = self.running.take() {
            running.end(false)?;
        }
        self.launch()
    }

    /// Stops the broker's clock: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        signal(self.running.as_ref().context("the broker is not running")?.pid, "STOP")
    }

    /// Lets a paused broker go on.
    pub fn resume(&self) -> Result<()> {
        signal(self.running.as_ref().context("the broker is not running")?.pid, "CONT")
    }

    fn start_in(folder: PathBuf, temporary: bool) -> Result<KafkaBroker> {
        let libs = workspace().join(".trackway/kafka/libs");
        let jars = fs::read_dir(&libs).map(Iterator::count).unwrap_or(0);
        ensure!(jars > 0, "no Kafka jars in {}. Run `cargo xtask setup`", libs.display());
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for attempt in 1.. {
            let mut broker =
                KafkaBroker { folder: folder.clone(), libs: libs.clone(), port: 0, temporary, running: None };
            match broker.configure().and_then(|()| broker.launch()) {
                Ok(()) => return Ok(broker),
                Err(error) if attempt < PORT_TRIES && broker.log_tail().contains("Address already in use") => {
                    eprintln!("port taken meanwhile, trying others: {error}");
                    fs::remove_dir_all(folder.join("data"))?;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends by returning")
    }

    fn configure(&mut self) -> Result<()> {
        // Both held until both are known, so that they differ. Kafka cannot take port 0: the quorum names its port.
        let (broker, controller) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        self.port = broker.local_addr()?.port();
        let (port, quorum, data) = (self.port, controller.local_addr()?.port(), self.folder.join("data"));
        let properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{quorum}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{quorum}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs={data}\n\
             auto.create.topics.enable=false\n\
             group.initial.rebalance.delay.ms=0\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\n\
             # Else a broker killed with -9 needs 11 s to come back: its old registration must time out.\n\
             broker.session.timeout.ms=1000\n\
             broker.heartbeat.interval.ms=200\n\
             # Retention is seen at once, not after five minutes.\n\
             log.initial.task.delay.ms=200\n\
             log.retention.check.interval.ms=500\n\
             log.segment.delete.delay.ms=100\n\
             group.min.session.timeout.ms=1000\n",
            data = data.display(),
        );
        fs::write(self.folder.join("server.properties"), properties)?;
        fs::write(
            self.folder.join("log4j2.properties"),
            "rootLogger.level=INFO\nrootLogger.appenderRef.out.ref=OUT\n\
             appender.out.type=Console\nappender.out.name=OUT\nappender.out.layout.type=PatternLayout\n\
             appender.out.layout.pattern=%d %p %c{1}: %m%n\n",
        )?;
        let mut format = self.java();
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]);
        let output = format.arg(self.folder.join("server.properties")).output().context("cannot run java")?;
        let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot format the broker's storage: {told}");
        Ok(())
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlog4j2.configurationFile={}", self.folder.join("log4j2.properties").display()))
            .arg("-cp")
            .arg(self.libs.join("*"));
        java
    }

    fn launch(&mut self) -> Result<()> {
        let java = self.java();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "kafka-keeper"])
            .arg(self.folder.join("broker.log"))
            .arg(if self.temporary { self.folder.as_os_str() } else { "".as_ref() })
            .arg(java.get_program())
            .args(java.get_args())
            .arg("kafka.Kafka")
            .arg(self.folder.join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run sh")?;
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().context("no output of sh")?).read_line(&mut pid)?;
        let pid = pid.trim().parse().context("sh tells no pid")?;
        self.running = Some(Running { keeper, pid });
        for _ in 0..WAIT_STEPS {
            if self.answers() {
                return Ok(());
            }
            if signal(pid, "0").is_err() {
                let tail = self.log_tail();
                drop(self.running.take());
                bail!("the Kafka broker ended while starting; its log ends:\n{tail}");
            }
            std::thread::sleep(WAIT_STEP);
        }
        bail!(
            "the Kafka broker does not answer within {:?}; its log ends:\n{}",
            WAIT_STEP * WAIT_STEPS,
            self.log_tail()
        )
    }

    /// Whether it answers an ApiVersions request (key 18, version 0, correlation 7, no client id).
    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<[u8; 8]> {
            let address = SocketAddr::from(([127, 0, 0, 1], self.port));
            let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
            let mut head = [0; 8];
            socket.read_exact(&mut head)?;
            Ok(head)
        };
        ask().is_ok_and(|head| head[4..] == [0, 0, 0, 7])
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.end(true);
        }
    }
}

impl Running {
    /// Ends the standard input of the shell, which then stops the broker with SIGTERM, and waits for both.
    fn end(mut self, ended_by_us: bool) -> Result<()> {
        drop(self.keeper.stdin.take());
        let status = self.keeper.wait()?;
        if !status.success() && ended_by_us {
            eprintln!("the broker's shell ended with {status}");
        }
        Ok(())
    }
}

/// [`KafkaBroker::log`] for who knows only the address.
pub async fn log(brokers: String) -> Result<KafkaLog> {
    let config = Config {
        brokers,
        compression: Compression::Lz4,
        linger: Duration::from_millis(2),
        delivery_timeout: Duration::from_secs(30),
        queue_bytes_max: 1 << 20,
        session_timeout: Duration::from_secs(10),
        readers_max: 4,
        properties: BTreeMap::new(),
    };
    Ok(KafkaLog::connect(config).await?)
}

/// The folder of the workspace: the first one above this crate.
fn workspace() -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    let found = above.find(|folder| folder.join("Cargo.lock").is_file());
    found.expect("a crate of the workspace").to_owned()
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "no process {pid} to send {name} to");
    Ok(())
}
