//! Numbers that a config gives modules by pattern (`rank_pattern`, `alpha_pattern`), read once and asked for many modules.
//!
//! PEFT's rule (`get_pattern_key`): the first key in file order for which `(.*\.)?(KEY)$` matches from the start. Tools write
//! a key for every module, its whole path, so that trying key after key would take the square of the modules. Keys without
//! any operator but dots are looked up instead: by their length and the places of their dots, which stand for any
//! character. The others are compiled when they are read, and tried in turn.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::adapters::peft::numbers::Numbers;
use crate::adapters::peft::python_regex::{PatternRoom, PythonPattern, Unreadable};

/// One field of patterns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns {
    field: &'static str,
    /// In file order.
    entries: Vec<Entry>,
    /// Positions of plain keys: by what is a dot in them, then by their text.
    plain: HashMap<Vec<bool>, HashMap<Vec<u8>, usize>>,
    /// Positions of the others.
    others: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    number: f64,
    compiled: OnceLock<PythonPattern>,
}

/// What is wrong with a field of patterns: its keys, or its values.
pub(crate) enum PatternProblem {
    /// A key that is no regular expression.
    Key(String, Unreadable),
    /// A value that is no number of its kind, and why.
    Number(Value, &'static str),
}

/// A pattern on which it takes too long to tell.
#[derive(Debug)]
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
    pub(crate) fn read(
        field: &'static str,
        keys: &Map<String, Value>,
        numbers: Numbers,
    ) -> (Patterns, Vec<PatternProblem>) {
        let mut patterns = Patterns { field, ..Patterns::default() };
        let (mut problems, mut room) = (Vec::new(), PatternRoom::new());
        for (key, value) in keys {
            match numbers.read(value) {
                Ok(number) => match patterns.add(key, number, &mut room) {
                    Err(cause @ Unreadable::TooMany { .. }) => {
                        problems.push(PatternProblem::Key(key.clone(), cause));
                        break;
                    }
                    added => {
                        problems.extend(added.err().map(|cause| PatternProblem::Key(key.clone(), cause)))
                    }
                },
                Err(why) => problems.push(PatternProblem::Number(value.clone(), why)),
            }
        }
        (patterns, problems)
    }

    /// Adds a key, or says why it cannot be read.
    fn add(&mut self, key: &str, number: f64, room: &mut PatternRoom) -> Result<(), Unreadable> {
        let i = self.entries.len();
        let compiled = OnceLock::new();
        match plain_text(key) {
            // The first of two keys that match the same wins.
            Some((dots, text)) => {
                self.plain.entry(dots).or_default().entry(text).or_insert(i);
            }
            None => {
                room.take(key)?;
                let pattern = PythonPattern::end(key)?;
                compiled.get_or_init(|| pattern);
                self.others.push(i);
            }
        }
        self.entries.push(Entry { key: key.to_owned(), number, compiled });
        Ok(())
    }

    /// The number of the first key that matches `module`.
    ///
    /// # Errors
    /// A key on which it takes too long to tell.
    pub(crate) fn number(&self, module: &str) -> Result<Option<f64>, Undecided> {
        Ok(self.first_match(module)?.map(|i| self.entries[i].number))
    }

    fn first_match(&self, module: &str) -> Result<Option<usize>, Undecided> {
        // A dot stands for a character, and for none that ends a line.
        if !module.is_ascii() || module.contains('\n') {
            return self.first_of(0..self.entries.len(), module);
        }
        let plain = self.plain_match(module);
        let before = self.others.iter().copied().take_while(|&i| plain.is_none_or(|plain| i < plain));
        Ok(self.first_of(before, module)?.or(plain))
    }

    /// The first plain key that is all of the module's path, or its end from a dot on.
    fn plain_match(&self, module: &str) -> Option<usize> {
        let module = module.as_bytes();
        let found = self.plain.iter().filter_map(|(dots, by_text)| {
            let start = module.len().checked_sub(dots.len())?;
            if start > 0 && module[start - 1] != b'.' {
                return None;
            }
            let masked = module[start..].iter().zip(dots).map(|(&byte, &dot)| if dot { b'.' } else { byte });
            by_text.get(&masked.collect::<Vec<u8>>()).copied()
        });
        found.min()
    }

    /// The first of those keys that matches, as an expression.
    fn first_of(
        &self,
        mut positions: impl Iterator<Item = usize>,
        module: &str,
    ) -> Result<Option<usize>, Undecided> {
        positions
            .find_map(|i| self.is_match(i, module).map(|is_one| is_one.then_some(i)).transpose())
            .transpose()
    }

