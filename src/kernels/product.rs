//! The product of two factors, on `matrixmultiply`, which is fast and sums in the pinned order.
//!
//! Its `sgemm` walks the inner dimension in blocks of 256; in a block every element is a chain of fused multiply-adds
//! from zero, whatever the tile, the layout or the vector width, and a block's sum is then added to the output. One bit
//! is not settled: a chain may end in -0 (products that underflow), and the kernels for AVX2 turn it into +0 while
//! those for AVX-512 and NEON store it. So zeros are made positive afterwards, in a pass over the result, which is
//! still in the cache.
//!
//! ```
//! use shardfold::testing::{Kernels, Matrix};
//!
//! // `lora_B [out 2, rank 2]` times `lora_A [rank 2, in 3]`; the transposed product is the same with no value moved.
//! let (b, a) = ([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, -1.0, 0.5, 2.0, 0.0]);
//! let (b, a) = (Matrix::row_major(&b, 2, 2), Matrix::row_major(&a, 2, 3));
//! let (mut delta, mut transposed) = ([0.0; 6], [0.0; 6]);
//! for kernels in Kernels::available() {
//!     kernels.product(b, a, &mut delta);
//!     assert_eq!(delta, [2.0, 4.0, -1.0, 5.0, 8.0, -3.0]);
//!     kernels.product(a.transposed(), b.transposed(), &mut transposed);
//!     assert_eq!(transposed, [2.0, 5.0, 4.0, 8.0, -1.0, -3.0]);
//! }
//! ```

#![expect(unsafe_code, reason = "`matrixmultiply` takes pointers")]

/// Ranks summed in one chain before the sum is added to those before it. A rank may be cut at multiples of this without
/// changing a bit.
pub(crate) const RANK_BLOCK: usize = 256;

/// Rows and columns that `matrixmultiply` packs at once.
const PACKED_ROWS: usize = 64;
const PACKED_COLS: usize = 1024;
/// The largest tile side of its kernels, to which rows and columns are padded (16 with AVX-512, else 8).
const PADDED_TO: usize = 16;

/// A view of f32 values as a matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
///
/// Swapping rows with columns and the strides with each other is its transpose. Elements may overlap.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// What the strides walk over, starting at element (0, 0).
    pub data: &'a [f32],
    /// Number of rows; may be 0.
    pub rows: usize,
    /// Number of columns; may be 0.
    pub cols: usize,
    /// Distance in `data` from one row to the next, in elements.
    pub row_stride: usize,
    /// Distance in `data` from one column to the next, in elements.
    pub col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows lie one after the other.
    pub fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The same elements with rows and columns swapped; no value moves.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    pub(crate) fn at(&self, row: usize, col: usize) -> f32 {
        self.data[row * self.row_stride + col * self.col_stride]
    }

    /// Whether all its elements lie in `data`.
    pub(crate) fn is_within_data(&self) -> bool {
        if self.rows == 0 || self.cols == 0 {
            return true;
        }
        let down = (self.rows - 1).checked_mul(self.row_stride);
        let along = (self.cols - 1).checked_mul(self.col_stride);
        let last = down.zip(along).and_then(|(down, along)| down.checked_add(along));
        last.is_some_and(|last| last < self.data.len())
    }

    /// The strides as `matrixmultiply` wants them. One that is never walked may be any number, so it becomes 1; of the
    /// others [`Self::is_within_data`] has shown that they are at most the length of a slice.
    fn signed_strides(&self) -> (isize, isize) {
        let signed = |stride: usize, count: usize| if count > 1 { stride as isize } else { 1 };
        (signed(self.row_stride, self.rows), signed(self.col_stride, self.cols))
    }
}

/// Panics unless `u · v` is defined, fits `out`, and can be computed without leaving anyone's data.
pub(crate) fn check(u: Matrix<'_>, v: Matrix<'_>, out: &[f32]) {
    assert_eq!(u.cols, v.rows, "`u` must have as many columns as `v` has rows");
    let elements = u.rows.checked_mul(v.cols);
    assert_eq!(elements, Some(out.len()), "`out` must have {} x {} elements", u.rows, v.cols);
    for (name, matrix) in [("u", u), ("v", v)] {
        assert!(
            matrix.is_within_data(),
            "`{name}` has {} x {} elements at strides {} and {}, beyond its {} values",
            matrix.rows,
            matrix.cols,
            matrix.row_stride,
            matrix.col_stride,
            matrix.data.len()
        );
    }
}

/// The product on a CPU with fused multiply-add.
pub(crate) fn blocked(u: Matrix<'_>, v: Matrix<'_>, out: &mut [f32]) {
    check(u, v, out); // what follows is unsound without it
    if u.cols == 0 {
        out.fill(0.0);
        return;
    }
    if out.is_empty() {
        return;
    }
    let (u_row_stride, u_col_stride) = u.signed_strides();
    let (v_row_stride, v_col_stride) = v.signed_strides();
    // SAFETY: `check` has shown that every element of `u` and `v` lies in its slice and that `out`, which is contiguous
    // with rows of `v.cols`, has `u.rows * v.cols` elements. `out` is borrowed mutably, so it overlaps neither, and no
    // two of its elements are one. Sizes and strides fit `isize`, being at most the length of a slice or 1.
    unsafe {
        matrixmultiply::sgemm(
            u.rows,
            u.cols,
            v.cols,
            1.0,
            u.data.as_ptr(),
            u_row_stride,
            u_col_stride,
            v.data.as_ptr(),
            v_row_stride,
            v_col_stride,
            0.0,
            out.as_mut_ptr(),
            v.cols as isize,
            1,
        );
    }
    for value in out {
        *value += 0.0; // -0 becomes +0, all else stays
    }
}

/// Upper bound of the bytes that one [`Kernels::product`](crate::kernels::dispatch::Kernels::product) holds while it runs, for shapes
/// `[rows, rank]` and `[rank, cols]`.
///
/// It is the buffer into which `matrixmultiply` packs up to 64 rows and 1024 columns of one block of ranks, padded to
/// its kernel's tile; at most 1.1 MB. The allocator's own overhead (under 100 bytes) is not in it. An upper bound
/// because the tile is taken for the largest; a test counts what is really allocated.
pub fn packing_bytes(rank: usize, rows: usize, cols: usize) -> usize {
    if rows == 0 || cols == 0 {
        return 0;
    }
    let rows = rows.min(PACKED_ROWS).next_multiple_of(PADDED_TO);
    let cols = cols.min(PACKED_COLS).next_multiple_of(PADDED_TO);
    rank.min(RANK_BLOCK) * (rows + cols) * size_of::<f32>()
}
