//! What a fuzzer begins with, written anew at each start: captured requests as seeds, and words as its dictionary.

use std::fs;
use std::path::PathBuf;

use crate::law::known;

/// Where `cargo xtask fuzz` looks.
fn folder() -> PathBuf {
    known::crate_folder().join("../../.trackway/fuzz")
}

/// Captured requests as seeds.
///
/// - `before`: what stands before a request in this target's inputs.
pub fn write_requests(target: &str, before: &[u8]) {
    write(target, known::captured().into_iter().map(|request| [before, &request].concat()));
}

/// The bodies of captured requests as seeds.
pub fn write_bodies(target: &str) {
    let body = |request: Vec<u8>| {
        let head = request.windows(2).position(|two| two == b"\n\n").expect("a head");
        request[head + 2..].to_vec()
    };
    write(target, known::captured().into_iter().map(body));
}

fn write(target: &str, seeds: impl Iterator<Item = Vec<u8>>) {
    let folder = folder().join("seeds").join(target);
    fs::create_dir_all(&folder).expect("the folder of the seeds");
    for (number, seed) in seeds.enumerate() {
        fs::write(folder.join(format!("{number:04}")), seed).expect("a seed");
    }
    let words = known::words().into_iter().map(|word| format!("\"{word}\"\n")).collect::<String>();
    fs::write(self::folder().join("words"), words).expect("the dictionary");
}
