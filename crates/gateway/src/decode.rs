//! Undoes compression, in memory that is bounded whatever the bytes promise.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;

use crate::body::Lease;
use crate::reply::Refusal;

/// Encodings on top of each other. One is what happens; two, where a proxy compresses what is compressed.
const ENCODINGS_MAX: usize = 3;

/// Window of zstd, as its logarithm: 8 MiB, what the format tells every decoder to support. Larger ones are for files.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Buffer of the brotli decoder for its input.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Decompressed bytes are paid for in steps of this size, before they are made.
const STEP_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
        }
    }
}

/// What a request says of its body, in the order in which it was applied.
///
/// Known before the body is read, so that an unknown encoding costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Encodings(Vec<Encoding>);

impl Encodings {
    /// Of a request's headers.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut encodings = Vec::new();
        for line in headers.get_all(CONTENT_ENCODING) {
            for name in line.to_str().unwrap_or("?").split(',') {
                encodings.push(match name.trim().to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Encoding::Gzip,
                    "deflate" => Encoding::Deflate,
                    "br" => Encoding::Brotli,
                    "zstd" => Encoding::Zstd,
                    other => return Err(Refusal::Encoding { encoding: other.chars().take(40).collect() }),
                });
                if encodings.len() > ENCODINGS_MAX {
                    return Err(Refusal::Encoding { encoding: format!("more than {ENCODINGS_MAX} encodings") });
                }
            }
        }
        Ok(Self(encodings))
    }

    /// The plain body: `limit` bytes at most at every stage.
    ///
    /// Trackers send gzip without saying so, and a proxy may have decompressed and left the header: where the bytes say
    /// what they are, they are believed; else the header is.
    pub(crate) fn decode(&self, sent: Bytes, limit: usize, lease: &mut Lease<'_>) -> Result<Bytes, Refusal> {
        let mut body = sent;
        let mut told = self.0.iter().rev().copied();
        for _ in 0..=ENCODINGS_MAX {
            let next = told.next();
            let found = found(&body);
            let encoding = match (next, found) {
                (_, Some(found)) => found,
                (Some(Encoding::Gzip | Encoding::Zstd), None) | (None, None) => return Ok(body),
                (Some(told), None) if looks_plain(&body) => match undo(told, &body, limit, lease) {
                    Ok(plain) => return Ok(plain),
                    Err(Refusal::NotEncoded { .. }) => return Ok(body),
                    Err(other) => return Err(other),
                },
                (Some(told), None) => told,
            };
            body = undo(encoding, &body, limit, lease)?;
        }
        Err(Refusal::Encoding { encoding: format!("more than {ENCODINGS_MAX} encodings") })
    }
}

/// What the bytes themselves say.
fn found(body: &[u8]) -> Option<Encoding> {
    match body {
        [0x1f, 0x8b, ..] => Some(Encoding::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Encoding::Zstd),
        _ => None,
    }
}

/// Whether a body begins as JSON or a form does.
fn looks_plain(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|first| {
        matches!(first, b'{' | b'[') || body.iter().take(16).all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    })
}

fn undo(encoding: Encoding, body: &[u8], limit: usize, lease: &mut Lease<'_>) -> Result<Bytes, Refusal> {
    let not = |_: io::Error| Refusal::NotEncoded { encoding: encoding.name() };
    match encoding {
        Encoding::Gzip => read(MultiGzDecoder::new(body), encoding, limit, lease),
        // The name means zlib's format; some senders leave its frame away.
        Encoding::Deflate => match read(ZlibDecoder::new(body), encoding, limit, lease) {
            Err(Refusal::NotEncoded { .. }) => read(DeflateDecoder::new(body), encoding, limit, lease),
            other => other,
        },
        Encoding::Brotli => {
            read(brotli_decompressor::Decompressor::new(body, BROTLI_BUFFER_BYTES), encoding, limit, lease)
        }
        Encoding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(body).map_err(not)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(not)?;
            read(decoder, encoding, limit, lease)
        }
    }
}

