//! Plain weights as training saw them that quantized its base in memory, as QLoRA does: quantized and decoded again, tile by tile.
//!
//! On disk there is one tensor of plain numbers. Its values are those that bitsandbytes makes of it when a model is loaded with
//! `load_in_4bit` or `load_in_8bit`: the number of the file, rounded to the type that the model was loaded as, quantized, decoded,
//! and rounded to that type again (quantized-bases.md 8.3, 8.5 and 15.1).

use std::borrow::Cow;

use crate::encodings::logical::{Logical, LogicalFields};
use crate::tensor::dtype::{Dtype, is_mergeable};
use crate::tensor::reference::TensorRef;

/// Types that a model may be loaded as; a weight's constant is a place in this list.
const LOADED_AS: &[(&str, Dtype)] = &[("bf16", Dtype::BF16), ("f16", Dtype::F16), ("f32", Dtype::F32)];
/// Values that share a magnitude where nothing else is said.
const BLOCK: u64 = 64;
/// Sizes of blocks that bitsandbytes has.
const BLOCKS: &[u64] = &[32, 64, 128, 256, 512, 1024, 2048, 4096];
/// What is accepted.
pub(crate) const ACCEPTED: &str = "`nf4`, `fp4` or `int8` is accepted, and behind it with commas `double`, `block=64`, `dtype=bf16` and \
     `skip=MODULE`; such as `nf4,double`";

/// How training quantized the weights of its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InTraining {
    /// Name of the encoding.
    encoding: &'static str,
    /// What people call it.
    title: &'static str,
    /// Values that share a magnitude; none where those of a row do.
    block: Option<u64>,
    /// The type that the model was loaded as, by its place; none for that of each tensor.
    loaded_as: Option<usize>,
    /// Modules that stay plain.
    skipped: Vec<String>,
}

/// What can be asked for: its name, whether magnitudes are quantized too, the encoding, and what people call it.
const KINDS: &[(&str, bool, &str, &str)] = &[
    ("nf4", false, "nf4_in_training", "NF4"),
    ("nf4", true, "nf4_double_in_training", "NF4 with double quantization"),
    ("fp4", false, "fp4_in_training", "FP4"),
    ("fp4", true, "fp4_double_in_training", "FP4 with double quantization"),
    ("int8", false, INT8, "LLM.int8"),
];
/// What people call all that can be asked for.
#[cfg(test)]
pub(crate) fn titles() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(.., title)| *title)
}

/// The encoding whose magnitudes are of rows.
const INT8: &str = "int8_in_training";

impl InTraining {
    /// Reads what was asked for; none where it is not understood.
    pub(crate) fn read(text: &str) -> Option<InTraining> {
        let mut words = text.split(',');
        let (kind, mut is_double) = (words.next()?, false);
        let (mut block, mut loaded_as, mut skipped) = (None, None, Vec::new());
        for word in words {
            match word.split_once('=') {
                None if word == "double" => is_double = true,
                Some(("block", size)) => {
                    block = Some(size.parse().ok().filter(|size| BLOCKS.contains(size))?)
                }
                Some(("dtype", name)) => {
                    loaded_as = Some(LOADED_AS.iter().position(|(own, _)| *own == name)?)
                }
                Some(("skip", module)) if !module.is_empty() => skipped.push(module.to_owned()),
                _ => return None,
            }
        }
        let is_one = |(name, double, ..): &&(&str, bool, _, _)| *name == kind && *double == is_double;
        let &(_, _, encoding, title) = KINDS.iter().find(is_one)?;
        let has_blocks = encoding != INT8;
        if !has_blocks && (block.is_some() || loaded_as.is_some()) {
            return None;
        }
        let block = has_blocks.then_some(block.unwrap_or(BLOCK));
        Some(InTraining { encoding, title, block, loaded_as, skipped })
    }

    /// A weight of plain numbers, as training saw it; none for numbers that are not [merged](is_mergeable).
    pub(crate) fn seen(&self, tensor: &TensorRef) -> Option<Logical> {
        let own = LOADED_AS.iter().position(|(_, dtype)| *dtype == tensor.dtype)?;
        debug_assert!(is_mergeable(tensor.dtype));
        let row = tensor.shape.axes().last().copied()?;
        Some(Logical::from(LogicalFields {
            encoding: Cow::Borrowed(self.encoding),
            shape: tensor.shape.clone(),
            block: (1, self.block.unwrap_or(row)),
            parts: vec![tensor.clone()],
            constants: vec![self.loaded_as.unwrap_or(own) as f32],
        }))
    }

