//! Which event ids are known: the newest day's in a table, older days' where the archive puts them.

use std::collections::VecDeque;
use std::time::Duration;

use super::open_day::OpenDay;
use super::sealed_day::{Blocks, SealedDay, Sealing};
use super::shuffle::Shuffle;
use crate::limits::DEDUP_WINDOW;
use crate::time::{ReceivedAt, millis};

/// How long the log's time goes on before a day that could not be put away is tried again.
const TRY_AGAIN: Duration = Duration::from_hours(1);

/// How long ids are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// An id is known for at least this time of the log since it was claimed.
    pub window: Duration,
    /// What is claimed within one day of this length is forgotten at once: an id is known for up to a day more. At least
    /// 1 ms.
    pub day: Duration,
}

impl Memory {
    /// [`DEDUP_WINDOW`], in whole days.
    pub const USUAL: Self = Self { window: DEDUP_WINDOW, day: Duration::from_hours(24) };
}

/// Takes the ids of days that are over, to make room in memory.
pub trait Archive: std::fmt::Debug {
    /// Where it keeps a day.
    type Blocks: Blocks;

    /// Room for a day. `None`: it stays in memory.
    fn begin(&mut self, day: i64) -> Option<Self::Blocks>;

    /// A day could not be written and stays in memory; it is tried again an hour later.
    fn on_failure(&mut self, day: i64, error: <Self::Blocks as Blocks>::Error);
}

/// Why an archive's blocks cannot be written or read.
pub type BlocksError<A> = <<A as Archive>::Blocks as Blocks>::Error;

/// No archive: all days stay in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct InMemory;

/// Blocks that nobody has.
#[derive(Debug)]
pub enum NoBlocks {}

impl Archive for InMemory {
    type Blocks = NoBlocks;

    fn begin(&mut self, _day: i64) -> Option<NoBlocks> {
        None
    }

    fn on_failure(&mut self, _day: i64, error: std::convert::Infallible) {
        match error {}
    }
}

impl Blocks for NoBlocks {
    type Error = std::convert::Infallible;

    fn append(&mut self, _places: &[u64]) -> Result<(), Self::Error> {
        match *self {}
    }

    fn finish(&mut self) -> Result<(), Self::Error> {
        match *self {}
    }

    fn read(&self, _block: usize, _places: &mut Vec<u64>) -> Result<(), Self::Error> {
        match *self {}
    }
}

/// Ids of the days within the memory.
#[derive(Debug)]
pub(super) struct KnownIds<A: Archive> {
    memory: Memory,
    shuffle: Shuffle,
    /// The newest day: where claims go.
    newest: Option<(i64, OpenDay)>,
    /// Those before, newest first. None is empty.
    older: VecDeque<(i64, Day<A::Blocks>)>,
    /// The log's time at which the newest day, or the memory of the oldest, is over.
    turn_ms: i64,
    archive: A,
    /// An older day that is on its way into the archive.
    sealing: Option<(i64, Sealing<A::Blocks>)>,
    /// The log's time from which the next day may go there.
    seal_ms: i64,
    /// Memory that is not needed any more. Letting go of all at once would take too long.
    leaving: Vec<Box<[u64]>>,
}

#[derive(Debug)]
enum Day<B> {
    Open(OpenDay),
    Sealed(SealedDay<B>),
}

impl<B: Blocks> Day<B> {
    fn len(&self) -> usize {
        match self {
            Self::Open(day) => day.len(),
            Self::Sealed(day) => day.len(),
        }
    }

    fn may_have(&self, place: u64) -> bool {
        match self {
            Self::Open(day) => day.contains(place),
            Self::Sealed(day) => day.may_have(place),
        }
    }

    fn contains(&self, place: u64) -> Result<bool, B::Error> {
        match self {
            Self::Open(day) => Ok(day.contains(place)),
            Self::Sealed(day) => day.contains(place),
        }
    }
}

impl<A: Archive> KnownIds<A> {
    pub fn new(memory: Memory, archive: A) -> Self {
        assert!(millis(memory.day) > 0, "a day of {:?} is too short", memory.day);
        Self {
            memory,
            shuffle: Shuffle::secret(),
            newest: None,
            older: VecDeque::new(),
            turn_ms: i64::MIN,
            archive,
            sealing: None,
            seal_ms: i64::MAX,
            leaving: Vec::new(),
        }
    }

    /// With the ids of these days, newest first.
    pub fn restored<I: IntoIterator<Item = u64>>(mut self, days: impl IntoIterator<Item = (i64, I)>) -> Self {
        let shuffle = self.shuffle;
        let open = |keys: I| OpenDay::of(keys.into_iter().map(|key| shuffle.place(key)));
        let mut days = days.into_iter().map(|(number, keys)| (number, open(keys)));
        self.newest = days.next();
        self.older = days.filter(|(_, day)| day.len() > 0).map(|(number, day)| (number, Day::Open(day))).collect();
        self.seal_ms = i64::MIN;
        self
    }

