//! Chains of snapshots in a store whose calls fail anywhere, written by two owners of one partition.
//!
//! What is held to: whatever is restored is the state that the log makes up to its offset.

#[path = "kept/faulty.rs"]
mod faulty;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use faulty::{Fault, Faulty};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use trackway_eventlog::TopicPartition;
use trackway_worker::snapshots::changes::Changes;
use trackway_worker::snapshots::saver::Saver;
use trackway_worker::snapshots::{Content, Encoded, Position, Restored, SnapshotError, Snapshots};

type State = BTreeMap<u8, Vec<u8>>;

/// One record of the log: 0 puts, 1 appends, 2 removes; a key; a value.
type Op = (u8, u8, u8);

fn apply(state: &mut State, (op, key, value): Op) {
    match op {
        0 => drop(state.insert(key, vec![value])),
        1 => state.entry(key).or_default().push(value),
        _ => drop(state.remove(&key)),
    }
}

fn state_at(log: &[Op], offset: usize) -> State {
    let mut state = State::new();
    log[..offset].iter().for_each(|op| apply(&mut state, *op));
    state
}

/// What changed between two offsets; between none and the second if it is a base.
fn changes(log: &[Op], from: Option<usize>, to: usize) -> Changes {
    let mut changes = Changes::new(from.is_none(), Bytes::from(vec![to as u8]));
    for &(op, key, value) in &log[from.unwrap_or(0)..to] {
        let bucket = usize::from(key) * 21;
        match op {
            0 => changes.put(bucket, &[key], |out| out.push(value)),
            1 => changes.append(bucket, &[key], |out| out.push(value)),
            _ => changes.remove(bucket, &[key]),
        }
    }
    changes
}

fn state_of(content: &Content) -> (usize, State) {
    let Content::Chain(chain) = content else { panic!("nobody wrote a snapshot in one message") };
    let buckets = chain.decode(|entries| Ok(entries.iter().map(|(k, v)| (k[0], v.whole().into_owned())).collect()));
    let buckets: Vec<Vec<(u8, Vec<u8>)>> = buckets.expect("our own entries");
    (usize::from(chain.head()[0]), buckets.into_iter().flatten().collect())
}

#[derive(Debug, Clone)]
enum Step {
    /// So many records, then a snapshot.
    Write(usize),
    Shorten,
    /// Crash, and restore.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step, Vec<Fault>)>> {
    let step = prop_oneof![
        4 => (1..4_usize).prop_map(Step::Write),
        2 => Just(Step::Shorten),
        1 => Just(Step::Restart),
    ];
    let fault = prop_oneof![4 => Just(Fault::None), 1 => Just(Fault::Refused), 1 => Just(Fault::Unanswered)];
    prop::collection::vec((0..2_usize, step, prop::collection::vec(fault, 0..6)), 0..24)
}

/// An owner of the partition, or one that believes to be it.
struct Owner {
    snapshots: Snapshots,
    partition: TopicPartition,
    saver: Saver,
    /// Records that are in its last snapshot. `None`: the next is to be a base.
    saved: Option<usize>,
    at: usize,
}

impl Owner {
    fn new(store: Arc<dyn ObjectStore>) -> Self {
        let partition = TopicPartition { topic: "events".into(), partition: 3 };
        let saver = Saver::new(Position::default());
        Self { snapshots: Snapshots::new(store), partition, saver, saved: None, at: 0 }
    }

    async fn write(&mut self, log: &[Op], records: usize) {
        let to = (self.at + records).min(log.len());
        if to == self.at {
            return;
        }
        let snapshot = Encoded::new(to as u64, self.saver.position(), changes(log, self.saved, to));
        // Faults end; until then it is tried again.
        while self.snapshots.write(&self.partition, &snapshot).await.is_err() {}
        self.saver.on_written(&snapshot);
        (self.saved, self.at) = (Some(to), to);
    }

