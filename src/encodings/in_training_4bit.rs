//! Plain weights as bitsandbytes of 4 bits sees them: each block of 64 or so divided by its largest magnitude, and each quotient
//! put to the nearest of sixteen values; magnitudes may be quantized the same way.
//!
//! ```text
//! y = x · (1/m), of a short last block x/m          m the largest magnitude of the block, at least 1e-38
//! value = table[c] · m,   c = how many midpoints of the table are less than y
//!
//! where magnitudes are quantized too:
//!   offset = their mean over the weight;   d = m − offset, in blocks of 256 of 255 steps as above
//!   m′ = (map[c] · largest |d| of the block) + offset, in the place of m in `value`
//! ```
//!
//! All in f32 in that order, but for the mean: summed in f64, rounded once (bitsandbytes sums in f32 in an order of the device's,
//! which is an ulp off at times). Source: bitsandbytes 0.50, its operators for every device; on CPUs its compiled operator takes
//! now and then a code of a magnitude that is not the nearest. StretchBlocks are counted through the weight row by row, so that a tile has
//! as many rows as begin and end with one.

use std::sync::LazyLock;

use crate::encodings::bnb_4bit_tensors::NESTED_BLOCK;
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs};
use crate::encodings::in_training::{loaded_as, magnitude, rounded};
use crate::encodings::logical::Logical;
use crate::encodings::plain::{decode, runs};
use crate::kernels::dispatch::{Kernels, Precision};
use crate::kernels::fused::vector::{CpuProof, FormulaVector};
use crate::kernels::task::VectorTask;
use crate::tensor::dtype::Dtype;

/// Values of a table of 4 bits.
const CODES: usize = 16;

/// Weights as bitsandbytes of 4 bits sees them.
pub(crate) struct Blocks4Bit {
    name: &'static str,
    table: &'static LazyLock<Steps<CODES>>,
    is_double: bool,
}

pub(crate) static NF4: Blocks4Bit =
    Blocks4Bit { name: "nf4_in_training", table: &NF4_STEPS, is_double: false };
pub(crate) static FP4: Blocks4Bit =
    Blocks4Bit { name: "fp4_in_training", table: &FP4_STEPS, is_double: false };
pub(crate) static NF4_DOUBLE: Blocks4Bit =
    Blocks4Bit { name: "nf4_double_in_training", table: &NF4_STEPS, is_double: true };
pub(crate) static FP4_DOUBLE: Blocks4Bit =
    Blocks4Bit { name: "fp4_double_in_training", table: &FP4_STEPS, is_double: true };

/// The values of a table from the least on, and the midpoint behind each; behind the last there is none below infinity.
struct Steps<const N: usize> {
    values: [f32; N],
    midpoints: [f32; N],
}

impl<const N: usize> Steps<N> {
    fn of(mut values: [f32; N]) -> Steps<N> {
        values.sort_unstable_by(f32::total_cmp);
        let mut midpoints = [f32::INFINITY; N];
        for (midpoint, pair) in midpoints.iter_mut().zip(values.windows(2)) {
            *midpoint = (pair[0] + pair[1]) / 2.0;
        }
        Steps { values, midpoints }
    }

    /// The value nearest to a quotient, of two that are as near the lesser.
    fn nearest(&self, y: f32) -> f32 {
        self.values[self.midpoints.partition_point(|midpoint| *midpoint < y)]
    }
}

/// The quantiles of a normal distribution (QLoRA, arXiv:2305.14314, appendix E; digits as in bitsandbytes).
static NF4_STEPS: LazyLock<Steps<CODES>> = LazyLock::new(|| {
    Steps::of([
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ])
});

/// Floats of a sign, two bits of exponent and one more, divided by the largest. Both zeros are +0.
static FP4_STEPS: LazyLock<Steps<CODES>> = LazyLock::new(|| {
    let mut values = [0.0; CODES];
    for (i, value) in [0.0, 0.0625, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0_f32].into_iter().enumerate() {
        (values[i], values[CODES - 1 - i]) = (value / 12.0, 0.0 - value / 12.0);
    }
    Steps::of(values)
});

/// Decades of the table for magnitudes.
const DECADES: u32 = 7;

/// The table for magnitudes (`create_dynamic_map`): in each decade twice as many values as in the one below, the midpoints of a line
/// from 0.1 to 1.
static DYNAMIC_STEPS: LazyLock<Steps<256>> = LazyLock::new(|| {
    // Beside those of the decades there are 0 and 1.
    let (mut values, mut at) = ([0.0; 256], 2);
    values[1] = 1.0;
    for decade in 0..DECADES {
        let steps = 1_u32 << decade;
        let scale = 10_f64.powi(decade as i32 + 1 - DECADES as i32) as f32;
        for i in 0..steps {
            let mean = scale * ((line(i, steps) + line(i + 1, steps)) / 2.0);
            (values[at], values[at + 1]) = (mean, -mean);
            at += 2;
        }
    }
    Steps::of(values)
});

