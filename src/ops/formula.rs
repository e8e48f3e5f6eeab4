//! Formulas of deltas that are sums and products of stored values, and so have one right result: each is written once, over
//! any [`Number`], and evaluated for neighbours along a row in f64 with a bound, then for what that leaves open.

use crate::kernels::dispatch::Kernels;
use crate::kernels::exact::Number;
use crate::kernels::exact::ball::Ball;
use crate::kernels::exact::dyadic::Dyadic;
use crate::kernels::exact::lanes::{Lanes, WIDE};
use crate::kernels::task::CpuTask;
use crate::ops::block::FactorView;
use crate::ops::placement::Window;

/// Neighbouring elements of a row of a window: what a formula may ask for there.
pub(crate) struct Spot<'b> {
    /// The part of the delta that falls on a block.
    pub(crate) window: &'b Window,
    /// The op's factors, as far as the block needs them.
    pub(crate) factors: &'b [FactorView<'b>],
    /// What the delta is multiplied by.
    pub(crate) scale: f32,
    /// What the tensor started from, from the first element on.
    pub(crate) original: &'b [f32],
    /// The row of the window.
    pub(crate) row: usize,
    /// The first column of the window, and how many.
    pub(crate) cols: std::ops::Range<usize>,
}

impl Spot<'_> {
    /// The positions on the delta's two axes of an element: a row of the window is a position on the first axis, unless the
    /// delta lies the other way round.
    #[inline(always)]
    pub(crate) fn position(&self, lane: usize) -> [usize; 2] {
        let (rows, cols) = (&self.window.rows, &self.window.cols);
        let row = rows.range.start as usize + self.row;
        let col = cols.range.start as usize + self.cols.start + lane;
        if rows.axis == Some(1) { [col, row] } else { [row, col] }
    }

    /// What the tensor started from.
    #[inline(always)]
    pub(crate) fn original<N: Number>(&self) -> N {
        N::load(self.cols.len(), |lane| self.original[lane * self.window.cols.step as usize])
    }

    /// The sum of products of two factors, whichever of them runs along rows.
    #[inline(always)]
    pub(crate) fn product<N: Number>(&self, u: usize, v: usize) -> N {
        let (left, right) = self.factors[u].beside(&self.factors[v], self.window);
        N::dot(left, self.row, right, self.cols.clone())
    }

    /// A value of a factor for each element, where `at` says which by the positions on both axes.
    #[inline(always)]
    pub(crate) fn values<N: Number>(&self, at: impl Fn([usize; 2]) -> f32) -> N {
        N::load(self.cols.len(), |lane| at(self.position(lane)))
    }
}

/// A formula.
pub(crate) trait Formula {
    /// What becomes of running values.
    fn apply<N: Number>(&self, spot: &Spot<'_>, running: N) -> N;

    /// Columns of the window, from one of them on, that can be evaluated at once.
    fn run(&self, _: &Spot<'_>) -> usize {
        WIDE
    }
}

/// A formula for each kind of number.
pub(crate) trait Polynomial {
    /// For as many neighbours as the spot has.
    fn lanes(&self, kernels: Kernels, spot: &Spot<'_>, running: Lanes) -> Lanes;
    /// For one element.
    fn ball(&self, spot: &Spot<'_>, running: Ball) -> Ball;
    /// For one element, without any error.
    fn dyadic(&self, spot: &Spot<'_>, running: Dyadic) -> Dyadic;
    /// As [`Formula::run`].
    fn run(&self, spot: &Spot<'_>) -> usize;
}

/// A formula for lanes, compiled for the CPU.
struct LanesTask<'t, 'b, F> {
    formula: &'t F,
    spot: &'t Spot<'b>,
    running: Lanes,
}

impl<F: Formula> CpuTask for LanesTask<'_, '_, F> {
    type Output = Lanes;

    #[inline(always)]
    fn run(self) -> Lanes {
        self.formula.apply(self.spot, self.running)
    }
}

impl<F: Formula> Polynomial for F {
    fn lanes(&self, kernels: Kernels, spot: &Spot<'_>, running: Lanes) -> Lanes {
        kernels.run(LanesTask { formula: self, spot, running })
    }

    fn ball(&self, spot: &Spot<'_>, running: Ball) -> Ball {
        self.apply(spot, running)
    }

    fn dyadic(&self, spot: &Spot<'_>, running: Dyadic) -> Dyadic {
        self.apply(spot, running)
    }

    fn run(&self, spot: &Spot<'_>) -> usize {
        Formula::run(self, spot)
    }
}
