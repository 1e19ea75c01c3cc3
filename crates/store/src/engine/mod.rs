//! An embedded ClickHouse: a genuine server, run as a child process out of libchdb, for one machine without a cluster.
//!
//! - The child is our own program, started with a hidden subcommand that leads to [`child_main`]. It lives as long as the
//!   pipe to its standard input: when this process closes it, or dies in whatever way, the server ends cleanly.
//! - It runs in a process group of its own, so that Ctrl-C, which reaches the whole group of the terminal, does not end it
//!   before the parent has drained.
//! - A child that dies by itself is started again on the same port ([`Engine`] supervises it).
//! - The library reports its own failures only as text on stderr, so [`EngineError`] is told by the log's last lines.
//! - Not here: any query. The application speaks to it over HTTP, as to a ClickHouse in production.

mod child;
mod config;
mod launch;
mod supervise;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use child::child_main;

/// How the embedded server is run.
#[derive(Clone)]
pub struct EngineConfig {
    /// Program that becomes the server: usually this very program (`std::env::current_exe`). A path, not a name to search.
    pub exe: PathBuf,
    /// Its arguments that lead to [`child_main`]: the hidden subcommand.
    pub exe_args: Vec<OsString>,
    /// `libchdb.so`.
    pub library: PathBuf,
    /// Folder of tables, password, configuration and log (`engine.log`). Created if absent; one process at a time.
    pub data_folder: PathBuf,
    /// Port on 127.0.0.1; `None` chooses a free one, which is kept for as long as this [`Engine`] lives.
    pub http_port: Option<u16>,
    /// What the server may allocate in all. Above it single queries and inserts are refused; 600 MB is the least that is
    /// of use.
    pub memory_bytes_max: u64,
    /// Threads of one query.
    pub threads_max: u32,
    /// Password of the application's user; `None`: a random one, made once and kept in the data folder (mode 0600).
    pub password: Option<String>,
}

impl fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        let Self { exe, library, data_folder, http_port, memory_bytes_max, threads_max, .. } = self;
        let mut out = f.debug_struct("EngineConfig");
        out.field("exe", exe).field("library", library).field("data_folder", data_folder).field("http_port", http_port);
        out.field("memory_bytes_max", memory_bytes_max).field("threads_max", threads_max).finish_non_exhaustive()
    }
}

/// Why the embedded server does not run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no library at this path.
    #[error("no library of ClickHouse at `{}`. Fetch it by `cargo xtask setup`, or set the path to `libchdb.so`", path.display())]
    LibraryMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is a file, but the system's loader refuses it.
    #[error("`{}` cannot be loaded as ClickHouse: {log}. Fetch it again by `cargo xtask setup`", path.display())]
    LibraryUnusable {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        log: String,
    },
    /// The program that should become the server cannot be started.
    #[error("cannot start `{}` as the embedded ClickHouse", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder of ours cannot be written or read.
    #[error("cannot use `{}` for the embedded ClickHouse", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Another process runs on the same folder.
    #[error("data folder `{}` is in use by another process. End it, or choose another folder", path.display())]
    FolderLocked {
        /// The data folder.
        path: PathBuf,
    },
    /// Somebody else listens on the port.
    #[error("port {port} is taken by another process. End it, or choose another port for the embedded ClickHouse")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// It ended before it answered.
    #[error("the embedded ClickHouse ended at start ({status}); the last lines of `{}`:\n{last_lines}", log.display())]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        last_lines: String,
    },
    /// It runs, but does not answer.
    #[error("the embedded ClickHouse did not answer within {waited:?}; the last lines of `{}`:\n{last_lines}", log.display())]
    Silent {
        /// How long was waited.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        last_lines: String,
    },
}

/// A running server. Dropping it ends the server too, but nobody waits for that: prefer [`Engine::stop`].
pub struct Engine {
    url: String,
    password: String,
    data_folder: PathBuf,
    process: Arc<AtomicU32>,
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<()>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        f.debug_struct("Engine").field("url", &self.url).field("data_folder", &self.data_folder).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the server and waits until it answers (at most 30 s; usually 0.3 s). A server of the same folder whose parent
    /// was killed just now is waited for a little.
    ///
    /// # Errors
    /// [`EngineError`], one variant for each way in which it is known to fail. None is worth a retry without a change.
    pub async fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let plan = launch::prepare(config)?;
        let (running, port) = launch::launch_after_predecessor(&plan).await?;
        let process = Arc::new(AtomicU32::new(running.process_id()));
        let (url, password) = (launch::url(port), plan.password.clone());
        let data_folder = plan.data_folder.clone();
        let (stop, stopped) = oneshot::channel();
        tracing::info!(url, folder = %data_folder.display(), "embedded ClickHouse started");
        let supervisor = supervise::spawn(supervise::run(plan, running, port, process.clone(), stopped));
        Ok(Self { url, password, data_folder, process, stop, supervisor })
    }

    /// Address of its HTTP interface. The same for as long as this value lives, whatever happens to the process.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The application's user: all rights.
    #[must_use]
    pub fn user(&self) -> &'static str {
        config::USER
    }

    /// The user's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Its folder.
    #[must_use]
    pub fn data_folder(&self) -> &Path {
        &self.data_folder
    }

    /// Id of the server's process, which changes when it is started again; 0 while there is none.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.load(Ordering::Relaxed)
    }

    /// Ends the server: by closing its standard input, and by force if it has not ended within 10 s.
    pub async fn stop(self) {
        let Self { stop, supervisor, .. } = self;
        // An error would mean that the supervisor is gone, which the next line reports.
        let _ = stop.send(());
        if let Err(error) = supervisor.await {
            tracing::error!(%error, "the supervisor of the embedded ClickHouse panicked");
        }
    }
}
