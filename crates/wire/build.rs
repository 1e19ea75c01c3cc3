//! Compiles `proto/trackway/log` with a compiler in Rust, so that nobody needs protoc.

fn main() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    println!("cargo::rerun-if-changed={root}/trackway/log");
    let files = protox::compile(["trackway/log/v1/log.proto", "trackway/log/v1/snapshot.proto"], [root])
        .expect("proto/trackway/log compiles");
    prost_build::Config::new().bytes(["."]).compile_fds(files).expect("code is generated from proto/trackway/log");
}
