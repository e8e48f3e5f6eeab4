//! From names of a running model to targets: tensors of the base, slices of them, additions, and heads that are tied.

use crate::model::names::lookup::Names;
use crate::model::outline::{FusedParam, Outline, Target};
use crate::tensor::shape::Shape;

/// A parameter's name: its module's path, a dot, and its own; its own alone at the top.
pub(crate) fn join(module: &str, parameter: &str) -> String {
    if module.is_empty() { parameter.to_owned() } else { format!("{module}.{parameter}") }
}

/// The target that a parameter of the running model is: a tensor, or slices of some.
pub(crate) fn locate(outline: &Outline<'_>, names: &Names<'_>, runtime: &str) -> Option<Target> {
    let Some(found) = names.parameter(runtime).filter(|found| found.refused.is_none()) else {
        return outline.find(runtime);
    };
    let shape = Shape::new(&found.shape)?;
    let is_stored = |tensor| names.disk().weight(tensor).is_some_and(|(_, stored)| *stored == shape);
    match found.slices.as_slice() {
        [] => None,
        // The first rows of a larger tensor are a whole parameter too, but not a whole tensor.
        [one] if one.slice.is_whole(&found.shape) && is_stored(one.tensor) => Some(Target::Base(one.tensor)),
        _ => Some(outline.add_fused(FusedParam { name: runtime.into(), shape, slices: found.slices })),
    }
}
