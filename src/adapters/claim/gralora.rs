//! GraLoRA: a low-rank product for every tile of the weight, and one for all of it, on linear layers.
//!
//! Source: Jung et al. 2025 (arXiv:2505.20355), equation 5. PEFT: `gralora/layer.py`, `get_delta_weight` (peft-methods.md 4.9); `s = alpha / (rank + hybrid)`. Of `k` blocks
//! of outputs and of inputs, the tile of output block `g` and input block `q` has the columns of `A[q]` that are `g`'s, and the rows of `B[g]` that
//! are `q`'s. So a module is `k²` products of [`LowRank`], each placed on its tile.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_modules, expect};
use crate::adapters::claim::made_product::axes;
use crate::adapters::claim::placing::{Product, orientation};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// A low-rank product for every tile.
pub(crate) struct Gralora;

const TAILS: [Tail; 4] = [
    Tail::bare(".gralora_A"),
    Tail::bare(".gralora_B"),
    Tail { role: ".gralora_A_general", ending: ".weight" },
    Tail { role: ".gralora_B_general", ending: ".weight" },
];

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("alpha", Field::Fine),
    // The shapes tell both.
    ("hybrid_r", Field::Fine),
    ("gralora_k", Field::Fine),
    ("gralora_dropout", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("bias", Field::Only(&["none", "all", "gralora_only"], "is none of `none`, `all`, `gralora_only`")),
    ("init_weights", Field::Fine),
];

impl Claim for Gralora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["GRALORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_modules(context, findings, &TAILS, claim_module);
    }
}

/// Sizes of a module's factors.
struct TileSizes {
    /// Blocks of outputs, and of inputs.
    count: u64,
    /// Inputs of a block.
    inputs: u64,
    /// Outputs of a block.
    outputs: u64,
    /// What `A` has for each input, and `B` for each output.
    rank: u64,
}

impl TileSizes {
    /// The product of one tile.
    fn op(&self, (a, b): (&Factor, &Factor), whole: &Placement, [g, q]: [u64; 2], scale: f32) -> Op {
        let inner = self.rank / self.count;
        let a_start = q * self.inputs * self.rank + g * inner;
        let b_start = (g * self.rank + q * inner) * self.outputs;
        let factors = [
            Factor::along(1, a.tensor.clone(), self.rank, inner, 1).starting(a_start),
            Factor::along(0, b.tensor.clone(), 1, inner, self.outputs).starting(b_start),
        ];
        let mut placement = whole.clone();
        for (axis, (block, size)) in placement.axes.iter_mut().zip([(g, self.outputs), (q, self.inputs)]) {
            axis.count = size;
            placement.start += block * size * axis.stride;
        }
        Op::new(LowRank::ADDED, placement, factors, scale)
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 4],
) -> Result<()> {
    let used: Vec<usize> = tensors.into_iter().flatten().collect();
    let [Some(a), Some(b), of_a, of_b] = tensors else {
        let missing = if tensors[0].is_none() { TAILS[0] } else { TAILS[1] };
        findings.lacks_partner(used[0], &missing.key(module));
        return Ok(());
    };
    if of_a.is_some() != of_b.is_some() {
        let missing = if of_a.is_none() { TAILS[2] } else { TAILS[3] };
        findings.lacks_partner(used[2], &missing.key(module));
        return Ok(());
    }
    let [count, inputs, rank] = axes(context, a, "[blocks, in/blocks, rank]")?;
    let [_, _, outputs] = axes(context, b, "[blocks, rank, out/blocks]")?;
    expect(context, b, &[count, rank, outputs], a)?;
    if rank % count != 0 {
        return Err(context.factor_shape(a, format!("a rank that its {count} blocks divide")));
    }
    let (out, input) = (outputs * count, inputs * count);
    let hybrid = match of_a.zip(of_b) {
        None => 0,
        Some((of_a, of_b)) => {
            let [hybrid, _] = axes(context, of_a, "[rank, in]")?;
            expect(context, of_a, &[hybrid, input], a)?;
            expect(context, of_b, &[out, hybrid], b)?;
            hybrid
        }
    };
    let Some(target) = context.target(findings, &used, module, "weight") else { return Ok(()) };
    let product = Product { out, input, a: context.tensor(a), b: context.tensor(b) };
    let is_transposed = orientation(context, findings, target, module, &product)?;
    let whole = Placement::matrix(out, input, is_transposed);
    let alpha = context.adapter.number("alpha")?;
    let scale = context.adapter.own_scale(module, "alpha", alpha / (rank + hybrid) as f64)? as f32;
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let tiles = TileSizes { count, inputs, outputs, rank };
    let (stored_a, stored_b) = (Factor::whole(tensor(a)), Factor::whole(tensor(b)));
    let all = (0..count).flat_map(|g| (0..count).map(move |q| [g, q]));
    let mut ops: Vec<Op> = all.map(|tile| tiles.op((&stored_a, &stored_b), &whole, tile, scale)).collect();
    if let Some((of_a, of_b)) = of_a.zip(of_b) {
        let factors = [
            Factor::along(1, tensor(of_a), 1, hybrid, input),
            Factor::along(0, tensor(of_b), hybrid, hybrid, 1),
        ];
        ops.push(Op::new(LowRank::ADDED, whole, factors, scale));
    }
    let keys = used.iter().map(|&i| context.tensor(i).key.clone());
    findings.claim(ClaimedModule::change("gralora", module, keys, target, ops));
    Ok(())
}
