//! Plain weights as LLM.int8 sees them: each row divided by its largest magnitude, in 255 steps.
//!
//! `code = round(x · ((1/m) · 127))` to even, with x the number rounded to f16 and m the largest magnitude of its row;
//! `value = (code · m) · (1/127)` in f32 (bitsandbytes 0.50, `int8_vectorwise_quant`; quantized-bases.md 8.5). Columns that are
//! outliers of an input are multiplied in 16 bit at run time, which no weight shows.

use crate::encodings::bnb_int8::STEP;
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs};
use crate::encodings::in_training::{magnitude, rounded};
use crate::encodings::logical::Logical;
use crate::encodings::plain::{decode, piece, runs, size};
use crate::kernels::dispatch::{Kernels, Precision};
use crate::kernels::fused::vector::{CpuProof, FormulaVector};
use crate::kernels::task::VectorTask;
use crate::tensor::dtype::Dtype;

/// Weights as LLM.int8 sees them.
pub(crate) struct Int8InTraining;

/// What bitsandbytes rounds weights to before it quantizes them.
const CAST: Dtype = Dtype::F16;
/// The largest code.
const MOST: f32 = 127.0;

impl Encoding for Int8InTraining {
    fn name(&self) -> &'static str {
        "int8_in_training"
    }

    fn decode_shape(&self, logical: &Logical) -> (u64, u64) {
        (1, logical.block().1.max(1))
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, _: usize, place: Place<'_>) -> Runs {
        runs(size(place) as u64, place)
    }

    fn decode_row(
        &self,
        kernels: Kernels,
        parts: &[u8],
        place: Place<'_>,
        at: RowPiece,
        out: &mut [f32],
    ) -> bool {
        let dtype = place.logical.parts()[0].dtype;
        let size = size(place);
        let whole = RowPiece { row: at.row, cols: 0..place.rect.width() as usize };
        let most = rounded(magnitude(dtype, &parts[piece(size, place, &whole)]), CAST);
        decode(kernels, dtype, &parts[piece(size, place, &at)], out);
        if dtype != CAST {
            cast(kernels, out);
        }
        if most == 0.0 {
            out.fill(0.0);
            return true;
        }
        let task = StepsTask { most, values: out };
        if kernels.has_vectors() {
            f32::run(kernels, task)
        } else {
            task.put()
        }
        most.is_finite()
    }
}

/// Rounds values to f16.
fn cast(kernels: Kernels, values: &mut [f32]) {
    let mut codes = [0; 512];
    for values in values.chunks_mut(codes.len() / 2) {
        let codes = &mut codes[..2 * values.len()];
        kernels.narrow_f16(values, codes);
        kernels.widen_f16(codes, values);
    }
}

/// Values of a row, each of which becomes the nearest of 255 steps.
struct StepsTask<'t> {
    most: f32,
    values: &'t mut [f32],
}

impl StepsTask<'_> {
    #[inline(always)]
    fn put(self) {
        // As torch divides a number by a tensor.
        let scale = self.most.recip() * MOST;
        for value in self.values {
            // A code is a whole number, which has no negative zero.
            let code = (*value * scale).round_ties_even() + 0.0;
            *value = code * self.most * STEP;
        }
    }
}

impl VectorTask<f32> for StepsTask<'_> {
    #[inline(always)]
    fn run<V: FormulaVector<Value = f32>>(self, _: CpuProof<V>) {
        self.put();
    }
}
