//! Partitions of `journeys` that write to each other, each with a log of its own, in any interleaving, with crashes, and
//! with appends that fail in part.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use trackway_eventlog::Record;
use trackway_wire::log::{self, Arrival, pb};
use trackway_worker::clock::PartitionClock;
use trackway_worker::journeys::{JourneysRows, JourneysStage};
use trackway_worker::stage::{Block, Core, Derived, Effect, SnapshotPace, Target};

use crate::kept::Kept;

pub const PACE: SnapshotPace = SnapshotPace { time_ms: 15, records: 3 };

/// Blocks that were made, by their names.
#[derive(Debug, Default, PartialEq)]
pub struct Blocks(BTreeMap<(u64, i64), String>);

impl Blocks {
    /// Whether it was not made before; if it was, it must be the same.
    pub fn is_new<R: std::fmt::Debug>(&mut self, block: &Block<R>) -> bool {
        let text = format!("{:?} {:?} {:?}", block.rows, block.end, block.watermark);
        match self.0.get(&block.first) {
            Some(before) => {
                assert_eq!(*before, text, "a replay makes the same block");
                false
            }
            None => {
                self.0.insert(block.first, text);
                true
            }
        }
    }
}

/// A log that takes some records of an append, as many as there are tries, before it takes all of them.
///
/// Each number is a try: a bit says whether a record lands. The last try of an append is an even number, or none is left.
#[derive(Debug, Clone)]
pub struct Tries(pub Vec<u8>);

impl Tries {
    /// What is in the log when an append is done.
    pub fn append(&mut self, records: &[Derived]) -> Vec<Derived> {
        let mut landed = Vec::new();
        while let Some(part) = self.fail(records) {
            landed.extend(part);
        }
        landed.extend_from_slice(records);
        landed
    }

    /// What lands of a try that fails; `None`: it does not.
    pub fn fail(&mut self, records: &[Derived]) -> Option<Vec<Derived>> {
        let lands = self.0.pop().filter(|number| number % 2 == 1)?;
        let landed = records.iter().enumerate().filter(|(n, _)| lands >> (n % 7 + 1) & 1 == 1);
        Some(landed.map(|(_, derived)| derived.clone()).collect())
    }
}

/// A downstream service: takes of each audience and source what comes in turn.
#[derive(Default)]
struct Subscriber {
    last: BTreeMap<(String, u32), (u64, u32)>,
    heard: Vec<pb::MembershipChange>,
    /// Every change that was ever derived.
    derived: BTreeMap<(u32, u64, u32), pb::MembershipChange>,
}

impl Subscriber {
    fn receive(&mut self, change: pb::MembershipChange) {
        let origin = change.origin.clone().expect("every derived record has one");
        let from = (change.audience.clone(), origin.partition);
        if origin.arrival(self.last.get(&from).copied()) == Arrival::Next {
            self.last.insert(from, origin.place());
            self.heard.push(change.clone());
        }
        let place = (origin.partition, origin.offset, origin.index);
        let same = self.derived.insert(place, change.clone());
        assert!(same.is_none_or(|before| before == change), "one origin, one record");
    }
}

/// One partition: its log, and its worker.
struct Partition {
    log: Vec<Record>,
    core: Core<JourneysStage>,
    at: usize,
    applied: usize,
    crashes: BTreeSet<usize>,
    blocks: Blocks,
    kept: Kept,
    harms: Vec<usize>,
}

pub struct Cluster {
    partitions: Vec<Partition>,
    now_ms: i64,
    /// Rows of all blocks, each once.
    pub rows: Vec<JourneysRows>,
    subscriber: Subscriber,
    tries: Tries,
}

impl Cluster {
    /// - `crashes`: after how many applied records a partition crashes, the same for each.
    /// - `harms`: what happens to its files of snapshots then, each by a number.
    /// - `tries`: of all their appends.
    pub fn new(partitions: u32, begin_ms: i64, crashes: &BTreeSet<usize>, harms: &[usize], tries: Tries) -> Self {
        let partition = |number| Partition {
            log: Vec::new(),
            core: Core::new(JourneysStage::new(number, partitions, 1), PartitionClock::new(), 0, PACE),
            at: 0,
            applied: 0,
            crashes: crashes.clone(),
            blocks: Blocks::default(),
            kept: Kept::new(),
            harms: harms.to_vec(),
        };
        let partitions = (0..partitions).map(partition).collect();
        Self { partitions, now_ms: begin_ms, rows: Vec::new(), subscriber: Subscriber::default(), tries }
    }

