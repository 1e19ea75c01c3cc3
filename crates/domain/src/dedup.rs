//! Which events are known already.
//!
//! Ids are known for a week and more, and there are many: a table holds the newest day's, and an [`Archive`] takes those of
//! days that are over, so that what is in memory is 11 to 13 bytes for each id of the newest day and 2 for each older
//! one. Nothing that answers is ever unsure: a filter alone says only what is *not* known.
//!
//! What an archive does never changes an answer. A day that it cannot write stays in memory; one that it cannot read
//! makes a claim an error, and then the state must not go on.

mod content;
mod ids;
mod open_day;
mod sealed_day;
mod shuffle;
#[cfg(test)]
mod tests;

use crate::event::KeySource;
use crate::id::EventKey;
use crate::time::ReceivedAt;

pub use content::ContentClaim;
use content::KnownContent;
use ids::KnownIds;
pub use ids::{Archive, BlocksError, InMemory, Memory, NoBlocks};
pub use sealed_day::Blocks;

/// Event keys seen.
///
/// Those by id are one set a day of the log's time. A set leaves whole when its day is over by [`Memory::window`], so a
/// key is known for at least that and up to a day more. Those by content are known with the received time of the event
/// that counted, for [`CONTENT_DEDUP_MEMORY`] of the log's time.
///
/// [`CONTENT_DEDUP_MEMORY`]: crate::limits::CONTENT_DEDUP_MEMORY
#[derive(Debug)]
pub struct KnownEvents<A: Archive = InMemory> {
    ids: KnownIds<A>,
    content: KnownContent,
    /// What was claimed since it was last asked for: 8 bytes for each id, 24 for each event without one. Whoever asks for
    /// it every so often bounds it.
    since: Claimed,
}

/// Keys claimed since the last snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// By id, with their day; oldest day first.
    pub ids: Vec<(i64, Vec<u64>)>,
    /// By content, in the order in which they were claimed.
    pub content: Vec<ContentClaim>,
}

impl Default for KnownEvents {
    fn default() -> Self {
        Self::new(Memory::USUAL, InMemory)
    }
}

impl<A: Archive> KnownEvents<A> {
    /// None yet.
    #[must_use]
    pub fn new(memory: Memory, archive: A) -> Self {
        Self { ids: KnownIds::new(memory, archive), content: KnownContent::default(), since: Claimed::default() }
    }

    /// With what a snapshot has: ids by day, newest day first; keys by content in the order of [`Self::content`].
    #[must_use]
    pub fn restored<I: IntoIterator<Item = u64>>(
        self,
        days: impl IntoIterator<Item = (i64, I)>,
        content: impl IntoIterator<Item = ContentClaim>,
    ) -> Self {
        let content = KnownContent::of(content.into_iter().collect());
        Self { ids: self.ids.restored(days), content, since: Claimed::default() }
    }

    /// From now on days that are over go into this archive; those that there are go at once, which may take seconds.
    pub fn put_away_in(&mut self, archive: A) {
        self.ids.put_away_in(archive);
    }

    /// Claims a key: true if it was not known, and from now on it is. Call it only for an event that counts if this says
    /// so: an id is never claimed by an event that does not count.
    ///
    /// An event by content is known if one of its key has counted that was received within [`CONTENT_DEDUP_WINDOW`]
    /// before or after it. Copies of one record carry one received time, however late and in whatever order they come;
    /// two real events further apart both count, even when an outage brings them into the log together.
    ///
    /// Each claim of an id also moves one block of a day that is over into the archive, so the turn of a day stops
    /// nobody for longer than writing a few kB.
    ///
    /// - `received`: of the event's own record.
    /// - `now`: received time of the log so far; never goes back, and is not before `received`.
    ///
    /// # Errors
    /// The archive cannot be read, so whether the key is known cannot be said, and nothing was claimed. What was decided
    /// before holds; the state must be made anew from a snapshot.
    ///
    /// [`CONTENT_DEDUP_WINDOW`]: crate::limits::CONTENT_DEDUP_WINDOW
    pub fn claim(
        &mut self,
        key: EventKey,
        source: KeySource,
        received: ReceivedAt,
        now: ReceivedAt,
    ) -> Result<bool, BlocksError<A>> {
        match source {
            KeySource::Id => {
                let is_new = self.ids.claim(key.0, now)?;
                if is_new {
                    let day = self.ids.days().next().expect("where it was claimed");
                    match self.since.ids.last_mut() {
                        Some((last, keys)) if *last == day => keys.push(key.0),
                        _ => self.since.ids.push((day, vec![key.0])),
                    }
                }
                Ok(is_new)
            }
            KeySource::Content => {
                let claim = ContentClaim { key: key.0, received, claimed: now };
                let is_new = self.content.claim(claim);
                if is_new {
                    self.since.content.push(claim);
                }
                Ok(is_new)
            }
        }
    }

    /// Keys known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len() + self.content.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Days of which there are ids, for a snapshot; newest first.
    pub fn days(&self) -> impl Iterator<Item = i64> {
        self.ids.days()
    }

    /// Every key by content, in the order in which they were claimed, for a snapshot.
    pub fn content(&self) -> impl Iterator<Item = ContentClaim> + '_ {
        self.content.iter()
    }

    /// How many keys by content are known.
    #[must_use]
    pub fn content_len(&self) -> usize {
        self.content.len()
    }

    /// What was claimed since this was last called, or since the snapshot that it came from. Some of it may be forgotten
    /// already.
    pub fn take_claimed(&mut self) -> Claimed {
        std::mem::take(&mut self.since)
    }

    /// All that is known counts as claimed just now. Older days are read into memory, 8 bytes an id, until it is taken.
    ///
    /// # Errors
    /// The archive cannot be read; the state must be made anew.
    pub fn start_over(&mut self) -> Result<(), BlocksError<A>> {
        self.since = Claimed { ids: self.ids.all()?, content: self.content().collect() };
        Ok(())
    }
}
