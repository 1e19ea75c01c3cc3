//! What tests of the whole system stand on: a real broker, the real program in its roles, and the sample with all that is
//! known about it.

pub mod chaos;
pub mod kafka;
pub mod roles;
pub mod sample;
