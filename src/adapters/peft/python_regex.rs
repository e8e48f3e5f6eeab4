//! Regular expressions of `adapter_config.json`, which PEFT hands to Python's `re`.
//!
//! Trainers write look-arounds into them (ms-swift `^(model\.language_model)(?=\.)…`, LLaMA-Factory `^(?!.*visual).*…`),
//! which the `regex` crate does not have; hence `fancy-regex`, which hands everything else to the same automata. A pattern
//! may still be one that it cannot read, or gives up on: then nobody knows what it matches, and it is the caller who says
//! what that means.

use fancy_regex::{Regex, RegexBuilder};

/// The longest pattern that is read, in bytes; those of producers that list every module have a third of it.
const MOST_PATTERN_BYTES: usize = 32 << 10;
/// The most memory that a pattern may take when it is compiled, and when it is matched.
const MOST_COMPILED_BYTES: usize = 2 << 20;
/// Steps after which a match is given up.
const MOST_STEPS: usize = 100_000;

/// What is wrong with a pattern, or with matching it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Regex(#[from] Box<fancy_regex::Error>),
    #[error("it has {found} bytes, at most {MOST_PATTERN_BYTES} are read")]
    TooLong { found: usize },
    #[error(
        "it is one of more than {most} patterns, or these have more than {MOST_PATTERN_BYTES} bytes together"
    )]
    TooMany { most: usize },
}

/// What is left for the patterns of one field.
#[derive(Debug)]
pub(crate) struct PatternRoom {
    patterns: usize,
    bytes: usize,
}

impl PatternRoom {
    /// Patterns that one field may have: a pattern is tried on every module.
    const MOST: usize = 500;

    /// That of a field.
    pub(crate) fn new() -> PatternRoom {
        PatternRoom { patterns: PatternRoom::MOST, bytes: MOST_PATTERN_BYTES }
    }

    /// Takes that of one pattern.
    ///
    /// # Errors
    /// [`Unreadable::TooMany`].
    pub(crate) fn take(&mut self, pattern: &str) -> Result<(), Unreadable> {
        let left = (self.patterns.checked_sub(1), self.bytes.checked_sub(pattern.len()));
        let (Some(patterns), Some(bytes)) = left else {
            return Err(Unreadable::TooMany { most: PatternRoom::MOST });
        };
        *self = PatternRoom { patterns, bytes };
        Ok(())
    }
}

/// A pattern that must match all of a text.
#[derive(Clone, Debug)]
pub(crate) struct PythonPattern(Regex);

impl PythonPattern {
    /// As `re.fullmatch(pattern, text)`.
    ///
    /// # Errors
    /// A pattern that cannot be read.
    pub(crate) fn full(pattern: &str) -> Result<PythonPattern, Unreadable> {
        if pattern.len() > MOST_PATTERN_BYTES {
            return Err(Unreadable::TooLong { found: pattern.len() });
        }
        let mut builder = RegexBuilder::new(&format!(r"\A(?:{pattern})\z"));
        builder.delegate_size_limit(MOST_COMPILED_BYTES).delegate_dfa_size_limit(MOST_COMPILED_BYTES);
        Ok(PythonPattern(builder.backtrack_limit(MOST_STEPS).build().map_err(Box::new)?))
    }

    /// As PEFT's `get_pattern_key` matches one key: `re.match(rf"(.*\.)?({key})$", text)`.
    ///
    /// # Errors
    /// A key that cannot be read.
    pub(crate) fn end(key: &str) -> Result<PythonPattern, Unreadable> {
        PythonPattern::full(&format!(r"(.*\.)?({key})"))
    }

    /// Whether it matches.
    ///
    /// # Errors
    /// A text on which it takes too long to tell.
    pub(crate) fn is_match(&self, text: &str) -> Result<bool, Unreadable> {
        Ok(self.0.is_match(text).map_err(Box::new)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of Python 3.12's `re.fullmatch`.
    #[test]
    fn patterns_of_trainers_match_as_in_python() {
        let unsloth = r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:k_proj|q_proj|up_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:k_proj|q_proj|up_proj)))";
        let swift = r"^(language_model|model\.language_model)(?=\.).*\.(q_proj|k_proj)$";
        let factory = r"^(?!.*(?:visual|merger)).*(?:q_proj|proj).*";
        for (pattern, text, expected) in [
            (unsloth, "model.layers.3.self_attn.q_proj", true),
            (unsloth, "model.layers.3.self_attn.o_proj", false),
            (unsloth, "model.language_model.layers.3.mlp.up_proj", true),
            (unsloth, "xmodel.layers.3.mlp.up_proj", false),
            (swift, "model.language_model.layers.0.self_attn.q_proj", true),
            (swift, "model.language_modelx.q_proj", false),
            (swift, "model.visual.q_proj", false),
            (factory, "model.layers.0.self_attn.q_proj", true),
            (factory, "visual.blocks.0.attn.proj", false),
            (r"(?i)MODEL\..*", "model.x", true),
            (r"(\w+)\.\1", "a.a", true),
            (r"(?P<n>\w+)\.(?P=n)", "a.b", false),
            (r"a|b", "ab", false),
            (r".*(?<!vision\.)q_proj", "vision.q_proj", false),
            (r"q_proj\Z", "q_proj", true),
            (r"x{1,2}\.[^.]+", "xx.q", true),
        ] {
            let found = PythonPattern::full(pattern).expect("it can be read").is_match(text);
            assert_eq!(found.expect("it is quick"), expected, "{pattern} on {text}");
        }
        assert!(PythonPattern::full("(").is_err());
        let long = "a".repeat(MOST_PATTERN_BYTES + 1);
        assert!(matches!(PythonPattern::full(&long), Err(Unreadable::TooLong { .. })));
        assert!(
            PythonPattern::full("((((a{100}){100}){100}){100})").is_err(),
            "too large when it is compiled"
        );
    }

    #[test]
    fn what_takes_too_long_is_told() {
        let pattern = PythonPattern::full(r"(?:(a|a)*)*\1x").expect("it can be read");
        assert!(pattern.is_match(&"a".repeat(64)).is_err());
    }
}
