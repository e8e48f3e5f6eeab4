//! What claims come to: changes and replacements of tensors, before they are ops of a plan.

use crate::model::outline::Target;
use crate::ops::op::{Factor, Need};
use crate::ops::placement::Placement;
use crate::tensor::reference::TensorRef;

/// What a claim does to its tensor.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Changes its values, in one or several places.
    Change(Vec<Change>),
    /// Puts another tensor in its place.
    Replace {
        /// The adapter's tensor.
        value: TensorRef,
    },
}

/// One change of some of a tensor's values: an op before it has a claim's number.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Name of the method that applies it.
    pub method: &'static str,
    /// Where its delta falls.
    pub placement: Placement,
    /// What makes it.
    pub factors: Vec<Factor>,
    /// What it is multiplied by.
    pub scale: f32,
    /// What it must see at once.
    pub need: Need,
    /// Whether it wants what the tensor starts from beside the running values.
    pub original: bool,
    /// Numbers that its method reads back.
    pub settings: Vec<f64>,
}

impl Change {
    /// A change that may see any elements at once and needs nothing but its factors.
    pub(crate) fn new(
        method: &'static str,
        placement: Placement,
        factors: Vec<Factor>,
        scale: f32,
    ) -> Change {
        let (need, original, settings) = (Need::Elements, false, Vec::new());
        Change { method, placement, factors, scale, need, original, settings }
    }
}

/// What a method claimed.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    /// The method's name.
    pub method: &'static str,
    /// Module path as the adapter spells it.
    pub module: String,
    /// The keys it uses.
    pub keys: Vec<String>,
    /// The tensor it is for.
    pub target: Target,
    /// Elements of the output that it must reach.
    pub elements: u64,
    /// What it does.
    pub effect: Effect,
}

impl Claimed {
    /// A claim that changes values: it must reach every element that its changes fall on.
    pub(crate) fn change(
        method: &'static str,
        module: &str,
        keys: Vec<String>,
        target: Target,
        changes: Vec<Change>,
    ) -> Claimed {
        let elements = changes.iter().map(|change| change.placement.elements()).sum();
        Claimed { method, module: module.to_owned(), keys, target, elements, effect: Effect::Change(changes) }
    }
}
