//! One tensor's entry of a header, and the rules that it keeps by itself.

use crate::formats::safetensors::HeaderTensor;
use crate::formats::safetensors::problem::HeaderProblem;
use crate::tensor::dtype::{Dtype, bytes_of};
use crate::tensor::name::Name;
use crate::tensor::shape::Shape;

/// One tensor's entry as it stands in the file.
pub(crate) struct Raw {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A tensor that was checked by itself, before its name joins those of the others.
pub(crate) struct CheckedEntry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Shape,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl CheckedEntry {
    /// The tensor, which is called so.
    pub(crate) fn named(self, name: Name) -> HeaderTensor {
        let CheckedEntry { dtype, shape, start, end } = self;
        HeaderTensor { name, dtype, shape, start, end }
    }
}

/// Checks one tensor by itself.
pub(crate) fn checked(name: String, raw: Raw) -> Result<CheckedEntry, HeaderProblem> {
    let Raw { dtype, shape: axes, start, end } = raw;
    let Some(found) = end.checked_sub(start) else {
        return Err(HeaderProblem::Backwards { tensor: name, start, end });
    };
    let Some(shape) = Shape::new(&axes) else {
        return Err(HeaderProblem::Overflow { tensor: name, shape: axes, dtype });
    };
    match bytes_of(dtype, shape.elements()) {
        Some(expected) if expected == found => Ok(CheckedEntry { dtype, shape, start, end }),
        Some(expected) => Err(HeaderProblem::Size { tensor: name, shape, dtype, expected, found }),
        None => Err(match shape.elements().checked_mul(dtype.bitsize() as u64) {
            Some(bits) => HeaderProblem::PartialByte { tensor: name, shape, dtype, bits },
            None => HeaderProblem::Overflow { tensor: name, shape: axes, dtype },
        }),
    }
}
