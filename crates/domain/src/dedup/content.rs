//! Which events without an id are known, by what they say.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::limits::{CONTENT_DEDUP_MEMORY, CONTENT_DEDUP_WINDOW};
use crate::time::ReceivedAt;

/// Two events of one key in one slot of received time are never further apart than [`CONTENT_DEDUP_WINDOW`], so a slot
/// has at most one of them, and all that can be near a time lies in its slot and the two beside it.
const SLOT_MS: i64 = CONTENT_DEDUP_WINDOW.as_millis() as i64 + 1;

/// An event without an id that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentClaim {
    /// Its key.
    pub key: u64,
    /// When it was received.
    pub received: ReceivedAt,
    /// The log's time when it was claimed; not before `received`.
    pub claimed: ReceivedAt,
}

impl ContentClaim {
    fn slot(&self) -> (u64, i64) {
        (self.key, self.received.0.div_euclid(SLOT_MS))
    }
}

/// Keys by content, with the received time of the event that counted, for [`CONTENT_DEDUP_MEMORY`] of the log's time.
#[derive(Debug, Default)]
pub(super) struct KnownContent {
    /// By key and slot, the received time of the event that counted.
    slots: HashMap<(u64, i64), ReceivedAt>,
    /// The same, in the order in which they were claimed.
    order: VecDeque<ContentClaim>,
}

impl KnownContent {
    /// From a snapshot, in the order in which they were claimed.
    pub fn of(order: VecDeque<ContentClaim>) -> Self {
        let slots = order.iter().map(|claim| (claim.slot(), claim.received)).collect();
        Self { slots, order }
    }

    pub fn claim(&mut self, claim: ContentClaim) -> bool {
        while let Some(old) = self.order.front() {
            if old.claimed.plus(CONTENT_DEDUP_MEMORY) >= claim.claimed {
                break;
            }
            self.slots.remove(&old.slot());
            self.order.pop_front();
        }
        let (key, slot) = claim.slot();
        let near = |slot: i64| {
            let counted = self.slots.get(&(key, slot));
            counted.is_some_and(|counted| counted.0.abs_diff(claim.received.0) < SLOT_MS as u64)
        };
        if near(slot - 1) || near(slot) || near(slot + 1) {
            return false;
        }
        self.slots.insert((key, slot), claim.received);
        self.order.push_back(claim);
        true
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// In the order in which they were claimed.
    pub fn iter(&self) -> impl Iterator<Item = ContentClaim> + '_ {
        self.order.iter().copied()
    }
}
