//! Edits: what a claim does to a tensor, before the planner numbers it.

use crate::adapters::adapter::Keys;
use crate::model::outline::Target;
use crate::ops::op::Op;
use crate::tensor::name::Name;
use crate::tensor::reference::TensorRef;

/// What a claim does to its tensor.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// Changes its values, in one or several places.
    Change(Vec<Op>),
    /// Puts another tensor in its place.
    Replace {
        /// The adapter's tensor.
        value: TensorRef,
    },
}

impl Edit {
    /// Whether it leaves its tensor as it is.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Edit::Change(ops) if ops.is_empty())
    }
}

/// What a rule claimed of one module.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedModule {
    /// Name of the method, as plans show it.
    pub method: &'static str,
    /// Module path as the adapter spells it.
    pub module: Name,
    /// The keys it uses.
    pub keys: Keys,
    /// The tensor it is for.
    pub target: Target,
    /// Elements of the output that it must reach.
    pub elements: u64,
    /// What it does.
    pub edit: Edit,
}

impl ClaimedModule {
    /// A claim that changes values: it must reach every element that its ops fall on.
    pub(crate) fn change(
        method: &'static str,
        module: impl Into<Name>,
        keys: impl IntoIterator<Item = Name>,
        target: Target,
        ops: Vec<Op>,
    ) -> ClaimedModule {
        let elements = ops.iter().map(|op| op.placement.elements()).sum();
        ClaimedModule {
            method,
            module: module.into(),
            keys: keys.into_iter().collect(),
            target,
            elements,
            edit: Edit::Change(ops),
        }
    }
}
