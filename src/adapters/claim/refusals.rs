//! Refusals of an adapter's tensors and of what they would do, as errors that are not recorded yet.

use crate::adapters::claim::context::ClaimContext;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::error::plan::PlanError;

/// Segments of the names of tensors that PEFT wraps.
const WRAPPERS: &[&str] = &["base_layer", "modules_to_save", "original_module"];

/// What helps where a method has no part of what it does.
pub(crate) const WEIGHT_ONE: &str = "use weight 1 for this adapter";

impl ClaimContext<'_> {
    /// The refusal of a tensor for its shape.
    pub(crate) fn factor_shape(&self, i: usize, expected: String) -> Error {
        let tensor = self.tensor(i);
        let (key, found) = (tensor.key.to_string(), tensor.tensor.shape.clone());
        ClaimError::FactorShape { adapter: self.adapter.name.clone(), key, found, expected }.into()
    }

    /// The refusal of an adapter with another weight than 1, for what it does.
    pub(crate) fn weighted(&self, why: &'static str) -> Option<Error> {
        self.adapter.weighted_module().map(|(module, weight)| {
            let (adapter, what) = (self.adapter.name.clone(), module.to_owned());
            Error::new(ClaimError::Weighted { adapter, what, weight, why }).hint(WEIGHT_ONE)
        })
    }

    /// The refusal of a vector that is added to the bias of a module which has none.
    pub(crate) fn no_bias(&self, module: &str, vector: &'static str) -> Error {
        let (adapter, tensor) = (self.adapter.name.clone(), format!("{module}.weight"));
        Error::new(ClaimError::NoBaseBias { adapter, tensor, vector })
            .hint("the base layer was made without a bias; PEFT refuses this adapter too")
    }

    /// What helps if the base was saved while PEFT's wrappers were in the model, as names of its tensors show.
    pub(crate) fn wrapped_base(&self) -> Option<String> {
        let mut names = self.outline.base.catalogue.tensors.iter().map(|tensor| &*tensor.name);
        let name = names.find(|name| name.split('.').any(|segment| WRAPPERS.contains(&segment)))?;
        Some(format!(
            "the base was saved with PEFT's wrappers in it, as `{name}` shows: load it in PEFT, call `merge_and_unload()`, or \
             `unload()` to leave its adapter out, and save the model again"
        ))
    }

    /// The refusal of two tensors that are the same thing in two spellings.
    pub(crate) fn key_twice(&self, first: usize, second: usize) -> Error {
        let (adapter, key) = (self.adapter.name.clone(), self.path(second).to_owned());
        let (first, second) = (self.tensor(first).key.to_string(), self.tensor(second).key.to_string());
        PlanError::KeyTwice { adapter, key, first, second }.into()
    }
}
