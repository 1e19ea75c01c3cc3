//! Child processes: started with a log file each, and ended however the test process ends.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail, ensure};

/// Is told `+ PID` and `- PID` on its standard input. When that ends (we closed it, died, or were killed), it kills what is
/// left and removes the folder. A ClickHouse whose parent was killed ends by itself, and may still write for a moment.
const KEEPER: &str = r#"
trap '' INT HUP TERM
folder="$1"; pids=" "
while read -r sign pid; do
  case "$sign" in
    +) pids="$pids$pid " ;;
    -) left=" "; for one in $pids; do [ "$one" = "$pid" ] || left="$left$one "; done; pids="$left" ;;
  esac
done
for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
i=0
while [ $i -lt 100 ]; do rm -rf "$folder" 2>/dev/null && break; i=$((i+1)); sleep 0.1; done
"#;

/// Lines of a log that a failure shows.
const TAIL_LINES: usize = 30;

/// A process of an installation, running or not.
pub(super) struct Process {
    pub name: String,
    /// Subcommand of the program.
    pub role: &'static str,
    pub environment: Vec<(String, String)>,
    /// Port of its metrics.
    pub metrics: u16,
    pub child: Option<Child>,
}

/// All processes of an installation.
pub(super) struct Processes {
    folder: PathBuf,
    keeper: Child,
    all: Vec<Process>,
}

