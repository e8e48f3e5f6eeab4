//! How a checkpoint is quantized: what its config says, which tensors are quantized data and which are auxiliary to them.
//!
//! Headers decide: a tensor whose name ends in one of [`AUXILIARY`] belongs to the quantized tensor of the same stem, if
//! there is one. Floats of 8 bits and less are quantized even without auxiliary tensors. Nothing is decoded here.

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::catalogue::Catalogue;
use crate::checkpoint::config::Config;
use crate::tensor::dtype::Dtype;

/// How a checkpoint is quantized.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantization {
    /// `quant_method` of the config.
    pub method: Option<String>,
    /// `format`, `quant_algo` or `mode` of the config, which tell kinds of one method apart.
    pub format: Option<String>,
    /// Elements that share a scale: a number, or rows and columns.
    pub block: Option<Value>,
    /// Tensors of quantized data.
    pub quantized: usize,
    /// Tensors that belong to them: scales, zero points and the like.
    pub auxiliary: usize,
    /// What the config's lists of plain modules name.
    pub kept_plain: Vec<String>,
}

/// Endings of auxiliary tensors, and those that the quantized tensors have in their place. Longer ones stand first.
const AUXILIARY: &[(&str, &[&str])] = &[
    (".weight_scale_inv", &[".weight"]),
    (".weight_scale_2", &[".weight"]),
    (".weight_scale", &[".weight", ".weight_packed"]),
    (".weight_global_scale", &[".weight_packed", ".weight"]),
    (".weight_zero_point", &[".weight_packed", ".weight"]),
    (".weight_shape", &[".weight_packed"]),
    (".weight_g_idx", &[".weight_packed"]),
    (".weight_format", &[".weight"]),
    (".input_global_scale", &[".weight_packed", ".weight"]),
    (".input_scale", &[".weight", ".weight_packed", ".weight._data", ".weight._data._data"]),
    (".output_scale", &[".weight._data", ".weight._data._data"]),
    (".activation_scale", &[".weight"]),
    (".pre_quant_scale", &[".weight"]),
    (".qscale_weight", &[".weight"]),
    (".qscale_act", &[".weight"]),
    (".comfy_quant", &[".weight"]),
    (".SCB", &[".weight"]),
    (".qzeros", &[".qweight"]),
    (".g_idx", &[".qweight"]),
    (".scales", &[".qweight", ".weight"]),
    (".biases", &[".weight"]),
    (".scale", &[".weight"]),
    ("._scale", &["._data", "._data._data"]),
    ("._shift", &["._data._data"]),
    ("_weight_scale", &["_weight_qdata"]),
    ("_weight_zero_point", &["_weight_qdata"]),
    ("_scales", &["_blocks"]),
    ("_scale_inv", &[""]),
    ("_scale", &[""]),
];

/// Endings of what bitsandbytes keeps beside a tensor, whose data may be stored as any dtype.
const BESIDE: &[&str] = &[".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"];
/// The record that bitsandbytes keeps beside a tensor, before the name of its type.
const RECORD: &str = ".quant_state.bitsandbytes__";

/// Lists of modules that a config keeps plain.
const PLAIN_LISTS: &[&str] = &[
    "ignore",
    "modules_to_not_convert",
    "ignored_layers",
    "llm_int8_skip_modules",
    "skip_modules",
    "exclude_modules",
];

/// How the checkpoint is quantized; none if nothing in it says that it is.
pub(crate) fn quantization(catalogue: &Catalogue, config: &Config) -> Option<Quantization> {
    let mut is_quantized: Vec<bool> =
        catalogue.tensors.iter().map(|tensor| is_small_float(tensor.tensor.dtype)).collect();
    let mut is_auxiliary = vec![false; is_quantized.len()];
    for (i, tensor) in catalogue.tensors.iter().enumerate() {
        if let Some(owner) = owner_of(catalogue, &tensor.name) {
            is_quantized[owner] = true;
            is_auxiliary[i] = true;
        }
    }
    let auxiliary = is_auxiliary.iter().filter(|&&is| is).count();
    let quantized =
        is_quantized.iter().zip(&is_auxiliary).filter(|&(&data, &auxiliary)| data && !auxiliary).count();
    let said = config.quantization();
    if said.is_none() && quantized == 0 {
        return None;
    }
    let text = |key| said?.get(key)?.as_str().map(str::to_owned);
    Some(Quantization {
        method: text("quant_method"),
        format: ["format", "quant_algo", "mode"].into_iter().find_map(text),
        block: said.and_then(block),
        quantized,
        auxiliary,
        kept_plain: said.map(kept_plain).unwrap_or_default(),
    })
}

/// Floats that hold quantized data: a model in them needs scales from somewhere.
fn is_small_float(dtype: Dtype) -> bool {
    !matches!(dtype, Dtype::F8_E8M0) && dtype.bitsize() <= 8 && format!("{dtype:?}").starts_with('F')
}

