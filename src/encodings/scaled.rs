//! Codes and what they are multiplied by: what most schemes have in common. Each is a row of facts in a file of its own.
//!
//! A weight has its codes first, then its scales on a [grid](crate::encodings::scale_grid), then a number for the whole
//! tensor or zero points as many as the scales, where the scheme has any. Values are products in f32 in the
//! order that [`Product`] says, each rounded, so that they are those of the library. Whether they are encoded again, and how
//! new scales are made, a scheme says too.

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

use crate::encodings::codes::CodeFormat;
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode};
use crate::encodings::logical::{Candidate, Detected, Logical, LogicalFields, Or};
use crate::encodings::requantize::{FreshScale, OffsetKind, Offsets, Outgrown, Requantizer};
use crate::encodings::scale_grid::{ScaleGrid, check_grid, within};
use crate::encodings::scheme::Scheme;

const CODES: usize = 0;
const SCALES: usize = 1;

/// Floats of 8 bits, of which E4M3 is read.
pub(crate) const FLOAT8: &[Dtype] = &[Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::F8_E4M3FNUZ, Dtype::F8_E5M2FNUZ];
/// Types of scales that are powers of two: bytes, as torch had no type for them for long, or the type itself.
pub(crate) const POWERS: &[Dtype] = &[Dtype::U8, Dtype::F8_E8M0];

/// The number of the whole tensor, or the zero points.
const THIRD: usize = 2;

/// The type of the number of a whole tensor.
const NUMBER: &[Dtype] = &[Dtype::F32];
/// That of zero points.
const ZEROS: &[Dtype] = &[Dtype::I8];

/// A scheme of codes with scales.
pub(crate) struct Scaled {
    /// Its name in plans.
    pub name: &'static str,
    /// The facts of its scheme.
    pub scheme: &'static Scheme,
    /// The types that the tensor of its codes may have.
    pub data: &'static [Dtype],
    /// What its codes are.
    pub codes: CodeFormat,
    /// The types that its scales may have.
    pub scales: &'static [Dtype],
    /// What a value is made of.
    pub product: Product,
    /// The rule for new scales of values that are encoded again, or why they are not.
    pub again: Again,
    /// Whether fused experts, stacks of matrices, are stored so too.
    pub has_stacks: bool,
    /// What the data is called behind the name of the weight, or in the place of `.weight` if it begins with a dot.
    pub ending: &'static str,
    /// What belongs to a weight of that name, if the candidate is its data and of this scheme.
    pub find: fn(&Candidate<'_>, &str) -> Result<Option<ScaledParts>>,
}

/// Whether changed values are encoded again.
#[derive(Clone, Copy)]
pub(crate) enum Again {
    /// Yes, with scales that are made by this rule where those that are there are too small.
    With(FreshScale),
    /// The same, and zero points by the other, of the scale as it is stored.
    WithZeros(FreshScale, fn(&Outgrown, f32) -> f32),
    /// No, and why.
    Never(&'static str),
}

/// Rows of a block that a tile is asked to hold so that its scale can change.
const MOST_ROWS: u64 = 128;

/// What a value is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Product {
    /// `code · scale`.
    Scale,
    /// `(code · scale) · constant`.
    ScaleThen(f32),
    /// `code · (scale · number)`, where the number is that of the tensor.
    ScaleTimesNumber,
    /// `code · (scale / number)`.
    ScaleOverNumber,
    /// `(code − zero point) · scale`, or `code · scale` where a weight has no zero points.
    LessZero,
}

/// A tensor that belongs to a weight, by its name.
pub(crate) struct Named {
    /// The name.
    pub name: String,
    /// Where it is.
    pub tensor: TensorRef,
}

impl Named {
    /// The tensor of that name, if there is one.
    pub(crate) fn find(found: &Candidate<'_>, name: String) -> Option<Named> {
        (found.find)(&name).map(|tensor| Named { name, tensor })
    }

