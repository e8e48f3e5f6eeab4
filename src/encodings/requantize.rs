//! Codes with scales, encoded again: with the scale that a block had, so that a value that was decoded comes out as it went in.
//!
//! Only a block of which a value would not fit gets a new scale, by the rule of its scheme's library; where a scale serves
//! more than a tile holds, such a value is an error. Codes and scales are two outputs, each made from the values on its own:
//! both find the same new scale, as it is stored, whichever shard comes first (quantized-bases.md 5 and 15.3).

use crate::kernels::float8::ceil_log2;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;

use crate::encodings::codes::E4M3_MOST;
use crate::encodings::encoding::{RowPiece, ToEncode};
use crate::encodings::number::power_of;
use crate::encodings::scale_grid::ScaleGrid;

const CODES: usize = 0;
const SCALES: usize = 1;

/// What a new scale is made for.
pub(crate) struct Outgrown {
    /// The type that it is stored as.
    pub dtype: Dtype,
    /// The largest magnitude.
    pub largest: f32,
    /// The scale that the block has.
    pub old: f32,
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
    /// Where values are multiplied by the reciprocal of that, as torch divides a number by a tensor: the number.
    pub inverse: Option<f32>,
    /// What the product is multiplied by.
    pub then: f32,
    /// The number of the tensor.
    pub number: f32,
    /// The rule for new scales; none where they stay as they are.
    pub fresh: Option<FreshScale>,
}

impl Requantizer<'_> {
    /// Encodes a block of values into one part's bytes. It is not finite where a value does not fit or is no number; values stay
    /// as they are there.
    pub(crate) fn encode(&self, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let (place, width) = (block.place, block.cols.len());
        let grid = ScaleGrid::of(SCALES, place);
        let stored = &block.source[self.codes as usize..];
        let mut narrowed = Narrowed { finite: true, changed: 0 };
        for (rows, cols, scale_col) in grid.cells(&block.rows, &block.cols, place) {
            let row = place.rect.rows.start + rows.start as u64;
            let first = (rows.start - block.rows.start) * width + cols.start - block.cols.start;
            let mut values = block.values[first..].chunks_mut(width).map(|row| &mut row[..cols.len()]);
            let old = grid.read(stored, row, scale_col);
            let scale = self.scale(&grid, (old, block.fresh), values.by_ref().take(rows.len()));
            narrowed.finite &= scale.is_some();
            let Some(scale) = scale else { continue };
            if block.part != CODES {
                grid.write(bytes, row, scale_col, scale);
                continue;
            }
            let factor = (self.factor)(scale);
            for (row, values) in rows.zip(block.values[first..].chunks_mut(width)) {
                let values = &mut values[..cols.len()];
                self.divide(factor, values);
                let at = RowPiece { row, cols: cols.clone() };
                narrowed.finite &= (self.narrow)(bytes, &at, values);
                values.iter_mut().for_each(|value| *value = *value * factor * self.then);
            }
        }
        narrowed
    }

    /// The scale of a block, as it is stored; none if none takes its values.
    fn scale<'v>(
        &self,
        grid: &ScaleGrid,
        (old, is_fresh): (f32, bool),
        rows: impl Iterator<Item = &'v mut [f32]>,
    ) -> Option<f32> {
        // Three passes, as compilers make vectors of these and not of one.
        let (mut most, mut below, mut finite) = (0.0f32, 0.0f32, true);
        for row in rows {
            most = row.iter().fold(most, |most, value| most.max(*value));
            below = row.iter().fold(below, |below, value| below.max(-*value));
            finite = row.iter().fold(finite, |finite, value| finite & value.is_finite());
        }
        let [one, other] = [self.range.0, self.range.1].map(|end| end * (self.factor)(old) * self.then);
        if !finite {
            return None;
        }
        // One that serves more than a tile holds stays as it is, or takes no such value.
        let may_stay = !is_fresh || self.fresh.is_none();
        if may_stay && one.min(other) <= -below && most <= one.max(other) {
            return Some(old);
        }
        let of = Outgrown { dtype: grid.dtype(), largest: most.max(below), old, number: self.number };
        let scale = grid.rounded(self.fresh?(&of));
        (scale > 0.0 && scale.is_finite()).then_some(scale)
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
