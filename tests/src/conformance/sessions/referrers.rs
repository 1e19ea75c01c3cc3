//! Where sessions came from, and which of them earned an order.

use serde_json::Value;
use trackway_domain::session::{Landing, LandingKind};
use trackway_enrich::query::{self, Tags};
use trackway_enrich::sites::{self, Kind};
use trackway_enrich::{landing, page, referrer};

use super::input::Input;
use super::{Standing, Told};
use crate::conformance::case::{Case, CaseEvent, Fields, Outcome};
use crate::conformance::referrer::site_rules;

/// Runs one case.
pub(super) fn run(case: &Case, input: &Input) -> Outcome {
    let told = Told::of(input);
    let expected = case.expected();
    let Some(rows) = expected.list("sessions") else { return Outcome::failed("`sessions` is missing") };
    if rows.len() != told.table.len() {
        return Outcome::failed(format!("{} sessions are expected, found {:?}", rows.len(), told.table));
    }
    for (row, standing) in rows.iter().zip(&told.table) {
        let views = i64::from(standing.session.page_views);
        let outcome = Outcome::all([
            same_source(row, input, standing),
            Outcome::equal("user", &row.text("user"), &Some(&*standing.visitor)),
            Outcome::equal("pageviews", &row.whole("pageviews"), &Some(views)),
        ]);
        if outcome != Outcome::Passed {
            return outcome;
        }
    }
    let Some(credit) = expected.inner("order_credit") else { return Outcome::Passed };
    if case.query().value("stored_attribution").is_some_and(|stored| !stored.is_null()) {
        return Outcome::skipped(
            "the sessions are as expected; a source that the tracker kept in a cookie is not taken for the order: it is worked out \
             from the visitor's own events",
        );
    }
    let order = input.of_case.iter().position(|event| event.event == "order");
    let Some(order) = order else { return Outcome::failed("an order is missing") };
    let time = input.of_case[order].time_ms;
    let within =
        told.table.iter().position(|standing| (standing.session.start.0..=standing.session.end.0).contains(&time));
    let Some(within) = within else { return Outcome::failed("the order is in no session") };
    let index = i64::try_from(within).expect("few");
    Outcome::all([
        Outcome::equal("session_index", &credit.whole("session_index"), &Some(index)),
        same_source(&credit, input, &told.table[within]),
    ])
}

/// Kind, name and keyword of where a session came from.
fn same_source(row: &Fields<'_>, input: &Input, standing: &Standing) -> Outcome {
    let [kind, name, keyword] = match (&standing.session.landing, input.landed(standing)) {
        (Some(landing), Some(event)) => source(landing, event),
        _ => ["direct".to_owned(), String::new(), String::new()],
    };
    let same_name = |said: &str| {
        said == name || sites::of_source(said).zip(sites::of_source(&name)).is_some_and(|(one, other)| one.0 == other.0)
    };
    let expected_name = row.text("referrer_name").unwrap_or_default();
    Outcome::all([
        Outcome::equal("referrer_type", &row.text("referrer_type"), &Some(&*kind)),
        if same_name(expected_name) {
            Outcome::Passed
        } else {
            Outcome::equal("referrer_name", &expected_name, &&*name)
        },
        Outcome::equal("keyword", &row.text("keyword"), &Some(&*keyword)),
    ])
}

fn source(landing: &Landing, event: &CaseEvent) -> [String; 3] {
    let from = referrer::parse(prop(event, "referrer"));
    match landing.kind {
        LandingKind::Campaign => {
            // Here names stay as they were written; there they are in lower case.
            let keyword =
                form_value(prop(event, "url"), &["pk_kwd", "pk_keyword", "utm_term", "mtm_kwd", "mtm_keyword"]);
            ["campaign".to_owned(), landing.campaign.to_lowercase(), keyword.to_lowercase()]
        }
        LandingKind::Website => ["website".to_owned(), landing.source.clone(), String::new()],
        LandingKind::Known => {
            let kind = match from.site.map(|site| site.kind) {
                Some(Kind::Search) => "search",
                Some(Kind::Social | Kind::Video) => "social",
                _ => "website",
            };
            let name = from.site.map_or_else(|| landing.source.clone(), |site| site.name.to_owned());
            [kind.to_owned(), name, from.term.map(Into::into).unwrap_or_default()]
        }
    }
}

/// What the event says of where its visitor came from, by the case's site.
pub(super) fn landing(case: &Case, event: &CaseEvent) -> Result<Option<Landing>, Outcome> {
    if event.event == "order" {
        // It keeps the page's address, so it says nothing that the page has not said.
        return Ok(None);
    }
    let rules = site_rules(case).map_err(Outcome::failed)?;
    let (url, from) = (prop(event, "url"), prop(event, "referrer"));
    Ok(landing::landing(url, from, Tags::default(), &rules).map(Into::into))
}

fn prop<'a>(event: &'a CaseEvent, key: &str) -> &'a str {
    event.props.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn form_value(url: &str, names: &[&str]) -> String {
    query::find(page::parse(url).query, names).map(Into::into).unwrap_or_default()
}
