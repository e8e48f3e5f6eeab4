//! The singular value decomposition of a small square matrix, by one-sided Jacobi rotations.

use crate::linear::panel::Panel;

/// Rounds over all pairs of columns: a dozen are enough for any matrix, as each squares what is left.
const MOST_ROUNDS: usize = 30;

/// `matrix = left·diag(values)·rightᵀ`, values from the largest on.
pub(crate) struct SmallSvd {
    /// Left singular vectors, as columns; zeros where a value is zero.
    pub(crate) left: Panel,
    /// Singular values.
    pub(crate) values: Vec<f64>,
    /// Right singular vectors, as columns.
    pub(crate) right: Panel,
}

/// Decomposes a square matrix.
pub(crate) fn svd(matrix: &Panel) -> SmallSvd {
    let size = matrix.cols();
    // Columns as rows, where their values lie together.
    let (mut columns, mut right) = (Panel::zeros(size, size), Panel::zeros(size, size));
    for i in 0..size {
        right.set(i, i, 1.0);
        for j in 0..size {
            columns.set(j, i, matrix.at(i, j));
        }
    }
    // What the sum of a product's roundings may come to.
    let orthogonal = f64::EPSILON * size as f64;
    for _ in 0..MOST_ROUNDS {
        let mut is_done = true;
        for p in 0..size {
            for q in p + 1..size {
                if let Some((cosine, sine)) = rotation(columns.row(p), columns.row(q), orthogonal) {
                    rotate(&mut columns, (p, q), (cosine, sine));
                    rotate(&mut right, (p, q), (cosine, sine));
                    is_done = false;
                }
            }
        }
        if is_done {
            break;
        }
    }
    sorted(&columns, &right)
}

/// The rotation that makes two columns orthogonal; none where their cosine is at most `orthogonal`.
fn rotation(p: &[f64], q: &[f64], orthogonal: f64) -> Option<(f64, f64)> {
    let (mut alpha, mut beta, mut gamma) = (0.0, 0.0, 0.0);
    for (p, q) in p.iter().zip(q) {
        alpha += p * p;
        beta += q * q;
        gamma += p * q;
    }
    if gamma == 0.0 || gamma.abs() <= orthogonal * (alpha.sqrt() * beta.sqrt()) {
        return None;
    }
    let zeta = (beta - alpha) / (2.0 * gamma);
    let tangent = 1.0 / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let tangent = if zeta < 0.0 { -tangent } else { tangent };
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    Some((cosine, cosine * tangent))
}

fn rotate(columns: &mut Panel, (p, q): (usize, usize), (cosine, sine): (f64, f64)) {
    for i in 0..columns.cols() {
        let (of_p, of_q) = (columns.at(p, i), columns.at(q, i));
        columns.set(p, i, cosine * of_p - sine * of_q);
        columns.set(q, i, sine * of_p + cosine * of_q);
    }
}

/// The decomposition whose columns, as rows, are orthogonal: by length.
fn sorted(columns: &Panel, right: &Panel) -> SmallSvd {
    let size = columns.cols();
    let length = |row: usize| columns.row(row).iter().map(|value| value * value).sum::<f64>().sqrt();
    let mut order: Vec<(f64, usize)> = (0..size).map(|row| (length(row), row)).collect();
    order.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let mut found =
        SmallSvd { left: Panel::zeros(size, size), values: Vec::new(), right: Panel::zeros(size, size) };
    for (place, &(value, row)) in order.iter().enumerate() {
        found.values.push(value);
        for i in 0..size {
            if value > 0.0 {
                found.left.set(i, place, columns.at(row, i) / value);
            }
            found.right.set(i, place, right.at(row, i));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::sketch::random_panel;

    #[test]
    fn the_parts_give_the_matrix_back() {
        let mut twice = random_panel(12, 12);
        for i in 0..12 {
            let value = twice.at(i, 3);
            twice.set(i, 7, value);
            twice.set(i, 9, 0.0);
        }
        for matrix in
            [random_panel(1, 1), random_panel(9, 9), random_panel(40, 40), twice, Panel::zeros(5, 5)]
        {
            let size = matrix.cols();
            let SmallSvd { left, values, right } = svd(&matrix);
            assert!(values.is_sorted_by(|one, other| one >= other), "{values:?}");
            for i in 0..size {
                for j in 0..size {
                    let sum: f64 = (0..size).map(|k| left.at(i, k) * values[k] * right.at(j, k)).sum();
                    assert!((sum - matrix.at(i, j)).abs() < 1e-13, "{size}: {i} {j}");
                    let dot: f64 = (0..size).map(|k| right.at(k, i) * right.at(k, j)).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-13, "{size}: {i} {j}");
                }
            }
        }
    }

    #[test]
    fn known_values_are_found() {
        let mut matrix = Panel::zeros(2, 2);
        matrix.row_mut(0).copy_from_slice(&[3.0, 0.0]);
        matrix.row_mut(1).copy_from_slice(&[4.0, 5.0]);
        let values = svd(&matrix).values;
        assert!(
            (values[0] - 45f64.sqrt()).abs() < 1e-14 && (values[1] - 5f64.sqrt()).abs() < 1e-14,
            "{values:?}"
        );
    }
}
