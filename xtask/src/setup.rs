//! `setup`: fetches what cargo cannot. Everything goes below `.trackway/`; the only thing installed on the machine is the
//! live tests' browser, see [`live`].
//!
//! A file counts as there only once its stamp is, which is written last; so a download that broke off is begun again and
//! never taken for whole.

pub mod live;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::progress::{detail, run_quietly, step};
use crate::root;

/// ClickHouse as a library, by platform: npm package, SHA-256 of the library in it. Others exist and are untested; whoever
/// needs one can set `clickhouse.url` to a server instead.
const LIBRARIES: &[(&str, &str, &str)] = &[(
    "linux-x86_64",
    "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
    "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
)];

/// Kafka's broker. 4.4.0 is incomplete on Maven Central. Without log4j-slf4j-impl the broker logs nothing.
const KAFKA_VERSION: &str = "4.3.1";
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>trackway</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.3.1</version></dependency>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version></dependency>
</dependencies></project>
"#;

/// Fetches what is missing.
pub fn run(with_kafka: bool) -> Result<()> {
    clickhouse()?;
    if with_kafka {
        kafka()?;
    }
    Ok(())
}

/// ClickHouse's library into `.trackway/lib/libchdb.so`.
pub fn clickhouse() -> Result<()> {
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let Some((_, package, sha256)) = LIBRARIES.iter().find(|(name, ..)| *name == platform) else {
        bail!("no tested ClickHouse library for {platform}. Run a ClickHouse server and set TRACKWAY_CLICKHOUSE__URL");
    };
    let folder = root().join(".trackway/lib");
    let (library, stamp) = (folder.join("libchdb.so"), folder.join("libchdb.so.sha256"));
    if library.is_file() && fs::read_to_string(&stamp).is_ok_and(|text| text == *sha256) {
        return Ok(());
    }
    if library.is_file() && sha256_of(&library)? == *sha256 {
        return fs::write(&stamp, sha256).context("cannot write the stamp");
    }
    step(&format!("fetching ClickHouse ({package}, 178 MB, once) into {}", folder.display()));
    let part = fresh_folder(&folder.join("part"))?;
    run_quietly(
        "downloading",
        Command::new("npm").args(["pack", "--silent", package]).current_dir(&part),
        "Install Node.js with npm (Debian: apt-get install npm), or run a ClickHouse server and set TRACKWAY_CLICKHOUSE__URL",
    )?;
    let archive = fs::read_dir(&part)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "tgz"));
    let archive = archive.context("npm downloaded nothing")?;
    run_quietly(
        "unpacking",
        Command::new("tar").arg("xzf").arg(&archive).arg("package/libchdb.so").current_dir(&part),
        "Install tar and gzip",
    )?;
    let unpacked = part.join("package/libchdb.so");
    let have = sha256_of(&unpacked)?;
    ensure!(
        have == *sha256,
        "{package} holds a library with SHA-256 {have}, expected is {sha256}. Do not use it; ask for help"
    );
    // A process that has the old one loaded keeps it.
    fs::rename(&unpacked, &library).context("cannot put the library into its place")?;
    fs::write(&stamp, sha256).context("cannot write the stamp")?;
    fs::remove_dir_all(&part).context("cannot remove the download")?;
    detail("checked by SHA-256 and unpacked, 566 MB");
    Ok(())
}

/// Kafka's jars into `.trackway/kafka/libs`.
pub fn kafka() -> Result<()> {
    let folder = root().join(".trackway/kafka");
    let (libs, stamp) = (folder.join("libs"), folder.join("libs.version"));
    run_quietly(
        "looking for Java",
        Command::new("java").arg("-version"),
        "Install Java 17 or later (Debian: apt-get install default-jre-headless)",
    )?;
    if libs.is_dir() && fs::read_to_string(&stamp).is_ok_and(|text| text == KAFKA_VERSION) {
        return Ok(());
    }
    step(&format!("fetching Apache Kafka {KAFKA_VERSION} (45 jars, 43 MB, once) into {}", folder.display()));
    let part = fresh_folder(&folder.join("part"))?;
    fs::write(part.join("pom.xml"), POM)?;
    run_quietly(
        "downloading",
        Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"])
            .current_dir(&part),
        "Install Maven (Debian: apt-get install maven)",
    )?;
    let jar = part.join(format!("libs/kafka_2.13-{KAFKA_VERSION}.jar"));
    ensure!(jar.is_file(), "mvn ended well but brought no {}", jar.display());
    let _ = fs::remove_file(&stamp);
    if libs.is_dir() {
        fs::rename(&libs, part.join("old")).context("cannot move the old jars away")?;
    }
    fs::rename(part.join("libs"), &libs).context("cannot put the jars into their place")?;
    fs::write(&stamp, KAFKA_VERSION).context("cannot write the stamp")?;
    fs::remove_dir_all(&part).context("cannot remove the download")
}

/// An empty folder, whatever an earlier run left there.
fn fresh_folder(folder: &Path) -> Result<std::path::PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.to_owned())
}

fn sha256_of(file: &Path) -> Result<String> {
    let output = run_quietly("checking", Command::new("sha256sum").arg(file), "Install coreutils")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\').to_owned())
}
