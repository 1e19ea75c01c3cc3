//! What the words mean: events, identity, sessions, touchpoints, journeys, audiences, funnels.
//!
//! Everything here is a pure function of what is handed in: no input or output, no clock, no async, no serde. Time comes
//! in as one of four types ([`time`]); what should happen goes out as values. Where a fast algorithm stands, a slow and
//! obvious one (`oracle`) stands beside it, and a property test holds the one to the other.

pub mod audience;
pub mod dedup;
pub mod event;
pub mod fate;
pub mod feedback;
pub mod funnel;
pub mod id;
pub mod identity;
pub mod journey;
pub mod limits;
pub mod paths;
pub mod property;
pub mod revenue;
pub mod rules;
pub mod session;
pub mod stamp;
pub mod time;
pub mod touchpoint;
