//! What the live tests run trackers in: Chromium, trackers' packages from npm, and from PyPI.
//!
//! Chromium is the one thing that is installed on the machine, by the system's own packages, and only as root: no package
//! of npm's brings a browser that a closed network lets through, nor one that Debian keeps up to date.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::fresh_folder;
use crate::progress::{detail, run_quietly, step};
use crate::root;

const CHROMIUM: &str = "/usr/bin/chromium";
const REMEDY_NPM: &str = "Install Node.js 20 or later with npm (Debian: apt-get install nodejs npm)";
const REMEDY_PYTHON: &str = "Install Python 3.10 or later (Debian: apt-get install python3 python3-venv)";

/// All of it.
pub fn all() -> Result<()> {
    chromium()?;
    npm()?;
    python()
}

fn chromium() -> Result<()> {
    if Path::new(CHROMIUM).is_file() {
        return Ok(());
    }
    const REMEDY: &str = "Install Chromium as root (Debian: apt-get install chromium)";
    let user = run_quietly("looking who we are", Command::new("id").arg("-u"), "Install coreutils")?;
    if String::from_utf8_lossy(&user.stdout).trim() != "0" {
        bail!("{CHROMIUM} is missing, and only root can install it. {REMEDY}");
    }
    step("installing Chromium (Debian's package, some 100 MB, once)");
    let apt = |what: &str, args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(args);
        run_quietly(what, &mut command, REMEDY)
    };
    // A fresh machine has no list of packages, or an old one.
    apt("reading lists of packages", &["update"])?;
    apt("installing", &["install", "--no-install-recommends", "chromium"])?;
    if Path::new(CHROMIUM).is_file() { Ok(()) } else { bail!("the package brought no {CHROMIUM}. {REMEDY}") }
}

/// Trackers' packages, the browser's driver and terser, into `.trackway/live/node_modules`.
pub fn npm() -> Result<()> {
    let (given, folder) = (root().join("tests/live"), root().join(".trackway/live"));
    let lock = fs::read_to_string(given.join("package-lock.json")).context("cannot read the list of npm packages")?;
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == lock) {
        return Ok(());
    }
    step(&format!("fetching trackers from npm (90 packages, 150 MB, once) into {}", folder.display()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let _ = fs::remove_file(&stamp);
    for file in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(given.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    run_quietly("downloading", Command::new("npm").args(["ci", "--silent"]).current_dir(&folder), REMEDY_NPM)?;
    fs::write(&stamp, lock).context("cannot write the stamp")
}

/// Trackers' packages from PyPI, in an environment of their own in `.trackway/python`.
fn python() -> Result<()> {
    let (given, folder) = (root().join("tests/live/requirements.txt"), root().join(".trackway/python"));
    let wanted = fs::read_to_string(&given).context("cannot read the list of Python packages")?;
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    step(&format!("fetching trackers from PyPI (24 packages, 60 MB, once) into {}", folder.display()));
    fresh_folder(&folder)?;
    run_quietly("making an environment", Command::new("python3").args(["-m", "venv"]).arg(&folder), REMEDY_PYTHON)?;
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--no-deps", "--disable-pip-version-check", "--requirement"]).arg(&given);
    run_quietly("downloading", &mut pip, REMEDY_PYTHON)?;
    fs::write(&stamp, wanted).context("cannot write the stamp")
}

/// Makes the tracker that the gateway serves, `trackers/web/t.min.js`, out of its source.
pub fn tracker() -> Result<()> {
    npm()?;
    step("making trackers/web/t.min.js out of t.js");
    let script: PathBuf = root().join("tests/live/minify.mjs");
    let output = run_quietly("terser", Command::new("node").arg(script), REMEDY_NPM)?;
    detail(String::from_utf8_lossy(&output.stdout).trim());
    Ok(())
}
