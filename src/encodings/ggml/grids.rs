//! The grids of the types below 4 bits: lists of points of eight or four values each, of which a code is the place of one.
//!
//! `grids.bin` has a bitmap for each. A candidate is a number whose digits are the values of a point, the lowest first; it is in the
//! grid if its bit is set, and the bits count all candidates in increasing order, or those whose digits have an even sum. Grids
//! are expanded when the first block needs one.

use std::sync::OnceLock;

static BITMAPS: &[u8] = include_bytes!("grids.bin");

/// One grid.
pub(crate) struct PointGrid {
    /// Where its bitmap is, and how many bytes that has.
    bitmap: (usize, usize),
    /// Values of a point.
    digits: usize,
    /// Whether only sums of digits that are even have a bit.
    is_even: bool,
    /// The value of each digit.
    values: &'static [i8],
    points: OnceLock<Vec<i8>>,
}

impl PointGrid {
    const fn of(bitmap: (usize, usize), digits: usize, is_even: bool, values: &'static [i8]) -> PointGrid {
        PointGrid { bitmap, digits, is_even, values, points: OnceLock::new() }
    }

    /// The values of all points, one after the other.
    pub(crate) fn points(&self) -> &[i8] {
        self.points.get_or_init(|| self.expand())
    }

    fn expand(&self) -> Vec<i8> {
        let base = self.values.len();
        let (mut points, mut bit) = (Vec::new(), 0);
        for candidate in 0..base.pow(self.digits as u32) {
            let mut rest = candidate;
            let digits: [usize; 8] = std::array::from_fn(|_| {
                let digit = rest % base;
                rest /= base;
                digit
            });
            if self.is_even && digits.iter().sum::<usize>() % 2 == 1 {
                continue;
            }
            if BITMAPS[self.bitmap.0..][..self.bitmap.1][bit / 8] >> (bit % 8) & 1 == 1 {
                points.extend(digits[..self.digits].iter().map(|digit| self.values[*digit]));
            }
            bit += 1;
        }
        points
    }
}

const TWOS: &[i8] = &[8, 25, 43];

/// 256 points of eight values.
pub(crate) static IQ2_XXS: PointGrid = PointGrid::of((0, 411), 8, true, TWOS);
/// 512 points of eight values.
pub(crate) static IQ2_XS: PointGrid = PointGrid::of((411, 411), 8, true, TWOS);
/// 1,024 points of eight values.
pub(crate) static IQ2_S: PointGrid = PointGrid::of((822, 411), 8, true, TWOS);
/// 256 points of four values.
pub(crate) static IQ3_XXS: PointGrid = PointGrid::of((1233, 256), 4, true, &[4, 12, 20, 28, 36, 44, 52, 62]);
/// 512 points of four values.
pub(crate) static IQ3_S: PointGrid = PointGrid::of((1489, 512), 4, false, &[1, 3, 5, 7, 9, 11, 13, 15]);
/// 2,048 points of eight values, each eight times what it is, so that an eighth can be added to it.
pub(crate) static IQ1: PointGrid = PointGrid::of((2001, 821), 8, false, &[-8, 0, 8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_have_a_point_for_every_place() {
        for (grid, points) in
            [(&IQ2_XXS, 256), (&IQ2_XS, 512), (&IQ2_S, 1024), (&IQ3_XXS, 256), (&IQ3_S, 512), (&IQ1, 2048)]
        {
            assert_eq!(grid.points().len(), points * grid.digits);
        }
        assert_eq!(BITMAPS.len(), IQ1.bitmap.0 + IQ1.bitmap.1);
    }
}