    /// The tensor of that name, which a weight cannot do without.
    pub(crate) fn need(found: &Candidate<'_>, name: String) -> Or<Named> {
        match (found.find)(&name) {
            Some(tensor) => Ok(Named { name, tensor }),
            None => Err(QuantizedProblem::NoAuxiliary { name }),
        }
    }
}

fn check_dtype(name: &str, tensor: &TensorRef, expected: &'static [Dtype]) -> Or<()> {
    let (name, found) = (name.to_owned(), tensor.dtype);
    if expected.contains(&found) { Ok(()) } else { Err(QuantizedProblem::Dtype { name, found, expected }) }
}

/// The tensors of one weight beside its codes.
pub(crate) struct ScaledParts {
    /// Its scales.
    pub scales: Named,
    /// Rows × columns that share a scale.
    pub block: (u64, u64),
    /// The number of the whole tensor or the zero points, where the scheme has any.
    pub third: Option<Named>,
    /// What no value is made from.
    pub auxiliary: Vec<TensorRef>,
}

impl ScaledParts {
    /// Scales alone.
    pub(crate) fn new(scales: Named, block: (u64, u64)) -> ScaledParts {
        ScaledParts { scales, block, third: None, auxiliary: Vec::new() }
    }
}

impl Scaled {
    /// What codes are multiplied by.
    fn factor(&self, scale: f32, number: f32) -> f32 {
        match self.product {
            Product::Scale | Product::ScaleThen(_) | Product::LessZero => scale,
            Product::ScaleTimesNumber => scale * number,
            Product::ScaleOverNumber => scale / number,
        }
    }

    /// The zero points of a tile, where the weight has any.
    fn zeros(&self, place: Place<'_>) -> Option<ScaleGrid> {
        let has_zeros = self.product == Product::LessZero && place.logical.parts().len() > THIRD;
        has_zeros.then(|| ScaleGrid::of(THIRD, place))
    }

    /// The weight that a candidate is the data of.
    ///
    /// # Errors
    /// When a part has another type or shape than the scheme gives it.
    fn weight(&self, found: &Candidate<'_>, beside: ScaledParts) -> Or<Logical> {
        check_dtype(found.name, found.tensor, self.data)?;
        let not_two = || QuantizedProblem::NotTwoAxes { found: found.tensor.shape.clone() };
        let [before @ .., rows, bytes] = found.tensor.shape.axes() else { return Err(not_two()) };
        if !before.is_empty() && !self.has_stacks {
            return Err(not_two());
        }
        if found.tensor.shape.elements() == 0 {
            return Err(QuantizedProblem::Empty);
        }
        let cols = self.codes.in_row(*bytes);
        let cols = cols.ok_or_else(|| QuantizedProblem::PartOfCode { bytes: *bytes })?;
        let shape = Shape::new(&[before, &[*rows, cols]].concat()).ok_or(QuantizedProblem::TooLarge)?;
        let ScaledParts { scales, block, third, .. } = beside;
        let block = within(&shape, block);
        check_dtype(&scales.name, &scales.tensor, self.scales)?;
        check_grid(&scales.name, &scales.tensor, &shape, block)?;
        if let Some(zeros) = third.as_ref().filter(|_| self.product == Product::LessZero) {
            check_dtype(&zeros.name, &zeros.tensor, ZEROS)?;
            check_grid(&zeros.name, &zeros.tensor, &shape, block)?;
        } else if let Some(number) = &third {
            check_dtype(&number.name, &number.tensor, NUMBER)?;
            if !matches!(number.tensor.shape.axes(), [] | [1]) {
                let (name, found) = (number.name.clone(), number.tensor.shape.clone());
                return Err(QuantizedProblem::Shape { name, found, expected: vec![1] });
            }
        }
        let parts = [Some(found.tensor.clone()), Some(scales.tensor), third.map(|third| third.tensor)];
        let parts = parts.into_iter().flatten().collect();
        let encoding = self.name.into();
        Ok(LogicalFields { encoding, shape, block, parts, constants: Vec::new() }.into())
    }
}

impl Encoding for Scaled {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(self.scheme)
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        let Some(stem) = found.name.strip_suffix(self.ending) else { return Ok(None) };
        let name = [stem, if self.ending.starts_with('.') { ".weight" } else { "" }].concat();
        if !self.scheme.dtypes.contains(&found.tensor.dtype) {
            return Ok(None);
        }
        let Some(mut beside) = (self.find)(found, &name)? else { return Ok(None) };
        let auxiliary = std::mem::take(&mut beside.auxiliary);
        let logical = self.weight(found, beside).map_err(|why| Candidate::wrong(&name, why))?;
        Ok(Some(Detected { name, logical, auxiliary }))
    }

