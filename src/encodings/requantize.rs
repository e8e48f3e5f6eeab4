//! Codes with scales, encoded again: with the scale that a block had, so that a value that was decoded comes out as it went in.
//!
//! Only a block of which a value would not fit gets a new scale, by the rule of its scheme's library; where a scale serves
//! more than a tile holds, such a value is an error. Codes and scales are two outputs, each made from the values on its own:
//! both find the same new scale, as it is stored, whichever shard comes first (quantized-bases.md 5 and 15.3).

use std::ops::Range;

use crate::kernels::float8::ceil_log2;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::{E4M3_MOST, nearest_whole};
use crate::encodings::encoding::{RowPiece, ToEncode};
use crate::encodings::number::power_of;
use crate::encodings::scale_grid::ScaleGrid;

const CODES: usize = 0;
const SCALES: usize = 1;

/// What a new scale is made for.
pub(crate) struct Outgrown {
    /// The type that it is stored as.
    pub dtype: Dtype,
    /// The least and the largest value.
    pub ends: (f32, f32),
    /// The largest magnitude.
    pub largest: f32,
    /// The scale that the block has, and the number beside it; 0 where there is none.
    pub old: (f32, f32),
    /// The number of the tensor.
    pub number: f32,
}

/// A rule for new scales, before they are rounded to what they are stored as.
pub(crate) type FreshScale = fn(&Outgrown) -> f32;

/// Rounds quotients to codes.
pub(crate) type NarrowPiece<'r> = dyn Fn(&mut [u8], &RowPiece, &mut [f32]) -> bool + 'r;

/// How a scheme makes values of codes, and scales of values.
pub(crate) struct Requantizer<'r> {
    /// Bytes of codes in the tile.
    pub codes: u64,
    /// The least and the largest quotient that a scale takes.
    pub range: (f32, f32),
    /// Rounds quotients of some columns to codes in the tile's bytes, and leaves the codes' values; true if all were numbers.
    pub narrow: &'r NarrowPiece<'r>,
    /// What a code is multiplied by, by the scale that is stored.
    pub factor: &'r dyn Fn(f32) -> f32,
    /// What the bytes of scales are, where the file does not say it.
    pub scales: Option<Dtype>,
    /// Where values are multiplied by the reciprocal of that, as torch divides a number by a tensor: the number.
    pub inverse: Option<f32>,
    /// What the product is multiplied by.
    pub then: f32,
    /// The number of the tensor.
    pub number: f32,
    /// The rule for new scales; none where they stay as they are.
    pub fresh: Option<FreshScale>,
    /// Whether a new scale may be 0 where all values are smaller than the least that the type of scales has.
    pub may_vanish: bool,
    /// The numbers beside the scales, where there are any.
    pub offsets: Option<Offsets<'r>>,
    /// What scales are where they are codes themselves.
    pub coded: Option<CodedScales<'r>>,
}

/// Scales that are codes of a byte into a table, whose own scales stay: a new one is the least that is not below what it is made for, or
/// the largest there is.
pub(crate) struct CodedScales<'r> {
    /// The code of a row of the weight and a column of scales, from the bytes of the encoded weight.
    pub code: &'r dyn Fn(u64, u64) -> u8,
    /// What a code means there.
    pub value: &'r dyn Fn(u64, u64, u8) -> f32,
}

impl CodedScales<'_> {
    /// The code of a new scale.
    fn new_code(&self, (row, col): (u64, u64), scale: f32) -> u8 {
        let (mut least, mut largest) = ((f32::INFINITY, None), (f32::NEG_INFINITY, 0));
        for code in 0..=u8::MAX {
            let value = (self.value)(row, col, code);
            if value >= scale && value < least.0 {
                least = (value, Some(code));
            }
            if value > largest.0 {
                largest = (value, code);
            }
        }
        least.1.unwrap_or(largest.1)
    }
}

/// Stores a number beside the scale of a row of the weight and a column of scales.
pub(crate) type WriteOffset<'r> = dyn Fn(&mut [u8], u64, u64, f32) + 'r;

/// Numbers as many as the scales, by which codes are moved: zero points, or what is added to products.
pub(crate) struct Offsets<'r> {
    /// The part that they are.
    pub part: usize,
    /// The one of a row of the weight and a column of scales, from the bytes of the encoded weight.
    pub read: &'r dyn Fn(u64, u64) -> f32,
    /// Stores one in the bytes of its part in a tile.
    pub write: &'r WriteOffset<'r>,
    /// The rule for a new one, by the new scale, and the one as it is stored.
    pub fresh: &'r dyn Fn(&Outgrown, f32) -> (f32, f32),
    /// What it does.
    pub kind: OffsetKind<'r>,
}

