//! A matrix by columns as reflections and a triangle, and singular values of a small one: what a truncation is made with. All is in f64
//! with sums in the order of rows, and roots and quotients as IEEE has them, so that it is the same on every host.

/// The most rounds in which columns are turned; about ten are enough.
const ROUNDS: usize = 60;
/// The cosine of two columns that are at right angles.
const RIGHT_ANGLE: f64 = 1e-15;

/// `Q·R` of a matrix by Householder's reflections: below the diagonal of each column stands what it is reflected by.
pub(crate) struct Triangle {
    columns: Vec<f64>,
    rows: usize,
    /// Of each reflection, which begins with a one.
    scales: Vec<f64>,
}

impl Triangle {
    /// That of columns of so many rows, one behind the other.
    pub(crate) fn of(mut columns: Vec<f64>, rows: usize) -> Triangle {
        let count = columns.len() / rows;
        let mut scales = Vec::with_capacity(rows.min(count));
        for k in 0..rows.min(count) {
            let (done, others) = columns.split_at_mut((k + 1) * rows);
            let by = &mut done[k * rows + k..];
            let scale = reflection(by);
            others.chunks_exact_mut(rows).for_each(|column| reflect(by, scale, &mut column[k..]));
            scales.push(scale);
        }
        Triangle { columns, rows, scales }
    }

    /// Values of a column.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows of the triangle, which may be fewer than its columns.
    pub(crate) fn height(&self) -> usize {
        self.scales.len()
    }

    /// `R₁·R₂ᵀ`, by columns of so many rows as this one has.
    pub(crate) fn times_transposed(&self, other: &Triangle) -> Vec<f64> {
        let count = self.columns.len() / self.rows;
        let at = |of: &Triangle, row: usize, column: usize| of.columns[column * of.rows + row];
        let mut product = vec![0.0; self.height() * other.height()];
        for (j, column) in product.chunks_exact_mut(self.height().max(1)).enumerate() {
            for (i, value) in column.iter_mut().enumerate() {
                // Below the diagonal nothing is the triangle's.
                *value = (i.max(j)..count).map(|k| at(self, i, k) * at(other, j, k)).sum();
            }
        }
        product
    }

    /// `Q` times a column that has values for the triangle's rows alone, in place.
    pub(crate) fn turn(&self, column: &mut [f64]) {
        for (k, &scale) in self.scales.iter().enumerate().rev() {
            reflect(&self.columns[k * self.rows + k..][..self.rows - k], scale, &mut column[k..]);
        }
    }
}

/// Makes of a column what reflects it onto its first value, and puts that value there: LAPACK's `dlarfg`.
fn reflection(column: &mut [f64]) -> f64 {
    let (first, below) = column.split_first_mut().expect("there is a row");
    let sum: f64 = below.iter().map(|value| value * value).sum();
    if sum == 0.0 {
        return 0.0;
    }
    let beta = -(*first * *first + sum).sqrt().copysign(*first);
    let scale = (beta - *first) / beta;
    below.iter_mut().for_each(|value| *value /= *first - beta);
    *first = beta;
    scale
}

/// Reflects a column. The first value of `by` counts as one.
fn reflect(by: &[f64], scale: f64, column: &mut [f64]) {
    let (first, below) = column.split_first_mut().expect("there is a row");
    let sum = *first + below.iter().zip(&by[1..]).map(|(value, by)| value * by).sum::<f64>();
    let times = scale * sum;
    *first -= times;
    below.iter_mut().zip(&by[1..]).for_each(|(value, by)| *value -= times * by);
}

/// Turns the columns of a small matrix until they are at right angles to each other, which makes them its singular values times its left
/// vectors; and the columns of an identity likewise, which makes them the right ones. Jacobi's method, from one side.
pub(crate) fn turned(matrix: &mut [f64], rows: usize) -> Vec<f64> {
    let count = matrix.len() / rows;
    let mut right = vec![0.0; count * count];
    (0..count).for_each(|i| right[i * count + i] = 1.0);
    for _ in 0..ROUNDS {
        let mut is_done = true;
        for i in 0..count {
            for j in i + 1..count {
                let Some(turn) = turn_of(pair(matrix, rows, i, j)) else { continue };
                is_done = false;
                rotate(pair(matrix, rows, i, j), turn);
                rotate(pair(&mut right, count, i, j), turn);
            }
        }
        if is_done {
            break;
        }
    }
    right
}

/// Two columns.
fn pair(matrix: &mut [f64], rows: usize, i: usize, j: usize) -> [&mut [f64]; 2] {
    let (before, from) = matrix.split_at_mut(j * rows);
    [&mut before[i * rows..][..rows], &mut from[..rows]]
}

/// Cosine and sine of the turn that brings two columns to right angles; none if they are.
fn turn_of([first, second]: [&mut [f64]; 2]) -> Option<[f64; 2]> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (alpha, beta, gamma) = (dot(first, first), dot(second, second), dot(first, second));
    if gamma.abs() <= RIGHT_ANGLE * (alpha * beta).sqrt() {
        return None;
    }
    let zeta = (beta - alpha) / (2.0 * gamma);
    let tangent = 1f64.copysign(zeta) / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    Some([cosine, cosine * tangent])
}

fn rotate([first, second]: [&mut [f64]; 2], [cosine, sine]: [f64; 2]) {
    for (a, b) in first.iter_mut().zip(second) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}
