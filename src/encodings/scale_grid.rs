//! Scales on a grid: one for each block of rows × columns of a weight, row by row, the last blocks ragged.
//!
//! A scale for a whole tensor, for a channel or for a group of columns is the same with another block. The block comes from
//! the config or from the scheme, never from a division of shapes: 576 rows have five rows of scales of 128. A weight of
//! more than two axes is a stack of matrices, each with a grid of its own. Scales may stand in another shard than the codes.

use std::ops::Range;

use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

use crate::encodings::encoding::{Place, Runs};
use crate::encodings::number::{number, rounded, store};

/// The shape of the scales: the last two axes in blocks, the last of each ragged.
pub(crate) fn grid_shape(shape: &Shape, block: (u64, u64)) -> Option<Shape> {
    let [before @ .., rows, cols] = shape.axes() else { return None };
    let axes = [before, &[rows.div_ceil(block.0), cols.div_ceil(block.1)]].concat();
    Shape::new(&axes)
}

/// A block that ends with the matrix: a larger one means the same, and no arithmetic is at home with any number of a file.
pub(crate) fn within(shape: &Shape, block: (u64, u64)) -> (u64, u64) {
    match shape.axes() {
        [.., rows, cols] => (block.0.min(*rows), block.1.min(*cols)),
        _ => block,
    }
}

/// Holds scales against the grid that a weight of that shape has. Axes of one behind the last that says something may be
/// left out: a scale for each row is `[rows]` or `[rows, 1]`, the only one of a tensor `[]` too.
pub(crate) fn check_grid(
    name: &str,
    scales: &TensorRef,
    shape: &Shape,
    block: (u64, u64),
) -> Result<(), QuantizedProblem> {
    let expected = grid_shape(shape, block);
    let significant = |axes: &[u64]| axes.iter().rposition(|axis| *axis != 1).map_or(0, |last| last + 1);
    let is_alike = expected.as_ref().is_some_and(|expected| {
        let (found, all) = (scales.shape.axes(), expected.axes());
        let count = significant(all);
        found.len() <= all.len() && significant(found) == count && found[..count] == all[..count]
    });
    if is_alike {
        return Ok(());
    }
    let (name, found) = (name.to_owned(), scales.shape.clone());
    Err(QuantizedProblem::ScaleShape { name, found, expected, block })
}

/// The scales that a tile needs: which rows and columns of the scale tensor, and how they lie in the tile's bytes.
pub(crate) struct ScaleGrid {
    block: (u64, u64),
    /// Rows of one matrix of the weight, and of its scales.
    matrix_rows: u64,
    scale_rows: u64,
    cols_in_all: u64,
    rows: Range<u64>,
    cols: Range<u64>,
    dtype: Dtype,
    size: usize,
}

impl ScaleGrid {
    /// Those of the scales that are this part of the weight.
    pub(crate) fn of(part: usize, place: Place<'_>) -> ScaleGrid {
        let Place { logical, view, rect, .. } = place;
        let (bn, bk) = logical.block();
        let axes = logical.shape().axes();
        let matrix_rows = axes[axes.len() - 2];
        debug_assert_eq!(Some(&view.cols), axes.last(), "the plan cuts such a weight by its last axis");
        let dtype = logical.parts()[part].dtype;
        let mut grid = ScaleGrid {
            block: logical.block(),
            matrix_rows,
            scale_rows: matrix_rows.div_ceil(bn),
            cols_in_all: view.cols.div_ceil(bk),
            rows: 0..0,
            cols: rect.cols.start / bk..rect.cols.end.div_ceil(bk),
            dtype,
            size: dtype.bitsize() / 8,
        };
        grid.rows = grid.row_of(rect.rows.start)..grid.row_of(rect.rows.end.max(1) - 1) + 1;
        grid
    }

    /// The same, of scales that the file calls bytes, where they are of that type.
    pub(crate) fn typed(self, dtype: Option<Dtype>) -> ScaleGrid {
        ScaleGrid { dtype: dtype.unwrap_or(self.dtype), ..self }
    }

    /// The element type of the scales.
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// A scale as it will be stored.
    pub(crate) fn rounded(&self, scale: f32) -> f32 {
        rounded(self.dtype, scale)
    }

    /// The bytes of the scale tensor that the tile needs.
    pub(crate) fn runs(&self) -> Runs {
        let size = self.size as u64;
        Runs {
            first: (self.rows.start * self.cols_in_all + self.cols.start) * size,
            len: (self.cols.end - self.cols.start) * size,
            count: self.rows.end - self.rows.start,
            stride: self.cols_in_all * size,
        }
        .joined()
    }

