//! What LoHa and LoKr have in common: the layers they fit, their scale, and the core of a convolution (as in PEFT's
//! `lycoris_utils.py`).
//!
//! The core is that of proposition 3 of Hyeon-Woo et al. 2021 (arXiv:2108.06098), used with `use_effective_conv2d`:
//! `F[p, q, x] = Σ_j (Σ_i t[i, j, x]·a[i, p])·b[j, q]`, where `x` is a place in the kernel. Both sums run in f32 in
//! increasing order, so that they depend on no cut.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::adapters::claim::context::Claiming;
use crate::adapters::claim::edits::{Change, Claimed};
use crate::adapters::peft::keys::Tail;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::model::outline::Target;
use crate::model::tied::{is_embedding, is_head};
use crate::ops::op::Factor;
use crate::ops::placement::Placement;
use crate::tensor::shape::Shape;

/// The adapter's tensors of each module, in the order of the tails.
pub(crate) fn take<const N: usize>(
    claiming: &mut Claiming<'_>,
    tails: &[Tail; N],
) -> BTreeMap<String, [Option<usize>; N]> {
    let mut modules = BTreeMap::new();
    for (slot, tail) in tails.iter().enumerate() {
        for (module, tensor) in claiming.take(*tail) {
            modules.entry(module).or_insert([None; N])[slot] = Some(tensor);
        }
    }
    modules
}

/// The base tensor of a module.
pub(crate) struct Layer {
    /// Which one.
    pub(crate) target: Target,
    name: String,
    shape: Shape,
    /// What PEFT calls the method.
    what: &'static str,
}

impl Layer {
    /// Finds it; `None` if what is wrong is noted already.
    ///
    /// # Errors
    /// [`ErrorKind::Unclaimed`] for layers that PEFT's `what` does not fit.
    pub(crate) fn find(
        claiming: &mut Claiming<'_>,
        module: &str,
        tensors: &[usize],
        what: &'static str,
    ) -> Result<Option<Layer>> {
        let Some(target) = claiming.target(tensors, module, "weight") else { return Ok(None) };
        let weight = claiming.weight(target);
        let (name, shape) = (weight.name, weight.shape);
        let layer = match *shape.axes() {
            [_, _] if is_embedding(&name) => "an embedding",
            [rows, cols] if rows == cols && claiming.names.conv1d() && !is_head(&name) => {
                "stored as [in, out]"
            }
            [_, _] | [_, _, _] | [_, _, _, _] => return Ok(Some(Layer { target, name, shape, what })),
            _ => "neither a linear layer nor a convolution of one or two dimensions",
        };
        Err(unfit(claiming, tensors[0], &name, layer, what))
    }

    /// Sizes of the kernel; none for a linear layer.
    pub(crate) fn kernel(&self) -> &[u64] {
        self.shape.axes().get(2..).unwrap_or_default()
    }

    /// Records a change of all of it, if its shape is that of the delta: `out` outputs, and `input` inputs with their kernel.
    pub(crate) fn claim(
        self,
        claiming: &mut Claiming<'_>,
        module: &str,
        used: &[usize],
        (out, input): (u64, u64),
        change: Change,
    ) -> Result<()> {
        let keys: Vec<String> = used.iter().map(|&i| claiming.tensor(i).key.clone()).collect();
        let axes = self.shape.axes();
        if (axes[0], axes[1..].iter().product()) != (out, input) {
            if axes == [input, out] {
                return Err(unfit(claiming, used[0], &self.name, "stored as [in, out]", self.what));
            }
            let shown = |&i: &usize| {
                let tensor = claiming.tensor(i);
                format!("`{}` {}", tensor.key, tensor.tensor.shape)
            };
            let factors = used.iter().map(shown).collect::<Vec<_>>().join(", ");
            let (adapter, tensor, base) = (claiming.adapter.name.clone(), self.name, self.shape);
            let delta = Shape::new(&[out, input]).expect("both are sizes of factors in a file");
            return Err(Error::new(ErrorKind::DeltaShape { adapter, tensor, delta, base, factors })
                .hint("the adapter was trained on a model with other sizes: is it for this base?"));
        }
        let method = change.method;
        claiming.claim(Claimed::change(method, module, keys, self.target, vec![change]));
        Ok(())
    }
}

fn unfit(claiming: &Claiming<'_>, tensor: usize, name: &str, layer: &str, what: &str) -> Error {
    let (adapter, key) = (claiming.adapter.name.clone(), claiming.tensor(tensor).key.clone());
    let why = format!("`{name}` is {layer}, which PEFT's {what} does not fit");
    ErrorKind::Unclaimed { adapter, key, why }.into()
}

