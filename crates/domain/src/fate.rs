//! What became of an event. Once all is drained, received = counted + late + duplicate + rejected + told to retry.

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Counted, in time.
    Counted,
    /// Counted, behind the watermark. It is stored, and repairs its session while that is held.
    Late,
    /// Known already: nothing changed.
    Duplicate,
    /// Never became an event; kept with its reason in the topic `rejected`.
    Rejected,
    /// The log did not take it, and the sender was told to send it again.
    Retry,
}

impl Fate {
    /// As the metrics' label says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::Retry => "retry",
        }
    }
}
