//! Model families: how the module paths of a running model become names and tensors on disk, and how its layers are stored.
//!
//! Families are data: [`names`] runs the rules that transformers has for a class over the names of a checkpoint. What is no
//! plain rename comes out as pieces of tensors. [`tied`] finds embeddings that are heads too,
//! [`untie`] decides about them, and [`heads`] knows what both are called.

pub(crate) mod family;
pub(crate) mod heads;
pub(crate) mod linear;
pub(crate) mod names;
pub(crate) mod outline;
pub(crate) mod tied;
pub(crate) mod untie;
pub(crate) mod unused;

use crate::checkpoint::config::Config;

/// What is known of a model's names and storage, in a few words.
pub(crate) fn known(config: &Config) -> Option<String> {
    let is_conv1d = config.model_type().is_some_and(names::table::conv1d);
    let class = config.class().and_then(names::table::class);
    let has_rules = class.is_some_and(|class| !class.uses.is_empty());
    match (is_conv1d, has_rules) {
        (true, _) => Some("the Conv1D storage of its model type".to_owned()),
        (false, true) => Some(format!("names by the rules of its class in {}", config.library().name)),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::config::Config;
    use crate::model::known;

    #[test]
    fn a_class_with_rules_is_told_from_one_without() {
        for (class, model_type, expected) in [
            ("LlamaForCausalLM", "llama", ""),
            ("MixtralForCausalLM", "mixtral", "names by the rules of its class in transformers"),
            ("GPT2LMHeadModel", "gpt2", "the Conv1D storage of its model type"),
            ("NobodysModel", "nobody", ""),
        ] {
            let config = serde_json::json!({"architectures": [class], "model_type": model_type});
            assert_eq!(known(&Config::from(config)).unwrap_or_default(), expected, "{class}");
        }
    }
}
