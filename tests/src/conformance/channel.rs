//! Cases of channels: source, medium and campaign to a channel, by the taxonomy that the case names.

use serde_json::Value;
use trackway_domain::channel::{
    ChannelCondition, ChannelField, ChannelPreset, ChannelRule, ChannelRules, ChannelTest, Pattern,
};
use trackway_enrich::channel::{self, Visit};
use trackway_enrich::query::Clicks;
use trackway_enrich::{page, sites};

use super::case::{Case, Fields, Outcome};

/// What a PostHog case says of a page that was opened without a referrer.
const DIRECT: &str = "$direct";

/// Runs one case.
pub fn run(case: &Case) -> Outcome {
    let query = case.query();
    let taxonomy = query.text("taxonomy").unwrap_or_default();
    let Some(preset) = ChannelPreset::parse(taxonomy) else {
        return Outcome::failed(format!("no taxonomy `{taxonomy}`"));
    };
    let own = match query.list("custom_rules").unwrap_or_default().iter().map(rule).collect() {
        Ok(own) => own,
        Err(why) => return Outcome::Failed { why },
    };
    let rules = ChannelRules { preset, own, ..ChannelRules::USUAL };
    let empty = query.value("input").is_some_and(|input| input.as_object().is_some_and(serde_json::Map::is_empty));
    let visit = match query.inner("input").filter(|_| !empty) {
        Some(input) => match visit(&input, preset) {
            Ok(visit) => visit,
            Err(why) => return Outcome::Failed { why },
        },
        None => Visit::default(),
    };
    let expected = case.expected().text("channel").unwrap_or_default();
    Outcome::equal("channel", &expected, &channel::channel(&visit, &rules))
}

fn visit<'a>(input: &Fields<'a>, preset: ChannelPreset) -> Result<Visit<'a>, String> {
    let mut visit = Visit::default();
    for key in input.keys() {
        // A number may stand where sites send one.
        let text = match input.value(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            None | Some(Value::Null) => continue,
            Some(_) => return Err(format!("`{key}` of the input is no text")),
        };
        match key {
            "source" => visit.source = text.into(),
            "medium" => visit.medium = text.into(),
            "campaign" | "utm_campaign" => visit.campaign = text.into(),
            "utm_source" => visit.tagged_source = text.into(),
            "utm_medium" => visit.tagged_medium = text.into(),
            "referring_domain" => match input.text(key) {
                Some(DIRECT) => visit.direct = true,
                Some(domain) => {
                    visit.referring_site = sites::of_host(domain, "/");
                    visit.referring_domain = domain.strip_prefix("www.").unwrap_or(domain);
                }
                None => {}
            },
            "click_id" => visit.clicks = visit.clicks.and(Clicks::of(&text, "x")),
            "url" => {
                let url = input.text(key).unwrap_or_default();
                let at = page::parse(url);
                (visit.url, visit.hostname, visit.pathname) = (url, at.host, at.path);
            }
            "hostname" => visit.hostname = input.text(key).unwrap_or_default(),
            "pathname" => visit.pathname = input.text(key).unwrap_or_default(),
            // Any other is a parameter of the page, of which the marks of clicks count.
            other if Clicks::of(other, "x") != Clicks::NONE => {
                visit.clicks = visit.clicks.and(Clicks::of(other, &text));
            }
            other => return Err(format!("an input `{other}` is not known")),
        }
    }
    // A case of Plausible has the campaign's source twice: as sent, and as the name that it stands for.
    if preset == ChannelPreset::Plausible && visit.source.is_empty() {
        visit.source = visit.tagged_source.clone();
    }
    Ok(visit)
}

fn rule(rule: &Fields<'_>) -> Result<ChannelRule, String> {
    let channel = rule.text("channel").or_else(|| rule.text("channel_type")).unwrap_or_default().to_owned();
    let combiner = rule.text("combiner").unwrap_or("AND");
    let any = rule.has("any_of") || combiner.eq_ignore_ascii_case("or");
    let lists = ["all_of", "any_of", "items"].into_iter().filter_map(|key| rule.list(key));
    let conditions = lists.flatten().map(|condition| self::condition(&condition)).collect::<Result<_, _>>()?;
    Ok(ChannelRule { channel, any, conditions })
}

fn condition(condition: &Fields<'_>) -> Result<ChannelCondition, String> {
    let key = condition.text("key").or_else(|| condition.text("field")).unwrap_or_default();
    let field = match key {
        "domain" | "referrer" => Some(ChannelField::ReferringDomain),
        "host" => Some(ChannelField::Hostname),
        "path" => Some(ChannelField::Pathname),
        "source" | "medium" | "campaign" => ChannelField::parse(&format!("utm_{key}")),
        key => ChannelField::parse(key),
    };
    let field = field.ok_or_else(|| format!("a condition on `{key}` is not known"))?;
    let values: Vec<String> = match condition.value("value") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => {
            values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect()
        }
        Some(Value::String(value)) => vec![value.clone()],
        Some(other) => vec![other.to_string()],
    };
    let op = condition.text("op").unwrap_or("eq");
    let patterns = || {
        let parse = |text: &String| Pattern::parse(text).ok_or_else(|| format!("`{text}` is no pattern"));
        values.iter().map(parse).collect::<Result<Vec<_>, _>>()
    };
    let (test, negated) = match op {
        "eq" | "in" | "is" | "exact" => (ChannelTest::Is(values), false),
        "neq" | "not_in" | "is_not" | "not_eq" | "not_exact" => (ChannelTest::Is(values), true),
        "is_set" => (ChannelTest::IsSet, false),
        "is_not_set" => (ChannelTest::IsSet, true),
        "icontains" | "contains" => (ChannelTest::Contains(values), false),
        "not_icontains" | "not_contains" => (ChannelTest::Contains(values), true),
        "regex" | "matches" => (ChannelTest::Matches(patterns()?), false),
        "not_regex" | "not_matches" => (ChannelTest::Matches(patterns()?), true),
        other => return Err(format!("an operator `{other}` is not known")),
    };
    Ok(ChannelCondition { field, test, negated })
}
