//! Products of two factors of which one or both are made of what an adapter holds ([`crate::ops::derived`]): LoRA's product for methods that
//! keep other tensors than LoRA.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::placing::{Product, orientation};
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::model::outline::Target;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::tensor::reference::TensorRef;

/// The product of one module.
pub(crate) struct DerivedProduct<'m> {
    /// What its method is called.
    pub(crate) method: &'static str,
    /// Its path as the adapter spells it.
    pub(crate) module: &'m str,
    /// The tensors that are used: an input factor, an output factor, and all others.
    pub(crate) used: &'m [usize],
    /// Outputs and inputs.
    pub(crate) size: (u64, u64),
    /// `A`, which runs along inputs, and `B`, along outputs.
    pub(crate) factors: [Factor; 2],
    /// What it is multiplied by.
    pub(crate) scale: f64,
}

impl DerivedProduct<'_> {
    /// Claims it for the module's weight.
    pub(crate) fn claim(self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) -> Result<()> {
        let DerivedProduct { method, module, used, size: (out, input), factors, scale } = self;
        let Some(target) = context.target(findings, used, module, "weight") else { return Ok(()) };
        let [a, b] = [0, 1].map(|i| context.tensor(used[i.min(used.len() - 1)]));
        let product = Product { out, input, a, b };
        let is_transposed = orientation(context, findings, target, module, &product)?;
        let placement = Placement::matrix(out, input, is_transposed);
        let op = Op::new(LowRank::ADDED, placement, factors, scale as f32);
        let keys = used.iter().map(|&i| context.tensor(i).key.clone());
        findings.claim(ClaimedModule::change(method, module, keys, target, vec![op]));
        Ok(())
    }
}

/// The axes of a tensor that must have so many.
pub(crate) fn axes<const N: usize>(context: &ClaimContext<'_>, i: usize, expected: &str) -> Result<[u64; N]> {
    let axes = context.tensor(i).tensor.shape.axes();
    match <[u64; N]>::try_from(axes) {
        Ok(axes) if axes.iter().all(|&axis| axis > 0) => Ok(axes),
        _ => Err(context.factor_shape(i, format!("{expected}, all above zero"))),
    }
}

/// Outputs and inputs of a module's weight of which a tensor has one value for each output; `None` if what is wrong is recorded
/// already.
pub(crate) fn size_by_outputs(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    (module, used): (&str, &[usize]),
    (tensor, out): (usize, u64),
) -> Result<Option<(u64, u64)>> {
    let Some(target) = context.target(findings, used, module, "weight") else { return Ok(None) };
    let Some(size) = by_outputs(context, target, out) else {
        let weight = context.weight(target);
        let expected =
            format!("a value for every output of a linear layer, and `{}` is {}", weight.name, weight.shape);
        return Err(context.factor_shape(tensor, expected));
    };
    Ok(Some(size))
}

/// Outputs and inputs of a weight of two axes of which one is so many outputs.
pub(crate) fn by_outputs(context: &ClaimContext<'_>, target: Target, out: u64) -> Option<(u64, u64)> {
    match *context.weight(target).shape.axes() {
        [rows, cols] if rows == out => Some((rows, cols)),
        [rows, cols] if cols == out => Some((cols, rows)),
        _ => None,
    }
}

/// A tensor that all modules of an adapter share, and is taken with the first of them.
///
/// # Errors
/// [`ClaimError::Unclaimed`] for `beside`, which is nothing without it, with the cure.
pub(crate) fn shared(
    context: &ClaimContext<'_>,
    findings: &mut Findings<'_>,
    (path, beside): (&str, usize),
    (why, cure): (&'static str, &'static str),
) -> Result<usize> {
    let Some(i) = context.at_path(path) else {
        let (adapter, key) = (context.adapter.name.clone(), context.tensor(beside).key.to_string());
        return Err(Error::new(ClaimError::Unclaimed { adapter, key, why }).hint(cure));
    };
    findings.take_one(i);
    Ok(i)
}

/// The weight of the base that a target is, where its values lie in one tensor as they are: what factors are made of that look at it.
///
/// # Errors
/// [`ClaimError::Unclaimed`] for the adapter's tensor.
pub(crate) fn plain_weight(context: &ClaimContext<'_>, target: Target, tensor: usize) -> Result<TensorRef> {
    let outline = &context.outline;
    match target {
        Target::Base(i) if outline.weights.get(i).is_none() && !context.has_value(target) => {
            Ok(outline.base.catalogue.tensors[i].tensor.clone())
        }
        _ => {
            let (adapter, key) = (context.adapter.name.clone(), context.tensor(tensor).key.to_string());
            let why = "its method looks at the values of the weight, which the base does not hold as one tensor of plain numbers";
            let error = Error::new(ClaimError::Unclaimed { adapter, key, why });
            Err(error.hint("merge it into a base of BF16, F16 or F32"))
        }
    }
}
