//! Every rule that claims, and the order in which they do.

use crate::adapters::claim::Claim;
use crate::adapters::claim::adalora::AdaLora;
use crate::adapters::claim::added_weights::AddedWeights;
use crate::adapters::claim::bdlora::BdLora;
use crate::adapters::claim::beft::Beft;
use crate::adapters::claim::boft::Boft;
use crate::adapters::claim::c3a::C3a;
use crate::adapters::claim::core_product::CoreProduct;
use crate::adapters::claim::deft::Deft;
use crate::adapters::claim::delora::Delora;
use crate::adapters::claim::dora::DoraClaim;
use crate::adapters::claim::expert_stacks::ExpertStacks;
use crate::adapters::claim::fourierft::FourierFt;
use crate::adapters::claim::frod::Frod;
use crate::adapters::claim::frozen_base::FrozenBase;
use crate::adapters::claim::full_weights::FullWeights;
use crate::adapters::claim::generalized_lora::GeneralizedLora;
use crate::adapters::claim::glora_paths::GloraPaths;
use crate::adapters::claim::gralora::Gralora;
use crate::adapters::claim::hira::Hira;
use crate::adapters::claim::hra::Hra;
use crate::adapters::claim::ia3::Ia3;
use crate::adapters::claim::kasa::Kasa;
use crate::adapters::claim::ln_tuning::LnTuning;
use crate::adapters::claim::loha::Loha;
use crate::adapters::claim::lokr::Lokr;
use crate::adapters::claim::lora::Lora;
use crate::adapters::claim::lora_bias::LoraBias;
use crate::adapters::claim::miss::Miss;
use crate::adapters::claim::oft::Oft;
use crate::adapters::claim::osf::Osf;
use crate::adapters::claim::output_rotation::OutputRotation;
use crate::adapters::claim::peanut::Peanut;
use crate::adapters::claim::randlora::RandLora;
use crate::adapters::claim::road::Road;
use crate::adapters::claim::shared_factors::SharedFactors;
use crate::adapters::claim::shira::Shira;
use crate::adapters::claim::supertuning::Supertuning;
use crate::adapters::claim::target_parameters::TargetParameters;
use crate::adapters::claim::tied_duplicates::TiedDuplicates;
use crate::adapters::claim::tinylora::Tinylora;
use crate::adapters::claim::trainable_tokens::TrainableTokens;
use crate::adapters::claim::unilora::Unilora;
use crate::adapters::claim::vblora::Vblora;
use crate::adapters::claim::vector_share::VectorShare;
use crate::adapters::claim::vera::{Pvera, Vera};
use crate::adapters::claim::waveft::WaveFt;

/// Every rule, in the order in which they claim.
///
/// Several read one `peft_type`, and a tensor belongs to the first that takes it. So what training left as it was comes first; what is saved twice is ignored before
/// anybody takes it, and noted before others ask whether the head follows; what is told by more than the tails of its keys
/// comes before what takes all of these tails (shared factors, stacks and parameters, DoRA, BdLoRA and KaSA before LoRA); and last comes what takes
/// any key that names a base tensor outright. Rules of types that no other rule reads stand in any order between.
pub(crate) static CLAIMS: &[&dyn Claim] = &[
    &FrozenBase,
    &TiedDuplicates,
    &TrainableTokens,
    &SharedFactors,
    &ExpertStacks,
    &TargetParameters,
    &DoraClaim,
    &BdLora,
    &Kasa,
    &Lora,
    &LoraBias,
    &Ia3,
    &Hira,
    &AdaLora,
    &Vera,
    &Pvera,
    &RandLora,
    &Delora,
    &Vblora,
    &Unilora,
    &Tinylora,
    &Gralora,
    &GloraPaths,
    &Deft,
    &Peanut,
    &Oft,
    &Osf,
    &Frod,
    &Loha,
    &Lokr,
    &CoreProduct,
    &GeneralizedLora,
    &VectorShare,
    &OutputRotation,
    &AddedWeights,
    &Miss,
    &C3a,
    &Beft,
    &Shira,
    &Supertuning,
    &Hra,
    &Boft,
    &Road,
    &FourierFt,
    &WaveFt,
    &LnTuning,
    &FullWeights,
];

/// Whether a rule reads adapters of that type.
pub(crate) fn reads(claim: &dyn Claim, peft_type: &str) -> bool {
    claim.peft_types().is_empty() || claim.peft_types().contains(&peft_type)
}
