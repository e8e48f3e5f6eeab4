//! What takes the place of a weight `W` whose directions are named in a basis of its inputs: `U·(S + diag(l))·Vᵀ`, of unit columns `U` that `V` makes of it, as a change of it.
//!
//! Source: FRoD (doi 10.1609/aaai.v40i31.39813). PEFT: `frod/layer.py`, `_calculate_frod_u_and_lambda` and `get_delta_weight`: the columns of `W·V⁻ᵀ` are those of `U` times their
//! norms `n`, so that `W = U·diag(n)·Vᵀ`, and the change is `U·(S + diag(l − n))·Vᵀ`. Columns of norms up to 10⁻¹² are zeros in `U`.
//!
//! The sources are `V [in, in]`, `l [in]`, the values of `S` and their rows and columns `[2, values]`, of which those of one element are added up, and `W`. What is made are both
//! factors in one, `[in + out, in]`: first `(S + diag(l − n))·Vᵀ` by columns, then `U`.

use serde::{Deserialize, Serialize};

use crate::linear::lu::Lu;
use crate::linear::panel::Panel;
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::passes::{Pass, Passes};
use crate::ops::derived::{DerivedFrom, Recipe};
use crate::ops::factor_values::FactorValues;

/// Norms up to this are taken for zero.
const NO_NORM: f64 = 1e-12;

/// A weight's change in a basis of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InBasis {
    /// Outputs of the weight.
    pub outputs: usize,
    /// Inputs of the weight.
    pub inputs: usize,
    /// Whether the weight's rows are those of inputs.
    pub is_transposed: bool,
}

impl Recipe for InBasis {
    fn whole(&self) -> usize {
        4
    }

    fn make(&self, _: usize, _: &DerivedFrom<'_>, _: &mut [f32]) -> Result<(), BadSource> {
        Ok(())
    }

    fn passes(&self) -> Option<&dyn Passes> {
        Some(self)
    }

    fn has_indices(&self, source: usize) -> bool {
        source == 3
    }

    /// What is taken away is never zero.
    fn is_zero(&self, _: &[FactorValues]) -> bool {
        false
    }
}

impl Passes for InBasis {
    fn bytes(&self, _: usize) -> u64 {
        let (out, input) = (self.outputs as u64, self.inputs as u64);
        // The triangles, `U`, and both factors, once more as they are written.
        let triangles = Panel::bytes(input, input);
        let factors = Panel::bytes(out.saturating_add(input), input);
        triangles.saturating_add(Panel::bytes(out, input)).saturating_add(factors.saturating_mul(2))
    }

    fn begin(&self, _: usize, whole: Vec<Vec<f64>>) -> Box<dyn Pass> {
        let weight = Panel::zeros(self.outputs, self.inputs);
        Box::new(ByBasis { whole, weight, is_transposed: self.is_transposed, other: Vec::new() })
    }
}

/// The weight, and at its end both factors.
struct ByBasis {
    whole: Vec<Vec<f64>>,
    weight: Panel,
    is_transposed: bool,
    other: Vec<f64>,
}

impl ByBasis {
    /// Makes of the weight `U`; returns the norms.
    fn unit_columns(&mut self) -> Result<Vec<f64>, BadSource> {
        let basis = Panel::of(self.weight.cols(), self.whole[0].clone());
        let lu = Lu::of(basis).ok_or(BadSource { source: 0, why: "it is a basis that has no inverse" })?;
        let (mut norms, mut room) = (vec![0.0f64; self.weight.cols()], Vec::new());
        for row in 0..self.weight.rows() {
            let row = self.weight.row_mut(row);
            lu.solve(row, &mut room);
            norms.iter_mut().zip(row).for_each(|(norm, value)| *norm += *value * *value);
        }
        norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        for row in 0..self.weight.rows() {
            let row = self.weight.row_mut(row).iter_mut();
            row.zip(&norms)
                .for_each(|(value, norm)| *value = if *norm > NO_NORM { *value / norm } else { 0.0 });
        }
        Ok(norms)
    }

    /// Rows and columns of the entries.
    fn places(&self) -> Result<Vec<[usize; 2]>, BadSource> {
        let (places, inputs) = (&self.whole[3], self.weight.cols());
        let is_one = |&place: &f64| place >= 0.0 && place < inputs as f64 && place.fract() == 0.0;
        if !places.iter().all(is_one) {
            return Err(BadSource { source: 3, why: "it names places that the basis does not have" });
        }
        let (rows, columns) = places.split_at(places.len() / 2);
        Ok(rows.iter().zip(columns).map(|(&row, &column)| [row as usize, column as usize]).collect())
    }
}

impl Pass for ByBasis {
    fn add(&mut self, row: usize, values: &[f64]) {
        if self.is_transposed {
            values.iter().enumerate().for_each(|(output, value)| self.weight.set(output, row, *value));
        } else {
            self.weight.row_mut(row).copy_from_slice(values);
        }
    }

    fn turn(&mut self) -> Result<bool, BadSource> {
        let places = self.places()?;
        let norms = self.unit_columns()?;
        let (basis, diagonal, entries) = (&self.whole[0], &self.whole[1], &self.whole[2]);
        for of_input in basis.chunks_exact(norms.len().max(1)) {
            let first = self.other.len();
            let by_diagonal = of_input.iter().zip(diagonal.iter().zip(&norms));
            self.other.extend(by_diagonal.map(|(basis, (now, was))| (now - was) * basis));
            for ([row, column], entry) in places.iter().zip(entries) {
                self.other[first + row] += entry * of_input[*column];
            }
        }
        Ok(false)
    }

    fn made(mut self: Box<Self>) -> Vec<f64> {
        self.other.extend(self.weight.into_values());
        self.other
    }
}
