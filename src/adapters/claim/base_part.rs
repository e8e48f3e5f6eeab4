//! LoRAs that stand in place of a part of the base, which training took out of it: what they are added to is `W` without that part.
//!
//! PEFT takes it out again when it loads the adapter (peft-methods.md 3.7, 3.9). The part is made of the base ([`BasePart`]), in f64, and taken out with the
//! adapter's own weight, so that weight 0 is the base. PEFT rounds what is left to the base's type before anything is added.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::made_product::plain_weight;
use crate::adapters::claim::pair_op::PairOp;
use crate::adapters::claim::pairs::Pair;
use crate::adapters::peft::config::bad_field;
use crate::adapters::peft::methods::lora::TakenPart;
use crate::error::Result;
use crate::model::names::experts::{all_experts, all_experts_spelled};
use crate::ops::derived::Derivation;
use crate::ops::derived::base_part::{BasePart, PartOf};
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::tensor::reference::TensorRef;

/// Refuses an adapter that took such a part and holds what it is not taken out for.
pub(crate) fn refuse_others(context: &ClaimContext<'_>, findings: &mut Findings<'_>) {
    let options = &context.adapter.options;
    let has_blocks = !matches!(options.methods.bdlora, Ok(None));
    let is_of_experts = |module: &str| all_experts(module).is_some() || all_experts_spelled(module).is_some();
    let is_for_others = options.dora
        || has_blocks
        || !options.target_parameters.is_empty()
        || context.adapter.modules().any(is_of_experts);
    for (i, part) in options.methods.lora.base_parts.iter().enumerate() {
        let why = match i {
            0 if !is_for_others => continue,
            0 => {
                "takes part of the base out of plain LoRA's layers alone, and this adapter is for others, too"
            }
            _ => {
                "takes another part out of the base than `kasa_config` does, and both at once are not merged"
            }
        };
        let (field, value) = part.field();
        findings.refuse(bad_field(&context.adapter.name, field, &value.into(), why));
    }
}

/// A pair of factors, and the op that takes out of the base what it stands in place of, if it does.
pub(crate) fn with_part(
    context: &ClaimContext<'_>,
    pair: &Pair<'_>,
    found: PairOp,
) -> Result<Option<(PairOp, Option<Op>)>> {
    let Some(part) = context.adapter.options.methods.lora.base_part() else { return Ok(Some((found, None))) };
    let weight = plain_weight(context, found.target, pair.a)?;
    let rank = found.op.factors[0].inner;
    let is_linear = !pair.is_embedding && pair.parameter.is_none();
    // Of OLoRA's the first columns are those of inputs, which a transposed weight has as rows.
    let is_any_way = part == TakenPart::LargestValues;
    let size = match *weight.shape.axes() {
        [rows, cols] if is_linear && (is_any_way || !found.is_transposed) => rows.min(cols),
        _ => 0,
    };
    let is_less = part == TakenPart::SmallestValues;
    if rank > size || is_less && rank == size {
        let expected = format!("those of a plain LoRA on a linear layer, as `{}` says", part.field().0);
        return Err(context.factor_shape(pair.a, expected));
    }
    let (rank, size) = (rank as usize, size as usize);
    let own = -(context.adapter.weight_of(&pair.module) as f32);
    let (of, scale) = match part {
        TakenPart::FirstColumns => (PartOf::Columns(rank), -found.op.scale),
        TakenPart::LargestValues => (PartOf::values(0..rank), own),
        TakenPart::SmallestValues => (PartOf::values(size - rank..size), own),
    };
    Ok(Some((found, Some(part_op(&weight, of, scale)))))
}

/// An op that adds a part of a weight to it, times `scale`.
pub(crate) fn part_op(weight: &TensorRef, of: PartOf, scale: f32) -> Op {
    let (rows, cols) = match *weight.shape.axes() {
        [rows, cols] => (rows, cols),
        _ => (0, 0),
    };
    let rank = of.rank() as u64;
    let recipe = BasePart { rows: rows as usize, of }.into();
    let made = Derivation { recipe, sources: vec![weight.clone()] };
    let factor = |axis: usize, start: u64| {
        let along = |part| Factor::along(axis, part, rank, rank, 1).starting(start * rank);
        Factor::derived(made.clone(), [cols + rows, rank], along)
    };
    Op::new(LowRank::ADDED, Placement::matrix(rows, cols, false), [factor(1, 0), factor(0, cols)], scale)
}
