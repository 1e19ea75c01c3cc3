//! Cases of user agents: browser, system and device, by uap-core's names.

use trackway_enrich::user_agent;

use super::case::{Case, Fields, Outcome};

/// Runs one case.
pub fn run(case: &Case) -> Outcome {
    let Some(agent) = case.query().text("user_agent") else { return Outcome::failed("there is no `user_agent`") };
    let found = user_agent::products(agent);
    let expected = case.expected();
    let product = |product: &user_agent::Product| {
        let user_agent::Product { family, major, minor, patch } = product.clone();
        vec![("family", named(family)), ("major", major), ("minor", minor), ("patch", patch)]
    };
    let user_agent::Device { family, brand, model } = found.device.clone();
    let parts = [
        ("browser", product(&found.browser)),
        ("os", product(&found.os)),
        ("device", vec![("family", named(family)), ("brand", brand), ("model", model)]),
    ];
    let outcomes = parts.into_iter().filter_map(|(part, found)| Some((part, expected.inner(part)?, found)));
    Outcome::all(outcomes.flat_map(|(part, expected, found)| compare(part, &expected, found)).collect::<Vec<_>>())
}

/// uap-core's word for what it does not know; ours is none.
fn named(family: String) -> String {
    if family.is_empty() { "Other".to_owned() } else { family }
}

/// Null means that the source does not say: it is not asserted.
fn compare(part: &str, expected: &Fields<'_>, found: Vec<(&str, String)>) -> Vec<Outcome> {
    let asserted = found.into_iter().filter_map(|(key, found)| Some((key, expected.text(key)?.to_owned(), found)));
    asserted.map(|(key, expected, found)| Outcome::equal(&format!("{part}'s {key}"), &expected, &found)).collect()
}
