//! Compression.

use std::io::Write as _;

use flate2::Compression;

use crate::gateway::DECODED_BYTES_MAX;
use crate::row::{Row, event, post};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 3).expect("memory takes it")
}

/// 300 MiB of blanks in 500 bytes. The workspace has a decoder only; Node made it:
/// `zlib.brotliCompressSync(Buffer.alloc(300 << 20, 32))`.
const BROTLI_BOMB: &[u8] = include_bytes!("../../../data/brotli_bomb.br");

pub(super) fn rows() -> Vec<Row> {
    let plain = event("compressed");
    let with = |encoding: &str, body: &[u8]| post("/v1/track", &format!("content-encoding: {encoding}\r\n"), body);
    let bomb = vec![b' '; 64 << 20];
    let too_large =
        format!("decompressed body is {} bytes or more, limit is 1 048 576", grouped(DECODED_BYTES_MAX + 1));
    let row = |name: &str, encoding: &str, body: &[u8]| Row::new(name, with(encoding, body));
    let cut = |whole: Vec<u8>| whole[..whole.len() - 5].to_vec();
    let mut huge_window = zstd(&plain.repeat(10).into_bytes());
    // Frame header without single segment: the window's exponent is in its upper five bits; 2^(10+31).
    huge_window[4] &= !0x20;
    huge_window[5] = 0xf8;
    let mut rows = vec![
        row("a gzip bomb", "gzip", &gzip(&bomb)).says(413, &too_large),
        row("a gzip bomb that does not say so", "identity", &gzip(&bomb)).says(413, &too_large),
        row("a zlib bomb", "deflate", &zlib(&bomb)).says(413, &too_large),
        row("a bomb of bare deflate", "deflate", &deflate(&bomb)).says(413, &too_large),
        row("a zstd bomb", "zstd", &zstd(&bomb)).says(413, &too_large),
        row("a brotli bomb", "br", BROTLI_BOMB).says(413, &too_large),
        row("a gzip bomb in gzip", "gzip", &gzip(&gzip(&bomb))).says(413, &too_large),
        row("a gzip bomb in zstd in gzip", "gzip, zstd, gzip", &gzip(&zstd(&gzip(&bomb)))).says(413, &too_large),
        row("a gzip bomb in many members", "gzip", &gzip(&vec![b' '; 1 << 20]).repeat(64)).says(413, &too_large),
        row("gzip that is cut", "gzip", &cut(gzip(plain.as_bytes()))).says(400, "body is not valid gzip"),
        row("zlib that is cut", "deflate", &cut(zlib(plain.as_bytes()))).says(400, "body is not valid deflate"),
        row("zstd that is cut", "zstd", &cut(zstd(plain.as_bytes()))).says(400, "body is not valid zstd"),
        row("gzip with a wrong checksum", "gzip", &{
            let mut bytes = gzip(plain.as_bytes());
            let at = bytes.len() - 6;
            bytes[at] ^= 0xff;
            bytes
        })
        .says(400, "body is not valid gzip"),
        row("gzip with garbage behind it", "gzip", &[gzip(plain.as_bytes()), b"garbage".to_vec()].concat())
            .says(400, "body is not valid gzip"),
        row("a gzip header alone", "gzip", &[0x1f, 0x8b]).says(400, "body is not valid gzip"),
        row("zstd with garbage behind it", "zstd", &[zstd(plain.as_bytes()), b"garbage".to_vec()].concat())
            .says(400, "body is not valid zstd"),
        row("zstd with a window of 2 TB", "zstd", &huge_window).says(400, "body is not valid zstd"),
        row("brotli that is none", "br", &[0xff; 100]).says(400, "body is not valid brotli"),
        row("deflate that is none", "deflate", &[0xff; 100]).says(400, "body is not valid deflate"),
        row("an unknown encoding", "lzma", plain.as_bytes()).says(415, "content encoding `lzma` is not supported"),
        row("an encoding's name of 10 kB", &"x".repeat(10_000), plain.as_bytes()).says(415, "is not supported"),
        row("an encoding's name above ASCII", "gz\u{ef}p", plain.as_bytes()).says(415, "content encoding `?`"),
        row("four encodings", "gzip, gzip, gzip, gzip", &gzip(plain.as_bytes()))
            .says(415, "content encoding `more than 3 encodings`"),
        row("ten thousand encodings", &["gzip"; 10_000].join(","), &gzip(plain.as_bytes()))
            .says(415, "content encoding `more than 3 encodings`"),
        row(
            "gzip in gzip in gzip in gzip in gzip",
            "gzip",
            &(0..5).fold(plain.clone().into_bytes(), |body, _| gzip(&body)),
        )
        .says(415, "content encoding `more than 3 encodings`"),
        row("ten thousand encodings that are none", &["identity"; 10_000].join(","), plain.as_bytes())
            .taken("compressed"),
    ];
    for (name, encoding) in [("gzip", "gzip"), ("deflate", "deflate"), ("br", "br"), ("zstd", "zstd")] {
        rows.push(row(&format!("a plain body that says it is {name}"), encoding, plain.as_bytes()).taken("compressed"));
    }
    rows
}

fn grouped(number: usize) -> String {
    trackway_wire::Grouped(number).to_string()
}
