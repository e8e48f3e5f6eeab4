//! Packed integers as compressed-tensors stores them (`pack-quantized`; Kimi K2): codes of 3, 4 or 8 bits, a scale for each
//! group of columns, and zero points where the quantization is not symmetric.
//!
//! A row of `X.weight_packed [N, ⌈K·b/32⌉]` is a stream of b-bit fields, the least significant first, in little-endian
//! words, so that it can be read byte by byte. **A field is the code + 2^(b−1)**, not its two's complement, and so are zero
//! points, which are packed *down the rows*: `[⌈N·b/32⌉, groups]`. `value = f32(code − zero) · scale` (quantized-bases.md
//! 5). K follows from the groups; where one scale serves a whole row, from the data of `X.weight_shape`.

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

use crate::encodings::ct_config::Strategy;
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode};
use crate::encodings::logical::{Candidate, Detected, Logical, LogicalFields, Or};
use crate::encodings::packed_config::GroupScheme;
use crate::encodings::packed_layout::{PackedKind, PackedLayout, WORD};
use crate::encodings::packed_write;
use crate::encodings::scheme::{Auxiliary, Scheme};

const SCALES: usize = 1;

/// Fields of so many bits.
pub(crate) struct PackedInt {
    /// Its name in plans.
    name: &'static str,
    /// Bits of a field.
    bits: u32,
}

/// 3 bits, packed without gaps: fields cross words.
pub(crate) static INT3: PackedInt = PackedInt { name: "packed_int3", bits: 3 };
/// 4 bits.
pub(crate) static INT4: PackedInt = PackedInt { name: "packed_int4", bits: 4 };
/// 8 bits.
pub(crate) static INT8: PackedInt = PackedInt { name: "packed_int8", bits: 8 };

static SCHEME: Scheme = Scheme {
    title: "packed integers of compressed-tensors",
    methods: &["compressed-tensors"],
    dtypes: &[Dtype::I32],
    data: PACKED,
    auxiliary: &[
        Auxiliary { ending: ".weight_scale", data: PACKED },
        Auxiliary { ending: ".weight_zero_point", data: PACKED },
        Auxiliary { ending: ".weight_shape", data: PACKED },
        Auxiliary { ending: ".weight_g_idx", data: PACKED },
    ],
    unused: &[
        Auxiliary { ending: ".input_scale", data: PACKED },
        Auxiliary { ending: ".activation_scale", data: PACKED },
        Auxiliary { ending: ".input_zero_point", data: PACKED },
        Auxiliary { ending: ".input_global_scale", data: PACKED },
        Auxiliary { ending: ".output_scale", data: PACKED },
    ],
    plain_lists: &["ignore"],
    ..Scheme::NONE
};

/// What the data is called in the place of `.weight`.
const PACKED: &[&str] = &[".weight_packed"];

