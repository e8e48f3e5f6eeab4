//! The slice of a runtime parameter that a tensor on disk is.
//!
//! A [`ParamSlice`] says for every axis of the stored tensor along which axis of the parameter it runs, from where, and with
//! which step; transposing, slicing, concatenating and taking every second row are all said that way, and compose.
//!
//! An example: the gate of expert 2 of gpt-oss. An adapter knows it as a parameter `[out 3, in 4]`; the disk has gate and up
//! of all experts in one tensor `[experts 3, in 4, out 6]`, in alternating columns.
//!
//! ```text
//! stored tensor, expert 2                    parameter
//!
//!          out 0 1 2 3 4 5                           in 0  1  2  3
//! in  0        g u g u g u                   out 0      g00 g01 g02 g03
//!     1        g u g u g u                       1      g10 g11 g12 g13
//!     2        g u g u g u                       2      g20 g21 g22 g23
//!     3        g u g u g u
//! ```
//!
//! The whole tensor is `ParamSlice::whole(&[3, 4, 6])`. `unstacked(0, 2)` fixes its first axis at expert 2, `swapped(0, 1)`
//! makes the parameter `[out, in]`, and `select(0, 0, 2, 3)` takes three outputs from 0 in steps of 2. Then
//!
//! ```text
//! axes of the stored tensor    runtime   at   disk   step   count
//! experts                      none      0    2      1      1
//! in                           1         0    0      1      4
//! out                          0         0    0      2      3
//! ```
//!
//! and [`ParamSlice::strides`] turns it into elements: the first is 2·24 = 48, a step along the parameter's axis 0 is 2, one
//! along its axis 1 is 6. Such strides are what a [`Placement`](crate::ops::placement::Placement) is made of.
//!
//! ```
//! use shardfold::testing::{ParamSlice, Shape};
//!
//! let whole = ParamSlice::whole(&[3, 4, 6]);
//! let gate = whole.unstacked(0, 2).and_then(|expert| expert.swapped(0, 1).select(0, 0, 2, 3)).expect("it is there");
//! let (start, strides) = gate.strides(&Shape::new(&[3, 4, 6]).expect("small"));
//! assert_eq!(start, 48);
//! assert_eq!(strides.iter().map(|axis| (axis.count, axis.stride)).collect::<Vec<_>>(), [(3, 2), (4, 6)]);
//! ```

use crate::tensor::shape::Shape;

/// One axis of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceAxis {
    /// The parameter's axis that it runs along; none if the parameter sees one position of it only.
    pub runtime: Option<usize>,
    /// Position on the parameter's axis of the first.
    pub at: u64,
    /// Position on disk of the first.
    pub disk: u64,
    /// Positions on disk from one to the next.
    pub step: u64,
    /// How many there are.
    pub count: u64,
}

/// The part of a parameter that a stored tensor, or some of it, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSlice {
    /// The stored tensor's axes, slowest first.
    pub axes: Vec<SliceAxis>,
    /// Axes of the parameter that the stored tensor does not have, and the position that it stands at on each.
    pub fixed: Vec<(usize, u64)>,
}

/// A part of a parameter, and the tensor that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSlice {
    /// Place of the tensor among the base's.
    pub tensor: usize,
    /// Which part.
    pub slice: ParamSlice,
}

/// How far one moves in a stored tensor for a step along one of the parameter's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisStride {
    /// The parameter's axis.
    pub runtime: usize,
    /// First position on it.
    pub at: u64,
    /// Number of positions.
    pub count: u64,
    /// Elements of the stored tensor from one to the next; nothing is stored along a fixed axis, so it is 0 there.
    pub stride: u64,
}

impl ParamSlice {
    /// A parameter that is stored as it is.
    pub fn whole(shape: &[u64]) -> ParamSlice {
        let along = |(axis, &count)| SliceAxis { runtime: Some(axis), at: 0, disk: 0, step: 1, count };
        ParamSlice { axes: shape.iter().enumerate().map(along).collect(), fixed: Vec::new() }
    }

