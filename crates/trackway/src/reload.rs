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
