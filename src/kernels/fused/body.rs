//! The fused pass over one group of rows of one panel of columns.
//!
//! # The bound
//!
//! Let u = 2⁻²⁴, W the base, b a row of one factor, a′ = fl(s·a) a column of the other with its scale folded in, R their
//! length: of several products the sum of their ranks, as they are laid behind one another. The result wanted is
//! x = W + Σ b·(s·a).
//!
//! 1. Products are summed in chains of [`CHAIN`] fused multiply-adds from zero, chains are added in order to sums of at most
//!    [`RANK_STEP`] products, and these are added in order, so that a product passes at most
//!    m = min(R, CHAIN) + ⌈R / CHAIN⌉ − 1 roundings (the sums of two chains take fewer), and one more in a′: n = m + 1. The sum `acc` is
//!    off by at most γ·Σ|b||s·a|, with γ = n·u / (1 − n·u) (Higham, Accuracy and Stability of Numerical Algorithms, lemma
//!    3.1), hence by γ′·‖b‖·‖a′‖ (Cauchy and Schwarz; γ′ has a′ for s·a, which 1 + 2⁻²⁰ in [`reach`](super::pack) covers).
//! 2. What underflows is off by at most 2⁻¹⁵⁰ each time besides: at most 2R·2⁻¹⁵⁰ in the sums, and ‖b‖·√R·2⁻¹⁵⁰ for a′.
//! 3. Row and column have a *reach*: r = γ′·‖b‖ + 2⁻⁶⁰ and c = ‖a′‖ + 2⁻⁶⁰, and 0 where b or a is all zero, when nothing is
//!    off. Then r·c ≥ γ′·‖b‖·‖a′‖ + γ′·‖b‖·2⁻⁶⁰ + 2⁻¹²⁰, which is more than 1 and 2 together for R < 2²⁹.
//! 4. `sum = fl(W + acc)` is off by at most u·|sum| besides, and so is `sum ± bound` when it is rounded. The bound is taken as
//!    fl(r·c + 3u·|sum|): 2u·|sum| are needed, and the rest makes up for the bound's own roundings and keeps x strictly
//!    between both ends, so that it does not matter which way an end is rounded that is a tie.
//! 5. Where r·c = 0 the sum is W itself. Where W is a code the format holds it; a W in f32 is rounded as any sum, and one on a tie
//!    is open, as its bound is not 0.
//!
//! If both ends round to one code then so does x, as rounding is monotone. Ends on both sides of zero have codes that differ
//! by the sign. A sum or bound that is infinite or NaN is not smaller than [`HalfCode::LARGE`], so that it is open.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use crate::kernels::fused::code::HalfCode;
use crate::kernels::fused::vector::{CodeVector, FormulaVector, Real, Vector};

/// Rows of a group.
pub(crate) const ROWS: usize = 6;
/// Columns of a panel.
pub(crate) const COLS: usize = 64;
/// Ranks in one chain of sums: longer ones make the bound wide, and shorter ones cost additions.
pub(crate) const CHAIN: usize = 16;
/// What a sum adds to the bound, by its size: 3u.
const OF_SUM: f32 = f32::ROUNDINGS[1];

/// Ranks for which the factors of a panel and of a group stay in the first-level cache, for all groups in turn: four chains.
pub(crate) const RANK_STEP: usize = 4 * CHAIN;

/// A row of a panel, aligned so that no load of a vector crosses cache lines.
#[repr(align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanelRow<T>(pub(crate) [T; COLS]);

impl<T: Real> PanelRow<T> {
    /// All zero.
    pub(crate) fn zero() -> PanelRow<T> {
        PanelRow([T::default(); COLS])
    }
}

/// One group of rows of one panel.
pub(crate) struct RowGroup<'g, T> {
    /// `b [rank, ROWS]`.
    pub(crate) b: &'g [[T; ROWS]],
    /// `s·a [rank, COLS]`.
    pub(crate) a: &'g [PanelRow<T>],
    /// The reach of each row.
    pub(crate) rows: &'g [T; ROWS],
    /// The reach of each column.
    pub(crate) cols: &'g PanelRow<T>,
}

/// Rows of values, and elements from one to the next.
pub(crate) type ValueRows<'v> = (&'v [f32], usize);

