//! Linear modules in block FP8, as DeepSeek-V3 stores them: E4M3 codes, and an F32 scale for every 128 × 128 of them.

use safetensors::Dtype;
use serde_json::{Value, json};

use super::{Normal, Tensor, WEIGHT_STD};

/// Rows and columns of a block that shares one scale.
const BLOCK: usize = 128;
/// Deviation of the codes: the source of values never draws beyond 3.47 of them, and E4M3 ends at 448.
const CODE_STD: f32 = 128.0;

/// The weight `[rows, cols]` of a linear module and its scales, with which values have the usual spread.
pub(super) fn linear(module: &str, rows: usize, cols: usize) -> [Tensor; 2] {
    let codes = Tensor::linear(module, Dtype::F8_E4M3, rows, cols);
    let blocks = [rows.div_ceil(BLOCK), cols.div_ceil(BLOCK)];
    let scales = Tensor::plain(&format!("{module}.weight_scale_inv"), Dtype::F32, &blocks);
    let scale = WEIGHT_STD / CODE_STD;
    [
        Tensor { values: Normal { mean: 0.0, std: CODE_STD }, ..codes },
        Tensor { values: Normal { mean: scale, std: scale / 10.0 }, ..scales },
    ]
}

/// `quantization_config` of a checkpoint whose modules are all coded but for some.
pub(super) fn config(plain: &[&str]) -> Value {
    json!({
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": plain,
        "quant_method": "fp8",
        "weight_block_size": [BLOCK, BLOCK],
    })
}
