//! Claims: which of an adapter's tensors belong together and what they do, one file per PEFT method or way of storing it,
//! one row in [`CLAIMS`](claims::CLAIMS).
//!
//! A rule looks tensors up in a [`ClaimContext`] and writes what it finds out into [`Findings`]: ops that hold a delta of
//! [`crate::ops`], replacements, what is ignored, what is wrong. It does no arithmetic.

pub(crate) mod adalora;
pub(crate) mod added_weights;
pub(crate) mod base_part;
pub(crate) mod bdlora;
pub(crate) mod beft;
pub(crate) mod boft;
pub(crate) mod c3a;
pub(crate) mod claims;
pub(crate) mod context;
pub(crate) mod core_product;
pub(crate) mod deft;
pub(crate) mod delora;
pub(crate) mod dora;
pub(crate) mod duplicates;
pub(crate) mod edits;
pub(crate) mod expert_layout;
pub(crate) mod expert_stacks;
pub(crate) mod findings;
pub(crate) mod fourierft;
pub(crate) mod frod;
pub(crate) mod frozen_base;
pub(crate) mod full_weights;
pub(crate) mod generalized_lora;
pub(crate) mod glora_paths;
pub(crate) mod gralora;
pub(crate) mod hira;
pub(crate) mod hra;
pub(crate) mod ia3;
pub(crate) mod kasa;
pub(crate) mod layers;
pub(crate) mod ln_tuning;
pub(crate) mod locate;
pub(crate) mod loftq;
pub(crate) mod loha;
pub(crate) mod lokr;
pub(crate) mod lora;
pub(crate) mod lora_bias;
pub(crate) mod lycoris;
pub(crate) mod made_product;
pub(crate) mod miss;
pub(crate) mod oft;
pub(crate) mod osf;
pub(crate) mod output_rotation;
pub(crate) mod pair_op;
pub(crate) mod pairs;
pub(crate) mod peanut;
pub(crate) mod placing;
pub(crate) mod quantized_target;
pub(crate) mod randlora;
pub(crate) mod refusals;
pub(crate) mod road;
pub(crate) mod shared_factors;
pub(crate) mod shira;
pub(crate) mod sparse_entries;
pub(crate) mod spectrum;
pub(crate) mod supertuning;
pub(crate) mod target;
pub(crate) mod target_parameters;
pub(crate) mod tied_duplicates;
pub(crate) mod tinylora;
pub(crate) mod trainable_tokens;
pub(crate) mod unilora;
pub(crate) mod vblora;
pub(crate) mod vector_share;
pub(crate) mod vera;
pub(crate) mod waveft;

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
