//! Cases of what is kept out: machines, excluded addresses, programs and pages.

use trackway_enrich::bot;
use trackway_enrich::exclusion::{AgentRules, Exclusions, Pages};
use trackway_enrich::network::AddressRanges;

use super::case::{Case, Fields, Outcome};

/// Runs one case.
pub fn run(case: &Case) -> Outcome {
    let (query, expected) = (case.query(), case.expected());
    let run = match query.text("report") {
        Some("excluded_ip") => excluded_address(&query, &expected),
        Some("excluded_user_agent") => excluded_user_agent(&query, &expected),
        Some("is_bot") => is_bot(&query, &expected),
        Some("only_known_urls") => only_known_urls(&query, &expected),
        other => return Outcome::failed(format!("report {other:?} is not known")),
    };
    run.unwrap_or_else(|| Outcome::failed("a key is missing"))
}

fn excluded_address(query: &Fields<'_>, expected: &Fields<'_>) -> Option<Outcome> {
    let rules = query.text("rule")?.split(',').map(str::trim).filter(|rule| !rule.is_empty());
    let ranges = match rules.map(str::parse).collect::<Result<_, _>>() {
        Ok(ranges) => AddressRanges::new(ranges),
        Err(error) => return Some(Outcome::failed(error.to_string())),
    };
    let exclusions = Exclusions { addresses: ranges, ..Exclusions::NONE };
    let is_excluded = |address: &&str| exclusions.of_sender(address.parse().ok(), "").is_some();
    let found: Vec<&str> = query.texts("addresses")?.into_iter().filter(is_excluded).collect();
    Some(Outcome::equal("excluded addresses", &expected.texts("excluded")?, &found))
}

fn excluded_user_agent(query: &Fields<'_>, expected: &Fields<'_>) -> Option<Outcome> {
    // Ours stops the start over a wrong expression; the cases mean that it excludes nobody.
    let user_agents = AgentRules::of_list(query.text("rule")?).unwrap_or_default();
    let exclusions = Exclusions { user_agents, ..Exclusions::NONE };
    let is_excluded = |agent: &&str| exclusions.of_sender(None, agent).is_some();
    let found: Vec<&str> = query.texts("user_agents")?.into_iter().filter(is_excluded).collect();
    Some(Outcome::equal("excluded user agents", &expected.texts("excluded")?, &found))
}

fn is_bot(query: &Fields<'_>, expected: &Fields<'_>) -> Option<Outcome> {
    Some(Outcome::equal("bot", &expected.flag("bot")?, &bot::kind(query.text("user_agent")?).is_some()))
}

fn only_known_urls(query: &Fields<'_>, expected: &Fields<'_>) -> Option<Outcome> {
    let pages = match query.flag("enabled") {
        Some(false) => Pages::ALL,
        _ => match Pages::of(query.texts("site_urls")?) {
            Ok(pages) => pages,
            Err(error) => return Some(Outcome::failed(error.to_string())),
        },
    };
    // Switched off, the rule does not look at the sites.
    let _ = query.texts("site_urls");
    let exclusions = Exclusions { pages, ..Exclusions::NONE };
    let found: Vec<&str> =
        query.texts("urls")?.into_iter().filter(|url| exclusions.of_page(url, "").is_none()).collect();
    Some(Outcome::equal("accepted pages", &expected.texts("accepted")?, &found))
}
