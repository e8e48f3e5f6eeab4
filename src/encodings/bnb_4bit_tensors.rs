//! Which tensors are a weight of bitsandbytes with 4 bits: found by their names, and held against what the weight's own description says.

use serde_json::Value;

use crate::encodings::logical::{Candidate, Detected, LogicalFields, Or, expect_shape};
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// What the names of both descriptions begin with, behind the weight's.
const DESCRIPTION: &str = ".quant_state.bitsandbytes__";
/// Values in a byte.
pub(crate) const PAIR: u64 = 2;
/// Magnitudes that share a scale where they are quantized too.
pub(crate) const NESTED_BLOCK: u64 = 256;
/// Values of the table.
const CODES: u64 = 16;
/// Values of the table of magnitudes.
const NESTED_CODES: u64 = 256;

/// What a description says, as far as values depend on it.
struct Description {
    quant_type: String,
    blocksize: u64,
    shape: Vec<u64>,
    nested_blocksize: Option<u64>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

impl Description {
    /// Reads one; none where it is no JSON or lacks what every one has.
    fn of(bytes: &[u8]) -> Option<Description> {
        let said: Value = serde_json::from_slice(bytes).ok()?;
        let word = |key: &str| said.get(key).and_then(Value::as_str).map(str::to_owned);
        let size = |key: &str| said.get(key).and_then(Value::as_u64);
        Some(Description {
            quant_type: word("quant_type")?,
            blocksize: size("blocksize")?,
            shape: said.get("shape")?.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?,
            nested_blocksize: size("nested_blocksize"),
            nested_dtype: word("nested_dtype"),
            nested_offset: said.get("nested_offset").and_then(Value::as_f64),
        })
    }
}

/// Finds the tensors of one weight.
pub(crate) struct BlockedTensors<'f> {
    found: &'f Candidate<'f>,
    said: Description,
}

impl BlockedTensors<'_> {
    /// The weight whose codes a tensor is, if it has a description of that kind.
    pub(crate) fn detect(found: &Candidate<'_>, kind: &'static str) -> Result<Option<Detected>> {
        let name = format!("{}{DESCRIPTION}{kind}", found.name);
        let Some(description) = (found.find)(&name) else { return Ok(None) };
        let wrong = |why| Candidate::wrong(found.name, why);
        if description.dtype != Dtype::U8 {
            let expected = &[Dtype::U8];
            return Err(wrong(QuantizedProblem::Dtype { name, found: description.dtype, expected }));
        }
        let bytes = (found.read)(&description)?;
        let said = Description::of(&bytes);
        let said = said.ok_or_else(|| wrong(QuantizedProblem::Description { name: name.clone() }))?;
        let logical = BlockedTensors { found, said }.logical(kind).map_err(wrong)?;
        let auxiliary = vec![description];
        Ok(Some(Detected { name: found.name.to_owned(), logical: logical.into(), auxiliary }))
    }

    fn logical(&self, kind: &'static str) -> Or<LogicalFields> {
        let said = &self.said;
        if said.quant_type != kind {
            return Err(QuantizedProblem::Setting {
                key: "quant_type",
                found: said.quant_type.clone(),
                expected: kind,
            });
        }
        let shape = Shape::new(&said.shape).ok_or(QuantizedProblem::TooLarge)?;
        let values = shape.elements();
        if values == 0 || said.shape.is_empty() {
            return Err(QuantizedProblem::Empty);
        }
        if said.blocksize == 0 {
            return Err(QuantizedProblem::OfScheme("its `blocksize` is 0"));
        }
        self.check_codes(values)?;
        let blocks = values.div_ceil(said.blocksize);
        let nested = self.nested(blocks)?;
        let dtype: &'static [Dtype] = if nested.is_some() { &[Dtype::U8] } else { &[Dtype::F32] };
        let magnitudes = self.part("absmax", dtype, blocks)?;
        let table = self.part("quant_map", &[Dtype::F32], CODES)?;
        let mut parts = vec![self.found.tensor.clone(), magnitudes, table];
        let mut constants = Vec::new();
        if let Some((scales, table, offset)) = nested {
            parts.extend([scales, table]);
            constants.push(offset);
        }
        let encoding = kind.into();
        Ok(LogicalFields { encoding, shape, block: (1, said.blocksize.min(values)), parts, constants })
    }

    /// Holds the bytes of codes against the number of values; whatever type they are stored as pads the last of it.
    fn check_codes(&self, values: u64) -> Or<()> {
        let (bytes, needed) = (self.found.tensor.bytes(), values.div_ceil(PAIR));
        let element = (self.found.tensor.dtype.bitsize() as u64 / 8).max(1);
        if bytes == needed.next_multiple_of(element) {
            return Ok(());
        }
        Err(QuantizedProblem::CodeBytes { found: bytes, values, expected: needed })
    }

    /// The scales and the table of magnitudes that are quantized too, and what is added to each.
    fn nested(&self, blocks: u64) -> Or<Option<(TensorRef, TensorRef, f32)>> {
        let said = &self.said;
        let Some(block) = said.nested_blocksize else { return Ok(None) };
        if block != NESTED_BLOCK {
            let read = &[NESTED_BLOCK];
            return Err(QuantizedProblem::Number { key: "nested_blocksize", found: Some(block), read });
        }
        if let Some(dtype) = said.nested_dtype.as_deref().filter(|dtype| *dtype != "float32") {
            let (key, found) = ("nested_dtype", dtype.to_owned());
            return Err(QuantizedProblem::Setting { key, found, expected: "float32" });
        }
        let offset = said.nested_offset.map(|offset| offset as f32).filter(|offset| offset.is_finite());
        let offset = offset.ok_or(QuantizedProblem::OfScheme("its `nested_offset` is no number"))?;
        let scales = self.part("nested_absmax", &[Dtype::F32], blocks.div_ceil(NESTED_BLOCK))?;
        let table = self.part("nested_quant_map", &[Dtype::F32], NESTED_CODES)?;
        Ok(Some((scales, table, offset)))
    }

    fn part(&self, leaf: &str, dtypes: &'static [Dtype], values: u64) -> Or<TensorRef> {
        let tensor = self.found.needed(self.found.name, leaf, dtypes)?;
        expect_shape(self.found.name, leaf, &tensor, &[values])?;
        Ok(tensor)
    }
}
