//! Starts the child once, and finds out why if it does not come up.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use super::{EngineConfig, EngineError, config};

/// A cold start reads 566 MB from disk and loads all parts; 0.1-0.7 s were measured with both in memory.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a folder may still be in use. A server whose parent was killed ends by itself (65 ms were measured; a merge holds it
/// longer), but a process manager starts the next parent at once.
const PREDECESSOR_TIME_MAX: Duration = Duration::from_secs(5);

/// Between two tries while the folder is in use. Each try costs a process.
const PREDECESSOR_POLL: Duration = Duration::from_millis(200);

/// Between two looks at a child that is coming up.
const START_POLL: Duration = Duration::from_millis(20);

/// How much of the log an error quotes.
const LAST_LINES_BYTES: u64 = 2_000;

/// Where the child writes its port, relative to the data folder (its working directory).
const PORT_FILE: &str = "http_port";

/// Listen, say on which port, then block on standard input until it ends. `file('-')` and not `/dev/stdin`: re-opening the
/// pipe by its name can hang for ever.
const STATEMENTS: &str = "SYSTEM START LISTEN HTTP; \
    SELECT getServerPort('http_port') INTO OUTFILE 'http_port' TRUNCATE FORMAT TSV; \
    SELECT * FROM file('-', LineAsString, 'l String') FORMAT Null SETTINGS max_execution_time=0";

/// What every start of the child needs, with all files written.
pub(super) struct Plan {
    program: PathBuf,
    program_args: Vec<OsString>,
    library: PathBuf,
    pub(super) data_folder: PathBuf,
    pub(super) http_port: Option<u16>,
    pub(super) password: String,
}

impl Plan {
    fn log(&self) -> PathBuf {
        self.data_folder.join("engine.log")
    }
}

/// A child that answers.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    /// Held apart from `child`, whose `wait` would close it and so end the server that it waits for.
    pub(super) stdin: Option<ChildStdin>,
}

impl Running {
    /// Id of the process.
    pub(super) fn process_id(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }
}

/// Address of a server on this machine.
pub(super) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Checks paths and writes the configuration.
pub(super) fn prepare(config: EngineConfig) -> Result<Plan, EngineError> {
    let EngineConfig { exe, exe_args, library, data_folder, http_port, memory_bytes_max, threads_max, password } =
        config;
    let library = library.canonicalize().map_err(|_| EngineError::LibraryMissing { path: library })?;
    // The child works in the data folder, where a relative path would mean something else.
    let program = exe.canonicalize().map_err(|source| EngineError::Program { path: exe, source })?;
    fs::create_dir_all(&data_folder).map_err(in_folder(&data_folder))?;
    let data_folder = data_folder.canonicalize().map_err(in_folder(&data_folder))?;

    let password = match password {
        Some(password) => password,
        None => {
            let path = data_folder.join("password");
            config::password_in(&path).map_err(in_folder(&path))?
        }
    };
    let users = data_folder.join("users.xml");
    config::write_private(&users, &config::users_xml(&password, memory_bytes_max, threads_max))
        .map_err(in_folder(&users))?;
    let server = data_folder.join("server.xml");
    config::write_private(&server, &config::server_xml(&users, memory_bytes_max)).map_err(in_folder(&server))?;
    Ok(Plan { program, program_args: exe_args, library, data_folder, http_port, password })
}

/// [`launch`], which is tried again while a server that has lost its parent is still on its way out of the folder.
pub(super) async fn launch_after_predecessor(plan: &Plan) -> Result<(Running, u16), EngineError> {
    let deadline = Instant::now() + PREDECESSOR_TIME_MAX;
    loop {
        match launch(plan, plan.http_port).await {
            Err(EngineError::FolderLocked { path }) if Instant::now() < deadline => {
                tracing::info!(folder = %path.display(), "folder of the embedded ClickHouse is in use, waiting for its end");
                sleep(PREDECESSOR_POLL).await;
            }
            launched => return launched,
        }
    }
}

