//! Which tensors of an adapter belong together: its modules, and what the tensors of each say about its kind.
//!
//! Keys are read by the grammar of [`keys`](crate::adapters::peft::keys). LoRA's factors are told by their tails; other methods
//! by how their parameters' names begin, which counts only in an adapter of that `peft_type`, as a module of the model may
//! be called likewise. What is left over replaces a tensor of the base.

use std::collections::HashMap;

use crate::adapters::peft::folder::AdapterTensor;
use crate::adapters::peft::keys::{Tail, normalise};

/// Tensors of one module, as places in the adapter's list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// Path of the module; empty for what belongs to the whole model.
    pub(crate) module: String,
    /// `lora` (of any kind), or another method.
    pub(crate) method: &'static str,
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

/// What a LoRA tensor is to its module.
#[derive(Clone, Copy)]
enum Role {
    A,
    B,
    Bias,
    Magnitude,
    Middle,
    Other,
}

/// The tails of LoRA and of methods that share its names; those of embeddings first.
const TAILS: &[(Tail, Role)] = &[
    (Tail { role: ".lora_embedding_A", ending: "" }, Role::A),
    (Tail { role: ".lora_embedding_B", ending: "" }, Role::B),
    (Tail { role: ".lora_A", ending: ".weight" }, Role::A),
    (Tail { role: ".lora_B", ending: ".weight" }, Role::B),
    (Tail { role: ".lora_B", ending: ".bias" }, Role::Bias),
    (Tail { role: ".lora_magnitude_vector", ending: "" }, Role::Magnitude),
    (Tail { role: ".lora_magnitude_vector", ending: ".weight" }, Role::Magnitude),
    (Tail { role: ".lora_A", ending: "" }, Role::A),
    (Tail { role: ".lora_B", ending: "" }, Role::B),
    (Tail { role: ".lora_E", ending: "" }, Role::Middle),
    (Tail { role: ".lora_diag", ending: "" }, Role::Middle),
];

/// Methods whose parameters begin with their own name and `_`; their types are the same in capitals.
const BY_OWN_NAME: &[&str] = &[
    "adamss",
    "beft",
    "boft",
    "c3a",
    "deft",
    "delora",
    "fourierft",
    "frod",
    "glora",
    "gralora",
    "hira",
    "hra",
    "ia3",
    "ln_tuning",
    "lokr",
    "miss",
    "oft",
    "osf",
    "peanut",
    "psoft",
    "pvera",
    "randlora",
    "road",
    "shira",
    "supertuning",
    "tinylora",
    "unilora",
    "vblora",
    "vera",
    "waveft",
];

/// Other types, how their parameters begin, and the method.
const BY_OTHER_NAME: &[(&str, &str, &str)] = &[
    ("LORA", "lora_", "lora"),
    ("LORA", "trainable_tokens_", "trainable_tokens"),
    ("TRAINABLE_TOKENS", "trainable_tokens_", "trainable_tokens"),
    ("ADALORA", "lora_", "lora"),
    ("LOHA", "hada_", "loha"),
    ("BONE", "bone_", "bone"),
];

/// Whether shardfold knows how the parameters of this type are called.
pub(crate) fn is_known(peft_type: &str) -> bool {
    own(peft_type).is_some() || BY_OTHER_NAME.iter().any(|(of, ..)| *of == peft_type)
}

/// The method of this type that calls its parameters after itself.
fn own(peft_type: &str) -> Option<&'static str> {
    BY_OWN_NAME.iter().copied().find(|name| name.to_ascii_uppercase() == peft_type)
}

/// Sorts the tensors of an adapter of this type.
pub(crate) fn sort(tensors: &[AdapterTensor], peft_type: &str) -> Sorted {
    let mut sorted = Sorted::default();
    let mut by_name: HashMap<(String, &'static str), usize> = HashMap::new();
    for (i, tensor) in tensors.iter().enumerate() {
        let (path, _) = normalise(&tensor.key);
        let Some((module, method, role)) = part(&path, peft_type) else {
            let rest = if is_known(peft_type) { &mut sorted.replacements } else { &mut sorted.unknown };
            rest.push(i);
            continue;
        };
        let at = *by_name.entry((module.to_owned(), method)).or_insert_with(|| {
            sorted.modules.push(Parts { module: module.to_owned(), method, ..Parts::default() });
            sorted.modules.len() - 1
        });
        sorted.modules[at].add(i, role);
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
            Role::Other => return,
        };
        self.twice |= slot.replace(tensor).is_some();
    }
}

/// Module, method and role of a path that belongs to a method of this type.
fn part<'p>(path: &'p str, peft_type: &str) -> Option<(&'p str, &'static str, Role)> {
    if matches!(peft_type, "LORA" | "ADALORA")
        && let Some(found) = TAILS.iter().find_map(|(tail, role)| Some((tail.module(path)?, "lora", *role)))
    {
        return Some(found);
    }
    let mut start = path.len();
    for segment in path.rsplit('.') {
        start -= segment.len();
        if let Some(method) = method_of(segment, peft_type) {
            let module = path[..start].strip_suffix('.').unwrap_or_default();
            let module = module.strip_suffix(".token_adapter").unwrap_or(module);
            return Some((module, method, Role::Other));
        }
        start = start.saturating_sub(1);
    }
    None
}

/// The method whose parameters begin as `segment` does.
fn method_of(segment: &str, peft_type: &str) -> Option<&'static str> {
    let mut others = BY_OTHER_NAME.iter().filter(|(of, ..)| *of == peft_type);
    if let Some((.., method)) = others.find(|(_, start, _)| segment.starts_with(start)) {
        return Some(method);
    }
    own(peft_type).filter(|own| segment.strip_prefix(own).is_some_and(|rest| rest.starts_with('_')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    fn sorted(peft_type: &str, keys: &[&str]) -> Sorted {
        let shape = Shape::new(&[1]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape };
        let tensors: Vec<_> =
            keys.iter().map(|key| AdapterTensor { key: (*key).to_owned(), tensor: tensor.clone() }).collect();
        sort(&tensors, peft_type)
    }

    fn modules(sorted: &Sorted) -> Vec<(&str, &str, usize)> {
        sorted
            .modules
            .iter()
            .map(|parts| (parts.module.as_str(), parts.method, parts.tensors.len()))
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