    /// Older days go into this archive: those that there are now at once, the others as claims come.
    pub fn put_away_in(&mut self, archive: A) {
        self.archive = archive;
        self.seal_ms = i64::MIN;
        while self.seal_ms == i64::MIN || self.sealing.is_some() {
            self.seal_some(i64::MIN);
        }
        self.leaving.clear();
    }

    pub fn claim(&mut self, key: u64, now: ReceivedAt) -> Result<bool, BlocksError<A>> {
        if now.0 >= self.turn_ms {
            self.turn(now);
        }
        if self.sealing.is_some() || now.0 >= self.seal_ms {
            self.seal_some(now.0);
        }
        self.leaving.pop();
        let place = self.shuffle.place(key);
        // All at once: their cache misses overlap. Nearly always none has it.
        if self.older.iter().fold(false, |may, (_, day)| may | day.may_have(place)) {
            for (_, day) in &self.older {
                if day.contains(place)? {
                    return Ok(false);
                }
            }
        }
        let (_, newest) = self.newest.as_mut().expect("a day has begun");
        Ok(newest.insert(place))
    }

    /// A day begins, or the memory of one is over.
    fn turn(&mut self, now: ReceivedAt) {
        let day_ms = millis(self.memory.day);
        let today = now.0.div_euclid(day_ms);
        if self.newest.as_ref().is_none_or(|(number, _)| *number < today)
            && let Some((number, day)) = self.newest.replace((today, OpenDay::new()))
            && day.len() > 0
        {
            self.older.push_front((number, Day::Open(day)));
            self.seal_ms = self.seal_ms.min(now.0);
        }
        let oldest = now.minus(self.memory.window).0.div_euclid(day_ms);
        while self.older.back().is_some_and(|(number, _)| *number < oldest) {
            let Some((number, day)) = self.older.pop_back() else { break };
            self.sealing.take_if(|(sealing, _)| *sealing == number);
            if let Day::Open(day) = day {
                self.leaving.extend(day.into_pieces());
            }
        }
        let newest = self.newest.as_ref().map_or(today, |(number, _)| *number);
        let end_of = |number: i64| (number + 1).saturating_mul(day_ms);
        let forgotten = self.older.back().map(|(number, _)| end_of(*number).saturating_add(millis(self.memory.window)));
        self.turn_ms = end_of(newest).min(forgotten.unwrap_or(i64::MAX));
    }

    /// One block of an older day goes into the archive, or the next such day begins to.
    fn seal_some(&mut self, now_ms: i64) {
        let later = now_ms.saturating_add(millis(TRY_AGAIN));
        let Some((number, sealing)) = &mut self.sealing else {
            let open = self.older.iter().rev().find_map(|(number, day)| match day {
                Day::Open(day) => Some((*number, day)),
                Day::Sealed(_) => None,
            });
            let Some((number, day)) = open else {
                self.seal_ms = i64::MAX;
                return;
            };
            match self.archive.begin(number) {
                Some(blocks) => self.sealing = Some((number, Sealing::begin(day, blocks))),
                None => self.seal_ms = later,
            }
            return;
        };
        let day = self.older.iter_mut().find(|(older, _)| older == number);
        let Some((_, day @ Day::Open(_))) = day else { unreachable!("day {number} is not open") };
        let Day::Open(open) = &*day else { unreachable!("just looked at") };
        match sealing.go_on(open) {
            Ok(false) => {}
            Ok(true) => {
                let (_, sealing) = self.sealing.take().expect("just looked at");
                if let Day::Open(open) = std::mem::replace(day, Day::Sealed(sealing.finish())) {
                    self.leaving.extend(open.into_pieces());
                }
            }
            Err(error) => {
                let number = *number;
                self.sealing = None;
                self.seal_ms = later;
                self.archive.on_failure(number, error);
            }
        }
    }

    pub fn len(&self) -> usize {
        let newest = self.newest.as_ref().map_or(0, |(_, day)| day.len());
        newest + self.older.iter().map(|(_, day)| day.len()).sum::<usize>()
    }

    /// The days that there are, newest first.
    pub fn days(&self) -> impl Iterator<Item = i64> {
        self.newest.iter().map(|(number, _)| *number).chain(self.older.iter().map(|(number, _)| *number))
    }

    /// All ids with their days, oldest day first.
    pub fn all(&self) -> Result<Vec<(i64, Vec<u64>)>, BlocksError<A>> {
        let open = |day: &OpenDay| {
            let mut walk = Default::default();
            std::iter::from_fn(|| day.next(&mut walk)).map(|place| self.shuffle.key(place)).collect()
        };
        let mut all = Vec::new();
        for (number, day) in self.older.iter().rev() {
            let keys = match day {
                Day::Open(day) => open(day),
                Day::Sealed(day) => {
                    let mut keys = Vec::with_capacity(day.len());
                    day.for_each(|place| keys.push(self.shuffle.key(place)))?;
                    keys
                }
            };
            all.push((*number, keys));
        }
        all.extend(self.newest.iter().map(|(number, day)| (*number, open(day))));
        Ok(all)
    }
}
