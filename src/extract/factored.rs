//! The best product for the difference of two matrices, read twice piece by piece.

use crate::diff::pieces::{BUFFER_BYTES, PIECE, ValuePiece, Watched, each_piece};
use crate::error::Result;
use crate::error::claim::ClaimError;
use crate::linear::low_rank::{LowRankFactors, LowRankSketch, MatrixPiece, SketchSize};
use crate::merge::values::{CheckpointValues, ValuePlace};
use crate::tensor::shape::Shape;

/// Lanes of the sum of squares, by an element's place in its piece.
const LANES: usize = 8;

/// The size of a sketch of a tensor of that shape, as a matrix whose columns are all axes but the first; none for a vector, and for
/// what is empty.
pub(crate) fn sketch_size(shape: &Shape, rank: usize) -> Option<SketchSize> {
    let [rows, rest @ ..] = shape.axes() else { return None };
    let cols = rest.iter().product::<u64>();
    let is_matrix = !rest.is_empty() && *rows > 0 && cols > 0;
    let (rows, cols) = (usize::try_from(*rows).ok()?, usize::try_from(cols).ok()?);
    is_matrix.then_some(SketchSize { rows, cols, rank })
}

/// The most bytes that a thread holds which factors a matrix of that size.
pub(crate) fn thread_bytes(size: SketchSize) -> u64 {
    // A piece of differences, and a side of the factors as bytes.
    let side = size.rows.max(size.cols) as u64 * size.rank as u64 * size_of::<f32>() as u64;
    size.bytes() + BUFFER_BYTES + (PIECE * size_of::<f64>()) as u64 + side
}

/// The best product for the difference of two tensors, or for one, and the squared norm of what it is for.
///
/// # Errors
/// As reading; [`ClaimError::NotFiniteDifference`].
pub(crate) fn factored(
    values: &CheckpointValues,
    places: &[ValuePlace],
    size: SketchSize,
    watched: Watched<'_>,
) -> Result<(LowRankFactors, f64)> {
    let (mut squares, mut difference) = ([0.0; LANES], Vec::new());
    let mut sketch = LowRankSketch::new(size);
    let cols = size.cols as u64;
    each_piece(values, (places, cols), watched, &mut |piece| {
        if !piece.is_finite {
            let tensor =
                places.last().map_or_else(String::new, |place| values.tensor(*place).name.to_string());
            return Err(ClaimError::NotFiniteDifference { tensor }.into());
        }
        let piece = difference_of(piece, size, &mut difference);
        for eight in piece.values.chunks(LANES) {
            squares.iter_mut().zip(eight).for_each(|(sum, value)| *sum += value * value);
        }
        sketch.add(piece);
        Ok(true)
    })?;
    let mut spanned = sketch.spanned();
    each_piece(values, (places, cols), watched, &mut |piece| {
        spanned.add(difference_of(piece, size, &mut difference));
        Ok(true)
    })?;
    Ok((spanned.factors(), squares.iter().sum()))
}

/// A piece of the difference, made in `room`.
fn difference_of<'d>(piece: ValuePiece<'_>, size: SketchSize, room: &'d mut Vec<f64>) -> MatrixPiece<'d> {
    room.clear();
    room.extend(piece.a.iter().zip(piece.b).map(|(a, b)| f64::from(*b) - f64::from(*a)));
    let (row, col) = (piece.at as usize / size.cols, piece.at as usize % size.cols);
    MatrixPiece { row, col, cols: room.len().min(size.cols), values: room }
}
