//! Snapshots in one message, as versions before deltas wrote them: they are read, and the next one is a base.

use bytes::Bytes;
use trackway_domain::dedup::{ContentClaim, KnownEvents, Memory};
use trackway_domain::time::ReceivedAt;
use trackway_wire::log::{self, DecodeError, pb};

use super::{DayFiles, EventsStage, visitor};
use crate::clock::PartitionClock;
use crate::touches::Touches;

pub(super) fn restore(
    partition: u32,
    journeys_partitions: u32,
    bytes: Bytes,
) -> Result<(EventsStage, PartitionClock), DecodeError> {
    let snapshot: pb::EventsSnapshot = log::decode(bytes)?;
    let clock = PartitionClock::from_pb(snapshot.clock.as_ref())?;
    let tables = visitor::Tables::new(&snapshot.projects, &snapshot.pages, &snapshot.landings)?;
    let mut stage = EventsStage::new(partition, journeys_partitions);
    let mut touched = Vec::with_capacity(snapshot.visitors.len());
    for visitor in &snapshot.visitors {
        let key = super::key(&visitor.key)?;
        let visitor = visitor::from_pb(visitor, &tables)?;
        touched.push((visitor.touched_minute, key));
        stage.visitors.insert(key, visitor);
    }
    stage.touches = Touches::restore(touched);
    let days = snapshot.days.into_iter().map(|day| (day.day, day.keys));
    let content = content_claims(&snapshot.content_keys, &snapshot.content_received_ms, &snapshot.content_claimed_ms)?;
    stage.known = KnownEvents::new(Memory::USUAL, DayFiles::default()).restored(days, content);
    stage.all_changed();
    Ok((stage, clock))
}

/// From a snapshot's parallel lists. `claimed_ms` is not there in snapshots of before it was told apart from
/// `received_ms`.
fn content_claims(keys: &[u64], received_ms: &[i64], claimed_ms: &[i64]) -> Result<Vec<ContentClaim>, DecodeError> {
    let claimed_ms = if claimed_ms.is_empty() { received_ms } else { claimed_ms };
    if [received_ms.len(), claimed_ms.len()] != [keys.len(); 2] {
        return Err(DecodeError::Field { field: "content_keys" });
    }
    let times = received_ms.iter().zip(claimed_ms);
    let claim = |(&key, (&received, &claimed)): (&u64, (&i64, &i64))| ContentClaim {
        key,
        received: ReceivedAt(received),
        claimed: ReceivedAt(claimed),
    };
    Ok(keys.iter().zip(times).map(claim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_before_claims_had_a_time_of_their_own_is_read() {
        let (keys, received) = ([7, 8], [1_000, 2_000]);
        let claims = |claimed: &[i64]| content_claims(&keys, &received, claimed).map_err(|error| error.to_string());
        let times = |claims: Vec<ContentClaim>| -> Vec<_> {
            claims.into_iter().map(|claim| (claim.key, claim.received.0, claim.claimed.0)).collect()
        };
        assert_eq!(claims(&[]).map(times), Ok(vec![(7, 1_000, 1_000), (8, 2_000, 2_000)]));
        assert_eq!(claims(&[5_000, 6_000]).map(times), Ok(vec![(7, 1_000, 5_000), (8, 2_000, 6_000)]));
        assert!(claims(&[5_000]).is_err());
    }
}
