//! The spool's files: a queue of appends that survives `kill -9`, and gives its space back as it empties.
//!
//! An append is one entry: length of the body (4 bytes), first 8 bytes of the body's BLAKE3, body. The body: length of the
//! topic's name (2), name, number of records (4), per record partition (4), received time (8), length (4), and last
//! the records' bytes one after the other; numbers are little-endian. So an append is there as a whole or not at all.
//!
//! Entries stand in *segments*, `NUMBER.spool`, numbered upwards. A segment is only ever written at its end and leaves as
//! a file once it is drained, so removing needs no space, and a write that failed for want of space is cut off again. This
//! is why the spool is no [`crate::embedded`] log: measured with fjall 3.1 on a full 40 MB disk, its store takes no write
//! after the first that failed until it is opened anew, and removing all its records gave back nothing of 28 MB.
//!
//! `drained` says up to where (segment, position and a checksum, 24 bytes, written over in place). It is not synced: what
//! a power cut takes of it is drained twice.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};

use crate::NewRecord;

const HEAD_BYTES: usize = 12;
const PROGRESS_BYTES: usize = 24;
/// What a record costs beside its bytes.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 16;

/// A place between two entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    pub segment: u64,
    pub at: u64,
}

/// A segment as far as it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u64,
    pub bytes: u64,
}

/// What is in the queue.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Oldest first. All but the first are undrained as a whole.
    pub segments: VecDeque<Segment>,
    /// Everything before it is drained.
    pub head: Position,
    /// The number that the next segment gets. None is used twice.
    pub next_number: u64,
    /// Records that are not drained.
    pub records: u64,
    /// Received time of the oldest record that is not drained; may lie a little before it.
    pub oldest_ms: Option<i64>,
}

impl Contents {
    /// Bytes that the segments take on disk, the drained ones of the first included.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Bytes that are not drained.
    pub fn undrained(&self) -> u64 {
        let first = self.segments.front().filter(|segment| segment.number == self.head.segment);
        self.bytes() - first.map_or(0, |_| self.head.at)
    }

    /// Records were written, which made `segment` the last one.
    pub fn grow(&mut self, segment: Segment, records: u64, oldest_ms: i64) {
        if self.segments.back().is_some_and(|last| last.number == segment.number) {
            self.segments.pop_back();
        } else {
            self.next_number = segment.number + 1;
            if self.segments.is_empty() {
                self.head = Position { segment: segment.number, at: 0 };
            }
        }
        self.segments.push_back(segment);
        self.records += records;
        self.oldest_ms.get_or_insert(oldest_ms);
    }

    /// The last segment's number.
    pub fn last(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.number)
    }

    /// Everything before `to` is drained; answers the segments that are of no more use.
    pub fn advance(&mut self, to: Position, records: u64, newest_ms: i64) -> Vec<u64> {
        self.head = to;
        self.records -= records;
        self.oldest_ms = (self.undrained() > 0).then_some(newest_ms);
        let gone = self.segments.iter().take_while(|segment| segment.number < to.segment).count();
        self.segments.drain(..gone).map(|segment| segment.number).collect()
    }

    /// Lets go of everything, which is drained.
    pub fn clear(&mut self) -> Vec<u64> {
        assert!(self.undrained() == 0 && self.records == 0, "{} records are not drained", self.records);
        self.oldest_ms = None;
        self.segments.drain(..).map(|segment| segment.number).collect()
    }
}

/// One append.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub topic: String,
    pub records: Vec<NewRecord>,
}

/// Entries that were read, and where the next one begins.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub entries: Vec<Entry>,
    pub end: Position,
}

/// Bytes that [`encode`] will make.
pub(super) fn encoded_len(topic: &str, records: &[NewRecord]) -> usize {
    let records: usize = records.iter().map(|record| record.value.len() + RECORD_OVERHEAD_BYTES).sum();
    HEAD_BYTES + 6 + topic.len() + records
}

