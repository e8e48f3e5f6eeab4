//! Memory that a plan needs at the least: of every kind the largest amount that one of its tensors asks for, and that
//! tensor, so that a budget that is too small can be explained.

use crate::ops::access::Access;
use crate::ops::op::Op;
use crate::plan::out_tensor::Plan;

use crate::schedule::arithmetic::Arithmetic;
use crate::schedule::cut::{FEW_ROWS, MergedTensor};
use crate::schedule::reduces::Reduces;

/// A row that takes no more than this fits every tile buffer, as none is cut smaller but in tests.
const ANY_TILE: usize = 64 << 10;
/// Factors of more than this are not held at once where those of fewer rows are enough.
const MUCH: usize = 8 << 20;

/// An amount, and the tensor that asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand<'p> {
    /// How much.
    pub amount: usize,
    /// Name of the tensor; empty if none asks for any.
    pub of: &'p str,
}

impl Demand<'_> {
    /// The larger of both; of equal ones the first.
    fn or(self, other: Self) -> Self {
        if other.amount > self.amount { other } else { self }
    }
}

/// What a plan needs at the least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirement<'p> {
    /// Bytes of a tile buffer.
    pub tile: Demand<'p>,
    /// Bytes of a factor buffer.
    pub factors: Demand<'p>,
    /// Bytes of a factor buffer that lets every factor be read once.
    pub factors_once: usize,
    /// Bytes of a factor buffer beyond which more is of no use.
    pub factors_full: usize,
    /// The largest inner dimension of a product.
    pub rank: Demand<'p>,
    /// Bytes of the results of reductions before a tensor.
    pub reduction: Demand<'p>,
    /// Bytes of a stored row of every part that is read in runs which do not touch.
    pub gather_rows: Demand<'p>,
    /// Bytes that let every such part be read once.
    pub gather_full: Demand<'p>,
    /// Elements of a worker's block.
    pub block: Demand<'p>,
    /// Scratch buffers of a block's size for deltas.
    pub deltas: usize,
    /// Whether an output is of another type than what it starts from.
    pub casts: bool,
    /// The most that the ranks of the products on one element add up to.
    pub ranks: usize,
    /// The greatest rank of a product in a formula that is evaluated in f32; none if no formula is.
    pub singles: Option<usize>,
    /// The same for formulas that are evaluated in f64.
    pub doubles: Option<usize>,
}

impl<'p> Requirement<'p> {
    /// The least that runs every tensor of `plan`.
    pub(crate) fn of(plan: &'p Plan) -> Requirement<'p> {
        let all = plan.tensors().filter_map(MergedTensor::of).map(|merged| merged.requirement());
        all.fold(Requirement::default(), Requirement::or)
    }

    /// What is enough for both.
    fn or(self, other: Requirement<'p>) -> Requirement<'p> {
        Requirement {
            tile: self.tile.or(other.tile),
            factors: self.factors.or(other.factors),
            factors_once: self.factors_once.max(other.factors_once),
            factors_full: self.factors_full.max(other.factors_full),
            rank: self.rank.or(other.rank),
            reduction: self.reduction.or(other.reduction),
            gather_rows: self.gather_rows.or(other.gather_rows),
            gather_full: self.gather_full.or(other.gather_full),
            block: self.block.or(other.block),
            deltas: self.deltas.max(other.deltas),
            casts: self.casts || other.casts,
            ranks: self.ranks.max(other.ranks),
            singles: self.singles.max(other.singles),
            doubles: self.doubles.max(other.doubles),
        }
    }
}

impl<'p> MergedTensor<'p> {
    /// What it needs with all reductions before it.
    fn requirement(&self) -> Requirement<'p> {
        let reduces = |op: &Op| matches!(op.access(), Access::Reduction { .. });
        let reductions = (0..self.ops.len()).filter(|&i| reduces(&self.ops[i]));
        let start = (self.survey_len() > 0).then_some(Reduces::Start);
        let reductions = start.into_iter().chain(reductions.map(Reduces::Op));
        let reductions = reductions.map(|of| self.reduction(of).buffers());
        let buffers = reductions.fold(self.buffers(), Requirement::or);
        Requirement {
            reduction: self.demand(self.reduction_bytes()),
            gather_rows: self.demand(self.strided_parts().map(|part| part.row).sum()),
            gather_full: self.demand(self.strided_parts().map(|part| part.all).sum()),
            block: self.demand(self.block()),
            deltas: self.deltas(),
            casts: self.is_cast(),
            ranks: if let Arithmetic::Fused(_) = self.arithmetic() { self.ranks() } else { 0 },
            singles: self.formula_rank(16),
            doubles: self.formula_rank(32),
            ..buffers
        }
    }

    /// The greatest rank of its formulas' products, if it is merged by formulas to codes of so many bits.
    fn formula_rank(&self, width: u32) -> Option<usize> {
        let Arithmetic::Formulas(format) = self.arithmetic() else { return None };
        let ranks = self.ops.iter().map(|op| op.delta().inner_dimension(&op.factors) as usize);
        (format.width == width).then(|| ranks.max().unwrap_or(0).max(1))
    }

    /// What its tiles need of the pool, and what lets them read their factors once.
    fn buffers(&self) -> Requirement<'p> {
        let ((rows, cols), spans) = (self.least(), self.spans());
        let once = spans.shared_bytes(rows, self.view.cols);
        let least = if self.view.rows <= FEW_ROWS { spans.shared_bytes(rows, cols).min(once) } else { once };
        let rank = self.ops.iter().map(|op| op.delta().inner_dimension(&op.factors)).max().unwrap_or(0);
        Requirement {
            tile: self.demand(self.value_bytes(rows, cols) + spans.own_bytes(rows)),
            factors: self.demand(least),
            factors_once: if self.view.rows > 1 { once } else { least },
            factors_full: spans.all_shared_bytes(self.view.cols).min(MUCH).max(once),
            rank: self.demand(rank as usize),
            ..Requirement::default()
        }
    }