    fn is_match(&self, i: usize, module: &str) -> Result<bool, Undecided> {
        let entry = &self.entries[i];
        let undecided = |cause| Undecided { field: self.field, pattern: entry.key.to_string(), cause };
        let pattern = match entry.compiled.get() {
            Some(pattern) => pattern,
            None => {
                let pattern = PythonPattern::end(&entry.key).map_err(undecided)?;
                entry.compiled.get_or_init(|| pattern)
            }
        };
        pattern.is_match(module).map_err(undecided)
    }
}

/// Which characters of a key stand for any, and its text with these as dots; none for a key with other operators.
fn plain_text(key: &str) -> Option<(Vec<bool>, Vec<u8>)> {
    let (mut dots, mut text) = (Vec::with_capacity(key.len()), Vec::with_capacity(key.len()));
    let mut bytes = key.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => dots.push(true),
            b'\\' if bytes.next() == Some(b'.') => dots.push(false),
            b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => dots.push(false),
            _ => return None,
        }
        text.push(if byte == b'\\' { b'.' } else { byte });
    }
    Some((dots, text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(keys: &Value) -> (Patterns, Vec<PatternProblem>) {
        Patterns::read("rank_pattern", keys.as_object().expect("an object"), Numbers::RANKS)
    }

    impl Patterns {
        fn compiled(&self) -> usize {
            self.entries.iter().filter(|entry| entry.compiled.get().is_some()).count()
        }
    }

    #[test]
    fn patterns_follow_peft() {
        let (patterns, problems) = read(&json!({
            "layers.1": 3, "q_proj": 4, ".*k_proj": 5, "^v_proj": 6, "layers\\.\\d+\\.o_proj|up": 7,
            "(?!visual).*down": 9, "a\\.gate": 10, "a.gate": 11, "b.gate": 12, "b\\.gate": 13,
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
            ("mlp.down", Some(9.0)),
            ("visual.down", Some(9.0)),
            ("visualdown", None),
            ("x.a.gate", Some(10.0)),
            ("x.a_gate", Some(11.0)),
            ("b.gate", Some(12.0)),
            ("é.layers.1", Some(3.0)),
            ("layersé1", Some(3.0)),
            ("layers\n1", None),
        ] {
            assert_eq!(patterns.number(module).expect("quick"), rank, "{module:?}");
        }
    }

    #[test]
    fn plain_keys_match_as_their_expressions_do() {
        let parts = ["a", "b1", "a_", "1", "ab", "x-y"];
        let seps = [".", "\\.", "_", ""];
        let mut keys: Vec<String> = Vec::new();
        for (i, first) in parts.iter().enumerate() {
            for (j, second) in parts.iter().enumerate() {
                keys.push(format!("{first}{}{second}", seps[(i + 2 * j) % seps.len()]));
            }
        }
        for key in &keys {
            let (patterns, _) = read(&json!({ key.as_str(): 1 }));
            let expression = PythonPattern::end(key).expect("valid");
            for module in keys.iter().map(|key| key.replace('\\', "")) {
                for module in
                    [module.clone(), format!("m.{module}"), format!("m{module}"), format!("{module}.m")]
                {
                    let is_match = patterns.number(&module).expect("quick").is_some();
                    assert_eq!(is_match, expression.is_match(&module).expect("quick"), "{key} on {module}");
                }
            }
            assert_eq!(patterns.compiled(), 0, "{key}");
        }
    }

    #[test]
    fn a_key_is_compiled_once_and_a_path_never() {
        let path = |i: usize| format!("model.layers.{i}.self_attn.q_proj");
        let mut keys: serde_json::Map<String, Value> =
            [("(visual|audio)\\..*".to_owned(), json!(2)), (".*lm_head$".to_owned(), json!(3))]
                .into_iter()
                .collect();
        keys.extend((0..1000).map(|i| (path(i), json!(i + 10))));
        let (patterns, _) = Patterns::read("rank_pattern", &keys, Numbers::RANKS);
        assert_eq!(patterns.plain.len(), 3, "one lookup for each number of digits");
        for i in 0..1000 {
            assert_eq!(patterns.number(&path(i)).expect("quick"), Some((i + 10) as f64));
        }
        assert_eq!(patterns.compiled(), 2);
        assert_eq!(patterns.number("visual.q_proj").expect("quick"), Some(2.0));
        assert_eq!(patterns.compiled(), 2);
    }

    #[test]
    fn what_is_wrong_is_kept() {
        let (patterns, problems) = read(&json!({"(": 1, "q": "x", "k": 2}));
        assert!(
            matches!(&problems[..], [PatternProblem::Key(key, _), PatternProblem::Number(..)] if key == "(")
        );
        assert!(patterns.number("k").is_ok_and(|found| found == Some(2.0)));
    }
}
