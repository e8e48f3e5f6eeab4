//! SHiRA: trained entries of a linear layer ([`Sparse`](crate::ops::sparse::Sparse)).
//!
//! Source: Bhardwaj et al. 2024 (arXiv:2406.13175). PEFT: `shira/layer.py`, `Linear.get_delta_weight` (peft-methods.md 8): `shira_weight [n]` at the rows
//! and columns of `shira_indices [2, n]`, which are whole numbers, or floats where a platform saves no others. Entries of one element are added up.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{LycorisLayer, claim_whole_modules, expect};
use crate::adapters::claim::sparse_entries::{SparseEntries, entry_count};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::entries::Entries;

/// Trained entries.
pub(crate) struct Shira;

const TAILS: [Tail; 2] = [Tail::bare(".shira_indices"), Tail::bare(".shira_weight")];

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    // Entries are chosen when training begins, and saved.
    ("mask_type", Field::Fine),
    ("random_seed", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("init_weights", Field::Fine),
];

impl Claim for Shira {
    fn peft_types(&self) -> &'static [&'static str] {
        &["SHIRA"]
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
    [indices, values]: [usize; 2],
) -> Result<()> {
    let used = [indices, values];
    let Some(layer) = LycorisLayer::find_linear(context, findings, module, &used, "PEFT's SHiRA")? else {
        return Ok(());
    };
    let count = entry_count(context, values)?;
    expect(context, indices, &[2, count], values)?;
    let recipe = Entries { width: None }.into();
    let size = layer.matrix();
    let entries = SparseEntries { recipe, sources: used.to_vec(), size };
    let op = entries.op(context, context.adapter.weight_of(module), false)?;
    layer.claim(context, findings, ("shira", module), &used, size, op)
}
