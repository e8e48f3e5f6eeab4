//! Reflections of rows: `W·H₀·H₁…` of `Hᵢ = I − 2·ûᵢ·ûᵢᵀ`, or `W·(I − 2·Q·Qᵀ)` of vectors that are brought to right angles first.
//!
//! Source: Yuan et al. 2024 (arXiv:2405.17484, HRA). The factor `[width, rank]` has a vector in each column. There is no scale; reflections work on
//! what deltas before them left.
//!
//! Rounding: unit vectors in f64 (Gram-Schmidt in the order of columns), rounded to f32 once when the factor is read; all else in f64, products with a vector
//! in eight lanes, and a row rounded to f32 once at the end.

use serde::{Deserialize, Serialize};

use crate::ops::access::Access;
use crate::ops::block::Block;
use crate::ops::factor::Factor;
use crate::ops::whole_rows::{BUFFERS, change_rows, dot, squares};
use crate::ops::{Delta, Preparation};

/// Reflections of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reflect {
    /// Elements of a row.
    pub width: usize,
    /// Vectors.
    pub rank: usize,
    /// Whether they are brought to right angles.
    pub is_orthonormal: bool,
}

impl Reflect {
    /// Values of the factor in memory: the unit vectors one behind another, and as many to make them of.
    pub(crate) fn prepared_len(&self) -> u64 {
        2 * (self.width * self.rank) as u64
    }
}

/// Takes a multiple of a vector off a row.
fn subtract(row: &mut [f64], by: f64, vector: &[f32]) {
    row.iter_mut().zip(vector).for_each(|(value, part)| *value -= by * f64::from(*part));
}

impl Delta for Reflect {
    fn apply(&self, block: &mut Block<'_>) {
        assert_eq!(block.window.cols.len(), self.width, "the op asked for whole rows");
        let vectors = &block.factors[0].data[..self.width * self.rank];
        change_rows(block, &mut |_, row, spare| {
            for (vector, twice) in vectors.chunks_exact(self.width).zip(&mut *spare) {
                *twice = 2.0 * dot(row, vector);
                if !self.is_orthonormal {
                    subtract(row, *twice, vector);
                }
            }
            if self.is_orthonormal {
                let all = vectors.chunks_exact(self.width).zip(&*spare);
                all.for_each(|(vector, twice)| subtract(row, *twice, vector));
            }
        });
    }

    fn access(&self) -> Access {
        Access::Rows
    }

    fn scratch_buffers(&self) -> usize {
        BUFFERS
    }

    fn rank(&self, _: &[Factor]) -> Option<u64> {
        Some(self.rank as u64)
    }

    fn preparation(&self) -> Option<&dyn Preparation> {
        Some(self)
    }
}

impl Preparation for Reflect {
    fn prepare(&self, values: &mut [f32]) {
        let (units, stored) = values.split_at_mut(self.width * self.rank);
        stored[..units.len()].copy_from_slice(units);
        let mut vector = vec![0.0; self.width];
        for i in 0..self.rank {
            let column = stored[i..].iter().step_by(self.rank);
            vector.iter_mut().zip(column).for_each(|(value, stored)| *value = f64::from(*stored));
            let (before, unit) = units.split_at_mut(i * self.width);
            if self.is_orthonormal {
                for earlier in before.chunks_exact(self.width) {
                    let along = dot(&vector, earlier);
                    subtract(&mut vector, along, earlier);
                }
            }
            let length = squares(&vector).sqrt();
            unit.iter_mut().zip(&vector).for_each(|(unit, value)| *unit = (value / length) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_become_units_that_stand_at_right_angles() {
        let (width, rank) = (11, 4);
        let packed: Vec<f32> = (0..width * rank).map(|i| ((i * 37 % 19) as f32 - 9.0) / 7.0).collect();
        for is_orthonormal in [false, true] {
            let reflect = Reflect { width, rank, is_orthonormal };
            let mut values = vec![f32::NAN; reflect.prepared_len() as usize];
            values[..packed.len()].copy_from_slice(&packed);
            reflect.prepare(&mut values);
            let units: Vec<Vec<f64>> = values[..width * rank]
                .chunks(width)
                .map(|unit| unit.iter().map(|value| f64::from(*value)).collect())
                .collect();
            for i in 0..rank {
                for j in 0..=i {
                    let product: f64 = units[i].iter().zip(&units[j]).map(|(a, b)| a * b).sum();
                    let is_known = i == j || is_orthonormal;
                    assert!(
                        !is_known || (product - f64::from(u8::from(i == j))).abs() < 1e-6,
                        "{i} {j} {product}"
                    );
                }
            }
            // The first is the first column, and no other vector changes it.
            let length = (0..width).map(|k| f64::from(packed[k * rank]).powi(2)).sum::<f64>().sqrt();
            assert!((0..width).all(|k| (units[0][k] - f64::from(packed[k * rank]) / length).abs() < 1e-7));
        }
    }
}