/// Starts the child and waits until it answers our user.
///
/// - `port`: `None` takes a free one, which is returned.
pub(super) async fn launch(plan: &Plan, port: Option<u16>) -> Result<(Running, u16), EngineError> {
    let log_path = plan.log();
    // A new log for each start: the last start's text would be taken for this one's.
    let log = File::create(&log_path).map_err(in_folder(&log_path))?;
    let log_too = log.try_clone().map_err(in_folder(&log_path))?;
    let port_path = plan.data_folder.join(PORT_FILE);
    match fs::remove_file(&port_path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(in_folder(&port_path)(error)),
        _ => {}
    }

    let mut command = Command::new(&plan.program);
    command.args(&plan.program_args).arg(&plan.library);
    // Absolute: ClickHouse syncs a part's folder by a path that it puts together from a relative one twice.
    command.arg(option("--path=", &plan.data_folder.join("clickhouse")));
    command.arg(option("--config-file=", &plan.data_folder.join("server.xml")));
    command.arg("--listen_host=127.0.0.1");
    command.arg(format!("--http_port={}", port.unwrap_or(0))).arg(format!("--query={STATEMENTS}"));
    command.current_dir(&plan.data_folder).stdin(Stdio::piped()).stdout(log).stderr(log_too);
    // Away from the terminal's group: Ctrl-C must reach the parent first, which ends the child after its own drain.
    command.process_group(0);
    let mut child = command.spawn().map_err(|source| EngineError::Program { path: plan.program.clone(), source })?;

    let stdin = child.stdin.take();
    let mut running = Running { child, stdin };
    match timeout(START_TIME_MAX, answers(plan, &mut running.child, &port_path)).await {
        Ok(Ok(port)) => Ok((running, port)),
        Ok(Err(status)) => Err(cause(plan, port, status)),
        Err(_) => {
            kill(&mut running.child).await;
            let last_lines = last_lines(&log_path);
            Err(EngineError::Silent { waited: START_TIME_MAX, log: log_path, last_lines })
        }
    }
}

/// The last lines of the child's log, for errors and warnings.
pub(super) fn log_of(plan: &Plan) -> String {
    last_lines(&plan.log())
}

/// Ends a child by force, and waits for its end.
pub(super) async fn kill(child: &mut Child) {
    if let Err(error) = child.kill().await {
        // Only a process that is already waited for, or one in the kernel's hands, cannot be killed.
        tracing::warn!(%error, "cannot kill the embedded ClickHouse");
    }
}

/// The port, once a server answers there that knows our password (a stranger on the port would not); or how the child
/// ended.
async fn answers(plan: &Plan, child: &mut Child, port_path: &Path) -> Result<u16, ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(status);
        }
        // The file appears empty first; a number without its line end may be half a number.
        let port = fs::read_to_string(port_path).ok();
        if let Some(port) = port.and_then(|text| text.strip_suffix('\n').and_then(|port| port.parse().ok())) {
            let client =
                clickhouse::Client::default().with_url(url(port)).with_user(config::USER).with_password(&plan.password);
            if client.query("SELECT 1").execute().await.is_ok() {
                return Ok(port);
            }
        }
        sleep(START_POLL).await;
    }
}

/// Why a child ended at its start, by the texts of the library and of [`super::child_main`]. It may well have ended with
/// code 0.
fn cause(plan: &Plan, port: Option<u16>, status: ExitStatus) -> EngineError {
    let last_lines = log_of(plan);
    if last_lines.contains("Cannot lock file") {
        return EngineError::FolderLocked { path: plan.data_folder.clone() };
    }
    if let Some(port) = port
        && last_lines.contains("Address already in use")
    {
        return EngineError::PortTaken { port };
    }
    if last_lines.contains("cannot load `") || last_lines.contains("this is not libchdb") {
        return EngineError::LibraryUnusable { path: plan.library.clone(), log: last_lines };
    }
    EngineError::Died { status, log: plan.log(), last_lines }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

fn last_lines(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINES_BYTES)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
}

fn in_folder(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
    let path = path.to_owned();
    |source| EngineError::Folder { path, source }
}
