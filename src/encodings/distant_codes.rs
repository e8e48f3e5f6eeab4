//! Codes that share a byte with codes of distant rows, with a scale and a zero point or shift for each group: HQQ and quanto.
//!
//! ```text
//! codes   U8        its element i holds the codes of the values i, i + n, i + 2n, …, where n is the number of its elements
//! scales            one for each group of values that follow each other (`block` 1 × g), or one for all values whose places are
//!                   alike but for a multiple of their number (`block` g × 1)
//! zeros             as the scales
//! ```
//!
//! Values are counted through the weight row by row. So each of the tensors is gone through in cycles, and what a tile needs of one
//! begins in one cycle and may end in the next: each is two parts, what lies before that place and what lies behind. A tile is the
//! stretch from its first value to its last.
//!
//! Encoded again in the order of its bytes ([`interleaved_codes`](crate::encodings::interleaved_codes)), where each holds values of one
//! column.

use std::ops::Range;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, WrittenOrder};
use crate::encodings::interleaved_codes::{BYTE, InterleavedCodes};
use crate::encodings::logical::{Candidate, Detected, Logical, LogicalFields, Or, expect_shape};
use crate::encodings::number::number;
use crate::encodings::scheme::Scheme;
use crate::encodings::window::{most_units, units};
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::kernels::dispatch::Kernels;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// A scheme of such codes.
pub(crate) struct DistantCodes {
    /// Its name in plans.
    pub name: &'static str,
    /// What they are, in the order in which they are written too.
    pub codes: &'static InterleavedCodes,
    /// The weight that a candidate is the data of, if it is of this scheme.
    pub detect: fn(&Candidate<'_>) -> Result<Option<Detected>>,
    /// Why changed values are not encoded this way again, where they are not.
    pub decode_only: &'static str,
}

/// Codes of which a table has all values.
const FEW: usize = 16;

/// The tensors of one weight, before they are held against each other.
pub(crate) struct DistantTensors<'f> {
    /// The codes.
    pub found: &'f Candidate<'f>,
    /// The module that they are of.
    pub module: &'f str,
    /// What the scales and the zero points or shifts are called.
    pub leaves: [&'static str; 2],
    /// Both of them.
    pub numbers: [TensorRef; 2],
}

impl DistantTensors<'_> {
    /// The weight, whose groups the shape of the scales tells.
    pub(crate) fn logical(self, encoding: &'static str, bits: u64, shape: [u64; 2]) -> Or<LogicalFields> {
        let shape = Shape::new(&shape).ok_or(QuantizedProblem::TooLarge)?;
        let (values, [scales, zeros]) = (shape.elements(), self.numbers);
        let groups = scales.shape.elements();
        if values == 0 || groups == 0 {
            return Err(QuantizedProblem::Empty);
        }
        let size = values / groups;
        let is_across = scales.shape.axes() == [1, groups] && groups != 1;
        let axes = if is_across { [1, groups] } else { [groups, 1] };
        for (leaf, tensor) in self.leaves.iter().zip([&scales, &zeros]) {
            expect_shape(self.module, leaf, tensor, &axes)?;
        }
        if zeros.dtype != scales.dtype {
            return Err(QuantizedProblem::OfScheme("its scales and its zero points have different types"));
        }
        if !values.is_multiple_of(groups) {
            return Err(QuantizedProblem::OfScheme("its values are no multiple of the number of its scales"));
        }
        let (rows, cols) = if is_across { (size, groups) } else { (groups, size) };
        let stored = rows.div_ceil(BYTE / bits);
        if self.found.tensor.shape.axes() != [stored, cols] {
            let (name, found) = (self.found.name.to_owned(), self.found.tensor.shape.clone());
            return Err(QuantizedProblem::Shape { name, found, expected: vec![stored, cols] });
        }
        let parts = [self.found.tensor.clone(), scales, zeros];
        Ok(LogicalFields {
            encoding: encoding.into(),
            shape,
            block: if is_across { (size, 1) } else { (1, size) },
            parts: parts.into_iter().flat_map(|part| [part.clone(), part]).collect(),
            constants: vec![bits as f32],
        })
    }
}

