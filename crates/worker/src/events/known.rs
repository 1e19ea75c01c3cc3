//! Ids of days that are over, in files.
//!
//! A file has no name: it is taken out of its folder as soon as it is made, and the system gives its room back when
//! nobody holds it any more, also after a crash. Nothing reads a file that another process wrote: after a restart the
//! snapshot says what is known, and files are made anew. So a file need not be synced, and its room is 8 bytes an id.
//!
//! A file that cannot be written changes nothing but memory: the day stays there. One that cannot be read, or whose
//! checksum is wrong, stops the partition: what it would have answered nobody knows, and a guess would lose an event or
//! count it twice. The next owner makes it anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use trackway_domain::dedup::{Archive, Blocks};

/// Bytes that are written at a time: some ten blocks.
const WRITE_BYTES: usize = 32 << 10;

/// Bytes of the checksum after a block: of BLAKE3's, enough to tell what a disk does by accident.
const CHECKSUM_BYTES: usize = 8;

/// Why it cannot be said which ids of a day are known.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// The file system did not do what it was asked.
    #[error("cannot {what} ids of day {day} (days since 1970) in a file of `{}`", folder.display())]
    File {
        /// Words that follow "cannot".
        what: &'static str,
        /// Which day.
        day: i64,
        /// Where the file is.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A block is not what was written.
    #[error(
        "ids of day {day} (days since 1970) in a file of `{}` are damaged. The file is made anew when the worker starts \
         again; look after the disk",
        folder.display()
    )]
    Damaged {
        /// Which day.
        day: i64,
        /// Where the file is.
        folder: PathBuf,
    },
}

/// A folder for the files of one partition; or none, and then days stay in memory.
#[derive(Debug, Default)]
pub struct DayFiles {
    folder: Option<PathBuf>,
    partition: u32,
}

impl DayFiles {
    /// The folder is made when the first file is.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, partition: u32) -> Self {
        Self { folder, partition }
    }
}

impl Archive for DayFiles {
    type Blocks = DayFile;

    fn begin(&mut self, day: i64) -> Option<DayFile> {
        let folder = self.folder.clone()?;
        match nameless_file(&folder, &format!("{}-{day}", self.partition)) {
            Ok(file) => Some(DayFile { day, folder, file, written: 0, unwritten: Vec::new(), ends: Vec::new() }),
            Err(source) => {
                self.on_failure(day, KnownError::File { what: "make a file for", day, folder, source });
                None
            }
        }
    }

    fn on_failure(&mut self, day: i64, error: KnownError) {
        metrics::counter!("worker_id_file_errors_total").increment(1);
        let (partition, error) = (self.partition, &error as &dyn std::error::Error);
        tracing::warn!(partition, day, error, "ids of a day stay in memory, another try follows in an hour");
    }
}

/// Blocks of one day: places and a checksum each, one after the other.
#[derive(Debug)]
pub struct DayFile {
    day: i64,
    folder: PathBuf,
    file: File,
    /// Bytes in the file.
    written: u64,
    /// Bytes that go behind them.
    unwritten: Vec<u8>,
    /// Where each block ends.
    ends: Vec<u64>,
}

impl DayFile {
    fn flush(&mut self) -> Result<(), KnownError> {
        self.file.write_all_at(&self.unwritten, self.written).map_err(|source| self.failed("write", source))?;
        self.written += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(())
    }

    fn failed(&self, what: &'static str, source: io::Error) -> KnownError {
        KnownError::File { what, day: self.day, folder: self.folder.clone(), source }
    }
}

impl Blocks for DayFile {
    type Error = KnownError;

    fn append(&mut self, places: &[u64]) -> Result<(), KnownError> {
        let begin = self.unwritten.len();
        places.iter().for_each(|place| self.unwritten.extend_from_slice(&place.to_le_bytes()));
        let checksum = checksum(self.ends.len(), &self.unwritten[begin..]);
        self.unwritten.extend_from_slice(&checksum);
        self.ends.push(self.written + self.unwritten.len() as u64);
        if self.unwritten.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), KnownError> {
        self.flush()?;
        self.unwritten = Vec::new();
        self.ends.shrink_to_fit();
        Ok(())
    }

