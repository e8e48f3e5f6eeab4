//! An f64 and how far the real value may be from it.
//!
//! The bound, with u = 2⁻⁵³ and t = 2⁻¹⁰²²: a sum or product of midpoints is off by at most u times its size, and a product that
//! underflows by t (a sum that does is exact). Radii add up as of real intervals: |ab − a′b′| ≤ |a|·rb + |b|·ra + ra·rb. The radius itself is computed in f64 by at
//! most six operations of non-negative numbers, each off by a factor 1 ± u, so that [`SLACK`] = 1 + 2⁻⁵⁰ > (1 − u)⁻⁶ makes it an
//! upper bound again.

use std::ops::Range;

use crate::kernels::exact::Number;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::made::Factors;

/// Half a unit in the last place of 1.
pub(crate) const U: f64 = f64::EPSILON / 2.0;
/// Makes up for the roundings of a radius.
pub(crate) const SLACK: f64 = 1.0 + 4.0 * f64::EPSILON;
/// The most that a result is off that underflows.
pub(crate) const TINY: f64 = f64::MIN_POSITIVE;

/// A real number to within a radius.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ball {
    middle: f64,
    radius: f64,
}

impl Ball {
    /// A number to within a radius; one of zero says that it is exact.
    pub(crate) fn within(middle: f64, radius: f64) -> Ball {
        Ball { middle, radius }
    }

    /// The code of the number, where all within the radius round to the same. An exact zero keeps its sign: that of
    /// a stored value which nothing was added to, else +0.
    pub(crate) fn round(self, format: FloatFormat) -> Option<u32> {
        if self.radius == 0.0 {
            return Some(format.round(self.middle));
        }
        // Widened by a step, as the ends round too.
        let (low, high) = ((self.middle - self.radius).next_down(), (self.middle + self.radius).next_up());
        if !(low.is_finite() && high.is_finite()) {
            return None;
        }
        let (low, high) = (format.round(low), format.round(high));
        (low == high).then_some(low)
    }

    fn is_zero(self) -> bool {
        self.middle == 0.0 && self.radius == 0.0
    }
}

impl Number for Ball {
    type Cpu = ();
    type Product<'p> = Factors<'p>;

    fn of(_: (), value: f32) -> Ball {
        Ball { middle: f64::from(value), radius: 0.0 }
    }

    fn load(_: (), values: &[f32], _: usize, _: usize) -> Ball {
        Ball::of((), values[0])
    }

    fn gather(_: (), _: usize, value: impl Fn(usize) -> f32) -> Ball {
        Ball::of((), value(0))
    }

    fn plus(self, other: &Ball) -> Ball {
        let middle = self.middle + other.middle;
        Ball { middle, radius: (self.radius + other.radius + U * middle.abs()) * SLACK }
    }

    fn times(self, other: &Ball) -> Ball {
        if self.is_zero() || other.is_zero() {
            return Ball::of((), 0.0);
        }
        let (a, b, middle) = (self.middle.abs(), other.middle.abs(), self.middle * other.middle);
        let radius = (a * other.radius + b * self.radius) + self.radius * other.radius;
        Ball { middle, radius: (radius + U * middle.abs() + TINY) * SLACK }
    }

    fn scaled(self, by: f32) -> Ball {
        self.times(&Ball::of((), by))
    }

    /// The products are exact, and none underflows: 48 bits, and exponents from −298. Of n sums in any order, each of at most the sum of sizes so
    /// far and its own error, the error is at most n·u/(1 − n·u) times the sum of all sizes.
    fn product(_: (), product: Factors<'_>, row: usize, cols: Range<usize>) -> Ball {
        let Factors { left, right } = product;
        // Four sums in turn, as each addition would else wait for the last.
        let (mut sums, mut sizes) = ([0.0; 4], [0.0; 4]);
        for k in 0..left.cols {
            let product = f64::from(left.at(row, k)) * f64::from(right.at(k, cols.start));
            sums = [sums[1], sums[2], sums[3], sums[0] + product];
            sizes = [sizes[1], sizes[2], sizes[3], sizes[0] + product.abs()];
        }
        let middle = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        let size = (sizes[0] + sizes[1]) + (sizes[2] + sizes[3]);
        // Twice covers 1/(1 − n·u) and the error of `size`, for any n below 2⁵¹.
        Ball { middle, radius: 2.0 * left.cols as f64 * U * size }
    }
}
