//! An op on a running model's parameter, as ops on the stored tensors that the parameter is made of.
//!
//! Rules claim changes of parameters as the model that was trained has them. Where the disk has them in slices (one tensor
//! for each expert, gate and up apart, transposed, every second column) a change is cut to each slice: its placement moves in
//! the stored tensor, and factors that run along an axis start further on. No method knows of it, and nothing is moved.

use crate::model::names::param_slice::{AxisStride, ParamSlice};
use crate::ops::access::Access;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::{Axis, Placement};
use crate::tensor::dtype::bytes_of;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// Why a change cannot be cut to a slice.
pub(crate) type Unfit = &'static str;

/// How one axis of a delta moves in a parameter.
struct Moves {
    /// The parameter's axis.
    along: usize,
    /// Positions from one to the next.
    step: u64,
}

/// The part of `op` (of a parameter of shape `runtime`) that falls on `slice`, in elements of the stored tensor; none if
/// nothing does.
pub(crate) fn onto(op: &Op, runtime: &Shape, slice: &ParamSlice, disk: &Shape) -> Result<Option<Op>, Unfit> {
    if slice.is_whole(runtime.axes()) && runtime == disk {
        return Ok(Some(op.clone()));
    }
    let Placement { start, axes } = &op.placement;
    let index = index_of(*start, runtime);
    let moves = axes.iter().map(|axis| moves(axis, runtime)).collect::<Option<Vec<_>>>();
    let moves = moves.ok_or("its delta runs along several axes at once")?;
    let (mut at, strides) = slice.strides(disk);
    let mut cut: Vec<Cut> = axes.iter().map(|axis| Cut { first: 0, count: axis.count, stride: 1 }).collect();
    for AxisStride { runtime: axis, at: from, count, stride } in strides {
        let position = index[axis];
        match moves.iter().position(|moves| moves.along == axis) {
            Some(moving) => {
                let step = moves[moving].step;
                let first = from.saturating_sub(position).div_ceil(step);
                let last = (from + count).saturating_sub(position).div_ceil(step).min(axes[moving].count);
                if first >= last {
                    return Ok(None);
                }
                at += (position + first * step - from) * stride;
                // An axis of one position never moves, and a stride of nothing is no stride.
                cut[moving] = Cut { first, count: last - first, stride: (step * stride).max(1) };
            }
            None if (from..from + count).contains(&position) => at += (position - from) * stride,
            None => return Ok(None),
        }
    }
    let is_part = cut.iter().zip(axes).any(|(cut, axis)| (cut.first, cut.count) != (0, axis.count));
    if is_part {
        refuse_parts(op, axes, &cut)?;
    }
    if matches!(op.access(), Access::Rows | Access::RowGroups(_)) && is_turned(axes, &cut) {
        return Err("the method works on whole rows, which the checkpoint stores as columns");
    }
    let factors = op.factors.iter().map(|factor| shifted(factor, &cut)).collect();
    let axes = cut.iter().map(|cut| Axis { count: cut.count, stride: cut.stride }).collect();
    Ok(Some(Op { placement: Placement { start: at, axes }, factors, ..op.clone() }))
}

/// What is left of an axis of a delta: its first position, how many, and elements of the stored tensor between them.
struct Cut {
    first: u64,
    count: u64,
    stride: u64,
}

/// Whether what runs along rows of the parameter runs along columns of the stored tensor.
fn is_turned(axes: &[Axis], cut: &[Cut]) -> bool {
    match (axes, cut) {
        ([rows, cols], [cut_rows, cut_cols]) => {
            (rows.stride < cols.stride) != (cut_rows.stride < cut_cols.stride)
        }
        _ => false,
    }
}

