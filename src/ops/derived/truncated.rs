//! The factors of a sum of products, of no more than a rank: what is left of `Σ sᵢ·Bᵢ·Aᵢ` by its largest singular values.
//!
//! With `[s₁B₁ s₂B₂ …] = Q₁R₁` and `[A₁; A₂; …]ᵀ = Q₂R₂` the sum is `Q₁·(R₁R₂ᵀ)·Q₂ᵀ`, of which the core has no more rows than all
//! ranks together: its singular values are the sum's. The output factor is `Q₁·U·S`, the input factor `Vᵀ·Q₂ᵀ`, as PEFT splits them
//! (`lora/model.py`, `_svd_generalized_task_arithmetic_weighted_adapter`), where it takes the singular values of the whole sum in f32. Nothing is rounded
//! but by f64 before both are rounded to f32.
//!
//! The sources are all `A`, then all `B`, in the order of the terms, whole.

use serde::{Deserialize, Serialize};

use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::triangle::{Triangle, turned};
use crate::ops::derived::{DerivedFrom, Recipe};

/// A factor of a sum of products that is cut to a rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Truncated {
    /// The products.
    pub terms: Vec<ScaledProduct>,
    /// What is left.
    pub rank: usize,
    /// Whether it is the output factor.
    pub is_output: bool,
}

/// One product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScaledProduct {
    /// The bits of what it is multiplied by, an f32.
    pub scale: u32,
    /// Its rank.
    pub rank: usize,
    /// Of `A` and `B`, whether values of one position lie together.
    pub by_position: [bool; 2],
}

impl Truncated {
    /// The columns of all factors on one side, one behind the other; the sources are given back.
    fn columns(&self, sources: &mut [Vec<f64>], side: usize) -> Vec<f64> {
        let mut columns = Vec::with_capacity(sources.iter().map(Vec::len).sum());
        for (term, source) in self.terms.iter().zip(sources) {
            let values = std::mem::take(source);
            let scale = if side == 1 { f64::from(f32::from_bits(term.scale)) } else { 1.0 };
            if term.by_position[side] {
                (0..term.rank).for_each(|k| {
                    columns.extend(values.iter().skip(k).step_by(term.rank).map(|value| value * scale));
                });
            } else {
                columns.extend(values.iter().map(|value| value * scale));
            }
        }
        columns
    }
}

impl Recipe for Truncated {
    fn whole(&self) -> usize {
        2 * self.terms.len()
    }

    fn beside_whole(&self, bytes: u64) -> u64 {
        bytes
    }

    fn prepare(&self, whole: &mut [Vec<f64>]) {
        let ranks = self.terms.iter().map(|term| term.rank).sum::<usize>().max(1);
        let (of_a, of_b) = whole.split_at_mut(self.terms.len());
        let triangle = |columns: Vec<f64>| {
            let rows = columns.len() / ranks;
            Triangle::of(columns, rows.max(1))
        };
        let (a, b) = (triangle(self.columns(of_a, 0)), triangle(self.columns(of_b, 1)));
        let mut core = b.times_transposed(&a);
        let right = turned(&mut core, b.height().max(1));
        let length = |column: &[f64]| column.iter().map(|value| value * value).sum::<f64>();
        let lengths: Vec<f64> = core.chunks_exact(b.height().max(1)).map(length).collect();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_unstable_by(|&i, &j| lengths[j].total_cmp(&lengths[i]).then(i.cmp(&j)));
        let (side, small) = if self.is_output { (b, core) } else { (a, right) };
        let (rows, height) = (side.rows(), side.height());
        let mut made = vec![0.0; rows * self.rank];
        for (column, &i) in made.chunks_exact_mut(rows.max(1)).zip(&order) {
            column[..height].copy_from_slice(&small[i * height..][..height]);
            side.turn(column);
        }
        whole[0] = made;
    }

    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let made = &sources.whole[0];
        let (start, step) =
            if self.is_output { (row, made.len() / self.rank) } else { (row * values.len(), 1) };
        for (to, value) in values.iter_mut().zip(made[start..].iter().step_by(step)) {
            *to = *value as f32;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that look like any.
    fn values(count: usize, seed: u32) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 23) - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// What both factors of a sum come to, `[out, in]`.
    fn product(
        terms: &[ScaledProduct],
        sources: &[Vec<f64>],
        rank: usize,
        [out, input]: [usize; 2],
    ) -> Vec<f64> {
        let side = |is_output: bool, [rows, width]: [usize; 2]| {
            let recipe = Truncated { terms: terms.to_vec(), rank, is_output };
            let mut whole = sources.to_vec();
            recipe.prepare(&mut whole);
            let mut made = vec![0f32; rows * width];
            for (row, values) in made.chunks_exact_mut(width).enumerate() {
                recipe.make(row, &DerivedFrom { whole: &whole, rows: &[] }, values).expect("all can be");
            }
            made
        };
        let (a, b) = (side(false, [rank, input]), side(true, [out, rank]));
        let at = |i: usize, j: usize| {
            (0..rank).map(|k| f64::from(b[i * rank + k]) * f64::from(a[k * input + j])).sum()
        };
        (0..out * input).map(|at_both| at(at_both / input, at_both % input)).collect()
    }

