//! Values of two tensors of one shape, piece by piece.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cancel::Cancel;
use crate::diff::sums::DifferenceSums;
use crate::encodings;
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::merge::values::{CheckpointValues, ValuePlace};
use crate::tensor::dtype::bytes_of;

/// Elements of a piece, a multiple of the lanes of sums. It is the same whatever the budget.
pub(crate) const PIECE: usize = 1 << 18;
/// Bytes of the buffers that pieces of two tensors take: what is read of one of them, and the values of both.
pub(crate) const BUFFER_BYTES: u64 = (3 * PIECE * size_of::<f32>()) as u64;

/// What a reading of pieces is watched by: what stops it, and the bytes that were read.
#[derive(Clone, Copy)]
pub(crate) struct Watched<'w> {
    /// Stops it.
    pub(crate) stop: &'w Cancel,
    /// Counts it.
    pub(crate) read: &'w AtomicU64,
}

/// Values of two tensors from one element on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValuePiece<'v> {
    /// The first element.
    pub(crate) at: u64,
    /// Values of the first tensor.
    pub(crate) a: &'v [f32],
    /// Values of the second.
    pub(crate) b: &'v [f32],
    /// Whether all are finite.
    pub(crate) is_finite: bool,
}

/// Elements of the piece from `at` on: whole rows of `cols` where a piece has room for one, else a part of one.
fn piece_len(at: u64, elements: u64, cols: u64) -> u64 {
    let (most, cols) = (PIECE as u64, cols.max(1));
    if cols <= most { (most / cols * cols).min(elements - at) } else { most.min(cols - at % cols) }
}

/// Calls `each` with the pieces of two tensors of plain floats, rows of `cols`, until it returns false. Of one alone it is the second,
/// and the first is zeros.
///
/// # Errors
/// As reading, and what `each` fails with.
pub(crate) fn each_piece(
    values: &CheckpointValues,
    (places, cols): (&[ValuePlace], u64),
    watched: Watched<'_>,
    each: &mut dyn FnMut(ValuePiece<'_>) -> Result<bool>,
) -> Result<()> {
    let Some((&second, before)) = places.split_last() else { return Ok(()) };
    let elements = values.tensor(second).shape.elements();
    let most = elements.min(PIECE as u64) as usize;
    let (mut bytes, mut a, mut b) = (Vec::new(), vec![0.0; most], vec![0.0; most]);
    let mut at = 0;
    while at < elements {
        watched.stop.check()?;
        let len = piece_len(at, elements, cols);
        let (a, b) = (&mut a[..len as usize], &mut b[..len as usize]);
        let mut is_finite = values.read_values(second, at, (&mut bytes, b))?;
        for &first in before {
            is_finite &= values.read_values(first, at, (&mut bytes, a))?;
        }
        let read = places.iter().map(|place| bytes_of(values.tensor(*place).dtype, len).unwrap_or(0));
        watched.read.fetch_add(read.sum(), Ordering::Relaxed);
        if !each(ValuePiece { at, a, b, is_finite })? {
            return Ok(());
        }
        at += len;
    }
    Ok(())
}

/// Adds what two tensors come to; to the first difference alone, if no more is asked for.
///
/// # Errors
/// As reading.
pub(crate) fn add_pieces(
    values: &CheckpointValues,
    both: [ValuePlace; 2],
    watched: Watched<'_>,
    (sums, to_first): (&mut DifferenceSums, bool),
) -> Result<()> {
    let types = both.map(|place| values.tensor(place).dtype);
    if types.iter().any(|dtype| encodings::plain(*dtype).is_none()) {
        return add_bytes(values, both, watched, (sums, to_first));
    }
    let kernels = Kernels::detect();
    each_piece(values, (&both, 1), watched, &mut |piece| {
        sums.add(kernels, types, (piece.a, piece.b), piece.is_finite);
        Ok(!to_first || sums.differing == 0)
    })
}

/// The same for tensors of one type that is no plain float, by their bytes.
fn add_bytes(
    values: &CheckpointValues,
    both: [ValuePlace; 2],
    watched: Watched<'_>,
    (sums, to_first): (&mut DifferenceSums, bool),
) -> Result<()> {
    let tensor = values.tensor(both[0]);
    let size = (tensor.dtype.bitsize() / 8).max(1);
    let piece = PIECE * size_of::<f32>() / size * size;
    let most = tensor.bytes.min(piece as u64) as usize;
    let (mut a, mut b, mut at) = (vec![0; most], vec![0; most], 0);
    while at < tensor.bytes && !(to_first && sums.differing > 0) {
        watched.stop.check()?;
        let count = (tensor.bytes - at).min(piece as u64) as usize;
        values.read(both[0], at, &mut a[..count])?;
        values.read(both[1], at, &mut b[..count])?;
        sums.add_bytes(size, &a[..count], &b[..count]);
        at += count as u64;
        watched.read.fetch_add(2 * count as u64, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_rows_or_parts_of_one() {
        let most = PIECE as u64;
        let pieces = |elements: u64, cols: u64| {
            let (mut at, mut lens) = (0, Vec::new());
            while at < elements {
                lens.push(piece_len(at, elements, cols));
                at += lens[lens.len() - 1];
            }
            lens
        };
        assert_eq!(pieces(10, 5), [10]);
        assert_eq!(pieces(2 * most + 7, 1), [most, most, 7]);
        let cols = most / 2 + 1;
        assert_eq!(pieces(3 * cols, cols), [cols, cols, cols]);
        let cols = 2 * most + 9;
        assert_eq!(pieces(2 * cols, cols), [most, most, 9, most, most, 9]);
    }
}