/// Methods that look at positions, or at all of a row, need the whole of what they were trained on.
fn refuse_parts(op: &Op, axes: &[Axis], cut: &[Cut]) -> Result<(), Unfit> {
    if op.factors.iter().any(|factor| factor.index().is_none()) {
        return Err(
            "the method needs all of the weight that it was trained on, and the checkpoint stores it in parts",
        );
    }
    let is_whole = |i: usize| (cut[i].first, cut[i].count) == (0, axes[i].count);
    let is_along = |factor: &Factor, axis| factor.index().is_some_and(|index| index.axis == axis);
    // What has several values for each position of one axis, and no factor for the other, looks them up by positions of that.
    let looks_up = |axis: usize| {
        let no_one = !op.factors.iter().any(|factor| is_along(factor, axis));
        no_one && op.factors.iter().any(|factor| factor.inner > 1)
    };
    if (0..axes.len()).any(|axis| !is_whole(axis) && looks_up(axis)) {
        return Err("the method counts inputs that the checkpoint stores in several tensors");
    }
    match op.access() {
        Access::Elements => Ok(()),
        Access::Reduction { axis, .. } => {
            if (0..axes.len()).filter(|&i| i != axis).all(is_whole) {
                return Ok(());
            }
            Err("a norm runs over inputs that the checkpoint stores in several tensors")
        }
        Access::Rows | Access::RowGroups(_) | Access::Whole => {
            Err("the method needs whole rows, and the checkpoint stores them in parts")
        }
    }
}

/// The position on each axis of a row-major tensor.
fn index_of(mut element: u64, shape: &Shape) -> Vec<u64> {
    let mut index = vec![0; shape.axes().len()];
    for (place, size) in index.iter_mut().zip(shape.axes()).rev() {
        *place = element % (*size).max(1);
        element /= (*size).max(1);
    }
    index
}

/// The axis of a parameter along which an axis of a delta moves; none if it runs on over several.
fn moves(axis: &Axis, shape: &Shape) -> Option<Moves> {
    let mut stride = 1;
    let mut found = None;
    for (along, &size) in shape.axes().iter().enumerate().rev() {
        // One position on an axis of one counts as a step along it.
        let fits = axis.stride.is_multiple_of(stride) && axis.stride / stride < size.max(2);
        if fits && axis.count.saturating_sub(1) * (axis.stride / stride) < size {
            found = Some(Moves { along, step: axis.stride / stride });
        }
        stride *= size.max(1);
    }
    found
}

/// A factor that starts at what is left of its axis.
fn shifted(factor: &Factor, cut: &[Cut]) -> Factor {
    match factor.index() {
        Some(index) => {
            let start = factor.start + cut[index.axis].first * index.stride;
            factor.clone().starting(start)
        }
        None => factor.clone(),
    }
}

