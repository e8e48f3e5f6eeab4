//! PEANuT's input factor: a small network of a weight's columns.
//!
//! Source: Zhong et al. 2025 (arXiv:2410.01870). PEFT: `peanut/layer.py`, `_compute_delta_weight` (peft-methods.md 4.15): `h = f(A·w)` of each column `w`, then
//! `h = f(E·h)` for every encoder, then `h = f(D·h)` for every decoder, to which what went into the encoder opposite is added. The sources are
//! `A [rank, out]`, encoders and decoders `[rank, rank]`, whole, and the weight as the base has it. A row is `inputs` positions of `rank`
//! values each.

use serde::{Deserialize, Serialize};

use crate::kernels::portable::{erf, sigmoid, tanh};
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, Recipe, RowSum};
use crate::ops::factor_values::FactorValues;

/// A small network of a weight's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// Values between its layers.
    pub rank: usize,
    /// Encoders, and decoders, that there are.
    pub depth: usize,
    /// What is between its layers.
    pub activation: Activation,
}

/// What makes a network more than a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + e⁻ˣ)`.
    Silu,
    /// `x · Φ(x)`.
    Gelu,
    /// The same by a hyperbolic tangent.
    GeluTanh,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// Nothing.
    Linear,
}

impl Activation {
    /// What transformers calls them.
    pub(crate) const NAMES: [(&'static str, Activation); 9] = [
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("gelu_new", Activation::GeluTanh),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("tanh", Activation::Tanh),
        ("sigmoid", Activation::Sigmoid),
        ("linear", Activation::Linear),
    ];

    fn of(self, x: f64) -> f64 {
        match self {
            Activation::Relu => x.max(0.0),
            Activation::Silu => x * sigmoid(x),
            Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Activation::GeluTanh => {
                let root = (2.0 * std::f64::consts::FRAC_1_PI).sqrt();
                0.5 * x * (1.0 + tanh(root * (x + 0.044715 * x * x * x)))
            }
            Activation::Tanh => tanh(x),
            Activation::Sigmoid => sigmoid(x),
            Activation::Linear => x,
        }
    }
}

impl Network {
    /// What a layer makes of values.
    fn layer(&self, matrix: &[f64], values: &[f64]) -> Vec<f64> {
        let rows = matrix.chunks_exact(self.rank);
        let dot = |row: &[f64]| row.iter().zip(values).map(|(weight, value)| weight * value).sum::<f64>();
        rows.map(|row| self.activation.of(dot(row))).collect()
    }
}

impl Recipe for Network {
    fn whole(&self) -> usize {
        1 + 2 * self.depth
    }

    fn make(&self, _: usize, sources: &DerivedFrom<'_>, values: &mut [f32]) -> Result<(), BadSource> {
        let (encoders, decoders) = sources.whole[1..].split_at(self.depth);
        let columns = sources.rows[0].chunks_exact(self.rank);
        for (to, column) in values.chunks_exact_mut(self.rank).zip(columns) {
            let mut h: Vec<f64> = column.iter().map(|&sum| self.activation.of(sum)).collect();
            let mut before = Vec::new();
            for encoder in encoders {
                let next = self.layer(encoder, &h);
                before.push(std::mem::replace(&mut h, next));
            }
            for decoder in decoders {
                h = self.layer(decoder, &h);
                let opposite = before.pop().unwrap_or_default();
                h.iter_mut().zip(opposite).for_each(|(value, opposite)| *value += opposite);
            }
            to.iter_mut().zip(h).for_each(|(to, value)| *to = value as f32);
        }
        Ok(())
    }

    fn sum(&self) -> Option<&dyn RowSum> {
        Some(self)
    }

    /// What is between the layers makes something of nothing.
    fn is_zero(&self, _: &[FactorValues]) -> bool {
        false
    }
}

impl RowSum for Network {
    fn len(&self, row: usize) -> usize {
        self.rank * row
    }

    fn add(&self, row: usize, values: &[f64], whole: &[Vec<f64>], sum: &mut [f64]) {
        let a = &whole[0];
        let outputs = a.len() / self.rank;
        for (sum, value) in sum.chunks_exact_mut(self.rank).zip(values) {
            for (k, sum) in sum.iter_mut().enumerate() {
                *sum += a[k * outputs + row] * value;
            }
        }
    }
}
