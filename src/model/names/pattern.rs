//! The patterns of transformers' rules: Python regular expressions with a few habits of their own.
//!
//! A pattern is searched for, not anchored. `*.` in it means `.*\.`; one that ends in a letter or digit must not be followed
//! by a word character; of several, the longest is tried first. Most names match nothing, so the literals that a pattern
//! cannot do without are looked for first, and the expression is compiled when all are found. (A class has up to a hundred
//! rules, most of them for towers that the checkpoint may not have.)
//!
//! Some patterns look around, which the `regex` crate does not. Each such assertion is taken out, an empty group is left
//! where it stood, and what it says is tested there once the rest has matched. That is the same wherever the rest can
//! match in one way only from a given start, as it can in all of the table; if the test fails, later starts are tried.

use std::sync::OnceLock;

use regex::bytes::{Captures, Regex, RegexBuilder};

/// One or several alternative patterns.
#[derive(Debug)]
pub struct Pattern {
    sources: Vec<String>,
    /// For every source the texts without which it cannot match.
    literals: Vec<Vec<Box<str>>>,
    compiled: OnceLock<Compiled>,
}

/// Where a pattern matched.
#[derive(Debug, PartialEq, Eq)]
pub struct Match<'t> {
    /// The matched text.
    pub text: &'t str,
    /// Which of the alternatives it was, counted as they are written.
    pub branch: usize,
    /// What the first group of that alternative matched.
    pub group: Option<&'t str>,
    /// What `*` matched, if it is a number.
    pub number: Option<u64>,
}

#[derive(Debug)]
struct Compiled {
    regex: Regex,
    branches: Vec<Branch>,
    looks: Vec<LookAround>,
}

/// Groups of one alternative, by number.
#[derive(Debug)]
struct Branch {
    source: usize,
    whole: usize,
    first: Option<usize>,
    star: Option<usize>,
}

/// An assertion that was taken out.
#[derive(Debug)]
struct LookAround {
    group: usize,
    behind: bool,
    negative: bool,
    regex: Regex,
}

impl Pattern {
    /// Patterns as the table spells them.
    pub fn new(sources: Vec<String>) -> Pattern {
        let literals = sources.iter().map(|source| literals(source)).collect();
        Pattern { sources, literals, compiled: OnceLock::new() }
    }

    /// The patterns as they were given.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// The first place where one of them matches. Names that are not ASCII match nothing.
    pub fn find<'t>(&self, text: &'t str) -> Option<Match<'t>> {
        let possible = |literals: &Vec<Box<str>>| literals.iter().all(|literal| text.contains(&**literal));
        if !self.literals.iter().any(possible) || !text.is_ascii() {
            return None;
        }
        let compiled = self.compiled.get_or_init(|| Compiled::new(&self.sources));
        if compiled.is_plain() {
            let text = text.get(compiled.regex.find(text.as_bytes())?.range())?;
            return Some(Match { text, branch: 0, group: None, number: None });
        }
        let mut start = 0;
        while start <= text.len() {
            let found = compiled.regex.captures_at(text.as_bytes(), start)?;
            if compiled.looks.iter().all(|look| look.holds(&found, text)) {
                return Some(compiled.matched(&found, text));
            }
            start = found.get(0)?.start() + 1;
        }
        None
    }
}

impl Compiled {
    fn new(sources: &[String]) -> Compiled {
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_unstable_by_key(|&i| (std::cmp::Reverse(sources[i].len()), i));
        let (mut text, mut looks) = (String::new(), Vec::new());
        for &source in &order {
            let mut pattern = sources[source].replace("*.", &format!("(?P<s{source}>.*)\\."));
            if pattern.ends_with(|c: char| c.is_ascii_alphanumeric()) {
                pattern.push_str(r"\b{end-half}");
            }
            let separator = if text.is_empty() { "" } else { "|" };
            let pattern = without_looks(&pattern, &mut looks);
            text.push_str(&format!("{separator}(?P<b{source}>{pattern})"));
        }
        let regex = compile(&text);
        let names: Vec<Option<&str>> = regex.capture_names().collect();
        let at = |name: String| names.iter().position(|other| *other == Some(name.as_str()));
        let branch = |source: usize| {
            let whole = at(format!("b{source}"))?;
            let own =
                names[whole + 1..].iter().take_while(|name| !name.is_some_and(|name| name.starts_with('b')));
            let first = own.clone().position(|name| name.is_none()).map(|i| whole + 1 + i);
            Some(Branch { source, whole, first, star: at(format!("s{source}")) })
        };
        let branches = order.iter().filter_map(|&source| branch(source)).collect();
        let look = |(i, (behind, negative, inner)): (usize, (bool, bool, String))| {
            let inner = if behind { format!("(?:{inner})$") } else { format!("^(?:{inner})") };
            Some(LookAround { group: at(format!("l{i}"))?, behind, negative, regex: compile(&inner) })
        };
        let looks = looks.into_iter().enumerate().filter_map(look).collect();
        Compiled { regex, branches, looks }
    }