    /// A parameter whose rows are those of heads, each of which has the rows of its first half in even places, and those of its
    /// second half between them.
    pub fn halves_of_heads(shape: &[u64], heads: u64) -> Vec<ParamSlice> {
        let half = shape.first().map_or(0, |rows| rows / heads / 2);
        let halves = (0..heads).flat_map(|head| [(head, 0), (head, 1)]);
        let slice = |(head, second): (u64, u64)| {
            let mut slice = ParamSlice::whole(shape);
            if let Some(rows) = slice.axes.first_mut() {
                let (at, disk) = (2 * head * half + second * half, 2 * head * half + second);
                *rows = SliceAxis { at, disk, step: 2, count: half, ..*rows };
            }
            slice
        };
        halves.map(slice).collect()
    }

    /// A parameter of which so many stretches of rows are stored beside each other, column by column in turn; of that shape there.
    pub(crate) fn stretches(stored: &[u64], count: u64) -> Vec<ParamSlice> {
        let slice = |stretch: u64| {
            let mut slice = ParamSlice::whole(stored);
            if let [rows, cols] = &mut slice.axes[..] {
                rows.at = stretch * rows.count;
                *cols = SliceAxis { disk: stretch, step: count, count: cols.count / count, ..*cols };
            }
            slice
        };
        (0..count).map(slice).collect()
    }

    /// Whether it is all of a parameter of that shape, stored as it is.
    pub fn is_whole(&self, shape: &[u64]) -> bool {
        *self == ParamSlice::whole(shape)
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.axes.iter().map(|along| along.count).product()
    }

    /// The element of the stored tensor (of that shape) that its first is, and how each of the parameter's axes runs there.
    pub fn strides(&self, disk: &Shape) -> (u64, Vec<AxisStride>) {
        let (mut start, mut stride, mut strides) = (0, 1, Vec::new());
        for (along, size) in self.axes.iter().zip(disk.axes()).rev() {
            start += along.disk * stride;
            if let Some(runtime) = along.runtime {
                strides.push(AxisStride {
                    runtime,
                    at: along.at,
                    count: along.count,
                    stride: along.step * stride,
                });
            }
            stride *= size;
        }
        strides.extend(self.fixed.iter().map(|&(runtime, at)| AxisStride {
            runtime,
            at,
            count: 1,
            stride: 0,
        }));
        strides.sort_by_key(|stride| stride.runtime);
        (start, strides)
    }

    /// The positions `start, start + step, …` of the parameter's axis alone, which are counted from 0 then; none if it has none of them.
    pub fn select(mut self, axis: usize, start: u64, step: u64, count: u64) -> Option<ParamSlice> {
        for (fixed, at) in &mut self.fixed {
            if *fixed == axis {
                let from = at.checked_sub(start)?;
                *at = (from % step == 0 && from / step < count).then_some(from / step)?;
                return Some(self);
            }
        }
        let along = self.axes.iter_mut().find(|along| along.runtime == Some(axis))?;
        let first = along.at.saturating_sub(start).div_ceil(step);
        let last = (along.at + along.count).saturating_sub(start).div_ceil(step).min(count);
        if first >= last {
            return None;
        }
        along.disk += (start + first * step - along.at) * along.step;
        along.step *= step;
        (along.at, along.count) = (first, last - first);
        Some(self)
    }

    /// The parameter moved by so much along an axis.
    pub fn shifted(mut self, axis: usize, by: u64) -> ParamSlice {
        for along in self.axes.iter_mut().filter(|along| along.runtime == Some(axis)) {
            along.at += by;
        }
        for (_, at) in self.fixed.iter_mut().filter(|(fixed, _)| *fixed == axis) {
            *at += by;
        }
        self
    }

    /// Two of the parameter's axes exchanged.
    pub fn swapped(self, a: usize, b: usize) -> ParamSlice {
        let exchange = |axis| match axis {
            axis if axis == a => b,
            axis if axis == b => a,
            axis => axis,
        };
        self.renumbered(exchange)
    }

    /// The parameter as one of several, which stand on a new axis.
    pub fn stacked(self, axis: usize, at: u64) -> ParamSlice {
        let mut slice = self.renumbered(|other| if other >= axis { other + 1 } else { other });
        slice.fixed.push((axis, at));
        slice
    }

