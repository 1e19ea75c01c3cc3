//! Programs, by what their user agent says.

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled expression may take. The expressions that people write take some thousands.
const EXPRESSION_BYTES_MAX: usize = 1 << 20;

/// Which user agents are excluded.
#[derive(Debug, Clone, Default)]
pub struct AgentRules(Vec<Regex>);

/// What is no regular expression.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no regular expression: {problem}")]
pub struct NoExpression {
    text: String,
    problem: String,
}

impl AgentRules {
    /// None.
    pub const NONE: Self = Self(Vec::new());

    /// Of these entries, each a text that the agent has in it (in any case of letters), or `/a regular expression/` with
    /// flags behind: `i` any case, `m` lines, `s` the dot is any character, `x` spaces mean nothing. An empty entry excludes
    /// nobody.
    ///
    /// # Errors
    /// The first entry that looks like an expression and is none. Look-around and back-references are none here: what
    /// matches in linear time has neither.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, NoExpression> {
        let entries = entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(expression).collect::<Result<_, _>>().map(Self)
    }

    /// Of entries with commas between. A comma within an expression is the expression's.
    ///
    /// # Errors
    /// As [`AgentRules::new`].
    pub fn of_list(list: &str) -> Result<Self, NoExpression> {
        Self::new(split(list))
    }

    /// Whether this agent is excluded.
    #[must_use]
    pub fn exclude(&self, user_agent: &str) -> bool {
        self.0.iter().any(|rule| rule.is_match(user_agent))
    }
}

impl PartialEq for AgentRules {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(Regex::as_str).eq(other.0.iter().map(Regex::as_str))
    }
}

impl Eq for AgentRules {}

fn expression(entry: &str) -> Result<Regex, NoExpression> {
    let wrong = |problem: String| NoExpression { text: entry.to_owned(), problem };
    // The flags stand in the pattern, so that equal rules have equal patterns.
    let pattern = match delimited(entry) {
        None => format!("(?i){}", regex::escape(entry)),
        Some((pattern, flags)) => match flags.chars().find(|flag| !"imsxu".contains(*flag)) {
            Some(flag) => return Err(wrong(format!("flag `{flag}` is none of i, m, s, x, u"))),
            None if flags.is_empty() => pattern.to_owned(),
            None => format!("(?{flags}){pattern}"),
        },
    };
    // The parser's message has several lines, with the place marked; the last says what is wrong.
    let last_line = |error: regex::Error| error.to_string().lines().last().unwrap_or_default().to_owned();
    let regex = RegexBuilder::new(&pattern).size_limit(EXPRESSION_BYTES_MAX).build();
    regex.map_err(|error| wrong(last_line(error)))
}

/// Pattern and flags of `/pattern/flags`.
fn delimited(entry: &str) -> Option<(&str, &str)> {
    let (pattern, flags) = entry.strip_prefix('/')?.rsplit_once('/')?;
    let escapes = pattern.bytes().rev().take_while(|byte| *byte == b'\\').count();
    (escapes % 2 == 0 && flags.bytes().all(|flag| flag.is_ascii_alphabetic())).then_some((pattern, flags))
}

/// Entries of a list.
fn split(list: &str) -> Vec<&str> {
    let mut entries = Vec::new();
    let mut rest = list;
    loop {
        let entry = rest.trim_start();
        let end = match entry.starts_with('/') {
            // The expression ends where its flags do, before the next comma or at the end.
            true => entry.match_indices(',').map(|(at, _)| at).find(|at| delimited(entry[..*at].trim_end()).is_some()),
            false => entry.find(','),
        };
        match end {
            Some(end) => {
                entries.push(&entry[..end]);
                rest = &entry[end + 1..];
            }
            None => {
                entries.push(entry);
                return entries;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, excluded: &[&str], others: &[&str]) {
        let rules = AgentRules::of_list(list).unwrap_or_else(|error| panic!("{error}"));
        for agent in excluded {
            assert!(rules.exclude(agent), "{list}: {agent}");
        }
        for agent in others {
            assert!(!rules.exclude(agent), "{list}: {agent}");
        }
    }

    #[test]
    fn texts_are_found_anywhere_in_any_case() {
        check("", &[], &["", "anything"]);
        check(" , ,", &[], &["", "anything", ","]);
        check("mozilla", &["Mozilla/5.0", "old MOZILLA"], &["", "mozill"]);
        check("one, T.wo ,$^(", &["ONE", "t.wo", "x$^(y"], &["tXwo", "on", "$ ^("]);
        check("/path", &["a /PATH"], &["path"]);
    }

    #[test]
    fn expressions_stand_between_slashes() {
        check("/^a.c$/", &["abc"], &["ABC", "abcd", "/^a.c$/"]);
        check("/^a.c$/i,x", &["ABC", "axc", "x"], &["abcd"]);
        check("/a{2,3}b/, y", &["aab", "y"], &["ab", "3}b/"]);
        check(r"/^a\/b,\/c$/", &["a/b,/c"], &["a/b"]);
        check("//", &["anything"], &[]);
    }

    #[test]
    fn what_is_no_expression_is_named() {
        for (list, problem) in [
            ("/(/", "`/(/` is no regular expression: error: unclosed group"),
            ("a,/x/iq", "`/x/iq` is no regular expression: flag `q` is none of i, m, s, x, u"),
            ("/a(?=b)/", "`/a(?=b)/` is no regular expression: error: look-around"),
        ] {
            let error = AgentRules::of_list(list).expect_err(list).to_string();
            assert!(error.starts_with(problem), "{error}");
        }
        assert!(AgentRules::new(["/(?:a{1000}){1000}/"]).is_err(), "it would take too much memory");
    }
}