/// A place on the line from 0.1 to 1 in so many steps, as `torch.linspace` has it: from the nearer end.
fn line(i: u32, steps: u32) -> f32 {
    let step = (1.0 - 0.1_f32) / steps as f32;
    if i < steps.div_ceil(2) { step.mul_add(i as f32, 0.1) } else { (-step).mul_add((steps - i) as f32, 1.0) }
}

/// What a magnitude is at least, where something is divided by it.
const LEAST: f32 = 1e-38;

/// Numbers of the survey for each block of magnitudes: the least and the largest. Before them stands the sum of all.
const PER_NESTED: u64 = 2;

impl Encoding for Blocks4Bit {
    fn name(&self) -> &'static str {
        self.name
    }

    fn decode_shape(&self, logical: &Logical) -> (u64, u64) {
        let (block, row) = (logical.block().1, logical.shape().axes().last().copied().unwrap_or(1).max(1));
        if row.is_multiple_of(block) {
            return (1, block);
        }
        // StretchBlocks have a power of two for their size.
        (block >> row.trailing_zeros().min(block.trailing_zeros()), row)
    }

    fn survey_len(&self, logical: &Logical) -> usize {
        if !self.is_double {
            return 0;
        }
        let blocks = logical.shape().elements().div_ceil(logical.block().1);
        (1 + blocks.div_ceil(NESTED_BLOCK) * PER_NESTED) as usize
    }

    fn survey(&self, bytes: &[u8], place: Place<'_>, state: &mut [f64]) {
        let weight = StretchBlocks::of(place, bytes);
        let first = weight.start / weight.block;
        for (block, bytes) in (first..).zip(bytes.chunks(weight.block as usize * weight.size)) {
            let most = f64::from(rounded(magnitude(weight.dtype, bytes), weight.loaded_as));
            let nested = (1 + block / NESTED_BLOCK * PER_NESTED) as usize;
            let is_first = block.is_multiple_of(NESTED_BLOCK);
            state[0] += most;
            state[nested] = if is_first { most } else { state[nested].min(most) };
            state[nested + 1] = state[nested + 1].max(most);
        }
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, _: usize, place: Place<'_>) -> Runs {
        runs(place.logical.parts()[0].dtype.bitsize() as u64 / 8, place)
    }

    fn decode_row(
        &self,
        kernels: Kernels,
        parts: &[u8],
        place: Place<'_>,
        at: RowPiece,
        out: &mut [f32],
    ) -> bool {
        let weight = StretchBlocks::of(place, parts);
        let first = (place.rect.rows.start + at.row as u64) * place.view.cols
            + place.rect.cols.start
            + at.cols.start as u64;
        let nested = self.is_double.then(|| Magnitudes::of(&weight, place.surveyed));
        decode(kernels, weight.dtype, weight.bytes(first, out.len() as u64), out);
        if weight.loaded_as != weight.dtype {
            out.iter_mut().for_each(|value| *value = rounded(*value, weight.loaded_as));
        }
        let (mut done, mut finite) = (0, true);
        while done < out.len() {
            let block = (first + done as u64) / weight.block;
            let end = ((block + 1).saturating_mul(weight.block) - first).min(out.len() as u64) as usize;
            let most = weight.magnitude(block);
            finite &= most.is_finite();
            let decoded = nested.as_ref().map_or(most, |nested| nested.decoded(block, most));
            let divisor = Divisor::of(most, weight.is_short(block));
            // All values of a code are rounded as one.
            let decoded = self.table.values.map(|value| rounded(value * decoded, weight.loaded_as));
            let task = NearestTask {
                midpoints: &self.table.midpoints,
                decoded,
                divisor,
                values: &mut out[done..end],
            };
            task.run_on(kernels);
            done = end;
        }
        finite
    }
}

/// The values of a weight in a tile, by blocks.
struct StretchBlocks<'b> {
    bytes: &'b [u8],
    dtype: Dtype,
    loaded_as: Dtype,
    /// Bytes of a number.
    size: usize,
    block: u64,
    /// The tile's first value, counted through the weight.
    start: u64,
    /// Values of the weight.
    elements: u64,
}

impl<'b> StretchBlocks<'b> {
    fn of(place: Place<'_>, bytes: &'b [u8]) -> StretchBlocks<'b> {
        let Place { logical, view, rect, .. } = place;
        let dtype = logical.parts()[0].dtype;
        StretchBlocks {
            bytes,
            dtype,
            loaded_as: loaded_as(logical),
            size: dtype.bitsize() / 8,
            block: logical.block().1.max(1),
            start: rect.rows.start * view.cols + rect.cols.start,
            elements: logical.shape().elements(),
        }
    }

    /// Some values, counted through the weight.
    fn bytes(&self, first: u64, count: u64) -> &'b [u8] {
        let at = (first - self.start) as usize * self.size;
        &self.bytes[at..at + count as usize * self.size]
    }

    fn len(&self, block: u64) -> u64 {
        self.block.min(self.elements - block * self.block)
    }

    fn is_short(&self, block: u64) -> bool {
        self.len(block) < self.block
    }

    fn magnitude(&self, block: u64) -> f32 {
        rounded(magnitude(self.dtype, self.bytes(block * self.block, self.len(block))), self.loaded_as)
    }
}

