//! All rules of uap-core, ready to be asked: an automaton over the words that the rules cannot match without, and the rules'
//! expressions, each compiled when the first agent needs it.
//!
//! Of some 1200 expressions an agent needs about ten, and all agents of a site together a few hundred. What uap-core's
//! expressions demand is little enough for a backtracker that visits each state once for each byte, so time is bounded for
//! whatever is sent; its memory is that of the states alone.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use aho_corasick::AhoCorasick;
use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::{Compiler, Config};
use regex_automata::util::captures::Captures;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};

use super::atoms;
use super::rules::{self, FIELDS_MAX, List, Rule};

const REGEXES: &str = include_str!("../../data/uap-core/regexes.yaml");

/// Repetitions up to this many or more are unlimited here, as uap-core means them: it writes limits for engines that take
/// exponential time. Each step of a limit would be a state.
const REPETITION_MAX: u32 = 100;

/// Clauses of a rule that are looked at; the width of [`Table::scan`]'s marks.
const CLAUSES_MAX: usize = 16;

/// Bytes for the marks of states visited: enough for the largest expression over the longest text that is read; a test says so.
const VISITED_BYTES_MAX: usize = 1 << 20;

/// What the first rule that matches says: the texts of its fields.
pub(super) type Fields = [String; FIELDS_MAX];

/// Of uap-core's rules. Made at first use, in some tens of milliseconds: what wants to be quick later makes it early.
pub(super) static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::new(rules::read(REGEXES).expect("a test reads the file")));

pub(super) struct Table {
    rules: Vec<Ready>,
    /// Finds words; each pattern is one.
    words: AhoCorasick,
    /// By word: rules, and which of their clauses it fulfils.
    fulfils: Vec<Vec<(u32, u16)>>,
    /// Rules that demand no word.
    always: Vec<u32>,
}

struct Ready {
    rule: Rule<'static>,
    /// One bit for each clause.
    clauses: u16,
    matcher: OnceLock<BoundedBacktracker>,
}

impl Table {
    fn new(rules: Vec<Rule<'static>>) -> Self {
        let mut words: BTreeMap<Vec<u8>, Vec<(u32, u16)>> = BTreeMap::new();
        let mut always = Vec::new();
        let mut ready = Vec::with_capacity(rules.len());
        for (number, rule) in (0..).zip(rules) {
            let clauses = atoms::clauses(&parse(&rule));
            let mut bits = 0;
            for (n, clause) in clauses.into_iter().take(CLAUSES_MAX).enumerate() {
                bits |= 1 << n;
                for word in clause {
                    words.entry(word).or_default().push((number, 1 << n));
                }
            }
            if bits == 0 {
                always.push(number);
            }
            ready.push(Ready { rule, clauses: bits, matcher: OnceLock::new() });
        }
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(words.keys());
        let automaton = automaton.expect("words of the shipped rules are few");
        Self { rules: ready, words: automaton, fulfils: words.into_values().collect(), always }
    }

    /// What the first matching rule of each list (browser, os, device) says of `agent`.
    pub fn find(&self, agent: &str) -> [Option<Fields>; 3] {
        let mut found = [None, None, None];
        let mut cache: Option<backtrack::Cache> = None;
        for number in self.candidates(agent) {
            let ready = &self.rules[number as usize];
            let place = &mut found[ready.rule.list as usize];
            if place.is_some() {
                continue;
            }
            let matcher = ready.matcher.get_or_init(|| compile(&ready.rule));
            let cache = match &mut cache {
                Some(cache) => {
                    cache.reset(matcher);
                    cache
                }
                None => cache.insert(matcher.create_cache()),
            };
            let mut groups = matcher.create_captures();
            matcher.try_captures(cache, agent, &mut groups).expect("the text's length is within the matcher's");
            if groups.is_match() {
                *place = Some(fields(&ready.rule, &groups, agent));
            }
        }
        found
    }

