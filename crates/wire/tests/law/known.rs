//! Texts that mean something to a protocol: words of the sources, and captured requests.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The folder of `trackway-wire`.
pub fn crate_folder() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The fuzz targets are a package within.
    if own.ends_with("fuzz") { own.parent().expect("it lies in the crate's folder") } else { own }
}

/// All files below a folder with an extension.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Names and paths that stand as literals in the sources of the protocols.
pub fn words() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for file in files(&crate_folder().join("src"), "rs") {
        let text = fs::read_to_string(&file).expect("a source");
        for literal in text.split('"').skip(1).step_by(2) {
            let is_word = literal.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$.-/".contains(&byte));
            if is_word && (1..=40).contains(&literal.len()) {
                words.insert(literal.to_owned());
            }
        }
    }
    words
}

/// The captured requests, in the form of [`super::Given`].
pub fn captured() -> BTreeSet<Vec<u8>> {
    let mut requests = BTreeSet::new();
    for file in files(&crate_folder().join("tests/captures"), "jsonl") {
        for line in fs::read_to_string(&file).expect("a capture").lines() {
            let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let request = &entry["request"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let mut bytes = format!("{} {}\n", text(&request["method"]), text(&request["target"])).into_bytes();
            for (name, value) in request["headers"].as_object().into_iter().flatten() {
                bytes.extend(format!("{}: {}\n", name.to_lowercase(), text(value)).into_bytes());
            }
            bytes.push(b'\n');
            bytes.extend(decompressed(STANDARD.decode(text(&request["body_b64"])).expect("base64")));
            requests.insert(bytes);
        }
    }
    requests
}

fn decompressed(sent: Vec<u8>) -> Vec<u8> {
    if !sent.starts_with(&[0x1f, 0x8b]) {
        return sent;
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut plain).expect("gzip");
    plain
}
