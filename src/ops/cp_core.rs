//! The core of a convolution's low-rank form (as in PEFT's `lycoris_utils.py`).
//!
//! It is that of proposition 3 of Hyeon-Woo et al. 2021 (arXiv:2108.06098), used with `use_effective_conv2d`:
//! `F[p, q, x] = Σ_j (Σ_i t[i, j, x]·a[i, p])·b[j, q]`, where `x` is a place in the kernel. Both sums run in f32 in
//! increasing order, so that they depend on no cut.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ops::block::Block;

/// A core and the factor of the inputs.
#[derive(Clone, Copy)]
pub(crate) struct Core<'c> {
    /// `t [rank, rank, kernel]`.
    pub(crate) t: &'c [f32],
    /// `b [rank, inputs]`.
    pub(crate) b: &'c [f32],
    /// Its rank and kernel.
    pub(crate) sizes: CoreSizes,
}

/// The sizes of a core `[rank, rank, kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreSizes {
    /// Its rank.
    pub rank: usize,
    /// Places of the kernel.
    pub kernel: usize,
}

impl Core<'_> {
    /// What a row is made of: `Σ_i t[i, j, x]·a[i]` for all `j` and `x`.
    pub(crate) fn partial(&self, a: impl Fn(usize) -> f32, partial: &mut Vec<f32>) {
        let size = self.sizes.rank * self.sizes.kernel;
        partial.clear();
        partial.resize(size, 0.0);
        for (i, t) in self.t.chunks_exact(size).enumerate() {
            let a = a(i);
            partial.iter_mut().zip(t).for_each(|(sum, t)| *sum += t * a);
        }
    }

    /// The row's values at `columns`, where column `q·kernel + x` is place `x` of input `q`.
    pub(crate) fn row<'v>(
        &'v self,
        partial: &'v [f32],
        columns: Range<u64>,
    ) -> impl Iterator<Item = f32> + 'v {
        let inputs = self.b.len() / self.sizes.rank;
        columns.map(move |column| {
            let (q, x) = (column as usize / self.sizes.kernel, column as usize % self.sizes.kernel);
            let term = |j: usize| partial[j * self.sizes.kernel + x] * self.b[j * inputs + q];
            (0..self.sizes.rank).fold(0.0, |sum, j| sum + term(j))
        })
    }
}

/// Writes what a core and its two factors make into a scratch buffer: factors `3·buffer` on are `a`, which runs along outputs, `b` and `t`.
pub(crate) fn rebuild(block: &mut Block<'_>, buffer: usize, sizes: CoreSizes) {
    let [a, b, t] = [0, 1, 2].map(|i| block.factors[3 * buffer + i]);
    let core = Core { t: t.data, b: b.data, sizes };
    let [(outs, out_step), (ins, in_step)] = block.axes();
    let elements = block.elements();
    let product = &mut block.scratch[buffer * elements..][..elements];
    let mut partial = Vec::new();
    for (p, out) in outs.enumerate() {
        core.partial(|i| a.at(out, i), &mut partial);
        for (q, value) in core.row(&partial, ins.clone()).enumerate() {
            product[p * out_step + q * in_step] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_summed_by_its_definition() {
        let (rank, outputs, inputs, kernel) = (2, 3, 4, 3);
        let value = |i: usize| ((i * 7 + 3) % 11) as f32 - 5.0; // sums of these are exact
        let t: Vec<f32> = (0..rank * rank * kernel).map(value).collect();
        let a: Vec<f32> = (0..rank * outputs).map(|i| value(i + 5)).collect();
        let b: Vec<f32> = (0..rank * inputs).map(|i| value(i + 2)).collect();
        let core = Core { t: &t, b: &b, sizes: CoreSizes { rank, kernel } };
        let mut partial = Vec::new();
        for p in 0..outputs {
            core.partial(|i| a[i * outputs + p], &mut partial);
            for from in 0..inputs * kernel {
                let row: Vec<f32> = core.row(&partial, from as u64..(inputs * kernel) as u64).collect();
                for (column, found) in (from..).zip(row) {
                    let (q, x) = (column / kernel, column % kernel);
                    let terms = (0..rank).flat_map(|i| (0..rank).map(move |j| (i, j)));
                    let term = |(i, j): (usize, usize)| {
                        t[(i * rank + j) * kernel + x] * a[i * outputs + p] * b[j * inputs + q]
                    };
                    assert_eq!(found, terms.map(term).sum::<f32>(), "[{p}, {q}, {x}]");
                }
            }
        }
    }
}