impl Encoding for PackedInt {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        let Some(module) = found.name.strip_suffix(".weight_packed") else { return Ok(None) };
        if found.tensor.dtype != Dtype::I32 {
            return Ok(None);
        }
        let name = format!("{module}.weight");
        let scheme = GroupScheme::of(found, module).map_err(|why| Candidate::wrong(&name, why))?;
        if scheme.bits != self.bits {
            return Ok(None);
        }
        let tensors = Tensors::of(found, module).map_err(|why| Candidate::wrong(&name, why))?;
        let input = match tensors.input(&scheme) {
            Some(input) => input,
            None => tensors.written_input(found, &name)?,
        };
        let block = tensors.check(&scheme, input).map_err(|why| Candidate::wrong(&name, why))?;
        tensors.check_written(input, found, &name)?;
        let shape = Shape::new(&[tensors.rows, input]).expect("its codes are on disk");
        let auxiliary = tensors.shape.into_iter().collect();
        let parts = [Some(found.tensor.clone()), Some(tensors.scale), tensors.zeros, tensors.order];
        let parts = parts.into_iter().flatten().collect();
        let encoding = self.name.into();
        let logical = LogicalFields { encoding, shape, block, parts, constants: Vec::new() }.into();
        Ok(Some(Detected { name, logical, auxiliary }))
    }

    fn is_kept(&self, logical: &Logical, part: usize) -> bool {
        part > SCALES && logical.parts()[part].shape.axes().len() == 1
    }

    fn block_shape(&self, logical: &Logical) -> (u64, u64) {
        let ((rows, cols), beside) = (logical.block(), &logical.parts()[SCALES + 1..]);
        let has = |axes: usize| beside.iter().any(|part| part.shape.axes().len() == axes);
        match logical.shape().axes() {
            &[in_all, input] => {
                let in_word = (WORD / u64::from(self.bits)).min(in_all);
                (if has(2) { in_word } else { rows }, if has(1) { input } else { cols })
            }
            _ => (rows, cols),
        }
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        PackedLayout::of(self.bits, place).runs(part)
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        // A rectangle elsewhere may begin and end within a byte, a group or a word.
        let layout = PackedLayout::of(self.bits, place);
        let runs = layout.runs(part);
        let (rows, cols) = (place.rect.height(), place.rect.width());
        let bits = u64::from(self.bits);
        match layout.kind(part) {
            PackedKind::Codes => rows * (cols * bits / 8 + 5).min(layout.codes_in_all),
            PackedKind::Scales => rows * layout.most_groups(cols) * layout.scale_bytes,
            PackedKind::Zeros => (rows * bits / WORD + 2) * layout.most_groups(cols) * 4,
            PackedKind::Order => runs.bytes(),
        }
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let layout = PackedLayout::of(self.bits, place);
        let row = layout.row(parts, at.row);
        let first = place.rect.cols.start + at.cols.start as u64;
        if layout.order.is_some() {
            return row.decode_reordered(&layout, first, out);
        }
        let (mut finite, mut done) = (true, 0);
        while done < out.len() {
            let col = first + done as u64;
            let group = col / layout.block.1;
            let end = ((group + 1) * layout.block.1 - first).min(out.len() as u64) as usize;
            let (scale, zero) = row.of_group(&layout, group);
            row.decode(&layout, col, (scale, zero), &mut out[done..end]);
            finite &= scale.is_finite();
            done = end;
        }
        finite
    }

    fn encode(&self, _: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        packed_write::encode(self.bits, block, bytes)
    }
}

/// The tensors of one weight.
struct Tensors {
    rows: u64,
    /// Words of a row of codes.
    words: u64,
    scale: TensorRef,
    zeros: Option<TensorRef>,
    /// The group of each column, where they are not in order.
    order: Option<TensorRef>,
    shape: Option<TensorRef>,
}