/// Adds an entry to `out`.
pub(super) fn encode(topic: &str, records: &[NewRecord], out: &mut Vec<u8>) {
    out.reserve(encoded_len(topic, records));
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.extend_from_slice(&u16::try_from(topic.len()).expect("a topic has up to 200 bytes").to_le_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(&u32::try_from(records.len()).expect("fewer records than 2^32").to_le_bytes());
    for record in records {
        out.extend_from_slice(&record.partition.to_le_bytes());
        out.extend_from_slice(&record.timestamp_ms.to_le_bytes());
        out.extend_from_slice(&u32::try_from(record.value.len()).expect("16 MiB at most").to_le_bytes());
    }
    for record in records {
        out.extend_from_slice(&record.value);
    }
    let body = begin + HEAD_BYTES;
    let (length, sum) = (u32::try_from(out.len() - body).expect("an entry below 4 GiB"), checksum(&out[body..]));
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    out[begin + 4..body].copy_from_slice(&sum);
}

/// The entry at the beginning of `bytes`, which share their memory with it, and its length. `None` if it is not whole.
fn decode(bytes: &Bytes) -> Option<(Entry, usize)> {
    let length = body_len(bytes)?;
    let end = HEAD_BYTES.checked_add(length).filter(|end| *end <= bytes.len())?;
    let mut body = bytes.slice(HEAD_BYTES..end);
    if bytes[4..HEAD_BYTES] != checksum(&body) {
        return None;
    }
    let name = usize::from(body.try_get_u16_le().ok()?);
    let topic = String::from_utf8((name <= body.len()).then(|| body.split_to(name))?.to_vec()).ok()?;
    let count = body.try_get_u32_le().ok()? as usize;
    let mut table =
        (count <= body.len() / RECORD_OVERHEAD_BYTES).then(|| body.split_to(count * RECORD_OVERHEAD_BYTES))?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let (partition, timestamp_ms, length) = (table.get_u32_le(), table.get_i64_le(), table.get_u32_le() as usize);
        let value = (length <= body.len()).then(|| body.split_to(length))?;
        records.push(NewRecord { partition, timestamp_ms, value });
    }
    body.is_empty().then_some((Entry { topic, records }, end))
}

fn body_len(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    (bytes.len() >= HEAD_BYTES && length > 0).then_some(length as usize)
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    sum
}

/// A folder that this process has for itself.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// Another process uses the folder.
#[derive(Debug, thiserror::Error)]
#[error("another process has it open. Each gateway needs a spool folder of its own")]
struct InUse;

/// An entry that was read before, or written, cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("segment {segment} of the spool is damaged at byte {at}. The disk or a foreign program changed it")]
struct Damaged {
    segment: u64,
    at: u64,
}

