//! Snapshots: one partition's state up to an offset, as objects in a store (a folder, or S3).
//!
//! A *base* has all entries of a state; a *delta* what changed since its parent, so that a snapshot costs as much as
//! happened since the last one. A state is its base and the deltas after it, in order ([`chain`]). When deltas outweigh
//! the base, a new base is made out of the files alone ([`mod@base`]), and the partition hears nothing of it.
//!
//! Invariants:
//! - An object is complete or absent (the store's own promise), has a name that nobody else gives to other bytes, and ends
//!   with a checksum; one that is damaged is passed over for the state before it.
//! - Writing only adds. Two owners of one partition (one of them paused, and not knowing that it is none any more) cannot
//!   spoil each other's chain.
//! - Nothing is deleted that the newest state, or the newest but one base, is made of.

mod base;
mod chain;
pub mod changes;
pub(crate) mod file;
pub mod saver;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use hashbrown::{HashMap, HashSet};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use trackway_eventlog::TopicPartition;
use trackway_wire::log::DecodeError;

use chain::Name;
use changes::{BUCKETS, Changes, Value};
use file::{Damage, File, Place};

/// Files that are read at the same time.
const READS: usize = 8;

/// How often the list is asked for again because a file on it is gone. Files are gone when another owner has made a new
/// base meanwhile, which happens every few minutes at most.
const LISTS_MAX: usize = 10;

/// Bytes of the checksum (BLAKE3) after a state in one message.
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
    /// A file is not what was written.
    #[error("snapshot `{file}` of {partition} is damaged")]
    Damaged {
        /// Whose.
        partition: TopicPartition,
        /// Its name.
        file: String,
        /// In which way.
        #[source]
        source: Damage,
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

impl SnapshotError {
    fn store(partition: &TopicPartition, what: &'static str) -> impl Fn(object_store::Error) -> Self {
        let partition = partition.clone();
        move |source| Self::Store { what, partition: partition.clone(), source }
    }

    fn damaged(partition: &TopicPartition, name: Name) -> impl Fn(Damage) -> Self {
        let (partition, file) = (partition.clone(), name.to_string());
        move |source| Self::Damaged { partition: partition.clone(), file: file.clone(), source }
    }

    /// Whether a file that was there before is gone.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Store { source: object_store::Error::NotFound { .. }, .. })
    }
}

/// Where snapshots are.
#[derive(Debug, Clone)]
pub struct Snapshots {
    store: Arc<dyn ObjectStore>,
}

/// A state that was read.
#[derive(Debug)]
pub struct Restored {
    /// The next record to apply.
    pub offset: u64,
    /// The state.
    pub content: Content,
    /// Where the next delta goes on.
    pub position: Position,
}

/// Bytes of a state.
#[derive(Debug)]
pub enum Content {
    /// In one message, as versions before deltas wrote it.
    Whole(Bytes),
    /// In entries.
    Chain(Chain),
}

impl Content {
    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Chain(chain) => chain.bytes(),
        }
    }
}

/// Where a partition's chain of snapshots has got to.
#[derive(Debug, Clone, Default)]
pub struct Position {
    /// Base and deltas, oldest first, with their bytes. Empty: the next snapshot is a base.
    files: Vec<(Name, u64)>,
}

impl Position {
    /// The state that the next delta continues.
    fn place(&self) -> Option<Place> {
        match self.files.last()?.0 {
            Name::Whole { .. } => None,
            Name::Base { place } | Name::Delta { place, .. } => Some(place),
        }
    }

    /// Number of files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are no files.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// A base and the deltas after it.
#[derive(Debug)]
pub struct Chain {
    files: Vec<File>,
}

impl Chain {
    /// What is small, and whole in every snapshot: the newest.
    #[must_use]
    pub fn head(&self) -> Bytes {
        self.files[self.files.len() - 1].head()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.frame.bytes()).sum()
    }

    /// Gives every bucket's entries to `decode`, on all cores; answers with what it made of them, in order of the buckets.
    ///
    /// # Errors
    /// [`DecodeError`], the first that `decode` gave.
    pub fn decode<T: Send>(
        &self,
        decode: impl Fn(HashMap<&[u8], Value<'_>>) -> Result<T, DecodeError> + Sync,
    ) -> Result<Vec<T>, DecodeError> {
        on_all_cores(BUCKETS, |bucket| {
            let parts: Vec<Bytes> = self.files.iter().map(|file| file.bucket(bucket)).collect();
            decode(changes::add_up(parts.iter().map(AsRef::as_ref))?)
        })
    }
}

/// Does a piece of work for each number below `n`, on all cores.
fn on_all_cores<T: Send, E: Send>(n: usize, work: impl Fn(usize) -> Result<T, E> + Sync) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= n {
                return Ok(done);
            }
            done.push((number, work(number)?));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(n);
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(some)).collect();
        let mut all = Vec::with_capacity(n);
        for thread in threads {
            all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })?;
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, done)| done).collect())
}

/// A snapshot in bytes, ready to be written.
#[derive(Debug)]
pub struct Encoded {
    name: Name,
    pieces: PutPayload,
}

impl Encoded {
    /// Of these changes, up to the record before `offset`.
    ///
    /// # Panics
    /// If they are no base and there is nothing that they could continue.
    #[must_use]
    pub fn new(offset: u64, position: &Position, changes: Changes) -> Self {
        let parent = (!changes.is_base).then(|| position.place().expect("a delta continues a state"));
        let (pieces, place) = file::encode(offset, parent, changes);
        let name = match parent {
            None => Name::Base { place },
            Some(parent) => Name::Delta { place, parent },
        };
        Self { name, pieces: pieces.into_iter().collect() }
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pieces.content_length() as u64
    }
}

