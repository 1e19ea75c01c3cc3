//! Takes over the projects of the settings' file when it changes: keys, quotas, privacy. A file that is wrong changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use trackway_gateway::Projects;

use crate::config::settings::Project;
use crate::{config, parts};

/// How often the file is looked at. A look costs some microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows `file` until told to stop.
///
/// - `current`: the projects in force.
///
/// # Errors
/// None: what is wrong with the file is told in the log, and the projects stay as they are.
pub async fn follow(
    file: PathBuf,
    mut current: Vec<Project>,
    projects: Projects,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut seen = stamp(&file);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = stamp(&file);
        if now == seen {
            continue;
        }
        seen = now;
        let name = file.display().to_string();
        let settings = match config::load(Some(&file)) {
            Ok(settings) => settings,
            Err(error) => {
                warn!(
                    file = name,
                    error = error.to_string(),
                    "file has changed and is wrong; projects stay as they are"
                );
                continue;
            }
        };
        if settings.projects == current {
            continue;
        }
        match projects.replace(&parts::gateway_projects(&settings)) {
            Ok(()) => info!(file = name, projects = settings.projects.len(), "projects are taken over"),
            Err(error) => warn!(file = name, error = error.to_string(), "projects stay as they are"),
        }
        current = settings.projects;
    }
}

/// Changes whenever the file does. Editors write a new file beside the old one and rename it, so the number counts too.
fn stamp(file: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    /// How long a change may take to be taken over, on a busy machine.
    const TAKE_OVER_MAX: Duration = Duration::from_secs(20);

    /// Status of the answer to an event with this write key.
    async fn status(gateway: std::net::SocketAddr, key: &str) -> String {
        let mut stream = TcpStream::connect(gateway).await.expect("it listens");
        let body = r#"{"event":"e","anonymousId":"a"}"#;
        let request = format!(
            "POST /v1/track?writeKey={key} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    async fn becomes(gateway: std::net::SocketAddr, key: &str, expected: &str) {
        let wait = async {
            while status(gateway, key).await != expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let became = tokio::time::timeout(TAKE_OVER_MAX, wait).await;
        assert!(became.is_ok(), "write key `{key}` is not answered with {expected}");
    }

    #[tokio::test]
    async fn a_changed_file_is_taken_over_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("trackway.toml");
        let write = |keys: &str| {
            let data = folder.path().join("data");
            let text = format!(
                "[storage]\nfolder = {data:?}\n[gateway]\nlisten = \"127.0.0.1:0\"\n\
                 [[projects]]\nid = \"a\"\nwrite_keys = [{keys}]\n"
            );
            fs::write(&file, text).expect("written");
        };
        write("\"old\"");
        let settings = config::load(Some(&file)).expect("good settings");
        let log = parts::log(&settings).await.expect("a log");
        log.create_topics(&parts::TopicNames::new(&settings).specs(&settings)).await.expect("topics");
        let gateway = parts::gateway(&settings).expect("a config");
        let gateway = trackway_gateway::bind(gateway, log.clone(), parts::clock).await.expect("it binds");
        let (address, projects, stop) = (gateway.address(), gateway.projects(), CancellationToken::new());
        let changes = async {
            assert_eq!(status(address, "old").await, "200");
            assert_eq!(status(address, "new").await, "401");
            write("\"old\", \"new\"");
            becomes(address, "new", "200").await;
            assert_eq!(status(address, "old").await, "200", "two keys live at once");
            // Wrong, then right: what is asked for after the right one was taken over tells about the wrong one.
            write("\"other\", 7");
            tokio::time::sleep(LOOK_EVERY * 2).await;
            assert_eq!((status(address, "new").await, status(address, "other").await), ("200".into(), "401".into()));
            write("\"new\"");
            becomes(address, "old", "401").await;
            stop.cancel();
        };
        let following = follow(file.clone(), settings.projects.clone(), projects, stop.clone());
        let ((), followed, ()) = tokio::join!(gateway.serve(stop.clone()), following, changes);
        followed.expect("it follows until it is told to stop");
        log.close().await;
    }
}
