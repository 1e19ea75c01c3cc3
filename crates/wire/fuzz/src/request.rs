//! A request, by any protocol: the laws of `tests/law`.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use trackway_wire_fuzz::{law, start};

fuzz_target!(init: start::write_requests("request", b""), |bytes: &[u8]| -> Corpus {
    // What nobody claims is not worth keeping.
    if law::request(bytes).is_some() { Corpus::Keep } else { Corpus::Reject }
});
