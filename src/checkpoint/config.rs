//! A checkpoint's `config.json`, as far as a merge needs it, and where the configs of its text parts are.

use serde_json::{Map, Value};

use crate::encodings::schemes::QUANTIZATION;
use crate::formats::json::{JsonProblem, parse_json_as_python};
use crate::tensor::dtype::Dtype;

use crate::checkpoint::ecosystem::Library;

/// Keys of the configs of the parts of a model that have its vocabulary, the likeliest first. One may stand inside another:
/// the text config of Qwen's omni models is `thinker_config.text_config`. transformers' `get_text_config` knows `text_config`,
/// `decoder` and `generator`; the others are those of models with code of their own (InternVL and VILA, DeepSeek-VL, …).
const TEXT_CONFIGS: &[&str] =
    &["text_config", "llm_config", "language_config", "thinker_config", "decoder", "generator"];
/// How deep text configs are looked for in each other.
const MAX_TEXT_DEPTH: usize = 4;

/// The parsed `config.json`; empty if there is none.
#[derive(Clone, Debug, Default)]
pub struct Config {
    value: Value,
    text: String,
    /// Whether no file has it.
    is_made: bool,
    /// Whether models of other types are described by the same.
    is_of_many: bool,
}

/// A config that describes a text part of the model: the whole config, or one inside it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TextConfig<'c> {
    /// The keys that lead to it; none for the whole config.
    pub path: Vec<&'static str>,
    /// What it says.
    pub fields: &'c Map<String, Value>,
}

impl TextConfig<'_> {
    /// The path of one of its fields.
    pub(crate) fn path_to<'k>(&self, key: &'k str) -> Vec<&'k str> {
        self.path.iter().copied().chain([key]).collect()
    }
}

impl From<Value> for Config {
    fn from(value: Value) -> Config {
        Config { text: value.to_string(), value, is_made: false, is_of_many: false }
    }
}

