//! LoftQ: factors that make up for what quantization took from the base, so that they are for the quantized base alone.
//!
//! Li et al. 2023 (arXiv:2310.08659). PEFT: `utils/loftq_utils.py`, `loftq_init`, puts in place of each weight what bitsandbytes makes of it, in NF4 with blocks of 64 or in
//! LLM.int8. Of one iteration that is what `--base-as` merges into; of more it is what the quantized weight without the factors' product at their start is, which no file holds.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::peft::config::bad_field;
use crate::adapters::peft::methods::lora::Loftq;
use crate::checkpoint::quantized::TensorRole;
use crate::model::outline::Target;

/// By the bits that it had: the encoding, the values that share a magnitude, and what helps where the base is another.
const ENCODINGS: &[(u64, &str, Option<u64>, &str)] = &[
    (4, "nf4_in_training", Some(64), "merge into the base as LoftQ quantized it, with `--base-as nf4`"),
    (8, "int8_in_training", None, "merge into the base as LoftQ quantized it, with `--base-as int8`"),
];

/// Refuses an adapter of LoftQ that the base is not quantized for.
pub(crate) fn refuse_others(context: &ClaimContext<'_>, findings: &mut Findings<'_>) {
    let Some(Loftq { bits, iterations }) = context.adapter.options.methods.lora.loftq else { return };
    let why = "means that training ran on quantized weights, which the factors make up for";
    let (field, value) = Loftq::FIELD;
    let refused = bad_field(&context.adapter.name, field, &value.into(), why);
    match ENCODINGS.iter().find(|row| row.0 == bits) {
        Some(&(_, encoding, block, _)) if iterations == 1 && is_all(context, encoding, block) => {}
        Some(&(.., cure)) if iterations == 1 => findings.refuse(refused.hint(cure)),
        _ => findings.refuse(refused.hint(
            "merge into the dequantized weights that LoftQ made, with `init_lora_weights` set to `true` in the adapter's config",
        )),
    }
}

/// Whether all weights that are adapted are read by that encoding.
fn is_all(context: &ClaimContext<'_>, encoding: &str, block: Option<u64>) -> bool {
    let adapted = context.adapter.needed().filter(|tensor| !tensor.is_value());
    let mut targets = adapted.map(|tensor| context.lookup(tensor.owner(), "weight"));
    targets.all(|target| {
        let role = match target {
            Some(Target::Base(i)) => context.outline.weights.get(i),
            _ => None,
        };
        let Some(TensorRole::Quantized(weight)) = role else { return false };
        let logical = &weight.logical;
        logical.encoding() == encoding && block.is_none_or(|block| logical.block().1 == block)
    })
}
