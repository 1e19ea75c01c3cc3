//! Time in a partition: a function of its records alone.

use trackway_domain::rules::PartitionRules;
use trackway_domain::time::{EventTime, ReceivedAt, Watermark};
use trackway_wire::log::{DecodeError, pb};
use trackway_wire::rules::{rules_from_pb, rules_to_pb};

/// Received time, event time and the rules of one partition, up to the last record applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionClock {
    /// Rules in force.
    pub rules: PartitionRules,
    /// Highest received time seen. Gateways' clocks differ and records cross on their way; this never goes back.
    pub log_time: ReceivedAt,
    /// Highest event time seen, moved on by ticks. `None` before any event.
    pub event_now: Option<EventTime>,
}

impl PartitionClock {
    /// Of an empty partition.
    #[must_use]
    pub fn new() -> Self {
        Self { rules: PartitionRules::USUAL, log_time: ReceivedAt(i64::MIN), event_now: None }
    }

    /// What the log time will be once a record of this received time is applied.
    #[must_use]
    pub fn log_time_with(&self, received: ReceivedAt) -> ReceivedAt {
        self.log_time.max(received)
    }

    /// An event of this time was seen.
    pub fn on_event(&mut self, time: EventTime) {
        self.event_now = Some(self.event_now.map_or(time, |now| now.max(time)));
    }

    /// Time has passed in a quiet partition: event time moves on by as much received time as went by since the record
    /// before. (It does not jump to the present: a back-fill of last year stays last year until something newer comes.)
    pub fn on_tick(&mut self, received: ReceivedAt) {
        let now = self.log_time_with(received);
        if let Some(event_now) = &mut self.event_now {
            event_now.0 = event_now.0.saturating_add(now.since(self.log_time));
        }
        self.log_time = now;
    }

    /// Nothing older is awaited.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.event_now.map_or(Watermark::START, |now| Watermark(now.minus(self.rules.lateness).0))
    }

    /// For a snapshot.
    #[must_use]
    pub fn to_pb(&self) -> pb::PartitionClock {
        pb::PartitionClock {
            rules: Some(rules_to_pb(&self.rules)),
            log_time_ms: self.log_time.0,
            event_now_ms: self.event_now.map(|time| time.0),
        }
    }

    /// From a snapshot.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not one of ours.
    pub fn from_pb(clock: Option<&pb::PartitionClock>) -> Result<Self, DecodeError> {
        let clock = clock.ok_or(DecodeError::Field { field: "clock" })?;
        let rules = clock.rules.as_ref().ok_or(DecodeError::Field { field: "rules" })?;
        Ok(Self {
            rules: rules_from_pb(rules)?,
            log_time: ReceivedAt(clock.log_time_ms),
            event_now: clock.event_now_ms.map(EventTime),
        })
    }
}

impl Default for PartitionClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_move_event_time_at_the_pace_of_received_time() {
        let mut clock = PartitionClock::new();
        clock.on_tick(ReceivedAt(1_000));
        assert_eq!(clock.watermark(), Watermark::START);
        clock.on_event(EventTime(400_000));
        clock.on_event(EventTime(100));
        assert_eq!(clock.watermark(), Watermark(100_000));
        clock.on_tick(ReceivedAt(1_250));
        assert_eq!(clock.watermark(), Watermark(100_250));
        clock.on_tick(ReceivedAt(900));
        assert_eq!((clock.log_time, clock.watermark()), (ReceivedAt(1_250), Watermark(100_250)));
    }

    #[test]
    fn a_clock_comes_back_from_its_snapshot() {
        let mut clock = PartitionClock::new();
        clock.on_event(EventTime(-5));
        clock.log_time = ReceivedAt(7);
        assert_eq!(PartitionClock::from_pb(Some(&clock.to_pb())).ok(), Some(clock));
    }
}