/// A change that covers all of a layer, with the config's scale; where factors tell a rank, the config must have the same.
pub(crate) fn change(
    method: &'static str,
    claiming: &Claiming<'_>,
    module: &str,
    (out, input): (u64, u64),
    rank: Option<u64>,
    factors: Vec<Factor>,
) -> Result<Change> {
    let scale = claiming.adapter.scale(module, rank)? as f32;
    Ok(Change::new(method, Placement::matrix(out, input, false), factors, scale))
}

/// The axes of a factor that must be a matrix.
pub(crate) fn matrix(claiming: &Claiming<'_>, i: usize, expected: &str) -> Result<(u64, u64)> {
    match *claiming.tensor(i).tensor.shape.axes() {
        [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
        _ => Err(claiming.factor_shape(i, format!("{expected}, both above zero"))),
    }
}

/// Refuses a factor that has other axes than those, which follow from another factor.
pub(crate) fn expect(claiming: &Claiming<'_>, i: usize, axes: &[u64], other: usize) -> Result<()> {
    if claiming.tensor(i).tensor.shape.axes() == axes {
        return Ok(());
    }
    let (expected, other) = (Shape::new(axes), claiming.tensor(other));
    let expected = expected.map_or_else(|| "fewer elements".to_owned(), |shape| shape.to_string());
    Err(claiming.factor_shape(i, format!("{expected}, as `{}` is {}", other.key, other.tensor.shape)))
}

/// Refuses a core that is not `[rank, rank]` and the kernel, which a convolution of one dimension has a one behind.
pub(crate) fn expect_core(claiming: &Claiming<'_>, i: usize, rank: u64, layer: &Layer) -> Result<()> {
    let mut axes = [&[rank, rank], layer.kernel()].concat();
    axes.resize(4, 1);
    let is_convolution = !layer.kernel().is_empty();
    if is_convolution && claiming.tensor(i).tensor.shape.axes() == axes {
        return Ok(());
    }
    let expected = match is_convolution {
        true => format!("{axes:?}, by the rank of the others and the kernel of `{}`", layer.name),
        false => format!("none at all, as `{}` has no kernel", layer.name),
    };
    Err(claiming.factor_shape(i, expected))
}

/// A core and the factor of the inputs.
#[derive(Clone, Copy)]
pub(crate) struct Core<'c> {
    /// `t [rank, rank, kernel]`.
    pub(crate) t: &'c [f32],
    /// `b [rank, inputs]`.
    pub(crate) b: &'c [f32],
    /// Its rank.
    pub(crate) rank: usize,
    /// Places of the kernel.
    pub(crate) kernel: usize,
}

impl Core<'_> {
    /// What a row is made of: `Σ_i t[i, j, x]·a[i]` for all `j` and `x`.
    pub(crate) fn partial(&self, a: impl Fn(usize) -> f32, partial: &mut Vec<f32>) {
        let size = self.rank * self.kernel;
        partial.clear();
        partial.resize(size, 0.0);
        for (i, t) in self.t.chunks_exact(size).enumerate() {
            let a = a(i);
            partial.iter_mut().zip(t).for_each(|(sum, t)| *sum += t * a);
        }
    }

    /// The row's values at `columns`, where column `q·kernel + x` is place `x` of input `q`.
    pub(crate) fn row<'v>(
        &'v self,
        partial: &'v [f32],
        columns: Range<u64>,
    ) -> impl Iterator<Item = f32> + 'v {
        let inputs = self.b.len() / self.rank;
        columns.map(move |column| {
            let (q, x) = (column as usize / self.kernel, column as usize % self.kernel);
            let term = |j: usize| partial[j * self.kernel + x] * self.b[j * inputs + q];
            (0..self.rank).fold(0.0, |sum, j| sum + term(j))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_summed_by_its_definition() {
        let (rank, outputs, inputs, kernel) = (2, 3, 4, 3);
        let value = |i: usize| ((i * 7 + 3) % 11) as f32 - 5.0; // sums of these are exact
        let t: Vec<f32> = (0..rank * rank * kernel).map(value).collect();
        let a: Vec<f32> = (0..rank * outputs).map(|i| value(i + 5)).collect();
        let b: Vec<f32> = (0..rank * inputs).map(|i| value(i + 2)).collect();
        let core = Core { t: &t, b: &b, rank, kernel };
        let mut partial = Vec::new();
        for p in 0..outputs {
            core.partial(|i| a[i * outputs + p], &mut partial);
            for from in 0..inputs * kernel {
                let row: Vec<f32> = core.row(&partial, from as u64..(inputs * kernel) as u64).collect();
                for (column, found) in (from..).zip(row) {
                    let (q, x) = (column / kernel, column % kernel);
                    let terms = (0..rank).flat_map(|i| (0..rank).map(move |j| (i, j)));
                    let term = |(i, j): (usize, usize)| {
                        t[(i * rank + j) * kernel + x] * a[i * outputs + p] * b[j * inputs + q]
                    };
                    assert_eq!(found, terms.map(term).sum::<f32>(), "[{p}, {q}, {x}]");
                }
            }
        }
    }
}
