//! Answers out of ClickHouse: one SQL file per question in `sql/`. Every question names its project and has limits.
//!
//! - Questions about order ([`Store::steps`], [`Store::names`]) are streamed block by block, in the table's own order, and
//!   stop at the server when the stream is dropped.
//! - Sums are SQL over signed rows, exact whether or not background merges have run.
//! - What bots did is left out, unless the question asks for it ([`Bots`]). They have no sessions and enter no audience.
//! - Persons are counted after merges: `sql/persons.sql` says how a key becomes a person.
//! - Nothing is spliced into SQL: values travel as `{name:Type}` parameters.

/// The text of a question about persons: `parted.sql`, and the files that go on from it.
macro_rules! after_parted {
    ($($file:literal),+) => {
        concat!(include_str!("../sql/parted.sql"), $(include_str!(concat!("../sql/", $file, ".sql"))),+)
    };
}

mod audiences;
mod contacts;
mod journey;
mod ordered;
mod persons;
mod progress;
mod run;
mod sums;

use std::time::Duration;

#[cfg(doc)]
use crate::Store;

pub use audiences::AudienceTotals;
pub use contacts::{ContactBlock, ContactStream};
pub use journey::JourneyRow;
pub use ordered::{NameBlock, NameStream, PastBlock, PastStream, StepBlock, StepFilter, StepStream};
pub use run::{QueryError, ReadCost};
pub use sums::{Interval, SessionSummaryRow, TouchpointRow, TrendRow};

/// What a question may cost. The server stops it at the first limit that it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Rows read from tables.
    pub rows_read_max: u64,
    /// Bytes read from tables, uncompressed.
    pub bytes_read_max: u64,
    /// Time from the request to the last byte. Whole seconds count at the server, so a second is the least.
    pub time_max: Duration,
}

/// Half-open range of event time [from, to).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// First millisecond that counts; `i64::MIN` for no beginning.
    pub from_ms: i64,
    /// First millisecond that no longer counts; `i64::MAX` for no end.
    pub to_ms: i64,
}

/// Whether what machines did is in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bots {
    /// It is not.
    #[default]
    LeftOut,
    /// It is.
    Included,
}

/// Which events a question is about. A range alone leaves bots out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// When they happened.
    pub range: TimeRange,
    /// Whose they may be.
    pub bots: Bots,
}

impl From<TimeRange> for Scope {
    fn from(range: TimeRange) -> Self {
        Self { range, bots: Bots::LeftOut }
    }
}

/// What DateTime64(3) shows: 1900-01-01 to the end of 2299. Every time we store lies within.
const TIMES_MS: std::ops::RangeInclusive<i64> = -2_208_988_800_000..=10_413_791_999_999;

/// A time as a parameter: an open end becomes the end of what DateTime64 holds. Later times are seen to compare right in
/// 26.7, but nothing promises it.
fn time_parameter(ms: i64) -> i64 {
    ms.clamp(*TIMES_MS.start(), *TIMES_MS.end())
}