/// The part of a tensor of shape `runtime` that stands in place of a stored slice of it; an error if its bytes do not lie as
/// they are stored.
pub(crate) fn value_of(
    value: &TensorRef,
    runtime: &Shape,
    slice: &ParamSlice,
    disk: &Shape,
) -> Result<TensorRef, Unfit> {
    const TURNED: Unfit = "a value that replaces it would have to be transposed or taken apart";
    if slice.is_whole(runtime.axes()) && runtime == disk {
        return Ok(value.clone());
    }
    // Axes in the same order, each whole but the slowest that it has: then its elements lie together in the value.
    let mut stride_of = vec![1; runtime.axes().len()];
    for axis in (1..runtime.axes().len()).rev() {
        stride_of[axis - 1] = stride_of[axis] * runtime.axes()[axis];
    }
    let mut first = 0;
    let mut expected = 1;
    for (along, size) in slice.axes.iter().zip(disk.axes()).rev() {
        if (along.disk, along.step, along.count) != (0, 1, *size) {
            return Err(TURNED);
        }
        if let Some(axis) = along.runtime {
            if along.count > 1 && stride_of[axis] != expected {
                return Err(TURNED);
            }
            first += along.at * stride_of[axis];
        }
        expected *= size;
    }
    first += slice.fixed.iter().map(|&(axis, at)| at * stride_of[axis]).sum::<u64>();
    let skipped = bytes_of(value.dtype, first).ok_or(TURNED)?;
    Ok(TensorRef { offset: value.offset + skipped, shape: disk.clone(), ..value.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::dora::Dora;
    use crate::ops::low_rank::LowRank;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::FileId;

    fn shape(axes: &[u64]) -> Shape {
        Shape::new(axes).expect("small")
    }

    fn factor(axes: &[u64]) -> TensorRef {
        TensorRef { file: FileId(1), offset: 0, dtype: Dtype::F32, shape: shape(axes) }
    }

    /// One expert's delta on a fused parameter [experts, 2·inner, hidden], of rank 2.
    fn expert(e: u64, rows: u64, cols: u64) -> Op {
        let axes = [Axis { count: rows, stride: cols }, Axis { count: cols, stride: 1 }].into();
        let a = Factor::along(1, factor(&[2, cols]), 1, 2, cols);
        let b = Factor::along(0, factor(&[rows, 2]), 2, 2, 1);
        Op::new(LowRank::ADDED, Placement { start: e * rows * cols, axes }, vec![a, b], 1.0)
    }

    #[test]
    fn a_joined_delta_falls_apart_into_gate_and_up() {
        let (runtime, disk) = (shape(&[3, 6, 4]), shape(&[3, 4]));
        // `up` of expert 2: rows 3 to 6 of its slice.
        let up = ParamSlice::whole(&[3, 4]).shifted(0, 3).stacked(0, 2);
        let change = onto(&expert(2, 6, 4), &runtime, &up, &disk).expect("fits").expect("falls on it");
        assert_eq!(change.placement, Placement::matrix(3, 4, false));
        assert_eq!(
            (change.factors[0].start, change.factors[1].start),
            (0, 6),
            "the factor of rows starts at row 3"
        );
        assert!(onto(&expert(1, 6, 4), &runtime, &up, &disk).expect("fits").is_none(), "another expert");
    }

    #[test]
    fn transposed_and_interleaved_storage_only_moves_strides() {
        // gpt-oss keeps [experts, hidden, 2·inner] with gate in even columns; the delta is one expert's gate [inner, hidden].
        let gate =
            ParamSlice::whole(&[3, 4, 6]).unstacked(0, 2).and_then(|p| p.swapped(0, 1).select(0, 0, 2, 3));
        let (runtime, disk) = (shape(&[3, 4]), shape(&[3, 4, 6]));
        let mut change = expert(0, 3, 4);
        change.placement = Placement::matrix(3, 4, false);
        let found =
            onto(&change, &runtime, &gate.expect("there"), &disk).expect("fits").expect("falls on it");
        let axes = [Axis { count: 3, stride: 2 }, Axis { count: 4, stride: 6 }].into();
        assert_eq!(found.placement, Placement { start: 48, axes });
    }

    #[test]
    fn what_needs_all_of_a_weight_is_refused() {
        let (runtime, disk) = (shape(&[6, 4]), shape(&[3, 4]));
        let up = ParamSlice::whole(&[3, 4]).shifted(0, 3);
        let mut change = expert(0, 6, 4);
        change.factors.push(Factor::whole(factor(&[2])));
        assert!(onto(&change, &runtime, &up, &disk).is_err());
        // A norm over inputs may lose outputs, not inputs.
        let mut change = expert(0, 6, 4);
        change.kind = Dora { is_transposed: false }.into();
        assert!(onto(&change, &runtime, &up, &disk).is_ok());
        let left = ParamSlice::whole(&[6, 2]);
        assert!(onto(&change, &runtime, &left, &shape(&[6, 2])).is_err());
    }

    #[test]
    fn values_are_taken_where_they_lie_together() {
        let value = TensorRef { file: FileId(1), offset: 100, dtype: Dtype::BF16, shape: shape(&[3, 6, 4]) };
        let up = ParamSlice::whole(&[3, 4]).shifted(0, 3).stacked(0, 2);
        let part = value_of(&value, &value.shape, &up, &shape(&[3, 4])).expect("together");
        assert_eq!((part.offset, part.shape), (100 + 2 * (2 * 24 + 12), shape(&[3, 4])));
        let turned = ParamSlice::whole(&[4, 6]).swapped(0, 1).stacked(0, 1);
        assert!(value_of(&value, &value.shape, &turned, &shape(&[4, 6])).is_err());
    }
}
