//! What text a regular expression cannot match without: read off the expression, so that most need never be tried, nor
//! compiled.
//!
//! The answer is a list of clauses, of each of which at least one word must occur in the text, in any case of letters. It may
//! say less than the expression demands, never more.
//!
//! # Source
//! The idea is that of RE2's `FilteredRE2`.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, Hir, HirKind};

/// Words of which one must occur.
pub(super) type Clause = BTreeSet<Vec<u8>>;

/// More alternatives than this are not multiplied out.
const EXACT_MAX: usize = 24;

/// Shorter words occur everywhere and exclude nothing.
const WORD_BYTES_MIN: usize = 2;

/// What is known of what an expression matches.
struct Known {
    /// All texts that it can match, in lower case, if they are few.
    exact: Option<Clause>,
    clauses: Vec<Clause>,
}

/// What `hir` cannot match without.
pub(super) fn clauses(hir: &Hir) -> Vec<Clause> {
    let known = known(hir);
    match known.exact {
        Some(exact) => kept(exact).into_iter().collect(),
        None => known.clauses,
    }
}

fn known(hir: &Hir) -> Known {
    let empty = || Clause::from([Vec::new()]);
    let nothing = || Known { exact: None, clauses: Vec::new() };
    let exactly = |exact| Known { exact: Some(exact), clauses: Vec::new() };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => exactly(empty()),
        HirKind::Literal(literal) => exactly(Clause::from([literal.0.to_ascii_lowercase()])),
        HirKind::Class(class) => few_bytes(class).map_or_else(nothing, exactly),
        HirKind::Capture(capture) => known(&capture.sub),
        HirKind::Repetition(repetition) => {
            let sub = known(&repetition.sub);
            match (repetition.min, repetition.max, sub.exact) {
                (0, Some(1), Some(mut exact)) => {
                    exact.extend(empty());
                    exactly(exact)
                }
                (0, ..) => nothing(),
                (_, _, Some(exact)) => Known { exact: None, clauses: kept(exact).into_iter().collect() },
                (_, _, None) => Known { exact: None, clauses: sub.clauses },
            }
        }
        HirKind::Concat(parts) => concat(parts),
        HirKind::Alternation(parts) => alternation(parts),
    }
}

fn concat(parts: &[Hir]) -> Known {
    let mut clauses = Vec::new();
    // What the parts since the last unknown one match together.
    let mut run = Clause::from([Vec::new()]);
    let mut is_exact = true;
    for part in parts {
        let part = known(part);
        match part.exact {
            Some(exact) if run.len() * exact.len() <= EXACT_MAX => {
                run = run.iter().flat_map(|a| exact.iter().map(|b| [&a[..], b].concat())).collect();
            }
            Some(exact) => {
                is_exact = false;
                clauses.extend(kept(std::mem::replace(&mut run, exact)));
            }
            None => {
                is_exact = false;
                clauses.extend(kept(std::mem::replace(&mut run, Clause::from([Vec::new()]))));
                clauses.extend(part.clauses);
            }
        }
    }
    if is_exact {
        return Known { exact: Some(run), clauses: Vec::new() };
    }
    clauses.extend(kept(run));
    Known { exact: None, clauses }
}

fn alternation(parts: &[Hir]) -> Known {
    let parts: Vec<_> = parts.iter().map(known).collect();
    let exact = parts.iter().map(|part| part.exact.clone()).collect::<Option<Vec<_>>>();
    if let Some(exact) = exact.map(|all| all.into_iter().flatten().collect::<Clause>())
        && exact.len() <= EXACT_MAX
    {
        return Known { exact: Some(exact), clauses: Vec::new() };
    }
    let of_part = |part: Known| match part.exact {
        Some(exact) => kept(exact),
        // The longest words exclude most.
        None => part.clauses.into_iter().max_by_key(|clause| clause.iter().map(Vec::len).min()),
    };
    let union = parts.into_iter().map(of_part).collect::<Option<Vec<_>>>();
    Known { exact: None, clauses: union.into_iter().map(|all| all.into_iter().flatten().collect()).collect() }
}

/// The clause, if it excludes anything.
fn kept(clause: Clause) -> Option<Clause> {
    clause.iter().all(|word| word.len() >= WORD_BYTES_MIN).then_some(clause)
}

/// The bytes of a class in lower case, if it has few.
fn few_bytes(class: &Class) -> Option<Clause> {
    let Class::Bytes(class) = class else { return None };
    let bytes: Vec<u8> = class.ranges().iter().flat_map(|range| range.start()..=range.end()).collect();
    let lower: Clause = bytes.iter().map(|byte| vec![byte.to_ascii_lowercase()]).collect();
    (!lower.is_empty() && lower.len() <= 4).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, expected: &[&[&str]]) {
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern).expect(pattern);
        let found: Vec<Vec<String>> = clauses(&hir)
            .into_iter()
            .map(|clause| clause.into_iter().map(|word| String::from_utf8(word).expect("text")).collect())
            .collect();
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn words_that_must_occur_are_found() {
        check("Chrome", &[&["chrome"]]);
        check("(?i)Chrome", &[&["chrome"]]);
        check(r"(Chrome)/(\d+)\.(\d+)", &[&["chrome/"]]);
        check(r"^\bLG\b", &[&["lg"]]);
        check("(Fire|Ice)(fox|ape)/", &[&["fireape/", "firefox/", "iceape/", "icefox/"]]);
        check("Android.+(SM-1|GT)[^;]*Build", &[&["android"], &["gt", "sm-1"], &["build"]]);
        check("colou?r", &[&["color", "colour"]]);
        check("(?:ab)+c", &[&["ab"]]);
        check("(?:ab.c|de.fgh)", &[&["ab", "fgh"]]);
    }

    #[test]
    fn what_may_be_missing_is_not_demanded() {
        check("(?:abc)?", &[]);
        check("(?:abc)*", &[]);
        check("abc|", &[]);
        check("(?:abc|.)", &[]);
        check("[0-9]+", &[]);
        check("(?:abc.)?def", &[&["def"]]);
        check("a", &[]);
    }
}
