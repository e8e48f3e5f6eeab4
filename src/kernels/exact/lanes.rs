//! Neighbours along a row, each an f64 and how far the real value may be from it: [`Ball`](super::ball::Ball)s side by side, so
//! that the compiler makes vectors of them. The bounds are those of `ball.rs`.

use std::ops::Range;

use crate::kernels::exact::Number;
use crate::kernels::exact::ball::{SLACK, TINY, U};
use crate::kernels::product::Matrix;

/// Numbers at once.
pub(crate) const WIDE: usize = 64;

/// Real numbers to within a radius each.
#[derive(Clone)]
pub(crate) struct Lanes {
    /// The midpoints.
    pub(crate) middles: [f64; WIDE],
    /// The radii.
    pub(crate) radii: [f64; WIDE],
}

impl Number for Lanes {
    #[inline(always)]
    fn of(value: f32) -> Lanes {
        Lanes { middles: [f64::from(value); WIDE], radii: [0.0; WIDE] }
    }

    #[inline(always)]
    fn load(count: usize, value: impl Fn(usize) -> f32) -> Lanes {
        let mut lanes = Lanes::of(0.0);
        for (lane, middle) in lanes.middles[..count].iter_mut().enumerate() {
            *middle = f64::from(value(lane));
        }
        lanes
    }

    #[inline(always)]
    fn plus(mut self, other: &Lanes) -> Lanes {
        for i in 0..WIDE {
            let middle = self.middles[i] + other.middles[i];
            self.radii[i] = (self.radii[i] + other.radii[i] + U * middle.abs()) * SLACK;
            self.middles[i] = middle;
        }
        self
    }

    #[inline(always)]
    fn times(mut self, other: &Lanes) -> Lanes {
        for i in 0..WIDE {
            let (a, b) = (self.middles[i].abs(), other.middles[i].abs());
            let (ra, rb) = (self.radii[i], other.radii[i]);
            let middle = self.middles[i] * other.middles[i];
            let radius = ((a * rb + b * ra) + ra * rb + U * middle.abs() + TINY) * SLACK;
            let is_zero = a + ra == 0.0 || b + rb == 0.0;
            self.radii[i] = if is_zero { 0.0 } else { radius };
            self.middles[i] = if is_zero { 0.0 } else { middle };
        }
        self
    }

    #[inline(always)]
    fn scaled(mut self, by: f32) -> Lanes {
        let by = f64::from(by);
        let tiny = if by == 0.0 { 0.0 } else { TINY };
        for i in 0..WIDE {
            let is_zero = self.middles[i].abs() + self.radii[i] == 0.0;
            let middle = self.middles[i] * by;
            let radius = (self.radii[i] * by.abs() + U * middle.abs() + tiny) * SLACK;
            self.radii[i] = if is_zero { 0.0 } else { radius };
            // Adding +0 takes the sign from a zero.
            self.middles[i] = middle + 0.0;
        }
        self
    }

    #[inline(always)]
    fn dot(left: Matrix<'_>, row: usize, right: Matrix<'_>, cols: Range<usize>) -> Lanes {
        let mut lanes = Lanes::of(0.0);
        let error = 2.0 * left.cols as f64 * U;
        let (middles, radii) = (lanes.middles.as_chunks_mut().0, lanes.radii.as_chunks_mut().0);
        let starts = cols.clone().step_by(PART);
        for (first, (middles, radii)) in starts.zip(middles.iter_mut().zip(radii)) {
            let (sums, sizes) = dot_part(left, row, right, first..cols.end.min(first + PART));
            *middles = sums;
            *radii = sizes.map(|size| error * size);
        }
        lanes
    }
}

/// Sums that are made at once: so many stay in registers.
const PART: usize = 16;

/// Sums of products for at most [`PART`] columns, and of the products' sizes.
#[inline(always)]
fn dot_part(
    left: Matrix<'_>,
    row: usize,
    right: Matrix<'_>,
    cols: Range<usize>,
) -> ([f64; PART], [f64; PART]) {
    let (mut sums, mut sizes) = ([0.0; PART], [0.0; PART]);
    let is_whole = right.col_stride == 1 && cols.len() == PART;
    for k in 0..left.cols {
        let start = k * right.row_stride + cols.start * right.col_stride;
        let mut values = [0.0; PART];
        if is_whole {
            values.copy_from_slice(&right.data[start..start + PART]);
        } else {
            for (lane, value) in values[..cols.len()].iter_mut().enumerate() {
                *value = right.data[start + lane * right.col_stride];
            }
        }
        let by = f64::from(left.at(row, k));
        for i in 0..PART {
            let product = by * f64::from(values[i]);
            sums[i] += product;
            sizes[i] += product.abs();
        }
    }
    (sums, sizes)
}
