//! How a checkpoint is quantized: what its config says, and which tensors are quantized data and which are auxiliary to it.
//!
//! Headers decide: a tensor whose name [`schemes`] know as auxiliary belongs to the quantized data of the same stem, if there
//! is any. Floats of 8 bits and less are quantized data even with nothing auxiliary beside them. Nothing is decoded here.

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::catalogue::Catalogue;
use crate::checkpoint::unread::company;
use crate::encodings::schemes;
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
    /// Tensors that hold quantized data.
    #[serde(rename = "codes")]
    pub data: usize,
    /// Tensors auxiliary to them: scales, zero points and the like.
    pub auxiliary: usize,
    /// What the config's lists of plain modules name.
    pub kept_plain: Vec<String>,
}

/// How the checkpoint is quantized, of which it says `said`; none if nothing in it says that it is.
pub(crate) fn quantization(catalogue: &Catalogue, said: Option<&Value>) -> Option<Quantization> {
    let mut is_data: Vec<bool> =
        catalogue.tensors.iter().map(|tensor| is_quantized(tensor.tensor.dtype)).collect();
    let mut is_auxiliary = vec![false; is_data.len()];
    for (data, beside) in company(catalogue) {
        is_data[data] = true;
        beside.iter().for_each(|beside| is_auxiliary[beside.place] = true);
    }
    let auxiliary = is_auxiliary.iter().filter(|&&is| is).count();
    let data = is_data.iter().zip(&is_auxiliary).filter(|&(&data, &auxiliary)| data && !auxiliary).count();
    if said.is_none() && data == 0 {
        return None;
    }
    let has_blocks = catalogue.tensors.iter().any(|tensor| tensor.tensor.dtype.values() > 1);
    let text = |key| said?.get(key)?.as_str().map(str::to_owned);
    Some(Quantization {
        method: text("quant_method").or_else(|| has_blocks.then(|| "GGUF".to_owned())),
        format: ["format", "quant_algo", "mode"].into_iter().find_map(text),
        block: said.and_then(block),
        data,
        auxiliary,
        kept_plain: said.map(kept_plain).unwrap_or_default(),
    })
}

/// Blocks with scales, and floats that serve as quantized data: a model in them needs scales from somewhere.
fn is_quantized(dtype: Dtype) -> bool {
    let is_small_float = dtype.bitsize() <= 8 && format!("{dtype:?}").starts_with('F');
    dtype.values() > 1 || is_small_float && !matches!(dtype, Dtype::F8_E8M0)
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
    let lists = schemes::plain_lists().into_iter().filter_map(|key| said.get(key)?.as_array());
    lists.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checkpoint::catalogue::BaseTensor;
    use crate::checkpoint::config::Config;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    /// A scheme, its tensors, and how many of them are data and auxiliary.
    type Case = (&'static str, &'static [(&'static str, Dtype)], (usize, usize));

    fn of(tensors: &[(&str, Dtype)], config: Value) -> Option<Quantization> {
        let tensor = |&(name, dtype): &(&str, Dtype)| BaseTensor {
            name: name.into(),
            tensor: TensorRef {
                file: FileId(0),
                offset: 0,
                dtype,
                shape: Shape::new(&[4, 4]).expect("small"),
            },
        };
        let (catalogue, _) = Catalogue::new(Vec::new(), tensors.iter().map(tensor).collect());
        quantization(&catalogue, Config::from(config).quantization())
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
            assert_eq!((found.data, found.auxiliary), *counts, "{what}");
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
