//! [`Panel`]: a tall matrix of few columns.

/// A matrix of f64, row by row. It has more rows than columns, or as many, where columns are made orthonormal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Panel {
    cols: usize,
    values: Vec<f64>,
}

impl Panel {
    /// Zeros.
    pub(crate) fn zeros(rows: usize, cols: usize) -> Panel {
        Panel { cols, values: vec![0.0; rows * cols] }
    }

    /// Rows of so many columns, one behind the other.
    pub(crate) fn of(cols: usize, values: Vec<f64>) -> Panel {
        Panel { cols, values }
    }

    /// Bytes of a panel of that size.
    pub(crate) fn bytes(rows: u64, cols: u64) -> u64 {
        rows.saturating_mul(cols).saturating_mul(size_of::<f64>() as u64)
    }

    /// Number of columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.values.len().checked_div(self.cols).unwrap_or(0)
    }

    /// A row.
    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.cols..][..self.cols]
    }

    /// The same, to be changed.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.cols..][..self.cols]
    }

    /// A row and the next one, to be changed.
    pub(crate) fn two_rows(&mut self, row: usize) -> (&mut [f64], &mut [f64]) {
        self.values[row * self.cols..][..2 * self.cols].split_at_mut(self.cols)
    }

    /// A row and a later one, which is to be changed.
    pub(crate) fn row_and_later(&mut self, row: usize, later: usize) -> (&[f64], &mut [f64]) {
        let (before, from) = self.values.split_at_mut(later * self.cols);
        (&before[row * self.cols..][..self.cols], &mut from[..self.cols])
    }

    /// Exchanges a row and a later one, or itself.
    pub(crate) fn swap_rows(&mut self, row: usize, later: usize) {
        if row < later {
            let (before, from) = self.values.split_at_mut(later * self.cols);
            before[row * self.cols..][..self.cols].swap_with_slice(&mut from[..self.cols]);
        }
    }

    /// All rows, one behind the other.
    pub(crate) fn all(&self) -> &[f64] {
        &self.values
    }

    /// The same, with the panel given up.
    pub(crate) fn into_values(self) -> Vec<f64> {
        self.values
    }

    /// Some rows, one behind the other.
    pub(crate) fn some_rows(&self, first: usize, count: usize) -> &[f64] {
        &self.values[first * self.cols..][..count * self.cols]
    }

    /// The value at a place.
    pub(crate) fn at(&self, row: usize, col: usize) -> f64 {
        self.values[row * self.cols + col]
    }

    /// Sets the value at a place.
    pub(crate) fn set(&mut self, row: usize, col: usize, value: f64) {
        self.values[row * self.cols + col] = value;
    }

    /// Multiplies every row by a square matrix from the right, in place. Sums run over its rows in order.
    pub(crate) fn times(&mut self, square: &Panel) {
        let mut product = vec![0.0; self.cols];
        for row in self.values.chunks_exact_mut(self.cols.max(1)) {
            product.fill(0.0);
            add_rows(&mut product, row, &square.values);
            row.copy_from_slice(&product);
        }
    }
}

/// Adds rows of a matrix, each times a weight, to `sum`: `sum[c] += weights[j]·rows[j][c]`, j in order. Neither is fused.
pub(crate) fn add_rows(sum: &mut [f64], weights: &[f64], rows: &[f64]) {
    let cols = sum.len();
    let mut at = 0;
    while at < cols {
        match cols - at {
            32.. => at += add_lanes::<32>(&mut sum[at..], weights, (rows, at, cols)),
            8.. => at += add_lanes::<8>(&mut sum[at..], weights, (rows, at, cols)),
            _ => at += add_lanes::<1>(&mut sum[at..], weights, (rows, at, cols)),
        }
    }
}

/// The same for some columns, whose sums stay in registers.
#[inline(always)]
fn add_lanes<const LANES: usize>(
    sum: &mut [f64],
    weights: &[f64],
    (rows, at, cols): (&[f64], usize, usize),
) -> usize {
    let (sum, _) = sum.split_first_chunk_mut::<LANES>().expect("there are as many columns");
    let mut lanes = *sum;
    for (weight, row) in weights.iter().zip(rows.chunks_exact(cols)) {
        let row: &[f64; LANES] = row[at..].first_chunk().expect("there are as many columns");
        for (lane, value) in lanes.iter_mut().zip(row) {
            *lane += weight * value;
        }
    }
    *sum = lanes;
    LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighted_rows_are_added_in_order_whatever_the_width() {
        for cols in [1, 7, 8, 31, 32, 41, 77] {
            let rows: Vec<f64> = (0..5 * cols).map(|i| 1.0 / (1.0 + i as f64)).collect();
            let weights = [0.3, -1.7, 1e9, 2.5e-7, 4.0];
            let mut sum: Vec<f64> = (0..cols).map(|i| i as f64).collect();
            let mut plain = sum.clone();
            for (weight, row) in weights.iter().zip(rows.chunks(cols)) {
                plain.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
            add_rows(&mut sum, &weights, &rows);
            assert_eq!(sum, plain, "{cols}");
        }
    }

    #[test]
    fn a_product_is_that_of_the_rows() {
        let mut panel = Panel::zeros(2, 2);
        [[1.0, 2.0], [3.0, 4.0]]
            .iter()
            .enumerate()
            .for_each(|(i, row)| panel.row_mut(i).copy_from_slice(row));
        let mut square = Panel::zeros(2, 2);
        square.row_mut(0).copy_from_slice(&[0.0, 10.0]);
        square.row_mut(1).copy_from_slice(&[1.0, 1.0]);
        panel.times(&square);
        assert_eq!((panel.row(0), panel.row(1)), (&[2.0, 12.0][..], &[4.0, 34.0][..]));
    }
}
