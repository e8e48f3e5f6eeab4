//! [`DifferenceSums`]: what two tensors of one shape come to, element by element.
//!
//! Sums run in f64, in eight lanes by an element's place, so that they are the same whatever the CPU; pieces must begin at a
//! multiple of eight.

use half::{bf16, f16};

use crate::kernels::dispatch::Kernels;
use crate::tensor::dtype::Dtype;
use crate::verify::difference::is_rounding;

const LANES: usize = 8;

/// What the elements of two tensors come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct DifferenceSums {
    /// Elements that were compared.
    pub(crate) elements: u64,
    /// Elements whose values differ in any bit.
    pub(crate) differing: u64,
    /// Whether one of these is no neighbor of the other.
    pub(crate) is_moved: bool,
    /// Elements that differ of which one is not finite: no norm has them.
    pub(crate) not_finite: u64,
    /// The greatest magnitude of a difference.
    pub(crate) most: f64,
    difference: [f64; LANES],
    first: [f64; LANES],
}

impl DifferenceSums {
    /// ‖B − A‖.
    pub(crate) fn norm(&self) -> f64 {
        self.square().sqrt()
    }

    /// ‖B − A‖².
    pub(crate) fn square(&self) -> f64 {
        self.difference.iter().sum()
    }

    /// ‖A‖².
    pub(crate) fn first_square(&self) -> f64 {
        self.first.iter().sum()
    }

    /// Adds a piece of two tensors of these types. Values are neighbors if they are in one of the types: that is the coarser of the two
    /// there, as BF16 has fewer digits than F16 and F16 larger steps near zero. `is_finite`: whether all values are.
    pub(crate) fn add(
        &mut self,
        kernels: Kernels,
        types: [Dtype; 2],
        (a, b): (&[f32], &[f32]),
        is_finite: bool,
    ) {
        self.elements += a.len() as u64;
        if is_finite {
            kernels.add_squares(a, &mut self.first);
            self.add_finite(a, b);
        } else {
            self.add_any(a, b);
        }
        if self.differing > 0 && !self.is_moved {
            let mut changed = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits());
            self.is_moved = changed.any(|(&a, &b)| !types.iter().any(|dtype| are_neighbors(*dtype, a, b)));
        }
    }

    fn add_finite(&mut self, a: &[f32], b: &[f32]) {
        let (mut most, mut differing) = (self.most, 0u64);
        for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
            for ((sum, a), b) in self.difference.iter_mut().zip(a).zip(b) {
                let difference = f64::from(*b) - f64::from(*a);
                *sum += difference * difference;
                most = if difference.abs() > most { difference.abs() } else { most };
                differing += u64::from(a.to_bits() != b.to_bits());
            }
        }
        (self.most, self.differing) = (most, self.differing + differing);
    }

    fn add_any(&mut self, a: &[f32], b: &[f32]) {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let is_finite = a.is_finite() && b.is_finite();
            if is_finite {
                self.first[i % LANES] += f64::from(*a) * f64::from(*a);
            }
            if a.to_bits() != b.to_bits() {
                self.differing += 1;
                self.not_finite += u64::from(!is_finite);
                let difference = f64::from(*b) - f64::from(*a);
                if is_finite {
                    self.difference[i % LANES] += difference * difference;
                    self.most = self.most.max(difference.abs());
                }
            }
        }
    }

    /// Adds a piece of two tensors of a type that is no plain float, in elements of so many bytes: they are equal or not.
    pub(crate) fn add_bytes(&mut self, size: usize, a: &[u8], b: &[u8]) {
        self.elements += (a.len() / size) as u64;
        if a != b {
            let changed = a.chunks(size).zip(b.chunks(size)).filter(|(a, b)| a != b);
            self.differing += changed.count() as u64;
            self.is_moved = true;
        }
    }
}

/// Whether two values are the same or next to each other in a type, once they are rounded to it.
fn are_neighbors(dtype: Dtype, a: f32, b: f32) -> bool {
    match dtype {
        Dtype::BF16 => is_rounding(dtype, &bf16::from_f32(a).to_le_bytes(), &bf16::from_f32(b).to_le_bytes()),
        Dtype::F16 => is_rounding(dtype, &f16::from_f32(a).to_le_bytes(), &f16::from_f32(b).to_le_bytes()),
        _ => is_rounding(dtype, &a.to_le_bytes(), &b.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(dtype: Dtype, a: &[f32], b: &[f32], step: usize) -> DifferenceSums {
        let mut sums = DifferenceSums::default();
        for (a, b) in a.chunks(step).zip(b.chunks(step)) {
            let is_finite = a.iter().chain(b).all(|value| value.is_finite());
            sums.add(Kernels::detect(), [Dtype::F32, dtype], (a, b), is_finite);
        }
        sums
    }

    #[test]
    fn norms_are_those_of_the_differences_whatever_the_pieces() {
        let a: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = a.iter().enumerate().map(|(i, a)| if i % 3 == 0 { a + 0.25 } else { *a }).collect();
        let whole = sums(Dtype::F32, &a, &b, 1000);
        let exact: f64 = a.iter().zip(&b).map(|(a, b)| (f64::from(*b) - f64::from(*a)).powi(2)).sum();
        assert!((whole.square() - exact).abs() < 1e-12 && whole.is_moved);
        assert_eq!((whole.elements, whole.differing, whole.not_finite), (100, 34, 0));
        let most = a.iter().zip(&b).map(|(a, b)| (f64::from(*b) - f64::from(*a)).abs()).fold(0.0, f64::max);
        assert_eq!(whole.most, most);
        for step in [8, 16, 96] {
            let cut = sums(Dtype::F32, &a, &b, step);
            assert_eq!((cut.norm(), cut.first_square()), (whole.norm(), whole.first_square()), "{step}");
        }
    }

    #[test]
    fn neighbors_are_told_in_the_coarser_type() {
        let a = [1.0, 2.0, -3.0];
        let next = [1.0 + 1.0 / 128.0, 2.0, -3.0];
        assert!(!sums(Dtype::BF16, &a, &next, 8).is_moved, "one unit of BF16");
        assert!(sums(Dtype::F16, &a, &next, 8).is_moved, "eight units of F16");
        let far = [1.0 + 2.0 / 128.0, 2.0, -3.0];
        assert!(sums(Dtype::BF16, &a, &far, 8).is_moved);
        let inside = [1.001, 2.0, -3.0];
        assert!(!sums(Dtype::BF16, &a, &inside, 8).is_moved, "it rounds to the same");
        assert!(!sums(Dtype::F16, &[3e-8], &[5e-8], 8).is_moved, "steps of F16 near zero");
    }

    #[test]
    fn what_is_not_finite_is_counted_and_in_no_norm() {
        let found =
            sums(Dtype::F32, &[1.0, f32::NAN, f32::NAN, 2.0], &[1.5, f32::NAN, 0.0, f32::INFINITY], 8);
        assert_eq!((found.differing, found.not_finite, found.norm()), (3, 2, 0.5));
        assert!(found.is_moved && found.most == 0.5 && found.first_square() == 1.0);
    }

    #[test]
    fn bytes_are_equal_or_not() {
        let mut found = DifferenceSums::default();
        found.add_bytes(2, &[1, 2, 3, 4], &[1, 2, 3, 4]);
        assert!(!found.is_moved);
        found.add_bytes(2, &[1, 2, 3, 4], &[1, 2, 3, 5]);
        assert_eq!((found.elements, found.differing, found.is_moved), (4, 1, true));
    }
}
