//! Partitions of `journeys` that write to each other, each with a log of its own, in any interleaving and with crashes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use trackway_eventlog::Record;
use trackway_wire::log::{self, pb};
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
    /// What subscribers of each partition were told, each origin once.
    pub changes: BTreeMap<(u32, u64, u32), pb::MembershipChange>,
}

impl Cluster {
    /// - `crashes`: after how many applied records a partition crashes, the same for each.
    /// - `harms`: what happens to its files of snapshots then, each by a number.
    pub fn new(partitions: u32, begin_ms: i64, crashes: &BTreeSet<usize>, harms: &[usize]) -> Self {
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
        Self { partitions, now_ms: begin_ms, rows: Vec::new(), changes: BTreeMap::new() }
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
        let mut appended = Vec::new();
        for effect in effects {
            match effect {
                Effect::Append(derived) => appended.extend(derived),
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
        if partition.crashes.remove(&partition.applied) {
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
                    let change: pb::MembershipChange = log::decode(derived.value).expect("our own record");
                    let origin = change.origin.clone().expect("every derived record has one");
                    let origin = (origin.partition, origin.offset, origin.index);
                    let same = self.changes.insert(origin, change.clone());
                    assert!(same.is_none_or(|before| before == change), "one origin, one record");
                }
                Target::Rejected => panic!("a record could not be read"),
            }
        }
    }
}
