//! Orthonormal columns of a panel, by Householder's reflections: stable whatever its columns are, dependent or zero. Signs are those of LAPACK's `dgeqrf`.

use crate::linear::panel::{Panel, add_rows};

/// Makes the columns of a panel orthonormal, in place, and returns the triangle that gives it back: `panel = Q·R`. A panel with fewer
/// rows than columns has no such columns.
///
/// # Panics
/// If it has fewer rows than columns.
pub(crate) fn orthonormalize(panel: &mut Panel) -> Panel {
    let cols = panel.cols();
    assert!(panel.rows() >= cols, "columns of a panel can be orthonormal if it has as many rows");
    let mut triangle = Panel::zeros(cols, cols);
    let mut factors = vec![0.0; cols];
    for (k, of_column) in factors.iter_mut().enumerate() {
        let (diagonal, factor) = reflector(panel, k);
        reflect(panel, k, factor, k + 1);
        for col in k + 1..cols {
            triangle.set(k, col, panel.at(k, col));
        }
        triangle.set(k, k, diagonal);
        *of_column = factor;
    }
    // Q is what the reflections make of the first columns of the unit matrix, the last first.
    for (k, factor) in factors.into_iter().enumerate().rev() {
        for col in k + 1..cols {
            panel.set(k, col, 0.0);
        }
        reflect(panel, k, factor, k + 1);
        for row in k + 1..panel.rows() {
            let value = panel.at(row, k);
            panel.set(row, k, -factor * value);
        }
        panel.set(k, k, 1.0 - factor);
        for row in 0..k {
            panel.set(row, k, 0.0);
        }
    }
    triangle
}

/// Replaces column `k`, from row `k` on, by the vector of its reflection, whose first entry is 1 and not stored; returns what the
/// reflection makes of the column, and the reflection's factor. A column that has nothing below its first entry is not reflected.
fn reflector(panel: &mut Panel, k: usize) -> (f64, f64) {
    let first = panel.at(k, k);
    let (mut largest, mut square) = (0.0f64, 0.0);
    for row in k + 1..panel.rows() {
        largest = largest.max(panel.at(row, k).abs());
    }
    if largest == 0.0 {
        return (first, 0.0);
    }
    largest = largest.max(first.abs());
    // Divided, so that no square is too large or too small.
    for row in k..panel.rows() {
        square += (panel.at(row, k) / largest) * (panel.at(row, k) / largest);
    }
    let norm = largest * square.sqrt();
    let diagonal = -norm.copysign(first);
    let head = first - diagonal;
    for row in k + 1..panel.rows() {
        let value = panel.at(row, k) / head;
        panel.set(row, k, value);
    }
    (diagonal, -head / diagonal)
}

/// Reflects the columns from `from` on by the reflection in column `k`.
fn reflect(panel: &mut Panel, k: usize, factor: f64, from: usize) {
    if factor == 0.0 || from == panel.cols() {
        return;
    }
    let mut sums = panel.row(k)[from..].to_vec();
    for row in k + 1..panel.rows() {
        let row = panel.row(row);
        let (weight, rest) = (row[k], &row[from..]);
        sums.iter_mut().zip(rest).for_each(|(sum, value)| *sum += weight * value);
    }
    sums.iter_mut().for_each(|sum| *sum *= -factor);
    add_rows(&mut panel.row_mut(k)[from..], &[1.0], &sums);
    for row in k + 1..panel.rows() {
        let row = panel.row_mut(row);
        let weight = row[k];
        add_rows(&mut row[from..], &[weight], &sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::sketch::random_panel;

    /// The greatest magnitude of `AᵀA - 1` and of `A·R - panel`.
    fn errors(panel: &Panel) -> [f64; 2] {
        let mut q = panel.clone();
        let triangle = orthonormalize(&mut q);
        let cols = q.cols();
        let mut worst = [0.0f64; 2];
        for i in 0..cols {
            for j in 0..cols {
                let dot: f64 = (0..q.rows()).map(|row| q.at(row, i) * q.at(row, j)).sum();
                worst[0] = worst[0].max((dot - f64::from(u8::from(i == j))).abs());
                assert!(j >= i || triangle.at(i, j) == 0.0, "below the diagonal");
            }
        }
        q.times(&triangle);
        for row in 0..q.rows() {
            for (a, b) in q.row(row).iter().zip(panel.row(row)) {
                worst[1] = worst[1].max((a - b).abs());
            }
        }
        worst
    }

    #[test]
    fn columns_are_orthonormal_and_give_the_panel_back() {
        for (rows, cols) in [(1, 1), (3, 3), (50, 8), (200, 37)] {
            let worst = errors(&random_panel(rows, cols));
            assert!(worst.iter().all(|error| *error < 1e-13), "{rows} {cols}: {worst:?}");
        }
    }

    #[test]
    fn signs_are_lapack_s() {
        // numpy.linalg.qr of these numbers.
        let mut matrix = Panel::of(2, vec![3.0, 1.0, 4.0, -2.0, 0.0, 5.0]);
        orthonormalize(&mut matrix);
        let right = [-0.6, 0.297_112_54, -0.8, -0.222_834_41, 0.0, 0.928_476_69];
        for (found, right) in matrix.all().iter().zip(right) {
            assert!((found - right).abs() < 1e-6, "{matrix:?}");
        }
        let mut square = Panel::of(1, vec![2.0]);
        orthonormalize(&mut square);
        assert_eq!(square.all(), [1.0], "nothing stands below it");
    }

    #[test]
    fn dependent_columns_and_zeros_have_orthonormal_ones() {
        let mut panel = random_panel(40, 6);
        for row in 0..40 {
            let first = panel.at(row, 0);
            panel.set(row, 2, 3.0 * first);
            panel.set(row, 4, 0.0);
        }
        for panel in [panel, Panel::zeros(9, 4)] {
            let worst = errors(&panel);
            assert!(worst.iter().all(|error| *error < 1e-13), "{worst:?}");
        }
    }
}