/// The elements of a group that are open: by row a bit for each column.
pub(crate) type OpenBits = [u64; ROWS];

/// Merges a group, and sums of earlier products of it, into its codes, `COLS` for each of `ROWS` rows that begin `stride` bytes
/// apart. What they are added to are the codes, or values beside them. Open ones are left as they were. Returns how many changed.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(crate) unsafe fn merge<V: CodeVector, C: HalfCode, const N: usize>(
    group: &RowGroup<'_, f32>,
    (before, values): (Option<&[PanelRow<f32>]>, Option<ValueRows<'_>>),
    (codes, stride): (&mut [u8], usize),
    open: &mut OpenBits,
) -> u64 {
    let mut changed = 0;
    for at in (0..COLS).step_by(N * V::LANES) {
        // SAFETY: the caller's promise.
        let sums = unsafe { products::<V, N>(group, at) };
        // By reference: copies of so many vectors stall on their own stores.
        for (i, sums) in sums.iter().enumerate() {
            let row = &mut codes[i * stride + 2 * at..][..2 * N * V::LANES];
            let (mut all_moved, mut all_unsettled) = (0_u64, 0_u64);
            for (j, sum) in sums.iter().enumerate() {
                let first = at + j * V::LANES;
                // SAFETY: the caller's promise.
                let (moved, unsettled) = unsafe {
                    // No closures here: where they are not inlined, each call spills all vectors.
                    let sum = match before {
                        Some(rows) => V::load(&rows[i].0[first..]).add(*sum),
                        None => *sum,
                    };
                    let bound = V::splat(group.rows[i]).mul(V::load(&group.cols.0[first..]));
                    round::<V, C>(
                        (sum, bound),
                        values,
                        (i, first),
                        &mut row[2 * j * V::LANES..][..2 * V::LANES],
                    )
                };
                all_moved |= u64::from(moved) << first;
                all_unsettled |= u64::from(unsettled) << first;
            }
            changed += u64::from(all_moved.count_ones());
            open[i] |= all_unsettled;
        }
    }
    changed
}

/// Adds to the codes of one vector, or to the values that they stand for, which begin at that row and column of theirs, and says
/// which changed and which are open.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn round<V: CodeVector, C: HalfCode>(
    (delta, product_bound): (V, V),
    values: Option<ValueRows<'_>>,
    (row, col): (usize, usize),
    codes: &mut [u8],
) -> (u32, u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let base: V = C::widen(codes);
        let start = match values {
            Some((values, stride)) => V::load(&values[row * stride + col..]),
            None => base,
        };
        let sum = start.add(delta);
        let bound = sum.abs().fma(V::splat(OF_SUM), product_bound);
        replace::<V, C>((sum, bound), base, codes)
    }
}

/// Rounds values that are known to within a bound each to codes, in place of those of a base. Returns the codes that are
/// open, and the changed ones of the others.
///
/// A value is known to within fl(r + 3u·|middle|) + 2⁻¹⁴⁰, where r is the most that it is off: as in the proof above, that
/// makes up for the roundings of both ends, and an end that is a tie is never the value, but for an exact zero.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(crate) unsafe fn round_near<V: CodeVector + FormulaVector, C: HalfCode>(
    middles: &[f32],
    radii: &[f32],
    codes: &mut [u8],
) -> (u32, u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let (middle, radius) = (V::load(middles), V::load(radii));
        let tiny = V::splat(f32::TINY).unless_zero(middle);
        let bound = middle.abs().fma(V::splat(OF_SUM), radius).add(tiny);
        let base = C::widen(codes);
        replace::<V, C>((middle, bound), base, codes)
    }
}

/// Puts the codes of values in place of those of a base, where both ends of the bounds have one code.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn replace<V: CodeVector, C: HalfCode>((sum, bound): (V, V), base: V, codes: &mut [u8]) -> (u32, u32) {
    let all = ((1_u64 << V::LANES) - 1) as u32;
    // SAFETY: the caller's promise.
    unsafe {
        let end = sum.add(bound);
        let (low, high) = (C::round(sum.sub(bound)), C::round(end));
        let unsettled = (low.differing(high) | !end.smaller(V::splat(C::LARGE))) & all;
        let moved = low.differing(base) & !unsettled;
        if unsettled == 0 {
            C::narrow(low, codes);
        } else {
            let mut new = [0; 32];
            C::narrow(low, &mut new);
            keep_open(&new, codes, unsettled);
        }
        (moved, unsettled)
    }
}