impl Tensors {
    fn of(found: &Candidate<'_>, module: &str) -> Or<Tensors> {
        let beside = |leaf: &str| (found.find)(&format!("{module}.{leaf}"));
        let &[rows, words] = found.tensor.shape.axes() else {
            return Err(QuantizedProblem::NotTwoAxes { found: found.tensor.shape.clone() });
        };
        let of_type = |leaf: &str, expected: &'static [Dtype]| match beside(leaf) {
            Some(tensor) if !expected.contains(&tensor.dtype) => {
                let name = format!("{module}.{leaf}");
                Err(QuantizedProblem::Dtype { name, found: tensor.dtype, expected })
            }
            tensor => Ok(tensor),
        };
        let scale = of_type("weight_scale", &[Dtype::F32, Dtype::BF16, Dtype::F16])?;
        let name = format!("{module}.weight_scale");
        let scale = scale.ok_or(QuantizedProblem::NoAuxiliary { name })?;
        let zeros = of_type("weight_zero_point", &[Dtype::I32])?;
        let order = of_type("weight_g_idx", &[Dtype::I32])?;
        let shape = of_type("weight_shape", &[Dtype::I64, Dtype::I32])?;
        Ok(Tensors { rows, words, scale, zeros, order, shape })
    }

    /// Inputs of the weight, where headers say them.
    fn input(&self, scheme: &GroupScheme) -> Option<u64> {
        match (scheme.strategy, self.scale.shape.axes()) {
            (Strategy::Group(size), [.., groups]) => groups.checked_mul(size),
            _ => None,
        }
    }

    /// Holds the data of `weight_shape` against the inputs: padding may hide in the last word and in the last group.
    fn check_written(&self, input: u64, found: &Candidate<'_>, name: &str) -> Result<()> {
        if self.shape.is_none() {
            return Ok(());
        }
        let written = self.written_input(found, name)?;
        if written == input {
            return Ok(());
        }
        let stem = name.strip_suffix("weight").unwrap_or(name);
        let shape = format!("{stem}weight_shape");
        Err(Candidate::wrong(name, QuantizedProblem::WrittenColumns { name: shape, written, found: input }))
    }

    /// Inputs of the weight as the data of `weight_shape` says.
    fn written_input(&self, found: &Candidate<'_>, name: &str) -> Result<u64> {
        let stem = name.strip_suffix("weight").unwrap_or(name);
        let named = || format!("{stem}weight_shape");
        let unknown = || Candidate::wrong(name, QuantizedProblem::UnknownColumns { name: named() });
        let shape = self.shape.as_ref().ok_or_else(unknown)?;
        if shape.shape.axes() != [2] {
            let (found, expected) = (shape.shape.clone(), vec![2]);
            return Err(Candidate::wrong(name, QuantizedProblem::Shape { name: named(), found, expected }));
        }
        let bytes = (found.read)(shape)?;
        let numbers: Vec<i64> = match shape.dtype {
            Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|n| i64::from_le_bytes(*n)).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|n| i32::from_le_bytes(*n).into()).collect(),
        };
        match numbers.as_slice() {
            [rows, input] if u64::try_from(*rows) == Ok(self.rows) && *input > 0 => Ok(*input as u64),
            _ => {
                let why = QuantizedProblem::WrittenRows { name: named(), written: numbers, rows: self.rows };
                Err(Candidate::wrong(name, why))
            }
        }
    }

    /// Holds every shape against the scheme; the rows and columns that share a scale.
    fn check(&self, scheme: &GroupScheme, input: u64) -> Or<(u64, u64)> {
        let bits = u64::from(scheme.bits);
        let words = input.checked_mul(bits).map(|bits| bits.div_ceil(WORD));
        if words != Some(self.words) || input == 0 {
            let found = self.words;
            return Err(QuantizedProblem::Words { found, expected: words, columns: input, bits });
        }
        // Before fields crossed words, a word held whole ones only.
        if !WORD.is_multiple_of(bits) && input.div_ceil(WORD / bits) == self.words {
            return Err(QuantizedProblem::TwoPackings { columns: input, bits });
        }
        let (scales, block) = match scheme.strategy {
            Strategy::Group(size) => ([self.rows, input / size], (1, size)),
            _ => ([self.rows, 1], (1, input)),
        };
        let expect = |leaf: &str, tensor: &TensorRef, axes: &[u64]| {
            if tensor.shape.axes() == axes {
                return Ok(());
            }
            let (found, expected) = (tensor.shape.clone(), axes.to_vec());
            Err(QuantizedProblem::Shape { name: leaf.to_owned(), found, expected })
        };
        expect("weight_scale", &self.scale, &scales)?;
        let of_scheme = |why| Err(QuantizedProblem::OfScheme(why));
        match (&self.zeros, scheme.symmetric) {
            (None, true) => {}
            (Some(zeros), false) => {
                expect("weight_zero_point", zeros, &[(self.rows * bits).div_ceil(WORD), scales[1]])?;
            }
            (None, false) => return of_scheme("it is not symmetric, and has no `weight_zero_point`"),
            (Some(_), true) => return of_scheme("it is symmetric, and has a `weight_zero_point`"),
        }
        match (&self.order, scheme.is_reordered, scheme.strategy) {
            (Some(order), _, Strategy::Group(_)) => expect("weight_g_idx", order, &[input])?,
            (Some(_), _, _) => return of_scheme("it has a `weight_g_idx`, and no groups"),
            (None, true, _) => {
                return of_scheme(
                    "`actorder` says that its columns are out of order, and it has no `weight_g_idx`",
                );
            }
            (None, false, _) => {}
        }
        Ok(block)
    }
}
