//! The product against the sum as it is pinned, in every layout and cut.

use super::*;

/// The pinned sum, written once more.
fn pinned_product(u: Matrix<'_>, v: Matrix<'_>) -> Vec<f32> {
    let mut out = vec![0.0; u.rows * v.cols];
    for (place, out) in out.iter_mut().enumerate() {
        let (row, col) = (place / v.cols, place % v.cols);
        let terms: Vec<(f32, f32)> = (0..u.cols)
            .map(|k| {
                (u.data[row * u.row_stride + k * u.col_stride], v.data[k * v.row_stride + col * v.col_stride])
            })
            .collect();
        *out = terms
            .chunks(256)
            .map(|block| block.iter().fold(0.0_f32, |sum, (u, v)| u.mul_add(*v, sum)))
            .fold(0.0, |total, sum| total + sum);
    }
    out
}

/// A matrix of random values with gaps between its rows, or columns, that hold NaN.
struct Strided {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl Strided {
    fn new(stream: &mut Bits, rows: usize, cols: usize, row_major: bool) -> Self {
        let (row_stride, col_stride) = if row_major { (cols + 3, 1) } else { (1, rows + 3) };
        let mut data = vec![f32::NAN; (rows + 3) * (cols + 3)];
        for row in 0..rows {
            for col in 0..cols {
                data[row * row_stride + col * col_stride] = stream.value();
            }
        }
        Self { data, rows, cols, row_stride, col_stride }
    }

    fn rows(&self, start: usize, end: usize) -> Matrix<'_> {
        Matrix {
            data: &self.data[start * self.row_stride..],
            rows: end - start,
            cols: self.cols,
            row_stride: self.row_stride,
            col_stride: self.col_stride,
        }
    }

    fn all(&self) -> Matrix<'_> {
        self.rows(0, self.rows)
    }
}

#[test]
fn the_product_is_the_pinned_sum_in_every_layout_and_cut() {
    assert_eq!(RANK_BLOCK, 256);
    let mut stream = Bits(2);
    for rank in [1, 2, 5, 16, 64, 255, 256, 257, 300, 513] {
        for (rows, cols) in [(1, 1), (1, 40), (9, 1), (131, 27)] {
            for (u_row_major, v_row_major) in [(true, true), (true, false), (false, true), (false, false)] {
                let u = Strided::new(&mut stream, rows, rank, u_row_major);
                let v = Strided::new(&mut stream, rank, cols, v_row_major);
                let expected = bits(&pinned_product(u.all(), v.all()));
                for kernels in Kernels::available() {
                    let mut out = vec![f32::NAN; rows * cols];
                    kernels.product(u.all(), v.all(), &mut out);
                    assert_eq!(bits(&out), expected, "{} {rows}x{rank}x{cols}", kernels.name());
                }
                for chunk in [1, 7, 128] {
                    let mut out = vec![f32::NAN; rows * cols];
                    for (index, out) in out.chunks_mut(chunk * cols).enumerate() {
                        let start = index * chunk;
                        let part = u.rows(start, rows.min(start + chunk));
                        Kernels::detect().product(part, v.all(), out);
                    }
                    assert_eq!(bits(&out), expected, "rows {chunk} at a time, {rows}x{rank}x{cols}");
                }
            }
        }
    }
}

/// More columns than are packed at once.
#[test]
fn a_wide_product_is_the_pinned_sum_too() {
    let mut stream = Bits(3);
    let (u, v) = (Strided::new(&mut stream, 70, 260, true), Strided::new(&mut stream, 260, 1030, true));
    let mut out = vec![f32::NAN; 70 * 1030];
    Kernels::detect().product(u.all(), v.all(), &mut out);
    assert!(bits(&out) == bits(&pinned_product(u.all(), v.all())));
}

#[test]
fn empty_products_are_zeros_or_nothing() {
    for kernels in Kernels::available() {
        let mut out = [f32::NAN; 6];
        kernels.product(Matrix::row_major(&[], 2, 0), Matrix::row_major(&[], 0, 3), &mut out);
        assert_eq!(bits(&out), [0; 6], "{}", kernels.name());
        kernels.product(Matrix::row_major(&[], 0, 2), Matrix::row_major(&[1.0; 6], 2, 3), &mut []);
        kernels.product(Matrix::row_major(&[1.0; 6], 3, 2), Matrix::row_major(&[], 2, 0), &mut []);
        kernels.product(Matrix::row_major(&[], 0, 0), Matrix::row_major(&[], 0, 0), &mut []);
    }
}

/// `fma(-1e-30, 1e-30, +0)` underflows to -0, which kernels for AVX-512 and NEON would store.
#[test]
fn a_zero_sum_is_positive() {
    for kernels in Kernels::available() {
        for rank in [1, 256, 257] {
            let (u, v) = (vec![-1e-30; 17 * rank], vec![1e-30; rank * 33]);
            let mut out = [f32::NAN; 17 * 33];
            kernels.product(Matrix::row_major(&u, 17, rank), Matrix::row_major(&v, rank, 33), &mut out);
            assert_eq!(bits(&out), [0; 17 * 33], "{} rank {rank}", kernels.name());
        }
    }
}

/// A stride that is never walked may be anything; one that is, may not.
#[test]
fn a_stride_counts_only_where_it_is_walked() {
    let (one, other) = ([2.0], [1.0, 2.0]);
    let u = Matrix { data: &one, rows: 1, cols: 1, row_stride: usize::MAX, col_stride: usize::MAX };
    let v = Matrix { data: &other, rows: 1, cols: 2, row_stride: usize::MAX, col_stride: 1 };
    for kernels in Kernels::available() {
        let mut out = [0.0; 2];
        kernels.product(u, v, &mut out);
        assert_eq!(out, [2.0, 4.0]);
    }
}

#[test]
#[should_panic(expected = "`v` has 2 x 2 elements at strides 2 and 1, beyond its 3 values")]
fn strides_beyond_the_data_are_refused() {
    Kernels::detect().product(
        Matrix::row_major(&[1.0; 4], 2, 2),
        Matrix::row_major(&[1.0; 3], 2, 2),
        &mut [0.0; 4],
    );
}

#[test]
#[should_panic(
    expected = "`u` has 3 x 1 elements at strides 18446744073709551615 and 1, beyond its 4 values"
)]
#[cfg(target_pointer_width = "64")]
fn strides_that_overflow_are_refused() {
    let u = Matrix { data: &[1.0; 4], rows: 3, cols: 1, row_stride: usize::MAX, col_stride: 1 };
    Kernels::detect().product(u, Matrix::row_major(&[1.0], 1, 1), &mut [0.0; 3]);
}

#[test]
#[should_panic(expected = "`u` must have as many columns as `v` has rows")]
fn shapes_that_disagree_are_refused() {
    Kernels::detect().product(
        Matrix::row_major(&[1.0; 4], 2, 2),
        Matrix::row_major(&[1.0; 3], 3, 1),
        &mut [0.0; 2],
    );
}

#[test]
#[should_panic(expected = "`bytes` must hold 2 bytes for each of the values")]
fn a_length_that_disagrees_is_refused() {
    Kernels::detect().widen_bf16(&[0; 5], &mut [0.0; 2]);
}

#[test]
fn the_best_kernel_is_the_last_available() {
    let available = Kernels::available();
    assert_eq!(available.first(), Some(&Kernels::scalar()));
    assert_eq!(available.last(), Some(&Kernels::detect()));
    let mut names: Vec<_> = available.iter().map(|kernels| kernels.name()).collect();
    names.dedup();
    assert_eq!(names.len(), available.len());
}
