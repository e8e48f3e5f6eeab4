//! What a checkpoint of ModelOpt says of one weight: its algorithm. It stands in `config.json` or, alone, in
//! `hf_quant_config.json`, where no method is named.

use serde_json::Value;

use crate::error::quantized::QuantizedProblem;

use crate::encodings::logical::{Candidate, Or};
use crate::encodings::scheme::Auxiliary;

/// Where ModelOpt says how a checkpoint is quantized.
pub(crate) const SIDE_FILE: &str = "hf_quant_config.json";
/// What `quant_algo` says where it is another for each module.
const MIXED: &str = "MIXED_PRECISION";
/// Keys of its lists of plain modules.
pub(crate) const PLAIN_LISTS: &[&str] = &["ignore", "exclude_modules"];
/// Data that is called as the weight is.
pub(crate) const WEIGHT: &[&str] = &[".weight"];
/// Endings of what its runtimes need, and no weight does.
pub(crate) const UNUSED: &[Auxiliary] = &[
    Auxiliary { ending: ".input_scale", data: WEIGHT },
    Auxiliary { ending: ".input_zero_point", data: WEIGHT },
    Auxiliary { ending: ".output_scale", data: WEIGHT },
];

/// What a config of ModelOpt says of a module: of it alone where algorithms are mixed.
fn said_of<'c>(found: &Candidate<'c>, module: &str) -> Option<&'c Value> {
    let is_own = found.method().is_none_or(|method| method.starts_with("modelopt"));
    let config = found.quantization.filter(|_| is_own)?;
    let layers = config.get("quantized_layers").filter(|_| word(config) == Some(MIXED));
    layers.map_or(Some(config), |layers| layers.get(module))
}

fn word(said: &Value) -> Option<&str> {
    said.get("quant_algo")?.as_str()
}

/// What `quant_algo` says for a module, if the checkpoint is ModelOpt's.
pub(crate) fn algorithm<'c>(found: &Candidate<'c>, module: &str) -> Option<&'c str> {
    said_of(found, module).and_then(word)
}

/// Holds a `group_size`, wherever it is said of a module, against the only one that a scheme has.
pub(crate) fn check_group_size(found: &Candidate<'_>, module: &str, read: &'static [u64]) -> Or<()> {
    let Some(said) = said_of(found, module) else { return Ok(()) };
    let groups = said.get("config_groups").and_then(Value::as_object).into_iter();
    let weights = groups.flat_map(|groups| groups.values()).filter_map(|group| group.get("weights"));
    let sizes = weights.chain([said]).filter_map(|said| said.get("group_size"));
    let is_other = |size: &&Value| !size.is_null() && !size.as_u64().is_some_and(|size| read.contains(&size));
    match sizes.into_iter().find(is_other) {
        None => Ok(()),
        Some(other) => Err(QuantizedProblem::Number { key: "group_size", found: other.as_u64(), read }),
    }
}
