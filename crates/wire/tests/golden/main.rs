//! Real requests of real trackers, byte for byte (`tests/captures`): each action that the recorded script did arrives
//! exactly once, with the right name, ids, time and properties, and is answered as its tracker expects.

mod capture;
mod ga4;
mod ga4_mp;
mod segment;
mod universal_analytics;