    /// Rules that may match, in their order.
    fn candidates(&self, agent: &str) -> Vec<u32> {
        let mut candidates = self.always.clone();
        let mut fulfilled = vec![0_u16; self.rules.len()];
        let mut seen = vec![false; self.fulfils.len()];
        for word in self.words.find_overlapping_iter(agent) {
            let word = word.pattern().as_usize();
            if std::mem::replace(&mut seen[word], true) {
                continue;
            }
            for &(number, clause) in &self.fulfils[word] {
                let (all, marks) = (self.rules[number as usize].clauses, &mut fulfilled[number as usize]);
                if *marks != all {
                    *marks |= clause;
                    if *marks == all {
                        candidates.push(number);
                    }
                }
            }
        }
        candidates.sort_unstable();
        candidates
    }
}

fn parse(rule: &Rule<'_>) -> Hir {
    let parser = &mut ParserBuilder::new();
    // Agents are ASCII with rare exceptions, and tables of Unicode's classes are large.
    let mut parser = parser.unicode(false).utf8(false).case_insensitive(rule.ignore_case).build();
    unlimited(parser.parse(rule.pattern).expect("a test parses every rule"))
}

fn compile(rule: &Rule<'_>) -> BoundedBacktracker {
    let mut compiler = Compiler::new();
    let nfa = compiler.configure(Config::new().utf8(false)).build_from_hir(&parse(rule));
    let matcher = BoundedBacktracker::builder()
        .configure(BoundedBacktracker::config().visited_capacity(VISITED_BYTES_MAX))
        .build_from_nfa(nfa.expect("a test compiles every rule"));
    matcher.expect("a test compiles every rule")
}

/// The same, with long repetitions endless.
fn unlimited(hir: Hir) -> Hir {
    let all = |parts: Vec<Hir>| parts.into_iter().map(unlimited).collect();
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Repetition(Repetition { min, max, greedy, sub }) => Hir::repetition(Repetition {
            min,
            max: max.filter(|max| *max < REPETITION_MAX),
            greedy,
            sub: Box::new(unlimited(*sub)),
        }),
        HirKind::Capture(Capture { index, name, sub }) => {
            Hir::capture(Capture { index, name, sub: Box::new(unlimited(*sub)) })
        }
        HirKind::Concat(parts) => Hir::concat(all(parts)),
        HirKind::Alternation(parts) => Hir::alternation(all(parts)),
    }
}

/// As uap-core's specification says: a replacement with its groups filled in, else the group of the field's place. A brand
/// has no group, a model has the first.
fn fields(rule: &Rule<'_>, groups: &Captures, agent: &str) -> Fields {
    let group = |n: usize| {
        let span = groups.get_group(n)?;
        // An agent that is no ASCII may be cut within a character.
        Some(String::from_utf8_lossy(&agent.as_bytes()[span.range()]))
    };
    std::array::from_fn(|field| {
        let text = match (rule.replacements[field], rule.list, field) {
            (Some(template), ..) => filled(template, |n| group(n).unwrap_or_default().into_owned()),
            (None, List::Device, 1) => String::new(),
            (None, List::Device, 2) => group(1).unwrap_or_default().into_owned(),
            (None, ..) => group(field + 1).unwrap_or_default().into_owned(),
        };
        text.trim().to_owned()
    })
}

fn filled(template: &str, group: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        match after.chars().next().and_then(|digit| digit.to_digit(10)) {
            Some(number) => {
                text.push_str(&group(number as usize));
                rest = &after[1..];
            }
            None => {
                text.push('$');
                rest = after;
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::super::AGENT_BYTES_MAX;
    use super::*;

    #[test]
    fn every_rule_compiles_and_takes_the_longest_agent() {
        assert!(TABLE.rules.len() > 1000);
        for ready in &TABLE.rules {
            let matcher = compile(&ready.rule);
            assert!(matcher.max_haystack_len() >= AGENT_BYTES_MAX, "{}", ready.rule.pattern);
        }
        // Those are tried for every agent.
        assert!(TABLE.always.len() < 20, "{} rules demand no word", TABLE.always.len());
    }

    #[test]
    fn templates_are_filled_with_groups() {
        let group = |n: usize| ["all", "one", ""][n].to_owned();
        for (template, expected) in
            [("a", "a"), ("$1", "one"), ("x $1 $2y", "x one y"), ("1$", "1$"), ("$x$1", "$xone")]
        {
            assert_eq!(filled(template, group), expected);
        }
    }
}
