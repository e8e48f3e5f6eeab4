//! VB-LoRA: `W + B·A`, of factors that are sums of vectors of one bank, on linear layers.
//!
//! Source: Li et al. 2024 (arXiv:2405.15179). PEFT: `vblora/layer.py`, `_get_lora_matrices` (peft-methods.md 4.6); there is no scale. Both factors are made first
//! ([`Mixed`]): softmax and sums in f64, rounded to f32 once.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::claim_modules;
use crate::adapters::claim::made_product::{DerivedProduct, axes, shared};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::mixed::Mixed;
use crate::ops::factor::Factor;
use crate::tensor::dtype::Dtype;

/// Factors that are mixed of a bank's vectors.
pub(crate) struct Vblora;

/// Logits, or numbers and weights, of both factors.
const TAILS: [Tail; 6] = [
    Tail::bare(".vblora_logits_A"),
    Tail::bare(".vblora_logits_B"),
    Tail::bare(".vblora_logits_A_topk_indices"),
    Tail::bare(".vblora_logits_B_topk_indices"),
    Tail::bare(".vblora_logits_A_topk_weights"),
    Tail::bare(".vblora_logits_B_topk_weights"),
];

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    // The bank tells both.
    ("num_vectors", Field::Fine),
    ("vector_length", Field::Fine),
    ("topk", Field::Fine),
    ("save_only_topk_weights", Field::Fine),
    ("vblora_dropout", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("bias", Field::Only(&["none", "all", "vblora_only"], "is none of `none`, `all`, `vblora_only`")),
    ("init_vector_bank_bound", Field::Fine),
    ("init_logits_std", Field::Fine),
];

const NO_BANK: (&str, &str) = (
    "the bank of vectors that it chooses from is not in the file",
    "save the adapter again, or get the whole file",
);

impl Claim for Vblora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["VBLORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_modules(context, findings, &TAILS, claim_module);
    }
}

/// The tensors of one factor: logits, or numbers and weights.
type Choice = (usize, Option<usize>);

/// Both factors' tensors; `None` if one is missing, which is recorded.
fn choices(findings: &mut Findings<'_>, module: &str, tensors: [Option<usize>; 6]) -> Option<[Choice; 2]> {
    match tensors {
        [Some(a), Some(b), None, None, None, None] => return Some([(a, None), (b, None)]),
        [None, None, Some(a), Some(b), Some(of_a), Some(of_b)] => {
            return Some([(a, Some(of_a)), (b, Some(of_b))]);
        }
        _ => {}
    }
    let first = tensors.iter().position(Option::is_some)?;
    let is_needed = |slot: &usize| (*slot < 2) == (first < 2) && tensors[*slot].is_none();
    match (0..6).find(is_needed) {
        Some(missing) => findings.lacks_partner(tensors[first]?, &TAILS[missing].key(module)),
        None => tensors
            .iter()
            .flatten()
            .for_each(|&i| findings.refuse_tensor(i, "logits and chosen weights exclude each other")),
    }
    None
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 6],
) -> Result<()> {
    let Some([a, b]) = choices(findings, module, tensors) else { return Ok(()) };
    let bank = shared(context, findings, ("vblora_vector_bank", a.0), NO_BANK)?;
    let [vectors, length] = axes(context, bank, "[vectors, length]")?;
    let top = context.adapter.number("topk")? as u64;
    let [rank, of_inputs] = groups(context, a, (vectors, top))?;
    let [of_outputs, b_rank] = groups(context, b, (vectors, top))?;
    if rank != b_rank {
        return Err(context.factor_shape(
            b.0,
            format!("rank {rank} on its second axis, as `{}` has", context.tensor(a.0).key),
        ));
    }
    let made = |choice: Choice, is_across: bool| {
        let [vectors, length, top] = [vectors, length, top].map(|size| size as usize);
        let recipe = Mixed { vectors, length, top, is_chosen: choice.1.is_some(), is_across }.into();
        let used = [Some(bank), Some(choice.0), choice.1];
        let sources = used.into_iter().flatten().map(|i| context.tensor(i).tensor.clone()).collect();
        Derivation { recipe, sources }
    };
    let (out, input) = (of_outputs * length, of_inputs * length);
    let factors = [
        Factor::derived(made(a, false), [rank, input], |a| Factor::along(1, a, 1, rank, input)),
        Factor::derived(made(b, true), [of_outputs, length * rank], |b| Factor::along(0, b, rank, rank, 1)),
    ];
    let used: Vec<usize> = [Some(a.0), Some(b.0), a.1, b.1, Some(bank)].into_iter().flatten().collect();
    let scale = context.adapter.weight_of(module);
    let product =
        DerivedProduct { method: "vblora", module, used: &used, size: (out, input), factors, scale };
    product.claim(context, findings)
}

/// The first two axes of a factor's choices, whose third must be what is chosen from or what was.
fn groups(context: &ClaimContext<'_>, (of, weights): Choice, (vectors, top): (u64, u64)) -> Result<[u64; 2]> {
    let [first, second, third] = axes(context, of, "three axes")?;
    let dtype = context.tensor(of).tensor.dtype;
    let (expected, is_typed) = match weights {
        None => (vectors, matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16)),
        Some(_) => (top, matches!(dtype, Dtype::U8 | Dtype::I16 | Dtype::I32 | Dtype::I64)),
    };
    if third != expected || top > vectors || !is_typed {
        let expected = format!(
            "[{first}, {second}, {expected}] by the bank of {vectors} vectors and `topk` {top}, and whole numbers if they are chosen"
        );
        return Err(context.factor_shape(of, expected));
    }
    if let Some(weights) = weights
        && context.tensor(weights).tensor.shape.axes() != [first, second, top - 1]
    {
        return Err(context.factor_shape(weights, format!("[{first}, {second}, {}]", top - 1)));
    }
    Ok([first, second])
}
