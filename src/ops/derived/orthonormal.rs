//! Columns of unit length that are at right angles to each other: the `Q` of a matrix by Householder's reflections, with the signs that LAPACK gives it.
//!
//! The source is `P [rows, columns]`, whole.

use serde::{Deserialize, Serialize};

use crate::ops::derived::{BadSource, DerivedFrom, Recipe};

/// Columns at right angles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orthonormal {
    /// Columns, no more than there are rows.
    pub columns: usize,
}

/// Puts `Q [rows, columns]` in place of a matrix.
pub(crate) fn orthonormalize(matrix: &mut [f64], columns: usize) {
    let rows = matrix.len() / columns;
    let mut scales = vec![0.0; columns];
    for k in 0..columns {
        let column = |row: usize| matrix[row * columns + k];
        let below: f64 = (k + 1..rows).map(|row| column(row) * column(row)).sum();
        let first = column(k);
        if below == 0.0 {
            continue;
        }
        // The reflection that leaves nothing below the diagonal: LAPACK's `dlarfg`.
        let beta = -(first * first + below).sqrt().copysign(first);
        scales[k] = (beta - first) / beta;
        (k + 1..rows).for_each(|row| matrix[row * columns + k] /= first - beta);
        for other in k + 1..columns {
            reflect(matrix, columns, k, other, scales[k]);
        }
    }
    // From the last reflection to the first, which work on the identity in place of the reflections.
    for k in (0..columns).rev() {
        for other in k + 1..columns {
            reflect(matrix, columns, k, other, scales[k]);
        }
        (k + 1..rows).for_each(|row| matrix[row * columns + k] *= -scales[k]);
        matrix[k * columns + k] = 1.0 - scales[k];
        (0..k).for_each(|row| matrix[row * columns + k] = 0.0);
    }
}

/// Applies reflection `k`, whose first value is one, to another column.
fn reflect(matrix: &mut [f64], columns: usize, k: usize, other: usize, scale: f64) {
    let rows = matrix.len() / columns;
    let below = |matrix: &[f64], row: usize| matrix[row * columns + k] * matrix[row * columns + other];
    let dot = matrix[k * columns + other] + (k + 1..rows).map(|row| below(matrix, row)).sum::<f64>();
    let by = scale * dot;
    matrix[k * columns + other] -= by;
    for row in k + 1..rows {
        matrix[row * columns + other] -= by * matrix[row * columns + k];
    }
}

impl Recipe for Orthonormal {
    fn whole(&self) -> usize {
        1
    }

    fn prepare(&self, whole: &mut [Vec<f64>]) {
        orthonormalize(&mut whole[0], self.columns);
    }

    fn make(&self, row: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let q = &sources.whole[0][row * self.columns..];
        values.iter_mut().zip(q).for_each(|(to, value)| *to = *value as f32);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_span_the_same_and_have_lapack_s_signs() {
        // numpy.linalg.qr of these numbers.
        let mut matrix = vec![3.0, 1.0, 4.0, -2.0, 0.0, 5.0];
        orthonormalize(&mut matrix, 2);
        let right = [-0.6, 0.297_112_54, -0.8, -0.222_834_41, 0.0, 0.928_476_69];
        for (found, right) in matrix.iter().zip(right) {
            assert!((found - right).abs() < 1e-6, "{matrix:?}");
        }
        let mut square = vec![2.0];
        orthonormalize(&mut square, 1);
        assert_eq!(square, [1.0], "nothing stands below it");
    }
}
