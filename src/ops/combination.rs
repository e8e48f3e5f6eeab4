//! What the products that several adapters add to one tensor become together, beside their plain sum.
//!
//! PEFT's `add_weighted_adapter` makes one LoRA of several, and works on `A` and `B` apart, which is not the deltas' combination; here
//! deltas are combined, each times its own scale and weight, whatever their ranks are.

use smallvec::smallvec;

use crate::ops::DeltaKind;
use crate::ops::derived::Derivation;
use crate::ops::derived::truncated::{ScaledProduct, Truncated};
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::sampled::Sampled;

/// How the deltas of several adapters are combined.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Combination {
    /// Their sum, as it is.
    Sum,
    /// The sum of those of each module, cut to its largest singular values.
    Truncated {
        /// How many are left.
        rank: u64,
    },
    /// The sum of random parts of each.
    Sampled {
        /// The share that is kept, above 0 and no more than 1, and that it is divided by.
        density: f64,
        /// What tells one draw from another.
        seed: u64,
    },
}

/// Why an op cannot be combined with others.
pub(crate) type Uncombined = &'static str;

impl Combination {
    /// What a plan says of it; none for the sum, which is what is made without one.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Combination::Sum => None,
            Combination::Truncated { rank } => {
                Some(format!("deltas are combined by svd: the sum of each module's is cut to rank {rank}"))
            }
            Combination::Sampled { density, seed } => {
                Some(format!("deltas are combined by dare_linear, with density {density} and seed {seed}"))
            }
        }
    }

    /// What ops of one placement become. `key` gives a number for the op of that position in the list, which no other has.
    ///
    /// # Errors
    /// The position of an op that cannot be combined, and why.
    pub(crate) fn combined(
        &self,
        mut ops: Vec<Op>,
        key: &dyn Fn(usize, u64) -> u64,
    ) -> Result<Vec<Op>, (usize, Uncombined)> {
        match *self {
            Combination::Sum => Ok(ops),
            Combination::Sampled { density, seed } if density < 1.0 => {
                for (i, op) in ops.iter_mut().enumerate() {
                    let width = op.placement.axes.get(1).map_or(1, |axis| axis.count);
                    let below = (density * 2f64.powi(64)) as u64;
                    op.kind = Sampled { key: key(i, seed), below, width }.into();
                    op.scale = (f64::from(op.scale) / density) as f32;
                }
                Ok(ops)
            }
            Combination::Sampled { .. } => Ok(ops),
            Combination::Truncated { rank } => truncated(ops, rank),
        }
    }
}

/// Ops of one placement as one of that rank, unless their ranks together are no higher.
fn truncated(mut ops: Vec<Op>, rank: u64) -> Result<Vec<Op>, (usize, Uncombined)> {
    let ranks = ops.iter().filter_map(Op::rank).fold(0u64, u64::saturating_add);
    let Some(first) = ops.first().filter(|_| ranks > rank) else { return Ok(ops) };
    let sizes = first.placement.axes.iter().map(|axis| axis.count);
    let rank = sizes.fold(rank, u64::min);
    let mut terms = Vec::with_capacity(ops.len());
    for (i, op) in ops.iter().enumerate() {
        terms.push(term(op).ok_or((i, "its factors are a part of stored tensors, or are made of others"))?);
    }
    let of_side = |side: usize| ops.iter().map(move |op| op.factors[side].tensor.clone());
    let sources: Vec<_> = of_side(0).chain(of_side(1)).collect();
    let made = |is_output: bool| Derivation {
        recipe: Truncated { terms: terms.clone(), rank: rank as usize, is_output }.into(),
        sources: sources.clone(),
    };
    let axis = |side: usize| first.factors[side].index().map_or(1 - side, |index| index.axis);
    let (of_a, of_b) = (axis(0), axis(1));
    let [input, out] = [of_a, of_b].map(|axis| first.placement.axes[axis].count);
    let factors = smallvec![
        Factor::derived(made(false), [rank, input], |a| Factor::along(of_a, a, 1, rank, input)),
        Factor::derived(made(true), [out, rank], |b| Factor::along(of_b, b, rank, rank, 1)),
    ];
    ops.truncate(1);
    ops[0].factors = factors;
    ops[0].scale = 1.0;
    Ok(ops)
}

/// A product as a recipe takes it, if its factors are all of their tensors.
fn term(op: &Op) -> Option<ScaledProduct> {
    let mut by_position = [false; 2];
    for (factor, by_position) in op.factors.iter().zip(&mut by_position) {
        let index = factor.index()?;
        let count = op.placement.axes.get(index.axis)?.count;
        let is_whole =
            factor.start == 0 && factor.tensor.shape.elements() == factor.inner.checked_mul(count)?;
        let by_rank = index.stride == 1 && (factor.inner_stride == count || factor.inner == 1);
        *by_position = index.stride == factor.inner && factor.inner_stride == 1 && !by_rank;
        if factor.derivation.is_some() || !is_whole || !(by_rank || *by_position) {
            return None;
        }
    }
    Some(ScaledProduct { scale: op.scale.to_bits(), rank: op.factors.first()?.inner as usize, by_position })
}

/// Whether an op adds a product of two factors, and nothing else.
pub(crate) fn is_product(op: &Op) -> bool {
    op.kind == DeltaKind::from(LowRank::ADDED)
}
