//! Compiles `proto/trackway/v1` with a compiler in Rust, so that nobody needs protoc.

use std::path::PathBuf;

use prost::Message;

fn main() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    println!("cargo::rerun-if-changed={root}/trackway/v1");
    let files = protox::compile(
        ["query", "audience", "intake", "identity"].map(|name| format!("trackway/v1/{name}.proto")),
        [root],
    )
    .expect("proto/trackway/v1 compiles");
    // Reflection serves this file, so that grpcurl and others need no .proto files.
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(PathBuf::from(out).join("trackway.v1.bin"), files.encode_to_vec())
        .expect("the descriptor is written to OUT_DIR");
    tonic_prost_build::configure().compile_fds(files).expect("code is generated from proto/trackway/v1");
}
