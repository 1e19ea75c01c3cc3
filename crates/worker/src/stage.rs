//! What the two stages share: a partition as a pure function of its records.
//!
//! [`Core`] cuts time: it decides, from the records alone, where a block for ClickHouse and where a flush of derived
//! records ends, so that a replay cuts at the same places. A [`Stage`] decides what a record means.

use bytes::Bytes;
use trackway_domain::rules::PartitionRules;
use trackway_domain::time::{ReceivedAt, Watermark};
use trackway_eventlog::Record;
use trackway_wire::log::DecodeError;

use crate::WorkerError;
use crate::clock::PartitionClock;
use crate::rejected;
use crate::snapshots::changes::Changes;

/// What a record turned out to be.
#[derive(Debug)]
pub enum Decoded<B> {
    /// Time has passed.
    Tick,
    /// Other rules hold from here on.
    Rules(PartitionRules),
    /// For the stage.
    Body(B),
}

/// Where a derived record goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// Which topic.
    pub target: Target,
    /// Which partition of it.
    pub partition: u32,
    /// The record.
    pub value: Bytes,
}

/// Topics that workers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// `journeys`
    Journeys,
    /// `audience-changes`
    AudienceChanges,
    /// `rejected`
    Rejected,
}

/// Where the records of one flush come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushRange {
    /// First record.
    pub first: u64,
    /// Last record.
    pub last: u64,
}

/// Meaning of one topic's records.
pub trait Stage: Send + 'static {
    /// A record's body. It may borrow from the record.
    type Body<'a>;
    /// Rows for the tables, collected until a block is cut.
    type Rows: Default + Send + 'static;

    /// Reads a record.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that nobody here wrote.
    fn decode(value: &Bytes) -> Result<Decoded<Self::Body<'_>>, DecodeError>;

    /// Applies one body. `clock` has the record's received time already; the stage tells it of event times.
    ///
    /// - `received`: the record's own received time, which the clock's may be past.
    fn on_body(&mut self, offset: u64, received: ReceivedAt, body: Self::Body<'_>, clock: &mut PartitionClock);

    /// Time has passed without an event.
    fn on_tick(&mut self, clock: &PartitionClock);

    /// Rules change from `old` to the clock's.
    fn on_rules(&mut self, old: &PartitionRules, clock: &PartitionClock);

    /// Rows collected so far.
    fn rows(&self) -> usize;

    /// Gives the derived records collected since the last flush.
    fn flush(&mut self, range: FlushRange) -> Vec<Derived>;

    /// Closes the block: gives its rows and the derived records that tell of them, and lets go of state that is no longer
    /// held.
    ///
    /// - `last`: offset of its last record.
    fn take_rows(&mut self, last: u64, clock: &PartitionClock) -> (Self::Rows, Vec<Derived>);

    /// Received time at which a tick would have an effect although nothing else waits.
    fn next_due(&self, clock: &PartitionClock) -> Option<ReceivedAt>;

    /// A snapshot of the state as it is now, right after a block was closed, begins. This takes no time to speak of.
    fn begin_snapshot(&mut self, clock: &PartitionClock);

    /// Puts some more of the snapshot that has begun, `entries_max` at most; gives it when it is complete. Records may be
    /// applied meanwhile: they are not in it.
    fn go_on_with_snapshot(&mut self, entries_max: usize) -> Option<Changes>;

    /// The next snapshot is to be a base: what was written before it cannot be built upon.
    fn start_over(&mut self);

    /// Why the state must not be used any more, if that is so: nothing that was decided since it was last asked for may
    /// leave the partition, and its owner makes it anew from a snapshot.
    fn failure(&mut self) -> Option<WorkerError> {
        None
    }

    /// Numbers for gauges: name and value.
    fn sizes(&self) -> Vec<(&'static str, usize)>;
}

/// What the world is asked to do.
#[derive(Debug)]
pub enum Effect<R> {
    /// Append derived records, in order.
    Append(Vec<Derived>),
    /// Insert a block, after all appends before it.
    Block(Block<R>),
    /// Write a snapshot, after all blocks before it, and commit.
    Snapshot(Snapshot),
}

/// A snapshot to be written.
#[derive(Debug)]
pub struct Snapshot {
    /// The record after the last that it knows.
    pub end: u64,
    /// Received time at its end.
    pub log_time: ReceivedAt,
    /// What changed since the one before.
    pub changes: Changes,
}

/// One block for the tables.
#[derive(Debug)]
pub struct Block<R> {
    /// First record in it, with its timestamp: together they name the block, also after a topic was made anew.
    pub first: (u64, i64),
    /// The record after the last in it.
    pub end: u64,
    /// Its rows.
    pub rows: R,
    /// Watermark at its end.
    pub watermark: Watermark,
    /// Received time at its end.
    pub log_time: ReceivedAt,
}

/// When to take snapshots. It changes how much is replayed after a crash, and no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPace {
    /// Received time between two.
    pub time_ms: i64,
    /// Records between two at most.
    pub records: u64,
}