fn read(mut decoder: impl Read, encoding: Encoding, limit: usize, lease: &mut Lease<'_>) -> Result<Bytes, Refusal> {
    let mut out = Vec::new();
    loop {
        // One byte above the limit tells that there is more.
        let step = STEP_BYTES.min(limit + 1 - out.len());
        lease.grow(step)?;
        out.reserve(step);
        let read = decoder.by_ref().take(step as u64).read_to_end(&mut out);
        let read = read.map_err(|_| Refusal::NotEncoded { encoding: encoding.name() })?;
        if out.len() > limit {
            return Err(Refusal::DecodedTooLarge { bytes: out.len(), limit });
        }
        if read < step {
            return Ok(out.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use hyper::header::HeaderValue;

    use super::*;
    use crate::body::Budget;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn deflate(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    /// One stored block and an empty last one; good for 64 KiB.
    fn brotli(plain: &[u8]) -> Vec<u8> {
        // Window of 16 bits (`0`), not the last block (`0`), four nibbles (`00`), length - 1, uncompressed (`1`).
        let bits = u64::try_from(plain.len() - 1).expect("small") << 4 | 1 << 20;
        let mut out = bits.to_le_bytes()[..3].to_vec();
        out.extend_from_slice(plain);
        out.push(0x03);
        out
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 3).expect("memory takes it")
    }

    fn check(encoding: &str, sent: &[u8], limit: usize) -> Result<Bytes, String> {
        let (mut headers, budget) = (HeaderMap::new(), Budget::new(1 << 30, 1 << 30));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_str(encoding).expect("a header"));
        let encodings = Encodings::of(&headers).map_err(|refusal| refusal.to_string())?;
        let body = encodings.decode(Bytes::copy_from_slice(sent), limit, &mut budget.lease());
        body.map_err(|refusal| refusal.to_string())
    }

    const PLAIN: &[u8] = br#"{"event":"signup","properties":{"plan":"pro"}}"#;

    #[test]
    fn every_encoding_is_undone_and_what_shows_itself_needs_no_word() {
        for (told, sent) in [
            ("gzip", gzip(PLAIN)),
            ("", gzip(PLAIN)),
            ("X-Gzip", gzip(PLAIN)),
            ("deflate", zlib(PLAIN)),
            ("deflate", deflate(PLAIN)),
            ("br", brotli(PLAIN)),
            ("zstd", zstd(PLAIN)),
            ("", zstd(PLAIN)),
            ("identity", PLAIN.to_vec()),
            ("gzip, identity", gzip(PLAIN)),
            ("br, gzip", gzip(&brotli(PLAIN))),
            ("gzip", gzip(&gzip(PLAIN))),
        ] {
            assert_eq!(check(told, &sent, 1000).as_deref(), Ok(PLAIN), "{told}");
        }
    }

    #[test]
    fn a_proxy_that_decompressed_and_left_the_header_is_forgiven() {
        for told in ["gzip", "deflate", "br", "zstd"] {
            for plain in [PLAIN, b"v=1&t=pageview", b""] {
                assert_eq!(check(told, plain, 1000).as_deref(), Ok(plain), "{told}");
            }
        }
    }

    #[test]
    fn exactly_the_limit_is_decompressed_and_one_byte_more_is_not() {
        for limit in [10, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES] {
            let plain = vec![b'x'; limit + 1];
            for (told, encode) in
                [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("deflate", zlib), ("deflate", deflate), ("zstd", zstd)]
            {
                assert_eq!(check(told, &encode(&plain[1..]), limit).as_deref(), Ok(&plain[1..]), "{told} {limit}");
                let error = check(told, &encode(&plain), limit).expect_err("too long");
                assert!(error.starts_with("decompressed body is"), "{error}");
            }
        }
        assert!(check("br", &brotli(&[b'x'; 11]), 10).is_err_and(|error| error.starts_with("decompressed body is")));
    }

    #[test]
    fn members_in_a_row_are_one_body() {
        assert_eq!(check("gzip", &[gzip(b"a"), gzip(b"b")].concat(), 10).as_deref(), Ok(&b"ab"[..]));
    }

    #[test]
    fn what_is_cut_or_no_such_thing_says_what_it_should_have_been() {
        let cut = |whole: Vec<u8>| whole[..whole.len() - 2].to_vec();
        assert_eq!(check("", &cut(gzip(PLAIN)), 1000), Err("body is not valid gzip".to_owned()));
        assert_eq!(check("br", &cut(brotli(PLAIN)), 1000), Err("body is not valid brotli".to_owned()));
        assert_eq!(check("zstd", &cut(zstd(PLAIN)), 1000), Err("body is not valid zstd".to_owned()));
        assert_eq!(check("deflate", &[0xff, 0xff, 0xff], 1000), Err("body is not valid deflate".to_owned()));
        let error = check("lzma", PLAIN, 1000).expect_err("unknown");
        assert_eq!(error, "content encoding `lzma` is not supported. Use gzip, deflate, br, zstd or none");
        assert!(check("gzip,gzip,gzip,gzip", PLAIN, 1000).is_err());
    }

    #[test]
    fn gzip_in_gzip_has_an_end() {
        let mut body = gzip(PLAIN);
        for _ in 0..10 {
            body = gzip(&body);
        }
        assert!(check("", &body, 100_000).is_err_and(|error| error.contains("more than 3 encodings")));
    }
}
