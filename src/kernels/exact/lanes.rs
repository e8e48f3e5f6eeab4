//! Neighbours along a row in one vector, each a number in f32 or f64 and how far the real value may be from it.
//!
//! # The bounds
//!
//! Let u be half a unit in the last place of 1 (2⁻²⁴ or 2⁻⁵³), ra and rb the radii of a and b, m the result as it is rounded.
//!
//! 1. **A sum** is off by at most u·|m|, and not at all where it is subnormal or below the smallest normal number times 2.
//!    Taken is fl(fl(fl(ra + rb)·S) + 3u·|m|), rounded once, with S = 1 + 8u: S makes up for three roundings of the radii, of
//!    3u·|m| two thirds remain whatever happens to it (|m| is at least twice the smallest normal number, so that 3u·|m| is three
//!    times the smallest subnormal one, which the last rounding may be off by half of), and where the sum is exact a radius never
//!    becomes less, as rounding is monotone.
//! 2. **A product** is off by at most u·|ab| and, where it underflows, half the smallest subnormal number; the radii add
//!    |a|·rb + (|b| + rb)·ra. Taken is fl(|a|·rb + fl(fl(|b| + rb)·ra + fl(2u·|m| + t)))·S: at most five roundings stand on one
//!    another, for which S is enough; 2u·|m| + t covers u·|ab|, as |m| is less than |ab| by no more than that and what underflows;
//!    and t = [`Real::TINY`], of which half is more than all that can underflow in six operations. Where a or b is exactly zero
//!    so is the product, without t: all terms are zero then.
//! 3. **A sum of products** of factors is off by at most the reach of its row times that of its column (`fused/body.rs`, which
//!    has room for the rounding of that product).
//! 4. What overflows is infinite or NaN, in the middle or the radius, and can never become finite again; it leaves the
//!    rounding open. So does a number that is not finite in the base.
//!
//! A zero that was made here is +0.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use std::ops::Range;

use crate::kernels::exact::Number;
use crate::kernels::fused::made::MadeProduct;
use crate::kernels::fused::vector::{CpuProof, FormulaVector, Real};

/// The most lanes that a vector has.
pub(crate) const LANES_MOST: usize = 8;

/// Real numbers to within a radius each. There are none but where a [`CpuProof`] was.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<V> {
    middle: V,
    radius: V,
}

impl<V: FormulaVector> Lanes<V> {
    /// Numbers to within radii, from the first of both on; as many as a vector has.
    #[inline(always)]
    pub(crate) fn within(_: CpuProof<V>, middles: &[V::Value], radii: &[V::Value]) -> Lanes<V> {
        // SAFETY: the proof.
        unsafe { Lanes { middle: V::load(middles), radius: V::load(radii) } }
    }

    /// Writes the numbers and their radii, as many as a vector has.
    #[inline(always)]
    pub(crate) fn write(self, middles: &mut [V::Value], radii: &mut [V::Value]) {
        // SAFETY: these numbers were made with a proof.
        unsafe {
            self.middle.store(middles);
            self.radius.store(radii);
        }
    }

    /// What a product that is not exactly zero is off besides, where the numbers are zero, 0.
    #[inline(always)]
    fn tiny(&self) -> V {
        // SAFETY: these numbers were made with a proof.
        unsafe { V::splat(V::Value::TINY).unless_zero(self.middle.abs().add(self.radius)) }
    }
}

impl<V: FormulaVector> Number for Lanes<V> {
    type Cpu = CpuProof<V>;
    type Product<'p> = MadeProduct<'p, V::Value>;

    #[inline(always)]
    fn of(_: CpuProof<V>, value: f32) -> Lanes<V> {
        // SAFETY: the proof.
        unsafe { Lanes { middle: V::splat(V::Value::of(value)), radius: V::splat(V::Value::default()) } }
    }

    #[inline(always)]
    fn load(cpu: CpuProof<V>, values: &[f32], step: usize, count: usize) -> Lanes<V> {
        if step != 1 || count != V::LANES {
            return Self::gather(cpu, count, |lane| values[lane * step]);
        }
        // SAFETY: the proof.
        unsafe { Lanes { middle: V::widen(values), radius: V::splat(V::Value::default()) } }
    }

    #[inline(always)]
    fn gather(_: CpuProof<V>, count: usize, value: impl Fn(usize) -> f32) -> Lanes<V> {
        let mut values = [0.0; LANES_MOST];
        for (lane, to) in values[..count].iter_mut().enumerate() {
            *to = value(lane);
        }
        // SAFETY: the proof.
        unsafe { Lanes { middle: V::widen(&values), radius: V::splat(V::Value::default()) } }
    }

    #[inline(always)]
    fn product(_: CpuProof<V>, made: MadeProduct<'_, V::Value>, row: usize, cols: Range<usize>) -> Lanes<V> {
        // SAFETY: the proof.
        unsafe {
            match made.row(row, cols.start) {
                Some((values, reach, reaches)) => {
                    let radius = V::splat(reach).mul(V::load(reaches));
                    Lanes { middle: V::load(values), radius }
                }
                None => {
                    let [middle, row, col] = made.one_value().map(|value| V::splat(value));
                    Lanes { middle, radius: row.mul(col) }
                }
            }
        }
    }

    #[inline(always)]
    fn plus(self, other: &Lanes<V>) -> Lanes<V> {
        // SAFETY: these numbers were made with a proof.
        unsafe {
            let middle = self.middle.add(other.middle);
            let radii = self.radius.add(other.radius).mul(V::splat(V::Value::SLACK));
            Lanes { middle, radius: middle.abs().fma(V::splat(V::Value::ROUNDINGS[1]), radii) }
        }
    }

    #[inline(always)]
    fn times(self, other: &Lanes<V>) -> Lanes<V> {
        // SAFETY: these numbers were made with a proof.
        unsafe {
            let tiny = self.tiny().unless_zero(other.tiny());
            let (middle, rounded) = rounded(self.middle.mul(other.middle), tiny);
            let of_self = other.middle.abs().add(other.radius).fma(self.radius, rounded);
            let radius = self.middle.abs().fma(other.radius, of_self);
            Lanes { middle, radius: radius.mul(V::splat(V::Value::SLACK)) }
        }
    }

    #[inline(always)]
    fn scaled(self, by: f32) -> Lanes<V> {
        // SAFETY: these numbers were made with a proof.
        unsafe {
            let scale = V::splat(V::Value::of(by));
            let (middle, rounded) = rounded(self.middle.mul(scale), self.tiny().unless_zero(scale));
            let radius = scale.abs().fma(self.radius, rounded);
            Lanes { middle, radius: radius.mul(V::splat(V::Value::SLACK)) }
        }
    }
}

/// A product as it was rounded, without the sign of a zero, and what that may be off.
///
/// # Safety
/// As for [`Vector`](crate::kernels::fused::vector::Vector).
#[inline(always)]
unsafe fn rounded<V: FormulaVector>(product: V, tiny: V) -> (V, V) {
    // SAFETY: the caller's promise.
    unsafe {
        // Adding +0 takes the sign from a zero.
        let middle = product.add(V::splat(V::Value::default()));
        (middle, middle.abs().fma(V::splat(V::Value::ROUNDINGS[0]), tiny))
    }
}
