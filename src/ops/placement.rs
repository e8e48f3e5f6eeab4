//! The elements of a stored tensor that an op's delta falls on: one mechanism for whole tensors, row ranges, expert slices,
//! even columns and transposed storage.
//!
//! A delta has one or two axes of its own (for a linear layer: out, then in). A [`Placement`] gives, for each axis, how far
//! apart in the stored tensor two neighbors on it lie. Seen as a matrix ([`View`]), one axis then moves along stored rows
//! and the other along stored columns; transposed storage only swaps which is which, so that factors change places and no
//! byte is moved. [`Grid`] is that interpretation, and [`Grid::window`] cuts it to a tile.
//!
//! An example: a delta `[out 3, in 4]` for the gate of an expert whose outputs are every second column of a stored matrix
//! `[in 4, out 6]` that begins at element 48 of its tensor.
//!
//! ```text
//! Placement { start: 48, axes: [ {count: 3, stride: 2},  {count: 4, stride: 6} ] }
//!                                out                     in
//!
//! stored, 6 columns            delta element (out, in)
//! 48  49  50  51  52  53       (0,0)  .  (1,0)  .  (2,0)  .
//! 54  55  56  57  58  59       (0,1)  .  (1,1)  .  (2,1)  .
//! 60  61  62  63  64  65       (0,2)  .  (1,2)  .  (2,2)  .
//! 66  67  68  69  70  71       (0,3)  .  (1,3)  .  (2,3)  .
//! ```
//!
//! As a matrix of 6 columns, `in` (a stride of 6) moves down the rows, one by one from row 8, and `out` (a stride of 2)
//! moves along the columns, in steps of 2 from column 0. A tile of rows 9 to 11 and columns 2 to 5 gets the window
//! `in` 1 to 3 and `out` 1 to 2: the factors' rows and columns of these numbers, and nothing else, are multiplied for it.
//!
//! ```
//! use shardfold::testing::{Axis, Placement, Rect, View};
//!
//! let axes = [Axis { count: 3, stride: 2 }, Axis { count: 4, stride: 6 }].into();
//! let grid = Placement { start: 48, axes }.grid(View { rows: 12, cols: 6 }).expect("no axis is cut");
//! assert_eq!((grid.rows.axis, grid.rows.at, grid.rows.step), (Some(1), 8, 1), "`in` moves along rows");
//! assert_eq!((grid.cols.axis, grid.cols.at, grid.cols.step), (Some(0), 0, 2), "`out` moves along columns");
//!
//! let window = grid.window(&Rect { rows: 9..12, cols: 2..6 }).expect("some of the delta is there");
//! assert_eq!((window.rows.range, window.cols.range), (1..4, 1..3));
//! assert_eq!(grid.window(&Rect { rows: 0..8, cols: 0..6 }), None, "other experts' rows");
//! ```

use std::ops::Range;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::tensor::rect::{Rect, View};
use crate::tensor::shape::Shape;

/// One axis of a delta in the stored tensor, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// How many positions the axis has.
    pub count: u64,
    /// Elements from one position to the next.
    pub stride: u64,
}

/// The elements `start + i·axes[0].stride + j·axes[1].stride` of a row-major tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Element that the delta's first element falls on.
    pub start: u64,
    /// The delta's axes, in the delta's order; one or two.
    pub axes: SmallVec<[Axis; 2]>,
}

impl Placement {
    /// A delta `[out, in]` that covers all of a tensor stored as `[out, in]`, or as `[in, out]` if `transposed`.
    pub fn matrix(out: u64, input: u64, transposed: bool) -> Placement {
        let (out_stride, in_stride) = if transposed { (1, out) } else { (input, 1) };
        let axes =
            smallvec![Axis { count: out, stride: out_stride }, Axis { count: input, stride: in_stride }];
        Placement { start: 0, axes }
    }

    /// A delta that covers all of a vector.
    pub fn vector(len: u64) -> Placement {
        Placement { start: 0, axes: smallvec![Axis { count: len, stride: 1 }] }
    }

    /// Number of elements it covers.
    pub fn elements(&self) -> u64 {
        self.axes.iter().map(|axis| axis.count).product()
    }

    /// One past the last element it covers.
    pub fn end(&self) -> u64 {
        let last = self.axes.iter().map(|axis| axis.count.saturating_sub(1) * axis.stride).sum::<u64>();
        self.start + last + 1
    }