/// One partition: its stage, its clock and what is open.
#[derive(Debug)]
pub struct Core<S: Stage> {
    stage: S,
    clock: PartitionClock,
    /// The next record to apply.
    next: u64,
    /// First record of the open block, its timestamp, and the log time when it began.
    block: Option<(u64, i64, ReceivedAt)>,
    /// First record of the open flush, the last so far, and the log time when it began.
    flush: Option<(u64, u64, ReceivedAt)>,
    pace: SnapshotPace,
    snapshot_time: ReceivedAt,
    snapshot_next: u64,
    snapshot_wanted: bool,
    /// The snapshot that is being put together: its end and log time.
    saving: Option<(u64, ReceivedAt)>,
    /// Snapshots handed out that are not yet known to be written.
    unwritten: u64,
    start_over: bool,
}

impl<S: Stage> Core<S> {
    /// A partition whose next record is `next`.
    pub fn new(stage: S, clock: PartitionClock, next: u64, pace: SnapshotPace) -> Self {
        let snapshot_time = clock.log_time;
        Self {
            stage,
            clock,
            next,
            block: None,
            flush: None,
            pace,
            snapshot_time,
            snapshot_next: next,
            snapshot_wanted: false,
            saving: None,
            unwritten: 0,
            start_over: false,
        }
    }

    /// Applies the next record.
    ///
    /// # Panics
    /// If the record was applied already: the log hands out each once, in order.
    pub fn apply(&mut self, record: Record, effects: &mut Vec<Effect<S::Rows>>) {
        let Record { offset, timestamp_ms, value } = record;
        assert!(offset >= self.next, "record {offset} comes after {} was applied", self.next);
        let now = self.clock.log_time_with(ReceivedAt(timestamp_ms));
        match S::decode(&value) {
            Ok(Decoded::Tick) => {
                self.clock.on_tick(ReceivedAt(timestamp_ms));
                // What the tick itself sets off opens a block where none is open.
                self.open(offset, timestamp_ms);
                self.stage.on_tick(&self.clock);
                self.next = offset + 1;
                let idle = self.block.is_some_and(|(first, ..)| first == offset);
                self.cut_if_due(now, offset + 1, idle, effects);
            }
            Ok(Decoded::Rules(rules)) => {
                self.cut_if_due(now, offset, true, effects);
                self.clock.log_time = now;
                self.open(offset, timestamp_ms);
                let old = std::mem::replace(&mut self.clock.rules, rules);
                self.stage.on_rules(&old, &self.clock);
                self.next = offset + 1;
            }
            Ok(Decoded::Body(body)) => {
                self.cut_if_due(now, offset, false, effects);
                self.clock.log_time = now;
                self.open(offset, timestamp_ms);
                self.stage.on_body(offset, ReceivedAt(timestamp_ms), body, &mut self.clock);
                self.next = offset + 1;
            }
            Err(error) => {
                tracing::error!(
                    offset,
                    error = &error as &dyn std::error::Error,
                    "a record cannot be read, it goes to `rejected`"
                );
                metrics::counter!("worker_undecodable_records_total").increment(1);
                self.cut_if_due(now, offset, false, effects);
                self.clock.log_time = now;
                self.open(offset, timestamp_ms);
                self.next = offset + 1;
                effects.push(Effect::Append(vec![rejected::undecodable(&value, &error)]));
            }
        }
    }

    fn open(&mut self, offset: u64, timestamp_ms: i64) {
        self.block.get_or_insert((offset, timestamp_ms, self.clock.log_time));
        self.flush.get_or_insert((offset, offset, self.clock.log_time)).1 = offset;
    }

    /// Ends the open block or flush where the log says so. `end`: the record after the last in it.
    fn cut_if_due(&mut self, now: ReceivedAt, end: u64, whatever: bool, effects: &mut Vec<Effect<S::Rows>>) {
        let rules = &self.clock.rules;
        if let Some((_, _, began)) = self.block {
            let full = self.stage.rows() >= rules.block_rows_max as usize;
            if whatever || full || now >= began.plus(rules.block_time) {
                self.close_block(end, effects);
                return;
            }
        }
        if self.flush.is_some_and(|(_, _, began)| now >= began.plus(rules.flush_time)) {
            self.close_flush(effects);
        }
    }