    fn read(&self, block: usize, places: &mut Vec<u64>) -> Result<(), KnownError> {
        let begin = block.checked_sub(1).map_or(0, |before| self.ends[before]);
        let mut bytes = vec![0; usize::try_from(self.ends[block] - begin).expect("a block is small")];
        self.file.read_exact_at(&mut bytes, begin).map_err(|source| self.failed("read", source))?;
        let (values, sum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if checksum(block, values) != sum {
            return Err(KnownError::Damaged { day: self.day, folder: self.folder.clone() });
        }
        places.clear();
        places.extend(values.chunks_exact(8).map(|place| u64::from_le_bytes(place.try_into().expect("8 bytes"))));
        Ok(())
    }
}

/// Of a block and its number: a block in another's place is wrong too.
fn checksum(block: usize, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(block as u64).to_le_bytes()).update(bytes);
    let mut sum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// A file that only its holder knows of.
fn nameless_file(folder: &Path, name: &str) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(name);
    loop {
        // What a crash left, or what another holder is about to take away itself.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                return match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    Ok(()) | Err(_) => Ok(file),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trackway_domain::dedup::{KnownEvents, Memory};
    use trackway_domain::event::KeySource;
    use trackway_domain::id::EventKey;
    use trackway_domain::time::ReceivedAt;

    const DAY_MS: i64 = 24 * 3600 * 1000;

    fn written(folder: &Path, blocks: &[Vec<u64>]) -> DayFile {
        let mut file = DayFiles::new(Some(folder.to_owned()), 0).begin(7).expect("a file");
        blocks.iter().for_each(|block| file.append(block).expect("written"));
        file.finish().expect("written");
        file
    }

    proptest! {
        #[test]
        fn blocks_are_read_back_in_any_order(
            blocks in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..400), 1..20),
            asked in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let file = written(folder.path(), &blocks);
            let mut places = Vec::new();
            for block in asked.iter().map(|index| index.index(blocks.len())) {
                file.read(block, &mut places).expect("it is read");
                prop_assert_eq!(&places, &blocks[block]);
            }
        }

        #[test]
        fn a_byte_that_is_not_what_was_written_is_noticed(place in any::<prop::sample::Index>(), flip in 1_u8..) {
            let folder = tempfile::tempdir().expect("a folder");
            let file = written(folder.path(), &[vec![1, 2], vec![3], vec![4, 5, 6]]);
            let place = place.index(file.written as usize);
            let mut byte = [0];
            file.file.read_exact_at(&mut byte, place as u64).expect("it is read");
            file.file.write_all_at(&[byte[0] ^ flip], place as u64).expect("it is harmed");
            let block = file.ends.partition_point(|end| *end <= place as u64);
            for n in 0..3 {
                let read = file.read(n, &mut Vec::new());
                prop_assert_eq!(matches!(read, Err(KnownError::Damaged { day: 7, .. })), n == block, "{:?}", read);
            }
        }
    }

    #[test]
    fn a_file_that_ends_early_and_a_block_in_anothers_place_are_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = written(folder.path(), &[vec![1], vec![2]]);
        let mut first = [0; 16];
        file.file.read_exact_at(&mut first, 0).expect("it is read");
        file.file.write_all_at(&first, 16).expect("it is harmed");
        assert!(matches!(file.read(1, &mut Vec::new()), Err(KnownError::Damaged { .. })));
        file.file.set_len(20).expect("it is cut");
        assert!(matches!(file.read(1, &mut Vec::new()), Err(KnownError::File { what: "read", .. })));
    }

    #[test]
    fn files_have_no_names_and_one_that_a_crash_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("0-7"), "left").expect("written");
        let (one, other) = (written(folder.path(), &[vec![1]]), written(folder.path(), &[vec![2]]));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        let mut places = Vec::new();
        for (file, expected) in [(one, 1), (other, 2)] {
            file.read(0, &mut places).expect("it is read");
            assert_eq!(places, [expected]);
        }
    }

    fn claim(known: &mut KnownEvents<DayFiles>, key: u64, day: i64) -> Result<bool, KnownError> {
        let now = ReceivedAt(day * DAY_MS);
        known.claim(EventKey(key), KeySource::Id, now, now)
    }

    #[test]
    fn claims_over_days_in_files_equal_a_set() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = || DayFiles::new(Some(folder.path().to_owned()), 0);
        let mut known = KnownEvents::new(Memory::USUAL, files());
        let mut all = std::collections::BTreeSet::new();
        // Some blocks a day; each day half of the day before comes again.
        for day in 0..6 {
            for n in 0..2_000 {
                let key = (n + day as u64 * 1_000).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                assert_eq!(claim(&mut known, key, day).expect("it is read"), all.insert(key), "{n} on day {day}");
            }
        }
        // And once more after a restart from all that it knows.
        known.start_over().expect("it is read");
        let ids = known.take_claimed().ids;
        let mut known = KnownEvents::new(Memory::USUAL, files()).restored(ids.into_iter().rev(), []);
        known.put_away_in(files());
        assert_eq!(known.len(), all.len());
        assert!(all.iter().all(|&key| !claim(&mut known, key, 6).expect("it is read")));
    }

    #[test]
    fn a_folder_that_cannot_be_written_leaves_days_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let no_folder = folder.path().join("file");
        std::fs::write(&no_folder, "").expect("written");
        let mut known = KnownEvents::new(Memory::USUAL, DayFiles::new(Some(no_folder), 0));
        for day in 0..4 {
            assert!(
                (0..100)
                    .all(|n| claim(&mut known, n + day as u64 * 50, day).expect("in memory") == (day == 0 || n >= 50))
            );
        }
    }
}
