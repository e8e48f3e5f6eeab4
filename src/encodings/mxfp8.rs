//! MXFP8 as ModelOpt (`weight_scale`) and as transformers' `mxfp8` (`weight_scale_inv`) store it: E4M3 codes, and a power of
//! two for every 32 of a row.
//!
//! `value = code · 2^(scale − 127)` in f32, although a scale is called inverse (quantized-bases.md 6.3).

use serde_json::{Value, json};

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::CodeFormat;
use crate::encodings::logical::{Candidate, Or};
use crate::encodings::modelopt::{PLAIN_LISTS, SIDE_FILE, UNUSED, WEIGHT, algorithm, check_group_size};
use crate::encodings::requantize::power_above;
use crate::encodings::scaled::{Again, FLOAT8, Named, POWERS, Product, Scaled, ScaledParts};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// The `quant_method` of transformers, and what ModelOpt calls it.
const METHOD: &str = "mxfp8";
const ALGORITHM: &str = "MXFP8";
/// Values that share a scale.
const BLOCK: u64 = 32;

static SCHEME: Scheme = Scheme {
    title: "MXFP8",
    methods: &[METHOD, "modelopt", "modelopt_mxfp8"],
    algorithms: &[ALGORITHM],
    dtypes: FLOAT8,
    auxiliary: &[
        Auxiliary { ending: ".weight_scale", data: WEIGHT },
        Auxiliary { ending: ".weight_scale_inv", data: WEIGHT },
        Auxiliary { ending: "_scale_inv", data: &[""] },
    ],
    unused: UNUSED,
    plain_lists: PLAIN_LISTS_AND_MODULES,
    side_files: &[SIDE_FILE],
    ..Scheme::NONE
};

/// ModelOpt's lists, and that of transformers.
const PLAIN_LISTS_AND_MODULES: &[&str] = &[PLAIN_LISTS[0], PLAIN_LISTS[1], "modules_to_not_convert"];

/// E4M3 codes with a power of two for every 32.
pub(crate) static MXFP8: Scaled = Scaled {
    name: "mxfp8",
    scheme: &SCHEME,
    data: &[Dtype::F8_E4M3],
    codes: CodeFormat::E4m3,
    scales: POWERS,
    product: Product::Scale,
    again: Again::With(|of| power_above(of.largest)),
    has_stacks: true,
    ending: "",
    find,
};

fn find(found: &Candidate<'_>, weight: &str) -> Result<Option<ScaledParts>> {
    let module = weight.strip_suffix(".weight").unwrap_or(weight);
    let beside = match (found.method(), algorithm(found, module)) {
        (Some(METHOD), _) => of_transformers(found, weight),
        (_, Some(ALGORITHM)) if weight != module => of_modelopt(found, weight, module),
        _ => Ok(None),
    };
    beside.map_err(|why| Candidate::wrong(weight, why))
}

/// Fused experts have scales too; what has none and is no weight of a module is none of its own.
fn of_transformers(found: &Candidate<'_>, weight: &str) -> Or<Option<ScaledParts>> {
    let name = format!("{weight}_scale_inv");
    if !weight.ends_with(".weight") && (found.find)(&name).is_none() {
        return Ok(None);
    }
    let block = found.quantization.and_then(|config| config.get("weight_block_size"));
    let is_own = |block: &Value| block.is_null() || *block == json!([1, BLOCK]);
    if let Some(other) = block.filter(|block| !is_own(block)) {
        let (key, found, expected) = ("weight_block_size", other.to_string(), "[1,32]");
        return Err(QuantizedProblem::Setting { key, found, expected });
    }
    Ok(Some(ScaledParts::new(Named::need(found, name)?, (1, BLOCK))))
}

fn of_modelopt(found: &Candidate<'_>, weight: &str, module: &str) -> Or<Option<ScaledParts>> {
    check_group_size(found, module, &[BLOCK])?;
    Ok(Some(ScaledParts::new(Named::need(found, format!("{weight}_scale"))?, (1, BLOCK))))
}