    fn close_flush(&mut self, effects: &mut Vec<Effect<S::Rows>>) {
        if let Some((first, last, _)) = self.flush.take() {
            let derived = self.stage.flush(FlushRange { first, last });
            if !derived.is_empty() {
                effects.push(Effect::Append(derived));
            }
        }
    }

    fn close_block(&mut self, end: u64, effects: &mut Vec<Effect<S::Rows>>) {
        self.close_flush(effects);
        let Some((first, timestamp_ms, _)) = self.block.take() else { return };
        let (rows, derived) = self.stage.take_rows(end - 1, &self.clock);
        if !derived.is_empty() {
            effects.push(Effect::Append(derived));
        }
        effects.push(Effect::Block(Block {
            first: (first, timestamp_ms),
            end,
            rows,
            watermark: self.clock.watermark(),
            log_time: self.clock.log_time,
        }));
        self.save_if_due(end, effects);
    }

    /// Begins a snapshot where one is due, right after a block was closed. While the last one is not written none begins:
    /// a store that is away holds up no records, and at most one snapshot waits in memory.
    fn save_if_due(&mut self, end: u64, effects: &mut Vec<Effect<S::Rows>>) {
        let due = self.clock.log_time.since(self.snapshot_time) >= self.pace.time_ms
            || end - self.snapshot_next >= self.pace.records;
        let may = self.saving.is_none() && self.unwritten == 0;
        if !(self.snapshot_wanted || due && may) {
            return;
        }
        while self.is_saving() {
            self.go_on_saving(usize::MAX, effects);
        }
        self.snapshot_wanted = false;
        self.snapshot_time = self.clock.log_time;
        self.snapshot_next = end;
        if std::mem::take(&mut self.start_over) {
            self.stage.start_over();
        }
        self.stage.begin_snapshot(&self.clock);
        self.saving = Some((end, self.clock.log_time));
    }

    /// Whether a snapshot is being put together.
    #[must_use]
    pub fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Puts some more of the snapshot that has begun, if one has.
    pub fn go_on_saving(&mut self, entries_max: usize, effects: &mut Vec<Effect<S::Rows>>) {
        let Some((end, log_time)) = self.saving else { return };
        if let Some(changes) = self.stage.go_on_with_snapshot(entries_max) {
            self.saving = None;
            self.unwritten += 1;
            effects.push(Effect::Snapshot(Snapshot { end, log_time, changes }));
        }
    }

    /// So many snapshots that were handed out are written.
    pub fn on_written(&mut self, snapshots: u64) {
        self.unwritten -= snapshots;
    }

    /// The chain that the last snapshot continues is broken: the next one is to be a base.
    pub fn start_over(&mut self) {
        self.start_over = true;
    }

    /// A snapshot is wanted (this worker is about to go): with the open block when it closes, else at once.
    pub fn want_snapshot(&mut self, effects: &mut Vec<Effect<S::Rows>>) {
        self.snapshot_wanted = true;
        if self.is_settled() && self.next > self.snapshot_next {
            self.save_if_due(self.next, effects);
        }
    }

    /// Why the partition cannot go on, if that is so: see [`Stage::failure`]. Asked for before effects leave.
    pub fn failure(&mut self) -> Option<WorkerError> {
        self.stage.failure()
    }

    /// What waits for time to pass.
    #[must_use]
    pub fn waits(&self) -> Waits {
        if let Some((_, _, began)) = self.flush {
            return Waits::Open {
                flush_until: Some(began.plus(self.clock.rules.flush_time)),
                block_until: self.block_until(),
            };
        }
        if self.block.is_some() {
            return Waits::Open { flush_until: None, block_until: self.block_until() };
        }
        match self.stage.next_due(&self.clock) {
            Some(due) => Waits::Due(due),
            None => Waits::Nothing,
        }
    }

    fn block_until(&self) -> ReceivedAt {
        self.block.map_or(self.clock.log_time, |(_, _, began)| began.plus(self.clock.rules.block_time))
    }

    /// Whether nothing is open: all that was applied has left as effects.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.block.is_none() && self.flush.is_none()
    }

    /// The next record to apply.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> &PartitionClock {
        &self.clock
    }

    /// Its stage.
    #[must_use]
    pub fn stage(&self) -> &S {
        &self.stage
    }
}

/// What waits for time to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// A flush or block is open; they end at these received times.
    Open {
        /// End of the open flush.
        flush_until: Option<ReceivedAt>,
        /// End of the open block.
        block_until: ReceivedAt,
    },
    /// Something is due at this received time.
    Due(ReceivedAt),
    /// Nothing.
    Nothing,
}
