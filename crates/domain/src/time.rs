//! Four times, each its own type, in milliseconds since 1970-01-01 UTC. None is ever called "timestamp".

use std::fmt;
use std::time::Duration;

macro_rules! time_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl $name {
            /// The same time later by `by`; the largest time if that is past the end of time.
            #[must_use]
            pub fn plus(self, by: Duration) -> Self {
                Self(self.0.saturating_add(millis(by)))
            }

            /// The same time earlier by `by`; the smallest time if that is before the beginning.
            #[must_use]
            pub fn minus(self, by: Duration) -> Self {
                Self(self.0.saturating_sub(millis(by)))
            }

            /// Milliseconds from `earlier` to `self`, negative if `earlier` is later.
            #[must_use]
            pub fn since(self, earlier: Self) -> i64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} ms", self.0)
            }
        }
    };
}

time_type! {
    /// When it happened, corrected for a wrong client clock ([`crate::stamp`]).
    EventTime
}
time_type! {
    /// When the client says it sent it, by the client's clock.
    SentAt
}
time_type! {
    /// When we received it, by our clock. The only time that orders decisions ([`crate::rules`]).
    ReceivedAt
}
time_type! {
    /// In event time: nothing older is awaited. What is older is late.
    Watermark
}

impl Watermark {
    /// Before any event: nothing is late yet.
    pub const START: Self = Self(i64::MIN);
}

/// A duration as whole milliseconds, saturating.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
