//! Refusals of an adapter's tensors and of what they would do, as errors that are not recorded yet.

use crate::adapters::claim::context::ClaimContext;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::error::plan::PlanError;

impl ClaimContext<'_> {
    /// The refusal of a tensor for its shape.
    pub(crate) fn factor_shape(&self, i: usize, expected: String) -> Error {
        let tensor = self.tensor(i);
        let (key, found) = (tensor.key.clone(), tensor.tensor.shape.clone());
        ClaimError::FactorShape { adapter: self.adapter.name.clone(), key, found, expected }.into()
    }

    /// The refusal of two tensors that are the same thing in two spellings.
    pub(crate) fn key_twice(&self, first: usize, second: usize) -> Error {
        let (adapter, key) = (self.adapter.name.clone(), self.path(second).to_owned());
        let (first, second) = (self.tensor(first).key.clone(), self.tensor(second).key.clone());
        PlanError::KeyTwice { adapter, key, first, second }.into()
    }
}
