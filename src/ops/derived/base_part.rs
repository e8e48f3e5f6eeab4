//! A part of a weight as its two factors, which training took out of it or put something else in place of.
//!
//! OLoRA: the part in the space of the first columns, `Q·(QᵀW)`. Büyükakyüz 2024 (arXiv:2406.01775). PEFT: `lora/layer.py`, `olora_init`, which takes the first
//! rows of `R` of `W = Q·R`: these are `QᵀW` of the first columns of `Q`, which the first columns of `W` make. PiSSA: that of the largest singular values,
//! `(W·V)·Vᵀ`. Meng et al. 2024 (arXiv:2404.02948). PEFT: `pissa_init`, in f32, from which [`crate::linear::spectrum`] is off by less than f32 is. KaSA and OSF: that of the
//! smallest. Wang et al. 2024 (arXiv:2412.06071), PEFT: `lora/variants.py`, `_truncate_base_weight`; Nayak et al. 2025 (arXiv:2504.07097), PEFT: `osf/utils.py`. Signs do not
//! matter to any of these products.
//!
//! The source is the weight `[rows, columns]` as the base has it. What is made are both factors in one, `[columns + rows, rank]`: first the one that runs along
//! columns.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::linear::panel::{Panel, add_rows};
use crate::linear::qr::orthonormalize;
use crate::linear::spectrum::Spectrum;
use crate::linear::symmetric::dot;
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::passes::{Pass, Passes};
use crate::ops::derived::{DerivedFrom, Recipe};
use crate::tensor::dtype::Dtype;

/// Both factors of a part of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BasePart {
    /// Rows of the weight.
    pub rows: usize,
    /// Which part.
    pub of: PartOf,
}

/// What makes a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PartOf {
    /// So many of the first columns.
    Columns(usize),
    /// Some of the singular values, counted from the largest.
    SingularValues {
        /// The first of them.
        first: usize,
        /// How many.
        count: usize,
        /// Whether left vectors, values and right vectors were rounded, and to what.
        rounded: Option<Dtype>,
    },
}

impl PartOf {
    /// That of some singular values.
    pub(crate) fn values(of: Range<usize>) -> PartOf {
        PartOf::SingularValues { first: of.start, count: of.len(), rounded: None }
    }

    /// The rank of its factors.
    pub(crate) fn rank(self) -> usize {
        match self {
            PartOf::Columns(rank) => rank,
            PartOf::SingularValues { count, .. } => count,
        }
    }
}

impl Recipe for BasePart {
    fn make(&self, _: usize, _: &DerivedFrom<'_>, _: &mut [f32]) -> Result<(), BadSource> {
        Ok(())
    }

    fn passes(&self) -> Option<&dyn Passes> {
        Some(self)
    }
}

impl Passes for BasePart {
    fn bytes(&self, row: usize) -> u64 {
        let held = match self.of {
            PartOf::Columns(_) => 0,
            PartOf::SingularValues { first, count, .. } => {
                Spectrum::bytes([self.rows, row], first..first + count)
            }
        };
        let factors = Panel::bytes((self.rows + row) as u64, self.of.rank() as u64);
        // Both, and once more as they are written.
        held.saturating_add(factors.saturating_mul(2))
    }

    fn begin(&self, row: usize, _: Vec<Vec<f64>>) -> Box<dyn Pass> {
        match self.of {
            PartOf::Columns(rank) => {
                let (rows, others) = (Panel::zeros(self.rows, rank), Panel::zeros(row, rank));
                Box::new(ByColumns { rows, others, has_basis: false })
            }
            PartOf::SingularValues { first, count, rounded } => {
                let spectrum = Spectrum::new([self.rows, row], first..first + count);
                let times = Panel::zeros(self.rows, count);
                Box::new(BySpectrum { spectrum, vectors: None, times, rounded })
            }
        }
    }
}

/// The part in the space of the first columns: those, and then `Q`.
struct ByColumns {
    rows: Panel,
    /// `WᵀQ`.
    others: Panel,
    has_basis: bool,
}

impl Pass for ByColumns {
    fn add(&mut self, row: usize, values: &[f64]) {
        let rank = self.rows.cols();
        if self.has_basis {
            for (i, value) in values.iter().enumerate() {
                add_rows(self.others.row_mut(i), &[*value], self.rows.row(row));
            }
        } else {
            self.rows.row_mut(row).copy_from_slice(&values[..rank]);
        }
    }

