//! How many inputs share a scale, as the configs of GPTQ and AWQ say it.

use serde_json::Value;

use crate::encodings::logical::Or;
use crate::error::quantized::QuantizedProblem;

/// `group_size` or what it is called; none where one group has all inputs, which is written as -1.
pub(crate) fn group_size(config: &Value, key: &'static str) -> Or<Option<u64>> {
    let stated = config.get(key).and_then(Value::as_i64);
    match stated {
        Some(-1) => Ok(None),
        Some(size) if size > 0 => Ok(Some(size as u64)),
        _ => Err(QuantizedProblem::GroupSize { key, found: stated }),
    }
}
