//! Eigenvalues and eigenvectors of a symmetric matrix: reflections to a tridiagonal one, and that by implicit QL steps (Martin, Wilkinson 1968;
//! EISPACK's `tred2` and `imtql2`).

use crate::linear::panel::Panel;

/// Steps for one eigenvalue: two are usual.
const MOST_STEPS: usize = 60;
/// Sums that a dot product runs in, so that it is vectorized in one order everywhere.
const LANES: usize = 8;

/// `matrix = Σ value·vector·vectorᵀ`, values from the largest on.
pub(crate) struct Eigen {
    /// The values.
    pub(crate) values: Vec<f64>,
    /// Of each that was asked for its vector, of unit length, as a row.
    pub(crate) vectors: Panel,
}

/// Decomposes a symmetric matrix, and gives the vectors of the values at `wanted` positions, counted from the largest.
pub(crate) fn eigen(mut matrix: Panel, wanted: std::ops::Range<usize>) -> Eigen {
    let size = matrix.cols();
    let mut diagonal = Tridiagonal::of(&mut matrix);
    let mut vectors = Panel::zeros(size, size);
    (0..size).for_each(|i| vectors.set(i, i, 1.0));
    diagonal.turn(&mut vectors);
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_unstable_by(|&i, &j| diagonal.values[j].total_cmp(&diagonal.values[i]).then(i.cmp(&j)));
    let values = order.iter().map(|&i| diagonal.values[i]).collect();
    let mut found = Panel::zeros(wanted.len(), size);
    for (to, &from) in order[wanted].iter().enumerate() {
        let vector = found.row_mut(to);
        vector.copy_from_slice(vectors.row(from));
        diagonal.reflect_back(&matrix, vector);
    }
    Eigen { values, vectors: found }
}

