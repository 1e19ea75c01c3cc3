//! Reads uap-core's `regexes.yaml`: three lists of regular expressions, with what they say of an agent that they match.
//!
//! The file keeps to a small part of YAML (lists of keys with quoted text), which is all that is read here. A line of any
//! other form is a mistake of whoever exchanged the file, and stops the test that reads it.

/// What a list of rules tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Browser,
    Os,
    Device,
}

/// Most fields that a rule can fill: family and four parts of a version.
pub(super) const FIELDS_MAX: usize = 5;

/// One rule, as it is written.
#[derive(Debug, Clone)]
pub(super) struct Rule<'a> {
    pub list: List,
    pub pattern: &'a str,
    pub ignore_case: bool,
    /// What to put into each field instead of the group of its place; `$1` to `$9` stand for groups.
    pub replacements: [Option<&'a str>; FIELDS_MAX],
}

/// All rules, in their order.
///
/// # Errors
/// The first line that is of no form known here.
pub(super) fn read(text: &str) -> Result<Vec<Rule<'_>>, String> {
    let mut rules: Vec<Rule<'_>> = Vec::new();
    let mut list = List::Browser;
    for (n, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let wrong = || format!("line {}: `{trimmed}`", n + 1);
        if let Some(named) = named(trimmed) {
            list = named;
            continue;
        }
        let (key, value) = trimmed.split_once(':').ok_or_else(wrong)?;
        if value.trim() == "null" && list == List::Device && key.ends_with("_replacement") {
            continue;
        }
        // No value of the file has a quote within.
        let value = value.trim().strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).ok_or_else(wrong)?;
        if key == "- regex" {
            rules.push(Rule { list, pattern: value, ignore_case: false, replacements: [None; FIELDS_MAX] });
            continue;
        }
        let rule = rules.last_mut().ok_or_else(wrong)?;
        match (key, field(list, key)) {
            ("regex_flag", None) if value == "i" => rule.ignore_case = true,
            (_, Some(field)) => rule.replacements[field] = Some(value),
            _ => return Err(wrong()),
        }
    }
    Ok(rules)
}

fn named(line: &str) -> Option<List> {
    match line {
        "user_agent_parsers:" => Some(List::Browser),
        "os_parsers:" => Some(List::Os),
        "device_parsers:" => Some(List::Device),
        _ => None,
    }
}

/// Which field a replacement is for.
fn field(list: List, key: &str) -> Option<usize> {
    let keys: &[&str] = match list {
        List::Browser => {
            &["family_replacement", "v1_replacement", "v2_replacement", "v3_replacement", "v4_replacement"]
        }
        List::Os => {
            &["os_replacement", "os_v1_replacement", "os_v2_replacement", "os_v3_replacement", "os_v4_replacement"]
        }
        List::Device => &["device_replacement", "brand_replacement", "model_replacement"],
    };
    keys.iter().position(|known| *known == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_patterns_flags_and_replacements_are_read() {
        let text = "# about\nuser_agent_parsers:\n  - regex: '(a): (\\d)'\n    family_replacement: 'A $1'\n    v2_replacement: '7'\n\n\
                    device_parsers:\n  - regex: 'x#'\n    regex_flag: 'i'\n    brand_replacement: null\n    model_replacement: '$1'\n";
        let rules = read(text).expect("it is well formed");
        let found: Vec<_> = rules.iter().map(|r| (r.list, r.pattern, r.ignore_case, r.replacements)).collect();
        let first = [Some("A $1"), None, Some("7"), None, None];
        assert_eq!(found[0], (List::Browser, "(a): (\\d)", false, first));
        assert_eq!(found[1], (List::Device, "x#", true, [None, None, Some("$1"), None, None]));
    }

    #[test]
    fn a_line_of_another_form_is_named() {
        for wrong in [
            "os_parsers:\n  - regex: \"a\"",
            "os_parsers:\n  - regex: 'a'\n    device_replacement: 'x'",
            "device_parsers:\n  - regex: 'a'\n    regex_flag: 'x'",
            "os_parsers:\n    os_replacement: 'a'",
            "other",
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.starts_with("line "), "{error}");
        }
    }
}