    /// Whether where it matches is all there is to know, which is found faster than groups are.
    fn is_plain(&self) -> bool {
        let none = |branch: &Branch| branch.first.is_none() && branch.star.is_none();
        self.looks.is_empty() && self.branches.len() == 1 && self.branches.iter().all(none)
    }

    fn matched<'t>(&self, found: &Captures<'_>, text: &'t str) -> Match<'t> {
        let group = |i: usize| found.get(i).and_then(|group| text.get(group.range()));
        let of_match = |branch: &&Branch| found.get(branch.whole).is_some();
        let branch = self.branches.iter().find(of_match).expect("one of the alternatives matched");
        Match {
            text: group(0).unwrap_or_default(),
            branch: branch.source,
            group: branch.first.and_then(group),
            number: branch.star.and_then(group).and_then(|digits| digits.parse().ok()),
        }
    }
}

impl LookAround {
    fn holds(&self, found: &Captures<'_>, text: &str) -> bool {
        // In an alternative that did not match there is nothing to test.
        let Some(at) = found.get(self.group).map(|group| group.start()) else { return true };
        let side = if self.behind { &text.as_bytes()[..at] } else { &text.as_bytes()[at..] };
        self.regex.is_match(side) != self.negative
    }
}

/// Compiles without Unicode: names are ASCII, and its tables would be most of the memory.
fn compile(pattern: &str) -> Regex {
    RegexBuilder::new(pattern).unicode(false).build().expect("a test compiles every pattern of the table")
}

/// The pattern with an empty group `lN` in the place of every look-around, which is added to `looks`.
fn without_looks(pattern: &str, looks: &mut Vec<(bool, bool, String)>) -> String {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let kinds =
            [("(?!", false, true), ("(?=", false, false), ("(?<!", true, true), ("(?<=", true, false)];
        if let Some((open, behind, negative)) = kinds.iter().find(|(open, ..)| rest.starts_with(open)) {
            let inside = &rest[open.len()..];
            let end = closing(inside);
            text.push_str(&format!("(?P<l{}>)", looks.len()));
            looks.push((*behind, *negative, inside[..end].to_owned()));
            rest = inside.get(end + 1..).unwrap_or("");
            continue;
        }
        let len =
            if c == '\\' { 1 + rest[1..].chars().next().map_or(0, char::len_utf8) } else { c.len_utf8() };
        text.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    text
}

/// Where the group ends whose inside this is.
fn closing(inside: &str) -> usize {
    let (mut depth, mut escaped) = (0, false);
    for (i, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 0 => return i,
            ')' => depth -= 1,
            _ => {}
        }
    }
    inside.len()
}