    #[test]
    fn with_all_ranks_the_sum_is_left_and_with_fewer_the_least_is_lost() {
        let (out, input) = (7, 5);
        let terms = [
            ScaledProduct { scale: 0.5f32.to_bits(), rank: 2, by_position: [false, true] },
            ScaledProduct { scale: (-2f32).to_bits(), rank: 1, by_position: [true, false] },
        ];
        let sources = [values(2 * input, 1), values(input, 2), values(2 * out, 3), values(out, 4)];
        let exact: Vec<f64> = (0..out * input)
            .map(|at| {
                let (i, j) = (at / input, at % input);
                let first: f64 = (0..2).map(|k| sources[2][i * 2 + k] * sources[0][k * input + j]).sum();
                0.5 * first - 2.0 * sources[3][i] * sources[1][j]
            })
            .collect();
        let lost = |rank| {
            let found = product(&terms, &sources, rank, [out, input]);
            found
                .iter()
                .zip(&exact)
                .map(|(found, exact)| (found - exact) * (found - exact))
                .sum::<f64>()
                .sqrt()
        };
        assert!(lost(3) < 1e-6, "{}", lost(3));
        let mut columns: Vec<f64> =
            (0..input).flat_map(|j| exact.iter().skip(j).step_by(input).copied()).collect();
        turned(&mut columns, out);
        let length = |column: &[f64]| column.iter().map(|value| value * value).sum::<f64>().sqrt();
        let mut singular: Vec<f64> = columns.chunks_exact(out).map(length).collect();
        singular.sort_unstable_by(|a, b| b.total_cmp(a));
        assert!((lost(2) - singular[2]).abs() < 1e-6, "{} {singular:?}", lost(2));
        let rest = singular[1].hypot(singular[2]);
        assert!((lost(1) - rest).abs() < 1e-6, "{} {singular:?}", lost(1));
    }

    #[test]
    fn more_ranks_than_rows_and_terms_of_zeros_are_fine() {
        let (out, input) = (2, 3);
        let terms = [ScaledProduct { scale: 1f32.to_bits(), rank: 4, by_position: [false, true] }; 2];
        let sources = [values(4 * input, 5), vec![0.0; 4 * input], values(4 * out, 6), vec![0.0; 4 * out]];
        let found = product(&terms, &sources, 2, [out, input]);
        for (at, found) in found.iter().enumerate() {
            let (i, j) = (at / input, at % input);
            let exact: f64 = (0..4).map(|k| sources[2][i * 4 + k] * sources[0][k * input + j]).sum();
            assert!((found - exact).abs() < 1e-6, "{found} {exact}");
        }
    }
}
