//! Numbers of single modules, by patterns of their paths: `rank_pattern` and `alpha_pattern`.
//!
//! PEFT's rule (`get_pattern_key`): the first key in file order for which `(.*\.)?(KEY)$` matches from the start. Producers
//! list every module of a model (EVA does), so that there may be as many keys as modules: a key without operators is
//! compared, not compiled.

use serde_json::{Map, Value};

use crate::adapters::peft::python_regex::{PythonPattern, Unreadable};

/// The numbers that one field gives modules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns {
    field: &'static str,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    matcher: Matcher,
    number: f64,
}

/// A key, ready to be matched.
#[derive(Clone, Debug)]
enum Matcher {
    /// Characters that mean themselves, and dots that mean any.
    Plain,
    /// Anything else.
    Pattern(PythonPattern),
}

/// What is wrong with a field of patterns: its keys, or its values.
pub(crate) enum PatternProblem {
    /// A key that is no regular expression.
    Key(String, Unreadable),
    /// A value that is no number.
    Number(Value),
}

/// A pattern on which it takes too long to tell.
pub(crate) struct Undecided {
    /// The field that it stands in.
    pub field: &'static str,
    /// The pattern.
    pub pattern: String,
    /// Why.
    pub cause: Unreadable,
}

impl Patterns {
    /// The patterns of `field`, and what is wrong with others of its keys.
    pub(crate) fn read(field: &'static str, keys: &Map<String, Value>) -> (Patterns, Vec<PatternProblem>) {
        let mut patterns = Patterns { field, entries: Vec::new() };
        let mut problems = Vec::new();
        for (key, value) in keys {
            match (matcher(key), value.as_f64()) {
                (Ok(matcher), Some(number)) => {
                    patterns.entries.push(Entry { key: key.clone(), matcher, number });
                }
                (Err(cause), _) => problems.push(PatternProblem::Key(key.clone(), cause)),
                (_, None) => problems.push(PatternProblem::Number(value.clone())),
            }
        }
        (patterns, problems)
    }

    /// The number of the first key that matches `module`.
    ///
    /// # Errors
    /// A key on which it takes too long to tell.
    pub(crate) fn number(&self, module: &str) -> Result<Option<f64>, Undecided> {
        for entry in &self.entries {
            let is_match = match &entry.matcher {
                Matcher::Plain => ends_in(module, &entry.key),
                Matcher::Pattern(pattern) => pattern.is_match(module).map_err(|cause| Undecided {
                    field: self.field,
                    pattern: entry.key.clone(),
                    cause,
                })?,
            };
            if is_match {
                return Ok(Some(entry.number));
            }
        }
        Ok(None)
    }
}

fn matcher(key: &str) -> Result<Matcher, Unreadable> {
    let is_plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if is_plain { Ok(Matcher::Plain) } else { PythonPattern::end(key).map(Matcher::Pattern) }
}

/// Whether `module` is `key`, or ends in it behind a dot. A dot of the key stands for any one character of a line.
fn ends_in(module: &str, key: &str) -> bool {
    let mut rest = module.chars().rev();
    for expected in key.chars().rev() {
        match rest.next() {
            Some(found) if found == expected || expected == '.' => {}
            _ => return false,
        }
    }
    rest.next().is_none_or(|before| before == '.') && !module.contains('\n')
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn patterns(keys: Value) -> (Patterns, Vec<PatternProblem>) {
        Patterns::read("rank_pattern", keys.as_object().expect("an object"))
    }

    #[test]
    fn patterns_follow_peft() {
        let (patterns, problems) = patterns(json!({
            "layers.1": 3, "q_proj": 4, ".*k_proj": 5, "^v_proj": 6, "layers\\.\\d+\\.o_proj|up": 7,
            "(?!visual).*down": 9
        }));
        assert!(problems.is_empty());
        for (module, rank) in [
            ("model.layers.1", Some(3.0)),
            ("model.layers.11", None),
            ("model.layers.1.q_proj", Some(4.0)),
            ("q_proj", Some(4.0)),
            ("x.my_q_proj", None),
            ("model.layers.0.k_proj", Some(5.0)),
            ("model.v_proj", None),
            ("v_proj", Some(6.0)),
            ("model.layers.3.o_proj", Some(7.0)),
            ("mlp.up", Some(7.0)),
            ("layersx1", Some(3.0)),
            ("x\nlayers.1", None),
            ("mlp.down", Some(9.0)),
            ("visual.down", Some(9.0)),
            ("visualdown", None),
        ] {
            assert!(patterns.number(module).is_ok_and(|found| found == rank), "{module}");
        }
    }

    #[test]
    fn plain_keys_match_as_their_patterns_do() {
        for key in ["q_proj", "layers.1.q_proj", ".", "a.", "q-1", ""] {
            let pattern = PythonPattern::end(key).expect("it can be read");
            for module in [
                "q_proj",
                "x.q_proj",
                "xq_proj",
                "layers.1.q_proj",
                "m.layersx1.q_proj",
                "é",
                "x.é",
                "ab",
                "",
                "q-1",
                "a\n",
            ] {
                let found = pattern.is_match(module).expect("it is quick");
                assert_eq!(ends_in(module, key), found, "`{key}` on `{module}`");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_kept() {
        let (patterns, problems) = patterns(json!({"(": 1, "q": "x", "k": 2}));
        assert!(
            matches!(&problems[..], [PatternProblem::Key(key, _), PatternProblem::Number(_)] if key == "(")
        );
        assert!(patterns.number("k").is_ok_and(|found| found == Some(2.0)));
    }

    #[test]
    fn a_key_for_each_of_a_thousand_modules_is_quick() {
        let name = |i| format!("model.layers.{i}.self_attn.q_proj");
        let keys: Map<String, Value> = (0..1000).map(|i| (name(i), json!(i))).collect();
        let begun = Instant::now();
        let (patterns, _) = Patterns::read("rank_pattern", &keys);
        for i in 0..1000 {
            assert!(patterns.number(&name(i)).is_ok_and(|found| found == Some(i as f64)));
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}