/// The place of the tensor that `name` is auxiliary to.
fn owner_of(catalogue: &Catalogue, name: &str) -> Option<usize> {
    let beside = BESIDE.iter().find_map(|ending| name.strip_suffix(ending));
    let beside = beside.or_else(|| name.find(RECORD).map(|at| &name[..at]));
    if let Some(owner) = beside.and_then(|owner| catalogue.position(owner)) {
        return Some(owner);
    }
    // hqq keeps a dozen scalars beside its data.
    if let Some((stem, leaf)) = name.rsplit_once('.')
        && !matches!(leaf, "W_q" | "bias")
        && let Some(owner) = catalogue.position(&format!("{stem}.W_q"))
    {
        return Some(owner);
    }
    let rows = AUXILIARY.iter().filter_map(|(ending, owners)| Some((name.strip_suffix(ending)?, owners)));
    let mut named = rows.flat_map(|(stem, owners)| owners.iter().map(move |owner| format!("{stem}{owner}")));
    named.find_map(|name| {
        let i = catalogue.position(&name)?;
        let is_plain = matches!(
            catalogue.tensors[i].tensor.dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::I64 | Dtype::BOOL
        );
        (!is_plain).then_some(i)
    })
}

/// The block size, wherever methods keep it.
fn block(said: &Value) -> Option<Value> {
    let keys = ["weight_block_size", "block_structure", "group_size", "q_group_size"];
    let of =
        |value: &Value| keys.iter().find_map(|key| value.get(key).filter(|size| !size.is_null()).cloned());
    let groups =
        || said.get("config_groups")?.as_object()?.values().find_map(|group| of(group.get("weights")?));
    of(said).or_else(groups)
}

fn kept_plain(said: &Value) -> Vec<String> {
    let lists = PLAIN_LISTS.iter().filter_map(|key| said.get(key)?.as_array());
    lists.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checkpoint::catalogue::BaseTensor;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    /// A scheme, its tensors, and how many of them are data and auxiliary.
    type Case = (&'static str, &'static [(&'static str, Dtype)], (usize, usize));

    fn of(tensors: &[(&str, Dtype)], config: Value) -> Option<Quantization> {
        let tensor = |&(name, dtype): &(&str, Dtype)| BaseTensor {
            name: name.to_owned(),
            tensor: TensorRef {
                file: FileId(0),
                offset: 0,
                dtype,
                shape: Shape::new(&[4, 4]).expect("small"),
            },
        };
        let (catalogue, _) = Catalogue::new(Vec::new(), tensors.iter().map(tensor).collect());
        quantization(&catalogue, &Config(config))
    }

    #[test]
    fn data_and_auxiliary_tensors_are_told_apart() {
        use Dtype::{BF16, F8_E4M3, F32, I32, U8, U32};
        let cases: &[Case] = &[
            ("fp8", &[("a.weight", F8_E4M3), ("a.weight_scale_inv", F32), ("n.weight", BF16)], (1, 1)),
            (
                "nvfp4",
                &[
                    ("a.weight", U8),
                    ("a.weight_scale", F8_E4M3),
                    ("a.weight_scale_2", F32),
                    ("a.input_scale", F32),
                ],
                (1, 3),
            ),
            (
                "packed",
                &[("a.weight_packed", I32), ("a.weight_scale", BF16), ("a.weight_shape", I32)],
                (1, 2),
            ),
            (
                "nf4 in bf16",
                &[
                    ("a.weight", BF16),
                    ("a.weight.absmax", F32),
                    ("a.weight.quant_map", F32),
                    ("a.weight.quant_state.bitsandbytes__nf4", U8),
                ],
                (1, 3),
            ),
            (
                "gptq",
                &[
                    ("a.qweight", I32),
                    ("a.qzeros", I32),
                    ("a.scales", BF16),
                    ("a.g_idx", I32),
                    ("a.bias", BF16),
                ],
                (1, 3),
            ),
            (
                "mxfp4",
                &[("e.down_proj_blocks", U8), ("e.down_proj_scales", U8), ("e.down_proj_bias", BF16)],
                (1, 1),
            ),
            ("mlx", &[("a.weight", U32), ("a.scales", BF16), ("a.biases", BF16)], (1, 2)),
            ("hqq", &[("a.W_q", U8), ("a.scale", BF16), ("a.axis", I32), ("a.bias", BF16)], (1, 2)),
            ("no scales", &[("a.weight", F8_E4M3)], (1, 0)),
        ];
        for (what, tensors, counts) in cases {
            let found = of(tensors, json!({})).unwrap_or_else(|| panic!("{what} is quantized"));
            assert_eq!((found.quantized, found.auxiliary), *counts, "{what}");
        }
        let plain =
            [("a.weight", BF16), ("a.scale", BF16), ("b", BF16), ("b_scale", BF16), ("k.k_scale", F32)];
        assert_eq!(of(&plain, json!({})), None, "scales of plain weights mean something else");
    }

    #[test]
    fn the_config_says_method_block_and_plain_modules() {
        let fp8 = json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
            "modules_to_not_convert": ["lm_head"]}});
        let found = of(&[], fp8).expect("the config says so");
        assert_eq!((found.method.as_deref(), found.block), (Some("fp8"), Some(json!([128, 128]))));
        assert_eq!(found.kept_plain, ["lm_head"]);
        let packed = json!({"text_config": {"quantization_config": {"quant_method": "compressed-tensors",
            "format": "pack-quantized", "ignore": ["re:.*gate"],
            "config_groups": {"group_0": {"weights": {"group_size": 32}}}}}});
        let found = of(&[], packed).expect("the config says so");
        assert_eq!((found.format.as_deref(), found.block), (Some("pack-quantized"), Some(json!(32))));
    }
}
