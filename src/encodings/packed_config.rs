//! What a compressed-tensors config says of one packed weight: bits, symmetry, and what shares a scale.

use crate::error::quantized::QuantizedProblem;

use crate::encodings::ct_config::{CtGroup, METHOD, Strategy, in_group};
use crate::encodings::logical::{Candidate, Or};

/// Bits that are read, each held against what the library wrote.
const BITS: &[u64] = &[3, 4, 8];
/// Values of `strategy` that are read.
const STRATEGIES: &[&str] = &["group", "channel"];
/// The `format` of such weights.
const FORMAT: &str = "pack-quantized";

/// How a weight is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupScheme {
    pub(crate) bits: u32,
    pub(crate) symmetric: bool,
    pub(crate) strategy: Strategy,
    /// Whether columns of a group need not lie together.
    pub(crate) is_reordered: bool,
}

impl GroupScheme {
    /// The scheme of the weight of `module`, or why it is none that is read.
    pub(crate) fn of(found: &Candidate<'_>, module: &str) -> Or<GroupScheme> {
        let config = found.quantization.ok_or(QuantizedProblem::OfScheme(
            "its quantized data is packed, but config.json has no `quantization_config`",
        ))?;
        match found.method() {
            Some(METHOD) => {}
            Some(other) => {
                return Err(QuantizedProblem::Method {
                    scheme: "packed integers",
                    tensors: Vec::new(),
                    found: Some(other.to_owned()),
                    expected: METHOD,
                });
            }
            None => {
                return Err(QuantizedProblem::OfScheme(
                    "its quantized data is packed, but the config has no `quant_method`",
                ));
            }
        }
        in_group(found, config, module, scheme)
    }
}

/// The scheme of a group.
fn scheme(group: CtGroup<'_>) -> Or<GroupScheme> {
    let format = group.format();
    if format != Some(FORMAT) {
        let found = format.unwrap_or("none").to_owned();
        return Err(QuantizedProblem::Format { found, expected: FORMAT });
    }
    if let Some(other) = group.word("type").filter(|kind| *kind != "int") {
        let found = other.to_owned();
        return Err(QuantizedProblem::Setting { key: "type", found, expected: "int" });
    }
    let (bits, symmetric) = (group.bits(BITS)?, group.is_symmetric());
    let strategy = group.strategy(STRATEGIES)?;
    if bits == 3 && !symmetric {
        return Err(QuantizedProblem::OfScheme("3 bits with zero points are not read"));
    }
    let is_reordered = group.word("actorder") == Some("group");
    Ok(GroupScheme { bits: bits as u32, symmetric, strategy, is_reordered })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    fn of(config: Value, module: &str) -> Result<GroupScheme, QuantizedProblem> {
        let shape = Shape::new(&[1]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: crate::tensor::dtype::Dtype::I32, shape };
        let read = |_: &TensorRef| unreachable!("nothing is read");
        let found = Candidate {
            name: "x",
            tensor: &tensor,
            quantization: Some(&config),
            find: &|_| None,
            read: &read,
            said: &|_, _| Ok(None),
            targets: &Default::default(),
        };
        GroupScheme::of(&found, module)
    }

    fn group(targets: &[&str], weights: Value) -> Value {
        json!({ "targets": targets, "weights": weights })
    }

    fn config(groups: &[Value]) -> Value {
        let groups: serde_json::Map<_, _> =
            groups.iter().enumerate().map(|(i, group)| (format!("group_{i}"), group.clone())).collect();
        json!({ "quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups })
    }

    #[test]
    fn names_and_patterns_come_before_classes() {
        let four =
            json!({ "num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 32 });
        let eight = json!({ "num_bits": 8, "type": "int", "symmetric": false, "strategy": "channel" });
        let groups = [group(&["Linear"], four.clone()), group(&["re:.*down_proj", "a.b"], eight.clone())];
        let bits = |module| of(config(&groups), module).map(|scheme| scheme.bits);
        assert_eq!((bits("m.up_proj"), bits("m.down_proj"), bits("a.b")), (Ok(4), Ok(8), Ok(8)));
        let differing = [group(&["re:.*up"], four.clone()), group(&["re:.*up_proj"], eight.clone())];
        let refused = |module| of(config(&differing), module).unwrap_err().to_string();
        assert!(refused("m.up_proj").contains("targets of several name it"));
        assert!(refused("m.o_proj").contains("no target says which"));
        let same = [group(&["a"], four.clone()), group(&["b"], four)];
        assert_eq!(of(config(&same), "c").map(|scheme| scheme.strategy), Ok(Strategy::Group(32)));
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        let good = json!({ "num_bits": 4, "group_size": 32 });
        assert!(of(config(&[group(&["Linear"], good.clone())]), "m").is_ok());
        for (key, value, says) in [
            ("num_bits", json!(5), "`num_bits` is 5"),
            ("type", json!("float"), "`type` is `float`"),
            ("strategy", json!("block"), "`strategy` is `block`"),
            ("strategy", json!("tensor"), "`strategy` is `tensor`"),
            ("group_size", json!(null), "`strategy` is `tensor`"),
        ] {
            let mut weights = good.clone();
            weights[key] = value;
            let found = of(config(&[group(&["Linear"], weights)]), "m").unwrap_err().to_string();
            assert!(found.contains(says), "{found}");
        }
        let three = json!({ "num_bits": 3, "group_size": 32, "symmetric": false });
        let found = of(config(&[group(&["Linear"], three)]), "m").unwrap_err().to_string();
        assert_eq!(found, "3 bits with zero points are not read");
        for (key, value, says) in [
            ("quant_method", json!("gptq"), "`quant_method` is `gptq`, not `compressed-tensors`"),
            ("format", json!("marlin-24"), "`format` is `marlin-24`"),
            ("quantization_status", json!("frozen"), "`quantization_status` is `frozen`"),
            ("transform_config", json!({ "config_groups": {} }), "another basis"),
            ("sparsity_config", json!({ "format": "sparse-24-bitmask" }), "sparse"),
            ("config_groups", json!({}), "no `config_groups`"),
        ] {
            let mut config = config(&[group(&["Linear"], good.clone())]);
            config[key] = value;
            let found = of(config, "m").unwrap_err().to_string();
            assert!(found.contains(says), "{found}");
        }
    }
}
