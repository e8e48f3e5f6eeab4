//! Formulas of deltas that are sums and products of stored values, and so have one right result: each is written once, over
//! any [`Number`], and evaluated in vectors with a bound, then one by one for what that leaves open.
//!
//! Its products of factors are made first, for a window at a time, as they take most of the work: the formula finds them in
//! the [`Spot`].

use smallvec::SmallVec;

use crate::kernels::dispatch::{Kernels, Precision};
use crate::kernels::exact::Number;
use crate::kernels::exact::ball::Ball;
use crate::kernels::exact::dyadic::Dyadic;
use crate::kernels::exact::lanes::{LANES_MOST, Lanes};
use crate::kernels::fused::made::{Factors, MadeProduct};
use crate::kernels::fused::vector::{CpuProof, FormulaVector, Real};
use crate::kernels::task::VectorTask;
use crate::ops::block::FactorView;
use crate::ops::placement::Window;

/// The most products of factors that a formula has.
pub(crate) const PRODUCTS_MOST: usize = 2;

/// The factors of a formula's products, in its order.
pub(crate) type FactorPairs<'b> = SmallVec<[Factors<'b>; PRODUCTS_MOST]>;

/// Neighbouring elements of a row of a window: what a formula may ask for there.
pub(crate) struct Spot<'b, N: Number> {
    /// What shows that there can be such numbers.
    pub(crate) cpu: N::Cpu,
    /// The part of the delta that falls on a block.
    pub(crate) window: &'b Window,
    /// The op's factors, as far as the block needs them.
    pub(crate) factors: &'b [FactorView<'b>],
    /// The formula's products, for all of the window.
    pub(crate) products: &'b [N::Product<'b>],
    /// Where in its last factor the window begins, for a formula that repeats one.
    pub(crate) offset: usize,
    /// What the delta is multiplied by.
    pub(crate) scale: f32,
    /// What the tensor started from, from the first element on.
    pub(crate) original: &'b [f32],
    /// The row of the window.
    pub(crate) row: usize,
    /// The first column of the window, and how many.
    pub(crate) cols: std::ops::Range<usize>,
}

impl<N: Number> Spot<'_, N> {
    /// The positions on the delta's two axes of an element.
    #[inline(always)]
    pub(crate) fn position(&self, lane: usize) -> [usize; 2] {
        position(self.window, self.row, self.cols.start + lane)
    }

    /// What the tensor started from.
    #[inline(always)]
    pub(crate) fn original(&self) -> N {
        N::load(self.cpu, self.original, self.window.cols.step as usize, self.cols.len())
    }

    /// One of the formula's products.
    #[inline(always)]
    pub(crate) fn product(&self, which: usize) -> N {
        N::product(self.cpu, self.products[which], self.row, self.cols.clone())
    }

    /// Values that lie in a factor, each `step` behind the last.
    #[inline(always)]
    pub(crate) fn values(&self, values: &[f32], step: usize) -> N {
        N::load(self.cpu, values, step, self.cols.len())
    }

    /// A value of a factor for each element, where `at` says which by the positions on both axes.
    #[inline(always)]
    pub(crate) fn gathered(&self, at: impl Fn([usize; 2]) -> f32) -> N {
        N::gather(self.cpu, self.cols.len(), |lane| at(self.position(lane)))
    }

    /// One value for all.
    #[inline(always)]
    pub(crate) fn all(&self, value: f32) -> N {
        N::of(self.cpu, value)
    }
}

/// The positions on a delta's two axes of an element of a window: a row of the window is a position on the first axis, unless
/// the delta lies the other way round.
#[inline(always)]
pub(crate) fn position(window: &Window, row: usize, col: usize) -> [usize; 2] {
    let (row, col) = (window.rows.range.start as usize + row, window.cols.range.start as usize + col);
    if window.rows.axis == Some(1) { [col, row] } else { [row, col] }
}

/// A formula.
pub(crate) trait Formula {
    /// What becomes of running values.
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N;

    /// The factors of its products, for all of a window.
    fn products<'b>(&self, _: &'b [FactorView<'b>], _: &Window) -> FactorPairs<'b> {
        FactorPairs::new()
    }

    /// Where in its last factor a window begins, for a formula that repeats one.
    fn offset(&self, _: &Window) -> usize {
        0
    }

    /// Rows and columns from a window's first element on that can be evaluated together, with one set of products.
    fn extent(&self, window: &Window) -> [usize; 2] {
        [window.rows.len(), window.cols.len()]
    }
}

/// Running values of a window, its original values and its products: what a formula is evaluated on.
pub(crate) struct FormulaRows<'r, T> {
    /// The part of the delta.
    pub(crate) window: &'r Window,
    /// The op's factors.
    pub(crate) factors: &'r [FactorView<'r>],
    /// The formula's products.
    pub(crate) products: &'r [MadeProduct<'r, T>],
    /// What the delta is multiplied by.
    pub(crate) scale: f32,
    /// What the block started from.
    pub(crate) original: &'r [f32],
    /// Running values of the block.
    pub(crate) middles: &'r mut [T],
    /// How far each may be off.
    pub(crate) radii: &'r mut [T],
    /// Elements of a row of the block.
    pub(crate) width: usize,
}

