//! Which tensors are a weight of MLX: found by their names, and held against each other and against what the config says.

use serde_json::Value;

use crate::encodings::logical::{Candidate, Detected, LogicalFields, Or, expect_shape};
use crate::encodings::number::NUMBERS;
use crate::encodings::requantize::FreshScale;
use crate::encodings::words::WORD;
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// One of the modes.
pub(crate) struct MlxMode {
    /// Its name in plans.
    pub name: &'static str,
    /// What `mode` says for it; the first where it says nothing.
    pub mode: &'static str,
    /// The values of its codes; whole numbers, which have a bias too, if there are none.
    pub codes: Option<&'static [f32]>,
    /// What the bytes of its scales are, where they are no numbers.
    pub scales: Option<Dtype>,
    /// The rule for new scales.
    pub fresh: FreshScale,
}

/// Values of `bits` that whole numbers may have.
const BITS: &[u64] = &[2, 3, 4, 5, 6, 8];
/// The key of the size of groups.
const GROUP: &str = "group_size";
/// Values of `group_size` that their groups may have.
const GROUPS: &[u64] = &[32, 64, 128];
/// Values of `mode` that are read.
const MODES: &[&str] = &["affine", "mxfp4", "mxfp8", "nvfp4"];

/// The tensors beside the codes of one weight.
pub(crate) struct MlxTensors {
    scales: TensorRef,
    biases: Option<TensorRef>,
}

/// What the config says of one weight.
struct MlxSettings<'c> {
    bits: u64,
    /// Columns of a group.
    group: u64,
    mode: &'c str,
}

impl MlxTensors {
    /// The weight whose codes a tensor is, if it is of that mode.
    pub(crate) fn detect(found: &Candidate<'_>, mode: &MlxMode) -> Result<Option<Detected>> {
        let Some(module) = found.name.strip_suffix(".weight") else { return Ok(None) };
        let scales = format!("{module}.scales");
        let is_ours = found.tensor.dtype == Dtype::U32 && (found.find)(&scales).is_some();
        // Its configs name no method, and always a size.
        let is_said =
            found.method().is_none() && found.quantization.is_some_and(|it| it.get(GROUP).is_some());
        if !is_ours || !is_said {
            return Ok(None);
        }
        let of = |settings: MlxSettings<'_>| {
            if settings.mode != mode.mode {
                return Ok(None);
            }
            MlxTensors::of(found, module, mode)?.logical(found, module, &settings, mode).map(Some)
        };
        let logical =
            MlxSettings::of(found, module).and_then(of).map_err(|why| Candidate::wrong(found.name, why))?;
        let name = found.name.to_owned();
        Ok(logical.map(|logical| Detected { name, logical: logical.into(), auxiliary: Vec::new() }))
    }

    fn of(found: &Candidate<'_>, module: &str, mode: &MlxMode) -> Or<MlxTensors> {
        let scales =
            found.needed(module, "scales", if mode.scales.is_some() { &[Dtype::U8] } else { NUMBERS })?;
        let biases = if mode.codes.is_none() { Some(found.needed(module, "biases", NUMBERS)?) } else { None };
        match &biases {
            Some(biases) if biases.dtype != scales.dtype => {
                Err(QuantizedProblem::OfScheme("its scales and its biases have different types"))
            }
            _ => Ok(MlxTensors { scales, biases }),
        }
    }

    /// Holds every shape against the others.
    fn logical(
        self,
        found: &Candidate<'_>,
        module: &str,
        settings: &MlxSettings<'_>,
        mode: &MlxMode,
    ) -> Or<LogicalFields> {
        let [before @ .., words] = found.tensor.shape.axes() else {
            return Err(QuantizedProblem::NotTwoAxes { found: found.tensor.shape.clone() });
        };
        if before.is_empty() {
            return Err(QuantizedProblem::NotTwoAxes { found: found.tensor.shape.clone() });
        }
        if found.tensor.shape.elements() == 0 {
            return Err(QuantizedProblem::Empty);
        }
        let &MlxSettings { bits, group, .. } = settings;
        let row = words.checked_mul(WORD).ok_or(QuantizedProblem::TooLarge)?;
        if !row.is_multiple_of(bits) {
            return Err(QuantizedProblem::Fields { found: row, bits });
        }
        let cols = row / bits;
        if !cols.is_multiple_of(group) {
            return Err(QuantizedProblem::OfScheme("its columns are no multiple of `group_size`"));
        }
        let scales = [before, &[cols / group]].concat();
        expect_shape(module, "scales", &self.scales, &scales)?;
        if let Some(biases) = &self.biases {
            expect_shape(module, "biases", biases, &scales)?;
        }
        let parts = [Some(found.tensor.clone()), Some(self.scales), self.biases];
        Ok(LogicalFields {
            encoding: mode.name.into(),
            shape: Shape::new(&[before, &[cols]].concat()).ok_or(QuantizedProblem::TooLarge)?,
            block: (1, group),
            parts: parts.into_iter().flatten().collect(),
            constants: vec![bits as f32],
        })
    }
}

impl<'c> MlxSettings<'c> {
    /// Those of a module, which may have its own.
    fn of(found: &Candidate<'c>, module: &str) -> Or<MlxSettings<'c>> {
        let config = found
            .quantization
            .ok_or_else(|| QuantizedProblem::NoConfig { name: format!("{module}.scales") })?;
        let own = config.get(module);
        if own.and_then(Value::as_bool) == Some(false) {
            return Err(QuantizedProblem::ListedPlain);
        }
        let get = |key: &str| own.and_then(|own| own.get(key)).or_else(|| config.get(key));
        let number = |key: &str| get(key).and_then(Value::as_u64);
        let mode = get("mode").and_then(Value::as_str).unwrap_or(MODES[0]);
        let mode = MODES.iter().find(|known| **known == mode).ok_or_else(|| {
            let found = mode.to_owned();
            QuantizedProblem::Word { key: "mode", found, read: MODES }
        })?;
        let (bits, group) = (number("bits"), number(GROUP));
        let (read_bits, read_groups): (&[u64], &[u64]) = match *mode {
            "mxfp4" => (&[4], &[32]),
            "mxfp8" => (&[8], &[32]),
            "nvfp4" => (&[4], &[16]),
            _ => (BITS, GROUPS),
        };
        let among = |key, found: Option<u64>, read: &'static [u64]| {
            found.filter(|found| read.contains(found)).ok_or(QuantizedProblem::Number { key, found, read })
        };
        Ok(MlxSettings {
            bits: among("bits", bits, read_bits)?,
            group: among(GROUP, group, read_groups)?,
            mode,
        })
    }
}
