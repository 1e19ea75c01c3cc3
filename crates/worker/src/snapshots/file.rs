//! One snapshot as a file: magic and version, header, head, buckets, index, checksum.
//!
//! The checksum at the end covers the header and the index, and the index has a checksum of every part: so all is covered,
//! while parts can be read alone and checked by several cores at once.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use trackway_wire::log::pb;

use super::changes::{BUCKETS, Changes};

/// First bytes of every file; the last is the version of the layout.
const MAGIC: [u8; 8] = *b"TWSTATE\x01";

/// Bytes of a BLAKE3 checksum.
const CHECKSUM_BYTES: usize = 32;

/// What stands at the end: bytes of the index, then the checksum.
const TAIL_BYTES: usize = 4 + CHECKSUM_BYTES;

/// A state: after which record, and of which file (the first bytes of its checksum). Two owners of one partition may both
/// write a state of one offset; these have different ids, and each has its own followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub offset: u64,
    pub id: u128,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is no snapshot, or only a piece of one.
    #[error("the file ends too early or is no snapshot")]
    Cut,
    /// Written by a version that this program does not know.
    #[error("the file has version {0}, this program reads version 1. Upgrade it")]
    Version(u8),
    /// Some bytes are not those that were written.
    #[error("a checksum does not match")]
    Checksum,
    /// It is whole, and not the state that its name says.
    #[error("the file holds another state than its name says")]
    Name,
    /// It is whole, and what it holds makes no sense.
    #[error("the file cannot be read")]
    Content(#[from] trackway_wire::log::DecodeError),
}

/// Begins a file: magic and header.
pub(super) fn begin(header: &pb::SnapshotHeader) -> Bytes {
    let mut out = BytesMut::with_capacity(MAGIC.len() + 4 + header.encoded_len());
    out.put_slice(&MAGIC);
    out.put_u32_le(u32::try_from(header.encoded_len()).expect("a small header"));
    header.encode(&mut out).expect("the buffer grows");
    out.freeze()
}

/// Ends a file: index and checksum. With the first bytes of the latter.
pub(super) fn end(begin: &[u8], index: &pb::SnapshotIndex) -> (Bytes, u128) {
    let mut out = BytesMut::with_capacity(index.encoded_len() + TAIL_BYTES);
    index.encode(&mut out).expect("the buffer grows");
    let checksum = checksum(begin, &out);
    out.put_u32_le(u32::try_from(out.len()).expect("a small index"));
    out.put_slice(&checksum);
    (out.freeze(), id(&checksum))
}

/// A part's line in the index.
pub(super) fn part(begin: u64, bytes: &[u8]) -> pb::SnapshotPart {
    let checksum = blake3::hash(bytes).as_bytes().to_vec().into();
    pb::SnapshotPart { begin, bytes: bytes.len() as u64, checksum }
}

fn checksum(begin: &[u8], index: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(begin).update(index);
    *hasher.finalize().as_bytes()
}

fn id(checksum: &[u8; CHECKSUM_BYTES]) -> u128 {
    u128::from_be_bytes(checksum[..16].try_into().expect("16 bytes"))
}

/// The file of these changes in pieces, one after the other, and the state that it makes.
pub(super) fn encode(offset: u64, parent: Option<Place>, changes: Changes) -> (Vec<Bytes>, Place) {
    let parent = parent.map(|place| place_to_pb(&place));
    let first = begin(&pb::SnapshotHeader { offset, parent, stands_for: Bytes::new() });
    let (head, buckets) = changes.into_parts();
    let mut at = first.len() as u64;
    let mut place = |bytes: &Bytes| {
        let part = part(at, bytes);
        at += part.bytes;
        part
    };
    let index = pb::SnapshotIndex { head: Some(place(&head)), buckets: buckets.iter().map(&mut place).collect() };
    let (last, id) = end(&first, &index);
    let pieces = [first, head].into_iter().chain(buckets).chain([last]).filter(|piece| !piece.is_empty());
    (pieces.collect(), Place { offset, id })
}

fn place_to_pb(place: &Place) -> pb::SnapshotPlace {
    pb::SnapshotPlace { offset: place.offset, id: place.id.to_be_bytes().to_vec().into() }
}

fn place_from_pb(place: &pb::SnapshotPlace) -> Result<Place, Damage> {
    let id: [u8; 16] = place.id.as_ref().try_into().map_err(|_| Damage::Cut)?;
    Ok(Place { offset: place.offset, id: u128::from_be_bytes(id) })
}

