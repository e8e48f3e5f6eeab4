//! A tensor on its way through the adapters: its exact values, and how far a result may be from them.

use safetensors::Dtype;

use super::float::ulp;
use super::grid::{Grid, UNIT};

/// A unit in the last place of f64 by one of f32.
const F64_TO_F32: f64 = 1.0 / 536_870_912.0;

#[derive(Clone)]
pub struct Running {
    pub exact: Vec<f64>,
    /// How far arithmetic in f32 may be off, before the one rounding into the output's dtype.
    pub bound: Vec<f64>,
    /// How far PEFT may be off beyond that: it rounds where we do not.
    pub slack: Vec<f64>,
    /// Whether ours is the exact value, rounded once: it may then be off by what the reference itself may be off, in f64.
    pub is_exact: bool,
}

impl Running {
    /// Values without error.
    pub fn exactly(exact: Vec<f64>) -> Running {
        let none = vec![0.0; exact.len()];
        Running { exact, bound: none.clone(), slack: none, is_exact: true }
    }

    /// A delta is added in f32: `(r + 4) · 2^-24 · (|W| + |s| · Σ|b||a|)`, where r counts the roundings of a term.
    pub fn add(&mut self, delta: &Grid) {
        assert_eq!(self.exact.len(), delta.value.len(), "a delta of another size");
        for i in 0..self.exact.len() {
            self.bound[i] += (delta.units + 4) as f64 * UNIT * (self.exact[i].abs() + delta.size[i]);
            self.exact[i] += delta.value[i];
        }
    }

    /// An element is multiplied by a number of the given relative error; `units` further roundings.
    pub fn multiply(&mut self, i: usize, by: f64, error: f64, units: usize) {
        self.exact[i] *= by;
        self.slack[i] *= by.abs();
        self.bound[i] =
            self.bound[i] * by.abs() * (1.0 + error) + self.exact[i].abs() * (error + units as f64 * UNIT);
    }

    /// Each row of `columns` elements is multiplied from the right by a square block, again and again along the row:
    /// block k of `blocks`, or the only one.
    pub fn rotate(&mut self, columns: usize, blocks: &[Grid]) {
        let side = blocks[0].shape[0];
        assert_eq!(columns % side, 0, "blocks of {side} do not fill rows of {columns}");
        assert!(blocks.len() == 1 || blocks.len() * side == columns, "{} blocks of {side}", blocks.len());
        let before = self.clone();
        for at in 0..self.exact.len() {
            let (column, first) = (at % side, at - at % side);
            let block = &blocks[at % columns / side % blocks.len()];
            let units = (block.units + side + 2) as f64 * UNIT;
            (self.exact[at], self.bound[at], self.slack[at]) = (0.0, 0.0, 0.0);
            for k in 0..side {
                let (i, j) = (first + k, k * side + column);
                self.exact[at] += before.exact[i] * block.value[j];
                self.bound[at] +=
                    before.bound[i] * block.size[j] + units * before.exact[i].abs() * block.size[j];
                self.slack[at] += before.slack[i] * block.size[j];
            }
        }
    }

    /// How far ours may be from an element, beside the one rounding.
    pub fn off(&self, i: usize) -> f64 {
        if self.is_exact { self.bound[i] * F64_TO_F32 } else { self.bound[i] }
    }

    /// PEFT rounds so many times at the size of what was there, what is there now, and what lies between.
    pub fn peft_rounds(&mut self, times: usize, before: &[f64], dtype: Dtype) {
        for (i, was) in before.iter().enumerate() {
            let now = self.exact[i];
            let size = now.abs().max(was.abs()).max((now - was).abs());
            self.slack[i] += times as f64 * ulp(size, dtype);
        }
    }
}