    /// The most bytes of the scale tensor that any tile of that size needs: one that starts elsewhere may begin and end
    /// within a block, and reach over the ragged ends of matrices.
    pub(crate) fn max_bytes(&self, place: Place<'_>) -> u64 {
        let ((bn, bk), (high, wide)) = (self.block, (place.rect.height(), place.rect.width()));
        let ragged = if self.matrix_rows.is_multiple_of(bn) { 0 } else { high / self.matrix_rows + 1 };
        let rows = (high.max(1) - 1).div_ceil(bn) + 1 + ragged;
        let in_all = place.view.rows / self.matrix_rows * self.scale_rows;
        rows.min(in_all) * ((wide.max(1) - 1).div_ceil(bk) + 1).min(self.cols_in_all) * self.size as u64
    }

    /// The row of scales for a row of the weight.
    fn row_of(&self, row: u64) -> u64 {
        row / self.matrix_rows * self.scale_rows + row % self.matrix_rows / self.block.0
    }

    /// Cuts columns of a tile where the scale changes: the columns, and the column of scales.
    pub(crate) fn pieces(
        &self,
        cols: &Range<usize>,
        place: Place<'_>,
    ) -> impl Iterator<Item = (Range<usize>, u64)> + use<> {
        let (first, bk) = (place.rect.cols.start, self.block.1);
        let (start, end) = (first + cols.start as u64, first + cols.end as u64);
        (start / bk..end.div_ceil(bk)).map(move |scale| {
            let from = (scale * bk).max(start) - first;
            let to = ((scale + 1) * bk).min(end) - first;
            (from as usize..to as usize, scale)
        })
    }

    /// Cuts rows and columns of a tile into pieces that share a scale.
    pub(crate) fn cells(
        &self,
        rows: &Range<usize>,
        cols: &Range<usize>,
        place: Place<'_>,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>, u64)> + use<> {
        let first = place.rect.rows.start;
        let (bn, matrix) = (self.block.0, self.matrix_rows);
        let (start, end) = (first + rows.start as u64, first + rows.end as u64);
        let columns: Vec<_> = self.pieces(cols, place).collect();
        let mut next = start;
        let bands = std::iter::from_fn(move || {
            (next < end).then(|| {
                let within = next % matrix;
                let to = (next - within + ((within / bn + 1) * bn).min(matrix)).min(end);
                let band = (next - first) as usize..(to - first) as usize;
                next = to;
                band
            })
        });
        bands.flat_map(move |band| {
            columns.clone().into_iter().map(move |(cols, scale)| (band.clone(), cols, scale))
        })
    }

    /// Where the scale of a row of the weight and a column of scales lies in the tile's bytes of scales.
    pub(crate) fn at(&self, row: u64, scale_col: u64) -> Range<usize> {
        let in_row = (scale_col - self.cols.start) as usize;
        let cols = (self.cols.end - self.cols.start) as usize;
        let start = ((self.row_of(row) - self.rows.start) as usize * cols + in_row) * self.size;
        start..start + self.size
    }

    /// The scale of a row of the weight and a column of scales.
    pub(crate) fn read(&self, stored: &[u8], row: u64, scale_col: u64) -> f32 {
        number(self.dtype, &stored[self.at(row, scale_col)], 0)
    }

    /// Stores a scale that was rounded to the type of the scales.
    pub(crate) fn write(&self, stored: &mut [u8], row: u64, scale_col: u64, scale: f32) {
        store(self.dtype, &mut stored[self.at(row, scale_col)], scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::reference::FileId;

    fn shape(axes: &[u64]) -> Shape {
        Shape::new(axes).expect("small")
    }

    #[test]
    fn the_shape_of_scales_is_the_grid_or_lacks_axes_of_one() {
        let check = |found: &[u64], weight: &[u64], block| {
            let scales = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape: shape(found) };
            check_grid("s", &scales, &shape(weight), block).map_err(|why| why.to_string())
        };
        let (tensor, channel) = ((6, 8), (1, 8));
        for found in [&[][..], &[1], &[1, 1]] {
            assert_eq!(check(found, &[6, 8], tensor), Ok(()), "{found:?}");
        }
        for found in [&[6][..], &[6, 1]] {
            assert_eq!(check(found, &[6, 8], channel), Ok(()), "{found:?}");
        }
        for found in [&[3][..], &[3, 1], &[3, 1, 1]] {
            assert_eq!(check(found, &[3, 6, 8], tensor), Ok(()), "{found:?}");
        }
        for (found, weight, block) in [
            (&[6, 1, 1][..], &[6, 8][..], channel),
            (&[1, 6], &[6, 8], channel),
            (&[1], &[6, 8], channel),
            (&[], &[6, 8], channel),
            (&[6, 8], &[6, 8], channel),
            (&[2], &[6, 8], tensor),
            (&[0], &[6, 8], tensor),
            (&[1, 1, 1], &[6, 8], tensor),
            (&[1], &[3, 6, 8], tensor),
            (&[1, 3], &[6, 8], (2, 8)),
            (&[1], &[8], tensor),
        ] {
            let says = check(found, weight, block).unwrap_err();
            assert!(says.starts_with("`s` has shape ["), "{says}");
        }
    }
}
