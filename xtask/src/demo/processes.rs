//! Processes of a demo: started with a log file each, watched, and stopped however the demo ends.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Gets the numbers of processes on its standard input and ends what is left of them when that ends: whether we closed
/// it, died, or were killed. The last started ends first; who does not end in time is killed. Then the folder goes.
const JANITOR: &str = r#"
trap '' INT HUP TERM
folder="$1"; pids=""
while read -r pid; do pids="$pid $pids"; done
for pid in $pids; do
  kill -TERM "$pid" 2>/dev/null || continue
  i=0
  while kill -0 "$pid" 2>/dev/null && [ $i -lt 120 ]; do
    case "$(ps -o stat= -p "$pid" 2>/dev/null)" in Z*) break ;; esac
    i=$((i+1)); sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null
done
rm -rf "$folder"
"#;

/// A process may drain for 10 s; a little more and it hangs.
const STOP_TENTHS_MAX: u32 = 120;

/// Processes and the folder that holds their data and logs.
pub struct Processes {
    folder: PathBuf,
    janitor: Child,
    running: Vec<(String, Child)>,
}

impl Processes {
    /// Makes the folder.
    pub fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("trackway-demo-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut janitor = Command::new("sh");
        janitor.args(["-c", JANITOR, "trackway-demo-janitor"]).arg(&folder);
        // A group of its own: Ctrl-C ends us, and the janitor cleans up behind us.
        let janitor =
            janitor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn();
        Ok(Self { folder, janitor: janitor.context("cannot run sh")?, running: Vec::new() })
    }

    /// Where all of it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a process.
    pub fn start(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let log =
            fs::File::options().create(true).append(true).open(self.log(name)).context("cannot open a log file")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C at the terminal would reach it as well as the janitor's signal, and two mean "at once".
        let child = command.process_group(0).spawn();
        let child =
            child.with_context(|| format!("cannot start {name} ({})", command.get_program().to_string_lossy()))?;
        let janitor = self.janitor.stdin.as_mut().context("the janitor has no input")?;
        writeln!(janitor, "{}", child.id()).context("the janitor has gone")?;
        self.running.push((name.to_owned(), child));
        Ok(())
    }

    /// Kills a process as `kill -9` does.
    pub fn kill9(&mut self, name: &str) -> Result<()> {
        let at = self.running.iter().position(|(n, _)| n == name).with_context(|| format!("{name} does not run"))?;
        let (_, mut child) = self.running.remove(at);
        child.kill().with_context(|| format!("cannot kill {name}"))?;
        child.wait().with_context(|| format!("cannot wait for {name}"))?;
        Ok(())
    }

    /// Fails when a process has ended that should run.
    pub fn check(&mut self) -> Result<()> {
        for n in 0..self.running.len() {
            let (_, child) = &mut self.running[n];
            if let Some(status) = child.try_wait()? {
                let (name, _) = self.running.remove(n);
                bail!("{name} ended with {status}; its log ends:\n{}", self.log_tail(&name));
            }
        }
        Ok(())
    }

    /// Waits until a condition holds.
    ///
    /// - `what`: as words that follow "waiting for".
    pub fn wait_until(&mut self, what: &str, seconds_max: u32, mut holds: impl FnMut() -> bool) -> Result<()> {
        for _ in 0..seconds_max * 10 {
            if holds() {
                return Ok(());
            }
            self.check()?;
            sleep(Duration::from_millis(100));
        }
        let tails: Vec<_> = self.running.iter().map(|(name, _)| format!("{name}:\n{}", self.log_tail(name))).collect();
        bail!("waiting for {what} took longer than {seconds_max} s. Logs end:\n{}", tails.join("\n"))
    }

    /// Stops all, the last started first, and removes the folder.
    pub fn stop(mut self) -> Result<()> {
        let mut problem = None;
        while let Some((name, child)) = self.running.pop() {
            if let Err(e) = stop(&name, child) {
                problem.get_or_insert_with(|| format!("{e:#}; its log ends:\n{}", self.log_tail(&name)));
            }
        }
        drop(self.janitor.stdin.take());
        self.janitor.wait().context("cannot wait for the janitor")?;
        problem.map_or(Ok(()), |problem| bail!(problem))
    }

    /// The last lines of a process's log.
    pub fn log_tail(&self, name: &str) -> String {
        let text = fs::read(self.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }
}

fn stop(name: &str, mut child: Child) -> Result<()> {
    // By the program `kill`: the standard library can only kill hard.
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().context("cannot run kill")?;
    for _ in 0..STOP_TENTHS_MAX {
        if let Some(status) = child.try_wait()? {
            // 143 is a JVM that ended because of our signal.
            if status.success() || status.code() == Some(143) {
                return Ok(());
            }
            bail!("{name} did not stop cleanly: {status}");
        }
        sleep(Duration::from_millis(100));
    }
    child.kill()?;
    child.wait()?;
    bail!("{name} did not stop within {} s and was killed", STOP_TENTHS_MAX / 10)
}

/// Ports that are free at this moment, all different.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
