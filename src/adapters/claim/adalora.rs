//! AdaLoRA: `W + s·B·diag(E)·A`, a low-rank product with a diagonal between its factors, on linear layers and convolutions.
//!
//! Source: Zhang et al. 2023 (arXiv:2303.10512), equation 3. PEFT: `adalora/layer.py`, `SVDLinear.get_delta_weight`
//! (peft-methods.md 4.1): `s = alpha / (init_r + 1e-5)`, whatever rank pruning has left. The rows of `A` times their values of `E` are made first,
//! and rounded to f32, as PEFT does; behind that it is LoRA's product.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_whole_modules, expect};
use crate::adapters::claim::made_product::DerivedProduct;
use crate::adapters::claim::placing::{factor_b, matrix};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::scaled_rows::ScaledRows;
use crate::ops::factor::Factor;

/// A low-rank product with a diagonal.
pub(crate) struct AdaLora;

const TAILS: [Tail; 3] = [Tail::bare(".lora_A"), Tail::bare(".lora_B"), Tail::bare(".lora_E")];

/// Options of LoRA that PEFT refuses or leaves unused in this method.
const UNUSED: &str = "is an option of LoRA that PEFT's AdaLoRA does not have";

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("lora_alpha", Field::Fine),
    ("init_r", Field::Fine),
    ("target_r", Field::Fine),
    ("tinit", Field::Fine),
    ("tfinal", Field::Fine),
    ("deltaT", Field::Fine),
    ("beta1", Field::Fine),
    ("beta2", Field::Fine),
    ("orth_reg_weight", Field::Fine),
    ("total_step", Field::Fine),
    // Which ranks were pruned: the file has those that are left.
    ("rank_pattern", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("bias", Field::Only(&["none", "all", "lora_only"], "is none of `none`, `all`, `lora_only`")),
    ("init_lora_weights", Field::Only(&["true"], UNUSED)),
    ("lora_dropout", Field::Fine),
    ("use_dora", Field::Only(&[], UNUSED)),
    ("use_rslora", Field::Only(&[], UNUSED)),
    ("alpha_pattern", Field::Only(&[], UNUSED)),
    ("trainable_token_indices", Field::Only(&[], UNUSED)),
    ("ensure_weight_tying", Field::Only(&[], UNUSED)),
    ("target_parameters", Field::Only(&[], UNUSED)),
    ("layer_replication", Field::Only(&[], UNUSED)),
    ("lora_bias", Field::Only(&[], UNUSED)),
    ("use_bdlora", Field::Only(&[], UNUSED)),
    ("velora_config", Field::Only(&[], UNUSED)),
    ("monteclora_config", Field::Only(&[], UNUSED)),
    ("kasa_config", Field::Only(&[], UNUSED)),
    ("arrow_config", Field::Only(&[], UNUSED)),
    ("use_qalora", Field::Only(&[], UNUSED)),
    ("alora_invocation_tokens", Field::Only(&[], UNUSED)),
    ("qalora_group_size", Field::Fine),
    ("eva_config", Field::Only(&[], UNUSED)),
    ("corda_config", Field::Only(&[], UNUSED)),
    ("lora_ga_config", Field::Only(&[], UNUSED)),
    ("loftq_config", Field::Only(&[], UNUSED)),
    ("megatron_config", Field::Only(&[], UNUSED)),
    ("megatron_core", Field::Fine),
];

impl Claim for AdaLora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["ADALORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_whole_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [a, b, e]: [usize; 3],
) -> Result<()> {
    let (rank, input) = matrix(context, a, "[rank, in], both above zero")?;
    let (out, _) = factor_b(context, b)?;
    expect(context, b, &[out, rank], a)?;
    expect(context, e, &[rank, 1], a)?;
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let made = Derivation { recipe: ScaledRows.into(), sources: vec![tensor(a), tensor(e)] };
    let along_in = Factor::derived(made, [rank, input], |a| Factor::along(1, a, 1, rank, input));
    let factors = [along_in, Factor::along(0, tensor(b), rank, rank, 1)];
    let scale = scale(context, module)?;
    let product =
        DerivedProduct { method: "adalora", module, used: &[a, b, e], size: (out, input), factors, scale };
    product.claim(context, findings)
}

/// PEFT divides by the rank that training began with, and a little.
fn scale(context: &ClaimContext<'_>, module: &str) -> Result<f64> {
    let (alpha, rank) = (context.adapter.number("lora_alpha")?, context.adapter.number("init_r")?);
    let alpha = if alpha > 0.0 { alpha } else { rank };
    context.adapter.own_scale(module, "lora_alpha", alpha / (rank + 1e-5))
}
