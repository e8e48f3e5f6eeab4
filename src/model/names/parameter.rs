//! [`Parameter`]: a parameter of the running model, and where it is on disk.

use crate::error::conversion::ConversionProblem;
use crate::model::names::conversions::Made;
use crate::model::names::param_slice::StoredSlice;

/// A runtime parameter: its shape and where it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Shape in the running model; empty if it is refused.
    pub shape: Vec<u64>,
    /// The tensors that it is made of.
    pub slices: Vec<StoredSlice>,
    /// Why it cannot be read as slices of tensors, if it cannot. `slices` is empty then.
    pub refused: Option<ConversionProblem>,
}

/// What a conversion made.
pub(crate) fn made(made: Made) -> Parameter {
    match made {
        Ok((shape, slices)) => Parameter { shape, slices, refused: None },
        Err(why) => Parameter { shape: Vec::new(), slices: Vec::new(), refused: Some(why) },
    }
}
