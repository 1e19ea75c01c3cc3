//! Real requests of real trackers, byte for byte (`tests/captures`): each action that the recorded script did arrives
//! exactly once, with the right name, ids, time and properties, and is answered as its tracker expects.

mod amplitude;
mod arrivals;
mod capture;
mod countly;
mod ga4;
mod ga4_mp;
mod jitsu;
mod matomo;
mod mixpanel;
mod openpanel;
mod plausible;
mod posthog;
mod recorded;
mod rudderstack;
mod segment;
mod snowplow;
mod story;
mod umami;
mod universal_analytics;