    fn decode_only(&self, _: &Logical) -> Option<&'static str> {
        match self.again {
            Again::With(_) | Again::WithZeros(..) => None,
            Again::Never(why) => Some(why),
        }
    }

    fn is_kept(&self, logical: &Logical, part: usize) -> bool {
        // The number of a whole tensor, or what serves more than a tile holds.
        let is_number = part == THIRD && self.product != Product::LessZero;
        is_number || part != CODES && !is_renewed(logical)
    }

    fn block_shape(&self, logical: &Logical) -> (u64, u64) {
        if is_renewed(logical) { logical.block() } else { (1, self.codes.in_whole_bytes()) }
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        match part {
            CODES => self.codes.runs(place),
            SCALES => ScaleGrid::of(part, place).runs(),
            THIRD if self.product == Product::LessZero => ScaleGrid::of(part, place).runs(),
            // The number of the whole tensor.
            _ => Runs { first: 0, len: 4, count: 1, stride: 4 },
        }
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        match part {
            CODES => self.codes.max_bytes(place),
            SCALES => ScaleGrid::of(part, place).max_bytes(place),
            THIRD if self.product == Product::LessZero => ScaleGrid::of(part, place).max_bytes(place),
            _ => self.runs(part, place).bytes(),
        }
    }

    fn decode_row(
        &self,
        kernels: Kernels,
        parts: &[u8],
        place: Place<'_>,
        at: RowPiece,
        out: &mut [f32],
    ) -> bool {
        let grid = ScaleGrid::of(SCALES, place);
        let (codes, rest) = parts.split_at(self.codes.runs(place).bytes() as usize);
        let (scales, third) = rest.split_at(grid.runs().bytes() as usize);
        let zeros = self.zeros(place);
        let number = number_of(third);
        let row = place.rect.rows.start + at.row as u64;
        let mut finite = self.codes.widen(kernels, codes, place, &at, out);
        for (columns, scale_col) in grid.pieces(&at.cols, place) {
            let scale = self.factor(grid.read(scales, row, scale_col), number);
            finite &= scale.is_finite();
            // Less 0 is what it was.
            let zero = zeros.as_ref().map_or(0.0, |zeros| zeros.read(third, row, scale_col));
            for value in &mut out[columns.start - at.cols.start..columns.end - at.cols.start] {
                *value = (*value - zero) * scale;
            }
        }
        if let Product::ScaleThen(constant) = self.product {
            out.iter_mut().for_each(|value| *value *= constant);
        }
        finite
    }

    fn encode(&self, kernels: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let (place, logical) = (block.place, block.place.logical);
        let parts = [CODES, SCALES].map(|part| self.runs(part, place).bytes());
        let third = &block.source[parts.iter().sum::<u64>() as usize..];
        let number = number_of(third);
        let fresh = match self.again {
            Again::With(rule) | Again::WithZeros(rule, _) if is_renewed(logical) => Some(rule),
            _ => None,
        };
        let (inverse, then) = match self.product {
            Product::ScaleThen(constant) => (Some(constant.recip().round()), constant),
            Product::LessZero => (Some(1.0), 1.0),
            _ => (None, 1.0),
        };
        let range = self.codes.range(fresh.is_none());
        let factor = |scale| self.factor(scale, number);
        let narrow = |bytes: &mut [u8], at: &RowPiece, values: &mut [f32]| {
            self.codes.narrow(kernels, bytes, place, at, values)
        };
        let zeros = self.zeros(place);
        let read = |row, col| zeros.as_ref().map_or(0.0, |zeros| zeros.read(third, row, col));
        let write = |bytes: &mut [u8], row, col, zero| {
            zeros.iter().for_each(|zeros| zeros.write(bytes, row, col, zero));
        };
        let fresh_zero = |of: &Outgrown, scale| match self.again {
            Again::WithZeros(_, rule) => [rule(of, scale); 2].into(),
            _ => (0.0, 0.0),
        };
        let kind = OffsetKind::Zero { is_rounded_first: true };
        let offsets = Offsets { part: THIRD, read: &read, write: &write, fresh: &fresh_zero, kind };
        let offsets = zeros.is_some().then_some(offsets);
        let shared = Requantizer::new(parts[CODES], range, &narrow);
        Requantizer { factor: &factor, inverse, then, number, fresh, offsets, ..shared }.encode(block, bytes)
    }
}

/// Whether scales may change: those of blocks that lie in a tile, not those of a whole tensor or of a column.
fn is_renewed(logical: &Logical) -> bool {
    let (block, axes) = (logical.block(), logical.shape().axes());
    let is_whole = axes.ends_with(&[block.0, block.1]);
    block.0 == 1 || block.0 <= MOST_ROWS && !is_whole
}

/// The number of a whole tensor, where there is one.
fn number_of(third: &[u8]) -> f32 {
    third.first_chunk().map_or(1.0, |bytes| f32::from_le_bytes(*bytes))
}
