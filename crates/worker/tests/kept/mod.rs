//! Snapshots as a worker keeps them, in a store in memory that may be harmed.

use std::sync::Arc;

use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use trackway_eventlog::TopicPartition;
use trackway_worker::snapshots::saver::Saver;
use trackway_worker::snapshots::{Content, Encoded, Position, Restored, Snapshots};
use trackway_worker::stage::Snapshot;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
}

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

pub struct Kept {
    store: Arc<InMemory>,
    snapshots: Snapshots,
    partition: TopicPartition,
    saver: Saver,
    written: usize,
}

impl Kept {
    pub fn new() -> Self {
        let store = Arc::new(InMemory::new());
        Self {
            snapshots: Snapshots::new(store.clone()),
            store,
            partition: TopicPartition { topic: "events".into(), partition: 3 },
            saver: Saver::new(Position::default()),
            written: 0,
        }
    }

    /// Writes a snapshot; after every third a base is made of the chain.
    pub fn write(&mut self, Snapshot { end, changes, .. }: Snapshot) {
        let snapshot = Encoded::new(end, self.saver.position(), changes);
        wait(self.snapshots.write(&self.partition, &snapshot)).expect("it is written");
        self.saver.on_written(&snapshot);
        self.written += 1;
        if self.written.is_multiple_of(3) {
            // A harmed file may be in the way; then the chain is as it was.
            if let Ok(base) = wait(self.snapshots.shorten(&self.partition, self.saver.position())) {
                self.saver.on_base(base);
            }
        }
    }

    /// What the next owner finds.
    pub fn restore(&mut self) -> Option<(u64, Content)> {
        let restored = wait(self.snapshots.restore(&self.partition)).expect("the store can be read");
        let Some(Restored { offset, content, position }) = restored else {
            self.saver = Saver::new(Position::default());
            return None;
        };
        self.saver = Saver::new(position);
        Some((offset, content))
    }

    /// Spoils a byte of some file, or cuts it, or takes it away.
    pub fn harm(&self, number: usize) {
        let mut files: Vec<Path> = wait(async {
            let files = self.store.list(None).map_ok(|object| object.location);
            files.try_collect().await.expect("a list")
        });
        files.sort();
        // Most often one of the newest.
        let Some(path) = files.iter().rev().nth(number % 4).or(files.last()) else { return };
        wait(async {
            let bytes = self.store.get(path).await.expect("it is there").bytes().await.expect("its bytes");
            let mut bytes = bytes.to_vec();
            let place = number / 12 % bytes.len().max(1);
            match number / 4 % 3 {
                0 if !bytes.is_empty() => bytes[place] ^= 0x10,
                0 | 1 => bytes.truncate(place),
                _ => return self.store.delete(path).await.expect("it is gone"),
            }
            self.store.put(path, bytes.into()).await.expect("it is harmed");
        });
    }
}
