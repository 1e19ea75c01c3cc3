//! Compiles the messages of `proto/trackway` that are wire's, with a compiler in Rust, so that nobody needs protoc.

const FILES: [&str; 3] =
    ["trackway/log/v1/log.proto", "trackway/log/v1/snapshot.proto", "trackway/ingest/v1/ingest.proto"];

fn main() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    println!("cargo::rerun-if-changed={root}/trackway/log");
    println!("cargo::rerun-if-changed={root}/trackway/ingest");
    let files = protox::compile(FILES, [root]).expect("proto/trackway compiles");
    prost_build::Config::new().bytes(["."]).compile_fds(files).expect("code is generated from proto/trackway");
}