    /// Which axis moves along the rows of `view` and which along its columns, or `None` if the view cuts an axis.
    pub fn grid(&self, view: View) -> Option<Grid> {
        let cols = view.cols.max(1);
        let mut grid =
            Grid { rows: GridLine::fixed(self.start / cols), cols: GridLine::fixed(self.start % cols) };
        let mut order = [0, 1];
        let order = order.get_mut(..self.axes.len())?;
        // The wider stride moves along rows. An axis of one position never moves, so it takes what is left.
        order.sort_unstable_by_key(|&i| (self.axes[i].count <= 1, std::cmp::Reverse(self.axes[i].stride), i));
        for &mut i in order {
            let Axis { count, stride } = self.axes[i];
            let still = count <= 1;
            if grid.rows.axis.is_none() && (still && self.axes.len() > 1 || !still && stride % cols == 0) {
                grid.rows = GridLine { axis: Some(i), count, at: grid.rows.at, step: (stride / cols).max(1) };
            } else if grid.cols.axis.is_none() && (still || stride < cols) {
                grid.cols = GridLine { axis: Some(i), count, at: grid.cols.at, step: stride.max(1) };
            } else {
                return None;
            }
        }
        (grid.rows.end() <= view.rows && grid.cols.end() <= view.cols).then_some(grid)
    }

    /// The narrowest view of `shape` in which every one of `placements` has a grid.
    pub fn view<'a>(shape: &Shape, placements: impl Iterator<Item = &'a Placement> + Clone) -> Option<View> {
        let elements = shape.elements();
        let mut cols = 1;
        for &axis in shape.axes().iter().rev() {
            cols *= axis;
            let view = View { rows: elements.checked_div(cols).unwrap_or(0), cols };
            if placements.clone().all(|placement| placement.grid(view).is_some()) {
                return Some(view);
            }
        }
        shape.axes().is_empty().then_some(View { rows: 1, cols: 1 })
    }
}

/// How a delta moves along one direction of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridLine {
    /// Which of the delta's axes it is; none if the delta does not move in this direction.
    pub axis: Option<usize>,
    /// Positions on it.
    pub count: u64,
    /// Row or column of the first position.
    pub at: u64,
    /// Rows or columns from one position to the next.
    pub step: u64,
}

impl GridLine {
    fn fixed(at: u64) -> GridLine {
        GridLine { axis: None, count: 1, at, step: 1 }
    }

    /// One past the last row or column it touches.
    fn end(&self) -> u64 {
        if self.count == 0 { self.at } else { self.at + (self.count - 1) * self.step + 1 }
    }

    /// The positions that fall into `range`, and where the first of them stands, counted from `range.start`.
    fn cut(&self, range: &Range<u64>) -> Option<AxisRun> {
        let first = range.start.saturating_sub(self.at).div_ceil(self.step);
        let last = range.end.saturating_sub(self.at).div_ceil(self.step).min(self.count);
        (first < last).then(|| AxisRun {
            axis: self.axis,
            range: first..last,
            at: self.at + first * self.step - range.start,
            step: self.step,
        })
    }
}

/// A placement read as rows and columns of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Movement along stored rows.
    pub rows: GridLine,
    /// Movement along stored columns.
    pub cols: GridLine,
}

impl Grid {
    /// The part of the delta that falls into `rect`, if any does.
    pub fn window(&self, rect: &Rect) -> Option<Window> {
        Some(Window { rows: self.rows.cut(&rect.rows)?, cols: self.cols.cut(&rect.cols)? })
    }
}

/// Positions on one axis of a delta that fall into a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisRun {
    /// The delta's axis; none if it does not move in this direction.
    pub axis: Option<usize>,
    /// Positions on that axis.
    pub range: Range<u64>,
    /// Row or column of the first, counted from the tile's first.
    pub at: u64,
    /// Rows or columns from one to the next.
    pub step: u64,
}