/// Copies the codes that are not open. Apart, as it is rare.
#[inline(never)]
fn keep_open(new: &[u8; 32], codes: &mut [u8], open: u32) {
    for (lane, (new, code)) in new.chunks_exact(2).zip(codes.chunks_exact_mut(2)).enumerate() {
        if open >> lane & 1 == 0 {
            code.copy_from_slice(new);
        }
    }
}

/// Multiply-adds that nothing hinders, for benches: `count` rounds of as many sums as a group has, and all from registers.
/// Returns operations.
///
/// # Safety
/// As for [`Vector`].
#[cfg(feature = "testing")]
#[inline(always)]
pub(crate) unsafe fn multiply_adds<V: CodeVector, const N: usize>(count: usize) -> f64 {
    // SAFETY: the caller's promise.
    unsafe {
        let (by, plus) = (V::splat(std::hint::black_box(0.5)), V::splat(std::hint::black_box(0.25)));
        let mut sums = [[V::splat(1.0); N]; ROWS];
        for _ in 0..count {
            for sum in sums.as_flattened_mut() {
                *sum = sum.fma(by, plus);
            }
        }
        std::hint::black_box(sums.as_flattened().iter().map(|sum| sum.differing(by)).sum::<u32>());
    }
    (count * N * ROWS * V::LANES) as f64
}

/// The products of a group for some columns, chain by chain.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn products<V: Vector, const N: usize>(group: &RowGroup<'_, V::Value>, at: usize) -> [[V; N]; ROWS] {
    let (first, end) = (group.a.len().min(CHAIN), group.a.len());
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = chain::<V, N>(&group.a[..first], &group.b[..first], at);
        for from in (first..end).step_by(CHAIN) {
            let ranks = from..(from + CHAIN).min(end);
            let more = chain::<V, N>(&group.a[ranks.clone()], &group.b[ranks], at);
            for (sums, more) in sums.iter_mut().zip(&more) {
                for (sum, more) in sums.iter_mut().zip(more) {
                    *sum = sum.add(*more);
                }
            }
        }
        sums
    }
}

/// One chain, which stays in registers.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn chain<V: Vector, const N: usize>(
    a: &[PanelRow<V::Value>],
    b: &[[V::Value; ROWS]],
    at: usize,
) -> [[V; N]; ROWS] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(V::Value::default()); N]; ROWS];
        for (a, b) in a.iter().zip(b) {
            let mut vectors = [V::splat(V::Value::default()); N];
            for (j, vector) in vectors.iter_mut().enumerate() {
                *vector = V::load(&a.0[at + j * V::LANES..]);
            }
            for (sums, b) in sums.iter_mut().zip(b) {
                let b = V::splat(*b);
                for (sum, a) in sums.iter_mut().zip(&vectors) {
                    *sum = b.fma(*a, *sum);
                }
            }
        }
        sums
    }
}

/// Adds the products of a group to sums, one row of a panel for each of its rows, or begins these.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(crate) unsafe fn add_products<V: Vector, const N: usize>(
    group: &RowGroup<'_, V::Value>,
    is_first: bool,
    sums: &mut [PanelRow<V::Value>],
) {
    for at in (0..COLS).step_by(N * V::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let products = products::<V, N>(group, at);
            for (products, row) in products.iter().zip(&mut *sums) {
                for (j, product) in products.iter().enumerate() {
                    let sum = &mut row.0[at + j * V::LANES..];
                    let before = if is_first { *product } else { V::load(sum).add(*product) };
                    before.store(sum);
                }
            }
        }
    }
}

/// Writes the products of a group for its first columns, one row of a panel for each of its rows.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(crate) unsafe fn write_products<V: FormulaVector, const N: usize>(
    group: &RowGroup<'_, V::Value>,
    cols: usize,
    out: &mut [PanelRow<V::Value>],
) {
    for at in (0..cols).step_by(N * V::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let sums = products::<V, N>(group, at);
            for (sums, row) in sums.iter().zip(&mut *out) {
                for (j, sum) in sums.iter().enumerate() {
                    sum.store(&mut row.0[at + j * V::LANES..]);
                }
            }
        }
    }
}
