//! Arrays of f64 that carry how far the same numbers may be off when they are computed in f32.
//!
//! The error of an element is at most `units · 2^-24 · size`: `size` is the same formula with every term made positive,
//! `units` the roundings that one term can pass through.

use super::float::Tensor;

/// The largest relative error of one rounding to f32.
pub const UNIT: f64 = 1.0 / 16_777_216.0;

#[derive(Clone)]
pub struct Grid {
    pub shape: Vec<usize>,
    pub value: Vec<f64>,
    pub size: Vec<f64>,
    pub units: usize,
}

impl Grid {
    pub fn of(shape: &[usize], value: Vec<f64>) -> Grid {
        assert_eq!(shape.iter().product::<usize>(), value.len());
        let size = value.iter().map(|x| x.abs()).collect();
        Grid { shape: shape.to_vec(), value, size, units: 0 }
    }

    pub fn identity(n: usize) -> Grid {
        Grid::of(&[n, n], (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect())
    }

    /// The first axis, and all others as one.
    pub fn flat(&self) -> (usize, usize) {
        (self.shape[0], self.shape[1..].iter().product())
    }

    pub fn reshaped(mut self, shape: &[usize]) -> Grid {
        assert_eq!(shape.iter().product::<usize>(), self.value.len(), "{:?} as {shape:?}", self.shape);
        self.shape = shape.to_vec();
        self
    }

    /// The grid whose elements are these of this one.
    pub fn picked(&self, shape: &[usize], from: impl Iterator<Item = usize>) -> Grid {
        let from: Vec<usize> = from.collect();
        assert_eq!(shape.iter().product::<usize>(), from.len());
        let pick = |of: &[f64]| from.iter().map(|&i| of[i]).collect();
        Grid { shape: shape.to_vec(), value: pick(&self.value), size: pick(&self.size), units: self.units }
    }

    /// Flattened to two axes, which are swapped.
    pub fn turned(&self) -> Grid {
        let (rows, columns) = self.flat();
        self.picked(&[columns, rows], (0..rows * columns).map(|at| at % rows * columns + at / rows))
    }

    /// Rows `from..to` of the first axis.
    pub fn rows(&self, from: usize, to: usize) -> Grid {
        let (_, columns) = self.flat();
        self.picked(&[to - from, columns], from * columns..to * columns)
    }

    /// The matrix product; both are flattened to two axes.
    pub fn times(&self, other: &Grid) -> Grid {
        let ((rows, inner), (rank, columns)) = (self.flat(), other.flat());
        assert_eq!(inner, rank, "{:?} times {:?}", self.shape, other.shape);
        let product = |a: &[f64], b: &[f64]| {
            let mut sums = vec![0.0; rows * columns];
            for row in 0..rows {
                for k in 0..inner {
                    for column in 0..columns {
                        sums[row * columns + column] += a[row * inner + k] * b[k * columns + column];
                    }
                }
            }
            sums
        };
        Grid {
            shape: vec![rows, columns],
            value: product(&self.value, &other.value),
            size: product(&self.size, &other.size),
            units: self.units + other.units + inner,
        }
    }

    /// Element by element.
    pub fn by(&self, other: &Grid) -> Grid {
        assert_eq!(self.value.len(), other.value.len(), "{:?} by {:?}", self.shape, other.shape);
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect();
        Grid {
            shape: self.shape.clone(),
            value: product(&self.value, &other.value),
            size: product(&self.size, &other.size),
            units: self.units + other.units + 1,
        }
    }

    pub fn plus(&self, other: &Grid) -> Grid {
        assert_eq!(self.shape, other.shape);
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
        Grid {
            shape: self.shape.clone(),
            value: sum(&self.value, &other.value),
            size: sum(&self.size, &other.size),
            units: self.units.max(other.units) + 1,
        }
    }

    /// Times a number. Its rounding is one of the four that every sum into a tensor is given.
    pub fn scaled(mut self, by: f64) -> Grid {
        self.value.iter_mut().for_each(|x| *x *= by);
        self.size.iter_mut().for_each(|x| *x *= by.abs());
        self
    }
}

/// A tensor as numbers without error.
impl From<&Tensor> for Grid {
    fn from(tensor: &Tensor) -> Grid {
        Grid::of(&tensor.shape, tensor.values())
    }
}