impl Encoding for DistantCodes {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(self.codes.scheme)
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        (self.detect)(found)
    }

    fn decode_only(&self, _: &Logical) -> Option<&'static str> {
        Some(self.decode_only)
    }

    fn across(&self, logical: &Logical) -> Option<(WrittenOrder, Logical)> {
        self.codes.written(logical)
    }

    fn row_group(&self, logical: &Logical) -> u64 {
        // Where the cycles of the codes end with rows, no tile needs two of them.
        let (cycle, cols) = (logical.parts()[0].shape.elements(), logical.shape().axes()[1]);
        let is_whole = cycle.is_multiple_of(cols) && logical.shape().elements().is_multiple_of(cycle);
        if is_whole { cycle / cols } else { u64::MAX }
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        let cycle = Cycle::of(part / 2, place);
        let range = &cycle.ranges[part % 2];
        let len = (range.end - range.start) * cycle.size;
        Runs { first: range.start * cycle.size, len, count: 1, stride: len }
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        let cycle = Cycle::of(part / 2, place);
        let values = (place.rect.height().max(1) - 1) * place.view.cols + place.rect.width();
        let most =
            if cycle.per == 1 { values.min(cycle.len) } else { most_units(values, cycle.per, cycle.len) };
        let all = place.logical.shape().elements();
        let is_one =
            cycle.len * cycle.per >= all || part / 2 == 0 && self.row_group(place.logical) != u64::MAX;
        if part % 2 == 1 && is_one { 0 } else { most * cycle.size }
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let [codes, scales, zeros] = [0, 1, 2].map(|tensor| Cycle::of(tensor, place));
        let (stored, rest) = parts.split_at(codes.bytes());
        let (of_scales, of_zeros) = rest.split_at(scales.bytes());
        debug_assert_eq!(of_zeros.len(), zeros.bytes());
        let (dtype, bits) = (place.logical.parts()[2].dtype, place.logical.constants()[0] as u64);
        let mask = u8::MAX >> (BYTE - bits);
        let first = (place.rect.rows.start + at.row as u64) * place.view.cols
            + place.rect.cols.start
            + at.cols.start as u64;
        let (mut finite, mut done) = (true, 0);
        while done < out.len() {
            let start = first + done as u64;
            let end = (codes.until(start).min(scales.until(start)) - first).min(out.len() as u64);
            let out = &mut out[done..end as usize];
            let turn = start / codes.len;
            let shift = if self.codes.is_high_first { BYTE - bits * (turn + 1) } else { bits * turn };
            let stored = stored[codes.at(start)..].iter().map(|byte| byte >> shift & mask);
            let group = scales.at(start);
            let value = |code: u8, group: usize| {
                let [scale, zero] = [of_scales, of_zeros].map(|bytes| number(dtype, bytes, group));
                (self.codes.value)(dtype, f32::from(code), scale, zero)
            };
            let values = out.iter_mut().zip(stored);
            if scales.per == 1 {
                values.zip(group..).for_each(|((out, code), group)| *out = value(code, group));
            } else if usize::from(mask) < FEW {
                let table: [f32; FEW] = std::array::from_fn(|code| value(code as u8, group));
                values.for_each(|(out, code)| *out = table[usize::from(code) % FEW]);
            } else {
                values.for_each(|(out, code)| *out = value(code, group));
            }
            finite &= out.iter().all(|value| value.is_finite());
            done += out.len();
        }
        finite
    }
}

/// What a tile needs of a tensor that is gone through in cycles.
struct Cycle {
    /// Values that follow each other and share an element.
    per: u64,
    /// Elements of the tensor.
    len: u64,
    /// Bytes of an element.
    size: u64,
    /// The elements up to the end of a cycle, and those of the next.
    ranges: [Range<u64>; 2],
}

impl Cycle {
    /// Of the codes, the scales or the zero points.
    fn of(tensor: usize, place: Place<'_>) -> Cycle {
        let Place { logical, view, rect, .. } = place;
        let stored = &logical.parts()[2 * tensor];
        let (len, per) = (stored.shape.elements(), if tensor == 0 { 1 } else { logical.block().1 });
        let start = rect.rows.start * view.cols + rect.cols.start;
        let end = (rect.rows.end.max(1) - 1) * view.cols + rect.cols.end;
        let needed = units(&(start..end.max(start)), per);
        let (start, count) = (needed.start % len, needed.end - needed.start);
        let ranges = if count >= len {
            [0..len, 0..0]
        } else {
            let behind = (start + count).saturating_sub(len);
            [start..start + count - behind, 0..behind]
        };
        Cycle { per, len, size: stored.dtype.bitsize() as u64 / 8, ranges }
    }

    /// Bytes of it in a tile.
    fn bytes(&self) -> usize {
        (self.ranges.iter().map(|range| range.end - range.start).sum::<u64>() * self.size) as usize
    }

    /// The first value behind one whose element is neither its own nor one behind that.
    fn until(&self, value: u64) -> u64 {
        let step = if self.per == 1 { self.len } else { self.per };
        (value / step + 1) * step
    }

    /// Which element of the tile's is that of a value.
    fn at(&self, value: u64) -> usize {
        let element = value / self.per % self.len;
        let [first, _] = &self.ranges;
        (if first.contains(&element) { element - first.start } else { first.end - first.start + element })
            as usize
    }
}