/// A formula for each kind of number.
pub(crate) trait Polynomial {
    /// For a window, in f32.
    fn singles(&self, kernels: Kernels, rows: FormulaRows<'_, f32>);
    /// For a window, in f64.
    fn doubles(&self, kernels: Kernels, rows: FormulaRows<'_, f64>);
    /// For one element.
    fn ball(&self, spot: &Spot<'_, Ball>, running: Ball) -> Ball;
    /// For one element, without any error.
    fn dyadic(&self, spot: &Spot<'_, Dyadic>, running: Dyadic) -> Dyadic;
    /// As [`Formula::products`].
    fn products<'b>(&self, factors: &'b [FactorView<'b>], window: &Window) -> FactorPairs<'b>;
    /// As [`Formula::offset`].
    fn offset(&self, window: &Window) -> usize;
    /// As [`Formula::extent`].
    fn extent(&self, window: &Window) -> [usize; 2];
}

impl<F: Formula> Polynomial for F {
    fn singles(&self, kernels: Kernels, rows: FormulaRows<'_, f32>) {
        f32::run(kernels, RowsTask { formula: self, rows });
    }

    fn doubles(&self, kernels: Kernels, rows: FormulaRows<'_, f64>) {
        f64::run(kernels, RowsTask { formula: self, rows });
    }

    fn ball(&self, spot: &Spot<'_, Ball>, running: Ball) -> Ball {
        self.apply(spot, running)
    }

    fn dyadic(&self, spot: &Spot<'_, Dyadic>, running: Dyadic) -> Dyadic {
        self.apply(spot, running)
    }

    fn products<'b>(&self, factors: &'b [FactorView<'b>], window: &Window) -> FactorPairs<'b> {
        Formula::products(self, factors, window)
    }

    fn offset(&self, window: &Window) -> usize {
        Formula::offset(self, window)
    }

    fn extent(&self, window: &Window) -> [usize; 2] {
        Formula::extent(self, window)
    }
}

/// A precision that formulas are evaluated in.
pub(crate) trait Precise: Precision {
    /// Evaluates a formula on a window.
    fn evaluate(formula: &dyn Polynomial, kernels: Kernels, rows: FormulaRows<'_, Self>);
}

impl Precise for f32 {
    fn evaluate(formula: &dyn Polynomial, kernels: Kernels, rows: FormulaRows<'_, f32>) {
        formula.singles(kernels, rows);
    }
}

impl Precise for f64 {
    fn evaluate(formula: &dyn Polynomial, kernels: Kernels, rows: FormulaRows<'_, f64>) {
        formula.doubles(kernels, rows);
    }
}

/// A formula for all rows of a window, compiled for the CPU.
struct RowsTask<'t, 'r, F, T> {
    formula: &'t F,
    rows: FormulaRows<'r, T>,
}

impl<F: Formula, T: Real> VectorTask<T> for RowsTask<'_, '_, F, T> {
    #[inline(always)]
    fn run<V: FormulaVector<Value = T>>(mut self, cpu: CpuProof<V>) {
        let window = self.rows.window;
        let (len, step) = (window.cols.len(), window.cols.step as usize);
        let offset = self.formula.offset(window);
        for row in 0..window.rows.len() {
            let line = (window.rows.at as usize + row * window.rows.step as usize) * self.rows.width;
            let start = line + window.cols.at as usize;
            for first in (0..len).step_by(V::LANES) {
                let cols = first..(first + V::LANES).min(len);
                self.vector(cpu, (row, cols), offset, (start + first * step, step));
            }
        }
    }
}

impl<F: Formula, T: Real> RowsTask<'_, '_, F, T> {
    /// Applies the formula to as many elements of a row as a vector has, `step` apart from `at` on.
    #[inline(always)]
    fn vector<V: FormulaVector<Value = T>>(
        &mut self,
        cpu: CpuProof<V>,
        (row, cols): (usize, std::ops::Range<usize>),
        offset: usize,
        (at, step): (usize, usize),
    ) {
        let FormulaRows { window, factors, products, scale, original, middles, radii, .. } = &mut self.rows;
        let (count, original) = (cols.len(), &original[at..]);
        let spot: Spot<'_, Lanes<V>> =
            Spot { cpu, window, factors, products, offset, scale: *scale, original, row, cols };
        let (middles, radii) = (&mut middles[at..], &mut radii[at..]);
        if step == 1 && count == V::LANES {
            let running = Lanes::within(cpu, middles, radii);
            self.formula.apply(&spot, running).write(middles, radii);
            return;
        }
        let (mut some, mut bounds) = ([T::default(); LANES_MOST], [T::default(); LANES_MOST]);
        for lane in 0..count {
            (some[lane], bounds[lane]) = (middles[lane * step], radii[lane * step]);
        }
        let running = Lanes::within(cpu, &some, &bounds);
        self.formula.apply(&spot, running).write(&mut some, &mut bounds);
        for lane in 0..count {
            (middles[lane * step], radii[lane * step]) = (some[lane], bounds[lane]);
        }
    }
}