/// What a number beside a scale does.
pub(crate) enum OffsetKind<'r> {
    /// `(code − offset) · scale`. Codes are made with both as they are stored, and of quotients that are rounded before the offset is
    /// added if that is said.
    Zero { is_rounded_first: bool },
    /// `code · scale + offset`. New codes are made with both before they are rounded to what is stored. A code cannot always be told
    /// from its value here, so that the one of a row and a column is asked for, both from the tile's first on.
    Bias(&'r dyn Fn(usize, usize) -> f32),
}

impl Offsets<'_> {
    fn is_bias(&self) -> bool {
        matches!(self.kind, OffsetKind::Bias(_))
    }
}

/// The numbers of a block.
#[derive(Clone, Copy)]
struct ScalePair {
    /// As they are stored.
    scale: f32,
    offset: f32,
    /// What values are divided and moved by.
    by: (f32, f32),
    /// Whether they are those that the block had.
    is_old: bool,
}

impl<'r> Requantizer<'r> {
    /// Codes that are multiplied by the scale as it is stored, and nothing else.
    pub(crate) fn new(codes: u64, range: (f32, f32), narrow: &'r NarrowPiece<'r>) -> Requantizer<'r> {
        Requantizer {
            codes,
            range,
            narrow,
            factor: &|scale| scale,
            scales: None,
            inverse: None,
            then: 1.0,
            number: 1.0,
            fresh: None,
            may_vanish: false,
            offsets: None,
            coded: None,
        }
    }

    /// Encodes a block of values into one part's bytes. It is not finite where a value does not fit or is no number; values stay
    /// as they are there.
    pub(crate) fn encode(&self, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let grid = ScaleGrid::of(SCALES, block.place).typed(self.scales);
        let mut cells = grid.cells(&block.rows, &block.cols, block.place);
        self.encode_cells(&grid, &mut cells, block, bytes)
    }

    /// The same, of pieces that share a scale: rows and columns of the block, and the column of scales.
    pub(crate) fn encode_cells(
        &self,
        grid: &ScaleGrid,
        cells: &mut dyn Iterator<Item = (Range<usize>, Range<usize>, u64)>,
        block: &mut ToEncode<'_>,
        bytes: &mut [u8],
    ) -> Narrowed {
        let (place, width) = (block.place, block.cols.len());
        let stored = &block.source[self.codes as usize..];
        let mut narrowed = Narrowed { finite: true, changed: 0 };
        for (rows, cols, scale_col) in cells {
            let row = place.rect.rows.start + rows.start as u64;
            let first = (rows.start - block.rows.start) * width + cols.start - block.cols.start;
            let mut values = block.values[first..].chunks_mut(width).map(|row| &mut row[..cols.len()]);
            let offset = self.offsets.as_ref().map_or(0.0, |offsets| (offsets.read)(row, scale_col));
            let coded = self.coded.as_ref();
            let old = match coded {
                Some(coded) => (coded.value)(row, scale_col, (coded.code)(row, scale_col)),
                None => grid.read(stored, row, scale_col),
            };
            let rounded = |scale| match coded {
                Some(coded) => (coded.value)(row, scale_col, coded.new_code((row, scale_col), scale)),
                None => grid.rounded(scale),
            };
            let is_fresh = (grid.dtype(), block.fresh);
            let steps = self.steps(&rounded, ((old, offset), is_fresh), values.by_ref().take(rows.len()));
            narrowed.finite &= steps.is_some();
            let Some(steps) = steps else { continue };
            match &self.offsets {
                Some(offsets) if block.part == offsets.part => {
                    (offsets.write)(bytes, row, scale_col, steps.offset);
                }
                _ if block.part != CODES => match coded {
                    Some(coded) if steps.is_old => {
                        bytes[grid.at(row, scale_col).start] = (coded.code)(row, scale_col);
                    }
                    Some(coded) => {
                        bytes[grid.at(row, scale_col).start] = coded.new_code((row, scale_col), steps.scale);
                    }
                    None => grid.write(bytes, row, scale_col, steps.scale),
                },
                _ => {
                    for (row, values) in rows.zip(block.values[first..].chunks_mut(width)) {
                        let at = RowPiece { row, cols: cols.clone() };
                        narrowed.finite &= self.encode_row(&steps, at, bytes, &mut values[..cols.len()]);
                    }
                }
            }
        }
        narrowed
    }

    /// Encodes some columns of a row, and leaves what they decode to.
    fn encode_row(&self, steps: &ScalePair, at: RowPiece, bytes: &mut [u8], values: &mut [f32]) -> bool {
        let (factor, offset) = ((self.factor)(steps.scale), steps.offset);
        let kind = self.offsets.as_ref().map(|offsets| &offsets.kind);
        match kind {
            Some(OffsetKind::Bias(code)) => {
                let (scale, bias) = steps.by;
                for (value, col) in values.iter_mut().zip(at.cols.clone()) {
                    let old = if steps.is_old { code(at.row, col) } else { f32::NAN };
                    let is_same = old * factor + offset == *value;
                    let moved = if scale == 0.0 { 0.0 } else { (*value - bias) / scale };
                    *value = if is_same { old } else { moved };
                }
            }
            _ => self.divide(factor, values),
        }
        if let Some(OffsetKind::Zero { is_rounded_first }) = kind {
            if *is_rounded_first {
                values.iter_mut().for_each(|value| *value = nearest_whole(*value));
            }
            values.iter_mut().for_each(|value| *value += offset);
        }
        let finite = (self.narrow)(bytes, &at, values);
        match kind {
            None => values.iter_mut().for_each(|value| *value = *value * factor * self.then),
            Some(OffsetKind::Zero { .. }) => {
                values.iter_mut().for_each(|value| *value = (*value - offset) * factor)
            }
            Some(OffsetKind::Bias(_)) => {
                values.iter_mut().for_each(|value| *value = *value * factor + offset)
            }
        }
        finite
    }

    /// The numbers of a block, as they are stored; none if none take its values.
    fn steps<'v>(
        &self,
        rounded: &dyn Fn(f32) -> f32,
        (old, (dtype, is_fresh)): ((f32, f32), (Dtype, bool)),
        rows: impl Iterator<Item = &'v mut [f32]>,
    ) -> Option<ScalePair> {
        // Three passes, as compilers make vectors of these and not of one.
        let (mut most, mut least, mut finite) = (f32::NEG_INFINITY, f32::INFINITY, true);
        for row in rows {
            most = row.iter().fold(most, |most, value| most.max(*value));
            least = row.iter().fold(least, |least, value| least.min(*value));
            finite = row.iter().fold(finite, |finite, value| finite & value.is_finite());
        }
        if !finite {
            return None;
        }
        let stay = ScalePair { scale: old.0, offset: old.1, by: old, is_old: true };
        let takes = |numbers| {
            let [one, other] = [self.range.0, self.range.1].map(|end| self.value(end, numbers));
            one.min(other) <= least && most <= one.max(other)
        };
        // One that serves more than a tile holds stays as it is, or takes no such value; one of no values stays too.
        let may_stay = !is_fresh || self.fresh.is_none() || least > most;
        if may_stay && takes(old) {
            return Some(stay);
        }
        let largest = most.max(-least);
        let of = Outgrown { dtype, ends: (least, most), largest, old, number: self.number };
        let exact = self.fresh?(&of);
        let scale = rounded(exact);
        let (by, offset) = match &self.offsets {
            Some(offsets) => (offsets.fresh)(&of, if offsets.is_bias() { exact } else { scale }),
            None => (0.0, 0.0),
        };
        // Whatever the scale is, it makes zeros of zeros.
        if scale == 0.0 && largest == 0.0 && !self.may_vanish {
            return Some(stay);
        }
        let is_scale = scale.is_finite() && (scale != 0.0 || self.may_vanish);
        let is_scale = is_scale && (self.coded.is_none() || takes((scale, offset)));
        let new = ScalePair { scale, offset, by: (exact, by), is_old: false };
        (is_scale && offset.is_finite()).then_some(new)
    }

    /// What a number that stands for a code means.
    fn value(&self, code: f32, (scale, offset): (f32, f32)) -> f32 {
        let factor = (self.factor)(scale);
        match self.offsets.as_ref().map(|offsets| &offsets.kind) {
            None => code * factor * self.then,
            Some(OffsetKind::Zero { .. }) => (code - offset) * factor,
            Some(OffsetKind::Bias(_)) => code * factor + offset,
        }
    }

    /// Makes of values what is rounded to codes.
    fn divide(&self, factor: f32, values: &mut [f32]) {
        match self.inverse {
            _ if factor == 0.0 => values.fill(0.0),
            None => values.iter_mut().for_each(|value| *value /= factor),
            Some(number) => {
                let by = factor.recip() * number;
                values.iter_mut().for_each(|value| *value *= by);
            }
        }
    }
}

/// The scale of E4M3 for codes of E2M1: where it is too large by less than half a step of the largest code, the largest takes them.
pub(crate) fn e4m3_for_e2m1(scale: f32) -> f32 {
    let is_within = scale > E4M3_MOST && scale <= E4M3_MOST / 6.0 * 7.0;
    if is_within { E4M3_MOST } else { scale }
}

/// The least power of two that takes values up to `largest`, by the rule of transformers' quantizer.
pub(crate) fn power_above(largest: f32) -> f32 {
    let scale = 1.0 / ((1.0 / largest) * E4M3_MOST);
    ceil_log2(scale).map_or(f32::NAN, |exponent| power_of((exponent.clamp(-126, 127) + 127) as u8))
}

/// The power of two of microscaling formats: that of the largest magnitude, which is rounded at the bit `half` first, less
/// `exponent`, that of the largest code.
pub(crate) fn shared_exponent(largest: f32, half: u32, exponent: u32) -> f32 {
    power_of(((largest.to_bits() + half) >> 23).saturating_sub(exponent).min(255) as u8)
}