    fn turn(&mut self) -> Result<bool, BadSource> {
        if self.has_basis {
            return Ok(false);
        }
        orthonormalize(&mut self.rows);
        self.has_basis = true;
        Ok(true)
    }

    fn made(self: Box<Self>) -> Vec<f64> {
        [self.others.into_values(), self.rows.into_values()].concat()
    }
}

/// The part of some singular values: `V`, and with that known `W·V`.
struct BySpectrum {
    spectrum: Spectrum,
    /// As rows.
    vectors: Option<Panel>,
    times: Panel,
    rounded: Option<Dtype>,
}

impl BySpectrum {
    /// Rounds the vectors of each side and the values, where they were.
    fn round(&mut self) {
        let Some(dtype) = self.rounded else { return };
        let (times, Some(vectors)) = (&mut self.times, &mut self.vectors) else { return };
        for k in 0..times.cols() {
            let square: f64 = (0..times.rows()).map(|row| times.at(row, k) * times.at(row, k)).sum();
            let value = square.sqrt();
            for row in 0..times.rows() {
                let unit = if value > 0.0 { times.at(row, k) / value } else { 0.0 };
                times.set(row, k, rounded(unit, dtype) * rounded(value, dtype));
            }
            vectors.row_mut(k).iter_mut().for_each(|of| *of = rounded(*of, dtype));
        }
    }
}

/// A value as a type has it.
fn rounded(value: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::BF16 => half::bf16::from_f64(value).to_f64(),
        Dtype::F16 => half::f16::from_f64(value).to_f64(),
        _ => f64::from(value as f32),
    }
}

impl Pass for BySpectrum {
    fn add(&mut self, row: usize, values: &[f64]) {
        match &self.vectors {
            None => self.spectrum.add(values),
            Some(vectors) => {
                let times = self.times.row_mut(row);
                times.iter_mut().enumerate().for_each(|(k, to)| *to = dot(vectors.row(k), values));
            }
        }
    }

    fn turn(&mut self) -> Result<bool, BadSource> {
        if self.vectors.is_some() {
            return Ok(false);
        }
        self.vectors = self.spectrum.turn().map_err(|why| BadSource { source: 0, why })?;
        Ok(true)
    }

    fn made(mut self: Box<Self>) -> Vec<f64> {
        self.round();
        let vectors = self.vectors.unwrap_or_else(|| Panel::zeros(0, 0));
        let by_column = by_columns(&vectors);
        [by_column, self.times.into_values()].concat()
    }
}

/// The columns of a matrix, one behind the other.
fn by_columns(matrix: &Panel) -> Vec<f64> {
    (0..matrix.cols()).flat_map(|i| (0..matrix.rows()).map(move |k| matrix.at(k, i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::sketch::random_panel;

    /// The product of both factors, `[rows, columns]`.
    fn part(matrix: &Panel, of: PartOf) -> Panel {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let mut pass = BasePart { rows, of }.begin(cols, Vec::new());
        loop {
            (0..rows).for_each(|row| pass.add(row, matrix.row(row)));
            if !pass.turn().expect("its singular values are apart") {
                break;
            }
        }
        let made = pass.made();
        let rank = made.len() / (rows + cols);
        let mut product = Panel::zeros(rows, cols);
        for i in 0..rows {
            for j in 0..cols {
                product.set(i, j, dot(&made[j * rank..][..rank], &made[(cols + i) * rank..][..rank]));
            }
        }
        product
    }

    #[test]
    fn parts_of_all_directions_are_the_weight_and_halves_add_up_to_it() {
        for (rows, cols) in [(6, 9), (9, 6), (5, 5)] {
            let matrix = random_panel(rows, cols);
            let size = rows.min(cols);
            let all = part(&matrix, PartOf::values(0..size));
            let above = part(&matrix, PartOf::values(0..2));
            let below = part(&matrix, PartOf::values(2..size));
            let first = part(&matrix, PartOf::Columns(3));
            for i in 0..rows {
                for j in 0..cols {
                    let is = matrix.at(i, j);
                    assert!((all.at(i, j) - is).abs() < 1e-12, "{rows} {cols}");
                    assert!((above.at(i, j) + below.at(i, j) - is).abs() < 1e-12, "{rows} {cols}");
                    assert!(j >= 3 || (first.at(i, j) - is).abs() < 1e-12, "columns are in their own space");
                }
            }
        }
    }
}
