//! What a checkpoint's `config.json` says, as far as a merge needs it.

use regex::Regex;
use serde_json::Value;

use crate::tensor::dtype::Dtype;

use crate::checkpoint::ecosystem::Library;

/// The parsed `config.json`; empty if there is none.
#[derive(Clone, Debug, Default)]
pub struct Config(pub Value);

impl Config {
    /// A string at the top level.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
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
        match self.0.get(Library::of(self).class_key) {
            Some(Value::String(class)) => vec![class],
            Some(Value::Array(classes)) => classes.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// What names with rules of their own are looked up by where the class is not known: `model_type`, else the library.
    pub fn family(&self) -> &str {
        self.model_type().unwrap_or(Library::of(self).name)
    }

    /// The element type that `dtype` (or `torch_dtype`) names, at the top level or in `text_config`.
    pub fn dtype(&self) -> Option<Dtype> {
        let name = |value: &Value| {
            value.get("dtype").or_else(|| value.get("torch_dtype"))?.as_str().map(str::to_owned)
        };
        let name = name(&self.0).or_else(|| name(self.0.get("text_config")?))?;
        match name.trim_start_matches("torch.") {
            "bfloat16" => Some(Dtype::BF16),
            "float16" => Some(Dtype::F16),
            "float32" => Some(Dtype::F32),
            _ => None,
        }
    }

    /// `tie_word_embeddings`, at the top level or in `text_config`; `None` where it is left to the class.
    pub fn ties_embeddings(&self) -> Option<bool> {
        let flag = |value: &Value| value.get("tie_word_embeddings")?.as_bool();
        flag(&self.0).or_else(|| flag(self.0.get("text_config")?))
    }

    /// Whether the model has a head that predicts tokens, by the name of its class.
    pub fn predicts_tokens(&self) -> bool {
        let heads =
            ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM", "ForPreTraining"];
        self.classes().iter().any(|class| heads.iter().any(|head| class.ends_with(head)))
    }

    /// The `quantization_config`, wherever configs keep it.
    pub fn quantization(&self) -> Option<&Value> {
        let nested = ["text_config", "llm_config", "language_config"];
        let all = std::iter::once(&self.0).chain(nested.iter().filter_map(|key| self.0.get(key)));
        all.filter_map(|config| config.get("quantization_config").or_else(|| config.get("quantization")))
            .find(|value| !value.is_null())
    }

    /// Whether the quantisation's list of plain modules names `module`, or some segments of its path.
    pub fn is_kept_plain(&self, module: &str) -> bool {
        let lists =
            ["ignore", "modules_to_not_convert", "ignored_layers", "llm_int8_skip_modules", "skip_modules"];
        let Some(config) = self.quantization() else { return true };
        let entries =
            lists.iter().filter_map(|key| config.get(key)?.as_array()).flatten().filter_map(Value::as_str);
        // Loaders match an entry anywhere in the path, so `self_attn` covers every projection below it: whole segments here.
        let path = format!(".{module}.");
        entries.into_iter().any(|entry| path.contains(&format!(".{entry}.")) || is_like(entry, module))
    }
}

/// Whether an entry is a pattern for `module`: `re:…` of compressed-tensors, which need not reach its end, or the
/// `model.layers.*.self_attn` of gpt-oss, which transformers takes for one too, and covers what is below it.
fn is_like(entry: &str, module: &str) -> bool {
    let pattern = match entry.strip_prefix("re:") {
        Some(pattern) => format!("^(?:{pattern})"),
        None if entry.contains('*') => format!(r"^(?:{entry})(?:\.|$)"),
        None => return false,
    };
    Regex::new(&pattern).is_ok_and(|pattern| pattern.is_match(module))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_plain_modules_may_hold_patterns() {
        let list = ["lm_head", "re:.*self_attn.*", "model.layers.*.mlp.router", "re:("];
        let config = Config(json!({"quantization_config": {"ignore": list}}));
        for (module, is_plain) in [
            ("lm_head", true),
            ("model.layers.3.self_attn.q_proj", true),
            ("model.layers.12.mlp.router", true),
            ("model.layers.12.mlp.router.inner", true),
            ("model.layers.12.mlp.routers", false),
            ("model.layers.3.mlp.experts.0.up_proj", false),
        ] {
            assert_eq!(config.is_kept_plain(module), is_plain, "{module}");
        }
    }
}
