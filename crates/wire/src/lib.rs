//! Bytes to domain and back: trackers' protocols ([`protocol`] says what they share) and the log's records ([`log`]).
//!
//! Pure: no input or output, no clock. Every function that takes foreign bytes answers for any bytes, in bounded memory.
//! A protocol is one file that implements [`protocol::Protocol`]; a further one touches one line of [`protocol::ALL`].

pub mod activity;
pub mod amplitude;
mod base64_loose;
mod client_time;
pub mod countly;
mod draft;
mod form;
pub mod ga4_mp;
pub mod ga4_web;
mod google;
pub mod ingest;
mod jitsu;
mod json;
mod json_items;
mod json_marks;
mod json_union;
pub mod log;
pub mod matomo;
mod mended;
pub mod mixpanel;
mod openpanel;
mod params;
pub mod pixel;
mod plausible;
mod posthog;
pub mod properties;
pub mod protocol;
pub mod redact;
mod revenue;
pub mod rudderstack;
pub mod rules;
pub mod segment;
pub mod snowplow;
mod umami;
pub mod universal_analytics;

use std::fmt::{self, Write as _};

use trackway_domain::event::ReceivedEvent;

/// What a request body was understood as: some events, some rejections, in the order of the request.
#[derive(Debug, Default)]
pub struct Understood {
    /// The write key in the body (or query), if the protocol carries it there.
    pub write_key: Option<String>,
    /// What each item of the request became, in its order.
    pub items: Vec<Item>,
    /// Items that name a write key of their own, by their place, where it is another than `write_key`; in rising order.
    pub own_keys: Vec<(usize, String)>,
    /// The sender asks not to be known: no cookie, and its address is not kept.
    pub anonymous: bool,
}

/// What one item of a request became.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all items are events; a box would cost each an allocation")]
pub enum Item {
    /// An event.
    Event {
        /// As understood.
        event: ReceivedEvent,
        /// The bytes it was read from, to be hashed: only where the tracker gives no id, else empty (no needless copy).
        content: Vec<u8>,
    },
    /// Not an event; the others of the request are not touched by it.
    Rejected {
        /// Why not.
        reason: Rejection,
        /// The bytes it was read from, to be kept with the reason.
        content: Vec<u8>,
    },
    /// Understood, and there is nothing to record (for example an alias of an id to itself).
    Nothing,
}

/// Why an item never became an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The bytes are not what the protocol prescribes.
    #[error("{what} is not {expected}")]
    Malformed {
        /// Which part, by name.
        what: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A field that must be there is not.
    #[error("`{field}` is missing. {hint}")]
    Missing {
        /// Name of the field.
        field: &'static str,
        /// What the sender can do.
        hint: &'static str,
    },
    /// Something is longer or more than the limit.
    #[error("{what} is {} {unit}, limit is {}", Grouped(*value), Grouped(*limit))]
    TooLarge {
        /// Which part, by name.
        what: String,
        /// Its size.
        value: usize,
        /// The unit of both.
        unit: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The item names a write key that may not be used.
    #[error("{message}")]
    Key {
        /// Why not.
        message: String,
    },
}

impl Rejection {
    /// Short code for counters and for the topic `rejected`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Missing { .. } => "missing_field",
            Self::TooLarge { .. } => "too_large",
            Self::Key { .. } => "write_key",
        }
    }
}

/// A number as people read it: `70 132`.
#[derive(Debug, Clone, Copy)]
pub struct Grouped(pub usize);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char(' ')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// A name as messages show it: cut, since it comes from a stranger and may be as long as the body.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 64;
    match name.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("`{}…`", &name[..cut]),
        None => format!("`{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_the_thing_its_size_and_the_limit() {
        let too_large =
            |value| Rejection::TooLarge { what: "event `signup`".into(), value, unit: "bytes", limit: 65_536 };
        assert_eq!(too_large(70_132).to_string(), "event `signup` is 70 132 bytes, limit is 65 536");
        assert_eq!(too_large(1_070_132).to_string(), "event `signup` is 1 070 132 bytes, limit is 65 536");
        assert_eq!(Grouped(0).to_string(), "0");
        assert_eq!(Grouped(999).to_string(), "999");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(shown("signup"), "`signup`");
        assert_eq!(shown(&"ü".repeat(64)), format!("`{}`", "ü".repeat(64)));
        assert_eq!(shown(&"ü".repeat(65)), format!("`{}…`", "ü".repeat(64)));
    }
}
