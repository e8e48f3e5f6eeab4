//! What a compressed-tensors config says of one packed weight: bits, symmetry, and what shares a scale.
//!
//! A config has groups of arguments, each with targets: names of modules, patterns (`re:…`, matched from the start), or
//! classes. Headers say which weights are packed, so that targets only matter where groups differ.

use regex::Regex;
use serde_json::Value;

use crate::error::quantized::QuantizedProblem;

use crate::encodings::logical::Candidate;

/// Bits that are read, each held against what the library wrote.
const BITS: &[u64] = &[3, 4, 8];
/// Values of `strategy` that are read.
const STRATEGIES: &[&str] = &["group", "channel"];
/// The `quant_method` of such checkpoints.
const METHOD: &str = "compressed-tensors";
/// The `format` of such weights.
const FORMAT: &str = "pack-quantized";

/// What shares a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// So many columns of a row.
    Group(u64),
    /// A row.
    Channel,
}

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
    pub(crate) fn of(found: &Candidate<'_>, module: &str) -> Result<GroupScheme, QuantizedProblem> {
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
        whole(config)?;
        let groups =
            config.get("config_groups").and_then(Value::as_object).filter(|groups| !groups.is_empty());
        let groups = groups.ok_or(QuantizedProblem::OfScheme("the config has no `config_groups`"))?;
        let mut schemes = groups.values().map(|group| scheme(config, group));
        let first = schemes.next().expect("there is a group");
        if schemes.all(|other| other == first) {
            return first;
        }
        let groups: Vec<&Value> = groups.values().collect();
        scheme(config, targeted(&groups, module)?)
    }
}

/// What says that the codes mean something else than packed integers do.
fn whole(config: &Value) -> Result<(), QuantizedProblem> {
    let is_none = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(value) => value.as_object().is_some_and(|object| object.is_empty()),
    };
    let status = config.get("quantization_status").and_then(Value::as_str);
    if let Some(other) = status.filter(|status| *status != "compressed") {
        let (key, expected) = ("quantization_status", "compressed");
        return Err(QuantizedProblem::Setting { key, found: other.to_owned(), expected });
    }
    if !is_none(config.get("transform_config")) {
        return Err(QuantizedProblem::OfScheme(
            "`transform_config` says that its weights are stored in another basis",
        ));
    }
    let sparsity = config.get("sparsity_config").filter(|value| !is_none(Some(value)));
    if sparsity.is_some_and(|sparsity| sparsity.get("format").and_then(Value::as_str) != Some("dense")) {
        return Err(QuantizedProblem::OfScheme("`sparsity_config` says that its data is sparse"));
    }
    Ok(())
}

/// The scheme of a group.
fn scheme(config: &Value, group: &Value) -> Result<GroupScheme, QuantizedProblem> {
    let own = group.get("format").and_then(Value::as_str);
    let format = own.or_else(|| config.get("format").and_then(Value::as_str));
    if format != Some(FORMAT) {
        let found = format.unwrap_or("none").to_owned();
        return Err(QuantizedProblem::Format { found, expected: FORMAT });
    }
    let of_weights =
        |key: &str| group.get("weights").and_then(|weights| weights.get(key)).filter(|v| !v.is_null());
    let word = |key: &str| of_weights(key).and_then(Value::as_str);
    if let Some(other) = word("type").filter(|kind| *kind != "int") {
        let found = other.to_owned();
        return Err(QuantizedProblem::Setting { key: "type", found, expected: "int" });
    }
    let bits = of_weights("num_bits").and_then(Value::as_u64);
    let unread = QuantizedProblem::Number { key: "num_bits", found: bits, read: BITS };
    let bits = bits.filter(|bits| BITS.contains(bits)).ok_or(unread)?;
    let size = of_weights("group_size").and_then(Value::as_i64);
    let strategy = match (word("strategy"), size) {
        (Some("group") | None, Some(size)) if size > 0 => Strategy::Group(size as u64),
        (Some("channel"), _) | (None, Some(-1)) => Strategy::Channel,
        (Some("group"), _) => {
            return Err(QuantizedProblem::OfScheme("`strategy` is `group`, and `group_size` is no size"));
        }
        (other, _) => {
            let found = other.unwrap_or("tensor").to_owned();
            return Err(QuantizedProblem::Word { key: "strategy", found, read: STRATEGIES });
        }
    };
    let symmetric = of_weights("symmetric").and_then(Value::as_bool).unwrap_or(true);
    if bits == 3 && !symmetric {
        return Err(QuantizedProblem::OfScheme("3 bits with zero points are not read"));
    }
    let is_reordered = word("actorder") == Some("group");
    Ok(GroupScheme { bits: bits as u32, symmetric, strategy, is_reordered })
}

/// The group whose targets name `module`, as the library chooses: names and patterns before classes.
fn targeted<'c>(groups: &[&'c Value], module: &str) -> Result<&'c Value, QuantizedProblem> {
    let mut matching = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        let targets = group.get("targets").and_then(Value::as_array).into_iter().flatten();
        for target in targets.filter_map(Value::as_str) {
            if is_named(target, module)? {
                matching.push(i);
                break;
            }
        }
    }
    match matching.as_slice() {
        [one] => Ok(groups[*one]),
        [] => {
            let is_class = |group: &&&Value| {
                let targets = group.get("targets").and_then(Value::as_array);
                targets.is_some_and(|targets| targets.iter().any(|target| target == "Linear"))
            };
            let mut of_class = groups.iter().filter(is_class);
            match (of_class.next(), of_class.next()) {
                (Some(one), None) => Ok(one),
                _ => Err(QuantizedProblem::OfScheme(
                    "the `config_groups` differ, and no target says which is its own",
                )),
            }
        }
        _ => Err(QuantizedProblem::OfScheme("the `config_groups` differ, and targets of several name it")),
    }
}

/// Whether a target names a module, or is a pattern that matches from its start.
fn is_named(target: &str, module: &str) -> Result<bool, QuantizedProblem> {
    match target.strip_prefix("re:") {
        None => Ok(target == module),
        Some(pattern) => {
            let wrong = |_| QuantizedProblem::Target { target: target.to_owned() };
            Regex::new(&format!("^(?:{pattern})")).map(|pattern| pattern.is_match(module)).map_err(wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
