//! A square matrix as a triangle above and one below, of rows in another order: what solves its equations.

use crate::linear::panel::Panel;
use crate::linear::symmetric::dot;

/// The smallest pivot that is not taken for zero, by the largest value of the matrix: f64 is good for 16 digits, and six are wanted.
const LEAST_PIVOT: f64 = 1e-10;

/// Both triangles, and which row each was.
pub(crate) struct Lu {
    both: Panel,
    rows: Vec<usize>,
}

impl Lu {
    /// That of a matrix, by elimination with the largest pivots; `None` if it has no inverse, or nearly none.
    pub(crate) fn of(mut square: Panel) -> Option<Lu> {
        let size = square.cols();
        let largest = square.all().iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let mut rows: Vec<usize> = (0..size).collect();
        for k in 0..size {
            let best = (k..size).max_by(|&a, &b| square.at(a, k).abs().total_cmp(&square.at(b, k).abs()))?;
            square.swap_rows(k, best);
            rows.swap(k, best);
            let pivot = square.at(k, k);
            if pivot.is_nan() || pivot.abs() <= largest * LEAST_PIVOT {
                return None;
            }
            for row in k + 1..size {
                let factor = square.at(row, k) / pivot;
                square.set(row, k, factor);
                let (above, below) = square.row_and_later(k, row);
                below[k + 1..].iter_mut().zip(&above[k + 1..]).for_each(|(to, of)| *to -= factor * of);
            }
        }
        Some(Lu { both: square, rows })
    }

    /// Puts in place of a right side what the matrix makes it of. `room` is used on the way.
    pub(crate) fn solve(&self, side: &mut [f64], room: &mut Vec<f64>) {
        room.clear();
        for (i, &row) in self.rows.iter().enumerate() {
            let value = side[row] - dot(&self.both.row(i)[..i], &room[..i]);
            room.push(value);
        }
        for i in (0..room.len()).rev() {
            let row = self.both.row(i);
            room[i] = (room[i] - dot(&row[i + 1..], &room[i + 1..])) / row[i];
        }
        side.copy_from_slice(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::sketch::random_panel;

    #[test]
    fn what_is_solved_gives_the_side_back() {
        for size in [1, 2, 5, 17] {
            let mut matrix = random_panel(size, size);
            // The first pivot is below.
            matrix.set(0, 0, if size > 1 { 0.0 } else { 3.0 });
            let side: Vec<f64> = (0..size).map(|i| 1.0 + i as f64).collect();
            let (mut found, mut room) = (side.clone(), Vec::new());
            Lu::of(matrix.clone()).expect("it has an inverse").solve(&mut found, &mut room);
            for (row, is) in side.iter().enumerate() {
                assert!((dot(matrix.row(row), &found) - is).abs() < 1e-12 * size as f64, "{size}");
            }
        }
    }

    #[test]
    fn a_matrix_without_inverse_has_none() {
        let mut matrix = random_panel(4, 4);
        let row = matrix.row(1).to_vec();
        matrix.row_mut(3).copy_from_slice(&row);
        assert!(Lu::of(matrix).is_none());
        assert!(Lu::of(Panel::zeros(3, 3)).is_none());
        let mut strange = random_panel(2, 2);
        strange.set(0, 0, f64::NAN);
        assert!(Lu::of(strange).is_none());
    }
}
