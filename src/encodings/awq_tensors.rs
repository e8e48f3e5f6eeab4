//! Which tensors are a weight of AWQ: found by their names, and held against each other and against what the config says.

use serde_json::Value;

use crate::encodings::group_size::group_size;
use crate::encodings::logical::{Candidate, Detected, LogicalFields, Or, expect_shape};
use crate::encodings::number;
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// The `quant_method`.
pub(crate) const METHOD: &str = "awq";
/// Values of `bits` that are read.
const BITS: &[u64] = &[4];
/// Values of `version` that are read.
const VERSIONS: &[&str] = &["gemm", "gemv"];

/// Codes in a word.
pub(crate) const IN_WORD: u64 = 8;

/// One of the layouts.
pub(crate) struct AwqLayout {
    /// Its name in plans.
    pub name: &'static str,
    /// What `version` says for it.
    pub version: &'static str,
    /// Which way codes are packed.
    pub along: Along,
}

/// What runs along a row of codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Along {
    /// Outputs; a stored row is of one input.
    Outputs,
    /// Inputs; a stored row is of one output.
    Inputs,
}

/// The tensors beside the codes of one weight.
pub(crate) struct AwqTensors {
    scales: TensorRef,
    zeros: TensorRef,
}

impl AwqTensors {
    /// The weight whose codes a tensor is, if it is stored in that layout.
    pub(crate) fn detect(found: &Candidate<'_>, layout: &AwqLayout) -> Result<Option<Detected>> {
        let Some(module) = found.name.strip_suffix(".qweight") else { return Ok(None) };
        let is_ours = match found.method() {
            // `quant_config.json` of AutoAWQ names no method, and has a key that is its own.
            None => found.quantization.is_some_and(|config| config.get("w_bit").is_some()),
            Some(method) => method == METHOD,
        };
        if found.tensor.dtype != Dtype::I32 || !is_ours {
            return Ok(None);
        }
        let name = format!("{module}.weight");
        let of = |config| {
            if version(config)? != layout.version {
                return Ok(None);
            }
            AwqTensors::of(found, module)?.logical(found, module, config, layout).map(Some)
        };
        let config = found.quantization.expect("it says what it is");
        let logical = of(config).map_err(|why| Candidate::wrong(&name, why))?;
        Ok(logical.map(|logical| Detected { name, logical: logical.into(), auxiliary: Vec::new() }))
    }

    fn of(found: &Candidate<'_>, module: &str) -> Or<AwqTensors> {
        Ok(AwqTensors {
            scales: found.needed(module, "scales", number::NUMBERS)?,
            zeros: found.needed(module, "qzeros", &[Dtype::I32])?,
        })
    }

    /// Holds every shape against the others.
    fn logical(
        self,
        found: &Candidate<'_>,
        module: &str,
        config: &Value,
        layout: &AwqLayout,
    ) -> Or<LogicalFields> {
        let stated = config.get("bits").or_else(|| config.get("w_bit")).and_then(Value::as_u64);
        if !stated.is_some_and(|bits| BITS.contains(&bits)) {
            return Err(QuantizedProblem::Number { key: "bits", found: stated, read: BITS });
        }
        let &[rows, words] = found.tensor.shape.axes() else {
            return Err(QuantizedProblem::NotTwoAxes { found: found.tensor.shape.clone() });
        };
        let across = words.checked_mul(IN_WORD).ok_or(QuantizedProblem::TooLarge)?;
        let (outputs, inputs) = match layout.along {
            Along::Outputs => (across, rows),
            Along::Inputs => (rows, across),
        };
        if outputs == 0 || inputs == 0 {
            return Err(QuantizedProblem::Empty);
        }
        let key = if config.get("group_size").is_some() { "group_size" } else { "q_group_size" };
        let group = group_size(config, key)?.unwrap_or(inputs).min(inputs);
        let groups = inputs.div_ceil(group);
        let together = match layout.along {
            Along::Outputs => 1,
            Along::Inputs => words_together(group)?,
        };
        let padded = groups.div_ceil(IN_WORD).next_multiple_of(together);
        let (scales, zeros) = match layout.along {
            Along::Outputs => ([groups, outputs], [groups, outputs / IN_WORD]),
            Along::Inputs => ([outputs, padded * IN_WORD], [outputs, padded]),
        };
        expect_shape(module, "scales", &self.scales, &scales)?;
        expect_shape(module, "qzeros", &self.zeros, &zeros)?;
        Ok(LogicalFields {
            encoding: layout.name.into(),
            shape: Shape::new(&[outputs, inputs]).ok_or(QuantizedProblem::TooLarge)?,
            block: (1, group),
            parts: vec![found.tensor.clone(), self.scales, self.zeros],
            constants: Vec::new(),
        })
    }
}

/// Words of zero points that the layout of rows pads to a multiple of, as AutoAWQ's `calculate_zeros_width` does.
fn words_together(group: u64) -> Or<u64> {
    match group {
        128.. => Ok(1),
        64 => Ok(2),
        32 => Ok(4),
        _ => Err(QuantizedProblem::Number { key: "group_size", found: Some(group), read: &[32, 64, 128] }),
    }
}

/// `version`, in lower case as its users write it either way.
fn version(config: &Value) -> Or<String> {
    let found = config.get("version").and_then(Value::as_str).unwrap_or("gemm").to_lowercase();
    if VERSIONS.contains(&&*found) {
        Ok(found)
    } else {
        Err(QuantizedProblem::Word { key: "version", found, read: VERSIONS })
    }
}