/// A file's frame: what it is, and where its parts are.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// The state that it makes or stands for.
    pub place: Place,
    /// The state that it continues. `None`: a base.
    pub parent: Option<Place>,
    pub head: pb::SnapshotPart,
    pub buckets: Vec<pb::SnapshotPart>,
}

impl Frame {
    /// Bytes from the end of a file that certainly have its index.
    pub const END_BYTES: u64 = 16 << 10;

    /// Bytes from the beginning of a file that certainly have its header.
    pub const BEGIN_BYTES: u64 = 1 << 10;

    /// From the first and the last bytes of a file.
    pub fn read(begin: &[u8], end: &[u8]) -> Result<Self, Damage> {
        let mut rest = begin;
        let magic = rest.split_off(..MAGIC.len()).ok_or(Damage::Cut)?;
        if magic[..7] != MAGIC[..7] {
            return Err(Damage::Cut);
        }
        if magic[7] != MAGIC[7] {
            return Err(Damage::Version(magic[7]));
        }
        let bytes = rest.try_get_u32_le().map_err(|_| Damage::Cut)? as usize;
        let header_bytes = rest.split_off(..bytes).ok_or(Damage::Cut)?;
        let begin = &begin[..begin.len() - rest.len()];
        let (before, mut tail) = end.split_at_checked(end.len().saturating_sub(TAIL_BYTES)).ok_or(Damage::Cut)?;
        let bytes = tail.try_get_u32_le().map_err(|_| Damage::Cut)? as usize;
        let (_, index) = before.split_at_checked(before.len().wrapping_sub(bytes)).ok_or(Damage::Cut)?;
        let expected: [u8; CHECKSUM_BYTES] = tail.try_into().map_err(|_| Damage::Cut)?;
        if checksum(begin, index) != expected {
            return Err(Damage::Checksum);
        }
        let header = pb::SnapshotHeader::decode(header_bytes).map_err(|_| Damage::Cut)?;
        let index = pb::SnapshotIndex::decode(index).map_err(|_| Damage::Cut)?;
        if index.buckets.len() != BUCKETS {
            return Err(Damage::Cut);
        }
        let id = match header.stands_for.as_ref() {
            [] => id(&expected),
            other => u128::from_be_bytes(other.try_into().map_err(|_| Damage::Cut)?),
        };
        Ok(Self {
            place: Place { offset: header.offset, id },
            parent: header.parent.as_ref().map(place_from_pb).transpose()?,
            head: index.head.ok_or(Damage::Cut)?,
            buckets: index.buckets,
        })
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.head.bytes + self.buckets.iter().map(|part| part.bytes).sum::<u64>()
    }
}

/// Where a part stands in its file.
pub(super) fn range(part: &pb::SnapshotPart) -> Result<std::ops::Range<u64>, Damage> {
    let end = part.begin.checked_add(part.bytes).ok_or(Damage::Cut)?;
    Ok(part.begin..end)
}

/// A part's bytes as they were written, or the damage.
pub(super) fn checked(part: &pb::SnapshotPart, bytes: Bytes) -> Result<Bytes, Damage> {
    if bytes.len() as u64 != part.bytes {
        return Err(Damage::Cut);
    }
    if blake3::hash(&bytes).as_bytes() != part.checksum.as_ref() {
        return Err(Damage::Checksum);
    }
    Ok(bytes)
}

/// A whole file in memory, checked.
#[derive(Debug, Clone)]
pub struct File {
    pub(super) frame: Frame,
    bytes: Bytes,
}

impl File {
    /// Checks its frame; the parts are checked by [`Self::check`].
    pub(super) fn open(bytes: Bytes) -> Result<Self, Damage> {
        let frame = Frame::read(&bytes, &bytes)?;
        Ok(Self { frame, bytes })
    }

    /// Checks every `of`th part from the `nth` on.
    pub(super) fn check(&self, nth: usize, of: usize) -> Result<(), Damage> {
        let parts = std::iter::once(&self.frame.head).chain(&self.frame.buckets);
        for part in parts.skip(nth).step_by(of) {
            checked(part, self.part(part)?)?;
        }
        Ok(())
    }

    fn part(&self, part: &pb::SnapshotPart) -> Result<Bytes, Damage> {
        let range = range(part)?;
        if range.end > self.bytes.len() as u64 {
            return Err(Damage::Cut);
        }
        Ok(self.bytes.slice(range.start as usize..range.end as usize))
    }

    /// The small part.
    pub(super) fn head(&self) -> Bytes {
        self.part(&self.frame.head).expect("checked before")
    }

    /// A bucket.
    pub(super) fn bucket(&self, number: usize) -> Bytes {
        self.part(&self.frame.buckets[number]).expect("checked before")
    }
}