impl Snapshots {
    /// In this store.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Writes one. Twice is as good as once.
    ///
    /// # Errors
    /// [`SnapshotError::Store`]; those before are still there.
    pub async fn write(&self, partition: &TopicPartition, snapshot: &Encoded) -> Result<(), SnapshotError> {
        let path = path(partition, snapshot.name);
        let put = self.store.put(&path, snapshot.pieces.clone()).await;
        put.map(drop).map_err(SnapshotError::store(partition, "write"))
    }

    /// Removes what no restore needs any more. What cannot be removed stays for the next time.
    pub async fn clean(&self, partition: &TopicPartition) {
        let names = match self.names(partition).await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%partition, error = &error as &dyn std::error::Error, "old snapshots stay");
                return;
            }
        };
        for name in chain::unneeded(&names) {
            match self.store.delete(&path(partition, name)).await {
                // Another owner was quicker.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!(%partition, file = %name, %error, "an old snapshot stays"),
            }
        }
    }

    /// The newest usable state.
    ///
    /// # Errors
    /// [`SnapshotError::Store`] if the store cannot be read. A damaged file is no error, but a message.
    pub async fn restore(&self, partition: &TopicPartition) -> Result<Option<Restored>, SnapshotError> {
        let mut damaged: HashSet<Name> = HashSet::new();
        let mut lists = 0;
        let mut names = self.names(partition).await?;
        loop {
            names.retain(|name| !damaged.contains(name));
            let Some(chain) = chain::newest(&names) else { return Ok(None) };
            match self.read(partition, &chain).await {
                Ok(restored) => return Ok(Some(restored)),
                Err((name, error)) if error.is_gone() => {
                    lists += 1;
                    if lists > LISTS_MAX {
                        tracing::error!(%partition, file = %name, "snapshot is on the list and not there, the one before is used");
                        damaged.insert(name);
                    }
                    names = self.names(partition).await?;
                }
                Err((name, error @ SnapshotError::Damaged { .. })) => {
                    tracing::error!(%partition, error = &error as &dyn std::error::Error, "the snapshot before is used");
                    metrics::counter!("worker_snapshots_damaged_total").increment(1);
                    damaged.insert(name);
                }
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// Reads a chain, or says which of its files cannot be used.
    async fn read(&self, partition: &TopicPartition, chain: &[Name]) -> Result<Restored, (Name, SnapshotError)> {
        let offset = chain[chain.len() - 1].offset();
        let read_one = |name: Name| async move {
            let failed = |source| (name, SnapshotError::store(partition, "read")(source));
            let object = self.store.get(&path(partition, name)).await.map_err(failed)?;
            Ok((name, object.bytes().await.map_err(failed)?))
        };
        let reads: Vec<_> = chain.iter().copied().map(read_one).collect();
        let read: Vec<(Name, Bytes)> = futures_util::stream::iter(reads).buffered(READS).try_collect().await?;
        if let [(name @ Name::Whole { .. }, bytes)] = read.as_slice() {
            let content =
                whole(bytes.clone()).map_err(|damage| (*name, SnapshotError::damaged(partition, *name)(damage)))?;
            return Ok(Restored { offset, content: Content::Whole(content), position: Position::default() });
        }
        let checked = tokio::task::spawn_blocking(move || check(read)).await;
        let checked = checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let files = checked.map_err(|(name, damage)| (name, SnapshotError::damaged(partition, name)(damage)))?;
        let position =
            Position { files: chain.iter().zip(&files).map(|(name, file)| (*name, file.frame.bytes())).collect() };
        Ok(Restored { offset, content: Content::Chain(Chain { files }), position })
    }

    /// Names of the files there are.
    async fn names(&self, partition: &TopicPartition) -> Result<Vec<Name>, SnapshotError> {
        let folder = folder(partition);
        let objects = self.store.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let objects = objects.map_err(SnapshotError::store(partition, "list"))?;
        Ok(objects.iter().filter_map(|object| Name::parse(object.location.filename()?)).collect())
    }
}

/// A state in one message, without its checksum.
fn whole(mut bytes: Bytes) -> Result<Bytes, Damage> {
    if bytes.len() < CHECKSUM_BYTES {
        return Err(Damage::Cut);
    }
    let checksum = bytes.split_off(bytes.len() - CHECKSUM_BYTES);
    if blake3::hash(&bytes).as_bytes() == checksum.as_ref() { Ok(bytes) } else { Err(Damage::Checksum) }
}

/// Checks every byte, on all cores.
fn check(read: Vec<(Name, Bytes)>) -> Result<Vec<File>, (Name, Damage)> {
    /// Pieces that a file is checked in.
    const PIECES: usize = 8;
    let open = |(name, bytes)| {
        let file = File::open(bytes).map_err(|damage| (name, damage))?;
        if is_named(&file.frame, name) { Ok((name, file)) } else { Err((name, Damage::Name)) }
    };
    let files: Vec<(Name, File)> = read.into_iter().map(open).collect::<Result<_, _>>()?;
    on_all_cores(files.len() * PIECES, |number| {
        let (name, file) = &files[number / PIECES];
        file.check(number % PIECES, PIECES).map_err(|damage| (*name, damage))
    })?;
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

fn is_named(frame: &file::Frame, name: Name) -> bool {
    match name {
        Name::Whole { .. } => false,
        Name::Base { place } => frame.place == place && frame.parent.is_none(),
        Name::Delta { place, parent } => frame.place == place && frame.parent == Some(parent),
    }
}

fn folder(partition: &TopicPartition) -> Path {
    Path::from_iter([partition.topic.as_ref(), &partition.partition.to_string()])
}

fn path(partition: &TopicPartition, name: Name) -> Path {
    folder(partition).join(name.to_string())
}
