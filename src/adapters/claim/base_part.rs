//! OLoRA: a LoRA whose factors began as a part of the base, which training took out of it: what stands in the base's place is `W − s·Q·(QᵀW)`.
//!
//! PEFT: `lora/layer.py`, `olora_init`, which does the same again when it loads the adapter (peft-methods.md 3.7). The part is made of the base
//! ([`BasePart`]), in f64, and taken out with the adapter's own weight, so that weight 0 is the base. PEFT rounds what is left to the base's type
//! before anything is added.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::made_product::plain_weight;
use crate::adapters::claim::pair_op::PairOp;
use crate::adapters::claim::pairs::Pair;
use crate::adapters::peft::config::bad_field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::base_part::BasePart;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;

/// Refuses an adapter that began so and holds what such a part is not taken out for.
pub(crate) fn refuse_others(context: &ClaimContext<'_>, findings: &mut Findings<'_>) {
    let options = &context.adapter.options;
    let has_blocks = !matches!(options.methods.bdlora, Ok(None));
    if options.methods.lora.takes_base_part
        && (options.dora || has_blocks || !options.target_parameters.is_empty())
    {
        let why =
            "takes part of the base out of plain LoRA's layers alone, and this adapter is for others, too";
        findings.refuse(bad_field(&context.adapter.name, "init_lora_weights", &"olora".into(), why));
    }
}

/// A pair of factors, and the op that takes out of the base what it began as, if it did.
pub(crate) fn with_part(
    context: &ClaimContext<'_>,
    pair: &Pair<'_>,
    found: PairOp,
) -> Result<Option<(PairOp, Option<Op>)>> {
    let options = &context.adapter.options;
    if !options.methods.lora.takes_base_part {
        return Ok(Some((found, None)));
    }
    let weight = plain_weight(context, found.target, pair.a)?;
    let (out, rank) = (found.out, found.op.factors[0].inner);
    let is_linear = matches!(*weight.shape.axes(), [rows, cols] if rows == out && rank <= rows.min(cols));
    if !is_linear || found.is_transposed || pair.is_embedding || pair.parameter.is_some() {
        let expected = "those of a plain LoRA on a linear layer, as `init_lora_weights` is `olora`";
        return Err(context.factor_shape(pair.a, expected.to_owned()));
    }
    let input = weight.shape.axes()[1];
    let made = |is_of_inputs| {
        let recipe = BasePart { rank: rank as usize, outputs: out as usize, is_of_inputs }.into();
        Derivation { recipe, sources: vec![weight.clone()] }
    };
    let factors = [
        Factor::derived(made(true), [rank, input], |a| Factor::along(1, a, 1, rank, input)),
        Factor::derived(made(false), [out, rank], |b| Factor::along(0, b, rank, rank, 1)),
    ];
    let part = Op::new(LowRank::ADDED, found.op.placement.clone(), factors, -found.op.scale);
    Ok(Some((found, Some(part))))
}
