//! Puts our times on what a tracker sent.

use std::time::Duration;

use crate::event::{Event, KeySource, ReceivedEvent, TimeSource};
use crate::id::{EventKey, ProjectId, Visitor};
use crate::limits::{FUTURE_TOLERANCE, OLDEST_EVENT_MS};
use crate::time::{EventTime, ReceivedAt};

/// When an event happened, from the client's clock and ours.
///
/// A client that says when it sent the event shows how far its clock is off: that much is added. The difference holds
/// the way over the network too, which is far below a session's gap. The result is never later than `received`.
///
/// - `client_time_ms`, `sent_at_ms`: by the client's clock, ms since 1970 UTC.
/// - `received`: by ours.
///
/// A time that lies more than [`FUTURE_TOLERANCE`] in our future, or before 2000, becomes `received`
/// ([`TimeSource::Replaced`]).
#[must_use]
pub fn event_time(
    client_time_ms: Option<i64>,
    sent_at_ms: Option<i64>,
    received: ReceivedAt,
) -> (EventTime, TimeSource) {
    let ours = EventTime(received.0);
    let Some(client) = client_time_ms else { return (ours, TimeSource::Received) };
    // A network takes seconds; only a wrong clock differs by more. Small differences are left alone, so that a
    // back-fill's original times and a retry's identical ones stay exactly as they came.
    let skew = sent_at_ms.filter(|&sent| sent >= OLDEST_EVENT_MS).map_or(0, |sent| received.0.saturating_sub(sent));
    let (time, source) = if skew.unsigned_abs() <= CLOCK_SKEW_MIN.as_millis() as u64 {
        (client, TimeSource::Client)
    } else {
        (client.saturating_add(skew), TimeSource::Corrected)
    };
    if client < OLDEST_EVENT_MS {
        return (ours, TimeSource::Replaced);
    }
    believed(EventTime(time), source, received)
}

/// A time that somebody else put on an event: never later than `received`, and replaced by it where [`event_time`] would.
///
/// What our gateway stamped stays as it is. The log may have records of others, and one time in the far future would
/// move a partition's watermark there for good.
#[must_use]
pub fn believed(time: EventTime, source: TimeSource, received: ReceivedAt) -> (EventTime, TimeSource) {
    let ours = EventTime(received.0);
    if time > ours.plus(FUTURE_TOLERANCE) || time.0 < OLDEST_EVENT_MS {
        return (ours, TimeSource::Replaced);
    }
    (time.min(ours), source)
}

/// Below this a difference between sending and receiving is the network, not a wrong clock. A beacon over a bad mobile
/// link needs some seconds.
const CLOCK_SKEW_MIN: Duration = Duration::from_secs(5);

/// Stamps one event.
///
/// - `visitor`: who did it; the event's own unless the gateway decides otherwise.
/// - `content`: the event's bytes as sent, hashed into a key where the tracker gives no id.
#[must_use]
pub fn stamp(
    mut received_event: ReceivedEvent,
    visitor: Visitor,
    project: &ProjectId,
    received: ReceivedAt,
    content: &[u8],
) -> Event {
    received_event.visitor = None;
    let (time, time_source) = event_time(received_event.client_time_ms, received_event.sent_at_ms, received);
    let (key, key_source) = match &received_event.id {
        Some(id) => (EventKey::of_id(project, id), KeySource::Id),
        None => (EventKey::of_content(project, content), KeySource::Content),
    };
    Event { visitor, time, time_source, key, key_source, received: received_event }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: ReceivedAt = ReceivedAt(1_800_000_000_000);
    const HOUR: i64 = 3_600_000;

    fn check(client: Option<i64>, sent: Option<i64>, expected: i64, source: TimeSource) {
        assert_eq!(event_time(client, sent, NOW), (EventTime(expected), source));
    }

    #[test]
    fn a_client_without_a_clock_gets_ours() {
        check(None, None, NOW.0, TimeSource::Received);
        check(None, Some(NOW.0 - HOUR), NOW.0, TimeSource::Received);
    }

    #[test]
    fn an_old_event_sent_now_keeps_its_time() {
        check(Some(NOW.0 - 9 * HOUR), Some(NOW.0 - 200), NOW.0 - 9 * HOUR, TimeSource::Client);
        check(Some(NOW.0 - 9 * HOUR), None, NOW.0 - 9 * HOUR, TimeSource::Client);
    }

    #[test]
    fn a_clock_that_is_an_hour_fast_or_slow_is_corrected() {
        check(Some(NOW.0 + HOUR - 500), Some(NOW.0 + HOUR), NOW.0 - 500, TimeSource::Corrected);
        check(Some(NOW.0 - HOUR - 500), Some(NOW.0 - HOUR), NOW.0 - 500, TimeSource::Corrected);
    }

    #[test]
    fn a_slightly_fast_clock_is_cut_to_ours_and_a_far_future_is_replaced() {
        check(Some(NOW.0 + 60_000), None, NOW.0, TimeSource::Client);
        check(Some(NOW.0 + 60_001), None, NOW.0, TimeSource::Replaced);
    }

    #[test]
    fn seconds_taken_for_milliseconds_are_replaced() {
        check(Some(1_800_000_000), None, NOW.0, TimeSource::Replaced);
        check(Some(OLDEST_EVENT_MS), None, OLDEST_EVENT_MS, TimeSource::Client);
        check(Some(OLDEST_EVENT_MS - 1), None, NOW.0, TimeSource::Replaced);
    }

    #[test]
    fn what_was_stamped_is_believed_and_a_strangers_future_is_not() {
        for (client, sent) in
            [(None, None), (Some(NOW.0 + 9), None), (Some(7), None), (Some(NOW.0 - HOUR), Some(NOW.0))]
        {
            let (time, source) = event_time(client, sent, NOW);
            assert_eq!(believed(time, source, NOW), (time, source));
        }
        let stranger = |time| believed(EventTime(time), TimeSource::Client, NOW);
        assert_eq!(stranger(NOW.0 + 60_000), (EventTime(NOW.0), TimeSource::Client));
        for absurd in [NOW.0 + 60_001, i64::MAX, OLDEST_EVENT_MS - 1, i64::MIN] {
            assert_eq!(stranger(absurd), (EventTime(NOW.0), TimeSource::Replaced));
        }
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        check(Some(i64::MAX), Some(i64::MIN), NOW.0, TimeSource::Replaced);
        check(Some(i64::MIN), Some(i64::MAX), NOW.0, TimeSource::Replaced);
    }
}
