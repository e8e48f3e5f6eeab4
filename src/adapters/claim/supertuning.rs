//! Super-Tuning: trained entries of a linear layer ([`Sparse`](crate::ops::sparse::Sparse)), and beside them a product of two factors.
//!
//! PEFT: `supertuning/layer.py`, `Linear.get_delta_weight` (peft-methods.md 8): `supertuning_values [n]` at the elements `supertuning_indices [n]` of the weight, row
//! behind row; `supertuning_lora_A [r, in]` and `supertuning_lora_B [out, r]` times `lora_alpha / r`, where alpha is `2·r` if none is set.
//! Without the indices nobody can tell the elements: they are chosen among equal magnitudes in an order that no one keeps.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{LycorisLayer, claim_modules, expect, lacks_one, matrix};
use crate::adapters::claim::sparse_entries::{SparseEntries, entry_count};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Error;
use crate::error::Result;
use crate::error::claim::ClaimError;
use crate::ops::derived::entries::Entries;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// Trained entries and a product.
pub(crate) struct Supertuning;

const TAILS: [Tail; 4] = [
    Tail::bare(".supertuning_indices"),
    Tail::bare(".supertuning_values"),
    Tail { role: ".supertuning_lora_A", ending: ".weight" },
    Tail { role: ".supertuning_lora_B", ending: ".weight" },
];

/// Which elements were trained is saved, so that the first three choose nothing.
const FIELDS: &[(&str, Field)] = &[
    ("sparsity", Field::Fine),
    ("select_top", Field::Fine),
    ("save_precomputed_indices", Field::Fine),
    ("r", Field::Fine),
    ("lora_alpha", Field::Fine),
    ("lora_dropout", Field::Fine),
    ("init_weights", Field::Fine),
];

impl Claim for Supertuning {
    fn peft_types(&self) -> &'static [&'static str] {
        &["SUPERTUNING"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 4],
) -> Result<()> {
    let used: Vec<usize> = tensors.into_iter().flatten().collect();
    let (indices, values) = match tensors {
        [Some(indices), Some(values), _, _] => (indices, values),
        [None, Some(values), _, _] => return Err(without_indices(context, values)),
        [.., a, b] => {
            findings.lacks_partner(a.or(b).unwrap_or(used[0]), &TAILS[1].key(module));
            return Ok(());
        }
    };
    let Some(layer) = LycorisLayer::find_linear(context, findings, module, &used, "PEFT's Super-Tuning")?
    else {
        return Ok(());
    };
    let (out, input) = layer.matrix();
    let count = entry_count(context, values)?;
    expect(context, indices, &[count], values)?;
    let recipe = Entries { width: Some(input) }.into();
    let sources = vec![indices, values];
    let entries = SparseEntries { recipe, sources, size: (out, input) };
    let mut ops = vec![entries.op(context, context.adapter.weight_of(module), false)?];
    match [tensors[2], tensors[3]] {
        [Some(a), Some(b)] => ops.push(product(context, module, [a, b], (out, input))?),
        [None, None] => {}
        half => {
            lacks_one(findings, &[TAILS[2], TAILS[3]], module, &half);
            return Ok(());
        }
    }
    layer.claim_all(context, findings, ("supertuning", module), &used, (out, input), ops)
}

/// The refusal of entries whose places were not saved.
fn without_indices(context: &ClaimContext<'_>, values: usize) -> Error {
    let (adapter, key) = (context.adapter.name.clone(), context.tensor(values).key.to_string());
    let why = "which elements it is for was not saved, and the base does not tell it for sure";
    Error::new(ClaimError::Unclaimed { adapter, key, why }).hint(
        "load the adapter in PEFT onto the base that it was trained on, and save it with `save_precomputed_indices=True`",
    )
}

/// The op of the product beside the entries.
fn product(
    context: &ClaimContext<'_>,
    module: &str,
    [a, b]: [usize; 2],
    (out, input): (u64, u64),
) -> Result<Op> {
    let (rank, _) = matrix(context, a, "[r, in]")?;
    expect(context, a, &[rank, input], b)?;
    expect(context, b, &[out, rank], a)?;
    let alpha = context.adapter.number("lora_alpha")?;
    let alpha = if alpha.is_nan() { 2.0 * rank as f64 } else { alpha };
    let [a, b] = [a, b].map(|i| context.tensor(i).tensor.clone());
    let factors = [Factor::along(1, a, 1, rank, input), Factor::along(0, b, rank, rank, 1)];
    let scale = context.adapter.own_scale(module, "lora_alpha", alpha / rank as f64)?;
    Ok(Op::new(LowRank::ADDED, Placement::matrix(out, input, false), factors, scale as f32))
}
