//! Limits that are meanings rather than settings, each with the reason for its number.

use std::time::Duration;

/// How long an event id is remembered. Trackers keep what they could not send and try on the next visit; a week covers
/// nearly all of them, and what is claimed after that counts again.
pub const DEDUP_WINDOW: Duration = Duration::from_hours(7 * 24);

/// How long equal content without an id counts as sent twice. Browsers resend on a reset connection at once, the
/// slowest tracker seen without ids within 4 s; a visitor may do the same thing again a few seconds later.
///
/// Both times are those that the gateway put on the records, so it does not matter how long a record took into the log.
pub const CONTENT_DEDUP_WINDOW: Duration = Duration::from_secs(10);

/// How long equal content without an id is remembered, by the log's time since it was claimed. A record that the log may
/// or may not have taken waits in the gateway's spool until an outage is over, with the time of its first copy; a day
/// covers outages that somebody looks after. It costs some 60 bytes for each event without an id.
pub const CONTENT_DEDUP_MEMORY: Duration = Duration::from_hours(24);

/// How far in the future of our own clock a client's time may lie and still be believed (and set to ours): clocks drift.
/// Beyond it the time is replaced and the event says so; either way no event lies in our future.
pub const FUTURE_TOLERANCE: Duration = Duration::from_secs(60);

/// Before this no web tracker existed (2000-01-01 UTC): an older time is a client's error, often seconds taken for
/// milliseconds.
pub const OLDEST_EVENT_MS: i64 = 946_684_800_000;

/// Length of an event's name in bytes. Longer than any real name; names are kept in dictionaries.
pub const EVENT_NAME_BYTES_MAX: usize = 512;

/// Length of an id (visitor, user, group, event) in bytes. The longest real ones are signed tokens of about 300.
pub const ID_BYTES_MAX: usize = 1024;

/// One event's bytes as JSON. Segment takes 32 KiB; autocapture of deep pages goes above.
pub const EVENT_BYTES_MAX: usize = 65_536;

/// Keys in properties (or traits), counted at every depth.
pub const PROPERTIES_MAX: usize = 1024;

/// Depth of nesting in properties (or traits).
pub const PROPERTY_DEPTH_MAX: usize = 32;

/// Steps of a funnel. A mask of 64 bits carries them; nobody reads more than a dozen.
pub const FUNNEL_STEPS_MAX: usize = 32;

/// Events of one session, and so of one hostile visitor's state; the next one begins a new session.
pub const SESSION_EVENTS_MAX: usize = 10_000;

/// Users that aliases make one person. People have a handful of accounts; a thousand is a script that aliases everybody
/// to one id. Joining two persons looks at all their users, so this bounds what one alias costs.
pub const ALIASED_USERS_MAX: usize = 1_000;

/// Aliases that hold in one project. They live in one partition, at some 200 bytes each.
pub const ALIASES_OF_PROJECT_MAX: usize = 1_000_000;

/// Devices that join the same two users.
pub const ALIAS_CAUSES_MAX: usize = 100;

/// Users that aliases say one device is.
pub const ALIASES_OF_DEVICE_MAX: usize = 100;
