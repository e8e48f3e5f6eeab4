//! Products of two factors of which one or both are made of what an adapter holds ([`crate::ops::derived`]): LoRA's product for methods that
//! keep other tensors than LoRA.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::placing::{Product, orientation};
use crate::error::Result;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// The product of one module.
pub(crate) struct MadeProduct<'m> {
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

impl MadeProduct<'_> {
    /// Claims it for the module's weight.
    pub(crate) fn claim(self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) -> Result<()> {
        let MadeProduct { method, module, used, size: (out, input), factors, scale } = self;
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