impl Config {
    /// The library that wrote it.
    pub(crate) fn library(&self) -> &'static Library {
        Library::with_key(|key| self.get(key).is_some())
    }

    /// Reads the bytes of a file as Python does.
    ///
    /// # Errors
    /// As [`parse_json_as_python`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Config, JsonProblem> {
        let value = parse_json_as_python(bytes)?;
        let text = String::from_utf8_lossy(bytes).into_owned();
        Ok(Config { value, text, is_made: false, is_of_many: false })
    }

    /// What stands in the place of a config that is no file of the checkpoint, and is none of the result; perhaps models of other
    /// types are described by the same.
    pub(crate) fn made(value: Value, is_of_many: bool) -> Config {
        Config { is_made: true, is_of_many, ..Config::from(value) }
    }

    /// Whether models of other types are described by the same, so that its class says little.
    pub(crate) fn is_of_many(&self) -> bool {
        self.is_of_many
    }

    /// Whether no file has it.
    pub(crate) fn is_made(&self) -> bool {
        self.is_made
    }

    /// The file's text, as it stands.
    pub(crate) fn as_text(&self) -> &str {
        &self.text
    }

    /// All that it says.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// What it says at the top level.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key)
    }

    /// Whether there is no config.
    pub(crate) fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// The whole config and those of the text parts inside it, the outer before what is in them: the one place that knows
    /// where they are.
    pub(crate) fn text_configs(&self) -> Vec<TextConfig<'_>> {
        let mut found = Vec::new();
        if let Value::Object(fields) = &self.value {
            add_text_configs(&mut found, TextConfig { path: Vec::new(), fields });
        }
        found
    }

    /// The configs that describe the main text part, the innermost first and the whole config last: what one leaves open the
    /// next may say.
    pub(crate) fn main_text_config(&self) -> Vec<TextConfig<'_>> {
        let mut chain: Vec<TextConfig<'_>> = Vec::new();
        for config in self.text_configs() {
            let is_inside =
                |outer: &TextConfig<'_>| config.path.split_last().is_some_and(|(_, path)| path == outer.path);
            if chain.last().is_none_or(is_inside) {
                chain.push(config);
            }
        }
        chain.reverse();
        chain
    }

    /// A string at the top level.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// `model_type`, which names the model's family.
    pub fn model_type(&self) -> Option<&str> {
        self.text("model_type")
    }

    /// The model's class: the first, where the config lists several.
    pub fn class(&self) -> Option<&str> {
        self.classes().first().copied()
    }

    /// The classes that the config names, under the key that its library has for them.
    pub fn classes(&self) -> Vec<&str> {
        match self.get(self.library().class_key) {
            Some(Value::String(class)) => vec![class],
            Some(Value::Array(classes)) => classes.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// What names with rules of their own are looked up by where the class is not known: `model_type`, else the library.
    pub fn family(&self) -> &str {
        self.model_type().unwrap_or(self.library().name)
    }

    /// The element type that `dtype` (or `torch_dtype`) names, at the top level or in a text config.
    pub fn dtype(&self) -> Option<Dtype> {
        let fields = self.text_configs().into_iter().map(|config| config.fields);
        let mut named =
            fields.filter_map(|fields| fields.get("dtype").or_else(|| fields.get("torch_dtype"))?.as_str());
        match named.next()?.trim_start_matches("torch.") {
            "bfloat16" => Some(Dtype::BF16),
            "float16" => Some(Dtype::F16),
            "float32" => Some(Dtype::F32),
            _ => None,
        }
    }

    /// `tie_word_embeddings`, at the top level or else in a text config; `None` where it is left to the class.
    pub fn ties_embeddings(&self) -> Option<bool> {
        self.tie_flags().first().copied()
    }

    /// `tie_word_embeddings` wherever it stands, in the order of [`Config::text_configs`].
    pub(crate) fn tie_flags(&self) -> Vec<bool> {
        let configs = self.text_configs();
        configs.iter().filter_map(|config| config.fields.get("tie_word_embeddings")?.as_bool()).collect()
    }

    /// The classes of the text parts inside the model, where their configs name them.
    pub(crate) fn inner_classes(&self) -> Vec<&str> {
        let inner = self.text_configs().into_iter().skip(1);
        let lists = inner.filter_map(|config| config.fields.get("architectures")?.as_array());
        lists.flatten().filter_map(Value::as_str).collect()
    }

    /// The description of the quantization, wherever configs keep it.
    pub fn quantization(&self) -> Option<&Value> {
        self.quantizations().into_iter().next().map(|(_, value)| value)
    }

    /// Every description of a quantization, with the keys that lead to it.
    pub(crate) fn quantizations(&self) -> Vec<(String, &Value)> {
        let of = |config: TextConfig<'_>, key: &str| config.path_to(key).join(".");
        let mut found = Vec::new();
        for config in self.text_configs() {
            for key in QUANTIZATION {
                let value = config.fields.get(*key).filter(|value| !value.is_null());
                found.extend(value.map(|value| (of(config.clone(), key), value)));
            }
        }
        found
    }
}

fn add_text_configs<'c>(found: &mut Vec<TextConfig<'c>>, config: TextConfig<'c>) {
    let TextConfig { path, fields } = config.clone();
    found.push(config);
    if path.len() < MAX_TEXT_DEPTH {
        for &key in TEXT_CONFIGS {
            if let Some(Value::Object(fields)) = fields.get(key) {
                let path = [path.as_slice(), &[key]].concat();
                add_text_configs(found, TextConfig { path, fields });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A config with those fields in the text config at that path.
    pub(crate) fn nested(path: &[&str], fields: Value) -> Value {
        path.iter().rev().fold(fields, |inner, key| json!({ *key: inner }))
    }

    #[test]
    fn text_configs_are_found_wherever_they_stand() {
        for path in [
            &["text_config"][..],
            &["llm_config"],
            &["language_config"],
            &["thinker_config", "text_config"],
            &["decoder"],
            &["generator"],
            &["llm_config", "text_config"],
        ] {
            let fields = json!({
                "tie_word_embeddings": true, "dtype": "float16", "quantization": {"bits": 4},
                "architectures": ["Qwen2ForCausalLM"],
            });
            let config = Config::from(nested(path, fields));
            assert_eq!(config.ties_embeddings(), Some(true), "{path:?}");
            assert_eq!(config.dtype(), Some(Dtype::F16), "{path:?}");
            assert_eq!(config.quantization(), Some(&json!({"bits": 4})), "{path:?}");
            assert_eq!(config.inner_classes(), ["Qwen2ForCausalLM"], "{path:?}");
            assert_eq!(config.main_text_config()[0].path, path);
            assert_eq!(
                config.text_configs().last().expect("it is there").path_to("x"),
                [path, &["x"]].concat()
            );
        }
    }

    #[test]
    fn the_outer_flag_comes_before_the_inner_and_text_is_an_object() {
        let config = json!({"text_config": {"tie_word_embeddings": true}, "tie_word_embeddings": false});
        let config = Config::from(config);
        assert_eq!((config.ties_embeddings(), config.tie_flags()), (Some(false), vec![false, true]));
        assert_eq!(Config::from(json!({"decoder": "gru", "text_config": null})).text_configs().len(), 1);
        assert!(Config::default().text_configs().is_empty());
        let deep = nested(&["decoder"; 60], json!({}));
        assert_eq!(Config::from(deep).text_configs().len(), MAX_TEXT_DEPTH + 1);
        let both = json!({"text_config": {"a": 1}, "decoder": {"generator": {}}});
        assert_eq!(Config::from(both).main_text_config()[0].path, ["text_config"]);
    }
}
