//! Replacements: a tensor of the adapter stands in place of the base's, cast to its type.
//!
//! PEFT writes them for `modules_to_save` (all parameters and buffers of a module), for `bias` other than `none`, and for
//! embeddings saved beside their factors. They are values, never deltas (peft-methods.md 2.3), and come before any delta.

use crate::adapters::Claiming;
use crate::adapters::claiming::{Claimed, Effect};
use crate::error::{Error, ErrorKind};
use crate::tensor::is_mergeable;

use super::{Block, Method};

/// A tensor in another's place.
pub(super) struct Replace;

/// What stands between a module's path and its parameter in the keys of wrapped modules.
const WRAPPERS: &[&str] = &["base_layer", "modules_to_save"];

/// Segments of keys that other kinds of adapter write, and what they are.
const OTHER_KINDS: &[(&str, &str)] = &[
    ("lora_embedding_A", "LoRA on embeddings is not merged yet"),
    ("lora_embedding_B", "LoRA on embeddings is not merged yet"),
    ("lora_magnitude_vector", "DoRA is not merged yet"),
    ("trainable_tokens_delta", "trainable tokens are not merged yet"),
    ("prompt_embeddings", "prompt methods have nothing to merge"),
];

impl Method for Replace {
    fn name(&self) -> &'static str {
        "replace"
    }

    fn peft_type(&self) -> Option<&'static str> {
        None
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        for tensor in claiming.untaken() {
            let path = claiming.path(tensor).to_owned();
            if path.split('.').any(|segment| segment == "original_module") {
                claiming.ignore(tensor, "the frozen copy of a module that was trained");
            } else if let Some((_, why)) =
                OTHER_KINDS.iter().find(|(kind, _)| path.split('.').any(|s| s == *kind))
            {
                claiming.refuse_tensor(tensor, why);
            } else if let Err(error) = claim_value(claiming, &path, tensor) {
                claiming.refuse(error);
            }
        }
    }

    fn apply(&self, _: &mut Block<'_>) {
        unreachable!("a replacement is where an output tensor starts from; it has no op")
    }
}

fn claim_value(claiming: &mut Claiming<'_>, path: &str, tensor: usize) -> Result<(), Error> {
    let (module, parameter) = split(path);
    let Some(target) = claiming.place(&[tensor], &module, parameter) else { return Ok(()) };
    let value = claiming.tensor(tensor).clone();
    let base = claiming.base_tensor(target);
    let (adapter, name) = (claiming.adapter.name.clone(), base.name.clone());
    let (shape, dtype) = (base.tensor.shape.clone(), base.tensor.dtype);
    if value.tensor.shape != shape {
        let kind = ErrorKind::ReplacementShape {
            adapter,
            tensor: name,
            replacement: value.tensor.shape.clone(),
            base: shape,
        };
        return Err(Error::new(kind).hint("a vocabulary that grew or shrank is not merged yet"));
    }
    if value.tensor.dtype != dtype && !(is_mergeable(dtype) && is_mergeable(value.tensor.dtype)) {
        let kind = ErrorKind::ReplacementDtype { tensor: name, found: value.tensor.dtype, base: dtype };
        return Err(kind.into());
    }
    if claiming.adapter.weight != 1.0 {
        let kind = ErrorKind::WeightedReplacement { adapter, tensor: name, weight: claiming.adapter.weight };
        return Err(
            Error::new(kind).hint("give this adapter weight 1: a value that replaces another has no scale")
        );
    }
    claiming.claim(Claimed {
        method: "replace",
        module,
        keys: vec![value.key],
        target,
        elements: shape.elements(),
        effect: Effect::Replace { value: value.tensor },
    });
    Ok(())
}

/// The module and the parameter of a path, wrappers and the adapter's name behind them left out.
fn split(path: &str) -> (String, &str) {
    let (module, parameter) = path.rsplit_once('.').unwrap_or(("", path));
    for wrapper in WRAPPERS {
        if let Some(module) = module.strip_suffix(wrapper).and_then(|module| module.strip_suffix('.')) {
            return (module.to_owned(), parameter);
        }
        if let Some((module, _name)) = module.rsplit_once('.')
            && let Some(module) = module.strip_suffix(wrapper).and_then(|module| module.strip_suffix('.'))
        {
            return (module.to_owned(), parameter);
        }
    }
    (module.to_owned(), parameter)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn wrappers_are_left_out_only_before_the_parameter() {
        for (path, module, parameter) in [
            ("lm_head.weight", "lm_head", "weight"),
            ("score.modules_to_save.default.weight", "score", "weight"),
            ("score.modules_to_save.bias", "score", "bias"),
            ("a.q_proj.base_layer.bias", "a.q_proj", "bias"),
            ("base_layer.x.weight", "base_layer.x", "weight"),
            ("scale", "", "scale"),
        ] {
            assert_eq!(split(path), (module.to_owned(), parameter), "{path}");
        }
    }
}
