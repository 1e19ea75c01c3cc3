//! What tests of the whole system stand on: a real broker, the real program in its roles, the sample with all that is
//! known about it, and cases of other systems.

pub mod chaos;
pub mod conformance;
pub mod kafka;
pub mod roles;
pub mod sample;
