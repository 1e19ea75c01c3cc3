//! What an event's context says: page, where the visitor came from, browser and device, language and place, whether it is a
//! machine, and whether the project wants it at all.
//!
//! Pure look-ups over data that ships with this crate (own lists, and uap-core's) or that the operator gives.

pub mod bot;
pub mod channel;
pub mod exclusion;
pub mod geo;
pub mod landing;
pub mod language;
pub mod network;
pub mod page;
pub mod query;
pub mod referrer;
pub mod screen;
pub mod sites;
pub mod user_agent;
