//! What the products that several adapters add to one tensor become together, beside their plain sum.
//!
//! PEFT's `add_weighted_adapter` makes one LoRA of several, and works on `A` and `B` apart, which is not the deltas' combination; here
//! deltas are combined, each times its own scale and weight, whatever their ranks are.

use smallvec::smallvec;

use crate::ops::DeltaKind;
use crate::ops::derived::Derivation;
use crate::ops::derived::threshold::Threshold;
use crate::ops::derived::truncated::{ScaledProduct, Truncated};
use crate::ops::elected::{Elected, ElectedTerm, Kept};
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::sampled::{Draw, Sampled};

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
    /// The sum of the largest parts of each, or the mean of parts that agree.
    Elected {
        /// The share that is kept of each, above 0 and no more than 1.
        density: f64,
        /// What tells one draw from another, where a random part is kept, and divided by the share; else the largest one is.
        seed: Option<u64>,
        /// Whether those against the sign of the majority are left out, and the others' mean is taken.
        by_majority: bool,
    },
}

/// What is known of ops that are combined beside themselves.
pub(crate) struct Members<'m> {
    /// By a seed, a number for the op of that position in the list, which no other has.
    pub(crate) key: &'m dyn Fn(usize, u64) -> u64,
    /// The weight that the user gave each, which is in its scale.
    pub(crate) weights: &'m [f64],
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
            Combination::Elected { density, seed: Some(seed), .. } => {
                Some(format!("deltas are combined by dare_ties, with density {density} and seed {seed}"))
            }
            Combination::Elected { density, seed: None, by_majority } => {
                let name = if *by_majority { "ties" } else { "magnitude_prune" };
                Some(format!("deltas are combined by {name}, with density {density}"))
            }
        }
    }

    /// What ops of one placement become.
    ///
    /// # Errors
    /// The position of an op that cannot be combined, and why.
    pub(crate) fn combined(
        &self,
        mut ops: Vec<Op>,
        members: &Members<'_>,
    ) -> Result<Vec<Op>, (usize, Uncombined)> {
        match *self {
            Combination::Sum => Ok(ops),
            Combination::Sampled { density, seed } if density < 1.0 => {
                for (i, op) in ops.iter_mut().enumerate() {
                    op.kind = Sampled { draw: draw(op, density, (members.key)(i, seed)) }.into();
                    op.scale = (f64::from(op.scale) / density) as f32;
                }
                Ok(ops)
            }
            Combination::Sampled { .. } => Ok(ops),
            Combination::Truncated { rank } => truncated(ops, rank),
            Combination::Elected { density, seed, by_majority } if by_majority || density < 1.0 => {
                let keeping = Keeping { density, seed };
                elected(ops, &keeping, members, by_majority)
            }
            Combination::Elected { .. } => Ok(ops),
        }
    }
}

/// What is kept of each delta.
struct Keeping {
    density: f64,
    /// That of a draw, if it is drawn.
    seed: Option<u64>,
}

/// A random part of an op's delta.
fn draw(op: &Op, density: f64, key: u64) -> Draw {
    let width = op.placement.axes.get(1).map_or(1, |axis| axis.count);
    Draw { key, below: (density * 2f64.powi(64)) as u64, width }
}

/// Ops of one placement as one. Those of weight 0 have no vote, and stay as they are.
fn elected(
    ops: Vec<Op>,
    keeping: &Keeping,
    members: &Members<'_>,
    by_majority: bool,
) -> Result<Vec<Op>, (usize, Uncombined)> {
    let (mut terms, mut factors, mut thresholds) = (Vec::new(), smallvec![], Vec::new());
    let (mut whole, mut others) = (None, Vec::new());
    for (i, op) in ops.into_iter().enumerate() {
        let weight = members.weights[i];
        if weight == 0.0 {
            others.push(op);
            continue;
        }
        let kept = keeping.of(&op, members, i);
        if kept == Kept::Largest {
            thresholds.push(threshold(&op, keeping.density).ok_or((i, NOT_WHOLE))?);
        }
        let share = if matches!(kept, Kept::Drawn(_)) { keeping.density } else { 1.0 };
        let scale = f64::from(op.scale) / share;
        terms.push(ElectedTerm { vote: (scale / weight) as f32, scale: scale as f32, kept });
        factors.extend(op.factors.iter().cloned());
        whole.get_or_insert(op);
    }
    let Some(first) = whole else { return Ok(others) };
    factors.extend(thresholds);
    let op = Op { kind: Elected { terms, by_majority }.into(), factors, scale: 1.0, ..first };
    others.insert(0, op);
    Ok(others)
}

impl Keeping {
    /// What is kept of the op of that position in the list.
    fn of(&self, op: &Op, members: &Members<'_>, i: usize) -> Kept {
        match self.seed {
            _ if self.density >= 1.0 => Kept::All,
            Some(seed) => Kept::Drawn(draw(op, self.density, (members.key)(i, seed))),
            None => Kept::Largest,
        }
    }
}

/// The factor that holds the threshold of an op's largest elements, if its factors are all of their tensors.
fn threshold(op: &Op, density: f64) -> Option<Factor> {
    let ScaledProduct { rank, by_position, .. } = term(op)?;
    let kept = (density * op.placement.elements() as f64) as u64;
    let sources = op.factors.iter().map(|factor| factor.tensor.clone()).collect();
    let derivation = Derivation { recipe: Threshold { rank, by_position, kept }.into(), sources };
    Some(Factor::derived(derivation, [1, 1], Factor::whole))
}

/// Why the values of a product cannot be gone through before the run.
const NOT_WHOLE: &str = "its factors are a part of stored tensors, or are made of others";

/// Ops of one placement as one of that rank, unless their ranks together are no higher.
fn truncated(mut ops: Vec<Op>, rank: u64) -> Result<Vec<Op>, (usize, Uncombined)> {
    let ranks = ops.iter().filter_map(Op::rank).fold(0u64, u64::saturating_add);
    let Some(first) = ops.first().filter(|_| ranks > rank) else { return Ok(ops) };
    let sizes = first.placement.axes.iter().map(|axis| axis.count);
    let rank = sizes.fold(rank, u64::min);
    let mut terms = Vec::with_capacity(ops.len());
    for (i, op) in ops.iter().enumerate() {
        terms.push(term(op).ok_or((i, NOT_WHOLE))?);
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
