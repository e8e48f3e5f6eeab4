//! Groups the tensors of an adapter by module, by what the grammar of [`parts`](crate::adapters::parts) says of each.

use std::collections::HashMap;

use crate::adapters::adapter::AdapterTensor;
use crate::adapters::parts::{Family, Role};

/// Tensors of one module, as places in the adapter's list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// Path of the module; empty for what belongs to the whole model.
    pub(crate) module: String,
    /// What its tensors are of: `lora` (of any kind), or another family of methods.
    pub(crate) family: &'static str,
    /// LoRA's A.
    pub(crate) a: Option<usize>,
    /// LoRA's B.
    pub(crate) b: Option<usize>,
    /// LoRA's bias.
    pub(crate) bias: Option<usize>,
    /// DoRA's magnitudes.
    pub(crate) magnitude: Option<usize>,
    /// AdaLoRA's singular values or KaSA's diagonal, which stand between the factors.
    pub(crate) middle: Option<usize>,
    /// All of its tensors.
    pub(crate) tensors: Vec<usize>,
    /// A key that is there in two spellings.
    pub(crate) twice: bool,
}

/// An adapter's tensors by what they are.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Modules in the order of their first tensor.
    pub(crate) modules: Vec<Parts>,
    /// Tensors that replace one of the base.
    pub(crate) replacements: Vec<usize>,
    /// Tensors of a method that shardfold does not know.
    pub(crate) unknown: Vec<usize>,
}

/// Sorts tensors; without a family they are values, or `is_known` is false and nobody can tell.
pub(crate) fn sort(tensors: &[AdapterTensor], is_known: bool) -> Sorted {
    let mut sorted = Sorted::default();
    let mut by_name: HashMap<(&str, &'static str), usize> = HashMap::new();
    for (i, tensor) in tensors.iter().enumerate() {
        let Some(Family { name: family, .. }) = tensor.part.family() else {
            let left_over = if is_known { &mut sorted.replacements } else { &mut sorted.unknown };
            left_over.push(i);
            continue;
        };
        let module = tensor.module();
        let at = *by_name.entry((module, family)).or_insert_with(|| {
            sorted.modules.push(Parts { module: module.to_owned(), family, ..Parts::default() });
            sorted.modules.len() - 1
        });
        sorted.modules[at].add(i, tensor.part.role);
    }
    sorted
}

impl Parts {
    fn add(&mut self, tensor: usize, role: Role) {
        self.tensors.push(tensor);
        let slot = match role {
            Role::A => &mut self.a,
            Role::B => &mut self.b,
            Role::Bias => &mut self.bias,
            Role::Magnitude => &mut self.magnitude,
            Role::Middle => &mut self.middle,
            Role::Factor | Role::Frozen | Role::Value => return,
        };
        self.twice |= slot.replace(tensor).is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::parts::Grammar;
    use crate::adapters::peft::keys::normalise;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    fn sorted(peft_type: &str, keys: &[&str]) -> Sorted {
        let shape = Shape::new(&[1]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape };
        let grammar = Grammar::of(peft_type);
        let tensor =
            |key: &&str| AdapterTensor::new((*key).into(), &normalise(key).0, &grammar, tensor.clone());
        sort(&keys.iter().map(tensor).collect::<Vec<_>>(), grammar.is_known())
    }

    fn modules(sorted: &Sorted) -> Vec<(&str, &str, usize)> {
        sorted
            .modules
            .iter()
            .map(|parts| (parts.module.as_str(), parts.family, parts.tensors.len()))
            .collect()
    }

    #[test]
    fn lora_is_told_by_its_tails() {
        let found = sorted(
            "LORA",
            &[
                "base_model.model.a.q.lora_A.weight",
                "base_model.model.a.q.lora_B.default.weight",
                "base_model.model.a.q.lora_B.bias",
                "base_model.model.a.q.lora_magnitude_vector",
                "base_model.model.embed.lora_embedding_A",
                "base_model.model.embed.lora_embedding_B",
                "base_model.model.embed.lora_magnitude_vector.weight",
                "base_model.model.wte.token_adapter.trainable_tokens_delta",
                "base_model.model.head.weight",
                "base_model.model.oft_block.weight",
            ],
        );
        assert_eq!(
            modules(&found),
            [("a.q", "lora", 4), ("embed", "lora", 3), ("wte", "trainable_tokens", 1)]
        );
        let q = &found.modules[0];
        assert_eq!((q.a, q.b, q.bias, q.magnitude, q.twice), (Some(0), Some(1), Some(2), Some(3), false));
        assert_eq!((found.replacements, found.unknown), (vec![8, 9], vec![]));
    }

    #[test]
    fn other_methods_are_told_by_their_parameters() {
        let found = sorted(
            "VERA",
            &["base_model.vera_A", "base_model.model.q.vera_lambda_b", "base_model.model.vera.w"],
        );
        assert_eq!(modules(&found), [("", "vera", 1), ("q", "vera", 1)]);
        assert_eq!(found.replacements, [2], "a module that is called so is none of the method's");
        let found = sorted("LOHA", &["base_model.model.q.hada_w1_a", "base_model.model.q.hada_w2_b"]);
        assert_eq!(modules(&found), [("q", "loha", 2)]);
        let found =
            sorted("OFT", &["base_model.model.q.oft_R.weight", "base_model.model.q.oft_R.default.weight"]);
        assert_eq!(modules(&found), [("q", "oft", 2)]);
        assert_eq!(sorted("NEW_THING", &["base_model.model.q.lora_A.weight"]).unknown, [0]);
    }

    #[test]
    fn two_spellings_of_one_key_are_seen() {
        let found = sorted("LORA", &["q.lora_A.weight", "q.lora_A.default.weight"]);
        assert!(found.modules[0].twice);
    }
}
