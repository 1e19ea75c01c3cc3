//! What the server is told at its start.

use std::net::SocketAddr;
use std::time::Duration;

use trackway_domain::id::ProjectId;
use trackway_store::queries::QueryLimits;

/// Settings. There is no default here: `trackway/config.rs` is the home of defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one ([`crate::Bound::address`] tells which). Whoever reaches it may read
    /// everything.
    pub listen: SocketAddr,
    /// Names of the log's topics.
    pub topics: Topics,
    /// What one question may read and how long it may take, from its first to its last byte. Waiting for a place in line
    /// ([`Config::queries_max`]) does not count.
    pub limits: QueryLimits,
    /// Questions that are answered at one time. Each ordered one keeps a core busy here, and all share ClickHouse's
    /// threads.
    pub queries_max: usize,
    /// How long a question waits for a place before it is refused with RESOURCE_EXHAUSTED.
    pub queue_time_max: Duration,
    /// Pairs of merged keys that one project may have in an ordered question; about 100 bytes each while it runs.
    pub identity_pairs_max: usize,
    /// Events of merged persons that one ordered question may hold, 16 bytes each: those of persons whose first key has
    /// been read and whose last has not.
    pub merged_events_max: usize,
    /// Different event names that one paths question may meet. Names are made by clients; pairs of them are counted.
    pub names_max: usize,
    /// Stages of each project's touchpoints, first to last.
    pub stages: Vec<(ProjectId, Vec<String>)>,
    /// Keys (visitors and users) that one person of a journey may have. At most 3000, which is what one query takes.
    pub person_keys_max: usize,
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Bytes of one response (trends by event and journeys are the long ones).
    pub response_bytes_max: usize,
    /// Audience subscriptions and tails at one time.
    pub subscribers_max: usize,
    /// Newest audience changes that are kept in memory per partition of `audience-changes`, about 300 bytes each. A
    /// subscriber that is further behind reads the log by itself until it has caught up.
    pub recent_changes_max: usize,
    /// How often a subscriber to whom nothing happens is told the cursor anyway, if that moved on. Far shorter than the
    /// log's retention, so that a quiet audience's cursor does not expire.
    pub cursor_period: Duration,
    /// How often ClickHouse is asked whether it is there, for the health service, and how long it may take to answer.
    pub health_period: Duration,
    /// After the signal to stop: how long running questions may go on before their connections are cut.
    pub drain_max: Duration,
}

/// Names of the log's topics, as configured (they may carry a prefix). Their partitions are asked of the log.
#[derive(Debug, Clone)]
pub struct Topics {
    /// First stage: what visitors did.
    pub events: String,
    /// Second stage: by person. Audience definitions go to every partition of it.
    pub journeys: String,
    /// Who enters and leaves.
    pub audience_changes: String,
    /// What never became an event.
    pub rejected: String,
}
