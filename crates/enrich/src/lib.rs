//! What an event's context says: page, where the visitor came from, browser and device, and whether it is a machine.
//!
//! Pure look-ups over data that ships with this crate; own lists, written for this project.

pub mod bot;
pub mod channel;
pub mod exclusion;
pub mod landing;
pub mod network;
pub mod page;
pub mod user_agent;