    /// The parameter at one position of an axis, without that axis; none if it does not stand there.
    pub fn unstacked(self, axis: usize, at: u64) -> Option<ParamSlice> {
        let mut slice = self.select(axis, at, 1, 1)?;
        slice.fixed.retain(|(fixed, _)| *fixed != axis);
        for along in slice.axes.iter_mut().filter(|along| along.runtime == Some(axis)) {
            along.runtime = None;
        }
        Some(slice.renumbered(|other| if other > axis { other - 1 } else { other }))
    }

    fn renumbered(mut self, number: impl Fn(usize) -> usize) -> ParamSlice {
        for along in &mut self.axes {
            along.runtime = along.runtime.map(&number);
        }
        for (fixed, _) in &mut self.fixed {
            *fixed = number(*fixed);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_column_of_a_transposed_slice() {
        // gpt-oss: gate_up_proj is stored as [experts, in, out] = [3, 4, 6], gate in columns 0, 2, 4.
        let slice = ParamSlice::whole(&[3, 4, 6]);
        let gate =
            slice.unstacked(0, 2).and_then(|slice| slice.swapped(0, 1).select(0, 0, 2, 3)).expect("there");
        let shape = Shape::new(&[3, 4, 6]).expect("small");
        let out = AxisStride { runtime: 0, at: 0, count: 3, stride: 2 };
        let input = AxisStride { runtime: 1, at: 0, count: 4, stride: 6 };
        assert_eq!(gate.strides(&shape), (2 * 24, vec![out, input]));
        assert_eq!(gate.elements(), 12);
    }

    #[test]
    fn halves_of_heads_stand_between_each_other() {
        // Two heads of four rows; row 2·j + i of a head is its row i·2 + j.
        let slices = ParamSlice::halves_of_heads(&[8, 3], 2);
        let mut rows: Vec<(u64, u64)> = Vec::new();
        for slice in &slices {
            let (along, cols) = (slice.axes[0], slice.axes[1]);
            assert_eq!((cols.at, cols.disk, cols.step, cols.count), (0, 0, 1, 3));
            rows.extend((0..along.count).map(|i| (along.disk + i * along.step, along.at + i)));
        }
        rows.sort_unstable();
        assert_eq!(rows, [(0, 0), (1, 2), (2, 1), (3, 3), (4, 4), (5, 6), (6, 5), (7, 7)]);
    }

    #[test]
    fn stretches_of_rows_stand_beside_each_other() {
        // Rows 0 and 1, 2 and 3 of [4, 3] in columns 0, 2, 4 and 1, 3, 5.
        let slices = ParamSlice::stretches(&[2, 6], 2);
        let mut places: Vec<(u64, u64)> = Vec::new();
        for slice in &slices {
            let (rows, cols) = (slice.axes[0], slice.axes[1]);
            assert_eq!(slice.elements(), 6);
            let all = (0..rows.count).flat_map(|row| (0..cols.count).map(move |col| (row, col)));
            let stored = |row, col| (rows.disk + row * rows.step) * 6 + cols.disk + col * cols.step;
            places.extend(all.map(|(row, col)| ((rows.at + row) * 3 + cols.at + col, stored(row, col))));
        }
        places.sort_unstable();
        let stored: Vec<u64> = places.iter().map(|(_, stored)| *stored).collect();
        assert_eq!(stored, [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]);
    }

    #[test]
    fn selections_compose() {
        let odd = ParamSlice::whole(&[10]).select(0, 1, 2, 5).expect("there");
        let odd = odd.shifted(0, 5);
        let some = odd.clone().select(0, 6, 1, 2).expect("there");
        assert_eq!(some.axes[0], SliceAxis { runtime: Some(0), at: 0, disk: 3, step: 2, count: 2 });
        assert!(odd.select(0, 0, 1, 5).is_none());
    }

    #[test]
    fn slices_of_a_stack() {
        let expert = ParamSlice::whole(&[2, 3]).stacked(0, 7);
        assert_eq!((expert.fixed[0], expert.axes[1].runtime), ((0, 7), Some(2)));
        assert!(expert.clone().unstacked(0, 6).is_none());
        assert!(expert.unstacked(0, 7).expect("there").is_whole(&[2, 3]));
    }
}
