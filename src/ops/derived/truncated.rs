//! The factors of a sum of products, of no more than a rank: what is left of `Σ sᵢ·Bᵢ·Aᵢ` by its largest singular values.
//!
//! With `[s₁B₁ s₂B₂ …] = Q₁R₁` and `[A₁; A₂; …]ᵀ = Q₂R₂` the sum is `Q₁·(R₁R₂ᵀ)·Q₂ᵀ`, of which the core has no more rows than all
//! ranks together: its singular values are the sum's. The output factor is `Q₁·U·S`, the input factor `Vᵀ·Q₂ᵀ`, as PEFT splits them
//! (`lora/model.py`, `_svd_generalized_task_arithmetic_weighted_adapter`), where it takes the singular values of the whole sum in f32. Nothing is rounded
//! but by f64 before both are rounded to f32.
//!
//! The sources are all `A`, then all `B`, in the order of the terms, whole.

use serde::{Deserialize, Serialize};

use crate::linear::panel::{Panel, add_rows};
use crate::linear::qr::orthonormalize;
use crate::linear::svd::{SmallSvd, svd};
use crate::linear::symmetric::dot;
use crate::ops::derived::bad_source::BadSource;
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

/// Square panels of all ranks that are held at once.
const SMALL_PANELS: u64 = 8;

impl Truncated {
    /// All ranks together.
    fn ranks(&self) -> usize {
        self.terms.iter().map(|term| term.rank).sum()
    }

    /// All factors on one side, `[positions, ranks]`; the sources are given back.
    fn panel(&self, sources: &mut [Vec<f64>], side: usize) -> Panel {
        let ranks = self.ranks();
        let count: usize = sources.iter().map(Vec::len).sum();
        let mut panel = Panel::zeros(count / ranks.max(1), ranks);
        let mut first = 0;
        for (term, source) in self.terms.iter().zip(sources) {
            let (values, positions) = (std::mem::take(source), panel.rows());
            let scale = if side == 1 { f64::from(f32::from_bits(term.scale)) } else { 1.0 };
            for position in 0..positions {
                for k in 0..term.rank {
                    let at = if term.by_position[side] {
                        position * term.rank + k
                    } else {
                        k * positions + position
                    };
                    panel.set(position, first + k, values[at] * scale);
                }
            }
            first += term.rank;
        }
        panel
    }
}

/// The factors on one side as orthonormal columns and what gives them back.
struct Side {
    /// None where there are more ranks than positions: the unit matrix then.
    columns: Option<Panel>,
    rest: Panel,
}

impl Side {
    fn of(mut panel: Panel) -> Side {
        if panel.rows() < panel.cols() {
            return Side { columns: None, rest: panel };
        }
        let rest = orthonormalize(&mut panel);
        Side { columns: Some(panel), rest }
    }

    /// The columns times the first rows and columns of a small matrix, whose columns are those of another one times a value each.
    fn times(&self, small: &Panel, values: &[f64], rank: usize) -> Vec<f64> {
        let height = self.rest.rows();
        let mut scaled = Panel::zeros(height, rank);
        for row in 0..height {
            let of_rank = scaled.row_mut(row).iter_mut().zip(small.row(row)).zip(values);
            of_rank.for_each(|((to, value), by)| *to = value * by);
        }
        let Some(columns) = &self.columns else { return scaled.into_values() };
        let mut made = Panel::zeros(columns.rows(), rank);
        for row in 0..columns.rows() {
            add_rows(made.row_mut(row), columns.row(row), scaled.all());
        }
        made.into_values()
    }
}

/// `one·otherᵀ`, with zeros around it that make it square.
fn core(one: &Panel, other: &Panel) -> Panel {
    let size = one.rows().max(other.rows());
    let mut square = Panel::zeros(size, size);
    for i in 0..one.rows() {
        for j in 0..other.rows() {
            square.set(i, j, dot(one.row(i), other.row(j)));
        }
    }
    square
}

impl Recipe for Truncated {
    fn whole(&self) -> usize {
        2 * self.terms.len()
    }

    /// All sources again, and the core and its decomposition.
    fn beside_whole(&self, bytes: u64) -> u64 {
        let ranks = self.ranks() as u64;
        bytes.saturating_add(Panel::bytes(ranks, ranks).saturating_mul(SMALL_PANELS))
    }

    fn prepare(&self, whole: &mut [Vec<f64>]) {
        let (of_a, of_b) = whole.split_at_mut(self.terms.len());
        let [a, b] = [(of_a, 0), (of_b, 1)].map(|(sources, side)| Side::of(self.panel(sources, side)));
        let SmallSvd { left, values, right } = svd(&core(&b.rest, &a.rest));
        whole[0] = if self.is_output {
            b.times(&left, &values, self.rank)
        } else {
            a.times(&right, &vec![1.0; values.len()], self.rank)
        };
    }

    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let made = &sources.whole[0];
        // By positions, which the input factor's rows run along.
        let (start, step) = if self.is_output { (row * self.rank, 1) } else { (row, self.rank) };
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
        let mut square = Panel::zeros(out, out);
        (0..out * input).for_each(|at| square.set(at / input, at % input, exact[at]));
        let singular = svd(&square).values;
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