/// The product of two vectors, in a fixed order of sums.
pub(crate) fn dot(one: &[f64], other: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (pairs, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest: f64 = pairs.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in pairs.zip(others) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `to += by·from`.
fn add(to: &mut [f64], by: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += by * from);
}

/// A tridiagonal matrix, and the factors of the reflections that made it; their vectors stand in the rows of the matrix that they were made of.
struct Tridiagonal {
    values: Vec<f64>,
    /// Beside the diagonal; the last is no entry.
    beside: Vec<f64>,
    factors: Vec<f64>,
}

impl Tridiagonal {
    /// Reflects a matrix, whose row `k` then holds, behind the diagonal, the vector of reflection `k`.
    fn of(matrix: &mut Panel) -> Tridiagonal {
        let size = matrix.cols();
        let mut found =
            Tridiagonal { values: vec![0.0; size], beside: vec![0.0; size], factors: vec![0.0; size] };
        let mut by = vec![0.0; size];
        for k in 0..size {
            found.values[k] = matrix.at(k, k);
            if k + 1 == size {
                break;
            }
            let (beside, factor) = reflection(&mut matrix.row_mut(k)[k + 1..]);
            (found.beside[k], found.factors[k]) = (beside, factor);
            if factor == 0.0 {
                continue;
            }
            let vector = matrix.row(k)[k + 1..].to_vec();
            let by = &mut by[k + 1..];
            for (i, by) in by.iter_mut().enumerate() {
                *by = factor * dot(&matrix.row(k + 1 + i)[k + 1..], &vector);
            }
            let half = -0.5 * factor * dot(by, &vector);
            add(by, half, &vector);
            for i in 0..vector.len() {
                let row = &mut matrix.row_mut(k + 1 + i)[k + 1..];
                let (of_vector, of_by) = (vector[i], by[i]);
                for ((value, vector), by) in row.iter_mut().zip(&vector).zip(by.iter()) {
                    *value -= of_vector * by + of_by * vector;
                }
            }
        }
        found
    }

    /// Leaves the eigenvalues on the diagonal; rows of the unit matrix become the eigenvectors.
    fn turn(&mut self, vectors: &mut Panel) {
        let size = self.values.len();
        for first in 0..size {
            for _ in 0..MOST_STEPS {
                let is_apart = |k: usize| {
                    let near = self.values[k].abs() + self.values[k + 1].abs();
                    self.beside[k].abs() <= f64::EPSILON * near
                };
                let last = (first..size - 1).find(|&k| is_apart(k)).unwrap_or(size - 1);
                if last == first {
                    break;
                }
                self.step(first, last, vectors);
            }
        }
    }

    /// One implicit step on the part from `first` to `last`.
    fn step(&mut self, first: usize, last: usize, vectors: &mut Panel) {
        let (values, beside) = (&mut self.values, &mut self.beside);
        let length = |a: f64, b: f64| (a * a + b * b).sqrt();
        let ratio = (values[first + 1] - values[first]) / (2.0 * beside[first]);
        let shift = beside[first] / (ratio + length(ratio, 1.0).copysign(ratio));
        let (mut over, mut sine, mut cosine, mut taken) =
            (values[last] - values[first] + shift, 1.0, 1.0, 0.0);
        for i in (first..last).rev() {
            let (f, b) = (sine * beside[i], cosine * beside[i]);
            let r = length(f, over);
            beside[i + 1] = r;
            if r == 0.0 {
                values[i + 1] -= taken;
                beside[last] = 0.0;
                return;
            }
            (sine, cosine) = (f / r, over / r);
            let g = values[i + 1] - taken;
            let r = (values[i] - g) * sine + 2.0 * cosine * b;
            taken = sine * r;
            values[i + 1] = g + taken;
            over = cosine * r - b;
            let (one, other) = vectors.two_rows(i);
            for (one, other) in one.iter_mut().zip(other) {
                (*one, *other) = (cosine * *one - sine * *other, sine * *one + cosine * *other);
            }
        }
        values[first] -= taken;
        beside[first] = over;
        beside[last] = 0.0;
    }

    /// A vector of the tridiagonal matrix as one of the matrix that it was made of.
    fn reflect_back(&self, matrix: &Panel, vector: &mut [f64]) {
        for (k, &factor) in self.factors.iter().enumerate().rev().filter(|(_, factor)| **factor != 0.0) {
            let by = &matrix.row(k)[k + 1..];
            let times = -factor * dot(by, &vector[k + 1..]);
            add(&mut vector[k + 1..], times, by);
        }
    }
}

/// Makes of a vector the one that reflects it onto its first entry, which begins with a one; that entry, and the factor.
fn reflection(vector: &mut [f64]) -> (f64, f64) {
    let largest = vector.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let first = vector[0];
    if vector[1..].iter().all(|value| *value == 0.0) {
        return (first, 0.0);
    }
    let square: f64 = vector.iter().map(|value| (value / largest) * (value / largest)).sum();
    let to = -(largest * square.sqrt()).copysign(first);
    vector[1..].iter_mut().for_each(|value| *value /= first - to);
    vector[0] = 1.0;
    (to, (to - first) / to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::sketch::random_panel;

    fn check(matrix: &Panel) -> Vec<f64> {
        let size = matrix.cols();
        let Eigen { values, vectors } = eigen(matrix.clone(), 0..size);
        assert!(values.is_sorted_by(|one, other| one >= other), "{values:?}");
        let most = values.iter().fold(1.0f64, |most, value| most.max(value.abs()));
        for (k, value) in values.iter().enumerate() {
            for row in 0..size {
                let times = dot(matrix.row(row), vectors.row(k));
                assert!(
                    (times - value * vectors.at(k, row)).abs() < 1e-13 * most * size as f64,
                    "{size} {k}"
                );
            }
            for other in 0..size {
                let is = dot(vectors.row(k), vectors.row(other));
                assert!(
                    (is - f64::from(u8::from(k == other))).abs() < 1e-13 * size as f64,
                    "{size} {k} {other}"
                );
            }
        }
        values
    }

    #[test]
    fn vectors_are_orthonormal_and_belong_to_their_values() {
        for size in [1, 2, 3, 10, 57] {
            let random = random_panel(size, size);
            let mut matrix = Panel::zeros(size, size);
            for i in 0..size {
                for j in 0..size {
                    matrix.set(i, j, random.at(i, j) + random.at(j, i));
                }
            }
            check(&matrix);
            // One row and column of zeros, and two that are alike.
            if size > 3 {
                for i in 0..size {
                    matrix.set(0, i, 0.0);
                    matrix.set(i, 0, 0.0);
                }
                check(&matrix);
            }
        }
        for value in [0.0, 2.5] {
            let mut matrix = Panel::zeros(4, 4);
            (0..4).for_each(|i| matrix.set(i, i, value));
            assert_eq!(check(&matrix), [value; 4]);
        }
    }

    #[test]
    fn known_values_are_found_and_only_some_vectors_made() {
        // 2 on the diagonal and -1 beside it: 2 - 2·cos(kπ/(n + 1)).
        let size = 12;
        let mut matrix = Panel::zeros(size, size);
        for i in 0..size {
            matrix.set(i, i, 2.0);
            if i > 0 {
                matrix.set(i, i - 1, -1.0);
                matrix.set(i - 1, i, -1.0);
            }
        }
        let values = check(&matrix);
        for (k, value) in values.iter().rev().enumerate() {
            let right = 2.0 - 2.0 * ((k + 1) as f64 * std::f64::consts::PI / (size + 1) as f64).cos();
            assert!((value - right).abs() < 1e-14, "{k}: {value} {right}");
        }
        let (all, some) = (eigen(matrix.clone(), 0..size), eigen(matrix, 3..5));
        assert_eq!((all.vectors.row(3), all.vectors.row(4)), (some.vectors.row(0), some.vectors.row(1)));
    }
}
