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
        let (mut sums, mut sizes) = ([0.0; WIDE], [0.0; WIDE]);
        let count = cols.len();
        let mut values = [0.0; WIDE];
        for k in 0..left.cols {
            let start = k * right.row_stride + cols.start * right.col_stride;
            if right.col_stride == 1 {
                values[..count].copy_from_slice(&right.data[start..start + count]);
            } else {
                for (lane, value) in values[..count].iter_mut().enumerate() {
                    *value = right.data[start + lane * right.col_stride];
                }
            }
            let by = f64::from(left.at(row, k));
            for i in 0..WIDE {
                let product = by * f64::from(values[i]);
                sums[i] += product;
                sizes[i] += product.abs();
            }
        }
        let error = 2.0 * left.cols as f64 * U;
        Lanes { middles: sums, radii: sizes.map(|size| error * size) }
    }
}
