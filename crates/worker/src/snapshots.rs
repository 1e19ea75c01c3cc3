//! Snapshots: one partition's state up to an offset, as an object in a store (a folder, or S3).
//!
//! An object is complete or absent (the store's own promise), named by its offset, and ends with a checksum; a damaged one
//! is passed over for the one before it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use trackway_eventlog::TopicPartition;

/// Snapshots kept of each partition: the newest may turn out to be damaged.
const KEPT: usize = 3;

/// Bytes of the checksum (BLAKE3) after the state.
const CHECKSUM_BYTES: usize = 32;

/// Why a snapshot was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store did not do what it was asked.
    #[error("cannot {what} snapshots of {partition}")]
    Store {
        /// Words that follow "cannot".
        what: &'static str,
        /// Whose.
        partition: TopicPartition,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// The group has committed an offset, so there was state, and it is not here.
    #[error(
        "{partition} was processed up to offset {committed}, but there is no usable snapshot of it at or before that. \
         Workers of one group need the same snapshot store; to begin anew, replay into new topics and tables"
    )]
    Missing {
        /// Whose.
        partition: TopicPartition,
        /// The group's position.
        committed: u64,
    },
}

/// Where snapshots are.
#[derive(Debug, Clone)]
pub struct Snapshots {
    store: Arc<dyn ObjectStore>,
}

impl Snapshots {
    /// In this store.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Writes one, and removes those that are no longer needed.
    ///
    /// # Errors
    /// [`SnapshotError::Store`]; the one before is still there.
    pub async fn put(&self, partition: &TopicPartition, offset: u64, state: Bytes) -> Result<(), SnapshotError> {
        let checksum = Bytes::copy_from_slice(blake3::hash(&state).as_bytes());
        let payload: PutPayload = [state, checksum].into_iter().collect();
        let failed = |source| SnapshotError::Store { what: "write", partition: partition.clone(), source };
        self.store.put(&path(partition, offset), payload).await.map_err(failed)?;
        let mut offsets = self.offsets(partition).await?;
        offsets.retain(|&other| other <= offset);
        for old in offsets.into_iter().rev().skip(KEPT) {
            if let Err(error) = self.store.delete(&path(partition, old)).await {
                tracing::warn!(%partition, offset = old, %error, "an old snapshot stays");
            }
        }
        Ok(())
    }

    /// The newest usable one: its offset and state.
    ///
    /// # Errors
    /// [`SnapshotError::Store`] if the store cannot be read. A damaged snapshot is no error, but a warning.
    pub async fn newest(&self, partition: &TopicPartition) -> Result<Option<(u64, Bytes)>, SnapshotError> {
        for offset in self.offsets(partition).await?.into_iter().rev() {
            let failed = |source| SnapshotError::Store { what: "read", partition: partition.clone(), source };
            let object = self.store.get(&path(partition, offset)).await.map_err(failed)?;
            let mut state = object.bytes().await.map_err(failed)?;
            let whole = state.len() >= CHECKSUM_BYTES && {
                let checksum = state.split_off(state.len() - CHECKSUM_BYTES);
                blake3::hash(&state).as_bytes() == checksum.as_ref()
            };
            if whole {
                return Ok(Some((offset, state)));
            }
            tracing::error!(%partition, offset, "snapshot is damaged, the one before is used");
        }
        Ok(None)
    }

    /// Offsets of the snapshots there are, in order.
    async fn offsets(&self, partition: &TopicPartition) -> Result<Vec<u64>, SnapshotError> {
        let folder = folder(partition);
        let failed = |source| SnapshotError::Store { what: "list", partition: partition.clone(), source };
        let objects: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(failed)?;
        let offset = |path: &Path| path.filename()?.strip_suffix(".snapshot")?.parse().ok();
        let mut offsets: Vec<u64> = objects.iter().filter_map(|object| offset(&object.location)).collect();
        offsets.sort_unstable();
        Ok(offsets)
    }
}

fn folder(partition: &TopicPartition) -> Path {
    Path::from_iter([partition.topic.as_ref(), &partition.partition.to_string()])
}

fn path(partition: &TopicPartition, offset: u64) -> Path {
    folder(partition).join(format!("{offset:020}.snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "events".into(), partition: 3 }
    }

    #[tokio::test]
    async fn the_newest_whole_snapshot_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).expect("a store");
        let snapshots = Snapshots::new(Arc::new(store));
        assert!(snapshots.newest(&partition()).await.expect("a list").is_none());
        for offset in [9, 10, 200, 1000] {
            let state = Bytes::from(format!("state {offset}"));
            snapshots.put(&partition(), offset, state).await.expect("it is written");
        }
        assert_eq!(snapshots.offsets(&partition()).await.expect("a list"), [10, 200, 1000]);
        assert_eq!(snapshots.newest(&partition()).await.expect("a snapshot"), Some((1000, Bytes::from("state 1000"))));
        let newest = folder.path().join("events/3/00000000000000001000.snapshot");
        let mut bytes = std::fs::read(&newest).expect("a file");
        bytes[2] ^= 1;
        std::fs::write(&newest, bytes).expect("a file");
        assert_eq!(snapshots.newest(&partition()).await.expect("a snapshot"), Some((200, Bytes::from("state 200"))));
    }
}
