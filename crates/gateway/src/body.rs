//! Reads a body: capped by the bytes that come, before and after decompression, whatever its headers say.
//!
//! Trackers send gzip without saying so and chunks without a length (`PROTOCOLS.md` §0), so both are seen from the bytes.

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_ENCODING;

use crate::Limits;
use crate::reply::Refusal;

/// Bytes of bodies that the process holds.
pub(crate) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    /// Nothing held, `max` at most.
    pub(crate) fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max }
    }

    /// A request's share, empty at first.
    pub(crate) fn lease(&self) -> Lease<'_> {
        Lease { budget: self, bytes: 0 }
    }
}

/// One request's share of the [`Budget`], until it is dropped.
pub(crate) struct Lease<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Lease<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        // The counter guards no other memory, so no ordering is needed.
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.budget.max {
            return Err(Refusal::Overloaded { bytes: used, limit: self.budget.max });
        }
        Ok(())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The whole body, decompressed. `lease` holds its bytes as long as the caller keeps it.
pub(crate) async fn read(
    body: Incoming,
    headers: &HeaderMap,
    limits: &Limits,
    lease: &mut Lease<'_>,
) -> Result<(Bytes, usize), Refusal> {
    refuse_unknown_encoding(headers)?;
    // Polled before the timer is armed: a body that came with its header costs no timer.
    let sent = tokio::time::timeout(limits.body_timeout, read_sent(body, limits.body_bytes_max, lease));
    let sent = sent.await.map_err(|_| Refusal::BodySlow { limit: limits.body_timeout })??;
    let sent_bytes = sent.len();
    // A proxy may have decompressed it and left the header; then the bytes are plain, and right.
    if sent.starts_with(&[0x1f, 0x8b]) {
        return Ok((gunzip(&sent, limits.body_bytes_decoded_max, lease)?, sent_bytes));
    }
    if sent_bytes > limits.body_bytes_decoded_max {
        return Err(Refusal::BodyTooLarge { bytes: sent_bytes, limit: limits.body_bytes_decoded_max });
    }
    Ok((sent, sent_bytes))
}

fn refuse_unknown_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(CONTENT_ENCODING).map(|encoding| encoding.to_str().unwrap_or("?")) {
        None | Some("" | "gzip" | "x-gzip" | "identity") => Ok(()),
        Some(other) => Err(Refusal::Encoding { encoding: other.to_owned() }),
    }
}

async fn read_sent(mut body: Incoming, limit: usize, lease: &mut Lease<'_>) -> Result<Bytes, Refusal> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Refusal::BodyTooLarge { bytes: announced, limit });
    }
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BodyCut)?.into_data() else { continue };
        lease.grow(data.len())?;
        let bytes = first.len() + all.len() + data.len();
        if bytes > limit {
            return Err(Refusal::BodyTooLarge { bytes, limit });
        }
        if all.is_empty() && first.is_empty() {
            // Most bodies come in one piece, which is then used as it is.
            first = data;
        } else {
            if all.is_empty() {
                all.reserve(announced.max(bytes));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Decompressed bytes are paid for in steps of this size, before they are made.
const STEP_BYTES: usize = 64 * 1024;

fn gunzip(sent: &[u8], limit: usize, lease: &mut Lease<'_>) -> Result<Bytes, Refusal> {
    let (mut decoder, mut out) = (MultiGzDecoder::new(sent), Vec::new());
    loop {
        // One byte above the limit tells that there is more.
        let step = STEP_BYTES.min(limit + 1 - out.len());
        lease.grow(step)?;
        out.reserve(step);
        let read = decoder.by_ref().take(step as u64).read_to_end(&mut out).map_err(|_| Refusal::NotGzip)?;
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

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn check(sent: &[u8], limit: usize) -> Result<Bytes, String> {
        let budget = Budget::new(1 << 30);
        gunzip(sent, limit, &mut budget.lease()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn exactly_the_limit_is_decompressed_and_one_byte_more_is_not() {
        for limit in [10, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES] {
            let plain = vec![b'x'; limit + 1];
            assert_eq!(check(&gzip(&plain[1..]), limit).as_deref(), Ok(&plain[1..]), "{limit}");
            let error = check(&gzip(&plain), limit).expect_err("too long");
            assert!(error.starts_with("decompressed body is"), "{error}");
        }
    }

    #[test]
    fn members_in_a_row_are_one_body() {
        let both = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(check(&both, 10).as_deref(), Ok(&b"ab"[..]));
    }

    #[test]
    fn what_is_cut_is_not_gzip() {
        let whole = gzip(b"hello");
        assert_eq!(check(&whole[..whole.len() - 1], 10), Err("body is not valid gzip".to_owned()));
    }

    #[test]
    fn a_budget_is_given_back() {
        let budget = Budget::new(10);
        let mut one = budget.lease();
        one.grow(6).expect("there is room");
        let error = budget.lease().grow(5).expect_err("there is none").to_string();
        assert_eq!(error, "bodies in flight are 11 bytes, limit is 10. Send again later");
        drop(one);
        budget.lease().grow(10).expect("there is room again");
    }
}
