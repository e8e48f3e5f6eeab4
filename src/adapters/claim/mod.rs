//! Claims: which of an adapter's tensors belong together and what they do, one file per PEFT method or way of storing it,
//! one row in [`CLAIMS`].
//!
//! A rule looks tensors up in a [`ClaimContext`] and writes what it finds out into [`Findings`]: ops that hold a delta of
//! [`crate::ops`], replacements, what is ignored, what is wrong. It does no arithmetic.

pub(crate) mod bdlora;
pub(crate) mod context;
pub(crate) mod dora;
pub(crate) mod duplicates;
pub(crate) mod edits;
pub(crate) mod expert_layout;
pub(crate) mod expert_stacks;
pub(crate) mod findings;
pub(crate) mod full_weights;
pub(crate) mod hira;
pub(crate) mod ia3;
pub(crate) mod layers;
pub(crate) mod ln_tuning;
pub(crate) mod locate;
pub(crate) mod loha;
pub(crate) mod lokr;
pub(crate) mod lora;
pub(crate) mod lora_bias;
pub(crate) mod lycoris;
pub(crate) mod oft;
pub(crate) mod pairs;
pub(crate) mod placing;
pub(crate) mod quantized_target;
pub(crate) mod refusals;
pub(crate) mod target;
pub(crate) mod target_parameters;
pub(crate) mod tied_duplicates;
pub(crate) mod trainable_tokens;

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::peft::config::Field;

/// A rule that claims tensors of an adapter.
pub(crate) trait Claim: Sync {
    /// The `peft_type`s whose adapters it reads; empty if it reads any.
    fn peft_types(&self) -> &'static [&'static str];

    /// The fields of `adapter_config.json` that it honours, or knows to have no effect; all others are refused.
    fn fields(&self) -> &'static [(&'static str, Field)] {
        &[]
    }

    /// Claims the adapter's tensors that belong to it. What is wrong with them goes into `findings`, all of it.
    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>);
}

/// Every rule, in the order in which they claim.
///
/// Several read one `peft_type`, and a tensor belongs to the first that takes it. So what is saved twice is ignored before
/// anybody takes it, and noted before others ask whether the head follows; what is told by more than the tails of its keys
/// comes before what takes all of these tails (stacks and parameters, DoRA and BdLoRA before LoRA); and last comes what takes
/// any key that names a base tensor outright. Rules of types that no other rule reads stand in any order between.
pub(crate) static CLAIMS: &[&dyn Claim] = &[
    &tied_duplicates::TiedDuplicates,
    &trainable_tokens::TrainableTokens,
    &expert_stacks::ExpertStacks,
    &target_parameters::TargetParameters,
    &dora::Dora,
    &bdlora::BdLora,
    &lora::Lora,
    &lora_bias::LoraBias,
    &ia3::Ia3,
    &hira::Hira,
    &oft::Oft,
    &loha::Loha,
    &lokr::Lokr,
    &ln_tuning::LnTuning,
    &full_weights::FullWeights,
];

/// Whether a rule reads adapters of that type.
pub(crate) fn reads(claim: &dyn Claim, peft_type: &str) -> bool {
    claim.peft_types().is_empty() || claim.peft_types().contains(&peft_type)
}