impl AxisRun {
    /// Number of positions.
    pub fn len(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    /// Some of the positions.
    fn part(&self, of: Range<usize>) -> AxisRun {
        let range = self.range.start + of.start as u64..self.range.start + of.end as u64;
        AxisRun { range, at: self.at + of.start as u64 * self.step, ..*self }
    }

    /// Whether there is none; a run that `window` made never is.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

/// The part of a delta that falls into a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Along the tile's rows.
    pub rows: AxisRun,
    /// Along the tile's columns.
    pub cols: AxisRun,
}

impl Window {
    /// Some of its rows and columns.
    pub(crate) fn part(&self, rows: Range<usize>, cols: Range<usize>) -> Window {
        Window { rows: self.rows.part(rows), cols: self.cols.part(cols) }
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        (self.rows.len() * self.cols.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All (element of the tensor, delta index) pairs, by the definition.
    fn by_definition(placement: &Placement) -> Vec<(u64, [u64; 2])> {
        let (a, b) =
            (placement.axes[0], placement.axes.get(1).copied().unwrap_or(Axis { count: 1, stride: 0 }));
        let pairs = (0..a.count).flat_map(|i| (0..b.count).map(move |j| [i, j]));
        pairs.map(|[i, j]| (placement.start + i * a.stride + j * b.stride, [i, j])).collect()
    }

    /// The same pairs through the windows of tiles of `tile` rows × columns.
    fn by_windows(placement: &Placement, view: View, tile: (u64, u64)) -> Vec<(u64, [u64; 2])> {
        let grid = placement.grid(view).expect("the view fits");
        let mut found = Vec::new();
        for row in (0..view.rows).step_by(tile.0 as usize) {
            for col in (0..view.cols).step_by(tile.1 as usize) {
                let rect = Rect {
                    rows: row..(row + tile.0).min(view.rows),
                    cols: col..(col + tile.1).min(view.cols),
                };
                let Some(window) = grid.window(&rect) else { continue };
                for (p, i) in window.rows.range.clone().enumerate() {
                    for (q, j) in window.cols.range.clone().enumerate() {
                        let r = row + window.rows.at + p as u64 * window.rows.step;
                        let c = col + window.cols.at + q as u64 * window.cols.step;
                        assert!(rect.rows.contains(&r) && rect.cols.contains(&c));
                        let mut index = [0, 0];
                        for (axis, value) in [(window.rows.axis, i), (window.cols.axis, j)] {
                            if let Some(axis) = axis {
                                index[axis] = value;
                            }
                        }
                        found.push((r * view.cols + c, index));
                    }
                }
            }
        }
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn windows_cover_every_element_once(
            out in 1u64..9, input in 1u64..9, transposed: bool, slice in 0u64..3, tile in (1u64..5, 1u64..5),
        ) {
            // One slice of a three-dimensional tensor, as an expert's weight is.
            let mut placement = Placement::matrix(out, input, transposed);
            placement.start = slice * out * input;
            let stored = if transposed { [3, input, out] } else { [3, out, input] };
            let shape = Shape::new(&stored).expect("small");
            let view = Placement::view(&shape, std::iter::once(&placement)).expect("fits");
            let mut expected = by_definition(&placement);
            expected.sort_unstable();
            prop_assert_eq!(by_windows(&placement, view, tile), expected);
        }
    }

    #[test]
    fn even_columns_of_a_transposed_slice() {
        // gpt-oss: gate rows of an [out, in] delta fall on even columns of [in, 2·out].
        let axes = smallvec![Axis { count: 3, stride: 2 }, Axis { count: 4, stride: 6 }];
        let placement = Placement { start: 0, axes };
        let view = View { rows: 4, cols: 6 };
        let grid = placement.grid(view).expect("fits");
        assert_eq!((grid.rows.axis, grid.cols.axis, grid.cols.step), (Some(1), Some(0), 2));
        let mut expected = by_definition(&placement);
        expected.sort_unstable();
        assert_eq!(by_windows(&placement, view, (3, 4)), expected);
    }

    #[test]
    fn a_convolution_is_viewed_with_its_kernel_in_the_row() {
        let shape = Shape::new(&[8, 3, 2, 2]).expect("small");
        let placement = Placement::matrix(8, 12, false);
        assert_eq!(Placement::view(&shape, std::iter::once(&placement)), Some(View { rows: 8, cols: 12 }));
        assert_eq!(Placement::view(&shape, std::iter::empty()), Some(View { rows: 48, cols: 2 }));
    }

    #[test]
    fn a_placement_that_leaves_the_tensor_has_no_grid() {
        assert!(Placement::matrix(5, 4, false).grid(View { rows: 4, cols: 4 }).is_none());
        assert!(Placement::vector(5).grid(View { rows: 1, cols: 4 }).is_none());
        assert!(Placement::vector(4).grid(View { rows: 1, cols: 4 }).is_some());
    }
}