    async fn shorten(&mut self) {
        if self.saver.position().is_empty() || self.saved.is_none() {
            return;
        }
        match self.snapshots.shorten(&self.partition, self.saver.position()).await {
            Ok(base) => {
                self.saver.on_base(base);
                assert_eq!(self.saver.position().len(), 1, "the base stands for all");
            }
            Err(SnapshotError::Store { source: object_store::Error::Generic { .. }, .. }) => {}
            // The other has removed files of this chain: it begins anew.
            Err(SnapshotError::Store { source: object_store::Error::NotFound { .. }, .. }) => self.saved = None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The state that is found: with its offset, as the name and as the head say it.
    async fn restart(&mut self) -> Option<(usize, usize, State)> {
        let restored = loop {
            if let Ok(restored) = self.snapshots.restore(&self.partition).await {
                break restored;
            }
        };
        let Some(Restored { offset, content, position }) = restored else {
            (self.saver, self.saved, self.at) = (Saver::new(Position::default()), None, 0);
            return None;
        };
        self.saver = Saver::new(position);
        (self.saved, self.at) = (Some(offset as usize), offset as usize);
        let (head, state) = state_of(&content);
        Some((offset as usize, head, state))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn list(store: &Faulty) -> Vec<ObjectMeta> {
    let mut files: Vec<ObjectMeta> = block_on(store.list(Some(&Path::from("events/3"))).try_collect()).expect("a list");
    files.sort_by(|a, b| a.location.cmp(&b.location));
    files
}

#[test]
fn files_that_another_owner_removed_meanwhile_are_looked_for_anew() {
    let store = Arc::new(Faulty::default());
    let log: Vec<Op> = (0..6).map(|n| (0, n % 4, n)).collect();
    let mut owner = Owner::new(store.clone());
    (0..3).for_each(|_| block_on(owner.write(&log, 1)));
    let stale = list(&store);
    for _ in 0..3 {
        block_on(owner.shorten());
        block_on(owner.write(&log, 1));
    }
    let left = list(&store);
    assert!(stale.iter().all(|old| left.iter().all(|new| new.location != old.location)), "{left:?}");
    store.list_next(stale);
    let mut late = Owner::new(store.clone());
    assert_eq!(block_on(late.restart()), Some((6, 6, state_at(&log, 6))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// - `owners`: 1, or 2 of which one is paused for a while and does not know that it is none any more.
    #[test]
    fn what_is_restored_is_what_the_log_makes(
        log in prop::collection::vec((0..3_u8, 0..4_u8, any::<u8>()), 24),
        steps in steps(),
        owners in 1..3_usize,
    ) {
        let store = Arc::new(Faulty::default());
        let mut all: Vec<Owner> = (0..owners).map(|_| Owner::new(store.clone())).collect();
        let mut newest = 0;
        for (who, step, faults) in steps.into_iter().chain([(0, Step::Restart, Vec::new())]) {
            store.script(faults);
            let owner = &mut all[who % owners];
            match step {
                Step::Write(records) => {
                    block_on(owner.write(&log, records));
                    newest = newest.max(owner.at);
                }
                Step::Shorten => block_on(owner.shorten()),
                Step::Restart => match block_on(owner.restart()) {
                    None => prop_assert_eq!(newest, 0, "what was written is found"),
                    Some((offset, head, state)) => {
                        prop_assert_eq!(head, offset);
                        prop_assert_eq!(state, state_at(&log, offset));
                        if owners == 1 {
                            prop_assert_eq!(offset, newest, "the newest is found");
                        }
                    }
                },
            }
        }
    }

    /// A file that is spoilt in any byte, cut anywhere, or gone: the state before it is found.
    #[test]
    fn a_damaged_file_costs_no_more_than_what_came_after_it(
        log in prop::collection::vec((0..3_u8, 0..4_u8, any::<u8>()), 10),
        shorten_at in 0..6_usize,
        file in 0..7_usize,
        harm in 0..3_u8,
        // The index is most of such a small file; header, head and entries come before it.
        place in prop_oneof![0..36_usize, 36..60_usize, 0..10_000_usize],
    ) {
        let store = Arc::new(Faulty::default());
        let mut owner = Owner::new(store.clone());
        for n in 0..5 {
            block_on(owner.write(&log, 2));
            if n == shorten_at {
                block_on(owner.shorten());
            }
        }
        let files = list(&store);
        let path = files[file % files.len()].location.clone();
        block_on(async {
            let bytes = store.get(&path).await.expect("a file").bytes().await.expect("its bytes");
            let mut bytes = bytes.to_vec();
            let place = place % bytes.len();
            match harm {
                0 => bytes[place] ^= 1 << (place % 8),
                1 => bytes.truncate(place),
                _ => return store.delete(&path).await.expect("it is gone"),
            }
            store.put(&path, bytes.into()).await.expect("it is spoilt");
        });
        // A base is not made of it, or is whole.
        block_on(owner.snapshots.shorten(&owner.partition, owner.saver.position())).ok();
        // Names begin with the offset.
        let harmed: usize = path.filename().expect("a name")[..20].parse().expect("an offset");
        match block_on(owner.restart()) {
            None => prop_assert!(harmed == 2, "only the first base has nothing before it"),
            Some((offset, _, state)) => {
                prop_assert!(offset + 2 >= harmed, "{offset} is found, {harmed} was harmed");
                prop_assert_eq!(state, state_at(&log, offset));
            }
        }
    }
}
