//! Records of the log and snapshots: the laws of `tests/law`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trackway_wire_fuzz::{law, start};

// Odd: a record is made of the request, and spoiled at one place.
fuzz_target!(init: start::write_requests("record", &[1, 0, 0, trackway_wire::log::VERSION]), |bytes: &[u8]| {
    law::record(bytes);
});
