//! A new base out of a chain's files: their entries added up, some buckets at a time.
//!
//! A function of the files alone: whoever makes it of the same files makes the same bytes under the same name, so it does
//! not matter if two owners do, and the partition itself goes on meanwhile.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectStoreExt, WriteMultipart};
use trackway_eventlog::TopicPartition;
use trackway_wire::log::pb;

use super::changes::{BUCKETS, merge};
use super::file::{self, Damage, Frame};
use super::{Name, READS, SnapshotError, Snapshots, is_named, path};

/// Bytes of all files' buckets that are merged at a time: with what comes out of them, twice that is in memory.
const MERGED_BYTES: u64 = 32 << 20;

/// Bytes of one part of an upload. S3 takes no less than 5 MiB, but for the last.
const UPLOAD_BYTES: usize = 8 << 20;

/// Parts of an upload that are under way at most.
const UPLOADS: usize = 2;

impl Snapshots {
    /// Makes the base that stands for the state at the end of `chain`, and answers with its name and bytes.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing was changed then.
    pub(super) async fn make_base(
        &self,
        partition: &TopicPartition,
        chain: &[Name],
    ) -> Result<(Name, u64), SnapshotError> {
        let last = chain[chain.len() - 1];
        let place = match last {
            Name::Whole { .. } => unreachable!("a chain of entries"),
            Name::Base { place } | Name::Delta { place, .. } => place,
        };
        let reads: Vec<_> = chain.iter().map(|&name| self.frame(partition, name)).collect();
        let frames: Vec<(Name, Frame)> = futures_util::stream::iter(reads).buffered(READS).try_collect().await?;
        let stands_for = place.id.to_be_bytes().to_vec().into();
        let first = file::begin(&pb::SnapshotHeader { offset: place.offset, parent: None, stands_for });
        let name = Name::Base { place };
        let failed = SnapshotError::store(partition, "write");
        let upload = self.store.put_multipart(&path(partition, name)).await.map_err(&failed)?;
        let mut out = Out { upload: WriteMultipart::new_with_chunk_size(upload, UPLOAD_BYTES), at: 0 };
        let made = async {
            out.put(first.clone()).await.map_err(&failed)?;
            let (name, frame) = &frames[frames.len() - 1];
            let head = self
                .range(partition, *name, file::range(&frame.head).map_err(SnapshotError::damaged(partition, *name))?)
                .await?;
            let head = file::checked(&frame.head, head).map_err(SnapshotError::damaged(partition, *name))?;
            let mut index = pb::SnapshotIndex { head: Some(file::part(out.at, &head)), buckets: Vec::new() };
            out.put(head).await.map_err(&failed)?;
            while index.buckets.len() < BUCKETS {
                let buckets = some_buckets(&frames, index.buckets.len());
                for bucket in self.merged(partition, &frames, buckets).await? {
                    index.buckets.push(file::part(out.at, &bucket));
                    out.put(bucket.into()).await.map_err(&failed)?;
                }
            }
            out.put(file::end(&first, &index).0).await.map_err(&failed)
        };
        match made.await {
            Ok(()) => {
                out.upload.finish().await.map_err(&failed)?;
                Ok((name, out.at))
            }
            Err(error) => {
                // What was uploaded is no object yet; a store that keeps the pieces is told to drop them.
                out.upload.abort().await.ok();
                Err(error)
            }
        }
    }

    /// A file's frame, by its first and its last bytes.
    async fn frame(&self, partition: &TopicPartition, name: Name) -> Result<(Name, Frame), SnapshotError> {
        let begin = self.get(partition, name, GetRange::Bounded(0..Frame::BEGIN_BYTES)).await?;
        let end = self.get(partition, name, GetRange::Suffix(Frame::END_BYTES)).await?;
        let frame = Frame::read(&begin, &end).map_err(SnapshotError::damaged(partition, name))?;
        if !is_named(&frame, name) {
            return Err(SnapshotError::damaged(partition, name)(Damage::Name));
        }
        Ok((name, frame))
    }

    /// These buckets, each with the entries of all files added up.
    async fn merged(
        &self,
        partition: &TopicPartition,
        frames: &[(Name, Frame)],
        buckets: Range<usize>,
    ) -> Result<Vec<Vec<u8>>, SnapshotError> {
        let read = |(name, frame): &(Name, Frame)| {
            let name = *name;
            let parts = frame.buckets[buckets.clone()].to_vec();
            async move {
                // Buckets stand one after the other.
                let damaged = SnapshotError::damaged(partition, name);
                let begin = parts[0].begin;
                let end = file::range(&parts[parts.len() - 1]).map_err(&damaged)?.end;
                if begin >= end {
                    return Ok(vec![Bytes::new(); parts.len()]);
                }
                let bytes = self.range(partition, name, begin..end).await?;
                let mut rest = bytes;
                let split = |part: &pb::SnapshotPart| {
                    let bytes = usize::try_from(part.bytes).ok().filter(|&bytes| bytes <= rest.len());
                    Ok(rest.split_to(bytes.ok_or(Damage::Cut)?))
                };
                let parts: Result<Vec<Bytes>, Damage> = parts.iter().map(split).collect();
                parts.map_err(&damaged)
            }
        };
        let reads: Vec<_> = frames.iter().map(read).collect();
        let files: Vec<Vec<Bytes>> = futures_util::stream::iter(reads).buffered(READS).try_collect().await?;
        let lines: Vec<(Name, Vec<pb::SnapshotPart>)> =
            frames.iter().map(|(name, frame)| (*name, frame.buckets[buckets.clone()].to_vec())).collect();
        let work = move || {
            for ((name, parts), bytes) in lines.iter().zip(&files) {
                for (part, bytes) in parts.iter().zip(bytes) {
                    file::checked(part, bytes.clone()).map_err(|damage| (*name, damage))?;
                }
            }
            let newest = lines[lines.len() - 1].0;
            let merge = |bucket: usize| merge(files.iter().map(|file| file[bucket].as_ref()));
            (0..buckets.len()).map(|bucket| merge(bucket).map_err(|error| (newest, error.into()))).collect()
        };
        let merged: Result<Vec<Vec<u8>>, (Name, Damage)> = tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        merged.map_err(|(name, damage)| SnapshotError::damaged(partition, name)(damage))
    }

    async fn range(&self, partition: &TopicPartition, name: Name, range: Range<u64>) -> Result<Bytes, SnapshotError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.get(partition, name, GetRange::Bounded(range)).await
    }

    async fn get(&self, partition: &TopicPartition, name: Name, range: GetRange) -> Result<Bytes, SnapshotError> {
        let failed = SnapshotError::store(partition, "read");
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let object = self.store.get_opts(&path(partition, name), options).await.map_err(&failed)?;
        object.bytes().await.map_err(&failed)
    }
}

/// As many buckets, from `first` on, as may be merged at a time; at least one.
fn some_buckets(frames: &[(Name, Frame)], first: usize) -> Range<usize> {
    let bytes = |bucket: usize| frames.iter().map(|(_, frame)| frame.buckets[bucket].bytes).sum::<u64>();
    let mut sum = bytes(first);
    let mut end = first + 1;
    while end < BUCKETS && sum + bytes(end) <= MERGED_BYTES {
        sum += bytes(end);
        end += 1;
    }
    first..end
}

struct Out {
    upload: WriteMultipart,
    at: u64,
}

impl Out {
    async fn put(&mut self, bytes: Bytes) -> object_store::Result<()> {
        self.upload.wait_for_capacity(UPLOADS).await?;
        self.at += bytes.len() as u64;
        self.upload.put(bytes);
        Ok(())
    }
}
