//! Cases of user agents: browser, system and device.

use super::case::{Case, Outcome};

/// Runs one case.
pub fn run(_case: &Case) -> Outcome {
    Outcome::skipped("not yet done")
}
