//! DoRA: `W' = (m / ‖V‖)·V` with `V = W + s·(B·A)`, where `m` has one value for every output and the norm of an output runs
//! over all its inputs.
//!
//! Source: Liu et al. 2024 (arXiv:2402.09353), equation 5. PEFT: `lora/dora.py` and `DoraLinearVariant`,
//! `DoraEmbeddingVariant`, `_DoraConvNdVariant` in `lora/variants.py`. Since PEFT 0.21 the norm is taken from the original
//! weight, whatever other adapters did before (`W' = (m/‖W + Δ‖)·(running + Δ)`); a fold sees just that. On layers stored
//! as `[in, out]` and on embeddings an output is a stored column, so that its norm needs a pass of its own.
//!
//! Rounding: `V` in f32, its square exact in f64, the sum of squares in f64 in the order of inputs (along stored rows in
//! eight lanes by column, added pairwise), `m / √sum` in f64 rounded to f32 once, the product in f32.

use crate::adapters::claim::context::Claiming;
use crate::adapters::peft::keys::Tail;
use crate::adapters::scan::TensorContents;
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::ops::op::{Factor, Need};
use crate::ops::placement::Window;

use crate::adapters::claim::lora::Pair;
use crate::adapters::claim::{Method, Seen, lora};
use crate::ops::block::{Block, Folded};

/// A low-rank delta, and a new length for every output.
pub(crate) struct Dora;

const MAGNITUDE: Tail = Tail { role: ".lora_magnitude_vector", ending: "" };
/// Files of older versions, and raw dumps.
const MAGNITUDE_WEIGHT: Tail = Tail { role: ".lora_magnitude_vector", ending: ".weight" };
/// Lanes of a sum along stored rows.
const LANES: usize = 8;

impl Method for Dora {
    fn name(&self) -> &'static str {
        "dora"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        if !claiming.adapter.options.dora {
            return;
        }
        let mut magnitudes = claiming.take(MAGNITUDE);
        magnitudes.extend(claiming.take(MAGNITUDE_WEIGHT));
        for pair in lora::take_pairs(claiming) {
            match magnitudes.remove(&pair.module) {
                Some(magnitude) => {
                    if let Err(error) = claim_module(claiming, &pair, magnitude) {
                        claiming.refuse(error);
                    }
                }
                None => claiming.lacks_partner(pair.b, &MAGNITUDE.key(&pair.module)),
            }
        }
        for (module, magnitude) in magnitudes {
            claiming.lacks_partner(magnitude, &lora::B.key(&module));
        }
    }

    /// A magnitude of its own acts without a delta.
    fn idle(&self, _: f32, _: &[TensorContents]) -> Option<&'static str> {
        None
    }

    fn observe(&self, block: &mut Block<'_>) {
        block.product_of(0, 1);
        block.add_scaled();
    }

    fn fold(&self, seen: &Seen<'_>, state: &mut [f64]) {
        let Window { rows, cols } = seen.window;
        for p in 0..rows.len() {
            let start = (rows.at + p as u64 * rows.step) as usize * seen.width + cols.at as usize;
            if rows.axis == Some(seen.axis) {
                let lanes = ((rows.range.start - seen.first) as usize + p) * seen.per;
                let state = &mut state[lanes..lanes + seen.per];
                if cols.step == 1 && seen.per == LANES {
                    add_squares(
                        seen.kernels,
                        &seen.values[start..start + cols.len()],
                        cols.range.start,
                        state,
                    );
                } else {
                    for q in 0..cols.len() {
                        let lane = (cols.range.start as usize + q) % seen.per;
                        state[lane] += square(seen.values[start + q * cols.step as usize]);
                    }
                }
            } else {
                let first = (cols.range.start - seen.first) as usize;
                if cols.step == 1 && seen.per == 1 {
                    let values = &seen.values[start..start + cols.len()];
                    seen.kernels.add_squares_each(values, &mut state[first..first + cols.len()]);
                    continue;
                }
                // A weight that is turned round on disk: the claim asked for lanes along rows, and the first of them does.
                let sums = state[first * seen.per..].iter_mut().step_by(seen.per).take(cols.len());
                for (q, sum) in sums.enumerate() {
                    *sum += square(seen.values[start + q * cols.step as usize]);
                }
            }
        }
    }

    fn apply(&self, block: &mut Block<'_>) {
        block.product_of(0, 1);
        let (folded, magnitude, scale) = (block.folded, block.factors[2], block.scale);
        let Window { rows, cols } = block.window;
        let factor = |position: u64| (f64::from(magnitude.at(position, 0)) / norm(folded, position)) as f32;
        if magnitude.axis == rows.axis {
            let factors: Vec<f32> = rows.range.clone().map(factor).collect();
            block.change(|p, _, value, delta| (value + delta * scale) * factors[p]);
        } else {
            let factors: Vec<f32> = cols.range.clone().map(factor).collect();
            block.change(|_, q, value, delta| (value + delta * scale) * factors[q]);
        }
    }
}

/// Notes that a pair which no magnitude can belong to needs one, if the config sets DoRA: PEFT has none on parameters.
pub(crate) fn lacks_magnitude(claiming: &mut Claiming<'_>, pair: &Pair) -> bool {
    let is_set = claiming.adapter.options.dora;
    if is_set {
        claiming.lacks_partner(pair.b, &MAGNITUDE.key(&pair.module));
    }
    is_set
}

fn square(value: f32) -> f64 {
    f64::from(value) * f64::from(value)
}

/// Adds squares to the lanes of a row, the first of them at column `column`.
fn add_squares(kernels: Kernels, values: &[f32], column: u64, lanes: &mut [f64]) {
    let into_lane = (column as usize) % LANES;
    let (head, rest) = values.split_at(((LANES - into_lane) % LANES).min(values.len()));
    for (lane, value) in lanes[into_lane..].iter_mut().zip(head) {
        *lane += square(*value);
    }
    kernels.add_squares(rest, lanes.try_into().expect("the claim asked for so many"));
}

/// The norm of a position, from its lanes.
fn norm(folded: Folded<'_>, position: u64) -> f64 {
    match folded.at(position) {
        &[sum] => sum.sqrt(),
        &[a, b, c, d, e, f, g, h] => (((a + e) + (c + g)) + ((b + f) + (d + h))).sqrt(),
        other => unreachable!("{} lanes", other.len()),
    }
}

fn claim_module(claiming: &mut Claiming<'_>, pair: &Pair, magnitude: usize) -> Result<()> {
    let Some(mut found) = lora::resolve(claiming, pair)? else { return Ok(()) };
    let tensor = claiming.tensor(magnitude).clone();
    if tensor.tensor.shape.elements() != found.out {
        let expected = format!("{} values, one for every output", found.out);
        return Err(claiming.factor_shape(magnitude, expected));
    }
    // An output is a stored row, or a stored column.
    let values = if found.is_transposed { 1 } else { LANES };
    found.change.method = "dora";
    found.change.need = Need::Fold { axis: 0, values };
    found.change.factors.push(Factor::along(0, tensor.tensor, 1, 1, 1));
    found.keys.push(tensor.key);
    found.claim(claiming);
    Ok(())
}