/// What values are divided by: a short last block by its magnitude, others by multiplying with the reciprocal.
#[derive(Clone, Copy)]
struct Divisor {
    factor: f32,
    most: f32,
    is_short: bool,
}

impl Divisor {
    fn of(most: f32, is_short: bool) -> Divisor {
        let most = most.max(LEAST);
        Divisor { factor: 1.0 / most, most, is_short }
    }

    #[inline(always)]
    fn divided(self, value: f32) -> f32 {
        if self.is_short { value / self.most } else { value * self.factor }
    }
}

/// Values of a block, each of which becomes what the nearest value of the table is decoded to.
struct NearestTask<'t> {
    midpoints: &'t [f32; CODES],
    decoded: [f32; CODES],
    divisor: Divisor,
    values: &'t mut [f32],
}

/// Values that are looked at together: comparisons are made for all of them, midpoint by midpoint.
const TOGETHER: usize = 32;

impl NearestTask<'_> {
    fn run_on(self, kernels: Kernels) {
        if kernels.has_vectors() { f32::run(kernels, self) } else { self.put() }
    }

    #[inline(always)]
    fn put(self) {
        for values in self.values.chunks_mut(TOGETHER) {
            let (mut quotients, mut codes) = ([0.0_f32; TOGETHER], [0_u32; TOGETHER]);
            for (quotient, value) in quotients.iter_mut().zip(&*values) {
                *quotient = self.divisor.divided(*value);
            }
            for midpoint in self.midpoints {
                for (code, quotient) in codes.iter_mut().zip(&quotients) {
                    *code += u32::from(midpoint < quotient);
                }
            }
            for (value, code) in values.iter_mut().zip(codes) {
                *value = self.decoded[code as usize % CODES];
            }
        }
    }
}

impl VectorTask<f32> for NearestTask<'_> {
    #[inline(always)]
    fn run<V: FormulaVector<Value = f32>>(self, _: CpuProof<V>) {
        self.put();
    }
}

/// The magnitudes of a weight that are quantized too.
struct Magnitudes<'s> {
    /// Their mean.
    offset: f32,
    /// Those of a block: the least and the largest.
    extremes: &'s [f64],
    /// How many there are.
    count: u64,
}

impl<'s> Magnitudes<'s> {
    fn of(weight: &StretchBlocks<'_>, surveyed: &'s [f64]) -> Magnitudes<'s> {
        let count = weight.elements.div_ceil(weight.block);
        Magnitudes { offset: (surveyed[0] / count as f64) as f32, extremes: &surveyed[1..], count }
    }

    /// What becomes of the magnitude of a block.
    fn decoded(&self, block: u64, most: f32) -> f32 {
        let nested = block / NESTED_BLOCK;
        let [least, largest] = [0, 1].map(|end| self.extremes[(nested * PER_NESTED + end) as usize] as f32);
        let scale = (largest - self.offset).abs().max((least - self.offset).abs());
        let is_short = (nested + 1) * NESTED_BLOCK > self.count;
        let y = Divisor::of(scale, is_short).divided(most - self.offset);
        DYNAMIC_STEPS.nearest(y) * scale + self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_block_is_divided_and_others_are_multiplied() {
        let pairs = || (1..2000).map(|i| (i as f32 / 7.0, 300.0 + i as f32));
        assert!(pairs().any(|(value, most)| value / most != value * (1.0 / most)), "both are not the same");
        for (value, most) in pairs() {
            assert_eq!(Divisor::of(most, true).divided(value), value / most);
            assert_eq!(Divisor::of(most, false).divided(value), value * (1.0 / most));
        }
        assert_eq!(Divisor::of(0.0, false).divided(0.0), 0.0, "a block of zeros");
    }

    #[test]
    fn the_tables_are_symmetric_and_whole() {
        for (first, last) in
            [(NF4_STEPS.values[0], NF4_STEPS.values[15]), (FP4_STEPS.values[0], FP4_STEPS.values[15])]
        {
            assert_eq!((first, last), (-1.0, 1.0));
        }
        let map = &DYNAMIC_STEPS.values;
        assert_eq!((map[255], map[127]), (1.0, 0.0));
        assert!(map.is_sorted() && map.windows(2).all(|pair| pair[0] < pair[1]), "no value is there twice");
    }
}
