//! LoftQ: factors that make up for what quantization took from the base, so that they are for the quantized base alone.
//!
//! Li et al. 2023 (arXiv:2310.08659). PEFT: `utils/loftq_utils.py`, `loftq_init`, puts in place of each weight what bitsandbytes makes of it, in NF4 with
//! blocks of 64. Of one iteration that is what `--base-as nf4` merges into; of more it is what the quantized weight without the factors' product at their start is, which no file holds.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::peft::config::bad_field;
use crate::adapters::peft::methods::lora::Loftq;
use crate::checkpoint::quantized::TensorRole;
use crate::model::outline::Target;

/// What PEFT's LoftQ makes of a weight in 4 bits: the encoding, and how many values share a magnitude. Of 8 bits bitsandbytes makes the same on a GPU alone.
const SEEN: (&str, u64) = ("nf4_in_training", 64);

/// Refuses an adapter of LoftQ that the base is not quantized for.
pub(crate) fn refuse_others(context: &ClaimContext<'_>, findings: &mut Findings<'_>) {
    let Some(loftq) = context.adapter.options.methods.lora.loftq else { return };
    let is_known = loftq == Loftq { bits: 4, iterations: 1 };
    if is_known && is_all_seen(context) {
        return;
    }
    let cure = if is_known {
        "merge into the base as LoftQ quantized it, with `--base-as nf4`"
    } else {
        "merge into the dequantized weights that LoftQ made, with `init_lora_weights` set to `true` in the adapter's config"
    };
    let why = "means that training ran on quantized weights, which the factors make up for";
    let (field, value) = Loftq::FIELD;
    findings.refuse(bad_field(&context.adapter.name, field, &value.into(), why).hint(cure));
}

/// Whether all weights that are adapted are read so.
fn is_all_seen(context: &ClaimContext<'_>) -> bool {
    let adapted = context.adapter.needed().filter(|tensor| !tensor.is_value());
    let mut targets = adapted.map(|tensor| context.lookup(tensor.owner(), "weight"));
    targets.all(|target| {
        let role = match target {
            Some(Target::Base(i)) => context.outline.weights.get(i),
            _ => None,
        };
        let Some(TensorRole::Quantized(weight)) = role else { return false };
        (weight.logical.encoding(), weight.logical.block().1) == SEEN
    })
}
