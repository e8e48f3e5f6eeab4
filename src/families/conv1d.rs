//! Models of the GPT-2 kind, whose linear layers are transformers' `Conv1D`, stored as `[in, out]`.
//!
//! The types are those that use `Conv1D` in transformers 5.23; `ctrl`, of the same age, has plain linear layers.

use crate::checkpoint::Config;

use super::Family;
use super::plain::join;

/// Plain names, linear layers as `[in, out]`.
pub(super) struct Conv1d;

const MODEL_TYPES: &[&str] = &["gpt2", "imagegpt", "openai-gpt", "decision_transformer", "clvp"];

impl Family for Conv1d {
    fn name(&self) -> &'static str {
        "the Conv1D storage of its model type"
    }

    fn recognises(&self, config: &Config) -> bool {
        config.model_type().is_some_and(|model_type| MODEL_TYPES.contains(&model_type))
    }

    fn name_on_disk(&self, module: &str, parameter: &str) -> String {
        join(module, parameter)
    }

    fn stores_linear_transposed(&self) -> bool {
        true
    }
}
