//! BdLoRA: LoRA with one factor block-diagonal, of which only the blocks are stored, one below another.
//!
//! Source: Wang et al. 2025 (arXiv:2510.23346). PEFT: `lora/variants.py`, `BlockDiagonalLinear` and
//! `BdLoraLinearVariant`. With `n` blocks, `A` is stored as `[rank, in/n]`, or `B` as `[out, rank/n]`. Block `i` of `A` meets
//! its own columns of the weight and columns `i·rank/n..` of `B`; block `i` of `B` meets its own rows and rows `i·rank/n..` of
//! `A`. So each block is a low-rank delta on part of the weight (peft-methods.md 3.9).

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::pairs::{A, B, Pair, take_tails};
use crate::adapters::claim::placing::{Product, factor_b, matrix, orientation};
use crate::adapters::peft::methods::bdlora::{BlockOptions, FIELD};
use crate::error::adapter::AdapterError;
use crate::error::{Error, Result};
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::{Axis, Placement};

/// LoRA whose `A` or `B` is block-diagonal.
pub(crate) struct BdLora;

impl Claim for BdLora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let adapter = context.adapter;
        let blocks = match &adapter.options.methods.bdlora {
            Ok(Some(blocks)) => blocks,
            Ok(None) => return,
            Err(problem) => return findings.refuse(problem.refused(&adapter.name)),
        };
        let is_one = |module: &str| blocks.of_a(module) || blocks.of_b(module);
        for pair in take_tails(context, findings, A, B, false, is_one) {
            if let Err(error) = claim_module(context, findings, blocks, &pair) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    blocks: &BlockOptions,
    pair: &Pair<'_>,
) -> Result<()> {
    let Some(target) = context.target(findings, &[pair.a, pair.b], &pair.module, "weight") else {
        return Ok(());
    };
    if blocks.of_a(&pair.module) && blocks.of_b(&pair.module) {
        let (adapter, module) = (context.adapter.name.clone(), pair.module.to_string());
        let value = blocks.shown.clone();
        return Err(AdapterError::BlocksInBoth { adapter, field: FIELD, value, module }.into());
    }
    let is_of_a = blocks.of_a(&pair.module);
    let count = blocks.count;
    let (a_rows, a_cols) = matrix(context, pair.a, "[rank, in], both above zero")?;
    let (out, b_cols) = factor_b(context, pair.b)?;
    // What both would be with the zeros around the blocks.
    let (rank, input, b_rank) = if is_of_a {
        (a_rows, a_cols.saturating_mul(count), b_cols)
    } else {
        (a_rows, a_cols, b_cols.saturating_mul(count))
    };
    check_shapes(context, pair, (is_of_a, count), (rank, b_rank, out))?;
    let (a, b) = (context.tensor(pair.a).clone(), context.tensor(pair.b).clone());
    let product = Product { out, input, a: &a, b: &b };
    let is_transposed = orientation(context, findings, target, &pair.module, &product)
        .map_err(|error| with_blocks(error, is_of_a, count))?;
    let scale = context.adapter.scale(&pair.module, Some(rank))? as f32;
    let of_block = rank / count;
    let ops = (0..count).map(|i| {
        let from = i * of_block;
        // Elements of the stored factors that come before the block's.
        let b_start = if is_of_a { from } else { i * (out / count) * b_cols };
        let factors = vec![
            Factor::along(1, a.tensor.clone(), 1, of_block, a_cols).starting(from * a_cols),
            Factor::along(0, b.tensor.clone(), b_cols, of_block, 1).starting(b_start),
        ];
        let whole = Placement::matrix(out, input, is_transposed);
        let placement = part(whole, if is_of_a { 1 } else { 0 }, i, count);
        Op::new(LowRank::ADDED, placement, factors, scale)
    });
    findings.claim(ClaimedModule::change("bdlora", &*pair.module, [a.key, b.key], target, ops.collect()));
    Ok(())
}

/// Part `i` of `count` equal parts of a placement, along one of its axes.
fn part(whole: Placement, axis: usize, i: u64, count: u64) -> Placement {
    let Placement { start, mut axes } = whole;
    let Axis { count: positions, stride } = axes[axis];
    axes[axis].count = positions / count;
    Placement { start: start + i * (positions / count) * stride, axes }
}

/// Both ranks must be one, and what has blocks must part evenly into them.
fn check_shapes(
    context: &ClaimContext<'_>,
    pair: &Pair<'_>,
    (is_of_a, count): (bool, u64),
    (rank, b_rank, out): (u64, u64, u64),
) -> Result<()> {
    if rank == b_rank && rank.is_multiple_of(count) && (is_of_a || out.is_multiple_of(count)) {
        return Ok(());
    }
    if is_of_a {
        let expected = format!("[{b_rank}, in/{count}], the {count} blocks of a rank that they divide");
        return Err(context.factor_shape(pair.a, expected));
    }
    let expected = format!("[out, {rank}/{count}], {count} blocks that divide both axes");
    Err(context.factor_shape(pair.b, expected))
}

fn with_blocks(error: Error, is_of_a: bool, count: u64) -> Error {
    let factor = if is_of_a { "`A`" } else { "`B`" };
    error.hint(format!(
        "`{FIELD}` says that {factor} has {count} blocks of its own rows and columns: is that this adapter's?"
    ))
}
