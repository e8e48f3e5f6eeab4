//! Which tensors are a weight of GPTQ: found by their names, and held against each other and against what the config says.

use serde_json::Value;

use crate::encodings::group_size::group_size;
use crate::encodings::logical::{Candidate, Detected, LogicalFields, Or, expect_shape};
use crate::encodings::number::NUMBERS;
use crate::encodings::words::WORD;
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// Values of `quant_method`.
pub(crate) const METHODS: &[&str] = &["gptq", "gptq_v2"];
/// Bits that are read.
const BITS: &[u64] = &[2, 3, 4, 8];
/// Values of `checkpoint_format` that are read; the first stores zero points less 1, as one that says nothing does.
const FORMATS: &[&str] = &["gptq", "gptq_v2"];

/// The tensors of one weight.
pub(crate) struct GptqTensors {
    scales: TensorRef,
    zeros: TensorRef,
    order: Option<TensorRef>,
}

/// What the config says.
struct GptqSettings {
    bits: u64,
    /// Inputs of a group; all of them if there is none.
    group: Option<u64>,
    zero_offset: u32,
}

impl GptqTensors {
    /// The weight whose codes a tensor is, if it is one of so many bits.
    pub(crate) fn detect(
        found: &Candidate<'_>,
        bits: u64,
        encoding: &'static str,
    ) -> Result<Option<Detected>> {
        let Some(module) = found.name.strip_suffix(".qweight") else { return Ok(None) };
        let is_ours = match found.method() {
            // `quantize_config.json` of old checkpoints names no method, and has a key that is GPTQ's alone.
            None => found.quantization.is_some_and(|config| config.get("desc_act").is_some()),
            Some(method) => METHODS.contains(&method),
        };
        if found.tensor.dtype != Dtype::I32 || !is_ours {
            return Ok(None);
        }
        let name = format!("{module}.weight");
        let of = |settings: GptqSettings| {
            if settings.bits != bits {
                return Ok(None);
            }
            let tensors = GptqTensors::of(found, module)?;
            tensors.logical(found, module, &settings, encoding).map(Some)
        };
        let logical = GptqSettings::of(found).and_then(of).map_err(|why| Candidate::wrong(&name, why))?;
        Ok(logical.map(|logical| Detected { name, logical: logical.into(), auxiliary: Vec::new() }))
    }

    fn of(found: &Candidate<'_>, module: &str) -> Or<GptqTensors> {
        Ok(GptqTensors {
            scales: found.needed(module, "scales", NUMBERS)?,
            zeros: found.needed(module, "qzeros", &[Dtype::I32])?,
            order: found.beside(&format!("{module}.g_idx"), &[Dtype::I32])?,
        })
    }

    /// Holds every shape against the others.
    fn logical(
        self,
        found: &Candidate<'_>,
        module: &str,
        settings: &GptqSettings,
        encoding: &'static str,
    ) -> Or<LogicalFields> {
        let &[words, outputs] = found.tensor.shape.axes() else {
            return Err(QuantizedProblem::NotTwoAxes { found: found.tensor.shape.clone() });
        };
        let bits = settings.bits;
        if words == 0 || outputs == 0 {
            return Err(QuantizedProblem::Empty);
        }
        let in_words = |values: u64| values.checked_mul(bits).filter(|bits| bits.is_multiple_of(WORD));
        // Inputs fill their words: a stream that ends within one would leave their number open.
        let inputs = words.checked_mul(WORD).filter(|all| all.is_multiple_of(bits)).map(|all| all / bits);
        let inputs = inputs.ok_or(QuantizedProblem::Fields { found: words * WORD, bits })?;
        let zero_words =
            in_words(outputs).ok_or(QuantizedProblem::Fields { found: outputs * bits, bits: WORD })? / WORD;
        let group = settings.group.unwrap_or(inputs).min(inputs);
        let groups = inputs.div_ceil(group);
        expect_shape(module, "scales", &self.scales, &[groups, outputs])?;
        expect_shape(module, "qzeros", &self.zeros, &[groups, zero_words])?;
        if let Some(order) = &self.order {
            expect_shape(module, "g_idx", order, &[inputs])?;
        }
        let parts = [Some(found.tensor.clone()), Some(self.scales), Some(self.zeros), self.order];
        Ok(LogicalFields {
            encoding: encoding.into(),
            shape: Shape::new(&[outputs, inputs]).ok_or(QuantizedProblem::TooLarge)?,
            block: (1, group),
            parts: parts.into_iter().flatten().collect(),
            constants: vec![settings.zero_offset as f32],
        })
    }
}

impl GptqSettings {
    fn of(found: &Candidate<'_>) -> Or<GptqSettings> {
        let config =
            found.quantization.ok_or_else(|| QuantizedProblem::NoConfig { name: found.name.to_owned() })?;
        let word = |key: &str| config.get(key).and_then(Value::as_str);
        let bits = config.get("bits").and_then(Value::as_u64);
        let bits = bits.filter(|bits| BITS.contains(bits));
        let stated = config.get("bits").and_then(Value::as_u64);
        let bits = bits.ok_or(QuantizedProblem::Number { key: "bits", found: stated, read: BITS })?;
        let format = match (word("checkpoint_format"), word("quant_method")) {
            (None, Some("gptq_v2")) => "gptq_v2",
            (None, _) => "gptq",
            (Some(format), _) => format,
        };
        if !FORMATS.contains(&format) {
            let found = format.to_owned();
            return Err(QuantizedProblem::Word { key: "checkpoint_format", found, read: FORMATS });
        }
        if config.get("is_marlin_format").and_then(Value::as_bool) == Some(true) {
            return Err(QuantizedProblem::OfScheme(
                "`is_marlin_format` says that its codes are in another order",
            ));
        }
        let group = group_size(config, "group_size")?;
        Ok(GptqSettings { bits, group, zero_offset: u32::from(format == "gptq") })
    }
}
