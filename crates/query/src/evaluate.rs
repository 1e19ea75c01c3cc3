//! What ordered questions share: ClickHouse streams, and `domain` evaluates meanwhile.

use std::future::Future;

use tokio::sync::mpsc;
use trackway_store::queries::{ContactBlock, ContactStream, NameBlock, NameStream, QueryError, StepBlock, StepStream};

use crate::status::Fault;

/// Blocks between the reader and the evaluator: one in the making, one in work.
const BLOCKS_AHEAD: usize = 1;

/// A stream of the store.
pub(crate) trait Blocks: Send {
    /// What it consists of.
    type Block: Send + 'static;

    /// The next one; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Block>, QueryError>> + Send;
}

macro_rules! blocks {
    ($($stream:ident: $block:ident,)+) => {
        $(impl Blocks for $stream {
            type Block = $block;

            fn next(&mut self) -> impl Future<Output = Result<Option<$block>, QueryError>> + Send {
                $stream::next(self)
            }
        })+
    };
}

blocks! { StepStream: StepBlock, NameStream: NameBlock, ContactStream: ContactBlock, }

/// Gives all blocks to `evaluate`, which has a thread of its own, so that it neither holds up other requests nor waits for the
/// next block. If the asker goes away there are no more blocks, and nobody reads the answer.
pub(crate) async fn in_thread<S: Blocks, T: Send + 'static>(
    mut stream: S,
    evaluate: impl FnOnce(mpsc::Receiver<S::Block>) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (blocks, from_store) = mpsc::channel(BLOCKS_AHEAD);
    let evaluation = tokio::task::spawn_blocking(move || evaluate(from_store));
    while let Some(block) = stream.next().await? {
        if blocks.send(block).await.is_err() {
            break; // The evaluator has met a limit, and says so below.
        }
    }
    drop(blocks);
    evaluation.await.map_err(|_| Fault::Evaluation)?
}

/// Things by number, in the order in which they were met.
pub(crate) struct Numbers<T> {
    all: Vec<T>,
    by_thing: std::collections::HashMap<T, u32>,
    limit: usize,
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    /// - `limit`: how many different ones; one more is [`Fault::Names`].
    pub(crate) fn new(limit: usize) -> Self {
        Self { all: Vec::new(), by_thing: std::collections::HashMap::new(), limit }
    }

    pub(crate) fn number(&mut self, thing: T) -> Result<u32, Fault> {
        if let Some(&number) = self.by_thing.get(&thing) {
            return Ok(number);
        }
        let full = || Fault::Names { limit: self.limit };
        if self.all.len() >= self.limit {
            return Err(full());
        }
        let number = u32::try_from(self.all.len()).map_err(|_| full())?;
        self.all.push(thing.clone());
        self.by_thing.insert(thing, number);
        Ok(number)
    }

    /// By their numbers.
    pub(crate) fn into_all(self) -> Vec<T> {
        self.all
    }
}
