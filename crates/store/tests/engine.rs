//! The embedded server: its life, its deaths, and what is said when it cannot live.

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{engine_config, eventually, kill_9};
use tempfile::TempDir;
use trackway_store::engine::{Engine, EngineError};

/// Speaks to the server before any database of ours is there.
fn client(engine: &Engine) -> clickhouse::Client {
    common::client(engine).with_database("system")
}

/// Whether the process lives. One that has ended but was not waited for (state Z) does not.
fn lives(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

#[tokio::test]
async fn it_answers_its_user_and_ends_when_told() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    let process = engine.process_id();
    let name: String = client(&engine).query("SELECT currentUser()").fetch_one().await.unwrap();
    assert_eq!(name, "trackway");
    assert!(lives(process));
    engine.stop().await;
    assert!(!lives(process));
    // The tables are still there for the next one, under the password of the first.
    let again = Engine::start(engine_config(folder.path())).await.unwrap();
    assert_eq!(client(&again).query("SELECT 1").fetch_one::<u8>().await.unwrap(), 1);
    again.stop().await;
}

#[tokio::test]
async fn nobody_gets_in_without_the_password() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    let stranger = clickhouse::Client::default().with_url(engine.url());
    let wrong = stranger.clone().with_user(engine.user()).with_password("wrong");
    wrong.query("SELECT 1").execute().await.unwrap_err();
    // The engine's own user has no password, and may not even look.
    for sql in ["CREATE DATABASE mine", "SELECT * FROM system.users", "CREATE TABLE default.t (a Int8) ENGINE = Memory"]
    {
        let refused = stranger.query(sql).execute().await.unwrap_err();
        assert!(refused.to_string().contains("Not enough privileges"), "{sql}: {refused}");
    }
    for file in ["password", "users.xml", "server.xml"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    engine.stop().await;
}

#[tokio::test]
async fn a_missing_library_says_how_to_get_it() {
    let folder = TempDir::new().unwrap();
    let mut config = engine_config(folder.path());
    config.library = folder.path().join("nowhere.so");
    let error = Engine::start(config).await.unwrap_err();
    assert!(matches!(error, EngineError::LibraryMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("nowhere.so") && error.to_string().contains("cargo xtask setup"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_library_is_told_from_one_that_is_missing() {
    let folder = TempDir::new().unwrap();
    let mut config = engine_config(folder.path());
    config.library = folder.path().join("text.so");
    std::fs::write(&config.library, "no library").unwrap();
    let error = Engine::start(config).await.unwrap_err();
    assert!(matches!(error, EngineError::LibraryUnusable { .. }), "{error:?}");
    assert!(error.to_string().contains("text.so"), "{error}");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let folder = TempDir::new().unwrap();
    let mut config = engine_config(folder.path());
    config.exe = folder.path().join("nothing");
    let error = Engine::start(config).await.unwrap_err();
    assert!(matches!(error, EngineError::Program { .. }), "{error:?}");
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[tokio::test]
async fn a_folder_in_use_and_a_taken_port_are_named() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let first = Engine::start(engine_config(folder.path())).await.unwrap();
    let error = Engine::start(engine_config(folder.path())).await.unwrap_err();
    assert!(matches!(error, EngineError::FolderLocked { .. }), "{error:?}");

    let port = first.url().rsplit(':').next().unwrap().parse().unwrap();
    let mut config = engine_config(other.path());
    config.http_port = Some(port);
    let error = Engine::start(config).await.unwrap_err();
    assert!(matches!(error, EngineError::PortTaken { port: taken } if taken == port), "{error:?}");
    // Neither has done the first any harm.
    client(&first).query("SELECT 1").execute().await.unwrap();
    first.stop().await;
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_quoted() {
    let folder = TempDir::new().unwrap();
    let mut config = engine_config(folder.path());
    config.exe = "/bin/sh".into();
    config.exe_args = ["-c", "echo these are my last words; exit 3"].map(Into::into).to_vec();
    let error = Engine::start(config).await.unwrap_err();
    assert!(matches!(error, EngineError::Died { status, .. } if status.code() == Some(3)), "{error:?}");
    assert!(error.to_string().contains("these are my last words"), "{error}");
}

#[tokio::test]
async fn it_comes_back_on_the_same_port_after_a_kill() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    let client = client(&engine);
    client.query("CREATE DATABASE kept").execute().await.unwrap();
    for _ in 0..2 {
        let process = engine.process_id();
        kill_9(process);
        eventually("another process", async || ![0, process].contains(&engine.process_id())).await;
        let kept: u64 =
            client.query("SELECT count() FROM system.databases WHERE name = 'kept'").fetch_one().await.unwrap();
        assert_eq!(kept, 1);
    }
    let process = engine.process_id();
    engine.stop().await;
    assert!(!lives(process));
}

#[tokio::test]
async fn a_dropped_engine_ends_too() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    let process = engine.process_id();
    drop(engine);
    eventually("its end", async || !lives(process)).await;
}

#[tokio::test]
async fn ctrl_c_at_the_terminal_does_not_reach_it() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    let group = |process: &str| {
        let out = Command::new("ps").args(["-o", "pgid=", "-p", process]).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let process = engine.process_id().to_string();
    assert_eq!(group(&process), process, "it leads a group of its own");
    assert_ne!(group(&process), group(&std::process::id().to_string()));
    engine.stop().await;
}

/// Set for the copy of this program that the test below starts and kills.
const FOLDER_OF_PARENT: &str = "TRACKWAY_TEST_FOLDER_OF_PARENT";

/// Not a test by itself: what the copy runs.
#[tokio::test]
async fn parent_that_waits_to_be_killed() {
    #[expect(clippy::disallowed_methods, reason = "how a test tells its copy what to do")]
    let Ok(folder) = std::env::var(FOLDER_OF_PARENT) else { return };
    let engine = Engine::start(engine_config(folder.as_ref())).await.unwrap();
    println!("\nengine {}", engine.process_id());
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn it_ends_when_its_parent_is_killed() {
    let folder = TempDir::new().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "parent_that_waits_to_be_killed", "--nocapture"])
        .env(FOLDER_OF_PARENT, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let engine = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("engine ")?.parse().ok()).unwrap();
    assert!(lives(engine));
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("its end", async || !lives(engine)).await;
    // It let go of the folder.
    Engine::start(engine_config(folder.path())).await.unwrap().stop().await;
}
