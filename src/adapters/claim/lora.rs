//! LoRA: `W + s·(B·A)`, with `A [rank, in]` and `B [out, rank]`, on linear layers, embeddings and convolutions.
//!
//! Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1; `s = alpha/√rank`: Kalajdzievski 2023 (arXiv:2312.03732). PEFT:
//! `lora/layer.py`, `Linear.get_delta_weight`. The product and the sum run in f32 and the result is rounded once, as PEFT
//! does without `safe_merge`; sums differ from PEFT's in order only.
//!
//! Storage `[in, out]` (transformers' `Conv1D`) needs nothing of its own here: the placement swaps which factor runs along
//! rows. An embedding is such a layer, with tokens as inputs. A convolution's inputs and its kernel are one axis, as `B` has
//! a kernel of one (peft-methods.md 3.1).

use crate::adapters::claim::Claim;
use crate::adapters::claim::base_part;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::loftq;
use crate::adapters::claim::pair_op::resolve;
use crate::adapters::claim::pairs::take_pairs;
use crate::adapters::peft::config::{Field, Refused};

/// LoRA's product of two factors.
pub(crate) struct Lora;

/// Initialisations that leave the base as it was, or take out of it what is taken out again ([`base_part`]), or are looked at there ([`loftq`]).
const PLAIN_INIT: &[&str] = &["true", "gaussian", "orthogonal", "eva", "mica", "olora", "pissa", "loftq"];
const CONVERT: &str = "convert the adapter where it was trained: `save_pretrained(..., \
     path_initial_model_for_weight_conversion=...)` writes a plain LoRA for the base as it is";
const RESIDUAL: &str = "merge into the residual base that training made, with `init_lora_weights` set to `true` in the \
     adapter's config; or convert the adapter with PEFT's `path_initial_model_for_weight_conversion`";
const OTHER_INIT: &[Refused] = &[
    Refused {
        starts: "pissa_niter_",
        why: "takes the base's main part out of it, found by a randomised factorisation that nobody can repeat",
        cure: CONVERT,
    },
    Refused {
        starts: "corda",
        why: "takes part of the base out of it before training, by statistics that the adapter does not hold",
        cure: RESIDUAL,
    },
    Refused {
        starts: "lora_ga",
        why: "takes part of the base out of it before training, by gradients that the adapter does not hold",
        cure: RESIDUAL,
    },
];

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("lora_alpha", Field::Fine),
    ("use_rslora", Field::Flag),
    ("rank_pattern", Field::Fine),
    ("alpha_pattern", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("lora_bias", Field::Flag),
    ("bias", Field::Only(&["none", "all", "lora_only"], "is none of `none`, `all`, `lora_only`")),
    ("init_lora_weights", Field::Cured(PLAIN_INIT, OTHER_INIT)),
    ("use_dora", Field::Flag),
    ("trainable_token_indices", Field::Fine),
    ("ensure_weight_tying", Field::Flag),
    ("target_parameters", Field::Fine),
    (
        "layer_replication",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "gives copies of one layer factors of their own, where the base holds the layer once",
                cure: "write the base with its layers copied under their new numbers first, then merge with this field \
                       set to `null`",
            }],
        ),
    ),
    ("use_bdlora", Field::Fine),
    ("velora_config", Field::Fine),
    ("monteclora_config", Field::Fine),
    (
        "use_qalora",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "gives `lora_A` fewer columns than a base quantized with GPTQ, which PEFT cannot merge either",
                cure: "PEFT ignores this field on layers that are not quantized: if all were so, set it to `false`",
            }],
        ),
    ),
    (
        "arrow_config",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "routes each token to adapters of its own, which no merge can do",
                cure: "its experts are adapters by themselves: merge one at a time",
            }],
        ),
    ),
    (
        "alora_invocation_tokens",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "is active only after some tokens, which no merge can do",
                cure: "serve this adapter beside its base",
            }],
        ),
    ),
    ("qalora_group_size", Field::Fine),
    ("lora_dropout", Field::Fine),
    ("eva_config", Field::Fine),
    ("corda_config", Field::Fine),
    ("lora_ga_config", Field::Fine),
    ("loftq_config", Field::Fine),
    ("megatron_config", Field::Fine),
    ("megatron_core", Field::Fine),
    ("lora_B_layout", Field::Fine),
];

impl Claim for Lora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA", "LYCORIS"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for aid in &context.adapter.options.methods.lora.aids {
            let is_one = |path: &str| path.split('.').any(|segment| segment == aid.segment);
            findings.ignore_where(context, is_one, aid.rule);
        }
        base_part::refuse_others(context, findings);
        loftq::refuse_others(context, findings);
        for pair in take_pairs(context, findings) {
            let found = resolve(context, findings, &pair).and_then(|found| match found {
                Some(found) => base_part::with_part(context, &pair, found),
                None => Ok(None),
            });
            match found {
                Ok(Some((found, more))) => found.claim(findings, "lora", more),
                Ok(None) => {}
                Err(error) => findings.refuse(error),
            }
        }
    }
}