impl Folder {
    /// Takes a folder, makes it if it is missing, and looks through all that is in it.
    pub fn open(path: &Path) -> io::Result<(Folder, Contents)> {
        fs::create_dir_all(path)?;
        let lock = File::options().create(true).append(true).open(path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other(InUse),
            TryLockError::Error(error) => error,
        })?;
        let folder = Folder { path: path.to_owned(), _lock: lock };
        let contents = folder.recover()?;
        Ok((folder, contents))
    }

    fn recover(&self) -> io::Result<Contents> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".spool")?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let head = self.progress();
        let next_number = numbers.last().map_or(0, |last| last + 1).max(head.segment + 1);
        let mut contents = Contents { head, next_number, ..Contents::default() };
        for number in numbers {
            let bytes = Bytes::from(fs::read(self.segment(number))?);
            let begin = if number == head.segment { (head.at as usize).min(bytes.len()) } else { 0 };
            let mut rest = if number < head.segment { Bytes::new() } else { bytes.slice(begin..) };
            while let Some((entry, length)) = decode(&rest) {
                contents.records += entry.records.len() as u64;
                let first = entry.records.first().map(|record| record.timestamp_ms);
                contents.oldest_ms = contents.oldest_ms.or(first);
                rest.advance(length);
            }
            if !rest.is_empty() {
                tracing::warn!(
                    segment = number,
                    bytes = rest.len(),
                    "spool segment ends in an append that was broken off; nobody was told that it was taken"
                );
            }
            let durable = bytes.len() - rest.len();
            if number < head.segment || durable == begin {
                fs::remove_file(self.segment(number))?;
            } else {
                contents.segments.push_back(Segment { number, bytes: durable as u64 });
            }
        }
        if contents.segments.front().is_none_or(|first| first.number != head.segment) {
            contents.head = contents.segments.front().map_or(head, |first| Position { segment: first.number, at: 0 });
        }
        Ok(contents)
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:020}.spool"))
    }

    /// The next entries, one at least if there is one, and no further one from `bytes_max` bytes on.
    pub fn read(&self, from: Position, segments: &VecDeque<Segment>, bytes_max: usize) -> io::Result<Chunk> {
        let mut chunk = Chunk { end: from, ..Chunk::default() };
        let Some(segment) = segments.iter().find(|segment| segment.number == from.segment) else { return Ok(chunk) };
        let left = (segment.bytes - from.at) as usize;
        let mut file = File::open(self.segment(segment.number))?;
        file.seek(SeekFrom::Start(from.at))?;
        let mut bytes = vec![0; left.min(bytes_max.max(HEAD_BYTES))];
        file.read_exact(&mut bytes)?;
        // The first one is read whole, whatever its size.
        let first = (HEAD_BYTES + body_len(&bytes).unwrap_or(0)).min(left);
        if first > bytes.len() {
            let have = bytes.len();
            bytes.resize(first, 0);
            file.read_exact(&mut bytes[have..])?;
        }
        let mut rest = Bytes::from(bytes);
        while let Some((entry, length)) = decode(&rest) {
            chunk.entries.push(entry);
            chunk.end.at += length as u64;
            rest.advance(length);
        }
        if chunk.entries.is_empty() && left > 0 {
            return Err(io::Error::other(Damaged { segment: from.segment, at: from.at }));
        }
        let next = segments.iter().find(|segment| segment.number > from.segment);
        if let Some(next) = next.filter(|_| chunk.end.at == segment.bytes) {
            chunk.end = Position { segment: next.number, at: 0 };
        }
        Ok(chunk)
    }

    /// Remembers that everything before `head` is drained, and removes segments.
    pub fn forget(&self, head: Position, gone: &[u64]) -> io::Result<()> {
        let mut progress = [0; PROGRESS_BYTES];
        progress[..8].copy_from_slice(&head.segment.to_le_bytes());
        progress[8..16].copy_from_slice(&head.at.to_le_bytes());
        let sum = checksum(&progress[..16]);
        progress[16..].copy_from_slice(&sum);
        let written = File::options().create(true).truncate(false).write(true).open(self.path.join("drained"));
        // Removed all the same when it cannot be written: that frees the space it wants.
        let written = written.and_then(|mut file| file.write_all(&progress));
        for number in gone {
            fs::remove_file(self.segment(*number))?;
        }
        written
    }

    fn progress(&self) -> Position {
        let bytes = fs::read(self.path.join("drained")).unwrap_or_default();
        let whole = bytes.len() == PROGRESS_BYTES && bytes[16..] == checksum(&bytes[..16]);
        if !whole {
            return Position::default();
        }
        let number = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().expect("eight bytes"));
        Position { segment: number(0), at: number(8) }
    }

    /// Topics with their partitions, as they were remembered.
    pub fn topics(&self) -> io::Result<Vec<(String, u32)>> {
        let text = match fs::read_to_string(self.path.join("topics")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let line = |line: &str| {
            let (partitions, name) = line.split_once(' ')?;
            Some((name.to_owned(), partitions.parse().ok()?))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// Remembers topics.
    pub fn save_topics(&self, topics: &[(String, u32)]) -> io::Result<()> {
        let text: String = topics.iter().map(|(name, partitions)| format!("{partitions} {name}\n")).collect();
        let part = self.path.join("topics.part");
        let mut file = File::create(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, self.path.join("topics"))?;
        self.sync()
    }

    /// Makes the names of files durable.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// The end that is written.
#[derive(Debug, Default)]
pub(super) struct Tail {
    open: Option<(Segment, File)>,
}

impl Tail {
    /// Writes entries and waits for the disk; answers the segment that has them, as it is then. When this fails nothing is
    /// there of them that the next write would stand behind.
    ///
    /// - `last`: the queue's last segment; another than the one written last means that that one is gone.
    /// - `next_number`: of the segment to begin if the open one is gone or has `segment_bytes`.
    pub fn write(
        &mut self,
        folder: &Folder,
        last: Option<u64>,
        next_number: u64,
        segment_bytes: u64,
        entries: &[u8],
    ) -> io::Result<Segment> {
        let goes_on = |(segment, _): &(Segment, File)| Some(segment.number) == last && segment.bytes < segment_bytes;
        let (mut segment, mut file) = match self.open.take().filter(goes_on) {
            Some(open) => open,
            None => {
                // One of this number is there if an earlier attempt could not even write its first entry.
                let file = File::options().create(true).truncate(true).write(true).open(folder.segment(next_number))?;
                folder.sync()?;
                (Segment { number: next_number, bytes: 0 }, file)
            }
        };
        match file.write_all(entries).and_then(|()| file.sync_data()) {
            Ok(()) => {
                segment.bytes += entries.len() as u64;
                self.open = Some((segment, file));
                Ok(segment)
            }
            Err(error) => {
                // What cannot be cut off stays behind the segment's end, where nobody reads; the next write goes elsewhere.
                let cut = file.set_len(segment.bytes).and_then(|()| file.seek(SeekFrom::Start(segment.bytes)));
                if cut.is_ok() && segment.bytes > 0 {
                    self.open = Some((segment, file));
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: u32, timestamp_ms: i64, value: &[u8]) -> NewRecord {
        NewRecord { partition, timestamp_ms, value: Bytes::copy_from_slice(value) }
    }

    fn encoded(topic: &str, records: &[NewRecord]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(topic, records, &mut out);
        assert_eq!(out.len(), encoded_len(topic, records));
        out
    }

    #[test]
    fn an_entry_decodes_to_itself_and_every_flipped_bit_is_noticed() {
        let records = vec![record(3, -7, b"hello"), record(u32::MAX, i64::MAX, b""), record(0, 0, &[9; 500])];
        let good = encoded("events", &records);
        let two = Bytes::from([good.clone(), good.clone()].concat());
        assert_eq!(decode(&two), Some((Entry { topic: "events".into(), records }, good.len())));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad.into()).is_none(), "bit {bit}");
        }
        for short in 0..good.len() {
            assert!(decode(&Bytes::copy_from_slice(&good[..short])).is_none(), "cut at {short}");
        }
    }

    /// Numbers as records, one per entry.
    fn write(folder: &Folder, contents: &mut Contents, tail: &mut Tail, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let entry = encoded("t", &[record(0, number as i64, number.to_string().as_bytes())]);
            let segment = tail.write(folder, contents.last(), contents.next_number, 200, &entry).expect("writes");
            contents.grow(segment, 1, number as i64);
        }
    }

    fn drain(folder: &Folder, contents: &mut Contents, bytes_max: usize) -> Vec<u64> {
        let chunk = folder.read(contents.head, &contents.segments, bytes_max).expect("reads");
        let records: Vec<_> = chunk.entries.into_iter().flat_map(|entry| entry.records).collect();
        let newest = records.last().map_or(0, |record| record.timestamp_ms);
        let gone = contents.advance(chunk.end, records.len() as u64, newest);
        folder.forget(contents.head, &gone).expect("forgets");
        let number = |record: &NewRecord| std::str::from_utf8(&record.value).expect("text").parse().expect("number");
        records.iter().map(number).collect()
    }

    fn files(folder: &Path) -> usize {
        let names = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".spool")).count()
    }

    #[test]
    fn a_queue_gives_back_in_order_what_it_took_and_frees_what_was_drained_also_when_reopened_anywhere() {
        for reopen_every in [1, 2, 3, 100] {
            let path = tempfile::tempdir().expect("folder");
            let (mut folder, mut contents) = Folder::open(path.path()).expect("opens");
            let mut tail = Tail::default();
            let (mut drained, mut written) = (Vec::new(), 0);
            for step in 1..60_u64 {
                write(&folder, &mut contents, &mut tail, written..written + step % 7);
                written += step % 7;
                drained.extend(drain(&folder, &mut contents, (step as usize * 37) % 150));
                if step % reopen_every == 0 {
                    let (records, undrained) = (contents.records, contents.undrained());
                    drop(folder);
                    (folder, contents) = Folder::open(path.path()).expect("opens again");
                    tail = Tail::default();
                    assert_eq!((contents.records, contents.undrained()), (records, undrained));
                    assert_eq!(contents.oldest_ms, (records > 0).then_some(drained.len() as i64));
                }
                assert_eq!(contents.records, written - drained.len() as u64);
                assert_eq!(files(path.path()), contents.segments.len());
            }
            while contents.records > 0 {
                drained.extend(drain(&folder, &mut contents, 1));
            }
            assert_eq!(drained, (0..written).collect::<Vec<_>>());
            let gone = contents.clear();
            folder.forget(contents.head, &gone).expect("forgets");
            assert_eq!((files(path.path()), contents.bytes()), (0, 0));
            // Numbers go on, so an old `drained` never means a new segment.
            write(&folder, &mut contents, &mut Tail::default(), 0..1);
            assert!(contents.head.segment > 0);
            assert_eq!(drain(&folder, &mut contents, 1), [0]);
        }
    }

    #[test]
    fn an_append_that_was_broken_off_is_left_out_and_nothing_before_it_is_lost() {
        let whole = encoded("t", &[record(0, 5, b"0")]);
        for cut in 0..whole.len() {
            let path = tempfile::tempdir().expect("folder");
            let (folder, mut contents) = Folder::open(path.path()).expect("opens");
            write(&folder, &mut contents, &mut Tail::default(), 0..2);
            let segment = contents.segments[0].number;
            let mut file = File::options().append(true).open(folder.segment(segment)).expect("opens");
            file.write_all(&whole[..cut]).expect("writes");
            drop(folder);
            let (folder, mut contents) = Folder::open(path.path()).expect("opens again");
            write(&folder, &mut contents, &mut Tail::default(), 2..3);
            let mut drained = drain(&folder, &mut contents, 1000);
            drained.extend(drain(&folder, &mut contents, 1000));
            assert_eq!(drained, [0, 1, 2], "cut at {cut}");
        }
    }

    #[test]
    fn a_folder_serves_one_at_a_time_and_remembers_topics() {
        let path = tempfile::tempdir().expect("folder");
        let (folder, _) = Folder::open(path.path()).expect("opens");
        let refused = Folder::open(path.path()).expect_err("in use");
        assert!(refused.to_string().contains("another process"), "{refused}");
        assert_eq!(folder.topics().expect("reads"), []);
        let topics = [("a.events".to_owned(), 4), ("rejected".to_owned(), 1)];
        folder.save_topics(&topics).expect("writes");
        drop(folder);
        assert_eq!(Folder::open(path.path()).expect("free").0.topics().expect("reads"), topics);
    }
}
