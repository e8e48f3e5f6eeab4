//! Whether two tensors of an adapter hold the same, read piece by piece.

use crate::adapters::claim::context::ClaimContext;
use crate::error::Result;

/// Bytes that are compared at a time.
const COMPARED: usize = 1 << 16;

impl ClaimContext<'_> {
    /// Whether two of the adapter's tensors are the same, byte for byte.
    ///
    /// # Errors
    /// As [`crate::storage::source::Source::read_at`].
    pub(crate) fn are_equal(&self, first: usize, second: usize) -> Result<bool> {
        let (a, b) = (&self.tensor(first).tensor, &self.tensor(second).tensor);
        if (a.dtype, &a.shape) != (b.dtype, &b.shape) {
            return Ok(false);
        }
        let source = self.adapter.source.as_ref();
        let (mut left, mut right) = (vec![0; COMPARED], vec![0; COMPARED]);
        for at in (0..a.bytes()).step_by(COMPARED) {
            let n = COMPARED.min((a.bytes() - at) as usize);
            source.read_at(&mut left[..n], a.offset + at)?;
            source.read_at(&mut right[..n], b.offset + at)?;
            if left[..n] != right[..n] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a matrix `[rows, cols]` is another `[cols, rows]` turned round, bit for bit.
    ///
    /// # Errors
    /// As [`crate::storage::source::Source::read_at`].
    pub(crate) fn are_transposed(&self, first: usize, second: usize) -> Result<bool> {
        let (a, b) = (&self.tensor(first).tensor, &self.tensor(second).tensor);
        let (&[rows, cols], &[b_rows, b_cols]) = (a.shape.axes(), b.shape.axes()) else { return Ok(false) };
        if (a.dtype, rows, cols) != (b.dtype, b_cols, b_rows) {
            return Ok(false);
        }
        let source = self.adapter.source.as_ref();
        let size = a.dtype.bitsize() / 8;
        // So many columns of the one, and rows of the other, at a time.
        let step = (COMPARED / size / rows.max(1) as usize).max(1) as u64;
        let (mut left, mut right) =
            (vec![0; step as usize * size], vec![0; step as usize * rows as usize * size]);
        for col in (0..cols).step_by(step as usize) {
            let n = step.min(cols - col) as usize;
            source.read_at(&mut right[..n * rows as usize * size], b.offset + col * rows * size as u64)?;
            for row in 0..rows {
                source.read_at(&mut left[..n * size], a.offset + (row * cols + col) * size as u64)?;
                for i in 0..n {
                    let at = (i * rows as usize + row as usize) * size;
                    if left[i * size..(i + 1) * size] != right[at..at + size] {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}