/// The texts of a pattern outside groups, each of which every match contains; the longest first, as it is the rarest.
fn literals(pattern: &str) -> Vec<Box<str>> {
    let (mut found, mut run) = (Vec::new(), String::new());
    let mut chars = pattern.chars().peekable();
    let mut depth = 0;
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => chars.next().filter(|c| !c.is_ascii_alphanumeric()),
            '(' => {
                depth += 1;
                None
            }
            ')' => {
                depth -= 1;
                None
            }
            '[' => {
                while chars.next().is_some_and(|c| c != ']') {}
                None
            }
            '|' if depth == 0 => return Vec::new(),
            '.' | '^' | '$' | '*' | '+' | '?' | '{' | '}' | '|' => None,
            c => Some(c),
        };
        // What a quantifier follows may be absent, or come again.
        let optional = matches!(chars.peek(), Some('?' | '*' | '{' | '+')) && c != '.';
        match plain {
            Some(c) if depth == 0 && !optional => run.push(c),
            _ => found.push(std::mem::take(&mut run).into_boxed_str()),
        }
    }
    found.push(run.into_boxed_str());
    found.retain(|literal| !literal.is_empty());
    found.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::table;

    fn find(pattern: &str, text: &str) -> Option<(String, Option<String>, Option<u64>)> {
        let pattern = Pattern::new(vec![pattern.to_owned()]);
        pattern.find(text).map(|found| (found.text.to_owned(), found.group.map(str::to_owned), found.number))
    }

    fn text(pattern: &str, name: &str) -> Option<String> {
        find(pattern, name).map(|found| found.0)
    }

    #[test]
    fn habits_of_the_rules() {
        assert_eq!(find(".experts.*.w1.weight", "m.experts.12.w1.weight").expect("matches").2, Some(12));
        assert_eq!(text(".experts.*.w1.weight", "m.experts.12.w1.weight_scale_inv"), None);
        assert_eq!(text("^visual", "visual.blocks"), Some("visual".to_owned()));
        assert_eq!(text("^visual", "visuals"), None);
        assert_eq!(text("hc_", "m.hc_fn"), Some("hc_".to_owned()));
        assert_eq!(text("layer.", "m.layers.1"), Some("layers".to_owned()), "a dot is any character");
        assert_eq!(text("layer\\.", "m.layers.1"), None);
        assert_eq!(
            find("^vision_model\\.(.+)", "vision_model.x.y").expect("matches").1,
            Some("x.y".to_owned())
        );
        assert_eq!(text("norm", "été.norm"), None, "names that are not ASCII are left alone");
    }

    #[test]
    fn looking_around() {
        let qwen = "^model(?!\\.(language_model|visual))";
        assert_eq!(text(qwen, "model.layers.0"), Some("model".to_owned()));
        assert_eq!(text(qwen, "model.visual.blocks"), None);
        let rest = "^model\\.(?:(?!language_model\\.))(.+)";
        assert_eq!(find(rest, "model.layers.0").expect("matches").1, Some("layers.0".to_owned()));
        assert_eq!(text(rest, "model.language_model.layers"), None);
        let behind = "(?<!language_model\\.)layers";
        assert_eq!(text(behind, "language_model.layers.0"), None);
        let twice = Pattern::new(vec![behind.to_owned()]);
        assert!(twice.find("language_model.layers.0.layers").is_some(), "a later place may match");
        let norm = "(?<!_)(?<!\\w)norm\\.";
        assert_eq!(
            (text(norm, "x_norm.weight"), text(norm, "norm.weight")),
            (None, Some("norm.".to_owned()))
        );
    }

    #[test]
    fn the_longest_alternative_comes_first() {
        let sources = ["x.weight", "x.weight.absmax"].map(str::to_owned).to_vec();
        let pattern = Pattern::new(sources);
        assert_eq!(pattern.find("x.weight.absmax").expect("matches").branch, 1);
        assert_eq!(pattern.find("x.weight").expect("matches").branch, 0);
    }

    #[test]
    fn literals_are_what_no_match_can_lack() {
        let cases = [
            (".experts.*.w1.weight", &["experts", "weight", "w1"][..]),
            ("^model\\.(?:(?!language_model\\.))(.+)", &["model."]),
            ("attn_res\\.attn_queries\\.(\\d+)", &["attn_res.attn_queries."]),
            ("ab?c", &["a", "c"]),
            ("a|b", &[]),
            ("(a|bc)d?", &[]),
            ("^(.+)", &[]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(
                literals(pattern),
                expected.iter().map(|&text| text.into()).collect::<Vec<Box<str>>>(),
                "{pattern}"
            );
        }
    }

    #[test]
    fn every_pattern_of_the_table_compiles() {
        for entry in table::entries() {
            for rule in table::rules(entry).expect("parses") {
                Compiled::new(rule.pattern.sources());
            }
        }
    }
}
