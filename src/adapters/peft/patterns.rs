//! Numbers that a config gives modules by pattern (`rank_pattern`, `alpha_pattern`), read once and asked for many modules.
//!
//! PEFT's rule (`get_pattern_key`): the first key in file order for which `(.*\.)?(KEY)$` matches from the start. Tools write
//! a key for every module, its whole path, so that trying key after key would take the square of the modules. Keys without
//! any operator but dots are looked up instead: by their length and the places of their dots, which stand for any
//! character. The others are tried in turn, and compiled once, when the first module gets to them.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::Value;

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::python_regex::PythonPattern;
use crate::error::Error;

/// One field of patterns.
pub(crate) struct Patterns<'c> {
    config: &'c AdapterConfig,
    field: &'static str,
    /// In file order.
    entries: Vec<Entry<'c>>,
    /// Positions of plain keys: by what is a dot in them, then by their text.
    plain: HashMap<Vec<bool>, HashMap<Vec<u8>, usize>>,
    /// Positions of the others.
    others: Vec<usize>,
}

struct Entry<'c> {
    key: &'c str,
    value: &'c Value,
    compiled: OnceCell<PythonPattern>,
}

impl<'c> Patterns<'c> {
    /// The keys of the object `field`; none if it is no object.
    pub(crate) fn new(config: &'c AdapterConfig, field: &'static str) -> Patterns<'c> {
        let keys = config.get(field).and_then(Value::as_object).into_iter().flatten();
        let entries: Vec<Entry<'c>> =
            keys.map(|(key, value)| Entry { key, value, compiled: OnceCell::new() }).collect();
        let mut plain: HashMap<Vec<bool>, HashMap<Vec<u8>, usize>> = HashMap::new();
        let mut others = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            match plain_text(entry.key) {
                // The first of two keys that match the same wins.
                Some((dots, text)) => {
                    plain.entry(dots).or_default().entry(text).or_insert(i);
                }
                None => others.push(i),
            }
        }
        Patterns { config, field, entries, plain, others }
    }

    /// The number of the first key that matches `module`, else `default`.
    ///
    /// # Errors
    /// [`ErrorKind::Field`](crate::error::kind::ErrorKind::Field) for a value that is no number,
    /// [`ErrorKind::Pattern`](crate::error::kind::ErrorKind::Pattern) for a key that cannot be read, or on which it takes too
    /// long to tell.
    pub(crate) fn number(&self, default: f64, module: &str) -> Result<f64, Error> {
        let Some(i) = self.first_match(module)? else { return Ok(default) };
        let value = self.entries[i].value;
        value.as_f64().ok_or_else(|| self.config.bad(self.field, value, "is not a number"))
    }

    fn first_match(&self, module: &str) -> Result<Option<usize>, Error> {
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
    ) -> Result<Option<usize>, Error> {
        positions
            .find_map(|i| self.is_match(i, module).map(|is_one| is_one.then_some(i)).transpose())
            .transpose()
    }

    fn is_match(&self, i: usize, module: &str) -> Result<bool, Error> {
        let entry = &self.entries[i];
        let unreadable = |cause| self.config.unreadable(self.field, entry.key, cause);
        let pattern = match entry.compiled.get() {
            Some(pattern) => pattern,
            None => {
                let pattern = PythonPattern::end(entry.key).map_err(unreadable)?;
                entry.compiled.get_or_init(|| pattern)
            }
        };
        pattern.is_match(module).map_err(unreadable)
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

    fn config(fields: Value) -> AdapterConfig {
        AdapterConfig::new("style".into(), fields.as_object().expect("an object").clone())
    }

    impl Patterns<'_> {
        fn compiled(&self) -> usize {
            self.entries.iter().filter(|entry| entry.compiled.get().is_some()).count()
        }
    }

    #[test]
    fn patterns_follow_peft() {
        let config = config(json!({"rank_pattern": {
            "layers.1": 3, "q_proj": 4, ".*k_proj": 5, "^v_proj": 6, "layers\\.\\d+\\.o_proj|up": 7,
            "(?!visual).*down": 9, "a\\.gate": 10, "a.gate": 11, "b.gate": 12, "b\\.gate": 13,
        }}));
        let patterns = Patterns::new(&config, "rank_pattern");
        for (module, rank) in [
            ("model.layers.1", 3.0),
            ("model.layers.11", 8.0),
            ("model.layers.1.q_proj", 4.0),
            ("q_proj", 4.0),
            ("x.my_q_proj", 8.0),
            ("model.layers.0.k_proj", 5.0),
            ("model.v_proj", 8.0),
            ("v_proj", 6.0),
            ("model.layers.3.o_proj", 7.0),
            ("mlp.up", 7.0),
            ("layersx1", 3.0),
            ("mlp.down", 9.0),
            ("visual.down", 9.0),
            ("visualdown", 8.0),
            ("x.a.gate", 10.0),
            ("x.a_gate", 11.0),
            ("b.gate", 12.0),
            ("é.layers.1", 3.0),
            ("layersé1", 3.0),
            ("layers\n1", 8.0),
        ] {
            assert_eq!(patterns.number(8.0, module).expect("valid"), rank, "{module:?}");
        }
        assert!(
            Patterns::new(&config, "alpha_pattern").number(16.0, "q_proj").is_ok_and(|alpha| alpha == 16.0)
        );
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
            let fields = config(json!({"alpha_pattern": { key.as_str(): 1 }}));
            let patterns = Patterns::new(&fields, "alpha_pattern");
            let expression = PythonPattern::end(key).expect("valid");
            for module in keys.iter().map(|key| key.replace('\\', "")) {
                for module in
                    [module.clone(), format!("m.{module}"), format!("m{module}"), format!("{module}.m")]
                {
                    let is_match = patterns.number(0.0, &module).expect("valid") == 1.0;
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
        let fields = config(json!({ "rank_pattern": keys }));
        let patterns = Patterns::new(&fields, "rank_pattern");
        assert_eq!(patterns.plain.len(), 3, "one lookup for each number of digits");
        for i in 0..1000 {
            assert_eq!(patterns.number(8.0, &path(i)).expect("valid"), (i + 10) as f64);
        }
        assert_eq!(patterns.compiled(), 2);
        assert_eq!(patterns.number(8.0, "visual.q_proj").expect("valid"), 2.0);
        assert_eq!(patterns.compiled(), 2);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_an_error_where_it_is_asked() {
        let fields = config(json!({"rank_pattern": {"q_proj": 4, "(": 5}, "alpha_pattern": {"q_proj": "4"}}));
        let patterns = Patterns::new(&fields, "rank_pattern");
        assert_eq!(patterns.number(8.0, "m.q_proj").expect("the first key matches"), 4.0);
        assert!(patterns.number(8.0, "m.k_proj").is_err());
        assert!(Patterns::new(&fields, "alpha_pattern").number(8.0, "m.q_proj").is_err());
    }
}
