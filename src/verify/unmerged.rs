//! Tensors that should be merged and are the base's.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::plan::out_tensor::{Content, OutTensor, Plan};
use crate::storage::source::Source;
use crate::verify::difference::Difference;
use crate::verify::found_tensors::{FilePlace, FoundTensors};

/// Bytes that are read at a time.
const STEP: usize = 256 << 10;
/// Where rounding alone parts merged from unmerged, a tensor is unmerged only if the merge moves at least one element of so
/// many: fewer may be the rounding of another tool.
const MOVED: u64 = 100;

/// The modules that should have changed a tensor which is the base's; none if it is not.
///
/// # Errors
/// As reading.
pub(crate) fn unmerged_modules(
    (plan, tensor): (&Plan, &OutTensor),
    difference: &Difference,
    (target, place): (&FoundTensors, FilePlace),
    (sources, cancel): (&[Box<dyn Source>], &Cancel),
) -> Result<Option<Vec<String>>> {
    let Content::Compute { start, ops, claim: None, .. } = &tensor.content else { return Ok(None) };
    let Some(base) = start.parts().get(usize::from(tensor.part)).filter(|_| !ops.is_empty()) else {
        return Ok(None);
    };
    let is_alike = base.dtype == tensor.dtype && base.bytes() == tensor.bytes;
    let is_much = difference.first_wrong.is_some() || difference.differing * MOVED >= tensor.shape.elements();
    if !(is_alike && is_much) {
        return Ok(None);
    }
    let source = sources[base.file.0 as usize].as_ref();
    let (mut own, mut other, mut at) = (vec![0; STEP], vec![0; STEP], 0);
    while at < tensor.bytes {
        cancel.check()?;
        let step = (tensor.bytes - at).min(STEP as u64) as usize;
        source.read_at(&mut own[..step], base.offset + at)?;
        if target.read(place, at, &mut other[..step])? != step || own[..step] != other[..step] {
            return Ok(None);
        }
        at += step as u64;
    }
    let mut modules: Vec<String> =
        ops.iter().map(|op| plan.claims[op.claim.0 as usize].module.to_string()).collect();
    modules.sort_unstable();
    modules.dedup();
    Ok(Some(modules))
}