    pub fn append(&mut self, partition: u32, value: Bytes) {
        self.now_ms += 3;
        let log = &mut self.partitions[partition as usize].log;
        log.push(Record { offset: log.len() as u64, timestamp_ms: self.now_ms, value });
    }

    pub fn append_to_all(&mut self, record: &pb::JourneysRecord) {
        for partition in 0..self.partitions.len() as u32 {
            self.append(partition, log::encode(record));
        }
    }

    /// Appends what came from elsewhere, record by record, while partitions read: whose turn it is `turns` says.
    pub fn run(&mut self, derived: &[Derived], turns: &[u8]) {
        let mut derived = derived.iter().filter(|derived| derived.target == Target::Journeys);
        for &turn in turns {
            match usize::from(turn) % (self.partitions.len() + 1) {
                0 => {
                    if let Some(derived) = derived.next() {
                        self.append(derived.partition, derived.value.clone());
                    }
                }
                n => self.apply(n - 1),
            }
        }
        for derived in derived {
            self.append(derived.partition, derived.value.clone());
        }
        self.drain();
    }

    /// Until nothing is unread and nothing waits for time.
    pub fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 200, "partitions write to each other without end");
            for n in 0..self.partitions.len() {
                while self.partitions[n].at < self.partitions[n].log.len() {
                    self.apply(n);
                }
            }
            if self.partitions.iter().all(|p| p.at == p.log.len() && p.core.is_settled()) {
                return;
            }
            self.tick(50);
        }
    }

    /// What subscribers were told, in order: each change that was derived, once.
    pub fn heard(&self) -> &[pb::MembershipChange] {
        let Subscriber { heard, derived, .. } = &self.subscriber;
        let place = |change: &pb::MembershipChange| change.origin.as_ref().map(|o| (o.partition, o.offset, o.index));
        let places: BTreeSet<_> = heard.iter().filter_map(place).collect();
        assert_eq!(
            (heard.len(), places),
            (derived.len(), derived.keys().copied().collect()),
            "nothing lost, nothing twice"
        );
        heard
    }

    /// Time passes everywhere.
    pub fn tick(&mut self, by_ms: i64) {
        self.now_ms += by_ms;
        self.append_to_all(&pb::JourneysRecord { body: Some(pb::journeys_record::Body::Tick(pb::Tick {})) });
    }

    fn apply(&mut self, n: usize) {
        let journeys = self.partitions.len() as u32;
        let partition = &mut self.partitions[n];
        let Some(record) = partition.log.get(partition.at).cloned() else { return };
        let mut effects = Vec::new();
        partition.core.apply(record, &mut effects);
        partition.core.go_on_saving(partition.at % 3, &mut effects);
        partition.at += 1;
        partition.applied += 1;
        let crashes = partition.crashes.remove(&partition.applied);
        let mut appended = Vec::new();
        for effect in effects {
            match effect {
                Effect::Append(derived) => {
                    if crashes && let Some(part) = self.tries.fail(&derived) {
                        // The crash comes before the next try, and before anything later.
                        appended.extend(part);
                        break;
                    }
                    appended.extend(self.tries.append(&derived));
                }
                Effect::Block(block) => {
                    if partition.blocks.is_new(&block) {
                        self.rows.push(block.rows);
                    }
                }
                Effect::Snapshot(snapshot) => {
                    partition.kept.write(snapshot);
                    partition.core.on_written(1);
                }
            }
        }
        if crashes {
            let number = n as u32;
            for _ in 0..2 {
                partition.harms.pop().into_iter().for_each(|harm| partition.kept.harm(harm));
            }
            let (stage, clock, next) = match partition.kept.restore() {
                Some((offset, content)) => {
                    let restored = JourneysStage::restore(number, journeys, 1, &content);
                    let (stage, clock) = restored.expect("our own snapshot");
                    (stage, clock, offset)
                }
                None => (JourneysStage::new(number, journeys, 1), PartitionClock::new(), 0),
            };
            partition.core = Core::new(stage, clock, next, PACE);
            partition.at = next as usize;
        }
        for derived in appended {
            match derived.target {
                Target::Journeys => self.append(derived.partition, derived.value),
                Target::AudienceChanges => {
                    self.subscriber.receive(log::decode(derived.value).expect("our own record"));
                }
                Target::Rejected => panic!("a record could not be read"),
            }
        }
    }
}