    /// Whether a module stays plain: its path begins or ends so, as in `llm_int8_skip_modules`.
    pub(crate) fn skips(&self, module: &str) -> bool {
        self.skipped.iter().any(|skipped| {
            let before = module.strip_suffix(skipped.as_str());
            let behind = module.strip_prefix(skipped.as_str());
            before.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                || behind.is_some_and(|rest| rest.starts_with('.'))
        })
    }

    /// It in words.
    pub(crate) fn title(&self) -> String {
        let block = self.block.map(|block| format!(", blocks of {block}")).unwrap_or_default();
        let loaded = self.loaded_as.map(|place| format!(", loaded as {:?}", LOADED_AS[place].1));
        format!("{}{block}{}", self.title, loaded.unwrap_or_default())
    }
}

/// The type that a weight was loaded as.
pub(crate) fn loaded_as(logical: &Logical) -> Dtype {
    let place = logical.constants().first().map_or(0, |place| *place as usize);
    LOADED_AS.get(place).map_or(Dtype::F32, |(_, dtype)| *dtype)
}

/// A number as a type holds it.
pub(crate) fn rounded(value: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::BF16 => half::bf16::from_f32(value).to_f32(),
        Dtype::F16 => half::f16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// The largest magnitude of plain numbers; not finite if one of them is not.
pub(crate) fn magnitude(dtype: Dtype, bytes: &[u8]) -> f32 {
    // Without their signs, floats are ordered as whole numbers are.
    match dtype {
        Dtype::BF16 => half::bf16::from_bits(largest_half(bytes)).to_f32(),
        Dtype::F16 => half::f16::from_bits(largest_half(bytes)).to_f32(),
        _ => {
            let mut most = 0;
            for code in bytes.as_chunks().0 {
                most = most.max(i32::from_le_bytes(*code) & i32::MAX);
            }
            f32::from_bits(most as u32)
        }
    }
}

/// The largest of codes of two bytes, without their signs.
fn largest_half(bytes: &[u8]) -> u16 {
    let mut most = 0;
    for code in bytes.as_chunks().0 {
        most = most.max(i16::from_le_bytes(*code) & i16::MAX);
    }
    most as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_or_not_understood() {
        let read = |text| InTraining::read(text).map(|asked| asked.title());
        for (text, title) in [
            ("nf4", "NF4, blocks of 64"),
            ("nf4,double", "NF4 with double quantization, blocks of 64"),
            ("fp4,block=128,dtype=f16", "FP4, blocks of 128, loaded as F16"),
            ("int8,skip=gate", "LLM.int8"),
        ] {
            assert_eq!(read(text).as_deref(), Some(title), "{text}");
        }
        for text in [
            "",
            "nf",
            "NF4",
            "nf4,",
            "nf4,twice",
            "nf4,block=0",
            "nf4,block=63",
            "nf4,dtype=f8",
            "nf4,skip=",
            "int8,double",
            "int8,block=64",
            "int8,dtype=bf16",
            "double,nf4",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn modules_are_skipped_by_either_end() {
        let asked = InTraining::read("nf4,skip=gate,skip=vision_tower").expect("it is understood");
        for (module, is_skipped) in [
            ("model.layers.0.mlp.gate", true),
            ("model.layers.0.mlp.up_gate", false),
            ("gate", true),
            ("vision_tower.blocks.0.fc1", true),
            ("vision_tower2.blocks.0.fc1", false),
            ("model.vision_tower.fc1", false),
        ] {
            assert_eq!(asked.skips(module), is_skipped, "{module}");
        }
    }

    #[test]
    fn magnitudes_are_those_of_all_values() {
        let values = [0.5_f32, -3.0, 2.0, -0.0];
        let bytes =
            |each: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|value| each(*value)).collect::<Vec<u8>>();
        let bf16 = bytes(&|value| half::bf16::from_f32(value).to_le_bytes().to_vec());
        let f16 = bytes(&|value| half::f16::from_f32(value).to_le_bytes().to_vec());
        let f32s = bytes(&|value| value.to_le_bytes().to_vec());
        for (dtype, bytes) in [(Dtype::BF16, bf16), (Dtype::F16, f16), (Dtype::F32, f32s)] {
            assert_eq!(magnitude(dtype, &bytes), 3.0, "{dtype:?}");
        }
        assert!(!magnitude(Dtype::F32, &f32::NAN.to_le_bytes()).is_finite());
        assert!(!magnitude(Dtype::BF16, &half::bf16::NEG_INFINITY.to_le_bytes()).is_finite());
    }
}
