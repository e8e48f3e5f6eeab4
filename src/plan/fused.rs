//! A parameter stored as slices: what a claim does to it, as what is done to the tensors that hold it.

use std::collections::HashMap;

use crate::adapters::claim::edits::Edit;
use crate::model::names::param_slice::{ParamSlice, StoredSlice};
use crate::plan::slice::{Unfit, onto, value_of};
use crate::tensor::shape::Shape;

use crate::model::outline::{FusedParam, Outline, Target};
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::rows::ReplaceRows;
use crate::tensor::reference::TensorRef;

/// What is done to a tensor of the base.
pub(crate) enum PartEdit {
    /// What the claim does.
    Whole(Edit),
    /// Other values are put in place of some of its own.
    Values(Op),
}

/// What is done to a parameter stored as slices, as what is done to the tensors that hold them.
pub(crate) fn split_by_slice(
    fused: &FusedParam,
    edit: Edit,
    elements: u64,
    outline: &Outline<'_>,
) -> std::result::Result<Vec<(Target, PartEdit)>, Unfit> {
    const MISSING: Unfit = "some of it is in no tensor";
    let (mut parts, mut reached) = (Vec::new(), 0);
    let slices = Slices::of(&edit, &fused.shape);
    for StoredSlice { tensor, slice } in &fused.slices {
        let target = Target::Base(*tensor);
        let disk = outline.weight(target).shape;
        match &edit {
            Edit::Replace { value } => {
                let part = match value_of(value, &fused.shape, slice, &disk) {
                    Ok(value) => PartEdit::Whole(Edit::Replace { value }),
                    Err(why) => PartEdit::Values(values_in_place(value, &fused.shape, slice, &disk, why)?),
                };
                reached += slice.elements();
                parts.push((target, part));
            }
            Edit::Change(ops) => {
                let mut cut = Vec::new();
                for &i in slices.at(slice) {
                    cut.extend(onto(&ops[i], &fused.shape, slice, &disk)?);
                }
                reached += cut.iter().map(|op| op.placement.elements()).sum::<u64>();
                if !cut.is_empty() {
                    parts.push((target, PartEdit::Whole(Edit::Change(cut))));
                }
            }
        }
    }
    if reached == elements { Ok(parts) } else { Err(MISSING) }
}

/// An op that puts a parameter's value in place of a slice of a tensor that holds other values, too. A parameter of more than two axes has none.
fn values_in_place(
    value: &TensorRef,
    runtime: &Shape,
    slice: &ParamSlice,
    disk: &Shape,
    why: Unfit,
) -> std::result::Result<Op, Unfit> {
    let (placement, width) = match *runtime.axes() {
        [count] => (Placement::vector(count), 1),
        [rows, width] => (Placement::matrix(rows, width, false), width),
        _ => return Err(why),
    };
    let rows = Factor::along(0, value.clone(), width, width, 1);
    onto(&Op::new(ReplaceRows, placement, vec![rows], 1.0), runtime, slice, disk)?.ok_or(why)
}

/// Ops by the position on the first axis at which they stand, so that those of 256 experts are not each tried on the
/// tensors of all the others.
struct Slices {
    all: Vec<usize>,
    by_position: HashMap<u64, Vec<usize>>,
}

impl Slices {
    fn of(edit: &Edit, shape: &Shape) -> Slices {
        let Edit::Change(ops) = edit else {
            return Slices { all: Vec::new(), by_position: HashMap::new() };
        };
        let slice: u64 = shape.axes().iter().skip(1).product::<u64>().max(1);
        let mut by_position: HashMap<u64, Vec<usize>> = HashMap::new();
        for (i, op) in ops.iter().enumerate() {
            let Placement { start, .. } = op.placement;
            for position in start / slice..=(op.placement.end() - 1) / slice {
                by_position.entry(position).or_default().push(i);
            }
        }
        Slices { all: (0..ops.len()).collect(), by_position }
    }

    /// Ops that may fall on a slice.
    fn at(&self, slice: &ParamSlice) -> &[usize] {
        match slice.fixed.iter().find(|(axis, _)| *axis == 0) {
            Some((_, position)) => self.by_position.get(position).map_or(&[], Vec::as_slice),
            None => &self.all,
        }
    }
}