    fn demand(&self, amount: usize) -> Demand<'p> {
        Demand { amount, of: &self.tensor.name }
    }

    /// Bytes of the results of its reductions, for those that cannot be made in a tile under every budget.
    fn reduction_bytes(&self) -> usize {
        let row = self.value_bytes(1.min(self.view.rows), self.view.cols) + self.spans().own_bytes(1);
        let of = |op: &Op| match op.access() {
            Access::Reduction { .. } if row <= ANY_TILE && self.reduces_in_rows(op) => 0,
            Access::Reduction { axis, values } => {
                op.placement.axes[axis].count as usize * values * size_of::<f64>()
            }
            _ => 0,
        };
        self.survey_len() * size_of::<f64>() + self.ops.iter().map(of).sum::<usize>()
    }

    /// Elements of the blocks that a worker has in f32 at a time.
    fn block(&self) -> usize {
        let (rows, cols) = self.quantum();
        let width = if self.need() == Access::Elements { cols.min(self.view.cols) } else { self.view.cols };
        (BLOCK_ROWS * BLOCK_COLS).max((rows * width) as usize)
    }

    /// Scratch buffers of a block's size that deltas need: those of one op, and one for every other that may fall on the
    /// same elements.
    fn deltas(&self) -> usize {
        let own = self.ops.iter().map(|op| op.delta().scratch_buffers()).max().unwrap_or(0);
        // Where a block may meet several, the sum of all is kept too.
        own + if self.ops.len() > 1 { self.layers() } else { 0 }
    }

    /// Whether the output is another type than what it starts from.
    fn is_cast(&self) -> bool {
        *self.tensor.encoding != *self.start.encoding()
    }

    /// An upper bound of what the ranks of the products on one element add up to, by where ops begin and end.
    fn ranks(&self) -> usize {
        let rank = |op: &Op| op.delta().product().map_or(0, |[a, _]| op.factors[a].inner as i64);
        let sides = |op: &Op| [(op.placement.start, rank(op)), (op.placement.end(), -rank(op))];
        let mut ends: Vec<(u64, i64)> = self.ops.iter().flat_map(sides).collect();
        ends.sort_unstable();
        let (mut now, mut most) = (0, 0);
        for (_, step) in ends {
            now += step;
            most = most.max(now);
        }
        most as usize
    }

    /// An upper bound of how many ops fall on one element: as many as there are claims, as the ops of one claim lie side by
    /// side, and as many as have an element both before and behind one place.
    fn layers(&self) -> usize {
        let mut claims: Vec<u32> = self.ops.iter().map(|op| op.claim.0).collect();
        claims.dedup();
        if claims.len() < 2 {
            return claims.len();
        }
        let mut ends: Vec<(u64, i32)> =
            self.ops.iter().flat_map(|op| [(op.placement.start, 1), (op.placement.end(), -1)]).collect();
        ends.sort_unstable();
        let (mut now, mut most) = (0, 0);
        for (_, step) in ends {
            now += step;
            most = most.max(now);
        }
        claims.len().min(most as usize)
    }
}

/// Rows of the block a worker has in f32 at a time. The right-hand factor is packed again for each, so that fewer rows
/// cost time: 16 rows take twice as long as 128 at rank 64.
pub(crate) const BLOCK_ROWS: usize = 128;

/// Columns of that block: with it, values and delta of a block stay in the second-level cache.
pub(crate) const BLOCK_COLS: usize = 512;
