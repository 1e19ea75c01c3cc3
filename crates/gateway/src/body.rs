//! Reads a body: capped by the bytes that come, before and after decompression, whatever its headers say. Trackers send
//! chunks without a length, so the bytes are counted.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};

use crate::Limits;
use crate::decode::Encodings;
use crate::reply::Refusal;

/// A body up to this size is small: nearly all that browsers send.
const SMALL_BYTES: usize = 64 * 1024;

/// Bytes of bodies that the process holds.
///
/// A few senders of large bodies whose last byte does not come can fill what large ones may have. A part is only for small
/// bodies, so that those who send a beacon do not notice.
pub(crate) struct Budget {
    used: AtomicUsize,
    max: usize,
    max_for_large: usize,
}

impl Budget {
    /// Nothing held, `max` at most. A body that takes `largest` is never refused while it is alone.
    pub(crate) fn new(max: usize, largest: usize) -> Self {
        Self { used: AtomicUsize::new(0), max, max_for_large: (max - max / 8).max(largest.min(max)) }
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
    /// Takes so many bytes more, if the process has room for them.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        // The counter guards no other memory, so no ordering is needed.
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let limit = if self.bytes <= SMALL_BYTES { self.budget.max } else { self.budget.max_for_large };
        if used > limit {
            return Err(Refusal::Overloaded { bytes: used, limit });
        }
        Ok(())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The whole body, decompressed, and how many bytes of it were sent. `lease` holds its bytes as long as the caller keeps it.
pub(crate) async fn read(
    body: Incoming,
    headers: &HeaderMap,
    limits: &Limits,
    lease: &mut Lease<'_>,
) -> Result<(Bytes, usize), Refusal> {
    let encodings = Encodings::of(headers)?;
    // Polled before the timer is armed: a body that came with its header costs no timer.
    let sent = tokio::time::timeout(limits.body_timeout, read_sent(body, limits.body_bytes_max, lease));
    let sent = sent.await.map_err(|_| Refusal::BodySlow { limit: limits.body_timeout })??;
    let sent_bytes = sent.len();
    let body = encodings.decode(sent, limits.body_bytes_decoded_max, lease)?;
    if body.len() > limits.body_bytes_decoded_max {
        return Err(Refusal::BodyTooLarge { bytes: body.len(), limit: limits.body_bytes_decoded_max });
    }
    Ok((body, sent_bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_given_back() {
        let budget = Budget::new(10, 10);
        let mut one = budget.lease();
        one.grow(6).expect("there is room");
        let error = budget.lease().grow(5).expect_err("there is none").to_string();
        assert_eq!(error, "bodies in flight are 11 bytes, limit is 10. Send again later");
        drop(one);
        budget.lease().grow(10).expect("there is room again");
    }

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let budget = Budget::new(1 << 20, 1000);
        let (mut large, mut small) = (budget.lease(), budget.lease());
        large.grow((1 << 20) - (1 << 17)).expect("seven of eight parts");
        assert!(large.grow(1).is_err_and(|error| error.to_string().contains("limit is 917 504")));
        small.grow(SMALL_BYTES).expect("there is room for a small one");
        assert!(small.grow(1).is_err(), "it is not small any more");
        Budget::new(1 << 20, 1 << 20).lease().grow(1 << 20).expect("one that may be as large is taken");
    }
}
