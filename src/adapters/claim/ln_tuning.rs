//! LN tuning: norms that were trained whole, of which every parameter stands in place of the base's.
//!
//! Source: Zhao et al. 2023 (arXiv:2312.11420). PEFT: `ln_tuning/layer.py`, `LNTuningLayer.merge`, which puts the trained
//! copy of a layer in its place, weight and bias. There is nothing to scale, and PEFT refuses several adapters at once.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::full_weights::put_in_place;
use crate::adapters::parts::Tail;

/// Norms in place of norms.
pub(crate) struct LnTuning;

/// Every parameter that a norm may have.
const PARAMETERS: [(&str, Tail); 2] = [
    ("weight", Tail { role: ".ln_tuning_layers", ending: ".weight" }),
    ("bias", Tail { role: ".ln_tuning_layers", ending: ".bias" }),
];

impl Claim for LnTuning {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LN_TUNING"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for (parameter, tail) in PARAMETERS {
            for (module, tensor) in findings.take(context, tail) {
                let claimed = put_in_place(context, findings, "ln_tuning", (module, parameter), tensor);
                if let Err(error) = claimed {
                    findings.refuse(error);
                }
            }
        }
    }
}
