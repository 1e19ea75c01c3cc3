//! Writes one partition's snapshots, one after the other, and sees to it that its chain stays short.

use super::{Encoded, Name, Position, SnapshotError, Snapshots};
use trackway_eventlog::TopicPartition;

/// Files of a chain at most, before a new base is made of them: each is read by its own at a restart.
const FILES_MAX: usize = 128;

/// Deltas that are left to lie before their bytes are looked at, so that a small partition makes no base each time.
const FILES_MIN: usize = 8;

/// Where one partition's chain is, and whether a base is being made of it.
#[derive(Debug)]
pub struct Saver {
    position: Position,
}

impl Saver {
    /// Goes on where a restored state ended; a new partition from nothing.
    #[must_use]
    pub fn new(position: Position) -> Self {
        Self { position }
    }

    /// Where the next snapshot goes on.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The snapshot was written.
    pub fn on_written(&mut self, snapshot: &Encoded) {
        if let Name::Base { .. } = snapshot.name {
            self.position.files.clear();
        }
        self.position.files.push((snapshot.name, snapshot.bytes()));
    }

    /// Whether a base should be made of the chain: its deltas outweigh the base that it has, or are many.
    #[must_use]
    pub fn wants_base(&self) -> bool {
        let files = &self.position.files;
        let Some(((_, base), deltas)) = files.split_first() else { return false };
        let bytes: u64 = deltas.iter().map(|(_, bytes)| bytes).sum();
        files.len() >= FILES_MAX || (files.len() >= FILES_MIN && bytes >= *base)
    }

    /// The base was made: what it stands for is needed no more.
    pub fn on_base(&mut self, base: Base) {
        let files = &mut self.position.files;
        // A snapshot that begins anew was written meanwhile.
        let Some(at) = files.iter().position(|(name, _)| *name == base.last) else { return };
        files.splice(..=at, [(base.name, base.bytes)]);
    }
}

/// A base that was made of a chain.
#[derive(Debug)]
pub struct Base {
    name: Name,
    bytes: u64,
    /// The last file that it stands for.
    last: Name,
}

impl Snapshots {
    /// Makes a base of all files of the chain, and then removes what is not needed any more.
    ///
    /// # Errors
    /// [`SnapshotError`]; the chain is as it was.
    pub async fn shorten(&self, partition: &TopicPartition, position: &Position) -> Result<Base, SnapshotError> {
        let chain: Vec<Name> = position.files.iter().map(|(name, _)| *name).collect();
        let (name, bytes) = self.make_base(partition, &chain).await?;
        self.clean(partition).await;
        Ok(Base { name, bytes, last: chain[chain.len() - 1] })
    }
}