impl Processes {
    pub fn new(folder: &Path) -> Result<Self> {
        // Early, with a remedy.
        program()?;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "trackway-tests-keeper"]).arg(folder).process_group(0);
        let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self { folder: folder.to_owned(), keeper: keeper.context("cannot run sh")?, all: Vec::new() })
    }

    pub fn define(&mut self, process: Process) {
        self.all.push(process);
    }

    /// Later settings of one name win.
    pub fn set(&mut self, name: &str, settings: Vec<(String, String)>) -> Result<()> {
        self.of(name)?.environment.extend(settings);
        Ok(())
    }

    /// The program with the installation's settings and nothing of the caller's own.
    pub fn command(&self, role: &str, environment: &[(String, String)]) -> Result<Command> {
        let mut command = Command::new(program()?);
        command.arg(role).arg("--config").arg(self.folder.join("trackway.toml")).current_dir(workspace());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRACKWAY_")) {
            command.env_remove(name);
        }
        command.envs(environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        Ok(command)
    }

    pub fn start(&mut self, name: &str) -> Result<()> {
        let process = self.of(name)?;
        ensure!(process.child.is_none(), "{name} runs already");
        let (role, environment) = (process.role, process.environment.clone());
        let mut command = self.command(role, &environment)?;
        let log = self.log(name)?;
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.tell("+", &child)?;
        self.of(name)?.child = Some(child);
        Ok(())
    }

    /// Starts the program for something that is no role: its standard output is kept for the caller.
    pub fn spawn(&mut self, name: &str, args: &[String]) -> Result<Child> {
        let log = self.log(name)?;
        let mut command = Command::new(program()?);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.tell("+", &child)?;
        Ok(child)
    }

    pub fn kill9(&mut self, name: &str) -> Result<()> {
        let mut child = self.take(name)?;
        child.kill().with_context(|| format!("cannot kill {name}"))?;
        child.wait()?;
        self.forget(&child);
        Ok(())
    }

    pub fn kill9_children(&mut self, name: &str) -> Result<()> {
        self.signal_children(name, "KILL")
    }

    pub fn signal_children(&mut self, name: &str, signal: &str) -> Result<()> {
        let pid = self.pid(name)?;
        let mut children = String::new();
        // Of every thread: the one that started a child is the one that lists it.
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            children += &fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        }
        ensure!(!children.trim().is_empty(), "{name} has no children");
        for child in children.split_whitespace() {
            self::signal(signal, child)?;
        }
        Ok(())
    }

    pub fn signal(&mut self, name: &str, signal: &str) -> Result<()> {
        self::signal(signal, &self.pid(name)?.to_string())
    }

    pub fn pid(&mut self, name: &str) -> Result<u32> {
        Ok(self.of(name)?.child.as_ref().with_context(|| format!("{name} does not run"))?.id())
    }

    /// Role and settings of a process.
    pub fn like(&mut self, name: &str) -> Result<(&'static str, Vec<(String, String)>)> {
        let process = self.of(name)?;
        Ok((process.role, process.environment.clone()))
    }

    /// Sends SIGTERM; the caller waits.
    pub fn terminate(&mut self, name: &str) -> Result<Child> {
        let child = self.take(name)?;
        signal("TERM", &child.id().to_string())?;
        Ok(child)
    }

    /// A child has ended and was waited for: its number may soon be another's.
    pub fn forget(&mut self, child: &Child) {
        // Only fails when the keeper is gone, and then there is nobody to tell.
        let _ = self.tell("-", child);
    }

    pub fn check(&mut self) -> Result<()> {
        for n in 0..self.all.len() {
            let Some(child) = &mut self.all[n].child else { continue };
            if let Some(status) = child.try_wait()? {
                let child = self.all[n].child.take().context("it was there")?;
                self.forget(&child);
                bail!("{} ended by itself with {status}\n{}", self.all[n].name, self.logs());
            }
        }
        Ok(())
    }

    pub fn metrics_port(&self, name: &str) -> Result<u16> {
        let found = self.all.iter().find(|process| process.name == name);
        Ok(found.with_context(|| format!("there is no process {name}"))?.metrics)
    }

    /// Of all that run.
    pub fn metrics_ports(&self) -> Vec<(String, u16)> {
        let running = self.all.iter().filter(|process| process.child.is_some());
        running.map(|process| (process.name.clone(), process.metrics)).collect()
    }

    pub fn logs(&self) -> String {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.folder)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
        files.sort();
        files.iter().fold(String::new(), |mut text, file| {
            let log = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            let _ = writeln!(text, "--- {} ends:\n{tail}", file.file_name().unwrap_or_default().to_string_lossy());
            text
        })
    }

    fn of(&mut self, name: &str) -> Result<&mut Process> {
        self.all.iter_mut().find(|process| process.name == name).with_context(|| format!("there is no process {name}"))
    }

    fn take(&mut self, name: &str) -> Result<Child> {
        let taken = self.of(name)?.child.take();
        taken.with_context(|| format!("{name} does not run"))
    }

    fn log(&self, name: &str) -> Result<fs::File> {
        Ok(fs::File::options().create(true).append(true).open(self.folder.join(format!("{name}.log")))?)
    }

    fn tell(&mut self, sign: &str, child: &Child) -> Result<()> {
        let keeper = self.keeper.stdin.as_mut().context("the keeper has no input")?;
        writeln!(keeper, "{sign} {}", child.id()).context("the keeper has gone")
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for child in self.all.iter_mut().filter_map(|process| process.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The program, as cargo built it beside this test; or another build of it, which `TESTS_PROGRAM` names.
fn program() -> Result<PathBuf> {
    if let Some(other) = std::env::var_os("TESTS_PROGRAM") {
        return Ok(other.into());
    }
    let test = std::env::current_exe().context("cannot find this test's own file")?;
    // `target/debug/deps/TEST` or `target/debug/BINARY` -> `target/debug/trackway`
    let folder = test.parent().context("a test lies in a folder of cargo's")?;
    let folder = if folder.ends_with("deps") { folder.parent().context("deps lies in a folder")? } else { folder };
    let program = folder.join("trackway");
    ensure!(program.is_file(), "there is no {}. Run `cargo build -p trackway`", program.display());
    Ok(program)
}

/// The folder of the workspace: ClickHouse's library is found from there.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// Ports that are free at this moment, all different, and below those that the system gives to outgoing connections: such
/// a connection could sit on the port of a process that is just being started again.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    // Tests of several binaries run at one time: each begins elsewhere.
    let begin = (std::process::id().wrapping_mul(997) % u32::from(COUNT)) as u16;
    let mut ports = [0; N];
    for port in &mut ports {
        *port = (0..COUNT)
            .map(|_| FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
            .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
            .context("no port is free")?;
    }
    Ok(ports)
}

fn signal(name: &str, pid: &str) -> Result<()> {
    // By the program `kill`: the standard library can only kill its own children, and only hard.
    let status = Command::new("kill").args(["-s", name, pid]).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "no process {pid} to send {name} to");
    Ok(())
}
