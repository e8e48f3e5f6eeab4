//! Regular expressions of `adapter_config.json`, which PEFT hands to Python's `re`.
//!
//! Trainers write look-arounds into them (ms-swift `^(model\.language_model)(?=\.)…`, LLaMA-Factory `^(?!.*visual).*…`),
//! which the `regex` crate does not have; hence `fancy-regex`, which hands everything else to the same automata. A pattern
//! may still be one that it cannot read, or gives up on: then nobody knows what it matches, and it is the caller who says
//! what that means.

use fancy_regex::Regex;

/// What is wrong with a pattern, or with matching it.
pub(crate) type Unreadable = Box<fancy_regex::Error>;

/// A pattern that must match all of a text.
#[derive(Clone, Debug)]
pub(crate) struct PythonPattern(Regex);

impl PythonPattern {
    /// As `re.fullmatch(pattern, text)`.
    ///
    /// # Errors
    /// A pattern that cannot be read.
    pub(crate) fn full(pattern: &str) -> Result<PythonPattern, Unreadable> {
        Ok(PythonPattern(Regex::new(&format!(r"\A(?:{pattern})\z"))?))
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
        Ok(self.0.is_match(text)?)
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
    }

    #[test]
    fn what_takes_too_long_is_told() {
        let pattern = PythonPattern::full(r"(?:(a|a)*)*\1x").expect("it can be read");
        assert!(pattern.is_match(&"a".repeat(64)).is_err());
    }
}
