//! What a visitor agreed to, as far as a name says it.

use serde_json::value::RawValue;
use trackway_domain::event::Consent;

use crate::json::{self, Members};

/// Reads `context.consent`: `{"categoryPreferences": {"Analytics": true, "Advertising": false}}`.
///
/// Categories are the site's own. One that is called analytics, or has OneTrust's number for it, decides; else
/// agreeing to all or to nothing does.
pub(super) fn of_context(consent: &RawValue) -> Consent {
    let categories = Members::of(consent).take_members("categoryPreferences");
    let answer = |value: &RawValue| match value.get() {
        "true" => Some(Consent::Granted),
        "false" => Some(Consent::Denied),
        _ => None,
    };
    if let Some((_, value)) = categories.iter().find(|(name, _)| is_analytics(name)) {
        return answer(value).unwrap_or_default();
    }
    let mut answers = categories.iter().filter_map(|(_, value)| answer(value));
    match answers.next() {
        Some(first) if answers.all(|other| other == first) => first,
        _ => Consent::Unknown,
    }
}

/// Reads RudderStack's `context.consentManagement`: `{"allowedConsentIds": [], "deniedConsentIds": ["Analytics"]}`.
pub(super) fn of_management(management: &RawValue) -> Consent {
    let management = Members::of(management);
    let names_analytics = |list: &str| {
        let ids = management.get(list).and_then(|ids| json::list(ids.get(), IDS_MAX)).unwrap_or_default();
        ids.into_iter().filter_map(json::text).any(|id| is_analytics(&id))
    };
    if names_analytics("deniedConsentIds") {
        Consent::Denied
    } else if names_analytics("allowedConsentIds") {
        Consent::Granted
    } else {
        Consent::Unknown
    }
}

/// Above any site's categories.
const IDS_MAX: usize = 100;

fn is_analytics(name: &str) -> bool {
    ["analytics", "c0002"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(categories: &str, expected: Consent) {
        let json = format!(r#"{{"categoryPreferences":{categories}}}"#);
        let raw: Box<RawValue> = serde_json::from_str(&json).expect("JSON");
        assert_eq!(of_context(&raw), expected, "{json}");
    }

    #[test]
    fn analytics_decide_and_else_all_or_nothing() {
        check(r#"{"Advertising":true,"Analytics":false,"Functional":true}"#, Consent::Denied);
        check(r#"{"C0001":false,"C0002":true}"#, Consent::Granted);
        check(r#"{"a":true,"b":true}"#, Consent::Granted);
        check(r#"{"a":false,"b":false}"#, Consent::Denied);
        check(r#"{"a":true,"b":false}"#, Consent::Unknown);
        check(r#"{"Analytics":"yes","b":true}"#, Consent::Unknown);
        check("{}", Consent::Unknown);
        check("[true]", Consent::Unknown);
    }

    #[test]
    fn rudderstacks_lists_name_what_is_allowed_and_what_is_not() {
        let check = |json: &str, expected| {
            let raw: Box<RawValue> = serde_json::from_str(json).expect("JSON");
            assert_eq!(of_management(&raw), expected, "{json}");
        };
        check(r#"{"allowedConsentIds":["C0001","C0002"],"deniedConsentIds":[]}"#, Consent::Granted);
        check(r#"{"allowedConsentIds":["x"],"deniedConsentIds":["Analytics"]}"#, Consent::Denied);
        check(r#"{"allowedConsentIds":["C0002"],"deniedConsentIds":["C0002"]}"#, Consent::Denied);
        check(r#"{"allowedConsentIds":["x"],"deniedConsentIds":7}"#, Consent::Unknown);
        check("7", Consent::Unknown);
    }
}
